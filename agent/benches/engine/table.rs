//! A segment finds its connection and is delivered at once: with few connections what that takes, with many what it takes
//! to get at them.

use agent::{
    reassembly::{Config, Reassembler},
    segment::SeqNum,
};
use divan::Bencher;

use crate::segment::{Counting, PAYLOAD, open, segment};

#[divan::bench(args = [1, 1_000, 10_000, 100_000, 1_000_000], sample_size = 1_000)]
fn in_any_order(bencher: Bencher<'_, '_>, connections: u32) {
    // A prime: neighbours in time are not neighbours in memory.
    deliver(bencher, connections, 611_953);
}

/// What the processor fetches ahead is what comes next.
#[divan::bench(args = [10_000], sample_size = 10_000)]
fn in_turn(bencher: Bencher<'_, '_>, connections: u32) {
    deliver(bencher, connections, 1);
}

fn deliver(bencher: Bencher<'_, '_>, connections: u32, stride: u32) {
    let mut reassembler = Reassembler::new(Config::default());
    let mut sink = Counting::default();
    let mut seqs = vec![SeqNum(1_000); connections as usize];
    open(&mut reassembler, connections, seqs[0]);
    let (mut number, mut delivered) = (0, 0);
    bencher.bench_local(|| {
        let seq = &mut seqs[number as usize];
        reassembler.handle_segment(&segment(number, *seq), &mut sink);
        *seq = seq.advance(PAYLOAD.len() as u64);
        number = (number + stride) % connections;
        delivered += PAYLOAD.len() as u64;
        assert_eq!(sink.octets, delivered);
    });
}
