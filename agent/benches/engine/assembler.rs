//! Segments that wait behind a hole until it is filled.

use agent::{
    reassembly::{Config, Reassembler},
    segment::SeqNum,
};
use divan::{Bencher, counter::ItemsCount};

use crate::segment::{Counting, PAYLOAD, open, segment};

/// So many segments come before the one that should have been first.
#[divan::bench(args = [1, 8, 32], sample_size = 1_000)]
fn behind_a_hole(bencher: Bencher<'_, '_>, waiting: u64) {
    let mut reassembler = Reassembler::new(Config::default());
    let mut sink = Counting::default();
    let mut seq = SeqNum(1_000);
    open(&mut reassembler, 1, seq);
    let mut delivered = 0;
    bencher.counter(ItemsCount::new(waiting + 1)).bench_local(|| {
        let place = |number: u64| seq.advance(number * PAYLOAD.len() as u64);
        for number in 1..=waiting {
            reassembler.handle_segment(&segment(0, place(number)), &mut sink);
        }
        reassembler.handle_segment(&segment(0, seq), &mut sink);
        seq = place(waiting + 1);
        delivered += (waiting + 1) * PAYLOAD.len() as u64;
        assert_eq!(sink.octets, delivered);
    });
}
