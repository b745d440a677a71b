//! Row 21: segments far from everything known.

use agent::reassembly::{Config, Direction::ClientToServer, Gap, GapCause};

use crate::trace::{C, S, Trace};

fn talking() -> Trace {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004));
    trace
}

/// More than 16 MiB beyond 1004.
const FAR: u32 = 1004 + (20 << 20);

#[test]
fn row_21_a_far_segment_alone_is_not_believed() {
    let mut trace = talking();
    trace.send(C.data(FAR, "zzz").ack(5001)).send(C.data(1004, "def").ack(5001)).send(S.ack(5001, 1007));
    trace.wait_until(60_000).finish().expect(&["handshake finish c2s=abcdef s2c="]);
}

#[test]
fn row_21_one_from_long_ago_is_not_believed() {
    let mut trace = talking();
    trace.send(C.data(1004_u32.wrapping_sub(1 << 31), "zzz").ack(5001)).send(C.data(1004, "def").ack(5001));
    trace.finish().expect(&["handshake finish c2s=abcdef s2c="]);
}

#[test]
fn row_21_within_16_mib_is_believed_where_the_scale_is_unknown() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "abc").ack(5001));
    trace.send(C.data(1004 + (1 << 20), "zzz").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=abc[1048576 close]zzz s2c="]);
}

#[test]
fn row_21_beyond_16_mib_is_not_believed_where_the_scale_is_unknown() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "abc").ack(5001)).send(C.data(FAR, "zzz").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=abc s2c="]);
}

#[test]
fn row_21_believed_when_the_peer_acknowledges_within_it() {
    let mut trace = talking();
    trace.send(C.data(FAR, "zzz").ack(5001)).send(S.ack(5001, FAR + 3).at(10)).wait_until(10_000);
    trace.expect(&[&format!("handshake open c2s=abc[{} not-captured]zzz s2c=", 20 << 20)]);
}

#[test]
fn row_21_believed_when_the_peer_acknowledges_all_before_it_or_more() {
    for ack in [201_001, 201_003, 201_004, 211_001] {
        let mut trace = Trace::established(Config::default());
        trace.send(C.data(1001, "abc")).send(C.data(201_001, "x")).send(S.ack(5001, ack)).finish();
        assert_eq!(trace.summary(0, ClientToServer).gaps, [Gap::new(3, 199_997, GapCause::NotCaptured)]);
        assert_eq!(trace.summary(0, ClientToServer).delivered, 4, "after {ack}");
    }
}

#[test]
fn row_21_believed_when_the_peer_had_acknowledged_it_before() {
    for ack in [201_001, 201_004] {
        let mut trace = Trace::established(Config::default());
        trace.send(C.data(1001, "abc")).send(S.ack(5001, ack)).send(C.data(201_001, "far")).finish();
        assert_eq!(trace.summary(0, ClientToServer).delivered, 6, "after {ack}");
    }
}

#[test]
fn row_21_an_ack_far_from_it_says_nothing() {
    for ack in [1004, 201_000, 201_004 + 65_535] {
        let mut trace = Trace::established(Config::default());
        trace.send(C.data(1001, "abc")).send(C.data(201_001, "far")).send(S.ack(5001, ack)).finish();
        let mut before = Trace::established(Config::default());
        before.send(C.data(1001, "abc")).send(S.ack(5001, ack)).send(C.data(201_001, "far")).finish();
        for trace in [trace, before] {
            assert_eq!((trace.summary(0, ClientToServer).delivered, trace.reassembler().stats().implausible), (3, 3));
        }
    }
}

#[test]
fn row_21_an_old_segment_is_not_believed_because_the_stream_has_long_been_beyond_it() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send(C.data(1001_u32.wrapping_sub((1 << 30) + 100), "old")).send(S.ack(5001, 1004));
    trace.send(C.data(1004, "def")).send(S.ack(5001, 1007)).finish();
    trace.expect(&["handshake finish c2s=abcdef s2c="]);
    assert_eq!(trace.reassembler().stats().implausible, 3);
}

#[test]
fn row_21_what_is_parked_before_the_one_believed_is_no_gap() {
    let mut trace = talking();
    trace.send(C.data(FAR + 5, "zzz").ack(5001)).send(C.data(FAR, "abc").ack(5001)).send(S.ack(5001, FAR + 8).at(10));
    trace.wait_until(10_000);
    trace.expect(&[&format!("handshake open c2s=abc[{} not-captured]abc[2 not-captured]zzz s2c=", 20 << 20)]);
}

#[test]
fn row_21_believed_when_a_later_segment_continues_it() {
    let mut trace = talking();
    trace.send(C.data(FAR, "xyz").ack(5001)).send(C.data(FAR + 3, "!!!").ack(5001).at(10)).wait_until(40_000).finish();
    trace.expect(&[&format!("handshake finish c2s=abc[{} not-captured]xyz!!! s2c=", 20 << 20)]);
}

#[test]
fn row_21_believed_while_the_stream_is_picked_up() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(FAR, "xyz").ack(5001)).send(C.data(FAR + 3, "!!!").ack(5001));
    trace.finish().expect(&[&format!("midstream finish c2s=abc[{} not-captured]xyz!!! s2c=", 20 << 20)]);
}

#[test]
fn row_21_an_unbelievable_ack_makes_no_gap() {
    let mut trace = talking();
    trace.send(S.ack(5001, 1004 + (1 << 30)).at(10)).send(C.data(1004, "def").ack(5001).at(20)).wait_until(60_000);
    trace.finish().expect(&["handshake finish c2s=abcdef s2c="]);
}

#[test]
fn row_21_a_known_window_is_narrower() {
    // 1,000 << 2 octets from the server: 5,000 beyond is not believed although 16 MiB would cover it.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).scale(2)).send(S.syn(5000).ack(1001).scale(2).window(4_000));
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004).window(1_000));
    trace.send(C.data(6_004, "zzz").ack(5001)).send(C.data(1004, "def").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=abcdef s2c="]);
}

#[test]
fn row_21_the_window_of_a_syn_says_little_where_a_scale_follows() {
    // The server's first ACK, which offers more, is recorded behind the data that it made room for.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).scale(7)).send(S.syn(5000).ack(1001).scale(7).window(4_000));
    trace.send(C.data(6_001, "zzz").ack(5001)).send(C.data(1001, [b'x'; 5_000]).ack(5001)).finish();
    trace.expect(&[&format!("handshake finish c2s={}zzz s2c=", "x".repeat(5_000))]);
}

#[test]
fn row_21_believed_when_the_stream_comes_near() {
    // A window of 100: 1151 is beyond it until 1001 has come.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(100)).send(C.data(1151, [b'y'; 100]).ack(5001));
    for seq in [1001, 1051, 1101] {
        trace.send(C.data(seq, [b'x'; 50]).ack(5001)).send(S.ack(5001, seq + 50).window(100));
    }
    trace.expect(&[&format!("handshake open c2s={}{} s2c=", "x".repeat(150), "y".repeat(100))]);
}

#[test]
fn row_21_what_is_parked_may_be_overtaken() {
    // A window of 100: the segment at 1151 is parked, then the stream goes past it, then a late ACK names it.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(100)).send(C.data(1151, [b'x'; 100]).ack(5001));
    trace.send(C.data(1001, [b'x'; 300]).ack(5001)).send(S.ack(5001, 1301).window(100));
    trace.send(S.ack(5001, 1160).window(100)).wait_until(5_000).finish();
    trace.expect(&[&format!("handshake finish c2s={} s2c=", "x".repeat(300))]);
}

#[test]
fn row_21_behind_the_fin_nothing_is_believed() {
    let mut trace = talking();
    trace.send(C.fin(1004).ack(5001)).send(C.data(FAR, "zzz").ack(5001)).send(S.ack(5001, FAR + 3)).finish();
    trace.expect(&["handshake finish c2s=abc s2c="]);
    assert_eq!(trace.reassembler().stats().implausible, 3);
}

#[test]
fn row_21_an_ack_of_a_whole_window_is_believed() {
    // Of 100 octets none was captured; the last one may be the FIN.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(100)).send(S.ack(5001, 1101).window(100)).finish();
    trace.expect(&["handshake finish c2s={99 not-captured} s2c="]);
}

#[test]
fn row_21_believed_when_an_ack_comes_near() {
    // A window of 100: 1151 is beyond it until 1101 has been acknowledged.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(100)).send(C.data(1151, "zzz").ack(5001));
    trace.send(S.ack(5001, 1101).window(100)).finish();
    trace.expect(&["handshake finish c2s=[100 not-captured][50 close]zzz s2c="]);
}

#[test]
fn row_21_the_window_of_a_syn_counts_beside_a_smaller_one() {
    // 10,240 octets are less than the SYN-ACK offers, unscaled, whichever comes first.
    let (syn_ack, ack) = (|| S.syn(5000).ack(1001).scale(8).window(10_452), || S.ack(5001, 1001).window(40));
    for answers in [[syn_ack(), ack()], [ack(), syn_ack()]] {
        let mut trace = Trace::new(Config::default());
        trace.send(C.syn(1000).scale(2));
        for answer in answers {
            trace.send(answer);
        }
        trace.send(C.data(1001 + 10_302, "abc").ack(5001));
        assert_eq!(trace.reassembler().stats().queued, 3);
    }
}

#[test]
fn row_21_the_window_of_a_syn_is_not_scaled_where_the_other_side_does_not_scale() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).scale(8)).send(S.syn(5000).ack(1001)).send(C.ack(1001, 5001).window(10));
    trace.send(S.data(6001, "zzz").ack(1001)).finish().expect(&["handshake finish c2s= s2c=[1000 close]zzz"]);
}
