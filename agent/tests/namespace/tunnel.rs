//! Tunnels and fragments: what the programs cannot look into still gets to the shard that it belongs to.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::capture::{Capture, Outcome};
use crate::conversation::{Conversation, Server, noise, short, talk};
use crate::link::Pair;
use crate::packet::{ACK, FIN, Frame, PSH, PacketSocket, SYN};
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("tunnel::vxlan", || vxlan(1_500, "--attach tc --shards 3")),
    Test::new("tunnel::vxlan_at_xdp", || vxlan(1_500, "--attach native --shards 2")),
    Test::new("tunnel::vxlan_in_fragments", || vxlan(1_300, "--attach tc --shards 3")),
    Test::new("tunnel::gre", gre),
    Test::new("tunnel::not_asked_for", not_asked_for),
    Test::new("tunnel::fragments", fragments),
];

/// Real connections through a tunnel of the kernel's, over a link whose frames have at most `mtu` octets.
fn vxlan(mtu: u32, args: &str) {
    let pair = with_vxlan(mtu);
    let capture =
        Capture::start(&pair.server, &format!("-i s0 --decap vxlan --net 10.8.0.0/24 --net fd08::/64 {args}"));
    let said = speak(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    assert!(shards_of(&outcome).len() > 1, "one ring, and no shard but its own");
    // With frames as large as that, nothing has to be cut.
    assert_eq!(outcome.count("/fragments/joined") > 0, mtu < 1_500);
    pair.assert_untouched();
}

/// Frames made by hand, in a tunnel between addresses that no filter names.
fn gre() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --attach tc --shards 4 --decap gre --port 80");
    let said = send(&pair, |frame, _| vec![in_gre(frame)]);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    assert!(shards_of(&outcome).len() > 1, "one ring, and no shard but its own");
}

/// Without the flag, tunnels are no concern of the programs.
fn not_asked_for() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --attach tc");
    send(&pair, |frame, _| vec![in_gre(frame)]);
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!((outcome.count("/source/kernel/matched"), outcome.output.closed.len()), (0, 0));
}

/// Every segment in pieces of 24 octets, the last one first. Fragments are told apart by their addresses, so all of them
/// come through one ring.
fn fragments() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --attach native --shards 4 --port 80");
    let said = send(&pair, |frame, id| {
        let mut pieces = cut(frame, id, 24);
        pieces.reverse();
        pieces
    });
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    assert!(shards_of(&outcome).len() > 1, "one ring, and no shard but its own");
    assert_eq!(outcome.count("/frames/fragments"), outcome.count("/fragments/joined"));
}

fn with_vxlan(mtu: u32) -> Pair {
    let pair = Pair::with(&format!("mtu {mtu}"));
    for (namespace, ours, theirs) in [(&pair.client, 1, 2), (&pair.server, 2, 1)] {
        // Without a device below, whose MTU would limit this one's.
        let ends = format!("local 10.9.0.{ours} remote 10.9.0.{theirs} dstport 4789");
        namespace.ip(&format!("link add v0 mtu 1400 address 02:00:00:00:08:0{ours} type vxlan id 5 {ends}"));
        namespace.ip(&format!("addr add 10.8.0.{ours}/24 dev v0"));
        namespace.ip(&format!("addr add fd08::{ours}/64 dev v0 nodad"));
        namespace.ip("link set v0 up");
        for address in [format!("10.8.0.{theirs}"), format!("fd08::{theirs}")] {
            namespace.ip(&format!("neigh replace {address} lladdr 02:00:00:00:08:0{theirs} dev v0"));
        }
    }
    pair
}

fn speak(pair: &Pair) -> Vec<Conversation> {
    let servers = ["10.8.0.2:8080", "[fd08::2]:8080"];
    servers
        .iter()
        .flat_map(|address| {
            let server = Server::start(&pair.server, address.parse().unwrap());
            talk(&pair.client, &server, &short(20))
        })
        .collect()
}

/// Sends some connections made by hand, every frame as what `wrap` makes of it and its number.
fn send(pair: &Pair, wrap: impl Fn(&[u8], u16) -> Vec<Vec<u8>>) -> Vec<Conversation> {
    let wire = PacketSocket::open(&pair.client, "c0");
    let mut number = 0;
    let server = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 80);
    (0..20)
        .map(|port| {
            // Far apart, since numbers that differ in few bits may well be of one shard, whatever the key.
            let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 4_000 + 1_777 * port);
            let (asked, answered) = (noise(1_000), noise(1_300));
            let steps: [(bool, u8, &[u8]); 8] = [
                (true, SYN, &[]),
                (false, SYN | ACK, &[]),
                (true, ACK, &[]),
                (true, PSH | ACK, &asked),
                (false, PSH | ACK, &answered),
                (true, FIN | ACK, &[]),
                (false, FIN | ACK, &[]),
                (true, ACK, &[]),
            ];
            let mut next = [1_000_u32, 2_000];
            for (by_client, flags, payload) in steps {
                let (from, to) = if by_client { (0, 1) } else { (1, 0) };
                let (source, destination) = if by_client { (client, server) } else { (server, client) };
                let acknowledgment = if flags & ACK == 0 { 0 } else { next[to] };
                let frame =
                    Frame { source, destination, sequence: next[from], acknowledgment, flags, window: 0xffff, payload };
                next[from] += payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
                number += 1;
                wrap(&frame.bytes(), number).iter().for_each(|frame| wire.send(frame));
            }
            Conversation { client: client.into(), server: server.into(), c2s: asked, s2c: answered }
        })
        .collect()
}

/// The frame's packet in GRE, between two other hosts.
fn in_gre(frame: &[u8]) -> Vec<u8> {
    let (ethernet, packet) = frame.split_at(14);
    let len = (packet.len() as u16 + 24).to_be_bytes();
    let outside = [&[0x45, 0], &len[..], &[0, 0, 0, 0, 64, 47, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2]].concat();
    [ethernet, &outside, &[0, 0, 8, 0], packet].concat()
}

/// The frame's packet in fragments with at most `size` octets each.
fn cut(frame: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let (header, content) = frame.split_at(34);
    let count = content.len().div_ceil(size);
    let piece = |(number, piece): (usize, &[u8])| {
        let mut header = header.to_vec();
        let field = (number * size / 8) as u16 | if number + 1 < count { 0x2000 } else { 0 };
        header[16..18].copy_from_slice(&(piece.len() as u16 + 20).to_be_bytes());
        header[18..20].copy_from_slice(&id.to_be_bytes());
        header[20..22].copy_from_slice(&field.to_be_bytes());
        [&header, piece].concat()
    };
    content.chunks(size).enumerate().map(piece).collect()
}

/// Shards that reassembled something.
fn shards_of(outcome: &Outcome) -> BTreeSet<&str> {
    outcome.output.closed.iter().filter_map(|record| Some(record.id.split_once('-')?.0)).collect()
}
