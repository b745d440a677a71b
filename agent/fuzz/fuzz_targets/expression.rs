#![no_main]

#[path = "../../tests/fuzz/expression.rs"]
mod expression;

libfuzzer_sys::fuzz_target!(|input: &[u8]| expression::run(input));
