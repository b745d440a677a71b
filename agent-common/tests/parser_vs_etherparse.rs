//! The parser of the kernel half against etherparse, on millions of frames that were built from a seed and then
//! damaged: whatever etherparse calls TCP, or a fragment of it, it must find too, with the same endpoints. The other way
//! round it may find more, for reasons that stand here by name.

use std::collections::BTreeMap;

use agent_common::{
    frame::LinkType,
    head::{Address, EXTENSIONS_MAX, Head, Parsed, TCP_WORD, parse},
    tunnel::Tunnels,
};
use etherparse::{
    EtherType, IpNumber, LaxIpPayloadSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice,
    err::{Layer, ipv6_exts::HeaderError, packet::SliceError},
};

const FRAMES: u64 = 5_000_000;

#[test]
#[expect(clippy::print_stdout, reason = "the census, with --nocapture")]
fn finds_every_segment_that_etherparse_finds() {
    let mut census = BTreeMap::<&str, u64>::new();
    for seed in 0..FRAMES {
        let (link_type, frame) = Generator(seed).frame();
        match compare(link_type, &frame) {
            Ok(verdict) => *census.entry(verdict).or_default() += 1,
            Err(error) => panic!("seed {seed}: {error}\n{link_type:?} {frame:02x?}"),
        }
    }
    println!("{census:#?}");
    for verdict in [SAME, NEITHER].iter().chain(&REASONS) {
        assert!(census.contains_key(verdict), "no frame was a case of: {verdict}");
    }
    assert!(census[SAME] > FRAMES / 4, "{census:#?}");
}

const SAME: &str = "both find the same segment";
const NEITHER: &str = "neither finds one";

/// Why we may find what etherparse does not.
const REASONS: [&str; 12] = [
    TUNNEL,
    FRAGMENT,
    LONG_CHAIN,
    IP_LEN,
    DATA_OFFSET,
    HOP_BY_HOP,
    AUTHENTICATION,
    MOBILITY,
    EXTENSION_IN_IPV4,
    TAGS,
    MACSEC,
    SNAP,
];
const TUNNEL: &str = "what may be a tunnel, which etherparse does not look into";
const FRAGMENT: &str = "a fragment, in which etherparse looks for no transport";
const LONG_CHAIN: &str = "more extension headers than we follow: judged by its addresses";
const IP_LEN: &str = "headers that end behind the IP length, which we do not look at";
const DATA_OFFSET: &str = "a data offset that cannot be";
const HOP_BY_HOP: &str = "hop-by-hop options that do not come first";
const AUTHENTICATION: &str = "an authentication header of no length, or a second one in IPv4";
const MOBILITY: &str = "a Mobility, HIP or Shim6 header, which etherparse does not follow";
const EXTENSION_IN_IPV4: &str = "an IPv6 extension header in IPv4";
const TAGS: &str = "a fourth tag";
const MACSEC: &str = "a MACsec tag whose version or length cannot be";
const SNAP: &str = "SNAP, which etherparse does not know";

type Ends = (Address, Address, u16, u16);

fn ends(head: &Head) -> Ends {
    (head.src, head.dst, head.src_port, head.dst_port)
}

fn compare(link_type: LinkType, frame: &[u8]) -> Result<&'static str, String> {
    let ours = parse(frame, link_type);
    let packet = if link_type == LinkType::ETHERNET {
        LaxSlicedPacket::from_ethernet(frame).ok()
    } else {
        LaxSlicedPacket::from_ip(frame).ok()
    };
    let Some(packet) = packet else {
        return match ours {
            Parsed::Tcp(_) => Err(format!("etherparse refuses it, ours is {ours:?}")),
            Parsed::Other | Parsed::Malformed => Ok(NEITHER),
        };
    };
    if let (Some(payload), Some((src, dst))) = (payload(&packet), addresses(&packet)) {
        // Behind a header that may be anything there may be a tunnel, too.
        let is_by_address = match ours {
            Parsed::Tcp(head) => ends(&head) == (src, dst, 0, 0) && head.fragment,
            Parsed::Other | Parsed::Malformed => false,
        };
        if let Some(TransportSlice::Tcp(tcp)) = &packet.transport {
            let (src_port, dst_port) = (tcp.source_port(), tcp.destination_port());
            let segment = (src, dst, src_port, dst_port);
            let same = |head: &Head| {
                let header: &[u8] = bytemuck::cast_slice(&head.headers[TCP_WORD..TCP_WORD + 5]);
                ends(head) == segment && !head.fragment && head.tunnels == Tunnels::NONE && header == &tcp.slice()[..20]
            };
            return if matches!(&ours, Parsed::Tcp(head) if same(head)) {
                Ok(SAME)
            } else if is_by_address && extensions(&packet) >= EXTENSIONS_MAX {
                Ok(LONG_CHAIN)
            } else {
                Err(format!("etherparse finds {segment:?}, ours is {ours:?}"))
            };
        }
        if payload.fragmented && payload.ip_number == IpNumber::TCP {
            return match ours {
                _ if is_by_address => Ok(FRAGMENT),
                ours => Err(format!("etherparse finds a fragment of TCP, ours is {ours:?}")),
            };
        }
    }
    match ours {
        Parsed::Tcp(Head { fragment: false, tunnels, .. }) if tunnels != Tunnels::NONE => Ok(TUNNEL),
        Parsed::Tcp(_) => reason(&packet).ok_or_else(|| format!("{packet:?}, ours is {ours:?}")),
        Parsed::Other | Parsed::Malformed => Ok(NEITHER),
    }
}

/// Why etherparse found no segment in what ours calls TCP.
fn reason(packet: &LaxSlicedPacket<'_>) -> Option<&'static str> {
    let long = extensions(packet) >= EXTENSIONS_MAX;
    if let Some((error, layer)) = &packet.stop_err {
        return match (error, layer) {
            _ if long => Some(LONG_CHAIN),
            (SliceError::Tcp(_), _) => Some(DATA_OFFSET),
            (SliceError::Macsec(_), _) => Some(MACSEC),
            (SliceError::Ipv6Exts(HeaderError::HopByHopNotAtStart), _) => Some(HOP_BY_HOP),
            (SliceError::Ipv4Exts(_) | SliceError::Ipv6Exts(HeaderError::IpAuth(_)), _) => Some(AUTHENTICATION),
            (SliceError::Len(_), _) if payload(packet).is_some_and(|payload| payload.fragmented) => Some(FRAGMENT),
            (SliceError::Len(_), Layer::TcpHeader) => Some(IP_LEN),
            (SliceError::Len(_), _) => Some(IP_LEN),
            _ => None,
        };
    }
    let Some(payload) = payload(packet) else {
        let ethertype = match (&packet.link, packet.link_exts.last()) {
            (_, Some(tag)) => tag.payload()?.ether_type,
            (Some(LinkSlice::Ethernet2(link)), None) => link.ether_type(),
            _ => return None,
        };
        return match ethertype {
            EtherType(0..1536) => Some(SNAP),
            _ if packet.link_exts.len() == 3 => Some(TAGS),
            _ => None,
        };
    };
    let ipv4 = matches!(packet.net, Some(LaxNetSlice::Ipv4(_)));
    match payload.ip_number {
        _ if long => Some(LONG_CHAIN),
        _ if payload.fragmented => Some(FRAGMENT),
        IpNumber(135 | 139 | 140) if !ipv4 => Some(MOBILITY),
        IpNumber::AUTHENTICATION_HEADER if ipv4 => Some(AUTHENTICATION),
        IpNumber(0 | 43 | 44 | 60 | 135 | 139 | 140) if ipv4 => Some(EXTENSION_IN_IPV4),
        _ => None,
    }
}

fn addresses(packet: &LaxSlicedPacket<'_>) -> Option<(Address, Address)> {
    let mapped = |address: std::net::Ipv4Addr| bytemuck::cast(address.to_ipv6_mapped().octets());
    match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => Some((mapped(ip.header().source_addr()), mapped(ip.header().destination_addr()))),
        LaxNetSlice::Ipv6(ip) => {
            Some((bytemuck::cast(ip.header().source()), bytemuck::cast(ip.header().destination())))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

fn payload<'a>(packet: &LaxSlicedPacket<'a>) -> Option<LaxIpPayloadSlice<'a>> {
    match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => Some(ip.payload().clone()),
        LaxNetSlice::Ipv6(ip) => Some(ip.payload().clone()),
        LaxNetSlice::Arp(_) => None,
    }
}

/// How many extension headers etherparse followed. Not by its own iterator, which reads beyond the end of a chain that
/// it left early (etherparse 0.21).
fn extensions(packet: &LaxSlicedPacket<'_>) -> usize {
    let Some(LaxNetSlice::Ipv6(ip)) = &packet.net else { return 0 };
    let (mut rest, mut kind, mut count) = (ip.extensions().slice(), ip.header().next_header(), 0);
    while let [next, len, ..] = *rest {
        let len = match kind.0 {
            44 => 8,
            51 => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        rest = rest.get(len..).unwrap_or_default();
        kind = IpNumber(next);
        count += 1;
    }
    count
}

/// Frames from a seed (SplitMix64, Steele et al.).
struct Generator(u64);

impl Generator {
    fn frame(&mut self) -> (LinkType, Vec<u8>) {
        let mut frame = Vec::with_capacity(256);
        let version = if self.one_in(2) { 4 } else { 6 };
        let link_type = match self.below(4) {
            0 if self.one_in(2) => LinkType::RAW,
            0 if version == 4 => LinkType::IPV4,
            0 => LinkType::IPV6,
            _ => LinkType::ETHERNET,
        };
        if link_type == LinkType::ETHERNET {
            self.ethernet(&mut frame, version);
        }
        if version == 4 {
            self.ipv4(&mut frame);
        } else {
            self.ipv6(&mut frame);
        }
        for _ in 0..self.below(4) {
            let at = self.below(frame.len().min(120) as u64) as usize;
            frame[at] = if self.one_in(2) { self.next() as u8 } else { frame[at] ^ 1 << self.below(8) };
        }
        if self.one_in(6) {
            let len = self.below(frame.len() as u64 + 1);
            frame.truncate(len as usize);
        }
        (link_type, frame)
    }

    fn ethernet(&mut self, frame: &mut Vec<u8>, version: u8) {
        frame.extend_from_slice(&[2; 12]);
        for _ in 0..self.pick([0, 0, 0, 1, 1, 2, 3, 4]) {
            if self.one_in(5) {
                let sci = self.one_in(2);
                let control = if self.one_in(8) { self.next() as u8 } else { 0 };
                frame.extend_from_slice(&[0x88, 0xe5, control & !0x20 | u8::from(sci) << 5, 0, 0, 0, 0, 1]);
                frame.extend_from_slice(if sci { &[9; 8] } else { &[] });
            } else {
                let ethertype: u16 = self.pick([0x8100, 0x88a8, 0x9100]);
                frame.extend_from_slice(&ethertype.to_be_bytes());
                frame.extend_from_slice(&(self.next() as u16).to_be_bytes());
            }
        }
        if self.one_in(20) {
            frame.extend_from_slice(&[5, 0, 0xaa, 0xaa, 3, 0, 0, 0]);
        }
        // Now and then the wrong one: the version in the header decides.
        let version = if self.one_in(50) { 10 - version } else { version };
        frame.extend_from_slice(if version == 4 { &[8, 0] } else { &[0x86, 0xdd] });
    }

    fn ipv4(&mut self, frame: &mut Vec<u8>) {
        let start = frame.len();
        let words = 5 + if self.one_in(2) { self.below(11) as usize } else { 0 };
        let fragment: u16 = match self.below(10) {
            0 => 0x2000,
            1 => self.next() as u16 & 0x3fff,
            2 => 0x4000,
            _ => 0,
        };
        let protocol = self.transport();
        let first = match self.below(40) {
            0..4 => 51,
            4 => self.extension(),
            _ => protocol,
        };
        frame.extend_from_slice(&[0x40 | words as u8, 0, 0, 0, 0, 0]);
        frame.extend_from_slice(&fragment.to_be_bytes());
        frame.extend_from_slice(&[64, first, 0, 0]);
        frame.extend((12..words * 4).map(|_| self.next() as u8));
        if first != protocol {
            self.header(frame, first, protocol);
        }
        self.segment(frame);
        let len = self.length(frame.len() - start);
        frame[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn ipv6(&mut self, frame: &mut Vec<u8>) {
        let start = frame.len();
        let mut chain = Vec::new();
        for i in 0..self.pick([0, 0, 0, 1, 1, 2, 4, 8, 9, 11]) {
            chain.push(if i == 0 && self.one_in(2) { 0 } else { self.extension() });
        }
        chain.push(self.transport());
        frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, chain[0], 64]);
        frame.extend((0..32).map(|_| self.next() as u8));
        for pair in chain.windows(2) {
            self.header(frame, pair[0], pair[1]);
        }
        self.segment(frame);
        let len = self.length(frame.len() - start - 40);
        frame[start + 4..start + 6].copy_from_slice(&len.to_be_bytes());
    }

    /// An extension header of the kind `this`, followed by one of the kind `next`.
    fn header(&mut self, frame: &mut Vec<u8>, this: u8, next: u8) {
        let start = frame.len();
        let len = match this {
            44 => {
                // Atomic as a rule.
                let offset = if self.one_in(4) { self.next() as u16 } else { 0 };
                frame.extend_from_slice(&[next, 0]);
                frame.extend_from_slice(&offset.to_be_bytes());
                8
            }
            51 => {
                let len = 1 + self.below(4) as u8;
                frame.extend_from_slice(&[next, len]);
                (usize::from(len) + 2) * 4
            }
            _ => {
                let len = self.below(4) as u8;
                frame.extend_from_slice(&[next, len]);
                (usize::from(len) + 1) * 8
            }
        };
        frame.resize(start + len, 0);
    }

    /// What follows the last IP header, as if it were TCP.
    fn segment(&mut self, frame: &mut Vec<u8>) {
        frame.extend((0..12).map(|_| self.next() as u8));
        let words = 5 + self.below(4) as usize;
        frame.extend_from_slice(&[(words as u8) << 4, 0x10]);
        let payload = self.below(40) as usize;
        frame.resize(frame.len() + words * 4 - 14 + payload, 7);
    }

    fn transport(&mut self) -> u8 {
        match self.below(8) {
            0 => 17,
            1 => self.next() as u8,
            _ => 6,
        }
    }

    fn extension(&mut self) -> u8 {
        self.pick([60, 43, 44, 51, 60, 43, 60, 43, 44, 51, 60, 43, 44, 51, 135, 139, 140, 0])
    }

    /// The length that a header claims: now and then none (as of a merged frame) or a lie.
    fn length(&mut self, len: usize) -> u16 {
        match self.below(12) {
            0 => 0,
            1 => self.below(len as u64 + 20) as u16,
            _ => len as u16,
        }
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        from[self.below(N as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
