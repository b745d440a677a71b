//! A segment finds its connection and is delivered at once: with few connections what that takes, with many what it takes
//! to get at them.

use agent::{
    reassembly::{Config, Reassembler},
    segment::SeqNum,
};
use divan::Bencher;

use crate::segment::{Counting, PAYLOAD, open, segment};

#[divan::bench(args = [1, 1_000, 10_000, 100_000, 1_000_000])]
fn in_order(bencher: Bencher<'_, '_>, connections: u32) {
    let mut reassembler = Reassembler::new(Config::default());
    let mut sink = Counting::default();
    let mut seqs = vec![SeqNum(1_000); connections as usize];
    open(&mut reassembler, connections, seqs[0]);
    let (mut number, mut delivered) = (0, 0);
    bencher.bench_local(|| {
        let seq = &mut seqs[number as usize];
        reassembler.handle_segment(&segment(number, *seq), &mut sink);
        *seq = seq.advance(PAYLOAD.len() as u64);
        // A prime: neighbours in time are not neighbours in memory.
        number = (number + 611_953) % connections;
        delivered += PAYLOAD.len() as u64;
        assert_eq!(sink.octets, delivered);
    });
}
