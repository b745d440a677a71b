//! A frame becomes a segment.

use agent::{
    decode::{Config, Decoder},
    frame::Frame,
    segment::{Origin, Timestamp},
};
use agent_common::frame::LinkType;
use divan::{Bencher, black_box};
use etherparse::PacketBuilder;

use crate::segment::PAYLOAD;

#[divan::bench]
fn ethernet_ipv4_tcp(bencher: Bencher<'_, '_>) {
    let mut bytes = Vec::new();
    let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1234, 80, 1, 1024);
    packet.write(&mut bytes, &PAYLOAD).expect("a vector takes everything");
    decode(bencher, &bytes);
}

#[divan::bench]
fn ethernet_ipv6_tcp(bencher: Bencher<'_, '_>) {
    let mut bytes = Vec::new();
    let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).tcp(1234, 80, 1, 1024);
    packet.write(&mut bytes, &PAYLOAD).expect("a vector takes everything");
    decode(bencher, &bytes);
}

fn decode(bencher: Bencher<'_, '_>, bytes: &[u8]) {
    let origin = Origin::default();
    let len = bytes.len() as u32;
    let frame = Frame { timestamp: Timestamp(1), len, bytes, link_type: LinkType::ETHERNET, origin, flow: None };
    let mut decoder = Decoder::new(Config::default());
    bencher.bench_local(|| {
        let decoded = decoder.decode(black_box(&frame));
        assert_eq!(decoded.map_or(0, |it| it.segment.payload.len()), PAYLOAD.len());
    });
}
