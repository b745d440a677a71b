//! What the host half costs per frame before anything is written: `cargo run --release -p agent --example core`.
//! Nanoseconds, the least of several rounds.
#![expect(clippy::print_stdout, reason = "this prints a table")]

use agent::{
    clock,
    decode::{Config as DecodeConfig, Decoder},
    frame::Frame,
    reassembly::{Config, ConnectionId, Event, Reassembler, Sink},
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
};
use agent_common::frame::LinkType;
use anyhow::{Result, anyhow};
use etherparse::PacketBuilder;

const ROUNDS: u32 = 9;
const CONNECTIONS: u16 = 10_000;
const PAYLOAD: [u8; 1_448] = [b'x'; 1_448];

fn main() -> Result<()> {
    let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1234, 80, 1, 1024).write(&mut v4, &PAYLOAD)?;
    ethernet().ipv6([1; 16], [2; 16], 64).tcp(1234, 80, 1, 1024).write(&mut v6, &PAYLOAD)?;
    println!("{:>6} decode, Ethernet, IPv4, TCP", decoding(&v4)?);
    println!("{:>6} decode, Ethernet, IPv6, TCP", decoding(&v6)?);
    println!("{:>6} reassemble a segment in order, {CONNECTIONS} connections in turn", reassembling()?);
    Ok(())
}

fn decoding(bytes: &[u8]) -> Result<u64> {
    const REPEAT: u64 = 1_000_000;
    let origin = Origin::default();
    let frame = Frame {
        timestamp: Timestamp(1),
        len: bytes.len() as u32,
        bytes,
        link_type: LinkType::ETHERNET,
        origin,
        flow: None,
    };
    let mut decoder = Decoder::new(DecodeConfig::default());
    least(REPEAT, || {
        let payload: u64 = (0..REPEAT)
            .map(|_| decoder.decode(std::hint::black_box(&frame)).map_or(0, |it| it.segment.payload.len() as u64))
            .sum();
        (payload == REPEAT * PAYLOAD.len() as u64).then_some(()).ok_or_else(|| anyhow!("a frame was not decoded"))
    })
}

fn reassembling() -> Result<u64> {
    const TURNS: u64 = 100;
    let mut reassembler = Reassembler::new(Config::default());
    let mut sink = Counting::default();
    let mut seq = SeqNum(1_000);
    for port in 0..CONNECTIONS {
        reassembler.handle_segment(&Segment { flags: Flags::SYN, payload: &[], ..segment(port, seq) }, &mut sink);
    }
    seq = seq.advance(1);
    least(TURNS * u64::from(CONNECTIONS), || {
        let before = sink.octets;
        for _ in 0..TURNS {
            for port in 0..CONNECTIONS {
                reassembler.handle_segment(&segment(port, seq), &mut sink);
            }
            seq = seq.advance(PAYLOAD.len() as u64);
        }
        let expected = TURNS * u64::from(CONNECTIONS) * PAYLOAD.len() as u64;
        (sink.octets - before == expected).then_some(()).ok_or_else(|| anyhow!("an octet was not delivered"))
    })
}

fn segment(port: u16, seq: SeqNum) -> Segment<'static> {
    Segment {
        timestamp: Timestamp(1),
        src: Endpoint::v4([10, 0, 0, 1], port),
        dst: Endpoint::v4([10, 0, 0, 2], 80),
        seq,
        ack: SeqNum(0),
        flags: Flags::PSH,
        window: 1_024,
        window_scale: None,
        mss: None,
        ip_id: None,
        payload: &PAYLOAD,
        missing: 0,
        origin: Origin::default(),
        flow: None,
    }
}

/// Nanoseconds of one of `repeat` steps, in the fastest round.
fn least(repeat: u64, mut round: impl FnMut() -> Result<()>) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let start = clock::now();
        round()?;
        least = least.min(clock::now().since(start) / repeat);
    }
    Ok(least)
}

/// A sink that does nothing but see that it is asked to.
#[derive(Default)]
struct Counting {
    octets: u64,
}

impl Sink for Counting {
    fn event(&mut self, _: ConnectionId, event: Event<'_>) {
        if let Event::Data { bytes, .. } = event {
            self.octets += bytes.len() as u64;
        }
    }
}
