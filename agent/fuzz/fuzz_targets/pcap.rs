#![no_main]

#[path = "../../tests/fuzz/pcap.rs"]
mod pcap;

libfuzzer_sys::fuzz_target!(|input: &[u8]| pcap::run(input));
