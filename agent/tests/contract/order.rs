//! Rows 1 to 5: order, wraps and overlaps.

use agent::reassembly::{Config, ConnectionId, Direction::ClientToServer, Event, Reassembler, Sink};
use agent::segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp};

use crate::trace::{C, S, Trace};

#[test]
fn row_01_in_order_is_delivered_at_once_and_lent() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "hello ")).expect(&["handshake open c2s=hello  s2c="]);
    trace.send(C.data(1007, "world")).expect(&["handshake open c2s=hello world s2c="]);
    trace.send(S.data(5001, "yes").ack(1012)).expect(&["handshake open c2s=hello world s2c=yes"]);
    assert_eq!(trace.lent_octets(), 14, "no octet was copied on the way");
}

#[test]
fn row_02_a_wrap_is_impossible_to_notice() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(0xffff_fffb)).send(S.syn(0xffff_ffff).ack(0xffff_fffc)).send(C.ack(0xffff_fffc, 0));
    // Octets 0xfffffffc to 1, then 2 to 5.
    trace.send(C.data(0xffff_fffc, "abcdef")).send(C.data(2, "ghij"));
    trace.send(S.data(0, "ok").ack(6)).expect(&["handshake open c2s=abcdefghij s2c=ok"]);
}

#[test]
fn row_02_retransmission_across_the_wrap() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(0xffff_fffb)).send(S.syn(5000).ack(0xffff_fffc));
    trace.send(C.data(0xffff_fffc, "abcdef"));
    // Before the wrap, after it, and reaching past what is known.
    trace.send(C.data(0xffff_fffe, "cdef")).send(C.data(0, "ef")).send(C.data(0xffff_ffff, "defgh"));
    trace.expect(&["handshake open c2s=abcdefgh s2c="]);
}

#[test]
fn row_02_out_of_order_across_the_wrap() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(0xffff_fffb)).send(S.syn(5000).ack(0xffff_fffc));
    trace.send(C.data(4, "ij")).send(C.data(0, "efgh")).expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(0xffff_fffc, "abcd")).expect(&["handshake open c2s=abcdefghij s2c="]);
}

/// Offsets of one direction, without keeping octets.
#[derive(Default)]
struct Edge(u64);

impl Sink for Edge {
    fn event(&mut self, _: ConnectionId, event: Event<'_>) {
        match event {
            Event::Data { offset, bytes, .. } => {
                assert_eq!(offset, self.0);
                self.0 += bytes.len() as u64;
            }
            Event::Gap { gap, .. } => panic!("{gap:?}"),
            _ => {}
        }
    }
}

#[test]
fn row_02_a_stream_longer_than_4_gib() {
    let (mut reassembler, mut edge) = (Reassembler::new(Config::default()), Edge::default());
    let payload = vec![7; 512 * 1024];
    let mut segment = Segment {
        timestamp: Timestamp(1),
        src: Endpoint::v4([10, 9, 0, 1], 40_000),
        dst: Endpoint::v4([10, 9, 0, 2], 80),
        seq: SeqNum(999),
        ack: SeqNum(0),
        flags: Flags::SYN,
        window: 65_535,
        window_scale: Some(14),
        mss: None,
        ip_id: None,
        payload: &[],
        missing: 0,
        origin: Origin::default(),
        flow: None,
    };
    reassembler.handle_segment(&segment, &mut edge);
    let total = 5 << 30;
    for position in (0..total).step_by(payload.len()) {
        segment = Segment { seq: SeqNum(1000).advance(position), flags: Flags::ACK, payload: &payload, ..segment };
        reassembler.handle_segment(&segment, &mut edge);
    }
    assert_eq!(edge.0, total);
}

#[test]
fn row_03_out_of_order_waits_for_the_hole() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1007, "ghi")).send(C.data(1004, "def")).expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(1001, "abc")).expect(&["handshake open c2s=abcdefghi s2c="]);
    trace.send(C.fin(1010).ack(5001)).send(S.fin(5001).ack(1011)).send(C.ack(1011, 5002)).wait_until(120_000);
    trace.expect(&["handshake fin c2s=abcdefghi s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).out_of_order, 2);
}

#[test]
fn row_04_first_copy_of_delivered_octets_stays_and_the_rest_is_taken() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abcdef")).send(C.data(1004, "XYZghi")).expect(&["handshake open c2s=abcdefghi s2c="]);
    trace.send(C.data(1001, "abcdefghi")).send(C.data(1002, "bc")).finish();
    trace.expect(&["handshake finish c2s=abcdefghi s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).retransmitted, 2, "the partial one brought something new");
}

#[test]
fn row_05_first_copy_of_queued_octets_wins() {
    let mut trace = Trace::established(Config::default());
    // 3..6 is queued; the second one brings 4..8, of which 4 and 5 differ.
    trace.send(C.data(1004, "def")).send(C.data(1005, "XXgh"));
    trace.send(C.data(1001, "abc")).expect(&["handshake open c2s=abcdefgh s2c="]);
    trace.finish();
    assert_eq!(trace.summary(0, ClientToServer).conflict, 2);
}

#[test]
fn row_05_an_in_order_segment_over_a_queued_one() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1004, "def")).send(C.data(1001, "ABCDEFGHI"));
    trace.expect(&["handshake open c2s=ABCdefGHI s2c="]).finish();
    assert_eq!(trace.summary(0, ClientToServer).conflict, 3);
}

#[test]
fn row_05_a_segment_that_spans_several_queued_ones() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1003, "c")).send(C.data(1007, "gh")).send(C.data(1002, "bcdefghij"));
    trace.send(C.data(1001, "a")).expect(&["handshake open c2s=abcdefghij s2c="]).finish();
    assert_eq!(trace.summary(0, ClientToServer).conflict, 0);
}

#[test]
fn row_05_an_empty_segment_behind_a_hole_changes_nothing() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.ack(1010, 5001)).send(C.data(1001, "abc"));
    trace.send(S.ack(5001, 1004)).expect(&["handshake open c2s=abc s2c="]);
}
