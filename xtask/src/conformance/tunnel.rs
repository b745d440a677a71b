//! What one IP packet can carry another in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{packet::IpHeader, segment::Fragment};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tunnel {
    /// RFC 7348.
    Vxlan,
    /// The Generic Protocol Extension, with IP in it.
    VxlanGpe,
    /// RFC 8926, with an option.
    Geneve,
    /// RFC 2784.
    Gre,
    /// RFC 2890: with checksum, key and sequence number.
    GreKeyed,
    /// RFC 2637, with PPP in it.
    GrePptp,
    /// RFC 7637 calls it transparent Ethernet bridging.
    GreEthernet,
    ErspanI,
    ErspanII,
    ErspanIII,
    /// RFC 2003, RFC 2473, RFC 4213: whatever IP in whatever IP.
    Ip,
    /// The same, in an outer packet of IPv6.
    IpInIpv6,
    /// RFC 2661, with PPP in it.
    L2tp,
    Gtp,
    /// RFC 4380.
    Teredo,
    /// GRE whose outer packets are fragments.
    GreFragmented,
}

impl Tunnel {
    /// The outer packets, of which most of these need one.
    pub(crate) fn wrap(self, inner: &[u8], id: u16) -> Vec<Vec<u8>> {
        let v6 = inner[0] >> 4 == 6;
        let ether_type: [u8; 2] = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let ppp: [u8; 4] = [0xff, 0x03, 0x00, if v6 { 0x57 } else { 0x21 }];
        let ethernet = || ethernet(ether_type, inner);
        let len = |more: usize| ((inner.len() + more) as u16).to_be_bytes();
        let (protocol, payload) = match self {
            Self::Vxlan => (UDP, udp(4789, &[&[0x08, 0, 0, 0, 0, 0, 42, 0], &ethernet()])),
            Self::VxlanGpe => (UDP, udp(4790, &[&[0x0c, 0, 0, if v6 { 2 } else { 1 }, 0, 0, 42, 0], inner])),
            // One option of a class for experiments, four octets long.
            Self::Geneve => (
                UDP,
                udp(
                    6081,
                    &[&[2, 0, 0x65, 0x58, 0, 0, 42, 0], &[0xff, 0xff, 1, 1, 0xde, 0xad, 0xbe, 0xef], &ethernet()],
                ),
            ),
            Self::Gre | Self::GreFragmented => (GRE, [&[0, 0], &ether_type[..], inner].concat()),
            // The checksum is left 0, as most would not look at it.
            Self::GreKeyed => {
                (GRE, [&[0xb0, 0], &ether_type[..], &[0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 7], inner].concat())
            }
            Self::GrePptp => (GRE, [&[0x30, 0x01, 0x88, 0x0b], &len(4)[..], &[0, 9, 0, 0, 0, 7], &ppp, inner].concat()),
            Self::GreEthernet => (GRE, [&[0, 0, 0x65, 0x58][..], &ethernet()].concat()),
            Self::ErspanI => (GRE, [&[0, 0, 0x88, 0xbe][..], &ethernet()].concat()),
            Self::ErspanII => {
                (GRE, [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 7][..], &[0x10, 1, 0, 42, 0, 0, 0, 0], &ethernet()].concat())
            }
            Self::ErspanIII => (
                GRE,
                [&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 7][..], &[0x20, 1, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0], &ethernet()]
                    .concat(),
            ),
            Self::Ip | Self::IpInIpv6 => (if v6 { 41 } else { 4 }, inner.to_vec()),
            Self::L2tp => (UDP, udp(1701, &[&[0, 2, 0, 9, 0, 5], &ppp, inner])),
            Self::Gtp => (UDP, udp(2152, &[&[0x30, 0xff], &len(0), &[0, 0, 0, 42], inner])),
            Self::Teredo => (UDP, udp(3544, &[inner])),
        };
        let (source, destination): (IpAddr, IpAddr) = match self {
            Self::IpInIpv6 => (
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2).into(),
            ),
            _ => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into()),
        };
        let outer = IpHeader { source, destination, protocol, id, extended: false };
        match self {
            Self::GreFragmented if payload.len() > HALF => [HALF..usize::MAX, 0..HALF]
                .map(|range| outer.fragment(&payload, &Fragment { range, garbled: false }))
                .into(),
            _ => vec![outer.packet(&payload)],
        }
    }
}

/// A frame inside of something.
fn ethernet(ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1], &ether_type[..], packet].concat()
}

/// Without a checksum, as tunnels may (RFC 6935).
fn udp(port: u16, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let head = [49_152, port, payload.len() as u16 + 8, 0];
    head.into_iter().flat_map(u16::to_be_bytes).chain(payload.iter().copied()).collect()
}

const UDP: u8 = 17;
const GRE: u8 = 47;

/// Where the outer packet is cut.
const HALF: usize = 48;
