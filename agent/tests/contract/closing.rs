//! Rows 9, 12 and 14 to 17: FINs, what comes after them, and segments that look like data but are not.

use agent::reassembly::{Config, Direction::ClientToServer};

use crate::trace::{C, S, Trace};

/// `bye` one way, `ok` the other, both closed in order.
fn closed(config: Config) -> Trace {
    let mut trace = Trace::established(config);
    trace.send(C.data(1001, "bye").ack(5001)).send(S.data(5001, "ok").ack(1004));
    trace.send(C.fin(1004).ack(5003)).send(S.fin(5003).ack(1005)).send(C.ack(1005, 5004));
    trace
}

const CLOSED: &str = "handshake fin c2s=bye s2c=ok";

#[test]
fn row_09_the_stream_ends_at_the_fin() {
    closed(Config::default()).expect(&[CLOSED]);
}

#[test]
fn row_09_one_fin_is_half_of_a_close() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "get").and_fin().ack(5001)).expect(&["handshake open c2s=get s2c="]);
    trace.send(S.data(5001, "much ").ack(1005)).send(S.data(5006, "later").and_fin().ack(1005).at(100_000));
    trace.expect(&["handshake fin c2s=get s2c=much later"]);
}

#[test]
fn row_09_an_empty_fin_out_of_order_is_remembered() {
    let mut trace = Trace::established(Config::default());
    trace.send(S.fin(5001).ack(1001)).send(C.fin(1007).ack(5002)).expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(1004, "def").ack(5002)).expect(&["handshake open c2s= s2c="]);
    trace.send(C.data(1001, "abc").ack(5002)).expect(&["handshake fin c2s=abcdef s2c="]);
}

#[test]
fn row_09_a_fin_with_data_out_of_order() {
    let mut trace = Trace::established(Config::default());
    trace.send(S.fin(5001).ack(1001)).send(C.data(1004, "def").and_fin().ack(5002));
    trace.send(C.data(1001, "abc").ack(5002)).expect(&["handshake fin c2s=abcdef s2c="]);
}

#[test]
fn row_09_a_fin_behind_a_gap() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.fin(5001).ack(1004)).send(C.fin(1010).ack(5002));
    trace.send(S.ack(5002, 1011).at(10)).wait_until(1_100);
    trace.expect(&["handshake fin c2s=abc{6 not-captured} s2c="]);
}

#[test]
fn row_09_both_fins_at_once() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "a").and_fin().ack(5001)).send(S.data(5001, "b").and_fin().ack(1001));
    trace.send(C.ack(1003, 5003)).send(S.ack(5003, 1003)).expect(&["handshake fin c2s=a s2c=b"]);
}

#[test]
fn row_09_a_retransmitted_fin_and_its_data() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.fin(1004).ack(5001)).send(C.data(1001, "abc").and_fin().ack(5001)).send(C.fin(1004).ack(5001));
    trace.send(S.fin(5001).ack(1005)).expect(&["handshake fin c2s=abc s2c="]);
}

#[test]
fn row_12_the_linger_absorbs_last_acks_and_retransmissions() {
    let mut trace = closed(Config::default());
    trace.send(C.ack(1005, 5004).at(100)).send(S.data(5001, "ok").and_fin().ack(1005).at(10_000));
    trace.send(C.ack(1005, 5004)).send(C.data(1001, "bye").ack(5001).at(59_000)).send(C.rst(1005).at(59_500));
    trace.finish().expect(&[CLOSED]);
}

#[test]
fn row_12_the_linger_absorbs_the_old_syn() {
    let mut trace = closed(Config::default());
    trace.send(C.syn(1000).at(30_000)).finish().expect(&[CLOSED]);
}

#[test]
fn row_12_the_linger_absorbs_the_old_syn_also_when_it_comes_late() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1001)).send(S.data(5001, "yes").ack(1001)).send(S.rst(5004).at(10));
    trace.send(C.syn(1000).at(5_000)).expect(&["handshake rst c2s= s2c=yes"]);
}

#[test]
fn row_12_the_linger_absorbs_a_syn_that_everything_overtook() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1001)).send(C.data(1001, "bye").and_fin().ack(5001)).send(S.fin(5001).ack(1005));
    trace.send(C.syn(1000).at(50)).finish().expect(&["handshake fin c2s=bye s2c="]);
}

#[test]
fn row_12_the_linger_ends() {
    let mut trace = closed(Config::default());
    trace.send(C.data(1005, "who").ack(5004).at(61_000)).finish();
    trace.expect(&[CLOSED, "midstream finish c2s=who s2c="]);
}

#[test]
fn row_12_the_linger_begins_with_the_end_and_not_with_what_is_seen_next() {
    // The end of a picked-up connection is known when the hold is over, here in a silence of which nobody tells.
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "bye").and_fin().ack(5001)).send(S.fin(5001).ack(1005)).send(C.ack(1005, 5002));
    trace.send_untimed(C.ack(700_001, 900_001).at(200_000));
    trace.send(C.data(700_001, "who").ack(900_001).at(205_000)).finish();
    trace.expect(&["midstream fin c2s=bye s2c=", "midstream finish c2s=who s2c="]);
}

#[test]
fn row_12_a_reset_connection_lingers_too() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.rst(5001).at(10)).wait_until(2_000);
    trace.send(C.data(1001, "abc").ack(5001).at(3_000)).send(C.data(1004, "def").ack(5001)).finish();
    trace.expect(&["handshake rst c2s=abc s2c="]);
}

#[test]
fn row_14_fast_open_data_starts_at_offset_0() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).with("GET")).send(S.syn(5000).ack(1004).with("200")).send(C.data(1004, " /").ack(5004));
    trace.expect(&["handshake open c2s=GET / s2c=200"]);
}

#[test]
fn row_14_fast_open_data_that_the_server_did_not_take() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).with("GET")).send(S.syn(5000).ack(1001)).send(C.data(1001, "GET /").ack(5001));
    trace.expect(&["handshake open c2s=GET / s2c="]);
}

#[test]
fn row_14_fast_open_data_that_the_syn_ack_overtook() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1004)).send(C.syn(1000).with("GET").at(1)).send(C.data(1004, " /").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=GET / s2c="]);
}

#[test]
fn row_14_a_retransmitted_syn_without_its_data() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).with("GET")).send(C.syn(1000).at(1_000)).send(S.syn(5000).ack(1001));
    trace.send(C.data(1001, "GET /").ack(5001)).expect(&["handshake open c2s=GET / s2c="]);
}

#[test]
fn row_15_simultaneous_open_is_one_connection() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000)).send(C.syn(1000).ack(5001)).send(S.syn(5000).ack(1001));
    trace.send(C.data(1001, "ping").ack(5001)).send(S.data(5001, "pong").ack(1005));
    trace.expect(&["handshake open c2s=ping s2c=pong"]);
}

#[test]
fn row_15_split_handshake_is_one_connection() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.ack(0, 1001)).send(S.syn(5000)).send(C.syn(1000).ack(5001)).send(S.ack(5001, 1001));
    trace.send(C.data(1001, "ping").ack(5001)).send(S.data(5001, "pong").ack(1005));
    trace.expect(&["handshake open c2s=ping s2c=pong"]);
}

#[test]
fn row_15_split_handshake_that_was_picked_up() {
    // The bare ACK, which has the number of the SYN behind it, is all that is known of the server then.
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "ping").ack(5001)).send(S.ack(5000, 1001)).send(S.syn(5000));
    trace.send(S.data(5001, "pong").ack(1005)).finish().expect(&["handshake finish c2s=ping s2c=pong"]);
}

#[test]
fn row_16_keep_alives_are_never_data() {
    for garbage in ["", "\0", "c", "X"] {
        let mut trace = Trace::established(Config::default());
        trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004));
        trace.send(C.data(1003, garbage).without_psh().ack(5001).at(60_000)).send(S.ack(5001, 1004));
        trace.send(S.data(5000, garbage).without_psh().ack(1004).at(70_000)).send(C.ack(1004, 5001));
        trace.send(C.data(1004, "def").ack(5001).at(80_000));
        trace.expect(&["handshake open c2s=abcdef s2c="]).finish();
        assert_eq!(trace.summary(0, ClientToServer).conflict, 0, "{garbage:?}");
    }
}

#[test]
fn row_16_the_edge_is_known_from_the_peers_ack() {
    // The octet at 1003 was never captured, but the peer has acknowledged it: what repeats its number is a probe.
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "ab").ack(5001)).send(S.ack(5001, 1004));
    trace.send(C.data(1003, "\0").without_psh().ack(5001).at(100)).send(C.data(1004, "def").ack(5001));
    trace.send(S.ack(5001, 1007)).wait_until(5_000);
    trace.expect(&["handshake open c2s=ab[1 not-captured]def s2c="]);
}

#[test]
fn row_16_a_typed_octet_that_its_ack_overtook() {
    // Row 6: an ACK that overtakes its data makes no gap. PSH tells the octet from a probe.
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "a").ack(5001)).send(S.ack(5001, 1003).at(10)).send(C.data(1002, "b").ack(5001).at(20));
    trace.send(C.data(1003, "c").ack(5001).at(30)).wait_until(5_000).expect(&["handshake open c2s=abc s2c="]);
}

#[test]
fn row_16_the_last_octet_again_that_the_snaplen_had_cut_off() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "ab").missing(2).ack(5001)).send(S.ack(5001, 1004).window(0));
    trace.send(C.data(1004, "d").ack(5001).at(500)).finish();
    trace.expect(&["handshake finish c2s=ab[1 snaplen]d s2c="]);
}

#[test]
fn row_16_a_keep_alive_holds_the_connection() {
    let mut trace = Trace::established(Config::default());
    for hour in 1..10 {
        trace.send(C.data(1000, "\0").without_psh().ack(5001).at(hour * 3_600_000));
    }
    trace.expect(&["handshake open c2s= s2c="]);
}

#[test]
fn row_16_a_probe_may_be_the_first_thing_seen() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1000, "\0").without_psh().ack(5001)).send(S.ack(5001, 1001));
    trace.send(C.data(1001, "abc").ack(5001).at(1_000)).finish();
    trace.expect(&["midstream finish c2s=abc s2c="]);
}

#[test]
fn row_16_one_octet_is_data_when_a_longer_segment_starts_there() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1000, "a").without_psh().ack(5001)).send(C.data(1000, "abc").ack(5001).at(10)).finish();
    trace.expect(&["midstream finish c2s=abc s2c="]);
}

#[test]
fn row_17_a_window_probes_octet_counts_once() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004).window(0));
    trace.send(C.data(1004, "d").ack(5001).at(500)).send(S.ack(5001, 1004).window(0));
    trace.send(C.data(1004, "d").ack(5001).at(1_500)).send(S.ack(5001, 1004).window(1_000));
    trace.send(C.data(1004, "def").ack(5001)).expect(&["handshake open c2s=abcdef s2c="]);
}

#[test]
fn row_09_an_empty_fin_that_overtook_more_than_a_window() {
    // A window of 100, of which the FIN is far outside until the stream has come there.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(100)).send(C.ack(1001, 5001));
    trace.send(C.fin(1201).ack(5001));
    for seq in [1001, 1101] {
        trace.send(C.data(seq, [b'x'; 100]).ack(5001)).send(S.ack(5001, seq + 100).window(100));
    }
    trace.send(S.fin(5001).ack(1202)).send(C.ack(1202, 5002));
    trace.expect(&[&format!("handshake fin c2s={} s2c=", "x".repeat(200))]);
}

#[test]
fn row_09_before_the_fin_what_is_not_acknowledged_is_waited_for() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.fin(5001).ack(1004)).send(C.fin(1010).ack(5002));
    trace.send(S.ack(5002, 1006).at(10)).wait_until(60_000).expect(&["handshake open c2s=abc s2c="]);
    trace.send(C.data(1006, "fghi").ack(5002)).expect(&["handshake fin c2s=abc[2 not-captured]fghi s2c="]);
}

#[test]
fn row_09_before_the_fin_what_was_acknowledged_before_it_times_out() {
    // The ACK came before the FIN opened the hole, and says nothing of its second half.
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.fin(5001).ack(1006)).send(C.fin(1010).ack(5002).at(10));
    trace.wait_until(29_000).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(31_000).expect(&["handshake fin c2s=abc{6 timeout} s2c="]);
}

#[test]
fn row_14_fast_open_data_that_everything_overtook_and_the_snaplen_cut() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1004)).send(C.data(1004, "").missing(10).ack(5001)).send(C.syn(1000).with("GET").at(1));
    trace.send(C.data(1014, "x").ack(5001)).finish().expect(&["handshake finish c2s=GET[10 snaplen]x s2c="]);
}
