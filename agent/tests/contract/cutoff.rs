//! Row 27: the cut-off. Each connection is told twice: with everything captured, as in a replay, and behind a kernel that
//! withholds what lies behind the cut-off, and bare ACKs.

use agent::reassembly::{Config, Direction::ClientToServer, GapCause, Stats};

use crate::{
    kernel::Orders,
    trace::{C, S, Trace},
};

/// What kernel and reassembler are told that keep `octets` of each direction.
fn keep(octets: u64) -> (Orders, Config) {
    let cutoff = Some(octets);
    (Orders { acks: true, cutoff, ..Orders::default() }, Config { cutoff, ..Config::default() })
}

fn cut_at(octets: u64) -> Trace {
    let (orders, config) = keep(octets);
    Trace::behind(orders, config)
}

/// The same, established, with `octets` of each direction.
fn established(octets: u64) -> Trace {
    cut_at(octets).shake_hands()
}

/// The same behind a kernel alone.
fn live(octets: u64) -> Trace {
    let (orders, config) = keep(octets);
    Trace::live(orders, config).shake_hands()
}

/// Established, and shed.
fn shed() -> Trace {
    Trace::live(Orders { acks: true, shed: true, ..Orders::default() }, Config::default()).shake_hands()
}

fn stats(trace: &Trace) -> &Stats {
    trace.reassembler().stats()
}

#[test]
fn row_27_each_direction_ends_at_the_cutoff_and_the_rest_is_one_gap() {
    let mut trace = established(4);
    trace
        .send(C.data(1001, "abcdef").ack(5001))
        .send(S.data(5001, "uvw").ack(1007))
        .send(C.data(1007, "ghi").ack(5004));
    trace.expect(&["handshake open c2s=abcd s2c=uvw"]);
    trace.send(S.data(5004, "xyz").ack(1010)).send(C.fin(1010).ack(5007)).send(S.fin(5007).ack(1011));
    trace.expect(&["handshake fin c2s=abcd{5 cutoff} s2c=uvwx{2 cutoff}"]);
    assert_eq!((stats(&trace).delivered, stats(&trace).cutoff, stats(&trace).imbalance()), (8, 7, 0));
    assert_eq!((stats(&trace).gaps, stats(&trace).gaps_trailing, stats(&trace).gaps_cutoff), (0, 7, 7));
}

#[test]
fn row_27_without_octets_only_the_sizes_are_known() {
    let mut trace = established(0);
    trace.send(C.data(1001, "get").ack(5001)).send(S.data(5001, "much").ack(1004)).send(C.fin(1004).ack(5005));
    trace.send(S.fin(5005).ack(1005)).expect(&["handshake fin c2s={3 cutoff} s2c={4 cutoff}"]);
    assert_eq!((stats(&trace).delivered, stats(&trace).cutoff), (0, 7));
}

#[test]
fn row_27_a_fin_right_before_at_and_behind_the_cutoff() {
    for (octets, behind) in [(7, ""), (6, ""), (5, "{1 cutoff}")] {
        let mut trace = established(octets);
        trace.send(C.data(1001, "abcdef").and_fin().ack(5001)).send(S.fin(5001).ack(1008));
        let kept = &"abcdef"[..6.min(octets as usize)];
        trace.expect(&[&format!("handshake fin c2s={kept}{behind} s2c=")]);
    }
}

#[test]
fn row_27_a_fin_far_behind_the_cutoff_is_not_waited_for() {
    // Of what lies between, a kernel has copied nothing, and a capture lost all.
    let mut trace = established(3);
    trace.send(C.data(1001, "abc").ack(5001)).send(S.fin(5001).ack(1004)).send(C.fin(9001).ack(5002));
    trace.expect(&["handshake fin c2s=abc{7997 cutoff} s2c="]);
}

#[test]
fn row_27_out_of_order_across_the_cutoff() {
    let mut trace = established(6);
    trace.send(C.data(1005, "efgh").ack(5001)).send(C.data(1009, "ij").ack(5001)).send(C.data(1003, "cd").ack(5001));
    trace.expect(&["handshake open c2s= s2c="]).send(C.data(1001, "ab").ack(5001));
    trace.expect(&["handshake open c2s=abcdef s2c="]).finish();
    trace.expect(&["handshake finish c2s=abcdef{4 cutoff} s2c="]);
    assert_eq!((stats(&trace).cutoff, stats(&trace).imbalance()), (4, 0));
}

#[test]
fn row_27_retransmitted_across_the_cutoff() {
    let mut trace = established(3);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1001, "abcd").ack(5001).at(300));
    trace.send(C.data(1005, "ef").ack(5001)).send(C.data(1003, "cdef").ack(5001).at(900)).finish();
    trace.expect(&["handshake finish c2s=abc{3 cutoff} s2c="]);
    assert_eq!((stats(&trace).duplicate, stats(&trace).cutoff, stats(&trace).imbalance()), (4, 7, 0));
}

#[test]
fn row_27_a_hole_before_the_cutoff_has_a_cause_of_its_own() {
    let mut trace = established(6);
    trace.send(C.data(1001, "ab").ack(5001)).send(C.data(1005, "efgh").ack(5001)).send(S.ack(5001, 1009));
    trace.wait_until(2_000).expect(&["handshake open c2s=ab[2 not-captured]ef s2c="]).finish();
    trace.expect(&["handshake finish c2s=ab[2 not-captured]ef{2 cutoff} s2c="]);
}

#[test]
fn row_27_a_hole_right_before_the_cutoff_is_told_at_the_end() {
    let mut trace = established(6);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1007, "ghi").ack(5001)).send(S.ack(5001, 1010));
    trace.wait_until(60_000).expect(&["handshake open c2s=abcd s2c="]).finish();
    trace.expect(&["handshake finish c2s=abcd[2 not-captured]{3 cutoff} s2c="]);
}

#[test]
fn row_27_a_hole_before_cutoff_and_fin_is_waited_for() {
    let mut trace = established(6);
    trace.send(S.fin(5001).ack(1001)).send(C.data(1001, "abcd").ack(5002)).send(C.fin(1010).ack(5002));
    trace.expect(&["handshake open c2s=abcd s2c="]);
    trace.send(C.data(1005, "efghi").ack(5002).at(500)).expect(&["handshake fin c2s=abcdef{3 cutoff} s2c="]);
}

#[test]
fn row_27_a_hole_before_cutoff_and_fin_is_given_up_once_acknowledged() {
    let mut trace = established(6);
    trace.send(S.fin(5001).ack(1001)).send(C.data(1001, "abcd").ack(5002)).send(C.fin(1010).ack(5002));
    trace.send(S.ack(5002, 1011).at(10)).wait_until(900).expect(&["handshake open c2s=abcd s2c="]);
    trace.wait_until(3_000).expect(&["handshake fin c2s=abcd[2 not-captured]{3 cutoff} s2c="]);
}

#[test]
fn row_27_what_is_acknowledged_behind_the_cutoff_is_no_gap_while_the_stream_runs() {
    let mut trace = established(2);
    trace.send(C.data(1001, "abcd").ack(5001)).send(S.data(5001, "x").ack(2001)).wait_until(60_000);
    trace.expect(&["handshake open c2s=ab s2c=x"]);
    assert_eq!(stats(&trace).gaps, 0);
}

#[test]
fn row_27_a_hole_right_before_the_cutoff_is_the_rings() {
    let mut trace = established(6);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.fin(1010).ack(5001).refused(1)).finish();
    trace.expect(&["handshake finish c2s=abcd[2 ring-full]{3 cutoff} s2c="]);
}

#[test]
fn row_27_a_hole_right_before_the_cutoff_is_still_the_rings_when_another_was_given_up() {
    // The ring's count comes with a segment that a kernel withholds.
    let mut trace = established(12).copied();
    trace.send(C.data(1001, "abc").ack(5001)).send(C.data(1007, "ghi").ack(5001).refused(1));
    trace.send(C.data(1020, "xyz").ack(5001).refused(2)).send(S.ack(5001, 1007).refused(2)).wait_until(2_000);
    trace.expect(&["handshake open c2s=abc[3 ring-full]ghi s2c="]).finish();
    trace.expect(&["handshake finish c2s=abc[3 ring-full]ghi[3 ring-full]{10 cutoff} s2c="]);
}

#[test]
fn row_27_a_reset_behind_the_cutoff() {
    let mut trace = established(2);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1005, "efgh").ack(5001)).send(C.rst(1009).at(10));
    trace.wait_until(2_000).expect(&["handshake rst c2s=ab{6 cutoff} s2c="]);
}

#[test]
fn row_27_a_reset_by_the_receiver() {
    let mut trace = established(2);
    trace.send(C.data(1001, "abcd").ack(5001)).send(S.ack(5001, 1005)).send(C.data(1005, "efgh").ack(5001));
    trace.send(S.rst(5001).at(10)).wait_until(2_000).expect(&["handshake rst c2s=ab{6 cutoff} s2c="]);
}

#[test]
fn row_27_an_implausible_reset_behind_the_cutoff() {
    let mut trace = established(2);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.rst(1_000_000).at(10)).send(C.fin(1005).ack(5001).at(20));
    trace.send(S.fin(5001).ack(1006)).expect(&["handshake fin c2s=ab{2 cutoff} s2c="]);
    assert_eq!(stats(&trace).rst_implausible, 1);
}

#[test]
fn row_27_a_connection_under_way() {
    let mut trace = cut_at(3);
    trace.send(C.data(7001, "abcd").ack(5001)).send(C.data(7005, "ef").ack(5001)).wait_until(200);
    trace.expect(&["midstream open c2s=abc s2c="]);
    trace.send(C.data(7007, "gh").ack(5001).at(300)).send(S.fin(5001).ack(7009)).send(C.fin(7009).ack(5002));
    trace.wait_until(600).expect(&["midstream fin c2s=abc{5 cutoff} s2c="]);
    assert_eq!((stats(&trace).cutoff, stats(&trace).queued, stats(&trace).imbalance()), (5, 0, 0));
}

#[test]
fn row_27_the_size_of_a_connection_under_way_begins_where_that_does() {
    // Behind the octet of a keep-alive, and before a segment that was overtaken.
    for (first, at) in [("x", 7000), ("def", 7004)] {
        let mut trace = cut_at(3);
        trace.send(C.data(at, first).without_psh().ack(5001)).send(C.data(7001, "abc").ack(5001).at(50));
        trace.send(C.data(7004, "def").ack(5001)).wait_until(200).finish();
        trace.expect(&["midstream finish c2s=abc{3 cutoff} s2c="]);
    }
}

#[test]
fn row_27_the_size_of_a_stream_whose_syn_was_not_captured() {
    let mut trace = cut_at(4);
    trace.send(C.syn(1000)).send(S.ack(5001, 1001)).send(S.data(5002, "uvwxyz").ack(1001));
    trace.send(S.data(5008, "ab").ack(1001)).wait_until(2_000).finish();
    trace.expect(&["handshake finish c2s= s2c=uvwx{4 cutoff}"]);
}

#[test]
fn row_27_the_size_of_a_stream_whose_syn_comes_behind_its_first_ack() {
    let mut trace = cut_at(3);
    trace.send(C.syn(1000)).send(S.ack(5000, 1001)).send(S.syn(5000)).send(C.syn(1000).ack(5001));
    trace.send(C.data(1001, "abcdef").ack(5001)).send(C.data(1007, "ghi").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=abc{6 cutoff} s2c="]);
}

#[test]
fn row_27_idle_behind_the_cutoff() {
    let mut trace = established(3);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1005, "efgh").ack(5001).at(3_600_000));
    trace.wait_until(3_600_000 + 7_400_000).expect(&["handshake open c2s=abc s2c="]);
    trace.wait_until(3_600_000 + 7_501_000).expect(&["handshake idle c2s=abc{5 cutoff} s2c="]);
}

#[test]
fn row_27_what_goes_on_behind_its_cutoff_when_it_was_given_up_is_a_connection_again() {
    let mut trace = established(4);
    trace.send(C.data(1001, "abcdef").ack(5001)).send(S.ack(5001, 1007)).wait_until(8_000_000);
    trace.expect(&["handshake idle c2s=abcd{2 cutoff} s2c="]);
    trace.send(C.data(1007, "ghijkl").ack(5001)).send(S.data(5001, "xyz").ack(1013)).finish();
    trace.expect(&["handshake idle c2s=abcd{2 cutoff} s2c=", "midstream finish c2s=ghij{2 cutoff} s2c=xyz"]);
    assert_eq!(trace.continues(1), Some(trace.serial(0)));
}

#[test]
fn row_27_a_syn_with_data_beyond_the_cutoff() {
    let mut trace = cut_at(2);
    trace.send(C.syn(1000).with("GET")).send(S.syn(5000).ack(1004).with("200")).send(C.fin(1004).ack(5004));
    trace.send(S.fin(5004).ack(1005)).expect(&["handshake fin c2s=GE{1 cutoff} s2c=20{1 cutoff}"]);
}

#[test]
fn row_27_across_the_wrap_of_sequence_numbers() {
    let mut trace = cut_at(4);
    trace.send(C.syn(0xffff_fffd)).send(S.syn(5000).ack(0xffff_fffe)).send(C.ack(0xffff_fffe, 5001));
    trace.send(C.data(0xffff_fffe, "abcdef").ack(5001)).send(C.data(4, "ghij").ack(5001));
    trace.send(C.fin(8).ack(5001)).send(S.fin(5001).ack(9)).expect(&["handshake fin c2s=abcd{6 cutoff} s2c="]);
}

#[test]
fn row_27_endpoints_used_again_after_a_cut_stream() {
    let mut trace = established(2);
    trace.send(C.data(1001, "abcdefgh").ack(5001)).send(S.ack(5001, 1009));
    trace.send(C.syn(900_000).at(1_000)).send(S.syn(700_000).ack(900_001)).send(C.data(900_001, "xyz").ack(700_001));
    trace.send(C.fin(900_004).ack(700_001)).send(S.fin(700_001).ack(900_005));
    trace.expect(&["handshake reused c2s=ab{6 cutoff} s2c=", "handshake fin c2s=xy{1 cutoff} s2c="]);
}

#[test]
fn row_27_a_snaplen_before_the_cutoff() {
    let mut trace = established(6);
    trace.send(C.data(1001, "abcd").missing(4).ack(5001)).send(C.data(1009, "ij").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=abcd[2 snaplen]{4 cutoff} s2c="]);
}

#[test]
fn row_27_six_gibibytes_end_with_their_size() {
    // Of the client's stream 6 GiB, of which 1 MiB is wanted; its FIN lies where 32 bits of a sequence number say 2 GiB.
    const SIZE: u64 = 6 << 30;
    let mut trace = live(1 << 20);
    for chunk in 0..17 {
        trace
            .send(C.data(1001 + (chunk << 16), [b'x'; 1 << 16]).ack(5001))
            .send(S.ack(5001, 1001 + ((chunk + 1) << 16)));
    }
    trace.skip(C, SIZE - (17 << 16));
    let end = 1001_u32.wrapping_add(SIZE as u32);
    trace.send(S.data(5001, "thanks").ack(end).at(60_000)).send(C.ack(end, 5007)).send(C.fin(end).ack(5007).at(60_010));
    trace.send(S.fin(5007).ack(end.wrapping_add(1)));
    trace.expect(&[&format!("handshake fin c2s={}{{{} cutoff}} s2c=thanks", "x".repeat(1 << 20), SIZE - (1 << 20))]);
    assert_eq!(trace.summary(0, ClientToServer).gaps, []);
    let segments = 1 + 1 + 17 + (SIZE - (17 << 16)) / 1_000 + 1 + 1;
    assert_eq!(trace.summary(0, ClientToServer).segments, segments);
}

#[test]
fn row_27_the_size_is_known_without_a_fin() {
    const SIZE: u64 = 6 << 30;
    for (until, ended) in [(0, "finish"), (7_600_000, "idle")] {
        let mut trace = live(4);
        trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1005, "efgh").ack(5001)).skip(C, SIZE);
        trace.wait_until(until).finish();
        trace.expect(&[&format!("handshake {ended} c2s=abcd{{{} cutoff}} s2c=", SIZE + 4)]);
    }
}

#[test]
fn row_27_a_shed_connection_is_one_gap() {
    let mut trace = shed();
    trace.send(C.data(1001, "get").ack(5001)).send(S.data(5001, "much").ack(1004)).send(C.fin(1004).ack(5005));
    trace.send(S.fin(5005).ack(1005)).expect(&["handshake fin c2s={3 shed} s2c={4 shed}"]);
    let Stats { payload, gaps_shed, opened, closed, .. } = *stats(&trace);
    assert_eq!((payload, gaps_shed, opened, closed), (0, 7, 1, 1));
}

#[test]
fn row_27_a_connection_is_shed_when_its_syn_comes_again_to_a_kernel_that_has_forgotten_it() {
    let mut trace = Trace::live(Orders { acks: true, ..Orders::default() }, Config::default());
    trace.send(C.syn(1000)).kernel().forget();
    trace.shed().send(C.syn(1000).at(1_000)).send(S.syn(5000).ack(1001)).send(C.data(1001, "get").ack(5001));
    trace.send(C.fin(1004).ack(5001)).send(S.fin(5001).ack(1005)).expect(&["handshake fin c2s={3 shed} s2c="]);
}

#[test]
fn row_27_a_connection_is_shed_by_the_other_syn_to_a_kernel_that_has_forgotten_the_first() {
    for (first, other) in [(C.syn(1000), S.syn(5000)), (S.syn(5000).ack(1001), C.syn(1000))] {
        let mut trace = Trace::live(Orders { acks: true, ..Orders::default() }, Config::default());
        trace.send(first).kernel().forget();
        trace.shed().send(other).send(C.data(1001, "get").ack(5001)).send(C.fin(1004).ack(5001));
        trace.send(S.fin(5001).ack(1005)).expect(&["handshake fin c2s={3 shed} s2c="]);
    }
}

#[test]
fn row_27_a_syn_that_reuses_endpoints_says_nothing_of_the_size() {
    let mut trace = shed();
    trace.send(C.data(1001, "get").ack(5001)).send(C.syn(900_000).at(1_000)).send(S.syn(700_000).ack(900_001));
    trace.finish().expect(&["handshake reused c2s= s2c=", "handshake finish c2s= s2c="]);
}

#[test]
fn row_27_the_size_is_known_where_all_was_acknowledged() {
    let mut trace = shed();
    trace.send(C.data(1001, "get").ack(5001)).send(S.ack(5001, 1004)).finish();
    trace.expect(&["handshake finish c2s={3 shed} s2c="]);
}

#[test]
fn row_27_a_shed_connection_that_is_reset_or_idle() {
    let mut trace = shed();
    trace.send(C.data(1001, "get").ack(5001)).send(C.rst(1004).at(10)).wait_until(2_000);
    trace.expect(&["handshake rst c2s={3 shed} s2c="]);
    let mut trace = shed();
    trace.send(C.data(1001, "get").ack(5001)).wait_until(7_400_000).expect(&["handshake open c2s= s2c="]);
    trace.wait_until(7_600_000).expect(&["handshake idle c2s={3 shed} s2c="]);
    assert_eq!(trace.summary(0, ClientToServer).trailing_gap.map(|gap| gap.cause), Some(GapCause::Shed));
}

#[test]
fn row_27_what_somebody_else_sends_far_ahead_says_nothing_of_the_size() {
    let mut trace = live(2);
    trace.send(C.data(1001, "abcd").ack(5001)).send(C.data(1005, "efgh").ack(5001)).send(S.ack(5001, 1009));
    // No segment goes more than a window further than the one before it. What was acknowledged last may be a FIN.
    trace.send(C.data(0x4000_0000, "far").ack(5001)).finish();
    trace.expect(&["handshake finish c2s=ab{5 cutoff} s2c="]);
}

#[test]
fn row_27_an_old_ack_says_nothing_of_what_was_sent_four_gibibytes_later() {
    const FAR: u64 = 0x3000_0000;
    let mut trace = live(4);
    trace.send(C.data(1001, "abcdef").ack(5001)).send(S.data(5001, "x").ack(1001 + FAR as u32));
    // Where a sequence number is 500 below that of the ACK.
    let reach = (1 << 32) + FAR - 500;
    trace.skip(C, reach - 6 - (4 << 30));
    for left in (0..4).rev() {
        trace.skip(C, 1 << 30).send(S.ack(5002, (1001 + reach - (left << 30)) as u32));
    }
    trace.finish();
    trace.expect(&[&format!("handshake finish c2s=abcd{{{} cutoff}} s2c=x", reach - 4)]);
}

#[test]
fn row_27_an_ack_that_stands_for_many_lies_where_the_kernel_says() {
    // Of octets that did not pass, behind more of which nothing was copied than 32 bits tell.
    const SIZE: u64 = 4 << 30;
    const MORE: u32 = 5_000_000;
    let (orders, config) = keep(4);
    let mut trace = Trace::live(orders, config);
    trace.send(C.syn(1000).scale(14)).send(S.syn(5000).ack(1001).scale(14)).send(C.ack(1001, 5001));
    trace.send(C.data(1001, "abcdefgh").ack(5001)).skip(C, SIZE);
    for _ in 0..70 {
        trace.send(S.ack(5001, 1009).window(0xFFFF));
    }
    trace.send(S.ack(5001, 1009 + MORE).window(0xFFFF)).finish();
    trace.expect(&[&format!("handshake finish c2s=abcd{{{} cutoff}} s2c=", SIZE + 4 + u64::from(MORE) - 1)]);
}

#[test]
fn row_27_acks_that_go_beyond_what_was_withheld() {
    let mut trace = cut_at(2);
    trace.send(C.syn(1000)).send(S.syn(5000).ack(1001).window(8)).send(C.ack(1001, 5001));
    trace.send(C.data(1001, "abcd").ack(5001)).send(S.data(5001, "x").ack(1005).window(8));
    trace.send(C.data(1005, "efgh").ack(5002)).send(C.data(1009, "ijkl").ack(5002));
    // What these acknowledge besides did not pass, and one octet of that may be the FIN.
    trace.send(S.data(5002, "y").ack(1017).window(8)).send(S.ack(5003, 1023).window(8)).finish();
    trace.expect(&["handshake finish c2s=ab{19 cutoff} s2c=xy"]);
}

#[test]
fn row_13_the_accounts_of_a_connection_under_way_may_begin_before_its_first_octet() {
    // With an ACK that was withheld, and what was sent between that and the first segment did not pass.
    let (orders, config) = keep(2);
    let mut trace = Trace::live(orders, config);
    trace.send(S.data(5001, "x").ack(1001)).send(C.ack(1001, 5002)).send(C.data(2001, "abcd").ack(5002).urgent());
    trace.wait_until(200).send(C.data(2005, "efgh").ack(5002)).finish();
    trace.expect(&["midstream finish c2s=x s2c=[2 snaplen]{6 cutoff}"]);
}

#[test]
fn row_27_a_syn_that_its_acknowledgment_overtook_begins_the_accounts() {
    let mut trace = Trace::live(Orders { shed: true, ..Orders::default() }, Config::default());
    trace.send(C.syn(1000)).send(C.syn(1000).ack(5014)).send(S.syn(5000).ack(1001).with("thirteen more")).finish();
    trace.expect(&["handshake finish c2s= s2c={13 shed}"]);
}
