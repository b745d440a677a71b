//! The same packets in tunnels and in fragments, and with checksums that are right or wrong.

use std::net::IpAddr;

use crate::{
    account::{assert_complete, assert_fine},
    frame::Frame,
    outcome::replay_frames,
    output::replay_recording,
    recording::Recording,
};

/// Puts a packet of a type, whose frame has these addresses, into another packet: its protocol number and its content.
type Wrap = fn(&[u8], [u8; 2], &[u8]) -> (u8, Vec<u8>);

const TUNNELS: [(&str, Wrap); 16] = [
    ("vxlan", |macs, kind, ip| udp(4_789, &[&[8, 0, 0, 0, 0, 1, 0, 0], macs, &kind, ip])),
    ("vxlan", |macs, kind, ip| udp(8_472, &[&[8, 0, 0, 0, 0, 1, 0, 0], macs, &[0x81, 0, 0, 9], &kind, ip])),
    ("vxlan-gpe", |_, kind, ip| udp(4_790, &[&[12, 0, 0, if kind == V4 { 1 } else { 2 }, 0, 1, 0, 0], ip])),
    ("geneve", |macs, kind, ip| udp(6_081, &[&[1, 0, 0x65, 0x58, 0, 1, 0, 0, 1, 1, 1, 0], macs, &kind, ip])),
    ("gre", |_, kind, ip| (47, [&[0, 0], &kind[..], ip].concat())),
    ("gre", |macs, kind, ip| (47, [&[0x30, 0, 0x65, 0x58, 0, 0, 0, 1, 0, 0, 0, 2], macs, &kind, ip].concat())),
    ("gre", |macs, kind, ip| {
        (47, [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 0], macs, &kind, ip].concat())
    }),
    ("gre", |_, kind, ip| {
        let len = (ip.len() as u16 + 4).to_be_bytes();
        (47, [&[0x30, 1, 0x88, 0x0b], &len[..], &[0, 7, 0, 0, 0, 1, 0xff, 3], &ppp(kind), ip].concat())
    }),
    ("ipip,6in4", |_, kind, ip| (if kind == V4 { 4 } else { 41 }, ip.to_vec())),
    ("l2tp", |_, kind, ip| udp(1_701, &[&[0, 2, 0, 1, 0, 2, 0xff, 3], &ppp(kind), ip])),
    ("l2tp", |_, kind, ip| {
        let len = (ip.len() as u16 + 14).to_be_bytes();
        udp(1_701, &[&[0x48, 2], &len, &[0, 1, 0, 2, 0, 3, 0, 4], &ppp(kind), ip])
    }),
    ("l2tp", |macs, kind, ip| (115, [&[0, 0, 0, 1, 9, 9, 9, 9], macs, &kind, ip].concat())),
    ("gtp", |_, _, ip| udp(2_152, &[&[0x30, 255], &(ip.len() as u16).to_be_bytes(), &[0, 0, 0, 1], ip])),
    ("gtp", |_, _, ip| {
        let len = (ip.len() as u16 + 8).to_be_bytes();
        udp(2_152, &[&[0x34, 255], &len, &[0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0], ip])
    }),
    ("etherip", |macs, kind, ip| (97, [&[0x30, 0], macs, &kind, ip].concat())),
    ("mpls", |_, _, ip| (137, [&[0, 1, 1, 64], ip].concat())),
];

#[test]
fn every_tunnel_gives_the_same_output() {
    for (number, (name, wrap)) in TUNNELS.into_iter().enumerate() {
        let v4 = number % 2 == 0;
        let frames = wrapped(wrap, v4);
        let shards = ["1", "2", "5"][number % 3];
        let outcome = replay_frames(&frames, &["--decap", name, "--shards", shards]);
        assert_complete(&outcome, &Recording::get().conversations);
        // Who does not ask for it gets none of what is inside.
        let unasked = replay_frames(&frames, &["--json"]);
        assert_eq!((unasked.closed.len(), unasked.files.len()), (0, 0), "{name}");
        assert_eq!(unasked.summary()["frames"]["not_tcp"], frames.len(), "{name}");
    }
}

#[test]
fn tunnels_are_told_apart() {
    for (number, (name, wrap)) in TUNNELS.into_iter().enumerate() {
        let frames = wrapped(wrap, number % 2 == 1);
        let all = "vxlan,vxlan-gpe,geneve,gre,ipip,6in4,l2tp,gtp,teredo,etherip,mpls";
        let others: Vec<_> = all.split(',').filter(|other| !name.split(',').any(|it| it == *other)).collect();
        let outcome = replay_frames(&frames[..200], &["--decap", &others.join(",")]);
        assert_fine(&outcome);
        assert_eq!(outcome.files.len(), 0, "{name}");
    }
    let outcome = replay_frames(&Recording::get().frames, &["--decap", "vxlan,carrier-pigeon"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("not a tunnel (try vxlan,gre, or all)"), "{}", outcome.stderr);
}

#[test]
fn filters_look_inside() {
    let frames = wrapped(TUNNELS[0].1, true);
    let recording = Recording::get();
    let port = recording.conversations[3].client.port();
    let outcome = replay_frames(&frames, &["--decap", "all", "--port", &port.to_string()]);
    assert_complete(&outcome, recording.conversations.iter().filter(|it| it.client.port() == port));
    let outcome = replay_frames(&frames, &["--decap", "all", "--host", "192.0.2.1"]);
    assert_eq!(outcome.files.len(), 0, "the tunnel's ends are no ends of a connection");
}

#[test]
fn row_22_fragments_in_any_order_give_the_same_output() {
    let whole = replay_recording(&[]);
    let orders: [fn(&mut Vec<Frame>); 4] = [
        |_| {},
        |pieces| pieces.reverse(),
        |pieces| pieces.rotate_left(1),
        |pieces| {
            let again = pieces.clone();
            pieces.extend(again.into_iter().rev().skip(1));
        },
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let mut frames = Vec::new();
        for (id, frame) in Recording::get().frames.iter().enumerate() {
            let mut pieces = fragments(frame, id as u32, 488);
            // A copy that comes behind the last one would begin the datagram anew.
            let last = if number == 3 { pieces.pop() } else { None };
            order(&mut pieces);
            frames.extend(pieces);
            frames.extend(last);
        }
        assert!(frames.len() > Recording::get().frames.len() * 3 / 2, "nothing was cut");
        for shards in ["1", "2", "5"] {
            let outcome = replay_frames(&frames, &["--shards", shards]);
            assert_complete(&outcome, &Recording::get().conversations);
            assert_eq!(outcome.essence(), whole.essence(), "order {number}, {shards} shards");
        }
    }
}

#[test]
fn row_22_fragments_of_tunnels() {
    let frames: Vec<_> = wrapped(TUNNELS[0].1, true)
        .iter()
        .enumerate()
        .flat_map(|(id, frame)| fragments(frame, id as u32, 1_000))
        .collect();
    for shards in ["1", "2", "5"] {
        let outcome = replay_frames(&frames, &["--decap", "vxlan", "--shards", shards]);
        assert_complete(&outcome, &Recording::get().conversations);
    }
}

/// One fragment in a hundred is lost: what was in the others is missing with it, and every frame is accounted for.
#[test]
fn row_22_incomplete_datagrams_are_counted() {
    let mut lost = 0;
    let mut frames = Vec::new();
    for (id, frame) in Recording::get().frames.iter().enumerate() {
        let pieces = fragments(frame, id as u32, 488);
        if pieces.len() > 1 && id % 100 == 0 {
            lost += pieces.len() as u64 - 1;
            frames.extend(pieces.into_iter().skip(1));
        } else {
            frames.extend(pieces);
        }
    }
    assert!(lost > 10, "{lost}");
    // All is over within seconds, so time ends them only where the limit says so.
    for (args, counter) in [
        (vec!["--fragment-timeout", "0s"], "timeout"),
        (vec!["--max-fragmented", "1"], "limit"),
        (vec!["--max-fragments", "4K"], "limit"),
        (vec![], "unfinished"),
    ] {
        let outcome = replay_frames(&frames, &[&args[..], &["--json"]].concat());
        assert_fine(&outcome);
        let fragments = &outcome.summary()["fragments"];
        if counter == "unfinished" {
            assert_eq!(fragments[counter], lost, "{fragments}");
        } else {
            assert!(fragments[counter].as_u64().unwrap() + fragments["unfinished"].as_u64().unwrap() >= lost);
            assert!(fragments[counter].as_u64().unwrap() > 10, "{args:?} {fragments}");
        }
    }
}

#[test]
fn row_19_wrong_checksums() {
    let recording = Recording::get();
    let mut frames = Vec::new();
    let (mut wrong, mut octets) = (0, 0);
    for (number, frame) in recording.frames.iter().enumerate() {
        let mut frame = frame.clone();
        frame.set_checksum();
        if number % 5 == 0 && !frame.tcp().payload.is_empty() {
            // Before the right one comes, as if it were retransmitted.
            let mut damaged = frame.clone();
            let at = damaged.payload_at();
            damaged.bytes[at] ^= 0x20;
            octets += damaged.tcp().payload.len() as u64;
            wrong += 1;
            frames.push(damaged);
        }
        frames.push(frame);
    }
    assert!(wrong > 50, "{wrong}");
    for shards in ["1", "2"] {
        let outcome = replay_frames(&frames, &["--verify-checksum", "--json", "--shards", shards]);
        assert_complete(&outcome, &recording.conversations);
        let summary = outcome.summary();
        assert_eq!(summary["frames"]["bad_checksum"], wrong);
        assert_eq!(summary["frames"]["bad_checksum_payload"], octets);
    }
    // By default the first copy is the one that is kept.
    let outcome = replay_frames(&frames, &["--json"]);
    assert_fine(&outcome);
    assert_eq!(outcome.summary()["frames"]["bad_checksum"], 0);
    assert_ne!(outcome.files, replay_recording(&[]).files);
}

/// What offload left to the hardware, and what the snaplen cut, cannot be known to be wrong.
#[test]
fn row_19_checksums_that_nobody_can_know() {
    let recording = Recording::get();
    let with = |change: fn(&mut Frame)| -> Vec<Frame> {
        let mut frames = recording.frames.clone();
        frames.iter_mut().for_each(change);
        frames
    };
    let outcome = replay_frames(&with(Frame::set_partial_checksum), &["--verify-checksum"]);
    assert_complete(&outcome, &recording.conversations);

    let zeroed = with(Frame::zero_checksum);
    let outcome = replay_frames(&zeroed, &["--verify-checksum", "--snaplen", "80", "--json"]);
    assert_fine(&outcome);
    let cut = zeroed.iter().filter(|frame| frame.bytes.len() > 80).count() as u64;
    let whole = zeroed.len() as u64 - cut;
    let frames = &outcome.summary()["frames"];
    assert!(frames["bad_checksum"].as_u64().unwrap() <= whole && cut > 100, "{frames}");
    assert!(frames["segments"].as_u64().unwrap() >= cut, "{frames}");
}

fn wrapped(wrap: Wrap, v4: bool) -> Vec<Frame> {
    let frames = &Recording::get().frames;
    frames
        .iter()
        .map(|frame| {
            let (kind, packet) = frame.packet();
            let (protocol, content) = wrap(&frame.bytes[..12], kind, packet);
            Frame { at: frame.at, bytes: outside(&frame.bytes[..12], v4, protocol, &content) }
        })
        .collect()
}

/// An Ethernet frame between the ends of a tunnel.
fn outside(macs: &[u8], v4: bool, protocol: u8, content: &[u8]) -> Vec<u8> {
    let octets = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if v4 {
        let len = (content.len() as u16 + 20).to_be_bytes();
        let ip = [&[0x45, 0], &len[..], &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
        [macs, &V4, &ip, &octets("192.0.2.1"), &octets("192.0.2.2"), content].concat()
    } else {
        let len = (content.len() as u16).to_be_bytes();
        let ip = [&[0x60, 0, 0, 0], &len[..], &[protocol, 64]].concat();
        [macs, &[0x86, 0xdd], &ip, &octets("2001:db8::1"), &octets("2001:db8::2"), content].concat()
    }
}

fn udp(port: u16, content: &[&[u8]]) -> (u8, Vec<u8>) {
    let content = content.concat();
    let len = (content.len() as u16 + 8).to_be_bytes();
    (17, [&[0x9c, 0x40], &port.to_be_bytes(), &len, &[0, 0], &content[..]].concat())
}

/// A frame in fragments with at most `size` octets each, which must be a multiple of 8.
pub(crate) fn fragments(frame: &Frame, id: u32, size: usize) -> Vec<Frame> {
    let (_, packet) = frame.packet();
    let v4 = frame.is_v4();
    // What is behind the packet is padding.
    let (header_len, len) = if v4 {
        (20, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
    } else {
        (40, 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])))
    };
    let (header, content) = packet[..len].split_at(header_len);
    if content.len() <= size {
        return vec![frame.clone()];
    }
    let count = content.len().div_ceil(size);
    let piece = |(number, piece): (usize, &[u8])| {
        let (offset, more) = ((number * size) as u16, number + 1 < count);
        let mut header = header.to_vec();
        if v4 {
            header[2..4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
            header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            header[6..8].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
        } else {
            header[4..6].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut header[6], 44);
            header.extend([next, 0]);
            header.extend((offset | u16::from(more)).to_be_bytes());
            header.extend(id.to_be_bytes());
        }
        Frame { at: frame.at, bytes: [&frame.bytes[..14], &header, piece].concat() }
    };
    content.chunks(size).enumerate().map(piece).collect()
}

/// Protocol number of PPP.
fn ppp(kind: [u8; 2]) -> [u8; 2] {
    if kind == V4 { [0, 0x21] } else { [0, 0x57] }
}

const V4: [u8; 2] = [0x08, 0x00];
