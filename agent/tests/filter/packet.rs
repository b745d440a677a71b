//! Frames with TCP in them, from few addresses and ports, so that questions about them have both answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::random::Random;

/// A frame before it is one.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// Tags, the outer one first.
    pub tags: Vec<u16>,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Time to live or hop limit; type of service or traffic class.
    pub ttl: u8,
    pub tos: u8,
    /// TCP header, with options, and payload.
    pub segment: Vec<u8>,
}

pub(crate) const V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 0, 0, 2),
    Ipv4Addr::new(10, 1, 0, 1),
    Ipv4Addr::new(192, 0, 2, 7),
    Ipv4Addr::new(192, 168, 1, 255),
    Ipv4Addr::new(203, 0, 113, 9),
];
pub(crate) const V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 9),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
];
pub(crate) const PORTS: [u16; 7] = [1, 22, 80, 443, 8_000, 8_080, 65_535];
pub(crate) const TAGS: [u16; 4] = [0, 7, 8, 4_095];

impl Packet {
    pub(crate) fn random(random: &mut Random) -> Self {
        let (src, dst) = if random.one_in(2) {
            (random.pick(&V4).into(), random.pick(&V4).into())
        } else {
            (random.pick(&V6).into(), random.pick(&V6).into())
        };
        let words = 5 + random.below(4);
        let mut segment = Vec::new();
        for _ in 0..2 {
            segment.extend(random.pick(&PORTS).to_be_bytes());
        }
        segment.extend((0..8).map(|_| random.next() as u8));
        let flags = random.pick(&[0x02, 0x12, 0x10, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x38, 0xff, 0x00]);
        segment.extend([(words as u8) << 4, flags, random.next() as u8, 0, 0, 0, 0, 0]);
        // Options that do nothing.
        segment.resize(words * 4, 1);
        segment.extend((0..random.pick(&[0, 1, 100])).map(|_| random.next() as u8));
        Self {
            tags: (0..random.pick(&[0, 0, 0, 1, 2])).map(|_| random.pick(&TAGS)).collect(),
            src,
            dst,
            ttl: random.pick(&[1, 63, 64, 128, 255]),
            tos: random.pick(&[0, 0x10, 0xb8]),
            segment,
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        self.around(&self.segment, None)
    }

    /// The same in fragments, of `size` octets at most; a multiple of 8.
    pub(crate) fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let count = self.segment.len().div_ceil(size);
        let parts = self.segment.chunks(size).enumerate();
        parts.map(|(i, part)| self.around(part, Some(((i * size) as u16, i + 1 < count)))).collect()
    }

    /// `part` with headers around it; its offset, and whether more follows.
    fn around(&self, part: &[u8], fragment: Option<(u16, bool)>) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in &self.tags {
            frame.extend([0x81, 0x00]);
            frame.extend((tag | 0x2000).to_be_bytes());
        }
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend([0x08, 0x00, 0x45, self.tos]);
                frame.extend((20 + part.len() as u16).to_be_bytes());
                let bits = fragment.map_or(0x4000, |(offset, more)| (offset / 8) | (u16::from(more) << 13));
                frame.extend([0x12, 0x34]);
                frame.extend(bits.to_be_bytes());
                frame.extend([self.ttl, 6, 0, 0]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend((6 << 28 | u32::from(self.tos) << 20).to_be_bytes());
                let header = if fragment.is_some() { 8 } else { 0 };
                frame.extend((header + part.len() as u16).to_be_bytes());
                frame.extend([if fragment.is_some() { 44 } else { 6 }, self.ttl]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
                if let Some((offset, more)) = fragment {
                    frame.extend([6, 0]);
                    frame.extend((offset | u16::from(more)).to_be_bytes());
                    frame.extend([0x12, 0x34, 0x56, 0x78]);
                }
            }
            mixed => panic!("{mixed:?}"),
        }
        frame.extend(part);
        frame
    }
}
