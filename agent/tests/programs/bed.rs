//! What the tests have in common: loading, running, and frames.

use agent::{
    filter::{End, Expression, Filter, Test, compile},
    kernel::{Kernel, Options, Ring},
};
use agent_common::{
    counter::Counter,
    frame::{FrameHeader, LinkType},
    head::{Head, Parsed, parse},
    shard::ShardKey,
    tunnel::Tunnels,
};
use etherparse::{IpNumber, PacketBuilder};

pub(crate) const XDP: [&str; 2] = ["xdpflow_xdp", "xdpflow_xdp_ip"];
pub(crate) const ETHERNET: [&str; 3] = ["xdpflow_xdp", "xdpflow_rx", "xdpflow_tx"];
pub(crate) const RAW: [&str; 3] = ["xdpflow_xdp_ip", "xdpflow_rx_ip", "xdpflow_tx_ip"];
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const TCX_NEXT: u32 = u32::MAX;

/// One page, headroom and all, is what BPF_PROG_TEST_RUN makes an skb of.
pub(crate) const TC_OF_A_PAGE: [&str; 2] = ["xdpflow_rx", "xdpflow_tx"];

pub(crate) fn host(address: [u8; 4]) -> Test {
    Test::Net(End::Either, std::net::IpAddr::from(address).into())
}

pub(crate) fn ports(low: u16, high: u16) -> Test {
    Test::Ports(End::Either, low, high)
}

pub(crate) fn all<const N: usize>(tests: [Test; N]) -> Filter {
    compile(&Expression::And(tests.map(Expression::Test).into()), 0, Tunnels::NONE).unwrap()
}

pub(crate) fn options(filter: Filter) -> Options {
    Options { shards: 2, ..Options::new(filter, ShardKey::FIXED, boot_clock()) }
}

pub(crate) fn load(test: &str, filter: Filter) -> Option<(Kernel, Vec<Ring>)> {
    load_with(test, &options(filter))
}

pub(crate) fn load_with(test: &str, options: &Options) -> Option<(Kernel, Vec<Ring>)> {
    if rustix::process::geteuid().is_root() {
        return Some(Kernel::load(options).unwrap());
    }
    println!("skipped: {test} (needs root)");
    None
}

pub(crate) fn boot_clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub(crate) fn run(kernel: &mut Kernel, program: &str, frame: &[u8]) -> u32 {
    kernel
        .test_run(program, frame, None, 1)
        .unwrap_or_else(|error| panic!("{program}, {} octets: {error:?}", frame.len()))
        .return_value
}

pub(crate) fn passing(program: &str) -> u32 {
    if XDP.contains(&program) { XDP_PASS } else { TCX_NEXT }
}

pub(crate) fn drain(ring: &mut Ring) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some(record) = ring.next() {
        let record = record.unwrap();
        records.push((*record.header(), record.bytes().to_vec()));
    }
    records
}

pub(crate) fn records(rings: &mut [Ring]) -> Vec<(FrameHeader, Vec<u8>)> {
    rings.iter_mut().flat_map(drain).collect()
}

pub(crate) fn only_record(rings: &mut [Ring]) -> (FrameHeader, Vec<u8>) {
    let mut records = records(rings);
    assert_eq!(records.len(), 1);
    records.remove(0)
}

/// All counters: those that are not named are 0.
pub(crate) fn assert_counters(kernel: &Kernel, expected: &[(Counter, u64)]) {
    let counters = kernel.counters().unwrap();
    for (counter, value) in Counter::ALL.into_iter().zip(counters) {
        let expected = expected.iter().find(|(name, _)| *name == counter).map_or(0, |(_, value)| *value);
        assert_eq!(value, expected, "{}", counter.name());
    }
}

pub(crate) fn head(frame: &[u8], program: &str) -> Head {
    let link_type = if program.ends_with("_ip") { LinkType::RAW } else { LinkType::ETHERNET };
    match parse(frame, link_type) {
        Parsed::Tcp(head) => head,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn both_links(frame: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let ethernet = ETHERNET.into_iter().map(|program| (program, frame.to_vec()));
    ethernet.chain(RAW.into_iter().map(|program| (program, frame[14..].to_vec()))).collect()
}

pub(crate) fn tcp(src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(src, dst, 64).tcp(src_port, dst_port, 1, 2);
    builder.write(&mut frame, &payload).unwrap();
    frame
}

pub(crate) fn tcp6(src: &str, dst: &str, src_port: u16, dst_port: u16, len: usize) -> Vec<u8> {
    let octets = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(octets(src), octets(dst), 64);
    builder.tcp(src_port, dst_port, 1, 2).write(&mut frame, &vec![7; len]).unwrap();
    frame
}

/// Puts extension headers, of which the first is `first`, between the IPv6 header of a frame and its TCP header.
pub(crate) fn insert_extensions(frame: &[u8], first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    assert_eq!(frame[20], IpNumber::TCP.0);
    frame[20] = first;
    let len = u16::from_be_bytes([frame[18], frame[19]]) + extensions.len() as u16;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame.splice(54..54, extensions.iter().copied());
    frame
}

pub(crate) fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for ethertype in [[0x81, 0], [0x88, 0xa8], [0x91, 0], [0x81, 0]].into_iter().take(tags) {
        frame.splice(12..12, [ethertype[0], ethertype[1], 0, 5]);
    }
    frame
}
