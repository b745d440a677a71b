//! The programs themselves, run by the kernel on frames of ours (`BPF_PROG_TEST_RUN`): no interface is involved. They
//! need root; without it each test says that it was skipped, in a line that `cargo xtask test` reads.
#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]
#![expect(clippy::print_stdout, reason = "xtask reads what was skipped")]

mod bed;
mod filter;
mod flow;
#[path = "../filter/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};

use agent::{
    filter::{End, Expression, Filter, Test, compile},
    kernel::Options,
};
use agent_common::{
    counter::Counter,
    frame::{FrameHeader, LinkType, VERSION, flags},
    shard::ShardKey,
    tunnel::Tunnels,
};
use etherparse::PacketBuilder;

use crate::bed::*;

#[test]
fn a_frame_that_matches_arrives_whole() {
    let Some((mut kernel, mut rings)) = load("a_frame_that_matches_arrives_whole", Filter::everything()) else {
        return;
    };
    kernel.set_number(1, 7).unwrap();
    let mut before = boot_clock();
    for (program, frame) in both_links(&tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 1400)) {
        assert_eq!(run(&mut kernel, program, &frame), passing(program), "{program}");
        let (header, bytes) = only_record(&mut rings);
        assert_eq!(bytes, frame, "{program}");
        let after = boot_clock();
        assert!((before..=after).contains(&header.timestamp), "{program}: {before} {header:?} {after}");
        before = after;
        let tx = program.starts_with("xdpflow_tx");
        let expected = FrameHeader {
            version: VERSION,
            header_len: 88,
            link_type: if program.ends_with("_ip") { LinkType::RAW } else { LinkType::ETHERNET },
            flags: if tx { flags::CHECKSUM_PARTIAL } else { 0 },
            interface: 7,
            timestamp: header.timestamp,
            len: frame.len() as u32,
            caplen: frame.len() as u32,
            generation: 1,
            ..FrameHeader::default()
        };
        assert_eq!(header, expected, "{program}");
    }
    assert_counters(&kernel, &[(Counter::Seen, 6), (Counter::Matched, 6)]);
}

#[test]
fn what_is_not_tcp_or_not_wanted_passes_unseen() {
    let filter = all([host([10, 0, 0, 1]), ports(80, 89)]);
    let Some((mut kernel, mut rings)) = load("what_is_not_tcp_or_not_wanted_passes_unseen", filter) else { return };
    let mut udp = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
        .udp(80, 80)
        .write(&mut udp, &[7; 50])
        .unwrap();
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let other_port = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 90, 10);
    let other_host = tcp([10, 0, 0, 3], [10, 0, 0, 2], 1234, 80, 10);
    let wanted = tcp([10, 0, 0, 2], [10, 0, 0, 1], 89, 1234, 10);
    for program in ETHERNET {
        for frame in [&udp, &arp, &other_port, &other_host] {
            assert_eq!(run(&mut kernel, program, frame), passing(program));
            assert!(records(&mut rings).is_empty(), "{program}");
        }
        run(&mut kernel, program, &wanted);
        assert_eq!(only_record(&mut rings).1, wanted);
    }
    assert_counters(&kernel, &[(Counter::Seen, 15), (Counter::Matched, 3)]);
}

#[test]
fn ipv6_tags_and_extensions_are_looked_behind() {
    let net = Test::Net(End::Either, "fd00:1::/32".parse().unwrap());
    let filter = all([net, ports(443, 443)]);
    let Some((mut kernel, mut rings)) = load("ipv6_tags_and_extensions_are_looked_behind", filter) else { return };
    let plain = tcp6("fd00:1::5", "2001:db8::1", 443, 5, 100);
    // Hop-by-hop, destination options, an atomic fragment, then TCP.
    let chain = [
        &[60, 0, 1, 4, 0, 0, 0, 0][..],
        &[44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 0, 0, 0, 0, 0, 1],
    ];
    let extended = insert_extensions(&plain, 0, &chain.concat());
    let no_net = tcp6("fd01:1::5", "2001:db8::1", 443, 5, 100);
    for (program, link) in ETHERNET.into_iter().zip([0, 1, 2]) {
        for frame in [&plain, &extended] {
            for tags in 0..=4 {
                let frame = tagged(frame, tags);
                assert_eq!(run(&mut kernel, program, &frame), passing(program));
                assert_eq!(only_record(&mut rings).1, frame, "{program} {link} {tags} tags");
            }
        }
        run(&mut kernel, program, &no_net);
        assert!(records(&mut rings).is_empty(), "{program}");
    }
    for program in RAW {
        run(&mut kernel, program, &extended[14..]);
        assert_eq!(only_record(&mut rings).1, &extended[14..], "{program}");
    }
}

#[test]
fn fragments_are_judged_by_their_addresses() {
    let filter = all([host([10, 0, 0, 1]), ports(80, 80)]);
    let Some((mut kernel, mut rings)) = load("fragments_are_judged_by_their_addresses", filter) else { return };
    for program in ETHERNET {
        let mut shards = BTreeSet::new();
        for (source, offset, wanted) in
            [(1, 0x2000_u16, true), (1, 0x2010, true), (1, 0x0020, true), (3, 0x2000, false)]
        {
            let mut frame = tcp([10, 0, 0, source], [10, 0, 0, 2], 1234, 443, 100);
            frame[20..22].copy_from_slice(&offset.to_be_bytes());
            assert_eq!(run(&mut kernel, program, &frame), passing(program));
            let records: Vec<_> = rings.iter_mut().map(drain).enumerate().filter(|(_, it)| !it.is_empty()).collect();
            assert_eq!(records.len(), usize::from(wanted), "{program} {source} {offset:#x}");
            for (shard, records) in records {
                assert!(records.iter().map(|(_, bytes)| bytes).eq([&frame]));
                shards.insert(shard);
            }
        }
        assert_eq!(shards.len(), 1, "{program}: fragments of one datagram meet in one shard");
    }
}

#[test]
fn malformed_frames_pass_and_are_counted() {
    let Some((mut kernel, mut rings)) = load("malformed_frames_pass_and_are_counted", Filter::everything()) else {
        return;
    };
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 0);
    let mut runs = 0;
    for program in ETHERNET {
        // The kernel makes no skb that ends inside the IP header.
        for len in if XDP.contains(&program) { 14 } else { 34 }..frame.len() {
            assert_eq!(run(&mut kernel, program, &frame[..len]), passing(program), "{program} {len}");
            runs += 1;
        }
        for (at, octet) in [(14, 0x44), (14, 0x55), (14, 0x4f)] {
            let mut lie = frame.clone();
            lie[at] = octet;
            assert_eq!(run(&mut kernel, program, &lie), passing(program), "{program} {octet:#x}");
            runs += 1;
        }
    }
    assert!(records(&mut rings).is_empty());
    assert_counters(&kernel, &[(Counter::Seen, runs), (Counter::Malformed, runs)]);
}

#[test]
fn headers_outside_the_linear_part_are_found() {
    let Some((mut kernel, mut rings)) = load("headers_outside_the_linear_part_are_found", Filter::everything()) else {
        return;
    };
    // Destination options of 2,048 octets each: the TCP header lies beyond the first page, and so in a fragment of the
    // multi-buffer frame.
    let options = |next| [&[next, 255][..], &[0; 2046]].concat();
    let chain = [options(60), options(60), options(60), options(6)].concat();
    let frame = insert_extensions(&tcp6("2001:db8::1", "2001:db8::2", 443, 5, 100), 60, &chain);
    for (program, frame) in [("xdpflow_xdp", &frame[..]), ("xdpflow_xdp_ip", &frame[14..])] {
        assert_eq!(run(&mut kernel, program, frame), XDP_PASS);
        assert_eq!(only_record(&mut rings).1, frame, "{program}");
        assert_eq!(run(&mut kernel, program, &frame[..frame.len() - 101]), XDP_PASS);
        assert!(records(&mut rings).is_empty(), "{program}: it ends inside its TCP header");
    }
    assert_counters(&kernel, &[(Counter::Seen, 4), (Counter::Matched, 2), (Counter::Malformed, 2)]);
}

#[test]
fn programs_that_outlive_the_agent_fall_silent_five_seconds_after_its_last_heartbeat() {
    let name = "programs_that_outlive_the_agent_fall_silent_five_seconds_after_its_last_heartbeat";
    let options = Options { clsact: true, ..options(Filter::everything()) };
    let Some((mut kernel, mut rings)) = load_with(name, &options) else { return };
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 10);
    for (age, heard) in [(0, 1), (4_000_000_000, 1), (5_100_000_000, 0), (0, 1)] {
        kernel.heartbeat(boot_clock() - age).unwrap();
        assert_eq!(run(&mut kernel, "xdpflow_tx", &frame), TCX_NEXT);
        assert_eq!(records(&mut rings).len(), heard, "{age} ns old");
    }
    assert_counters(&kernel, &[(Counter::Seen, 3), (Counter::Matched, 3)]);
}

#[test]
fn every_size_is_whole() {
    let Some((mut kernel, mut rings)) = load("every_size_is_whole", Filter::everything()) else { return };
    let edges = [96, 256, 576, 1024, 1536, 3072, 5120, 9216, 17408, 33792, 65535, 66048];
    for edge in edges {
        for len in [edge - 1, edge, edge + 1, edge + 13] {
            let mut frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 0);
            frame.extend((frame.len()..len).map(|i| (i * 31 / 8) as u8));
            for program in XDP.into_iter().take(1).chain(TC_OF_A_PAGE.into_iter().filter(|_| len < 3000)) {
                assert_eq!(run(&mut kernel, program, &frame), passing(program), "{program} {len}");
                let (header, bytes) = only_record(&mut rings);
                assert_eq!((header.len as usize, header.caplen as usize), (len, len), "{program} {len}");
                assert!(bytes == frame, "{program}: {len} octets differ");
            }
        }
    }
}

#[test]
fn the_snaplen_cuts_and_says_so() {
    for snaplen in [1, 54, 96, 97, 1000] {
        let filter = compile(&Expression::And(Vec::new()), snaplen, Tunnels::NONE).unwrap();
        let Some((mut kernel, mut rings)) = load("the_snaplen_cuts_and_says_so", filter) else { return };
        let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 500);
        let expected = frame.len().min(snaplen as usize);
        let cut = expected < frame.len();
        for program in ETHERNET {
            run(&mut kernel, program, &frame);
            let (header, bytes) = only_record(&mut rings);
            assert_eq!((header.len as usize, header.caplen as usize), (frame.len(), expected));
            assert_eq!(bytes, &frame[..expected]);
        }
        let cuts = if cut { 3 } else { 0 };
        assert_counters(&kernel, &[(Counter::Seen, 3), (Counter::Matched, 3), (Counter::Cut, cuts)]);
    }
}

#[test]
fn a_filter_replaced_while_running_changes_what_arrives_and_the_generation() {
    let name = "a_filter_replaced_while_running_changes_what_arrives_and_the_generation";
    let only = |port| all([ports(port, port)]);
    let Some((mut kernel, mut rings)) = load(name, only(1)) else { return };
    let frames = [1, 2].map(|port| tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, port, 10));
    for generation in 1..=20 {
        let port = usize::from(generation % 2 == 0);
        if generation > 1 {
            assert_eq!(kernel.set_filter(&only(port as u16 + 1)).unwrap(), generation);
        }
        for program in ETHERNET {
            for frame in &frames {
                run(&mut kernel, program, frame);
            }
            let (header, bytes) = only_record(&mut rings);
            assert_eq!(bytes, frames[port]);
            assert_eq!(header.generation, generation);
        }
    }
}

#[test]
fn a_full_ring_is_counted_and_told_to_the_next_record() {
    let name = "a_full_ring_is_counted_and_told_to_the_next_record";
    let options = Options { ring_size: 4096, shards: 1, ..options(Filter::everything()) };
    let Some((mut kernel, mut rings)) = load_with(name, &options) else { return };
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 0);
    for program in ETHERNET {
        let before = kernel.ring_stats(0).unwrap().refused;
        for _ in 0..100 {
            assert_eq!(run(&mut kernel, program, &frame), passing(program));
        }
        let arrived = records(&mut rings).len() as u64;
        assert!((10..50).contains(&arrived), "{arrived} records of 192 + 8 octets in a ring of 4096");
        let refused = kernel.ring_stats(0).unwrap().refused;
        assert_eq!(arrived + refused - before, 100);
        run(&mut kernel, program, &frame);
        assert_eq!(only_record(&mut rings).0.refused, refused);
    }
    let refused = kernel.ring_stats(0).unwrap().refused;
    assert_counters(&kernel, &[(Counter::Seen, 303), (Counter::Matched, 303), (Counter::RingFull, refused)]);
    let level_max = kernel.ring_stats(0).unwrap().level_max;
    assert!((3500..=4096).contains(&level_max), "{level_max}");
}

#[test]
fn a_frame_larger_than_the_ring_is_refused() {
    let options = Options { ring_size: 4096, shards: 1, ..options(Filter::everything()) };
    let Some((mut kernel, mut rings)) = load_with("a_frame_larger_than_the_ring_is_refused", &options) else { return };
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 9000);
    assert_eq!(run(&mut kernel, "xdpflow_xdp", &frame), XDP_PASS);
    assert!(records(&mut rings).is_empty());
    assert_counters(&kernel, &[(Counter::Seen, 1), (Counter::Matched, 1), (Counter::RingFull, 1)]);
}

#[test]
fn both_directions_meet_in_the_shard_that_the_hash_names() {
    for shards in [1, 2, 5, 64] {
        let options = Options { shards, ..options(Filter::everything()) };
        let Some((mut kernel, mut rings)) =
            load_with("both_directions_meet_in_the_shard_that_the_hash_names", &options)
        else {
            return;
        };
        let mut used = BTreeMap::new();
        for port in 1000..1400 {
            let there = tcp([10, 0, 0, 1], [10, 0, 0, 2], port, 80, 10);
            let back = tcp([10, 0, 0, 2], [10, 0, 0, 1], 80, port, 10);
            run(&mut kernel, "xdpflow_xdp", &there);
            run(&mut kernel, "xdpflow_tx", &back);
            let shard = ShardKey::pick(ShardKey::FIXED.hash(&head(&there, "xdpflow_xdp")), shards);
            let ring = &mut rings[shard as usize];
            assert_eq!(drain(ring).len(), 2, "{shards} shards, port {port}");
            *used.entry(shard).or_insert(0) += 1;
        }
        assert_eq!(used.len(), shards as usize, "400 connections over {shards} shards: {used:?}");
    }
}

#[test]
fn what_the_stack_knows_about_a_merged_frame_is_told() {
    let Some((mut kernel, mut rings)) = load("what_the_stack_knows_about_a_merged_frame_is_told", Filter::everything())
    else {
        return;
    };
    let frame = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 2800);
    // __sk_buff: gso_segs is its 42nd word, gso_size two further on.
    let mut skb = [0_u32; 48];
    skb[41] = 2;
    skb[44] = 1448;
    let result = kernel.test_run("xdpflow_rx", &frame, Some(bytemuck::cast_slice(&skb)), 1).unwrap();
    assert_eq!(result.return_value, TCX_NEXT);
    let (header, bytes) = only_record(&mut rings);
    assert_eq!(bytes, frame);
    assert_eq!(header.flags, flags::CHECKSUM_PARTIAL);
}
