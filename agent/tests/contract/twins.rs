//! Row 29: one frame seen twice, and what else tells connections apart than their endpoints.

use agent::reassembly::{Config, Direction::ClientToServer};

use crate::trace::{C, S, Trace};

/// Retransmitted and out of order, as the stream has them; frames captured twice.
fn figures(trace: &Trace) -> (u64, u64, u64) {
    let numbers = trace.summary(0, ClientToServer);
    (numbers.retransmitted, numbers.out_of_order, trace.reassembler().stats().duplicate_frames)
}

#[test]
fn row_29_a_frame_seen_twice_is_no_retransmission() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ip_id(7)).send(C.data(1001, "abc").ip_id(7).at(10)).finish();
    trace.expect(&["handshake finish c2s=abc s2c="]);
    assert_eq!(figures(&trace), (0, 0, 1));
}

#[test]
fn row_29_later_or_with_another_identification_it_was_sent_again() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ip_id(7)).send(C.data(1001, "abc").ip_id(8));
    trace.send(C.data(1001, "abc").ip_id(8).at(12)).finish();
    assert_eq!(figures(&trace), (2, 0, 0));
}

#[test]
fn row_29_without_an_identification_nothing_tells() {
    let mut trace = Trace::established(Config::default());
    for _ in 0..3 {
        trace.send(C.data(1001, "abc"));
    }
    for _ in 0..2 {
        trace.send(C.data(1001, "abc").ip_id(0));
    }
    trace.finish();
    assert_eq!(figures(&trace), (4, 0, 0));
}

#[test]
fn row_29_behind_a_hole_it_is_out_of_order_once() {
    let mut trace = Trace::established(Config::default());
    for _ in 0..2 {
        trace.send(C.data(1004, "def").ip_id(2));
    }
    trace.send(C.data(1001, "abc").ip_id(1)).send(C.data(1001, "abc").ip_id(1)).finish();
    trace.expect(&["handshake finish c2s=abcdef s2c="]);
    assert_eq!(figures(&trace), (0, 1, 2));
}

#[test]
fn row_29_the_length_has_to_be_the_same() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ip_id(7)).send(C.data(1001, "abcd").ip_id(7)).send(C.data(1001, "ab").ip_id(7));
    trace.finish().expect(&["handshake finish c2s=abcd s2c="]);
    assert_eq!(figures(&trace), (1, 0, 0));
}

#[test]
fn row_29_every_frame_of_a_burst_seen_twice() {
    let mut trace = Trace::established(Config::default());
    for copy in 0..2 {
        for n in 0..500_u32 {
            trace.send(C.data(1001 + n, "x").ip_id(1 + n as u16).at(copy * 5));
        }
    }
    trace.finish();
    assert_eq!(figures(&trace), (0, 0, 500));
}

#[test]
fn row_29_one_key_across_interfaces_and_vlans() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").interface(1).vlan(10)).send(C.data(1004, "def").interface(2).vlan(11));
    trace.expect(&["handshake open c2s=abcdef s2c="]);
}

#[test]
fn row_29_another_interface_is_another_connection_where_wanted() {
    let mut trace = Trace::new(Config { interface_key: true, ..Config::default() });
    for interface in [0, 1] {
        trace.send(C.syn(1000).interface(interface)).send(S.syn(5000).ack(1001).interface(interface));
        trace.send(C.data(1001, "abc").vlan(3).interface(interface)).send(C.fin(1004).interface(interface));
    }
    let open = "handshake open c2s=abc s2c=";
    trace.expect(&[open, open]);
    // What lingers is told apart as well.
    trace.send(S.fin(5001).ack(1005).interface(0)).send(S.data(5001, "more").ack(1005).interface(1));
    trace.expect(&["handshake fin c2s=abc s2c=", "handshake open c2s=abc s2c=more"]);
}

#[test]
fn row_29_another_vlan_is_another_connection_where_wanted() {
    let mut trace = Trace::new(Config { vlan_key: true, ..Config::default() });
    trace.send(C.syn(1000)).send(C.syn(1000).vlan(0)).send(C.syn(1000).vlan(7).interface(1));
    trace.send(C.data(1001, "a")).send(C.data(1001, "b").vlan(0)).send(C.data(1001, "c").vlan(7));
    trace.expect(&["handshake open c2s=a s2c=", "handshake open c2s=b s2c=", "handshake open c2s=c s2c="]);
}
