#![no_main]

#[path = "../../tests/fuzz/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|input: &[u8]| filter::run(input));
