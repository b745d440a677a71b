//! Row 11: a SYN on a known pair of endpoints.

use agent::reassembly::Config;

use crate::trace::{C, S, Trace};

fn talking() -> Trace {
    let mut trace = Trace::established(Config::default());
    trace.send(C.data(1001, "old").ack(5001)).send(S.data(5001, "yes").ack(1004));
    trace
}

#[test]
fn row_11_after_a_close_a_new_connection_at_once() {
    let mut trace = talking();
    trace.send(C.fin(1004).ack(5004)).send(S.fin(5004).ack(1005)).send(C.ack(1005, 5005));
    trace.send(C.syn(700_000).at(100)).send(S.syn(900_000).ack(700_001)).send(C.data(700_001, "new").ack(900_001));
    trace.expect(&["handshake fin c2s=old s2c=yes", "handshake open c2s=new s2c="]);
}

#[test]
fn row_11_after_a_reset_a_new_connection_at_once() {
    let mut trace = talking();
    // Within the hold after the RST.
    trace.send(C.rst(1004).at(10)).send(C.syn(700_000).at(20)).send(C.data(700_001, "new").at(30));
    trace.expect(&["handshake rst c2s=old s2c=yes", "handshake open c2s=new s2c="]);
}

#[test]
fn row_11_confirmed_by_its_syn_ack() {
    let mut trace = talking();
    trace.send(C.syn(700_000).at(100)).expect(&["handshake open c2s=old s2c=yes"]);
    trace.send(S.syn(900_000).ack(700_001)).send(C.data(700_001, "new").ack(900_001));
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake open c2s=new s2c="]);
}

#[test]
fn row_11_what_the_confirmed_syn_carried_is_not_lost() {
    let mut trace = talking();
    trace.send(C.syn(700_000).with("new ").at(100)).send(S.syn(900_000).ack(700_005));
    trace.send(C.data(700_005, "one").ack(900_001)).finish();
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=new one s2c="]);
}

#[test]
fn row_11_what_the_confirmed_syn_carried_beyond_the_snaplen() {
    let mut trace = talking();
    trace.send(C.syn(700_000).with("ne").missing(2).at(100)).send(S.syn(900_000).ack(700_005));
    trace.send(C.data(700_005, "one").ack(900_001)).finish();
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=ne[2 snaplen]one s2c="]);
}

#[test]
fn row_11_the_syn_again_without_its_data() {
    let mut trace = talking();
    trace.send(C.syn(700_000).with("new").at(100)).send(C.syn(700_000).with("bad").at(200));
    trace.send(C.syn(700_000).at(1_100)).send(S.syn(900_000).ack(700_001));
    trace.finish().expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=new s2c="]);
}

#[test]
fn row_11_a_syn_before_a_reset_has_to_come_again() {
    let mut trace = talking();
    trace.send(C.syn(700_000).at(100)).send(C.rst(1004).at(200)).wait_until(5_000);
    trace.expect(&["handshake rst c2s=old s2c=yes"]);
}

#[test]
fn row_11_a_syn_before_the_end_of_a_connection_that_still_waits() {
    let mut trace = talking();
    // 1005 was lost for us: the connection is kept for the hold.
    trace.send(S.data(5004, "no").ack(1005)).send(C.fin(1005).ack(5006)).send(S.fin(5006).ack(1006));
    trace.send(C.syn(700_000).with("new").at(100)).wait_until(2_000).send(S.syn(900_000).ack(700_004)).finish();
    trace.expect(&["handshake fin c2s=old{1 not-captured} s2c=yesno", "handshake finish c2s=new s2c="]);
}

#[test]
fn row_11_a_simultaneous_open_of_which_the_first_syn_is_confirmed() {
    let mut trace = talking();
    trace.send(C.syn(700_000).at(100)).send(S.syn(900_000).with("hi")).send(S.syn(900_000).with("hi").ack(700_001));
    trace.finish().expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s= s2c=hi"]);
}

#[test]
fn row_11_a_simultaneous_open() {
    let mut trace = talking();
    trace.send(C.syn(700_000).at(100)).send(S.syn(900_000)).send(S.syn(900_000).ack(700_001));
    trace.send(C.syn(700_000).ack(900_001)).send(C.data(700_001, "new").ack(900_001)).finish();
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=new s2c="]);
}

#[test]
fn row_11_a_simultaneous_open_with_data_whose_first_segment_is_missing() {
    let mut trace = talking();
    trace.send(C.syn(700_000).at(100)).send(S.syn(900_000).with("hi")).send(S.syn(900_000).ack(700_001).with("hi"));
    trace.send(C.syn(700_000).ack(900_003)).send(C.data(700_004, "new").ack(900_003)).finish();
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=[3 close]new s2c=hi"]);
}

#[test]
fn row_11_one_sided_confirmed_by_payload() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "old").ack(5001)).send(C.syn(700_000).at(100));
    trace.send(C.data(700_001, "new").ack(900_001).at(110));
    trace.expect(&["handshake reused c2s=old s2c=", "handshake open c2s=new s2c="]);
}

#[test]
fn row_11_one_sided_behind_the_ack_of_the_handshake() {
    // The bare ACK at ISN + 1 is not of the old sequence space.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "old").ack(5001)).send(C.syn(2_000_000_000).at(100));
    trace.send(C.ack(2_000_000_001, 900_001)).send(C.data(2_000_000_001, "new").ack(900_001));
    trace.send(C.data(2_000_000_004, "er").ack(900_001)).finish();
    trace.expect(&["handshake reused c2s=old s2c=", "handshake finish c2s=newer s2c="]);
}

#[test]
fn row_11_one_sided_with_an_isn_close_ahead_of_the_old_space() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "old").ack(5001)).send(C.syn(250_000).at(1000));
    trace.send(C.ack(250_001, 900_001)).send(C.data(250_001, "new").ack(900_001)).finish();
    trace.expect(&["handshake reused c2s=old s2c=", "handshake finish c2s=new s2c="]);
}

#[test]
fn row_11_one_sided_but_the_old_connection_lives() {
    // Traffic of the old sequence space after the SYN: payload that happens to lie at ISN + 1 confirms nothing.
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "old").ack(5001)).send(C.syn(1006).at(100));
    trace.send(C.data(1004, "abc").ack(5001)).send(C.data(1007, "def").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=oldabcdef s2c="]);
}

#[test]
fn row_11_a_forged_syn_changes_nothing() {
    let mut trace = talking();
    // The challenge ACK (RFC 5961 section 4) that a receiver answers with.
    trace.send(C.syn(700_000).at(100)).send(S.ack(5004, 1004));
    trace.send(C.data(1004, " more").ack(5004)).send(S.ack(5004, 1009)).finish();
    trace.expect(&["handshake finish c2s=old more s2c=yes"]);
}

#[test]
fn row_11_the_same_syn_again_splits_nothing() {
    let mut trace = talking();
    trace.send(C.syn(1000).at(10)).send(S.syn(5000).ack(1001).at(20)).send(C.data(1004, " more").ack(5004)).finish();
    trace.expect(&["handshake finish c2s=old more s2c=yes"]);
}

#[test]
fn row_11_a_reordered_syn_starts_no_second_connection() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.syn(1000).at(1)).send(S.syn(5000).ack(1001).at(2));
    trace.send(C.data(1004, "def").ack(5001).at(3)).finish();
    trace.expect(&["handshake finish c2s=abcdef s2c="]);
}

#[test]
fn row_11_a_reordered_syn_ack_starts_no_second_connection() {
    let mut trace = Trace::new(Config::default());
    trace.send(S.syn(5000).ack(1001)).send(C.syn(1000).at(1)).send(C.data(1001, "abc").ack(5001));
    trace.send(S.data(5001, "yes").ack(1004)).finish().expect(&["handshake finish c2s=abc s2c=yes"]);
    assert_eq!(trace.client_port(0), 40_000);
}

#[test]
fn row_11_a_refused_attempt_and_the_next_one() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(S.rst(0).ack(1001)).send(C.syn(2000).at(50)).send(S.syn(5000).ack(2001));
    trace.send(C.data(2001, "abc").ack(5001));
    trace.expect(&["handshake rst c2s= s2c=", "handshake open c2s=abc s2c="]);
}

#[test]
fn row_11_a_thousand_reuses() {
    let mut trace = Trace::new(Config::default());
    let mut lines = Vec::new();
    for n in 0..1_000_u32 {
        let isn = n.wrapping_mul(0x0123_4567);
        trace.send(C.syn(isn)).send(S.syn(!isn).ack(isn.wrapping_add(1)));
        trace.send(C.data(isn.wrapping_add(1), "x").ack((!isn).wrapping_add(1)));
        lines.push("handshake reused c2s=x s2c=");
    }
    *lines.last_mut().unwrap() = "handshake finish c2s=x s2c=";
    trace.finish().expect(&lines);
}

#[test]
fn row_11_a_new_connection_after_nothing_but_probes() {
    // Of the old connection only a keep-alive and its answer are known: the SYN is still not the beginning of that.
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1000, "\0").without_psh().ack(5001)).send(S.ack(5001, 1001));
    trace.send(C.syn(700_000).at(1_000)).send(S.syn(900_000).ack(700_001)).send(C.data(700_001, "new").ack(900_001));
    trace.expect(&["midstream reused c2s= s2c=", "handshake open c2s=new s2c="]);
}

#[test]
fn row_11_a_new_connection_after_a_download_was_picked_up() {
    // Of the old client only bare ACKs were seen.
    let mut trace = Trace::new(Config::default());
    trace.send(S.data(5001, "old").ack(1001)).send(C.ack(1001, 5004)).wait_until(1_000);
    trace.send(C.syn(700_000)).send(S.syn(900_000).ack(700_001)).send(C.data(700_001, "new").ack(900_001)).finish();
    trace.expect(&["midstream reused c2s=old s2c=", "handshake finish c2s=new s2c="]);
}

#[test]
fn row_11_its_syn_ack_came_first() {
    // The tap saw the answer before the SYN that it answers.
    let mut trace = talking();
    trace.send(S.syn(900_000).ack(700_001).at(100)).send(C.syn(700_000).at(101));
    trace.send(S.data(900_001, "hello").ack(700_001)).send(C.data(700_001, "new").ack(900_006)).finish();
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=new s2c=hello"]);
}

#[test]
fn row_11_one_sided_with_a_new_sequence_space_near_the_old_one() {
    // The bare ACK at ISN + 1 could be of either; payload there settles it.
    for isn in [700_000, 1000_u32.wrapping_sub(1 << 29)] {
        let mut trace = Trace::new(Config::default());
        trace.send(C.syn(1000)).send(C.data(1001, "old").ack(5001)).send(C.syn(isn).at(100));
        trace.send(C.ack(isn.wrapping_add(1), 900_001)).send(C.data(isn.wrapping_add(1), "new").ack(900_001)).finish();
        trace.expect(&["handshake reused c2s=old s2c=", "handshake finish c2s=new s2c="]);
    }
}

#[test]
fn row_11_one_sided_confirmed_by_payload_that_was_cut_off() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "").missing(3).ack(5001)).send(C.syn(700_000).at(100));
    trace.send(C.data(700_001, "").missing(4).ack(900_001)).finish();
    trace.expect(&["handshake reused c2s={3 snaplen} s2c=", "handshake finish c2s={4 snaplen} s2c="]);
}

#[test]
fn row_11_confirmed_by_the_ack_of_what_its_syn_ack_carried() {
    // Its SYN was not captured.
    let mut trace = talking();
    trace.send(S.syn(900_000).ack(700_001).with("hello").at(100)).send(C.ack(700_001, 900_006));
    trace.send(C.data(700_001, "new").ack(900_006)).finish();
    trace.expect(&["handshake reused c2s=old s2c=yes", "handshake finish c2s=new s2c=hello"]);
}

/// Both sides were picked up behind their first octets.
fn picked_up() -> Trace {
    let mut trace = Trace::new(Config::default());
    trace.send(C.data(1004, "old").ack(5004)).send(S.data(5004, "yes").ack(1007)).wait_until(1_000);
    trace
}

#[test]
fn row_11_an_old_syn_ack_splits_nothing() {
    let mut trace = picked_up();
    trace.send(S.syn(5000).ack(1001)).send(C.ack(1001, 5001)).send(C.data(1007, " more").ack(5007)).finish();
    trace.expect(&["midstream finish c2s=old more s2c=yes"]);
}

#[test]
fn row_11_an_old_syn_ack_behind_a_reset_opens_nothing() {
    let mut trace = picked_up();
    trace.send(C.rst(1007)).send(S.syn(5000).ack(1001)).wait_until(5_000).expect(&["midstream rst c2s=old s2c=yes"]);
}

#[test]
fn row_11_a_syn_ack_that_answers_another_syn_is_not_old() {
    let mut trace = picked_up();
    trace.send(S.syn(5000).ack(700_001)).send(C.ack(700_001, 5001)).send(C.data(700_001, "new").ack(5001)).finish();
    trace.expect(&["midstream reused c2s=old s2c=yes", "handshake finish c2s=new s2c="]);
}

#[test]
fn row_11_the_syn_ack_behind_the_data_of_its_sender() {
    // The queue is full at once, and the stream begins without it.
    let mut trace = Trace::new(Config { max_stream_chunks: 1, ..Config::default() });
    trace.send(C.syn(1000)).send(S.data(5004, "pong").ack(1001)).send(S.data(5010, "end").ack(1001));
    trace.send(S.syn(5000).ack(1001)).send(C.ack(1001, 5001)).send(C.data(1001, "ping").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=ping s2c=pong[2 close]end"]);
}

#[test]
fn row_11_the_first_syn_of_a_side_behind_an_rst_is_of_another_connection() {
    let mut trace = Trace::new(Config::default());
    trace.send(C.syn(1000)).send(C.data(1001, "old").ack(5001)).send(C.rst(1004).at(10));
    trace.send(S.syn(900_000_000).with("new").at(20));
    trace.expect(&["handshake rst c2s=old s2c=", "handshake open c2s=new s2c="]);
}

#[test]
fn row_11_the_syn_ack_behind_the_data_of_its_sender_that_took_some_of_the_syns() {
    let mut trace = Trace::new(Config { max_stream_chunks: 1, ..Config::default() });
    trace.send(C.syn(1000).with("ping")).send(S.data(5004, "pong").ack(1003)).send(S.data(5010, "end").ack(1003));
    trace.send(S.syn(5000).ack(1003)).send(C.ack(1005, 5001)).send(C.data(1005, "!").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=ping! s2c=pong[2 close]end"]);
}
