//! Row 10: which RST is believed, and what it does.

use agent::reassembly::Config;

use crate::trace::{C, S, Seg, Trace};

/// `abc` captured and acknowledged, three more octets sent.
fn talking() -> Trace {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).send(C.data(1004, "def").ack(5001));
    trace
}

#[track_caller]
fn accepted(mut trace: Trace, rst: Seg, line: &str) {
    trace.send(rst).wait_until(2_000).expect(&[&format!("handshake rst {line}")]);
}

#[test]
fn row_10_at_the_peers_last_ack() {
    accepted(talking(), C.rst(1004), "c2s=abcdef s2c=");
}

#[test]
fn row_10_at_the_highest_number_used() {
    accepted(talking(), C.rst(1007), "c2s=abcdef s2c=");
}

#[test]
fn row_10_at_the_fin() {
    let mut trace = talking();
    trace.send(C.fin(1007).ack(5001));
    accepted(trace, C.rst(1007), "c2s=abcdef s2c=");
}

#[test]
fn row_10_from_the_other_side() {
    accepted(talking(), S.rst(5001).ack(1004), "c2s=abcdef s2c=");
}

#[test]
fn row_10_the_answer_to_a_syn_whatever_its_number() {
    for seq in [0, 77, 0x9000_0000] {
        let mut trace = Trace::new(Config::default());
        trace.send(C.syn(1000)).send(S.rst(seq).ack(1001)).wait_until(2_000).expect(&["handshake rst c2s= s2c="]);
    }
}

#[test]
fn row_10_an_answer_to_another_syn_is_implausible() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.rst(0).ack(2001)).send(S.syn(5000).ack(1001)).send(C.data(1001, "abc").ack(5001));
    trace.wait_until(5_000).expect(&["handshake open c2s=abc s2c="]);
}

#[test]
fn row_10_a_blind_reset_changes_nothing() {
    // No SYN carried a scale, so none applies: the window ends 65,535 octets behind the last ACK.
    for seq in [1002, 1003, 1004 + 65_535, 0x8000_0000, 0] {
        let mut trace = talking();
        trace.send(C.rst(seq)).wait_until(2_000).send(C.data(1007, "ghi").ack(5001));
        trace.expect(&["handshake open c2s=abcdefghi s2c="]);
    }
}

#[test]
fn row_10_a_blind_reset_makes_no_other_believable() {
    for forged in [C.rst(0x8000_0000), C.syn(0x8000_0000), C.data(0x8000_0000, "x").ack(5001), C.fin(0x7fff_ffff)] {
        let mut trace = talking();
        trace.send(forged).send(C.rst(0x8000_0000)).send(C.rst(0x8000_0001)).wait_until(2_000);
        trace.send(C.data(1007, "ghi").ack(5001)).expect(&["handshake open c2s=abcdefghi s2c="]);
    }
}

#[test]
fn row_10_a_blind_reset_says_nothing_of_a_window() {
    let mut trace = talking();
    trace.send(S.rst(0x8000_0000).window(1)).send(C.data(1010, "jkl").ack(5001)).send(C.data(1007, "ghi").ack(5001));
    trace.expect(&["handshake open c2s=abcdefghijkl s2c="]);
}

#[test]
fn row_10_a_blind_ack_makes_no_reset_believable() {
    let mut trace = talking();
    trace.send(S.ack(5001, 0x4000_0000)).send(C.rst(0x4000_0000)).wait_until(2_000);
    trace.send(C.data(1007, "ghi").ack(5001)).expect(&["handshake open c2s=abcdefghi s2c="]);
}

#[test]
fn row_10_a_window_whose_scale_is_unknown_proves_nothing() {
    for seq in [1002, 1005, 1008, 2000] {
        let mut trace = Trace::new(Config::default());
        trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).send(C.data(1004, "def").ack(5001));
        trace.send(C.rst(seq)).wait_until(2_000).expect(&["midstream open c2s=abcdef s2c="]);
    }
}

#[test]
fn row_10_anywhere_in_a_window_that_is_known_with_its_scale() {
    let scaled = || {
        let mut trace = Trace::new(Config::default());
        trace.send(C.syn(1000).scale(2)).send(S.syn(5000).ack(1001).scale(3)).send(C.ack(1001, 5001).window(1_000));
        trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004).window(100));
        trace
    };
    // 100 << 3 octets from the last ACK on.
    for seq in [1004, 1500, 1803] {
        accepted(scaled(), C.rst(seq), "c2s=abc s2c=");
    }
    for seq in [1003, 1804] {
        scaled().send(C.rst(seq)).wait_until(2_000).expect(&["handshake open c2s=abc s2c="]);
    }
}

#[test]
fn row_10_queued_octets_are_delivered_behind_a_gap() {
    let mut trace = talking();
    trace.send(C.data(1010, "jkl").ack(5001)).send(C.rst(1013)).expect(&["handshake open c2s=abcdef[3 close]jkl s2c="]);
    trace.wait_until(2_000).expect(&["handshake rst c2s=abcdef[3 close]jkl s2c="]);
}

#[test]
fn row_10_its_payload_is_no_stream_data() {
    let mut trace = talking();
    trace.send(C.rst(1007).with("reason")).wait_until(2_000).expect(&["handshake rst c2s=abcdef s2c="]);
}

#[test]
fn row_10_a_receiver_that_ignored_it_is_believed() {
    let mut trace = talking();
    trace.send(C.rst(1007).at(10)).send(C.data(1007, "ghi").ack(5001).at(20)).send(S.ack(5001, 1010).at(30));
    trace.send(C.data(1010, "jkl").and_fin().ack(5001).at(40)).send(S.fin(5001).ack(1014)).wait_until(5_000);
    trace.expect(&["handshake fin c2s=abcdefghijkl s2c="]);
}

#[test]
fn row_10_unacknowledged_payload_after_it_proves_nothing() {
    let mut trace = talking();
    trace.send(S.rst(5001).at(10)).send(C.data(1007, "ghi").ack(5001).at(20)).wait_until(5_000);
    trace.expect(&["handshake rst c2s=abcdef s2c="]);
}

#[test]
fn row_10_the_capture_may_end_within_the_hold() {
    let mut trace = talking();
    trace.send(C.rst(1007)).finish().expect(&["handshake rst c2s=abcdef s2c="]);
}

#[test]
fn row_10_a_fin_behind_an_ignored_rst_ends_the_stream() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).send(C.rst(1004));
    trace.send(C.data(1004, "def").and_fin().ack(5001)).send(S.ack(5001, 1008)).send(S.fin(5001).ack(1008));
    trace.expect(&["handshake fin c2s=abcdef s2c="]);
    assert_eq!(trace.reassembler().stats().reopened, 1);
}

#[test]
fn row_10_a_fin_alone_behind_an_ignored_rst() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).send(C.rst(1004));
    trace.send(C.fin(1004).ack(5001)).send(S.ack(5001, 1005)).send(S.fin(5001).ack(1005));
    trace.expect(&["handshake fin c2s=abc s2c="]);
}

#[test]
fn row_10_what_comes_behind_an_ignored_rst_for_a_gap_is_late() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send(C.data(1007, "ghi")).send(S.ack(5001, 1010)).send(C.rst(1010));
    trace.send(C.data(1004, "def")).send(C.data(1010, "jkl")).send(S.ack(5001, 1013)).finish();
    trace.expect(&["handshake finish c2s=abcdefghijkl s2c="]);
    let stats = trace.reassembler().stats();
    assert_eq!((stats.gaps_filled, stats.duplicate, stats.after_close, stats.imbalance()), (3, 0, 0, 0));
}

#[test]
fn row_10_a_retransmission_behind_an_rst_proves_nothing() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).send(S.rst(5001).ack(1004));
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).finish();
    trace.expect(&["handshake rst c2s=abc s2c="]);
    let stats = trace.reassembler().stats();
    assert_eq!((stats.reopened, stats.after_close, stats.imbalance()), (0, 3, 0));
}

#[test]
fn row_10_the_answer_to_a_syn_with_data() {
    // RFC 9293 section 3.10.7.1: who does not listen acknowledges all that the segment occupies.
    for (ack, ended) in [(1000, "open"), (1001, "rst"), (1004, "rst"), (1005, "open")] {
        let mut trace = Trace::new(Config::default());
        trace.send(C.syn(1000).with("GET")).send(S.rst(0).ack(ack)).wait_until(2_000);
        trace.expect(&[&format!("handshake {ended} c2s=GET s2c=")]);
    }
}

#[test]
fn row_10_the_end_behind_one_that_the_receiver_ignored() {
    let mut trace = talking();
    trace.send(C.rst(1007).at(10)).send(C.data(1007, "ghi").and_fin().ack(5001).at(20)).send(S.ack(5001, 1011).at(30));
    trace.send(S.fin(5001).ack(1011).at(40)).expect(&["handshake fin c2s=abcdefghi s2c="]);
}

#[test]
fn row_10_the_end_behind_one_that_the_receiver_obeyed() {
    let mut trace = talking();
    trace.send(C.rst(1007).at(10)).send(C.data(1010, "jkl").and_fin().ack(5001).at(20)).wait_until(5_000);
    trace.expect(&["handshake rst c2s=abcdef s2c="]);
}

#[test]
fn row_10_what_fills_the_hole_that_it_gave_up_reopens_once_acknowledged() {
    let mut trace = talking();
    trace.send(C.data(1010, "jkl").ack(5001)).send(C.rst(1013)).send(C.data(1007, "ghi").ack(5001));
    trace.send(S.ack(5001, 1013)).wait_until(5_000).expect(&["handshake open c2s=abcdefghijkl s2c="]);
    assert_eq!(trace.reassembler().stats().reopened, 1);
}

#[test]
fn row_10_an_ack_for_a_copy_from_before_it_proves_nothing() {
    let mut trace = talking();
    trace.send(C.data(1007, "ghi").ack(5001)).send(C.rst(1010)).send(C.data(1007, "ghi").ack(5001));
    trace.send(S.ack(5001, 1010)).wait_until(5_000).expect(&["handshake rst c2s=abcdefghi s2c="]);
}

#[test]
fn row_10_more_than_a_window_behind_one_that_the_receiver_ignored() {
    // A window of 10: the ACK that makes room for the second segment is recorded behind it.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(10)).send(C.rst(1001));
    trace.send(C.data(1001, "0123456789").ack(5001)).send(C.data(1011, "abcdefghij").ack(5001));
    trace.send(S.ack(5001, 1011).window(10)).send(S.ack(5001, 1021).window(10));
    trace.wait_until(5_000).expect(&["handshake open c2s=0123456789abcdefghij s2c="]);
}

#[test]
fn row_10_a_hole_behind_one_that_the_receiver_ignored_is_as_old_as_what_stands_behind_it() {
    // The server denies it, and then the client acknowledges what proves that it ignored the RST.
    let mut trace = Trace::established(Config::default());
    trace.send(S.rst(5001)).send(C.data(1004, "def").ack(5001).at(100)).send(S.data(5001, "yes").ack(1001).at(200));
    trace.send(C.ack(1007, 5004).at(300)).wait_until(60_000).expect(&["handshake open c2s= s2c=yes"]);
}

#[test]
fn row_10_what_fills_a_window_behind_one_that_the_receiver_ignored() {
    // Each ACK covers a whole window of octets of which nothing but what was held is known.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(3)).send(C.data(1001, "abc").ack(5001));
    trace.send(S.ack(5001, 1004).window(3)).send(C.rst(1005).at(10)).send(C.data(1004, "def").ack(5001).at(20));
    trace.send(S.ack(5001, 1007).window(3).at(30)).send(C.data(1007, "ghi").ack(5001).at(40)).wait_until(5_000);
    trace.expect(&["handshake open c2s=abcdefghi s2c="]);
    assert_eq!(trace.reassembler().stats().reopened, 1);
}

#[test]
fn row_10_several_windows_may_come_before_the_ack() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(3)).send(C.rst(1001).at(10));
    for seq in [1001, 1004, 1007] {
        trace.send(C.data(seq, "abc").ack(5001).at(20));
    }
    trace.send(S.ack(5001, 1010).window(3).at(30)).wait_until(5_000);
    trace.expect(&["handshake open c2s=abcabcabc s2c="]);
}
