#![no_main]

#[path = "../../tests/fuzz/fragments.rs"]
mod fragments;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fragments::run(input));
