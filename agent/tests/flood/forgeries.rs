//! Floods of segments that pretend to be of the honest conversation. Nobody knows its sequence numbers.

use agent::{
    reassembly::Config,
    segment::{Flags, Segment, SeqNum},
};

use crate::{
    allocator::measure,
    bed::{Bed, honest},
    memory,
};

const FORGERIES: u32 = 1_000_000;

/// Small tables, so that memory is what the forgeries cost.
fn config() -> Config {
    Config { max_connections: 16, max_linger: 16, max_total_queue: 64 << 10, ..Config::default() }
}

/// Sends `forged` of both sides with sequence numbers from everywhere that is far from the honest ones, and checks that it
/// takes no memory. How many were sent.
fn flood(forged: impl Fn(usize, SeqNum) -> Segment<'static>) -> (agent::reassembly::Stats, u64) {
    let ((stats, sent), usage) = measure(|| {
        let mut bed = Bed::new(config());
        let mut sent = 0;
        for number in 0..FORGERIES {
            let (from, seq) = ((number % 2) as usize, SeqNum(number.wrapping_mul(0x9e37_79b1)));
            if bed.is_far(from, seq) {
                bed.send(&forged(from, seq));
                sent += 1;
            }
            if number % 1_000 == 0 {
                bed.talk();
            }
        }
        (bed.finish(), sent)
    });
    assert!(sent > u64::from(FORGERIES) / 10 * 9);
    memory::check(usage, &config(), 2, 0);
    (stats, sent)
}

#[test]
fn resets() {
    let (stats, sent) = flood(|from, seq| Segment { seq, ..honest(from, Flags::RST) });
    assert_eq!((stats.rst_implausible, stats.opened), (sent, 1));
}

#[test]
fn octets() {
    let (stats, sent) = flood(|from, seq| Segment { seq, payload: &[b'x'; 1_000], ..honest(from, Flags::PSH) });
    assert_eq!((stats.implausible + stats.below_start + stats.duplicate, stats.opened), (1_000 * sent, 1));
    assert!(stats.implausible > 500 * sent, "what lies behind is old, what lies ahead is not believed: {stats:?}");
}

#[test]
fn fins() {
    let (stats, _) = flood(|from, seq| Segment { seq, ..honest(from, Flags::FIN) });
    assert_eq!((stats.gaps, stats.gaps_trailing, stats.opened), (0, 0, 1));
}

#[test]
fn syns() {
    let (stats, sent) = flood(|from, seq| Segment { seq, payload: &[b'x'; 1_000], ..honest(from, Flags::SYN) });
    assert_eq!((stats.syn_unconfirmed, stats.after_close, stats.opened), (sent, 1_000 * sent, 1));
}

#[test]
fn acknowledgments() {
    let (stats, _) = flood(|from, ack| Segment { ack, ..honest(from, Flags::ACK) });
    assert_eq!((stats.gaps, stats.gaps_trailing, stats.opened), (0, 0, 1));
}
