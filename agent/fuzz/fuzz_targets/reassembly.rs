#![no_main]

#[path = "../../tests/fuzz/reassembly.rs"]
mod reassembly;

libfuzzer_sys::fuzz_target!(|input: &[u8]| reassembly::run(input));
