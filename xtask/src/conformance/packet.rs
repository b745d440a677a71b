//! Segments as IP packets.

use std::net::IpAddr;

use super::{
    conversation::{Conversation, Side},
    segment::{Checksum, Fragment, IpLen, SYN, Segment},
};

/// An IP packet as far as it was captured, and how many octets it had behind that.
pub(crate) struct Packet {
    pub(crate) octets: Vec<u8>,
    pub(crate) cut: usize,
}

impl Packet {
    /// Of a segment, in the order in which they are captured; several where it is fragmented.
    pub(crate) fn of(conversation: &Conversation, segment: &Segment) -> Vec<Self> {
        let [own, peer] = [segment.side, segment.side.peer()].map(|side: Side| conversation.end(side));
        let header = IpHeader {
            source: own.ip,
            destination: peer.ip,
            protocol: TCP,
            id: segment.ip_id,
            extended: conversation.extended,
        };
        let tcp = tcp(&header, own.port, peer.port, segment);
        if segment.fragments.is_empty() {
            let cut = segment.cut_off();
            let mut octets = header.packet(&tcp);
            header.set_len(&mut octets, cut, segment.ip_len);
            return vec![Self { octets, cut }];
        }
        segment.fragments.iter().map(|fragment| Self { octets: header.fragment(&tcp, fragment), cut: 0 }).collect()
    }
}

pub(crate) struct IpHeader {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) id: u16,
    pub(crate) extended: bool,
}

impl IpHeader {
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.v4(source.octets(), destination.octets(), 0, payload),
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (protocol, payload) = if self.extended {
                    (HOP_BY_HOP, self.behind_extensions(payload))
                } else {
                    (self.protocol, payload.to_vec())
                };
                v6(source.octets(), destination.octets(), protocol, &payload)
            }
            _ => unreachable!("both ends are of one family"),
        }
    }

    /// A part of what [`packet`](Self::packet) would carry.
    pub(crate) fn fragment(&self, payload: &[u8], fragment: &Fragment) -> Vec<u8> {
        let range = fragment.range.start..fragment.range.end.min(payload.len());
        let more = range.end < payload.len();
        let mut part = payload[range.clone()].to_vec();
        if fragment.garbled {
            part.iter_mut().for_each(|octet| *octet = !*octet);
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let field = (range.start / 8) as u16 | u16::from(more) << 13;
                self.v4(source.octets(), destination.octets(), field, &part)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                // RFC 8200 4.5.
                let mut payload = vec![self.protocol, 0];
                payload.extend((range.start as u16 | u16::from(more)).to_be_bytes());
                payload.extend(u32::from(self.id).to_be_bytes());
                payload.extend(part);
                v6(source.octets(), destination.octets(), FRAGMENT, &payload)
            }
            _ => unreachable!("both ends are of one family"),
        }
    }

    /// Of a packet that has more than the `octets` that were captured.
    fn set_len(&self, octets: &mut [u8], cut: usize, len: IpLen) {
        let (at, captured) = if self.source.is_ipv4() { (2, octets.len()) } else { (4, octets.len() - 40) };
        let len = match len {
            IpLen::Right => (captured + cut) as u16,
            IpLen::Zero => 0,
            IpLen::Beyond(more) => (captured + cut) as u16 + more,
        };
        octets[at..at + 2].copy_from_slice(&len.to_be_bytes());
        if self.source.is_ipv4() {
            let words = usize::from(octets[0] & 0xf) * 4;
            set_v4_checksum(&mut octets[..words]);
        }
    }

    fn v4(&self, source: [u8; 4], destination: [u8; 4], fragment: u16, payload: &[u8]) -> Vec<u8> {
        // Router alert (RFC 2113), and the end of options.
        let options: &[u8] = if self.extended { &[0x94, 4, 0, 0, 1, 1, 1, 0] } else { &[] };
        let header = 20 + options.len();
        let mut octets = vec![0x40 | (header / 4) as u8, 0];
        octets.extend(((header + payload.len()) as u16).to_be_bytes());
        octets.extend(self.id.to_be_bytes());
        octets.extend(fragment.to_be_bytes());
        octets.extend([64, self.protocol, 0, 0]);
        octets.extend(source);
        octets.extend(destination);
        octets.extend(options);
        set_v4_checksum(&mut octets);
        octets.extend(payload);
        octets
    }

    /// Hop-by-hop options and destination options, which hold nothing but padding (RFC 8200 4.2).
    fn behind_extensions(&self, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
        octets.extend([self.protocol, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        octets.extend(payload);
        octets
    }

    /// RFC 9293 3.1, RFC 8200 8.1.
    fn pseudo_sum(&self, len: usize) -> u16 {
        let mut pseudo = Vec::new();
        for ip in [self.source, self.destination] {
            match ip {
                IpAddr::V4(ip) => pseudo.extend(ip.octets()),
                IpAddr::V6(ip) => pseudo.extend(ip.octets()),
            }
        }
        pseudo.extend((len as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.protocol]);
        sum(0, &pseudo)
    }
}

fn v6(source: [u8; 16], destination: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![0x60, 0, 0, 0];
    octets.extend((payload.len() as u16).to_be_bytes());
    octets.extend([next, 64]);
    octets.extend(source);
    octets.extend(destination);
    octets.extend(payload);
    octets
}

fn tcp(ip: &IpHeader, source: u16, destination: u16, segment: &Segment) -> Vec<u8> {
    // A SYN says that segments of 1,460 octets fit, and that its windows count 128 octets.
    let options: &[u8] = if segment.flags & SYN != 0 { &[2, 4, 5, 180, 3, 3, 7, 1] } else { &[] };
    let mut octets = Vec::new();
    octets.extend(source.to_be_bytes());
    octets.extend(destination.to_be_bytes());
    octets.extend(segment.seq.to_be_bytes());
    octets.extend(segment.ack.to_be_bytes());
    octets.extend([((20 + options.len()) / 4) as u8 * 16, segment.flags]);
    octets.extend(segment.window.to_be_bytes());
    octets.extend([0, 0]);
    octets.extend(segment.urgent.to_be_bytes());
    octets.extend(options);
    octets.extend(segment.payload());
    let pseudo = ip.pseudo_sum(octets.len());
    let checksum = match segment.checksum {
        Checksum::Right => !sum(pseudo, &octets),
        Checksum::Wrong => (!sum(pseudo, &octets)).wrapping_add(0x0101),
        Checksum::Partial => pseudo,
    };
    octets[16..18].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// RFC 1071.
fn sum(start: u16, octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)));
    let mut sum = words.sum::<u64>() + u64::from(start);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn set_v4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = !sum(0, header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_adds_up() {
        // RFC 1071 3.
        assert_eq!(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        let mut conversation = Conversation::new();
        conversation.client(0..101);
        let packets = Packet::of(&conversation, &conversation.segments()[0]);
        let octets = &packets[0].octets;
        assert_eq!(sum(0, &octets[..20]), 0xffff);
        let pseudo = [&octets[12..20], &[0, 6, 0, 121]].concat();
        assert_eq!(sum(sum(0, &pseudo), &octets[20..]), 0xffff);
    }
}
