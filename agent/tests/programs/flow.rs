//! What the kernel remembers about connections, and what it withholds because of it.

use agent::{
    decode::{self, Decoder},
    filter::{End, Filter, Test},
    judge::Judge,
    kernel::{Kernel, Options, Ring},
};
use agent_common::{
    counter::Counter,
    flow::{Flow, FlowKey, state},
    frame::{FrameHeader, flags},
};
use etherparse::{PacketBuilder, TcpHeader};

use crate::bed::*;

#[test]
fn records_say_what_the_connection_has_done() {
    let Some(mut bed) = Bed::load("records_say_what_the_connection_has_done", |_| {}) else { return };
    let before = boot_clock();
    let syn = bed.one(true, SYN, 100, 0, 0);
    assert_eq!(syn.flags & OF_FLOW, flags::FLOW | flags::CLIENT_SOURCE);
    assert_eq!((syn.segments, syn.reach), ([1, 0], 0));
    let syn_ack = bed.one(false, SYN | ACK, 500, 101, 0);
    assert_eq!(syn_ack.flags & OF_FLOW, flags::FLOW | flags::CLIENT_DESTINATION);
    assert_eq!(syn_ack.segments, [1, 1]);
    let data = bed.one(true, ACK, 101, 501, 300);
    assert_eq!(data.flags & OF_FLOW, flags::FLOW | flags::CLIENT_SOURCE | flags::PEER_ACKED);
    assert_eq!((data.segments, data.reach), ([2, 1], 300));
    assert_eq!((data.peer_ack, data.peer_ack_time, data.peer_window), (101, syn_ack.timestamp, WINDOW));
    // Again, and an ACK that says less than the last one.
    let again = bed.one(true, ACK, 101, 400, 300);
    assert_eq!((again.segments, again.reach), ([3, 1], 300));
    let fin = bed.one(false, FIN | ACK, 501, 401, 10);
    assert_eq!((fin.peer_ack, fin.peer_ack_time), (501, data.timestamp));

    let flow = bed.flow();
    let [client, server] = flow.sides;
    assert_eq!((client.bytes, client.segments, client.reach(), client.lost), (600, 3, 300, 0));
    assert_eq!((server.bytes, server.segments, server.reach(), server.lost), (10, 2, 10, 0));
    assert_eq!((server.ack, server.last_seen), (401, fin.timestamp));
    assert_eq!((flow.last_seen, client.last_seen), (fin.timestamp, again.timestamp));
    assert_eq!(flow.state, state::ANNOUNCED | state::CLIENT | state::ACKED | state::ACKED << 1 | state::FIN << 1);
    assert!((before..=boot_clock()).contains(&flow.last_seen));
    assert_eq!(bed.kernel.flows().spared(), 1);
    bed.assert_counters(&[(Counter::Seen, 5), (Counter::Matched, 5), (Counter::FlowsCreated, 1)]);
}

#[test]
fn a_syn_with_another_number_begins_another_connection() {
    let Some(mut bed) = Bed::load("a_syn_with_another_number_begins_another_connection", |_| {}) else { return };
    bed.one(true, SYN, 100, 0, 0);
    bed.one(false, SYN | ACK, 500, 101, 0);
    bed.one(true, ACK, 101, 501, 50);
    let again = bed.one(true, SYN, 100, 0, 0);
    assert_eq!((again.segments, again.reach), ([3, 1], 50), "a SYN sent again");
    let reused = bed.one(true, SYN, 9000, 0, 0);
    assert_eq!((reused.segments, reused.reach), ([1, 0], 0));
    // A split handshake: the peer's bare ACK has the number of its SYN, and begins nothing.
    bed.one(false, ACK, 700, 9001, 0);
    let split = bed.one(false, SYN, 700, 0, 0);
    assert_eq!((split.segments, split.reach), ([2, 1], 0));
    assert_eq!(reused.flags & OF_FLOW, flags::FLOW | flags::CLIENT_SOURCE);
    // The other side may be the client this time.
    let turned = bed.one(false, SYN, 7, 0, 0);
    assert_eq!(turned.flags & OF_FLOW, flags::FLOW | flags::CLIENT_SOURCE);
    assert_eq!(bed.flow().client(1), agent_common::head::Client::Source);
}

#[test]
fn behind_the_cutoff_only_headers_of_syn_fin_and_rst_come_through() {
    let name = "behind_the_cutoff_only_headers_of_syn_fin_and_rst_come_through";
    for isn in [100, u32::MAX - 500] {
        let Some(mut bed) = Bed::load(name, |options| options.cutoff = Some(1000)) else { return };
        let seq = |offset: u32| isn.wrapping_add(1).wrapping_add(offset);
        bed.one(true, SYN, isn, 0, 0);
        for (offset, len, comes) in [
            (0, 600, true),
            // Begins below, ends behind.
            (600, 600, true),
            (1200, 100, false),
            // Sent again: it is the place that counts.
            (0, 600, true),
            (999, 1, true),
            (1000, 1, false),
            (1300, 1000, false),
            (600, 700, true),
        ] {
            let headers = bed.run(true, ACK, seq(offset), 501, len);
            assert_eq!(headers.len(), usize::from(comes), "{offset} {len}");
            assert!(headers.iter().all(|header| header.caplen == header.len));
        }
        // The other direction has not got there.
        let ack = bed.one(false, ACK, 501, seq(0), 0);
        assert_eq!(ack.flags & flags::CUTOFF, 0);
        for control in [FIN, RST, SYN] {
            let header = bed.one(true, control | ACK, seq(if control == SYN { u32::MAX } else { 2300 }), 501, 40);
            let cut = control != SYN;
            assert_eq!(header.flags & (flags::CUTOFF | flags::SHED), flags::CUTOFF);
            assert_eq!((header.len, header.caplen), (94, if cut { 54 } else { 94 }));
        }
        // An ACK is no payload.
        assert_eq!(bed.run(true, ACK, seq(2340), 501, 0).len(), 1);
        let flow = bed.flow();
        assert_eq!(flow.sides[0].reach(), 2340);
        assert_eq!(flow.sides[0].bytes, 600 + 600 + 100 + 600 + 1 + 1 + 1000 + 700 + 3 * 40);
        bed.assert_counters(&[
            (Counter::Seen, 14),
            (Counter::Matched, 14),
            (Counter::WithheldCutoff, 3),
            (Counter::FlowsCreated, 1),
        ]);
    }
}

#[test]
fn with_a_cutoff_of_0_each_connection_is_announced_by_headers_alone() {
    let name = "with_a_cutoff_of_0_each_connection_is_announced_by_headers_alone";
    let Some(mut bed) = Bed::load(name, |options| options.cutoff = Some(0)) else { return };
    // In the middle of a connection whose handshake was not seen.
    let first = bed.one(true, ACK, 100, 501, 700);
    assert_eq!((first.caplen, first.flags & flags::CUTOFF), (54, flags::CUTOFF));
    assert_eq!(bed.run(true, ACK, 800, 501, 700).len(), 0);
    assert_eq!(bed.run(false, ACK, 501, 1500, 10).len(), 0);
    bed.assert_counters(&[
        (Counter::Seen, 3),
        (Counter::Matched, 3),
        (Counter::WithheldCutoff, 2),
        (Counter::FlowsCreated, 1),
    ]);
}

#[test]
fn a_keep_alive_behind_a_fin_makes_its_stream_no_longer() {
    let name = "a_keep_alive_behind_a_fin_makes_its_stream_no_longer";
    let Some(mut bed) = Bed::load(name, |options| options.cutoff = Some(0)) else { return };
    bed.one(true, SYN, 100, 0, 0);
    bed.one(true, ACK | FIN, 101, 1, 500);
    // Its octet has the number of the FIN.
    assert_eq!(bed.run(true, ACK, 601, 1, 1).len(), 0);
    assert_eq!((bed.flow().sides[0].reach(), bed.flow().sides[0].segments), (500, 3));
}

#[test]
fn positions_go_on_beyond_four_gibibytes() {
    let name = "positions_go_on_beyond_four_gibibytes";
    let cutoff = 5 << 30;
    let Some(mut bed) = Bed::load(name, |options| options.cutoff = Some(cutoff)) else { return };
    bed.one(true, SYN, 0xffff_fff0, 0, 0);
    let step = (1 << 30) - 1000;
    for i in 0..13 {
        let position = i * step;
        let seq = 0xffff_fff1_u32.wrapping_add(position as u32);
        let headers = bed.run(true, ACK, seq, 1, 500);
        assert_eq!(headers.len(), usize::from(position < cutoff), "{position}");
        assert!(headers.iter().all(|header| header.reach == position + 500));
        assert_eq!(bed.flow().sides[0].reach(), position + 500);
    }
    // Nobody has a window like that: it moves nothing.
    bed.run(true, ACK, (0xffff_fff1_u32).wrapping_add((12 * step) as u32).wrapping_add(2 << 29 | 1000), 1, 500);
    assert_eq!(bed.flow().sides[0].reach(), 12 * step + 500);
}

#[test]
fn acks_are_withheld_once_the_connection_is_announced_and_the_next_record_says_what_they_said() {
    let name = "acks_are_withheld_once_the_connection_is_announced_and_the_next_record_says_what_they_said";
    let Some(mut bed) = Bed::load(name, |options| options.withhold_acks = true) else { return };
    assert_eq!(bed.run(true, ACK, 101, 501, 0).len(), 1, "the first of its connection");
    bed.one(false, ACK, 501, 101, 200);
    for ack in [600, 701, 701] {
        assert_eq!(bed.run(true, ACK, 101, ack, 0).len(), 0);
    }
    let before = boot_clock();
    let data = bed.one(false, ACK, 701, 101, 200);
    assert_eq!((data.segments, data.peer_ack, data.peer_window), ([2, 4], 701, WINDOW));
    assert!(data.peer_ack_time < before && data.peer_ack_time > 0);
    for control in [SYN, FIN | ACK, RST, RST | ACK, URG | ACK] {
        assert_eq!(bed.run(true, control, 101, 701, 0).len(), 1, "{control:#x}");
    }
    bed.assert_counters(&[
        (Counter::Seen, 11),
        (Counter::Matched, 11),
        (Counter::WithheldAcks, 3),
        (Counter::FlowsCreated, 1),
    ]);
}

#[test]
fn the_first_ack_of_each_side_says_where_it_is_and_is_not_withheld() {
    let name = "the_first_ack_of_each_side_says_where_it_is_and_is_not_withheld";
    // On either side of the half of the sequence numbers, as seen from 0.
    for seq in [1, 9_000, i32::MAX as u32, 1 << 31, 3_000_000_000, u32::MAX] {
        let Some(mut bed) = Bed::load(name, |options| options.withhold_acks = true) else { return };
        bed.one(true, ACK, 101, seq, 200);
        // Without it, who hears the probe of a keep-alive cannot tell its octet from data.
        assert_eq!(bed.run(false, ACK, seq, 301, 0).len(), 1, "{seq}");
        assert_eq!(bed.run(false, ACK, seq, 301, 0).len(), 0, "{seq}");
        let probe = bed.one(false, ACK, seq.wrapping_sub(1), 301, 1);
        assert_eq!((probe.reach, probe.segments), (0, [3, 1]));
    }
}

#[test]
fn what_begins_while_the_ring_is_full_is_shed_as_a_whole_and_nothing_else_is() {
    let name = "what_begins_while_the_ring_is_full_is_shed_as_a_whole_and_nothing_else_is";
    let Some(mut bed) = Bed::load(name, |options| {
        (options.ring_size, options.shed_level) = (1 << 16, Some(1 << 15));
    }) else {
        return;
    };
    bed.one(true, SYN, 100, 0, 0);
    // Records of a full frame, until half of the ring is used.
    let mut seq = 101;
    while bed.kernel.ring_stats(0).unwrap().level_max <= 1 << 15 {
        bed.offer(true, ACK, seq, 1, 1400);
        seq += 1400;
    }
    let shed = Bed::port(2);
    bed.offer_of(shed, true, SYN, 5000, 0, 30);
    bed.offer_of(shed, false, SYN | ACK, 6000, 5001, 0);
    for _ in 0..3 {
        bed.offer_of(shed, true, ACK, 5031, 6001, 500);
    }
    bed.offer_of(shed, true, FIN | ACK, 5531, 6001, 10);
    // A connection that is already there goes on, and one whose beginning was not seen was not shed.
    bed.offer(true, ACK, seq, 1, 1400);
    bed.offer_of(Bed::port(3), true, ACK, 1, 1, 100);
    let records = bed.drain();
    let of_shed: Vec<_> = records.iter().filter(|header| header.flags & flags::SHED != 0).collect();
    assert_eq!(of_shed.iter().map(|header| header.caplen).collect::<Vec<_>>(), [54, 54, 54]);
    assert_eq!(of_shed.iter().map(|header| header.caplen < header.len).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(of_shed[2].segments, [5, 1]);
    assert!(records[records.len() - 2..].iter().all(|header| header.flags & flags::SHED == 0 && header.caplen > 150));
    // The ring is empty again: what begins now is copied, what was shed stays so, even when its SYN comes again.
    assert_eq!(bed.offer_and_drain(Bed::port(4), true, SYN, 1, 0, 30)[0].caplen, 84);
    assert_eq!(bed.offer_and_drain(shed, true, SYN, 5000, 0, 30)[0].flags & flags::SHED, flags::SHED);
    assert!(bed.offer_and_drain(shed, true, ACK, 5531, 6001, 100).is_empty());
    // Another connection between the same endpoints is another one.
    assert_eq!(bed.offer_and_drain(shed, true, SYN, 70_000, 0, 0)[0].flags & flags::SHED, 0);
    assert_eq!(bed.offer_and_drain(shed, true, ACK, 70_001, 1, 100)[0].caplen, 154);
    let counters = bed.kernel.counters().unwrap();
    let count = |counter: Counter| counters[counter as usize];
    assert_eq!((count(Counter::ShedConnections), count(Counter::ShedFrames)), (1, 4));
    assert_eq!((count(Counter::FlowsCreated), count(Counter::RingFull)), (4, 0));
    assert_eq!(count(Counter::Matched), records.len() as u64 + 5 + count(Counter::ShedFrames));
}

#[test]
fn what_was_shed_is_announced_by_its_first_frame_that_finds_room() {
    let name = "what_was_shed_is_announced_by_its_first_frame_that_finds_room";
    let Some(mut bed) = Bed::load(name, |options| (options.ring_size, options.shed_level) = (4096, Some(2048))) else {
        return;
    };
    let fill = |bed: &mut Bed| (0..40).for_each(|i| bed.offer(true, ACK, 101 + i, 1, 1));
    let heard = |bed: &Bed| {
        let counters = bed.kernel.counters().unwrap();
        [Counter::ShedConnections, Counter::ShedAnnounced].map(|counter| counters[counter as usize])
    };
    bed.one(true, SYN, 100, 0, 0);
    fill(&mut bed);
    // One ends before there is room, the other goes on.
    for (n, controls) in [(1, &[SYN, ACK, FIN | ACK][..]), (2, &[SYN, ACK])] {
        for (seq, &control) in (5_000..).zip(controls) {
            bed.offer_of(Bed::port(n), true, control, seq, 0, 0);
        }
    }
    assert_eq!(heard(&bed), [2, 0]);
    assert!(bed.drain().iter().all(|header| header.flags & flags::SHED == 0));
    let header = bed.offer_and_drain(Bed::port(2), true, ACK, 5_001, 0, 200)[0];
    assert_eq!((header.flags & flags::SHED, header.caplen, header.segments), (flags::SHED, 54, [3, 0]));
    assert!(bed.offer_and_drain(Bed::port(2), true, ACK, 5_201, 0, 200).is_empty());
    assert_eq!(bed.offer_and_drain(Bed::port(2), true, FIN | ACK, 5_401, 0, 0).len(), 1);
    assert_eq!(heard(&bed), [2, 1], "each is counted once");
}

#[test]
fn a_record_says_how_much_of_its_stream_a_full_ring_has_cost() {
    let name = "a_record_says_how_much_of_its_stream_a_full_ring_has_cost";
    let Some(mut bed) = Bed::load(name, |options| options.ring_size = 4096) else { return };
    for i in 0..40 {
        bed.offer(true, ACK, 101 + i * 100, 1, 100);
    }
    let arrived = bed.drain().len() as u64;
    assert!((5..30).contains(&arrived), "{arrived}");
    assert_eq!(bed.one(true, ACK, 4101, 1, 100).lost, (40 - arrived) * 100);
    assert_eq!(bed.one(false, ACK, 1, 4201, 0).lost, 0);
    assert_eq!(bed.flow().sides.map(|side| (side.lost, side.bytes)), [((40 - arrived) * 100, 4100), (0, 0)]);
}

#[test]
fn who_was_silent_longest_makes_room() {
    let Some(mut bed) = Bed::load("who_was_silent_longest_makes_room", |options| options.flows = 2000) else { return };
    for n in 0..6000 {
        bed.offer_of(Bed::port(n), true, ACK, 1, 1, 10);
        // One of them is never silent.
        bed.offer_of(Bed::port(0), true, ACK, 1, 1, 0);
        bed.drain();
    }
    let created = bed.kernel.counters().unwrap()[Counter::FlowsCreated as usize];
    let present = bed.kernel.flows().spared();
    assert_eq!(created, 6000);
    assert!((1000..=2000).contains(&present), "{present}");
    assert_eq!(bed.flow_of(Bed::port(0)).unwrap().sides[0].segments, 6001);
    assert!(bed.flow_of(Bed::port(5999)).is_some());
    assert!(bed.flow_of(Bed::port(1)).is_none());
}

#[test]
fn fragments_and_what_is_refused_leave_no_trace() {
    let name = "fragments_and_what_is_refused_leave_no_trace";
    let Some(mut bed) = Bed::load(name, |options| options.filter = all([ports(80, 80)])) else { return };
    let mut fragment = segment(1000, true, ACK, 1, 1, 100);
    fragment[20] = 0x20;
    run(&mut bed.kernel, "xdpflow_xdp", &fragment);
    assert_eq!(bed.drain()[0].flags & OF_FLOW, 0);
    run(&mut bed.kernel, "xdpflow_xdp", &tcp([10, 0, 0, 1], [10, 0, 0, 2], 1, 81, 10));
    assert_eq!(bed.kernel.flows().spared(), 0);
    bed.assert_counters(&[(Counter::Seen, 2), (Counter::Matched, 1)]);
}

#[test]
fn client_and_server_are_told_apart_by_the_handshake() {
    let name = "client_and_server_are_told_apart_by_the_handshake";
    // The servers are those at port 80 and whoever listens at 1001.
    let filter = all([Test::Ports(End::Client, 80, 80)]);
    let Some(mut bed) = Bed::load(name, |options| options.filter = filter.clone()) else { return };
    // The handshake was not seen: either end may be the client.
    assert_eq!(bed.offer_and_drain(1000, true, ACK, 1, 1, 10).len(), 1);
    assert_eq!(bed.offer_and_drain(1000, false, ACK, 1, 1, 10).len(), 1);
    // Port 80 is the server: refused from the SYN on, and remembered, data and bare ACKs too.
    assert_eq!(bed.offer_and_drain(1001, true, SYN, 1, 0, 0).len(), 0);
    assert_eq!(bed.offer_and_drain(1001, false, SYN | ACK, 1, 2, 0).len(), 0);
    for there in [true, false] {
        for control in [ACK, ACK | FIN, RST] {
            assert_eq!(bed.offer_and_drain(1001, there, control, 2, 2, 10).len(), 0);
        }
    }
    assert_eq!(bed.flow_of(1001).unwrap(), Flow { state: state::REFUSED | state::CLIENT, ..Flow::NONE });
    // The SYN was missed, and the SYN-ACK tells.
    assert_eq!(bed.offer_and_drain(1002, false, SYN | ACK, 1, 2, 0).len(), 0);
    assert_eq!(bed.offer_and_drain(1002, true, ACK, 2, 2, 10).len(), 0);
    // Port 80 is the client.
    for (there, control) in [(false, SYN), (true, SYN | ACK), (false, ACK), (true, ACK)] {
        assert_eq!(bed.offer_and_drain(1003, there, control, 1, 1, 0).len(), 1);
    }
    // What was refused is taken when port 80 opens the next connection between the two.
    assert_eq!(bed.offer_and_drain(1001, false, SYN, 70, 0, 0).len(), 1);
    assert_eq!(bed.offer_and_drain(1001, true, ACK, 70, 0, 10).len(), 1);
    assert_eq!(bed.flow_of(1001).unwrap().state & state::REFUSED, 0);
}

#[test]
fn what_was_in_fragments_is_refused_when_its_handshake_was() {
    let name = "what_was_in_fragments_is_refused_when_its_handshake_was";
    let filter = all([Test::Ports(End::Client, 80, 80)]);
    let Some(mut bed) = Bed::load(name, |options| options.filter = filter.clone()) else { return };
    let mut judge = Judge::new(filter.clone());
    let mut decoder = Decoder::new(decode::Config::default());
    // Port 80 is the server of one, the client of another, and of the third nobody knows.
    assert_eq!(bed.offer_and_drain(1001, true, SYN, 1, 0, 0).len(), 0);
    assert_eq!(bed.offer_and_drain(1002, false, SYN, 1, 0, 0).len(), 1);
    for (port, there, wanted) in
        [(1001, true, false), (1001, false, false), (1002, true, true), (1002, false, true), (1003, true, true)]
    {
        for fragment in fragments(&segment(port, there, ACK, 2, 2, 100)) {
            assert_eq!(run(&mut bed.kernel, "xdpflow_xdp", &fragment), XDP_PASS);
        }
        let mut verdicts = Vec::new();
        while let Some(record) = bed.rings[0].next() {
            if let Ok(decoded) = decoder.decode(&record.unwrap().frame()) {
                verdicts.push(judge.accepts(&decoded, &mut bed.kernel.flows()));
            }
        }
        assert_eq!(verdicts, [wanted], "{port} {there}");
    }
}

/// The two halves of an IPv4 datagram.
fn fragments(frame: &[u8]) -> [Vec<u8>; 2] {
    const FIRST: usize = 48;
    let (headers, rest) = frame.split_at(34);
    let (first, second) = rest.split_at(FIRST);
    [(0x2000_u16, first), (FIRST as u16 / 8, second)].map(|(offset, part)| {
        let mut fragment = [headers, part].concat();
        fragment[16..18].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        // Both are parts of the datagram that the ports name.
        fragment[18..20].copy_from_slice(&[rest[1], rest[3]]);
        fragment[20..22].copy_from_slice(&offset.to_be_bytes());
        fragment[24..26].fill(0);
        fragment
    })
}

#[test]
fn the_verifier_accepts_every_program_with_every_combination_of_features() {
    let name = "the_verifier_accepts_every_program_with_every_combination_of_features";
    let frame = segment(1000, true, ACK, 1, 1, 10);
    for clsact in [false, true] {
        for features in 0..16 {
            let has = |bit: u32| features & 1 << bit != 0;
            let options = Options {
                clsact,
                flows: if has(0) { 100 } else { 0 },
                cutoff: has(1).then_some(1000),
                withhold_acks: has(2),
                shed_level: has(3).then_some(1 << 19),
                ..options(Filter::everything())
            };
            if features > 1 && !has(0) {
                if rustix::process::geteuid().is_root() {
                    let error = Kernel::load(&options).map(drop).unwrap_err().to_string();
                    assert!(error.contains("flow table"), "{error}");
                }
                continue;
            }
            let Some((mut kernel, mut rings)) = load_with(name, &options) else { return };
            for program in ETHERNET.into_iter().chain(RAW) {
                let frame = if program.ends_with("_ip") { &frame[14..] } else { &frame };
                kernel.loaded(program).unwrap();
                // On a busy machine the verifier may have taken seconds.
                kernel.heartbeat(boot_clock()).unwrap();
                assert_eq!(run(&mut kernel, program, frame), passing(program), "{program} {features:#b}");
                assert_eq!(only_record(&mut rings).0.flags & flags::FLOW != 0, has(0), "{program} {features:#b}");
            }
        }
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

const WINDOW: u16 = 4321;

const OF_FLOW: u16 =
    flags::FLOW | flags::CUTOFF | flags::SHED | flags::PEER_ACKED | flags::CLIENT_SOURCE | flags::CLIENT_DESTINATION;

/// A kernel half with a flow table and one ring.
struct Bed {
    kernel: Kernel,
    rings: Vec<Ring>,
}

impl Bed {
    fn load(test: &str, change: impl FnOnce(&mut Options)) -> Option<Self> {
        let mut options = Options { shards: 1, flows: 1000, ..options(Filter::everything()) };
        change(&mut options);
        let (kernel, rings) = load_with(test, &options)?;
        Some(Self { kernel, rings })
    }

    /// The client's port of another connection.
    fn port(n: u16) -> u16 {
        1000 + n
    }

    fn offer_of(&mut self, port: u16, there: bool, control: u8, seq: u32, ack: u32, len: usize) {
        let frame = segment(port, there, control, seq, ack, len);
        // What is sent goes the other way; both programs share the table.
        let program = if there { "xdpflow_xdp" } else { "xdpflow_tx" };
        assert_eq!(run(&mut self.kernel, program, &frame), passing(program));
    }

    fn offer(&mut self, there: bool, control: u8, seq: u32, ack: u32, len: usize) {
        self.offer_of(Self::port(0), there, control, seq, ack, len);
    }

    fn offer_and_drain(
        &mut self,
        port: u16,
        there: bool,
        control: u8,
        seq: u32,
        ack: u32,
        len: usize,
    ) -> Vec<FrameHeader> {
        self.offer_of(port, there, control, seq, ack, len);
        self.drain()
    }

    fn run(&mut self, there: bool, control: u8, seq: u32, ack: u32, len: usize) -> Vec<FrameHeader> {
        self.offer_and_drain(Self::port(0), there, control, seq, ack, len)
    }

    fn one(&mut self, there: bool, control: u8, seq: u32, ack: u32, len: usize) -> FrameHeader {
        let headers = self.run(there, control, seq, ack, len);
        assert_eq!(headers.len(), 1);
        headers[0]
    }

    fn drain(&mut self) -> Vec<FrameHeader> {
        records(&mut self.rings).into_iter().map(|(header, _)| header).collect()
    }

    fn flow_of(&self, port: u16) -> Option<Flow> {
        let (key, side) = FlowKey::of(&head(&segment(port, true, ACK, 1, 1, 0), "xdpflow_xdp"));
        assert_eq!(side, 0, "10.0.0.1 is the lower one");
        self.kernel.flows().get(&key)
    }

    fn flow(&self) -> Flow {
        self.flow_of(Self::port(0)).unwrap()
    }

    fn assert_counters(&self, expected: &[(Counter, u64)]) {
        assert_counters(&self.kernel, expected);
    }
}

/// From 10.0.0.1 to port 80 of 10.0.0.2, or back.
fn segment(port: u16, there: bool, control: u8, seq: u32, ack: u32, len: usize) -> Vec<u8> {
    let (src, dst) = if there { ((1, port), (2, 80)) } else { ((2, 80), (1, port)) };
    let mut tcp = TcpHeader::new(src.1, dst.1, seq, WINDOW);
    (tcp.fin, tcp.syn, tcp.rst) = (control & FIN != 0, control & SYN != 0, control & RST != 0);
    (tcp.ack, tcp.urg, tcp.acknowledgment_number) = (control & ACK != 0, control & URG != 0, ack);
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, src.0], [10, 0, 0, dst.0], 64);
    let mut frame = Vec::new();
    builder.tcp_header(tcp).write(&mut frame, &vec![7; len]).unwrap();
    frame
}
