//! The fuzz targets, run on the inputs that fuzzing has kept: what was found once stays found, and it takes neither nightly
//! nor libFuzzer to know. `cargo xtask fuzz` looks for new ones. The crate in `agent/fuzz` shares these files.

mod decode;
mod filter;
mod fragments;
mod pcap;
mod reassembly;

use std::{fs, panic, path::Path};

#[test]
fn decode() {
    replay("decode", decode::run);
}

#[test]
fn filter() {
    replay("filter", filter::run);
}

#[test]
fn fragments() {
    replay("fragments", fragments::run);
}

#[test]
fn pcap() {
    replay("pcap", pcap::run);
}

#[test]
fn reassembly() {
    replay("reassembly", reassembly::run);
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        if panic::catch_unwind(|| run(&input)).is_err() {
            panic!("the target {target} fails on {}", path.display());
        }
        inputs += 1;
    }
    assert!(inputs > 0, "{} holds no input", folder.display());
}
