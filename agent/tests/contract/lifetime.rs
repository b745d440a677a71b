//! Rows 25 and 26: what time does, and what it must not.

use agent::reassembly::{Config, Direction};

use crate::trace::{C, S, Trace};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

#[test]
fn row_25_time_never_decreases() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001).at(10_000)).send_untimed(C.data(1007, "ghi").ack(5001).at(9_000));
    // The hole opened at 10 s, whatever that frame said.
    trace.wait_until(39_900).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(40_100).expect(&["handshake open c2s=abc[3 timeout]ghi s2c="]);
}

#[test]
fn row_25_a_step_forward_lets_nothing_expire() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001).at(10));
    trace.send_untimed(C.data(1010, "jkl").ack(5001).at(1_000 * HOUR)).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(1_000 * HOUR + 10_000).expect(&["handshake open c2s=abc s2c="]);
    trace.send(C.data(1004, "def").ack(5001)).expect(&["handshake open c2s=abcdefghijkl s2c="]);
}

#[test]
fn row_25_a_step_leaves_timers_their_remaining_time() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001));
    // 10 of the 30 seconds are over when the clock steps.
    trace.send(S.data(5001, "x").ack(1001).at(10_000)).send_untimed(S.data(5002, "y").at(500 * HOUR));
    trace.wait_until(500 * HOUR + 100_000).finish();
    trace.expect(&["handshake finish c2s=abc[3 close]ghi s2c=xy"]);
}

#[test]
fn row_25_a_step_back_lets_time_go_on() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000).at(100 * HOUR)).send(S.syn(5000).ack(1001)).send(C.data(1001, "abc").ack(5001));
    trace.send_untimed(C.data(1007, "ghi").ack(5001).at(10)).expect(&["handshake open c2s=abc s2c="]);
    trace.send_untimed(C.data(1010, "jkl").ack(5001).at(29_000)).expect(&["handshake open c2s=abc s2c="]);
    trace.send_untimed(C.data(1004, "def").ack(5001).at(29_500)).expect(&["handshake open c2s=abcdefghijkl s2c="]);
}

#[test]
fn row_25_timers_fire_on_a_silent_link() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1004, "one segment behind a hole").ack(5001)).wait_until(3 * HOUR);
    trace.expect(&["handshake idle c2s=[3 timeout]one segment behind a hole s2c="]);
    trace.wait_until(4 * HOUR);
    assert_eq!(trace.reassembler().poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn row_25_a_late_tick_does_all_that_is_due() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1004, "x").ack(5001));
    trace.send(C.syn(1).port(2).at(60 * MINUTE)).finish();
    trace.expect(&["handshake finish c2s=[3 timeout]x s2c=", "handshake finish c2s= s2c="]);
}

#[test]
fn row_26_an_incomplete_handshake() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).wait_until(59_000).expect(&["handshake open c2s= s2c="]);
    trace.wait_until(61_000).expect(&["handshake idle c2s= s2c="]);
}

#[test]
fn row_26_a_retransmitted_syn_starts_the_minute_again() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.syn(1000).at(50_000)).wait_until(109_000).expect(&["handshake open c2s= s2c="]);
    trace.wait_until(111_000).expect(&["handshake idle c2s= s2c="]);
}

#[test]
fn row_26_one_fin_seen() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").and_fin().ack(5001)).send(S.ack(5001, 1005)).wait_until(299_000);
    trace.expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(301_000).expect(&["handshake idle c2s=abc s2c="]);
}

#[test]
fn row_26_established() {
    let mut trace = Trace::established(Config::default());
    trace.wait_until(124 * MINUTE).expect(&["handshake open c2s= s2c="]);
    trace.wait_until(126 * MINUTE).expect(&["handshake idle c2s= s2c="]);
}

#[test]
fn row_26_picked_up() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).wait_until(124 * MINUTE).expect(&["midstream open c2s=abc s2c="]);
    trace.wait_until(126 * MINUTE).expect(&["midstream idle c2s=abc s2c="]);
}

#[test]
fn row_26_any_segment_starts_the_time_again() {
    let mut trace = Trace::established(Config::default());
    trace.send(S.ack(5001, 1001).at(100 * MINUTE)).wait_until(224 * MINUTE).expect(&["handshake open c2s= s2c="]);
    trace.wait_until(226 * MINUTE).expect(&["handshake idle c2s= s2c="]);
}

#[test]
fn row_26_a_connection_that_comes_back_names_the_one_it_continues() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).wait_until(126 * MINUTE);
    trace.send(C.data(1004, "def").ack(5001).at(127 * MINUTE)).finish();
    trace.expect(&["handshake idle c2s=abc s2c=", "midstream finish c2s=def s2c="]);
    assert_eq!(trace.continues(1), Some(trace.serial(0)));
    assert_eq!(trace.continues(0), None);
}

#[test]
fn row_26_a_connection_continues_the_last_one_and_none_before_it() {
    let mut trace = Trace::established(Config::default());
    trace.wait_until(126 * MINUTE).send(C.syn(9000).at(127 * MINUTE)).send(S.syn(7000).ack(9001));
    trace.send(C.fin(9001).ack(7001)).send(S.fin(7001).ack(9002)).wait_until(130 * MINUTE);
    trace.send(C.data(9500, "abc").ack(7500).at(131 * MINUTE)).finish();
    trace.expect(&["handshake idle c2s= s2c=", "handshake fin c2s= s2c=", "midstream finish c2s=abc s2c="]);
    assert_eq!(trace.continues(2), None);
}

#[test]
fn row_26_changed_connections_are_reported_while_they_last() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001).at(10)).wait_until(4 * MINUTE);
    assert_eq!(trace.updates(), 0);
    trace.wait_until(6 * MINUTE);
    assert_eq!(trace.updates(), 1);
    trace.wait_until(60 * MINUTE);
    assert_eq!(trace.updates(), 1, "nothing changed since");
}

#[test]
fn row_26_the_closing_record_counts_every_segment() {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).finish();
    let segments = Direction::BOTH.map(|direction| trace.summary(0, direction).segments);
    assert_eq!(segments, [3, 2]);
}

#[test]
fn row_26_an_answered_handshake_that_nobody_completes() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001)).send(S.syn(5000).ack(1001).at(3_000));
    trace.wait_until(62_000).expect(&["handshake open c2s= s2c="]);
    trace.wait_until(64_000).expect(&["handshake idle c2s= s2c="]);
}

#[test]
fn row_26_a_handshake_of_which_one_side_is_seen_is_complete_when_it_goes_on() {
    for halves in [[C.syn(1000), C.ack(1001, 5001)], [S.syn(5000).ack(1001), S.data(5001, "hello").ack(1001)]] {
        let mut trace = Trace::new(Config::default());
        for half in halves {
            trace.send(half);
        }
        trace.wait_until(124 * MINUTE);
        assert_eq!(trace.reassembler().open_connections(), 1);
        trace.wait_until(126 * MINUTE);
        assert_eq!(trace.reassembler().open_connections(), 0);
    }
}
