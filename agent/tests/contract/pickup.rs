//! Rows 13 and 23: connections that were under way when the capture began.

use agent::reassembly::{Config, Direction::ClientToServer};

use crate::trace::{C, S, Trace};

#[test]
fn row_13_picked_up_where_it_is() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.data(5001, "abc").ack(1001)).send(C.data(1001, "xyz").ack(5004)).wait_until(1_000);
    // Without a SYN the sender of the first segment is the client.
    trace.expect(&["midstream open c2s=abc s2c=xyz"]);
    assert_eq!(trace.client_port(0), 80);
}

#[test]
fn row_13_the_first_two_segments_in_the_wrong_order() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1004, "def").ack(5001)).send(C.data(1001, "abc").ack(5001).at(50)).wait_until(1_000);
    trace.expect(&["midstream open c2s=abcdef s2c="]);
}

#[test]
fn row_13_what_comes_after_the_hold_is_below_the_start() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1004, "def").ack(5001)).send(C.data(1001, "abcdefghi").ack(5001).at(500)).finish();
    trace.expect(&["midstream finish c2s=defghi s2c="]);
}

#[test]
fn row_13_data_begins_at_the_ack_of_the_syn_ack() {
    // The SYN was missed, and so was the first segment: the stream still begins at its first octet.
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1001)).send(C.data(1004, "def").ack(5001)).send(S.ack(5001, 1007)).wait_until(2_000);
    trace.finish();
    let line = trace.summary(0, ClientToServer);
    assert_eq!(line.gaps.len(), 1);
    assert_eq!((line.gaps[0].offset, line.gaps[0].len, line.delivered), (0, 3, 3));
}

#[test]
fn row_13_an_ack_within_the_hold_counts_for_the_holes_behind_it() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(S.ack(5001, 1010).at(10));
    trace.wait_until(40_000).expect(&["midstream open c2s=abc[3 not-captured]ghi s2c="]);
}

#[test]
fn row_13_across_the_wrap() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(2, "ghi").ack(5001)).send(C.data(0xffff_fffc, "abcdef").ack(5001).at(20)).finish();
    trace.expect(&["midstream finish c2s=abcdefghi s2c="]);
}

#[test]
fn row_13_the_capture_may_end_within_the_hold() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1004, "def").ack(5001)).finish().expect(&["midstream finish c2s=def s2c="]);
}

#[test]
fn row_13_a_fin_picks_up_too() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "abc").and_fin().ack(5001)).send(S.fin(5001).ack(1005)).send(C.ack(1005, 5002));
    trace.wait_until(1_000).expect(&["midstream fin c2s=abc s2c="]);
}

#[test]
fn row_13_require_handshake_refuses() {
    let mut trace = Trace::new(Config { require_handshake: true, ..Config::default() });
    trace.send(C.data(1001, "abc").ack(5001)).send(S.data(5001, "yes").ack(1004)).wait_until(1_000);
    trace.send(C.syn(7_000).port(40_001)).send(S.syn(8_000).ack(7_001).port(40_001));
    trace.send(C.data(7_001, "abc").ack(8_001).port(40_001)).finish();
    trace.expect(&["handshake finish c2s=abc s2c="]);
}

#[test]
fn row_23_a_bare_ack_opens_nothing() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.ack(1001, 5001)).send(S.ack(5001, 1001)).wait_until(1_000).finish().expect(&[]);
}

#[test]
fn row_23_an_rst_opens_nothing() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.rst(1001)).send(S.rst(0).ack(1001)).send(S.rst(9).with("why")).wait_until(1_000).finish().expect(&[]);
}
