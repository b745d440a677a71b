//! Random expressions: what they say in tcpdump's words, and what they mean, over what etherparse reads in a frame.

use std::{fmt, net::IpAddr};

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};

use crate::{
    packet::{PORTS, TAGS, V4, V6},
    random::Random,
};

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Host(Ends, IpAddr),
    Net(Ends, IpAddr, u8),
    Port(Ends, u16),
    Range(Ends, u16, u16),
    Tcp,
    Version(u8),
    Vlan(Option<u16>),
    Octets { layer: Layer, offset: usize, width: usize, mask: Option<u32>, relation: &'static str, number: u32 },
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ends {
    Either,
    Source,
    Destination,
    Both,
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Layer {
    Ip,
    Ip6,
    Tcp,
}

/// What may be drawn.
#[derive(Clone, Copy)]
pub(crate) struct Vocabulary {
    /// What tcpdump does not know, or means otherwise: client and server, tags without consequences.
    pub ours: bool,
    pub octets: bool,
}

impl Ask {
    pub(crate) fn random(random: &mut Random, depth: usize, words: Vocabulary) -> Self {
        if depth > 0 && !random.one_in(4) {
            let kind = random.below(3);
            let mut inner = || Box::new(Self::random(random, depth - 1, words));
            return match kind {
                0 => Self::Not(inner()),
                1 => Self::And(inner(), inner()),
                _ => Self::Or(inner(), inner()),
            };
        }
        let all = [Ends::Either, Ends::Source, Ends::Destination, Ends::Both, Ends::Client, Ends::Server];
        let ends = random.pick(if words.ours { &all } else { &all[..4] });
        let address = |random: &mut Random| -> IpAddr {
            if random.one_in(2) { random.pick(&V4).into() } else { random.pick(&V6).into() }
        };
        match random.below(if words.octets { 10 } else { 7 }) {
            0 => Self::Host(ends, address(random)),
            1 => {
                let address = address(random);
                let len =
                    if address.is_ipv4() { random.pick(&[0, 8, 15, 24, 32]) } else { random.pick(&[0, 32, 48, 128]) };
                Self::Net(ends, masked(address, len), len)
            }
            2 | 3 => Self::Port(ends, random.pick(&PORTS)),
            4 => {
                let (a, b) = (random.pick(&PORTS), random.pick(&PORTS));
                Self::Range(ends, a.min(b), a.max(b))
            }
            5 if words.ours => Self::Vlan(if random.one_in(4) { None } else { Some(random.pick(&TAGS)) }),
            5 => Self::Tcp,
            6 => Self::Version(random.pick(&[4, 6])),
            _ => {
                let (layer, len) =
                    random.pick(&[(Layer::Ip, 20), (Layer::Ip6, 40), (Layer::Tcp, 20), (Layer::Tcp, 20)]);
                let width = random.pick(&[1, 1, 2, 4]);
                // Where there is something to find.
                let offset = match (layer, width) {
                    (Layer::Tcp, 1) => random.pick(&[13, 13, 12, 1, 19]),
                    (Layer::Tcp, 2) => random.pick(&[0, 2, 3, 14]),
                    (Layer::Ip, 1) => random.pick(&[0, 1, 8, 9]),
                    (Layer::Ip6, 1) => random.pick(&[0, 1, 6, 7, 39]),
                    _ => random.below(len - width + 1),
                };
                let mask = random.one_in(2).then(|| random.pick(&[0x02, 0x12, 0x17, 0xf0, 0x0f, 0xff00, 0xffff_fff0]));
                let number =
                    random.pick(&[0, 1, 2, 4, 0x10, 0x12, 0x45, 0x50, 64, 80, 443, 255, 0x100, 0xffff, u32::MAX]);
                let relation = random.pick(&["=", "==", "!=", "<", "<=", ">", ">="]);
                Self::Octets { layer, offset, width, mask, relation, number }
            }
        }
    }

    /// Whether octets of the IP header decide, which are others in a fragment.
    pub(crate) fn asks_ip(&self) -> bool {
        match self {
            Self::Octets { layer, .. } => *layer != Layer::Tcp,
            Self::Not(inner) => inner.asks_ip(),
            Self::And(left, right) | Self::Or(left, right) => left.asks_ip() || right.asks_ip(),
            _ => false,
        }
    }

    /// Whether `frame` matches. Where nobody knows who the client is, either end may be.
    pub(crate) fn holds(&self, frame: &[u8], source_is_client: Option<bool>) -> bool {
        let facts = Facts::of(frame);
        let said = match (facts.tcp[13] & 0x02 != 0, facts.tcp[13] & 0x10 != 0) {
            (true, false) => Some(true),
            (true, true) => Some(false),
            _ => source_is_client,
        };
        match said {
            Some(source) => self.is_true(&facts, source),
            None => self.is_true(&facts, true) || self.is_true(&facts, false),
        }
    }

    fn is_true(&self, facts: &Facts, source_is_client: bool) -> bool {
        let at = |ends: &Ends, holds: &dyn Fn(&(IpAddr, u16)) -> bool| {
            let [src, dst] = &facts.ends;
            match (ends, source_is_client) {
                (Ends::Either, _) => holds(src) || holds(dst),
                (Ends::Both, _) => holds(src) && holds(dst),
                (Ends::Source, _) | (Ends::Client, true) | (Ends::Server, false) => holds(src),
                (Ends::Destination, _) | (Ends::Client, false) | (Ends::Server, true) => holds(dst),
            }
        };
        match self {
            Self::Host(ends, address) => at(ends, &|(ip, _)| ip == address),
            Self::Net(ends, net, len) => {
                at(ends, &|(ip, _)| ip.is_ipv4() == net.is_ipv4() && masked(*ip, *len) == *net)
            }
            Self::Port(ends, wanted) => at(ends, &|(_, port)| port == wanted),
            Self::Range(ends, low, high) => at(ends, &|(_, port)| low <= port && port <= high),
            Self::Tcp => true,
            Self::Version(version) => facts.version == *version,
            Self::Vlan(None) => facts.vlan.is_some(),
            Self::Vlan(id) => facts.vlan == *id,
            Self::Octets { layer, offset, width, mask, relation, number } => {
                let header = match layer {
                    Layer::Ip if facts.version != 4 => return false,
                    Layer::Ip6 if facts.version != 6 => return false,
                    Layer::Ip | Layer::Ip6 => &facts.ip,
                    Layer::Tcp => &facts.tcp,
                };
                let octets = &header[*offset..offset + width];
                let value = octets.iter().fold(0_u32, |value, octet| value << 8 | u32::from(*octet));
                let value = value & mask.unwrap_or(u32::MAX);
                match *relation {
                    "=" | "==" => value == *number,
                    "!=" => value != *number,
                    "<" => value < *number,
                    "<=" => value <= *number,
                    ">" => value > *number,
                    _ => value >= *number,
                }
            }
            Self::Not(inner) => !inner.is_true(facts, source_is_client),
            Self::And(left, right) => left.is_true(facts, source_is_client) && right.is_true(facts, source_is_client),
            Self::Or(left, right) => left.is_true(facts, source_is_client) || right.is_true(facts, source_is_client),
        }
    }
}

/// What a frame says, as etherparse reads it.
struct Facts {
    ends: [(IpAddr, u16); 2],
    version: u8,
    vlan: Option<u16>,
    ip: Vec<u8>,
    tcp: Vec<u8>,
}

impl Facts {
    fn of(frame: &[u8]) -> Self {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{packet:?}") };
        let (src, dst, version, ip): (IpAddr, IpAddr, _, _) = match packet.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), 4, header.slice().to_vec())
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), 6, header.slice().to_vec())
            }
            NetSlice::Arp(arp) => panic!("{arp:?}"),
        };
        let vlan = match packet.link_exts.first() {
            Some(LinkExtSlice::Vlan(tag)) => Some(tag.vlan_identifier().value()),
            _ => None,
        };
        let ends = [(src, tcp.source_port()), (dst, tcp.destination_port())];
        Self { ends, version, vlan, ip, tcp: tcp.slice().to_vec() }
    }
}

impl fmt::Display for Ask {
    /// `and` and `or` bind alike, from the left, so what stands there needs no parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(ends, address) => write!(f, "{ends}host {address}"),
            Self::Net(ends, address, len) => write!(f, "{ends}net {address}/{len}"),
            Self::Port(ends, port) => write!(f, "{ends}port {port}"),
            Self::Range(ends, low, high) => write!(f, "{ends}portrange {low}-{high}"),
            Self::Tcp => f.write_str("tcp"),
            Self::Version(4) => f.write_str("ip"),
            Self::Version(_) => f.write_str("ip6"),
            Self::Vlan(None) => f.write_str("vlan"),
            Self::Vlan(Some(id)) => write!(f, "vlan {id}"),
            Self::Octets { layer, offset, width, mask, relation, number } => {
                let layer = match layer {
                    Layer::Ip => "ip",
                    Layer::Ip6 => "ip6",
                    Layer::Tcp => "tcp",
                };
                write!(f, "{layer}[{offset}:{width}]")?;
                if let Some(mask) = mask {
                    write!(f, " & {mask:#x}")?;
                }
                write!(f, " {relation} {number}")
            }
            Self::Not(inner) => match **inner {
                Self::And(..) | Self::Or(..) => write!(f, "not ({inner})"),
                _ => write!(f, "not {inner}"),
            },
            Self::And(left, right) => write!(f, "{left} and {}", Right(right)),
            Self::Or(left, right) => write!(f, "{left} or {}", Right(right)),
        }
    }
}

struct Right<'a>(&'a Ask);

impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ask::And(..) | Ask::Or(..) => write!(f, "({})", self.0),
            simple => simple.fmt(f),
        }
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Either => "",
            Self::Source => "src ",
            Self::Destination => "dst ",
            Self::Both => "src and dst ",
            Self::Client => "client ",
            Self::Server => "server ",
        })
    }
}

/// The address with only its first `len` bits.
fn masked(address: IpAddr, len: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            IpAddr::V4((u32::from(address) & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((u128::from(address) & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)).into())
        }
    }
}
