//! Frames of the recordings: Ethernet without tags, IPv4 without options or IPv6 without extension headers, TCP.

use std::net::{IpAddr, SocketAddr};

/// A frame as it was on the wire.
#[derive(Clone)]
pub(crate) struct Frame {
    /// Nanoseconds since the epoch.
    pub at: u64,
    pub bytes: Vec<u8>,
}

/// What the tests look at in a frame.
pub(crate) struct Tcp<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// As it stands there, without its scale.
    pub window: u16,
    pub payload: &'a [u8],
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;

impl Frame {
    pub(crate) fn tcp(&self) -> Tcp<'_> {
        let tcp = self.tcp_at();
        // The IP header says where the packet ends: Ethernet pads what is short.
        let (src, dst, end) = if self.is_v4() {
            (self.array::<4>(26).into(), self.array::<4>(30).into(), ETHERNET + usize::from(self.u16(16)))
        } else {
            (self.array::<16>(22).into(), self.array::<16>(38).into(), tcp + usize::from(self.u16(18)))
        };
        Tcp {
            src: SocketAddr::new(src, self.u16(tcp)),
            dst: SocketAddr::new(dst, self.u16(tcp + 2)),
            seq: self.u32(tcp + 4),
            ack: self.u32(tcp + 8),
            flags: self.bytes[tcp + 13],
            window: self.u16(tcp + 14),
            payload: &self.bytes[self.payload_at()..end],
        }
    }

    /// Place of the payload in the frame.
    pub(crate) fn payload_at(&self) -> usize {
        let tcp = self.tcp_at();
        tcp + usize::from(self.bytes[tcp + 12] >> 4) * 4
    }

    /// The IP packet, and its Ethernet type.
    pub(crate) fn packet(&self) -> ([u8; 2], &[u8]) {
        (self.array(12), &self.bytes[ETHERNET..])
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.u16(12) == 0x0800
    }

    /// Adds to the sequence and the acknowledgment number.
    pub(crate) fn shift(&mut self, seq: u32, ack: u32) {
        let tcp = self.tcp_at();
        for (at, by) in [(tcp + 4, seq), (tcp + 8, ack)] {
            let number = self.u32(at).wrapping_add(by);
            self.bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
    }

    /// Puts `new` wherever the packet has the address `old`.
    pub(crate) fn readdress(&mut self, old: IpAddr, new: IpAddr) {
        let octets = |address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (old, new) = (octets(old), octets(new));
        for at in if self.is_v4() { [26, 30] } else { [22, 38] } {
            if let Some(place) = self.bytes.get_mut(at..at + old.len()).filter(|place| **place == old) {
                place.copy_from_slice(&new);
            }
        }
    }

    /// The checksum as it must be: offload had left it unfinished where the recording was made.
    pub(crate) fn set_checksum(&mut self) {
        self.zero_checksum();
        let tcp = self.tcp_at();
        let end = self.payload_at() + self.tcp().payload.len();
        let sum = !fold(self.pseudo_header() + words(&self.bytes[tcp..end]));
        self.bytes[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    }

    /// What a driver is given to go on from.
    pub(crate) fn set_partial_checksum(&mut self) {
        let (tcp, sum) = (self.tcp_at(), fold(self.pseudo_header()));
        self.bytes[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    }

    pub(crate) fn zero_checksum(&mut self) {
        let tcp = self.tcp_at();
        self.bytes[tcp + 16..tcp + 18].fill(0);
    }

    fn pseudo_header(&self) -> u64 {
        let len = self.payload_at() - self.tcp_at() + self.tcp().payload.len();
        words(&self.bytes[if self.is_v4() { 26..34 } else { 22..54 }]) + 6 + len as u64
    }

    fn tcp_at(&self) -> usize {
        let (tcp, protocol) = if self.is_v4() { (ETHERNET + 20, 23) } else { (ETHERNET + 40, 20) };
        assert_eq!(self.bytes[protocol], 6, "something else than TCP was recorded");
        tcp
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().unwrap()
    }
}

/// RFC 1071.
fn words(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into())).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

const ETHERNET: usize = 14;
