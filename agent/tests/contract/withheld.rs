//! Row 27: bare ACKs that a kernel withholds. That they make no difference, all other rows' tests show as well: see
//! [`Trace`](crate::trace::Trace). Here is what only a kernel knows.

use agent::reassembly::{
    Config,
    Direction::{ClientToServer, ServerToClient},
};

use crate::{
    kernel::Orders,
    trace::{C, S, Trace},
};

fn live() -> Trace {
    Trace::live(Orders { acks: true, ..Orders::default() }, Config::default()).shake_hands()
}

#[test]
fn row_27_bare_acks_are_withheld_and_counted() {
    let mut trace = live();
    for n in 0..10 {
        trace.send(C.data(1001 + n, "x").ack(5001)).send(S.ack(5001, 1002 + n));
    }
    assert_eq!(trace.reassembler().stats().segments, 12, "of 23");
    trace.finish().expect(&["handshake finish c2s=xxxxxxxxxx s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).segments, 12);
    assert_eq!(trace.summary(0, ServerToClient).segments, 11);
}

#[test]
fn row_27_a_hole_is_asked_about_when_its_time_has_come() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(S.ack(5001, 1010).at(10_500));
    trace.wait_until(11_400).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(11_600).expect(&["handshake open c2s=abc[3 not-captured]ghi s2c="]);
}

#[test]
fn row_27_a_duplicate_ack_keeps_a_hole_waiting() {
    // It covers nothing, and says that the peer lives and has nothing behind the hole.
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004)).send(C.data(1007, "ghi").ack(5001).at(100));
    trace.send(S.ack(5001, 1004).at(200)).wait_until(600_000).expect(&["handshake open c2s=abc s2c="]);
    trace.send(C.data(1004, "def").ack(5001)).expect(&["handshake open c2s=abcdefghi s2c="]);
}

#[test]
fn row_27_what_an_rst_ignored_is_known_before_the_connection_closes() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(S.rst(5001).at(100)).send(C.data(1004, "def").ack(5001).at(200));
    trace.send(S.ack(5001, 1007).at(300)).wait_until(5_000).expect(&["handshake open c2s=abcdef s2c="]);
    assert_eq!(trace.reassembler().stats().reopened, 1);
}

#[test]
fn row_27_a_far_segment_is_believed_once_it_was_acknowledged() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(0x1000_0000, "far").ack(5001));
    trace.send(S.ack(5001, 0x1000_0003).at(100)).wait_until(3_000);
    assert_eq!(trace.reassembler().stats().delivered, 6);
}

#[test]
fn row_20_what_was_cut_off_before_a_far_segment() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").missing(4).ack(5001)).send(C.data(0x1000_0000, "far").ack(5001));
    trace.send(S.ack(5001, 0x1000_0003).at(100)).wait_until(3_000);
    trace.expect(&["handshake open c2s=abc[4 snaplen][268434448 not-captured]far s2c="]);
}

#[test]
fn row_27_each_withheld_ack_may_have_gone_a_window_further() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001));
    for n in 0..4 {
        trace.lose(C.data(1004 + n * 60_000, [b'-'; 60_000]).ack(5001)).send(S.ack(5001, 61_004 + n * 60_000));
    }
    trace.send(C.data(241_004, "xyz").ack(5001)).wait_until(900).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(1_100).expect(&["handshake open c2s=abc[240000 not-captured]xyz s2c="]);
}

#[test]
fn row_27_what_withheld_acks_made_room_for_waits_like_any_other() {
    let mut trace = Trace::live(Orders { acks: true, ..Orders::default() }, Config::default());
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(8)).send(C.ack(1001, 5001));
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(C.data(1018, "st").ack(5001));
    trace.send(S.ack(5001, 1014).window(8)).send(S.ack(5001, 1020).window(8)).send(C.data(1014, "op").ack(5001));
    trace.wait_until(900).expect(&["handshake open c2s=abc s2c="]);
    trace
        .wait_until(1_100)
        .expect(&["handshake open c2s=abc[3 not-captured]ghi[4 not-captured]op[2 not-captured]st s2c="]);
}

#[test]
fn row_27_what_is_far_from_each_of_many_withheld_acks_is_far_from_all() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1_000_000, "far").ack(5001));
    for n in 0..40 {
        trace.send(C.data(1004 + n, "x").ack(5001));
    }
    for n in 0..40 {
        trace.send(S.ack(5001, 1005 + n));
    }
    trace.send(C.data(1044, "y").ack(5001)).finish();
    let octets = format!("abc{}y", "x".repeat(40));
    trace.expect(&[&format!("handshake finish c2s={octets} s2c=")]);
    assert_eq!(trace.reassembler().stats().implausible, 3);
}

#[test]
fn row_27_so_may_each_that_a_full_ring_has_refused() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001));
    for n in 1..=3 {
        trace.lose(S.data(5000 + n, "x").ack(1004 + n * 60_000));
    }
    trace.send(S.data(5004, "y").ack(241_004));
    trace.send(C.data(241_004, "xyz").ack(5001)).wait_until(900).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(1_100).expect(&["handshake open c2s=abc[240000 not-captured]xyz s2c="]);
}

#[test]
fn row_27_an_ack_that_a_full_ring_has_refused_is_known_when_what_it_overtook_says_less() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001));
    trace.lose(S.data(5002, "y").ack(1010)).send(S.data(5001, "x").ack(1004));
    trace.wait_until(2_000).expect(&["handshake open c2s=abc[3 not-captured]ghi s2c=x"]);
}

#[test]
fn row_13_an_ack_that_is_ahead_of_the_end_of_a_pickup() {
    let mut trace = Trace::live(Orders { acks: true, ..Orders::default() }, Config::default());
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).lose(S.ack(5001, 1010).at(150));
    trace.wait_until(1_140).expect(&["midstream open c2s=abc s2c="]);
    trace.wait_until(1_180).expect(&["midstream open c2s=abc[3 not-captured]ghi s2c="]);
}

#[test]
fn row_26_silence_is_none_when_the_ring_has_refused_what_came_after_the_accounts_were_forgotten() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).kernel().forget();
    trace.lose(C.data(1004, "x").ack(5001).at(3_600_000));
    trace.wait_until(3_600_000 + 7_400_000).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(3_600_000 + 7_501_000).expect(&["handshake idle c2s=abc s2c="]);
}

#[test]
fn row_27_silence_is_what_the_kernel_has_not_heard() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001));
    for hour in 1..10 {
        trace.send(S.ack(5001, 1004).at(hour * 3_600_000));
    }
    trace.wait_until(9 * 3_600_000 + 7_400_000).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(9 * 3_600_000 + 7_501_000).expect(&["handshake idle c2s=abc s2c="]);
}

#[test]
fn row_27_the_end_of_a_handshake_is_known_without_its_last_segment() {
    let mut trace = live();
    trace.wait_until(600_000).expect(&["handshake open c2s= s2c="]);
}

#[test]
fn row_27_accounts_that_were_forgotten_begin_again() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(S.ack(5001, 1004));
    trace.send(C.data(1004, "de").ack(5001)).kernel().forget();
    trace.send(S.ack(5001, 1006)).send(C.data(1006, "fg").ack(5001)).send(S.ack(5001, 1008)).finish();
    trace.expect(&["handshake finish c2s=abcdefg s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).segments, 5);
    assert_eq!(trace.summary(0, ServerToClient).segments, 4);
}

#[test]
fn row_27_a_segment_that_accounts_begin_anew_with_counts_once_if_they_were_asked_before() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).kernel().forget();
    trace.send(S.data(5001, "x").ack(1004)).kernel().forget();
    trace.lose(C.data(1004, "def").ack(5002)).wait_until(1_500).kernel().forget();
    trace.send(C.data(1004, "def").ack(5002)).finish().expect(&["handshake finish c2s=abcdefghi s2c=x"]);
    assert_eq!(trace.summary(0, ClientToServer).segments, 5);
    assert_eq!(trace.summary(0, ServerToClient).segments, 2);
}

#[test]
fn row_27_what_a_full_ring_has_refused_before_an_rst_counts_with_that() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(S.rst(5001)).lose(S.rst(5001)).send(S.rst(5001)).kernel().forget();
    trace.wait_until(2_000).expect(&["handshake rst c2s=abc s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).segments, 3);
    assert_eq!(trace.summary(0, ServerToClient).segments, 4);
}

#[test]
fn row_27_accounts_that_are_older_than_the_connection() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).wait_until(7_600_000);
    trace.send(C.data(1004, "def").ack(5001)).send(S.ack(5001, 1007)).finish();
    trace.expect(&["handshake idle c2s=abc s2c=", "midstream finish c2s=def s2c="]);
    assert_eq!(trace.summary(1, ClientToServer).segments, 1);
    assert_eq!(trace.summary(1, ServerToClient).segments, 1);
}

#[test]
fn row_27_a_stream_says_what_a_full_ring_has_cost_it() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).lose(C.data(1004, "defg").ack(5001)).send(C.data(1008, "hi").ack(5001));
    trace.send(S.data(5001, "ok").ack(1010)).wait_until(2_000).finish();
    trace.expect(&["handshake finish c2s=abc[4 not-captured]hi s2c=ok"]);
    assert_eq!(trace.summary(0, ClientToServer).ring_full, 4);
    assert_eq!(trace.summary(0, ServerToClient).ring_full, 0);
    assert_eq!(trace.reassembler().stats().ring_full, 4);
}

#[test]
fn row_27_what_a_full_ring_cost_at_the_end_is_known_at_the_end() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).lose(C.data(1004, "defg").ack(5001)).send(S.ack(5001, 1008)).finish();
    trace.expect(&["handshake finish c2s=abc{3 ring-full} s2c="]);
}

#[test]
fn row_27_what_accounts_that_begin_again_have_lost_counts() {
    let mut trace = live();
    for n in 0..100 {
        trace.send(C.data(1001 + n, "x").ack(5001));
    }
    trace.lose(C.data(1101, "a").ack(5001)).send(C.data(1102, "b").ack(5001)).kernel().forget();
    trace.lose(C.data(1103, "cd").ack(5001)).lose(S.data(5001, "ok").ack(1105)).send(C.data(1105, "e").ack(5003));
    trace.send(S.data(5003, "so").ack(1106)).finish();
    assert_eq!(trace.summary(0, ClientToServer).segments, 106);
    assert_eq!(trace.summary(0, ServerToClient).segments, 3);
    assert_eq!(trace.summary(0, ClientToServer).ring_full, 3);
    assert_eq!(trace.summary(0, ServerToClient).ring_full, 2);
}

#[test]
fn row_10_what_its_sender_acknowledged_before_an_rst_that_does_not_say_so() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(S.ack(5001, 1010));
    trace.send(S.rst(5001).at(100)).send(C.syn(90_000).at(200)).send(S.syn(70_000).ack(90_001)).finish();
    trace.expect(&["handshake rst c2s=abc[3 not-captured]ghi s2c=", "handshake finish c2s= s2c="]);
}

#[test]
fn row_06_what_comes_while_a_gap_is_due_is_out_of_order() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(S.ack(5001, 1010));
    trace.send(C.data(1010, "jkl").ack(5001).at(1_001)).finish();
    trace.expect(&["handshake finish c2s=abc[3 not-captured]ghijkl s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).out_of_order, 2);
}

#[test]
fn row_21_what_lies_in_the_ring_is_not_far_because_the_kernel_was_asked_what_comes_after() {
    let mut trace = Trace::live(Orders { acks: true, ..Orders::default() }, Config::default());
    trace.send(C.syn(1000).scale(14)).send(S.syn(5000).ack(1001).scale(14)).send(C.data(1001, "abc").ack(5001));
    trace.send(S.data(5001, "x").ack(1004)).send(C.data(1007, "ghi").ack(5002)).fill(C.data(1010, "jkl").ack(5002));
    for (at, number) in [(500, 900_000_000), (1_100, 1_800_000_000)] {
        trace.lose(C.data(number - 1, "y").ack(5002).at(at)).send(S.ack(5002, number).at(at));
    }
    trace.wait_until(2_000);
    trace.expect(&["handshake open c2s=abc[3 not-captured]ghi s2c=x"]).drain();
    trace.expect(&["handshake open c2s=abc[3 not-captured]ghijkl s2c=x"]);
}

#[test]
fn row_27_what_was_counted_ahead_of_the_ring_counts_once() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1005, "e").ack(5001));
    for n in 0..100 {
        trace.fill(C.data(1006 + n, "x").ack(5001));
    }
    // Of the hole the kernel is asked.
    trace.wait_until(2_000).drain().finish();
    assert_eq!(trace.summary(0, ClientToServer).segments, 2 + 2 + 100);
}

#[test]
fn row_27_so_does_what_accounts_that_began_anew_have_counted_ahead_of_it() {
    let mut trace = live();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1005, "e").ack(5001)).kernel().forget();
    for n in 0..10 {
        trace.fill(C.data(1006 + n, "x").ack(5001 + n)).fill(S.data(5001 + n, "y").ack(1007 + n));
    }
    trace.wait_until(2_000).drain().finish();
    assert_eq!(trace.summary(0, ClientToServer).segments, 2 + 2 + 10);
}
