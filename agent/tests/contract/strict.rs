//! Row 28: gopacket's checks, for those who want them.

use agent::reassembly::Config;

use crate::trace::{C, S, Trace};

fn fsm() -> Config {
    Config { strict_fsm: true, ..Config::default() }
}

fn options() -> Config {
    Config { strict_options: true, ..Config::default() }
}

#[test]
fn row_28_an_ordinary_connection_passes_both() {
    let mut trace = Trace::new(Config { strict_fsm: true, strict_options: true, ..Config::default() });
    trace.send(C.syn(1000).mss(1460)).send(S.syn(5000).ack(1001).mss(1460)).send(C.ack(1001, 5001));
    trace.send(C.data(1001, "get").ack(5001)).send(S.data(5001, "page").and_fin().ack(1004));
    trace.send(C.ack(1004, 5006)).send(C.fin(1004).ack(5006)).send(S.ack(5006, 1005));
    trace.expect(&["handshake fin c2s=get s2c=page"]);
    let stats = trace.reassembler().stats();
    assert_eq!((stats.refused_fsm, stats.refused_options, stats.strict), (0, 0, 0));
}

#[test]
fn row_28_fsm_refuses_data_before_the_answer() {
    let mut trace = Trace::new(fsm());
    trace.send(C.syn(1000)).send(C.data(1001, "early").ack(5001)).finish();
    trace.expect(&["handshake finish c2s= s2c="]);
    let stats = trace.reassembler().stats();
    assert_eq!((stats.refused_fsm, stats.strict, stats.imbalance()), (1, 5, 0));
}

#[test]
fn row_28_fsm_refuses_what_follows_a_reset() {
    let mut trace = Trace::established(fsm());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.rst(5001).ack(1004));
    trace.send(C.data(1004, "def").ack(5001)).send(S.ack(5001, 1007)).wait_until(2_000);
    trace.expect(&["handshake rst c2s=abc s2c="]);
    assert_eq!((trace.reassembler().stats().refused_fsm, trace.reassembler().stats().reopened), (2, 0));
}

#[test]
fn row_28_fsm_takes_a_connection_under_way_unless_handshakes_are_required() {
    let mut trace = Trace::new(fsm());
    trace.send(C.data(1001, "abc").ack(5001)).wait_until(1_000).finish();
    trace.expect(&["midstream finish c2s=abc s2c="]);
    let mut trace = Trace::new(Config { require_handshake: true, ..fsm() });
    trace.send(C.data(1001, "abc").ack(5001)).finish().expect(&[]);
}

#[test]
fn row_28_options_refuse_more_than_the_mss() {
    let mut trace = Trace::new(options());
    trace.send(C.syn(1000).mss(1460)).send(S.syn(5000).ack(1001).mss(4));
    trace.send(C.data(1001, "abcd")).send(C.data(1005, "efghi")).finish();
    trace.expect(&["handshake finish c2s=abcd s2c="]);
    let stats = trace.reassembler().stats();
    assert_eq!((stats.refused_options, stats.strict, stats.imbalance()), (1, 5, 0));
}

#[test]
fn row_28_options_refuse_what_goes_beyond_the_window() {
    let mut trace = Trace::new(options());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(6)).send(C.ack(1001, 5001));
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1005, "efg").ack(5001)).send(C.data(1005, "ef").ack(5001));
    trace.finish().expect(&["handshake finish c2s=abcdef s2c="]);
    assert_eq!(trace.reassembler().stats().refused_options, 1);
}

#[test]
fn row_28_neither_is_on_by_default() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).mss(1460)).send(C.data(1001, "early"));
    trace.send(S.syn(5000).ack(1001).mss(2)).send(C.data(1006, " and long").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=early and long s2c="]);
    assert_eq!(trace.reassembler().stats().strict, 0);
}
