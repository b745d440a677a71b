//! Rows 6 to 8 and 20: holes, who waits for them and for how long, and what a gap is called.

use agent::reassembly::{
    Config,
    Direction::{ClientToServer, ServerToClient},
    Gap, GapCause, Late,
};

use crate::trace::{C, S, Trace};

/// `abc`, a hole of three, `ghi`.
fn with_a_hole(config: Config) -> Trace {
    let mut trace = Trace::established(config);
    trace.send(C.data(1001, "abc")).send(C.data(1007, "ghi"));
    trace
}

#[test]
fn row_06_an_acknowledged_hole_is_a_gap_after_the_hold() {
    let mut trace = with_a_hole(Config::default());
    trace.send(S.ack(5001, 1010).at(100)).wait_until(1_050).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(1_150).expect(&["handshake open c2s=abc[3 not-captured]ghi s2c="]);
}

#[test]
fn row_06_an_ack_that_overtakes_its_data_makes_no_gap() {
    let mut trace = with_a_hole(Config::default());
    trace.send(S.ack(5001, 1010).at(100)).send(C.data(1004, "def").at(1_000)).wait_until(3_000);
    trace.expect(&["handshake open c2s=abcdefghi s2c="]);
}

#[test]
fn row_06_only_octets_below_the_acknowledgment() {
    let mut trace = with_a_hole(Config::default());
    trace.send(S.ack(5001, 1006).at(100)).wait_until(5_000).finish();
    trace.expect(&["handshake finish c2s=abc[2 not-captured][1 close]ghi s2c="]);
}

#[test]
fn row_06_the_end_that_was_acknowledged_but_never_seen() {
    // Nine octets acknowledged, four captured: of the five, one may be the FIN's.
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abcd")).send(S.ack(5001, 1010)).wait_until(10_000);
    trace.expect(&["handshake open c2s=abcd s2c="]).finish();
    trace.expect(&["handshake finish c2s=abcd{4 not-captured} s2c="]);
}

#[test]
fn row_06_one_acknowledged_octet_beyond_the_last_may_be_the_fin() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abcd")).send(S.ack(5001, 1006)).wait_until(10_000).finish();
    trace.expect(&["handshake finish c2s=abcd s2c="]);
}

#[test]
fn row_07_a_fragment_without_the_others_is_named() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send_first_fragment(C.data(1004, "def")).send(C.data(1007, "ghi"));
    trace.send(S.ack(5001, 1010)).wait_until(2_000).expect(&["handshake open c2s=abc[3 fragment]ghi s2c="]);
    // The next hole has another reason.
    trace.send(C.data(1013, "mno")).send(S.ack(5001, 1016)).wait_until(4_000).finish();
    trace.expect(&["handshake finish c2s=abc[3 fragment]ghi[3 not-captured]mno s2c="]);
}

#[test]
fn row_07_a_fragment_at_the_end_is_named() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send_first_fragment(C.data(1004, "def")).send(S.ack(5001, 1007)).finish();
    trace.expect(&["handshake finish c2s=abc{2 fragment} s2c="]);
}

#[test]
fn row_07_a_fragment_of_which_the_others_came_leaves_nothing() {
    let mut trace = Trace::established(Config::default());
    trace.send_first_fragment(C.data(1001, "abc")).send(C.data(1001, "abc")).send(C.data(1007, "ghi"));
    trace.send(S.ack(5001, 1010)).wait_until(2_000).expect(&["handshake open c2s=abc[3 not-captured]ghi s2c="]);
}

#[test]
fn row_06_the_refusing_ring_is_named() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send(C.data(1007, "ghi").refused(3)).send(S.ack(5001, 1010).refused(3));
    trace.wait_until(2_000).expect(&["handshake open c2s=abc[3 ring-full]ghi s2c="]);
}

#[test]
fn row_06a_late_octets_are_written_into_place() {
    let mut trace = with_a_hole(Config { late: Late::Fill, ..Config::default() });
    trace.send(S.ack(5001, 1010)).wait_until(2_000).send(C.data(1005, "e"));
    trace.expect(&["handshake open c2s=abc[1 not-captured]e[1 not-captured]ghi s2c="]);
    trace.send(C.data(1001, "abcdef")).expect(&["handshake open c2s=abcdefghi s2c="]).finish();
    let numbers = trace.summary(0, ClientToServer);
    assert_eq!((numbers.gaps.len(), numbers.delivered, numbers.late), (0, 9, 0));
}

#[test]
fn row_06a_late_octets_are_counted_where_the_output_is_a_sequence() {
    let mut trace = with_a_hole(Config { late: Late::Count, ..Config::default() });
    trace.send(S.ack(5001, 1010)).wait_until(2_000).send(C.data(1004, "def")).finish();
    trace.expect(&["handshake finish c2s=abc[3 not-captured]ghi s2c="]);
    let numbers = trace.summary(0, ClientToServer);
    assert_eq!(numbers.gaps, [Gap { late: 3, ..Gap::new(3, 3, GapCause::NotCaptured) }]);
    assert_eq!((numbers.delivered, numbers.late), (6, 3));
}

#[test]
fn row_06a_a_late_copy_that_ends_inside_the_gap() {
    let mut trace = with_a_hole(Config { late: Late::Count, ..Config::default() });
    trace.send(S.ack(5001, 1010)).wait_until(2_000);
    trace.send(C.data(1004, "d")).send(C.data(1001, "abcde")).send(C.data(1005, "e")).finish();
    trace.expect(&["handshake finish c2s=abc[3 not-captured]ghi s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).late, 4);
}

#[test]
fn row_07_while_the_peer_denies_the_hole_it_is_waited_for() {
    let mut trace = with_a_hole(Config::default());
    // Duplicate ACKs after the hole opened: the sender will retransmit, however long its backoff.
    trace.send(S.ack(5001, 1004).at(10)).wait_until(200_000).expect(&["handshake open c2s=abc s2c="]);
    trace.send(C.data(1004, "def")).expect(&["handshake open c2s=abcdefghi s2c="]);
}

#[test]
fn row_07_without_a_word_from_the_peer_a_hole_times_out() {
    let mut trace = with_a_hole(Config::default());
    trace.wait_until(29_900).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(30_100).expect(&["handshake open c2s=abc[3 timeout]ghi s2c="]);
}

#[test]
fn row_07_a_segment_in_the_middle_of_a_hole_does_not_open_it_anew() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1020, "xyz").ack(5001)).send(S.ack(5001, 1004).at(10));
    trace.send(C.data(1010, "jkl").ack(5001).at(20)).wait_until(200_000).expect(&["handshake open c2s=abc s2c="]);
}

#[test]
fn row_07_a_segment_before_the_fin_does_not_open_the_hole_anew() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.fin(1020).ack(5001)).send(S.ack(5001, 1004).at(10));
    trace.send(C.data(1010, "jkl").ack(5001).at(20)).wait_until(200_000).expect(&["handshake open c2s=abc s2c="]);
}

#[test]
fn row_07_a_denial_counts_while_the_stream_is_picked_up() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(S.ack(5001, 1004).at(10));
    trace.wait_until(200_000).expect(&["midstream open c2s=abc s2c="]);
}

#[test]
fn row_07_an_ack_from_before_the_hole_says_nothing_about_it() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send(S.ack(5001, 1004)).send(C.data(1007, "ghi").at(5_000));
    trace.wait_until(34_900).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(35_100).expect(&["handshake open c2s=abc[3 timeout]ghi s2c="]);
}

#[test]
fn row_07_every_hole_has_its_own_clock() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1003, "c")).send(C.data(1005, "e").at(20_000)).wait_until(31_000);
    trace.expect(&["handshake open c2s=[2 timeout]c s2c="]);
    trace.wait_until(51_000).expect(&["handshake open c2s=[2 timeout]c[1 timeout]e s2c="]);
}

#[test]
fn row_07_the_end_of_the_connection_ends_the_wait() {
    with_a_hole(Config::default()).finish().expect(&["handshake finish c2s=abc[3 close]ghi s2c="]);
}

#[test]
fn row_08_one_sided_capture() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1001)).send(S.data(5001, "abc").ack(1001)).send(S.data(5007, "ghi").ack(1001).at(50));
    trace.send(S.data(5010, "jkl").ack(1001).at(25_000)).wait_until(29_900);
    trace.expect(&["handshake open c2s= s2c=abc"]);
    trace.wait_until(30_200).expect(&["handshake open c2s= s2c=abc[3 timeout]ghijkl"]);
}

#[test]
fn row_20_what_the_snaplen_cut_off_is_a_gap() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").missing(4)).send(C.data(1008, "hij"));
    trace.expect(&["handshake open c2s=abc[4 snaplen]hij s2c="]);
}

#[test]
fn row_20_cut_segments_out_of_order() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1008, "hij").missing(2)).send(C.data(1013, "mno")).send(C.data(1001, "abc").missing(4));
    trace.expect(&["handshake open c2s=abc[4 snaplen]hij[2 snaplen]mno s2c="]);
}

#[test]
fn row_20_a_copy_brings_what_was_cut() {
    let mut trace = Trace::established(Config::default());
    // Re-packetised: the copy is short enough to be captured whole, and comes while a hole is before it.
    trace.send(C.data(1004, "def").missing(3)).send(C.data(1007, "ghi")).send(C.data(1001, "abc"));
    trace.expect(&["handshake open c2s=abcdefghi s2c="]);
}

#[test]
fn row_20_a_cut_segment_before_one_that_waits() {
    for captured in ["", "a"] {
        let mut trace = Trace::established(Config::default());
        trace.send(C.data(1011, "kl")).send(C.data(1001, captured).missing(10 - captured.len() as u32));
        trace.expect(&[&format!("handshake open c2s={captured}[{} snaplen]kl s2c=", 10 - captured.len())]);
    }
}

#[test]
fn row_20_cut_segments_before_one_that_waits_for_its_predecessor() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1021, "uv")).send(C.data(1011, "").missing(10)).send(C.data(1001, "").missing(10));
    trace.expect(&["handshake open c2s=[20 snaplen]uv s2c="]);
}

#[test]
fn row_20_headers_alone_in_any_order() {
    for order in [[0, 2, 1], [2, 0, 1], [1, 2, 0], [2, 1, 0], [1, 0, 2]] {
        let mut trace = Trace::established(Config::default());
        for n in order {
            trace.send(C.data(1001 + 10 * n, "").missing(10).ack(5001));
        }
        trace.send(C.data(1031, "x").ack(5001)).expect(&["handshake open c2s=[30 snaplen]x s2c="]);
    }
}

#[test]
fn row_20_headers_alone_to_the_end() {
    for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1], [1, 2, 0]] {
        let mut trace = Trace::established(Config::default());
        for n in order {
            trace.send(C.data(1001 + 10 * n, "").missing(10).ack(5001));
        }
        trace.send(S.ack(5001, 1031)).wait_until(5_000).finish();
        trace.expect(&["handshake finish c2s={30 snaplen} s2c="]);
    }
}

#[test]
fn row_20_a_shorter_copy_from_the_middle_of_what_was_cut() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "a").missing(9).ack(5001)).send(S.ack(5001, 1011)).send(C.data(1005, "e").ack(5001).at(10));
    trace.wait_until(5_000).send(C.data(1011, "k").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=a[3 snaplen]e[5 snaplen]k s2c="]);
}

#[test]
fn row_20_nothing_but_headers() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "").missing(100)).send(S.data(5001, "ok").ack(1101)).send(C.fin(1101).ack(5003));
    trace.send(S.fin(5003).ack(1102)).send(C.ack(1102, 5004)).wait_until(200_000);
    trace.expect(&["handshake fin c2s={100 snaplen} s2c=ok"]);
}

#[test]
fn row_06_nothing_was_captured_behind_what_the_snaplen_cut_off() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "ab").missing(8).ack(5001)).send(S.ack(5001, 1041)).wait_until(5_000).finish();
    trace.expect(&["handshake finish c2s=ab{37 not-captured} s2c="]);
}

#[test]
fn row_20_the_fin_stands_behind_the_missing_octets() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "ab").missing(8).and_fin().ack(5001)).send(S.fin(5001).ack(1012)).send(C.ack(1012, 5002));
    trace.wait_until(200_000).expect(&["handshake fin c2s=ab{8 snaplen} s2c="]);
    assert_eq!(trace.summary(0, ServerToClient).delivered, 0);
}

#[test]
fn row_06a_one_late_octet_before_the_delivered_edge_is_no_probe() {
    let mut trace = with_a_hole(Config::default());
    trace.send(S.ack(5001, 1005)).wait_until(2_000).expect(&["handshake open c2s=abc[1 not-captured] s2c="]);
    trace.send(C.data(1004, "?").without_psh()).expect(&["handshake open c2s=abc[1 not-captured] s2c="]);
    trace.send(C.data(1004, "d")).expect(&["handshake open c2s=abcd s2c="]);
    trace.send(C.data(1005, "ef")).expect(&["handshake open c2s=abcdefghi s2c="]);
}

#[test]
fn row_06_a_ring_that_refused_before_the_connection_is_not_to_blame() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).refused(5)).send(S.syn(5000).ack(1001).refused(5)).send(C.data(1004, "def").refused(5));
    trace.send(S.ack(5001, 1007).refused(5)).send(S.data(5003, "cd").ack(1007).refused(6));
    trace.send(C.ack(1007, 5005).refused(6)).wait_until(2_000);
    trace.expect(&["handshake open c2s=[3 not-captured]def s2c=[2 ring-full]cd"]);
}

#[test]
fn row_06_the_refusing_ring_is_named_at_the_end() {
    // The ring's count comes with the ACK.
    let mut trace = Trace::established(Config::default()).copied();
    trace.send(C.data(1001, "abc")).send(S.ack(5001, 1011).refused(3)).finish();
    trace.expect(&["handshake finish c2s=abc{6 ring-full} s2c="]);
}

#[test]
fn row_06_the_refusing_ring_is_named_before_a_fin() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc")).send(C.fin(1007).refused(3)).send(S.ack(5001, 1008).refused(3)).finish();
    trace.expect(&["handshake finish c2s=abc{3 ring-full} s2c="]);
}
