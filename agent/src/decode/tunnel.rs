//! Packets and frames inside other packets. A UDP port alone proves nothing: what a header must be is checked, so that
//! other traffic that happens to use the port never becomes a stream.

use agent_common::tunnel::Tunnels;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::{Layer, Reject, Rest};

/// Removes the header of a tunnel.
#[cold]
pub(super) fn enter(layer: Layer, rest: Rest<'_>, tunnels: Tunnels) -> Result<(Layer, Rest<'_>), Reject> {
    let (next, header_len) = match layer {
        Layer::Udp => return udp(rest, tunnels),
        // RFC 7348 section 5: the flag says that there is a network identifier. What is reserved is used by extensions
        // (group policy), except for the last octet.
        Layer::Vxlan => match rest.array(0)? {
            [flags, _, _, _, _, _, _, 0] if flags & 0x08 != 0 => (Layer::Ethernet, 8),
            _ => return Err(Reject::NotTcp),
        },
        // draft-ietf-nvo3-vxlan-gpe section 3: version 0; without the P flag it is VXLAN.
        Layer::VxlanGpe => match rest.array(0)? {
            [flags, _, _, next, _, _, _, 0] if flags & 0x38 == 0x08 => {
                (if flags & 0x04 == 0 { Layer::Ethernet } else { service(next)? }, 8)
            }
            _ => return Err(Reject::NotTcp),
        },
        // RFC 8926 section 3.4: version 0, not a control packet, and what is reserved is 0.
        Layer::Geneve => match rest.array(0)? {
            [len, flags, high, low, _, _, _, 0] if len & 0xc0 == 0 && flags & 0xbf == 0 => {
                (payload_type(u16::from_be_bytes([high, low])), 8 + usize::from(len) * 4)
            }
            _ => return Err(Reject::NotTcp),
        },
        Layer::Gre => return gre(rest),
        // draft-foschiano-erspan section 4: the version, then a header of 8 octets.
        Layer::Erspan2 => match rest.array(0)? {
            [0x10..0x20] => (Layer::Ethernet, 8),
            _ => return Err(Reject::NotTcp),
        },
        // 12 octets, 8 more with the O flag; frame type 0 is Ethernet, 2 is IP.
        Layer::Erspan3 => {
            let [version, _, _, _, _, _, _, _, _, _, kind, options] = rest.array(0)?;
            let next = match (version >> 4, kind >> 2 & 0x1f) {
                (2, 0) => Layer::Ethernet,
                (2, 2) => Layer::Ip,
                _ => return Err(Reject::NotTcp),
            };
            (next, if options & 1 == 0 { 12 } else { 20 })
        }
        // WCCP version 2 puts four octets before the packet, version 1 none (as `ip_gre` in Linux tells them apart).
        Layer::Wccp => match rest.array(0)? {
            [0x40..0x50] => (Layer::Ipv4, 0),
            _ => (Layer::Ip, 4),
        },
        // RFC 8300 section 2.2: version 0, not about operation and maintenance.
        Layer::Nsh => match rest.array(0)? {
            [flags, len, _, next] if flags & 0xe0 == 0 => (service(next)?, usize::from(len & 0x3f) * 4),
            _ => return Err(Reject::NotTcp),
        },
        Layer::L2tp => return l2tp(rest),
        Layer::L2tp3 => return l2tp3(rest),
        Layer::Gtp => return gtp(rest),
        Layer::Teredo => return teredo(rest),
        // RFC 3378 section 2: version 3, the rest 0.
        Layer::EtherIp => match rest.array(0)? {
            [0x30, 0] => (Layer::Ethernet, 2),
            _ => return Err(Reject::NotTcp),
        },
        _ => return Err(Reject::NotTcp),
    };
    Ok((next, rest.skip(header_len)?))
}

/// By the port of either end: a tunnel's answers come from the port that its questions go to.
fn udp(rest: Rest<'_>, tunnels: Tunnels) -> Result<(Layer, Rest<'_>), Reject> {
    let len = usize::from(rest.u16(4)?);
    // 0 where segmentation offload or a jumbogram leaves it open.
    let payload = if len == 0 { rest } else { rest.truncate(len) }.skip(8)?;
    for port in [rest.u16(2)?, rest.u16(0)?] {
        let tunnel = Tunnels::of_port(port);
        if tunnels.intersects(tunnel) {
            let layer = match tunnel {
                Tunnels::VXLAN => Layer::Vxlan,
                Tunnels::VXLAN_GPE => Layer::VxlanGpe,
                Tunnels::GENEVE => Layer::Geneve,
                Tunnels::GRE => Layer::Gre,
                Tunnels::L2TP => Layer::L2tp,
                Tunnels::GTP => Layer::Gtp,
                Tunnels::TEREDO => Layer::Teredo,
                Tunnels::MPLS => Layer::Mpls,
                _ => continue,
            };
            return Ok((layer, payload));
        }
    }
    Err(Reject::NotTcp)
}

/// Version 0 (RFC 2784, 2890 and, with routing, 1701) and version 1 (PPTP, RFC 2637 section 4.1).
fn gre(rest: Rest<'_>) -> Result<(Layer, Rest<'_>), Reject> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGMENT: u16 = 0x0080;
    let (flags, kind) = (rest.u16(0)?, rest.u16(2)?);
    let word = |flag: u16| if flags & flag == 0 { 0 } else { 4 };
    match flags & 0x0007 {
        0 => {
            let mut header_len = 4 + word(CHECKSUM | ROUTING) + word(KEY) + word(SEQUENCE);
            if flags & ROUTING != 0 {
                // Entries of an address family, an offset and a length; the one of length 0 is the last.
                while let [_, _, _, len @ 1..=u8::MAX] = rest.array(header_len)? {
                    header_len += 4 + usize::from(len);
                }
                header_len += 4;
            }
            // ERSPAN type I has no header of its own, and no sequence number to tell.
            let next = match kind {
                ERSPAN if flags & SEQUENCE == 0 => Layer::Ethernet,
                ERSPAN => Layer::Erspan2,
                ERSPAN_3 => Layer::Erspan3,
                _ => payload_type(kind),
            };
            Ok((next, rest.skip(header_len)?))
        }
        // A call number in the place of the key, and the payload's length; none without a sequence number.
        1 if kind == PPP && flags & (KEY | SEQUENCE) == KEY | SEQUENCE => {
            let header_len = 8 + word(SEQUENCE) + word(ACKNOWLEDGMENT);
            let len = header_len + usize::from(rest.u16(4)?);
            Ok((Layer::Ppp, rest.truncate(len).skip(header_len)?))
        }
        _ => Err(Reject::NotTcp),
    }
}

/// What a protocol type says, which is an Ethernet type or one of those that only tunnels use.
fn payload_type(kind: u16) -> Layer {
    match kind {
        TRANSPARENT_ETHERNET => Layer::Ethernet,
        PPP => Layer::Ppp,
        WCCP => Layer::Wccp,
        NSH => Layer::Nsh,
        _ => Layer::of_ether_type(kind),
    }
}

/// Next protocols of VXLAN-GPE and NSH, whose numbers are the same.
fn service(next: u8) -> Result<Layer, Reject> {
    match next {
        1 => Ok(Layer::Ipv4),
        2 => Ok(Layer::Ipv6),
        3 => Ok(Layer::Ethernet),
        4 => Ok(Layer::Nsh),
        5 => Ok(Layer::Mpls),
        _ => Err(Reject::NotTcp),
    }
}

/// Version 2 (RFC 2661 section 3.1) and version 3 (RFC 3931 section 4.1.2.1), data messages.
fn l2tp(rest: Rest<'_>) -> Result<(Layer, Rest<'_>), Reject> {
    const CONTROL: u16 = 0x8000;
    const LENGTH: u16 = 0x4000;
    const SEQUENCE: u16 = 0x0800;
    const OFFSET: u16 = 0x0200;
    const RESERVED: u16 = 0x34f0;
    let flags = rest.u16(0)?;
    if flags & (CONTROL | RESERVED) != 0 {
        return Err(Reject::NotTcp);
    }
    match flags & 0x000f {
        2 => {
            let mut header_len = 6;
            let mut rest = rest;
            if flags & LENGTH != 0 {
                rest = rest.truncate(usize::from(rest.u16(2)?));
                header_len += 2;
            }
            if flags & SEQUENCE != 0 {
                header_len += 4;
            }
            if flags & OFFSET != 0 {
                header_len += 2 + usize::from(rest.u16(header_len)?);
            }
            Ok((Layer::Ppp, rest.skip(header_len)?))
        }
        3 if flags == 3 => l2tp3(rest.skip(4)?),
        _ => Err(Reject::NotTcp),
    }
}

/// Only the control connection knows the lengths of the cookie and of the sublayer, and what is behind them (RFC 3931
/// section 4.1.1). So each length is tried, and one is right when an IP header is where it has to be, intact.
fn l2tp3(rest: Rest<'_>) -> Result<(Layer, Rest<'_>), Reject> {
    // Session 0 is the control connection itself.
    if rest.array(0)? == [0; 4] {
        return Err(Reject::NotTcp);
    }
    for header_len in [4, 8, 12, 16] {
        let payload = rest.skip(header_len)?;
        let mut link_len = 12;
        while let Ok([0x81 | 0x88 | 0x91, 0x00 | 0xa8, _, _]) = payload.array(link_len) {
            link_len += 4;
        }
        if payload.skip(link_len + 2).is_ok_and(is_ip) {
            return Ok((Layer::Ethernet, payload));
        }
        if payload.skip(4).is_ok_and(is_ip) && payload.bytes.starts_with(&[0xff, 0x03, 0x00]) {
            return Ok((Layer::Ppp, payload));
        }
    }
    Err(Reject::NotTcp)
}

/// Whether this can only be an IP packet: the header's checksum is right, or its length.
fn is_ip(rest: Rest<'_>) -> bool {
    match rest.bytes {
        [0x45..0x50, ..] => Ipv4HeaderSlice::from_slice(rest.bytes).is_ok_and(|header| {
            usize::from(header.total_len()) <= rest.wire
                && header.header_checksum() == header.to_header().calc_header_checksum()
        }),
        [0x60..0x70, ..] => Ipv6HeaderSlice::from_slice(rest.bytes)
            .is_ok_and(|header| usize::from(header.payload_length()) + header.slice().len() == rest.wire),
        _ => false,
    }
}

/// GTP-U version 1 (3GPP TS 29.281 section 5), messages that carry a packet.
fn gtp(rest: Rest<'_>) -> Result<(Layer, Rest<'_>), Reject> {
    const G_PDU: u8 = 255;
    const OPTIONAL: u8 = 0x07;
    const EXTENSION: u8 = 0x04;
    let [flags, G_PDU, l0, l1] = rest.array(0)? else { return Err(Reject::NotTcp) };
    // Version 1, and GTP rather than GTP'.
    if flags & 0xf0 != 0x30 {
        return Err(Reject::NotTcp);
    }
    // Of all that follows the first 8 octets.
    let len = 8 + usize::from(u16::from_be_bytes([l0, l1]));
    if len > rest.wire {
        return Err(Reject::NotTcp);
    }
    let rest = rest.truncate(len);
    let mut header_len = 8;
    if flags & OPTIONAL != 0 {
        header_len += 4;
        let [mut next] = rest.array(header_len - 1)?;
        // The length of an extension, in words, is its first octet; the type of the next one its last.
        while flags & EXTENSION != 0 && next != 0 {
            let [words @ 1..=u8::MAX] = rest.array(header_len)? else { return Err(Reject::Malformed) };
            header_len += usize::from(words) * 4;
            [next] = rest.array(header_len - 1)?;
        }
    }
    let payload = rest.skip(header_len)?;
    match payload.array(0)? {
        [0x45..0x50] => Ok((Layer::Ipv4, payload)),
        [0x60..0x70] => Ok((Layer::Ipv6, payload)),
        _ => Err(Reject::NotTcp),
    }
}

/// RFC 4380 section 5.1.1: authentication and the client's origin may stand before the packet, one end of which has a
/// Teredo address.
fn teredo(rest: Rest<'_>) -> Result<(Layer, Rest<'_>), Reject> {
    let mut rest = rest;
    if let [0, 1, client, value] = rest.array(0)? {
        rest = rest.skip(4 + usize::from(client) + usize::from(value) + 9)?;
    }
    if rest.array(0)? == [0, 0] {
        rest = rest.skip(8)?;
    }
    let header = Ipv6HeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::NotTcp)?;
    let is_teredo = [header.source(), header.destination()].iter().any(|address| address.starts_with(&PREFIX));
    // Behind the packet there may be trailers (RFC 6081 section 4).
    let fits = usize::from(header.payload_length()) + header.slice().len() <= rest.wire;
    if is_teredo && fits { Ok((Layer::Ipv6, rest)) } else { Err(Reject::NotTcp) }
}

/// 2001::/32 (RFC 4380 section 2.6).
const PREFIX: [u8; 4] = [0x20, 0x01, 0, 0];

/// Protocol types that no Ethernet frame has.
const TRANSPARENT_ETHERNET: u16 = 0x6558;
const PPP: u16 = 0x880b;
const WCCP: u16 = 0x883e;
const ERSPAN: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;
const NSH: u16 = 0x894f;
