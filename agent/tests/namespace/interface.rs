//! Interfaces of every kind, and frames of every size that they deliver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use crate::capture::{Capture, Outcome};
use crate::conversation::{Conversation, Server, short, talk};
use crate::deadline::eventually;
use crate::link::{Pair, attached, server_v4, server_v6};
use crate::namespace::Namespace;
use crate::packet::{Cable, Layer, PacketSocket, tagged};
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("interface::loopback", loopback),
    Test::new("interface::jumbo_frames", jumbo_frames),
    Test::new("interface::merged_frames_sent", merged_frames_sent),
    Test::new("interface::big_tcp", big_tcp),
    Test::new("interface::vlan_tags", vlan_tags),
    Test::new("interface::stacked", stacked),
    Test::new("interface::two_at_once", two_at_once),
    Test::new("interface::without_ethernet_header", without_ethernet_header),
    Test::new("interface::ethernet_tap", ethernet_tap),
    Test::new("interface::disappears", disappears),
    Test::new("interface::last_one_disappears", last_one_disappears),
];

const BULK: &[(usize, usize)] = &[(32 << 20, 16), (16, 32 << 20)];

/// Every frame on `lo` passes both the sending and the receiving side, and counts once.
fn loopback() {
    let namespace = Namespace::new();
    let capture = Capture::start(&namespace, "-i lo");
    let mut said = Vec::new();
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let server = Server::start(&namespace, (address, 0).into());
        said.extend(talk(&namespace, &server, &short(40)));
        said.extend(talk(&namespace, &server, BULK));
    }
    let retransmitted = namespace.retransmitted();
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    let seen: u64 = outcome.output.closed.iter().map(|r| r.c2s.retransmitted + r.s2c.retransmitted).sum();
    assert!(seen <= retransmitted, "{seen} segments seen twice, {retransmitted} sent twice");
    assert!(mean_segment(&outcome) > 20_000, "the frames were large: {}", mean_segment(&outcome));
    assert!(attached(&namespace, "lo").is_empty());
}

/// Larger than a page: native XDP sees them in fragments.
fn jumbo_frames() {
    let pair = Pair::with("mtu 9000");
    let capture = Capture::start(&pair.server, "-i s0 --attach native");
    let said = bulk(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    let received = &outcome.output.record(said[0].client, said[0].server).c2s;
    assert!(received.bytes / received.segments > 4_096, "the frames were large: {received:?}");
    pair.assert_untouched();
}

/// On the sending side TCP hands down frames that are cut only behind us.
fn merged_frames_sent() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0");
    let said = bulk(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    let sent = &outcome.output.record(said[1].client, said[1].server).s2c;
    assert!(sent.bytes / sent.segments > 10_000, "the frames were merged: {sent:?}");
}

/// Frames beyond 64 KiB, whose IP header cannot say how long they are.
fn big_tcp() {
    let pair = Pair::with("gso_max_size 185000 gro_max_size 185000");
    let capture = Capture::start(&pair.server, "-i s0 --attach tc");
    let server = pair.serve(server_v6(0));
    let said: Vec<_> = BULK.iter().flat_map(|sizes| talk(&pair.client, &server, &[*sizes])).collect();
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    let sent = &outcome.output.record(said[1].client, said[1].server).s2c;
    assert!(sent.bytes / sent.segments > 65_536, "the frames were large: {sent:?}");
    pair.assert_untouched();
}

/// A mirror port with 802.1Q tags: in the frame for XDP and for the sender, taken out of it for tc on the receiver.
fn vlan_tags() {
    let (client, server, mirror) = (Namespace::new(), Namespace::new(), Pair::new());
    let captures = [
        Capture::start(&mirror.server, "-i s0 --attach native"),
        Capture::start(&mirror.server, "-i s0 --attach tc"),
        Capture::start(&mirror.client, "-i c0 --attach tc"),
    ];
    let port = PacketSocket::open(&mirror.client, "c0");
    let ends = [(&client, "10.9.8.1/24"), (&server, "10.9.8.2/24")];
    let cable = Cable::lay(Layer::Frames, "trunk", ends, move |frame| port.send(&tagged(frame, 5)));
    let listening = Server::start(&server, (Ipv4Addr::new(10, 9, 8, 2), 0).into());
    let said = talk(&client, &listening, &short(20));
    drop(cable);
    for capture in captures {
        let outcome = capture.stop();
        outcome.assert_success();
        outcome.output.assert_complete(&said);
        assert!(outcome.output.closed.iter().all(|record| record.vlan == Some(5)), "{:#?}", outcome.output.closed);
    }
}

/// An interface on top of another, and the one below it: the same streams, and below them the tag.
fn stacked() {
    let pair = Pair::new();
    // Kernels built without 802.1Q have the other kind at least.
    let vlan = pair.server.run(|| {
        let probe = "link add link s0 name probe type vlan id 6".split(' ');
        std::process::Command::new("ip").args(probe).output().unwrap().status.success()
    });
    let kind = if vlan { "vlan id 5" } else { "macvlan mode bridge" };
    for (namespace, below, address) in [(&pair.client, "c0", "10.9.5.1/24"), (&pair.server, "s0", "10.9.5.2/24")] {
        namespace.ip(&format!("link add link {below} name top type {kind}"));
        namespace.ip(&format!("addr add {address} dev top"));
        namespace.ip("link set top up");
        // An interface answers ARP for its own addresses only, or frames for this one would go past it.
        namespace.sysctl("net/ipv4/conf/all/arp_ignore", "1");
    }
    let captures = ["-i top", "-i s0 --net 10.9.5.0/24"].map(|args| Capture::start(&pair.server, args));
    let server = pair.serve(server_v4(5));
    let said = [talk(&pair.client, &server, &short(30)), talk(&pair.client, &server, &[(4 << 20, 4 << 20)])].concat();
    let [top, below] = captures.map(Capture::stop);
    for outcome in [&top, &below] {
        outcome.assert_success();
        outcome.output.assert_complete(&said);
    }
    assert!(top.output.closed.iter().all(|record| record.vlan.is_none()));
    let tag = vlan.then_some(5);
    assert!(below.output.closed.iter().all(|record| record.vlan == tag));
    assert!(attached(&pair.server, "top").is_empty());
    pair.assert_untouched();
}

fn two_at_once() {
    let pair = Pair::new();
    pair.link(1, "");
    let capture = Capture::start(&pair.server, "-i s0 -i s1");
    let mut said = Vec::new();
    for n in [0, 1] {
        said.push(talk(&pair.client, &pair.serve(server_v4(n)), &short(50)));
    }
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(said.iter().flatten());
    for (said, interface) in said.iter().zip(["s0", "s1"]) {
        assert!(said.iter().all(|c| outcome.output.record(c.client, c.server).interface == interface));
    }
    assert!(attached(&pair.server, "s1").is_empty());
    pair.assert_untouched();
}

/// A tunnel: packets begin with the IP header.
fn without_ethernet_header() {
    ["auto", "generic", "tc"].into_iter().for_each(|mode| over_cable(Layer::Packets, mode));
}

/// The same driver with Ethernet headers, and the second one here that has native XDP.
fn ethernet_tap() {
    over_cable(Layer::Frames, "native");
}

fn over_cable(layer: Layer, mode: &str) {
    let (client, server) = (Namespace::new(), Namespace::new());
    let _cable = Cable::lay(layer, "cable", [(&client, "10.9.8.1/24"), (&server, "10.9.8.2/24")], |_| {});
    let capture = Capture::start(&server, &format!("-i cable --attach {mode}"));
    let listening = Server::start(&server, (Ipv4Addr::new(10, 9, 8, 2), 0).into());
    let said = [talk(&client, &listening, &short(30)), talk(&client, &listening, &[(2 << 20, 2 << 20)])].concat();
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    assert!(attached(&server, "cable").is_empty());
}

/// One of two goes away: one clear line, and the capture goes on with the other.
fn disappears() {
    let pair = Pair::new();
    pair.link(1, "");
    let capture = Capture::start(&pair.server, "-i s0 -i s1");
    let mut said = talk(&pair.client, &pair.serve(server_v4(1)), &short(20));
    pair.server.ip("link del s1");
    eventually("a line about s1", Duration::from_secs(5), || {
        capture.stderr().lines().any(|line| !line.starts_with("listening") && line.contains("s1"))
    });
    assert!(!capture.ended(), "s0 is still there");
    said.extend(talk(&pair.client, &pair.serve(server_v4(0)), &short(20)));
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    pair.assert_untouched();
}

/// With nothing left to listen to, it ends by itself, in order.
fn last_one_disappears() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0");
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(20));
    // What has passed is in the ring; the interface takes nothing of it along.
    sleep(Duration::from_millis(20));
    pair.server.ip("link del s0");
    let outcome = capture.wait();
    outcome.assert_success();
    assert!(outcome.stderr.lines().any(|line| !line.starts_with("listening") && line.contains("s0")));
    outcome.output.assert_complete(&said);
}

/// One long upload, then one long download.
fn bulk(pair: &Pair) -> Vec<Conversation> {
    let server = pair.serve(server_v4(0));
    BULK.iter().flat_map(|sizes| talk(&pair.client, &server, &[*sizes])).collect()
}

/// Octets per segment in the direction that has most of them.
fn mean_segment(outcome: &Outcome) -> u64 {
    let streams = outcome.output.closed.iter().flat_map(|record| [&record.c2s, &record.s2c]);
    streams.max_by_key(|stream| stream.bytes).map_or(0, |stream| stream.bytes / stream.segments)
}
