//! One TCP segment, what the kernel says beside it, and the three types that must not be mixed up with plain integers.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use agent_common::head::{Client, Head, VLAN_ID, VLAN_PRESENT};

/// One TCP segment as it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub timestamp: Timestamp,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub seq: SeqNum,
    /// Meaningful only with [`Flags::ACK`].
    pub ack: SeqNum,
    pub flags: Flags,
    /// As in the header: not scaled.
    pub window: u16,
    /// Shift of the window scale option (RFC 7323), which only a SYN carries.
    pub window_scale: Option<u8>,
    /// Maximum segment size (RFC 9293 section 3.7.1), which only a SYN carries.
    pub mss: Option<u16>,
    /// Identification of the IPv4 header around it; IPv6 has none.
    pub ip_id: Option<u16>,
    pub payload: &'a [u8],
    /// Payload octets that were on the wire behind `payload` and that the snaplen cut off.
    pub missing: u32,
    pub origin: Origin,
    /// What the kernel says of the connection; `None` in replay, and where the endpoints are not those that it saw.
    pub flow: Option<&'a FlowNote>,
}

/// A segment that owns its payload.
#[derive(Debug)]
pub struct OwnedSegment {
    /// All but the rest.
    head: Segment<'static>,
    payload: Box<[u8]>,
    /// Boxed, since few are kept that have one.
    flow: Option<Box<FlowNote>>,
}

impl OwnedSegment {
    pub fn lend(&self) -> Segment<'_> {
        Segment { payload: &self.payload, flow: self.flow.as_deref(), ..self.head }
    }

    /// Gives up its payload, and all else stays.
    pub fn take_payload(&mut self) -> Box<[u8]> {
        std::mem::take(&mut self.payload)
    }
}

impl From<&Segment<'_>> for OwnedSegment {
    fn from(segment: &Segment<'_>) -> Self {
        Self {
            head: Segment { payload: &[], flow: None, ..*segment },
            payload: segment.payload.into(),
            flow: segment.flow.copied().map(Box::new),
        }
    }
}

/// Where a frame was seen, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// Place of the interface among the `-i` flags, or in the capture file; among all of several files, in the order of the
    /// first frames.
    pub interface: u16,
    /// Outermost VLAN id.
    pub vlan: Option<u16>,
    /// Generation of the filter that let the frame through; 0 in replay.
    pub generation: u32,
    /// Records that the frame's ring had refused before this frame, ever; 0 in replay.
    pub refused: u64,
    /// The TCP checksum may be unfinished: the frame was sent by this host, or merged.
    pub checksum_partial: bool,
}

/// What the kernel knows of a connection of which it does not copy everything, with a segment of it: this one included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowNote {
    /// Octets that the sender has sent so far, by its sequence numbers.
    pub reach: u64,
    /// Octets that the sender has sent and that a full ring has cost, so far.
    pub lost: u64,
    /// Segments so far: of the sender, and of its peer.
    pub segments: [u64; 2],
    /// How far the peer has acknowledged.
    pub peer_ack: Option<Acknowledgment>,
    /// Who opened the connection, where its handshake was seen.
    pub client: Client,
    /// Payload of the sender was withheld because of the cut-off.
    pub cut: bool,
    /// The connection was shed when it began: none of its payload is copied.
    pub shed: bool,
}

/// How far one side of a connection has acknowledged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Acknowledgment {
    /// The highest one.
    pub number: SeqNum,
    /// When it came.
    pub time: Timestamp,
    /// The window that came last, as in the header: not scaled.
    pub window: u16,
}

/// An address and a port. IPv4 addresses are kept as `::ffff:a.b.c.d`, so that all are of one size and one kind.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Endpoint {
    /// As on the wire, in two words.
    pub address: [u64; 2],
    /// Host byte order.
    pub port: u16,
}

impl Endpoint {
    pub fn new(ip: IpAddr, port: u16) -> Self {
        let octets = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Self { address: bytemuck::cast(octets), port }
    }

    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(bytemuck::cast::<_, [u8; 16]>(self.address)).to_canonical()
    }

    pub fn v4(octets: [u8; 4], port: u16) -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::from(octets)), port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), address.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip(), self.port).fmt(f)
    }
}

/// Nanoseconds on the capture clock: `CLOCK_BOOTTIME` in a live capture, the file's time in a replay.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub const fn after(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }

    /// Nanoseconds since `earlier`; 0 when that is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A TCP sequence number: arithmetic is modulo 2^32 (RFC 9293 section 3.4). Deliberately neither `Ord` nor `Sub`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Signed distance from `base`: positive when `self` comes after it. A wrap between the two does not matter.
    pub const fn distance_from(self, base: Self) -> i32 {
        self.0.wrapping_sub(base.0).cast_signed()
    }

    /// The sequence number `octets` further on.
    pub const fn advance(self, octets: u64) -> Self {
        Self(self.0.wrapping_add(octets as u32))
    }
}

/// The control bits of a TCP header, in the order of its 14th octet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: Self = Self(0x01);
    pub const SYN: Self = Self(0x02);
    pub const RST: Self = Self(0x04);
    pub const PSH: Self = Self(0x08);
    pub const ACK: Self = Self(0x10);
    pub const URG: Self = Self(0x20);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Segment<'_> {
    /// What the filter and the shard hash look at, but for the headers.
    pub fn head(&self) -> Head {
        Head {
            src: self.src.address,
            dst: self.dst.address,
            src_port: self.src.port,
            dst_port: self.dst.port,
            vlan: self.origin.vlan.map_or(0, |id| id & VLAN_ID | VLAN_PRESENT),
            ..Head::default()
        }
    }
}
