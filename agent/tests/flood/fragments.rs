//! Floods of fragments that never become a datagram.

use agent::{
    decode::{Config, Decoder, Reject, fragments},
    frame::Frame,
    segment::{Origin, Timestamp},
};
use agent_common::frame::LinkType;

use crate::allocator::{Usage, measure};

const FRAGMENTS: u32 = 300_000;
/// Honest datagrams between them, each of which has its second half a hundred fragments after the first.
const STRIDE: u32 = 1_000;
const LATER: u32 = 100;

#[test]
fn more_datagrams_than_there_is_room_for() {
    let (stats, usage) = flood(fragments::Config { max_datagrams: 1_000, ..Default::default() }, |number, packet| {
        fragment(packet, number, 1, true, &[b'x'; 8]);
    });
    assert_eq!(stats.limit + stats.unfinished, u64::from(FRAGMENTS));
    assert_eq!((stats.joined, stats.timeout, stats.overlapping), (u64::from(FRAGMENTS / STRIDE), 0, 0));
    assert!(stats.unfinished <= 1_000, "{stats:?}");
    assert!(usage.peak <= 1_000 * 1_024, "{usage:?}");
}

#[test]
fn more_octets_than_there_is_room_for() {
    let limits = fragments::Config { max_memory: 1 << 20, ..Default::default() };
    let (stats, usage) = flood(limits, |number, packet| fragment(packet, number, 1, true, &[b'x'; 1_400]));
    assert!(stats.limit > u64::from(FRAGMENTS) - 800, "{stats:?}");
    assert!(usage.peak <= 2 << 20, "{usage:?}");
}

#[test]
fn fragments_that_overlap() {
    let limits = fragments::Config { max_memory: 1 << 20, ..Default::default() };
    let (stats, usage) = flood(limits, |number, packet| fragment(packet, 7, number as u16 % 64 + 1, true, &[b'x'; 16]));
    // The second of them overlaps the first.
    assert_eq!((stats.overlapping, stats.limit), (u64::from(FRAGMENTS), 0));
    assert!(usage.peak <= 16 << 10, "{usage:?}");
}

/// Hands `hostile` fragments to a decoder, a microsecond apart, and honest ones that must come out whole.
fn flood(limits: fragments::Config, hostile: impl Fn(u32, &mut Vec<u8>)) -> (fragments::Stats, Usage) {
    measure(|| {
        let mut decoder = Decoder::new(Config { fragments: limits, ..Config::default() });
        let mut packet = Vec::new();
        let mut whole = 0;
        for number in 0..FRAGMENTS {
            packet.clear();
            hostile(number, &mut packet);
            let timestamp = Timestamp(1_000_000_000 + u64::from(number) * 1_000);
            assert_eq!(decode(&mut decoder, timestamp, &packet), Err(Reject::Fragment));
            packet.clear();
            match number % STRIDE {
                0 => {
                    fragment(&mut packet, HONEST + number, 0, true, &HEADER);
                    assert_eq!(decode(&mut decoder, timestamp, &packet), Err(Reject::Fragment));
                }
                LATER => {
                    fragment(&mut packet, HONEST + number - LATER, 3, false, b"the rest");
                    whole += decode(&mut decoder, timestamp, &packet).expect("an honest datagram");
                }
                _ => {}
            }
            assert!(decoder.fragments_memory() <= limits.max_memory);
        }
        // Four octets of payload stood in the first half.
        assert_eq!(whole, (FRAGMENTS / STRIDE) as usize * 12);
        decoder.stats()
    })
}

/// Octets of payload that came out.
fn decode(decoder: &mut Decoder, timestamp: Timestamp, packet: &[u8]) -> Result<usize, Reject> {
    let frame = Frame {
        timestamp,
        len: packet.len() as u32,
        bytes: packet,
        link_type: LinkType::RAW,
        origin: Origin::default(),
        flow: None,
    };
    decoder.decode(&frame).map(|decoded| decoded.segment.payload.len())
}

/// Appends an IPv4 packet of the datagram `number`, which lies at this offset in units of eight octets.
fn fragment(packet: &mut Vec<u8>, number: u32, offset: u16, more: bool, content: &[u8]) {
    let [a, b, c, d] = number.to_be_bytes();
    let [len_high, len_low] = (20 + content.len() as u16).to_be_bytes();
    let [high, low] = (offset | u16::from(more) << 13).to_be_bytes();
    packet.extend_from_slice(&[0x45, 0, len_high, len_low, 0, 1, high, low, 64, 6, 0, 0]);
    packet.extend_from_slice(&[10 + a, b, c, d, 192, 0, 2, 1]);
    packet.extend_from_slice(content);
}

/// Numbers of honest datagrams.
const HONEST: u32 = 1 << 24;

/// A TCP header, and four octets.
const HEADER: [u8; 24] = {
    let mut header = [0; 24];
    header[12] = 5 << 4;
    header[13] = 0x10;
    header
};
