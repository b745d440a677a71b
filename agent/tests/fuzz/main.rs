//! The fuzz targets, run on the inputs that fuzzing has kept and on those with some octets overwritten: what was found
//! once stays found, and it takes neither nightly nor libFuzzer to know. `cargo xtask fuzz` looks for new ones. The
//! crate in `agent/fuzz` shares these files.

mod decode;
mod expression;
mod filter;
mod fragments;
mod pcap;
mod reassembly;

use std::{
    fs, panic,
    path::{Path, PathBuf},
};

#[test]
fn decode() {
    replay("decode", decode::run);
}

#[test]
fn expression() {
    replay("expression", expression::run);
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

/// Runs a target on its corpus, and on what becomes of the corpus when some octets are overwritten.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).expect("a corpus");
    let mut corpus: Vec<PathBuf> = files.map(|file| file.expect("an entry").path()).collect();
    corpus.sort_unstable();
    assert!(!corpus.is_empty(), "{} holds no input", folder.display());
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|path| fs::read(path).expect("an input")).collect();

    let mut random = Random(1);
    let damaged = (0..DAMAGED).map(|_| {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(8) {
            let at = random.below(input.len());
            input[at] = random.below(256) as u8;
        }
        input
    });
    for input in corpus.iter().cloned().chain(damaged) {
        if panic::catch_unwind(|| run(&input)).is_err() {
            panic!("the target {target} fails on {input:02x?}");
        }
    }
}

const DAMAGED: usize = 5_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Less than `limit`, or 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % limit.max(1)
    }
}
