//! Packets as frames, octet by octet as the RFCs draw them: what the decoder has to undo.

use std::{net::IpAddr, slice::SliceIndex};

use crate::{
    fragments::Fragment,
    packet::{Packet, Side},
};

/// How the frames of a capture look. Ethernet outside, TCP inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) v6: bool,
    /// Words of IPv4 options, or IPv6 extension headers of eight octets.
    pub(crate) extra: u8,
    /// Words of TCP options that nobody has to understand.
    pub(crate) options: u8,
    /// Octets that were never part of the packet, behind it; and what they are.
    pub(crate) padding: (usize, u8),
}

/// A frame, as far as it was captured, and its length on the wire.
#[derive(Debug)]
pub(crate) struct Octets {
    pub(crate) captured: Vec<u8>,
    pub(crate) len: usize,
}

/// Addresses and ports of the two sides of a pair of endpoints.
pub(crate) fn endpoints(pair: usize, v6: bool) -> [(IpAddr, u16); 2] {
    // Either address may be the lower one, and a port may be equal on both sides.
    let host = |n: usize| {
        let last = 1 + n as u8 % 2;
        if v6 { IpAddr::from([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]) } else { [10, 9, 0, last].into() }
    };
    [(host(pair), 40_000 + pair as u16), (host(pair + 1), 40_000)]
}

impl Wire {
    /// `numbers` are the packet's sequence and acknowledgment number, `payload` is what was captured of it.
    pub(crate) fn encode(
        &self,
        packet: &Packet,
        numbers: [u32; 2],
        payload: &[u8],
        ends: [(IpAddr, u16); 2],
        vlan: Option<u16>,
        fragment: Option<Fragment>,
    ) -> Octets {
        let (src, dst) = (ends[packet.from], ends[1 - packet.from]);
        let missing = packet.len as usize - payload.len();
        let tcp = self.tcp(packet, numbers, [src.1, dst.1]);
        let mut segment = [&tcp, payload].concat();
        if missing == 0 {
            let sum = checksum(&[pseudo_header(src.0, dst.0, segment.len()), segment.clone()].concat());
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
        }
        if let Some(fragment) = fragment {
            let whole = [self.extensions(self.extensions_of_packet()..), segment].concat();
            segment = whole[fragment.start..fragment.end].to_vec();
        }
        let mut captured = self.ethernet(packet.from, vlan);
        let len = segment.len() + missing;
        match (src.0, dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.ipv4(src.octets(), dst.octets(), len, packet.id.unwrap_or(0), fragment, &mut captured);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), len, fragment, &mut captured),
            _ => unreachable!("both ends speak the same protocol"),
        }
        captured.extend(segment);
        let mut len = captured.len() + missing;
        // Only lengths that the IP header can say tell padding from data.
        if missing == 0 && len < 65_000 {
            captured.resize(len.max(60) + self.padding.0, self.padding.1);
            len = captured.len();
        }
        Octets { captured, len }
    }

    fn ethernet(&self, from: Side, vlan: Option<u16>) -> Vec<u8> {
        let mac = |side| [2, 0, 0, 0, 0, side as u8];
        let mut header = [mac(1 - from), mac(from)].concat();
        if let Some(vlan) = vlan {
            header.extend([0x81, 0x00]);
            header.extend(vlan.to_be_bytes());
        }
        header.extend(if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        header
    }

    /// RFC 791 section 3.1. A length beyond 16 bits is left to whoever reads the frame's, as segmentation offload does.
    fn ipv4(&self, src: [u8; 4], dst: [u8; 4], len: usize, id: u16, fragment: Option<Fragment>, to: &mut Vec<u8>) {
        let words = 5 + self.extra;
        let total = u16::try_from(usize::from(words) * 4 + len).unwrap_or(0);
        let mut header = vec![0x40 | words, 0];
        header.extend(total.to_be_bytes());
        header.extend(id.to_be_bytes());
        // Don't fragment; or more fragments, and where this one begins, in units of eight octets.
        let more = |it: Fragment| if it.end < it.of { 0x2000 } else { 0 };
        header.extend(fragment.map_or(0x4000, |it| more(it) | (it.start / 8) as u16).to_be_bytes());
        header.extend([64, 6, 0, 0]);
        header.extend([src, dst].concat());
        // No operation.
        header.resize(usize::from(words) * 4, 1);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        to.extend(header);
    }

    /// RFC 8200 sections 3, 4.3, 4.5 and 4.6.
    fn ipv6(&self, src: [u8; 16], dst: [u8; 16], len: usize, fragment: Option<Fragment>, to: &mut Vec<u8>) {
        let of_packet = self.extensions_of_packet();
        let extensions = match fragment {
            None => self.extensions(..),
            Some(it) => {
                let more = u16::from(it.end < it.of);
                let mut before = self.extensions(..of_packet);
                before.iter_mut().take(1).for_each(|next| *next = FRAGMENT);
                before.extend([self.numbers()[of_packet], 0]);
                before.extend((it.start as u16 | more).to_be_bytes());
                before.extend(it.datagram.to_be_bytes());
                before
            }
        };
        let first = if fragment.is_some() && of_packet == 0 { FRAGMENT } else { self.numbers()[0] };
        to.extend([0x60, 0, 0, 0]);
        to.extend(u16::try_from(extensions.len() + len).unwrap_or(0).to_be_bytes());
        to.extend([first, 64]);
        to.extend([src, dst].concat());
        to.extend(extensions);
    }

    /// What follows the IPv6 header, by number; TCP at last.
    fn numbers(&self) -> Vec<u8> {
        let extensions = if self.v6 { usize::from(self.extra) } else { 0 };
        [&[HOP_BY_HOP, DESTINATION, DESTINATION][..extensions], &[TCP]].concat()
    }

    /// Extension headers, each with one PadN option.
    fn extensions(&self, which: impl SliceIndex<[u8], Output = [u8]>) -> Vec<u8> {
        let header = |next: &u8| [*next, 0, 1, 4, 0, 0, 0, 0];
        self.numbers()[1..][which].iter().flat_map(header).collect()
    }

    /// How many of them every fragment carries: the hop-by-hop options, which come first.
    fn extensions_of_packet(&self) -> usize {
        usize::from(self.v6).min(self.extra.into())
    }

    /// Octets that fragments share out among themselves.
    pub(crate) fn fragmentable(&self, packet: &Packet) -> usize {
        self.extensions(self.extensions_of_packet()..).len()
            + self.tcp(packet, [0; 2], [0; 2]).len()
            + packet.len as usize
    }

    /// Whether a fragment has all of the TCP header, right behind IP's.
    pub(crate) fn begins(&self, packet: &Packet, fragment: Fragment) -> bool {
        let header = self.tcp(packet, [0; 2], [0; 2]).len();
        fragment.start == 0 && fragment.end >= header && self.numbers()[self.extensions_of_packet()] == TCP
    }

    /// RFC 9293 section 3.1, with the checksum still to come.
    fn tcp(&self, packet: &Packet, numbers: [u32; 2], ports: [u16; 2]) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = packet.mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        // What nobody has to understand comes before the scale, and is stepped over.
        options.extend([253, 4, 0xab, 0xcd].repeat(self.options.into()));
        if let Some(scale) = packet.scale {
            options.extend([1, 3, 3, scale]);
        }
        let bits = [packet.fin, packet.syn, packet.rst, packet.psh, packet.ack.is_some(), packet.urg];
        let flags = bits.iter().zip(0..).fold(0, |flags, (set, bit)| flags | u8::from(*set) << bit);
        let mut header = Vec::new();
        ports.iter().for_each(|port| header.extend(port.to_be_bytes()));
        numbers.iter().for_each(|number| header.extend(number.to_be_bytes()));
        header.extend([(5 + options.len() as u8 / 4) << 4, flags]);
        header.extend(packet.window.to_be_bytes());
        // Checksum and urgent pointer.
        header.extend([0, 0, 0, u8::from(packet.urg)]);
        header.extend(options);
        header
    }
}

const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const TCP: u8 = 6;

fn pseudo_header(src: IpAddr, dst: IpAddr, len: usize) -> Vec<u8> {
    let mut header = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
        _ => Vec::new(),
    };
    header.extend((len as u32).to_be_bytes());
    header.extend([0, 0, 0, 6]);
    header
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let (words, tail) = octets.as_chunks();
    let sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    let mut sum = sum + tail.first().map_or(0, |octet| u64::from(*octet) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
