//! The ABI of a ring record: a [`FrameHeader`], then `caplen` bytes of the frame.

use bytemuck::{Pod, Zeroable};

/// Version of this layout. The agent refuses records of another one.
pub const VERSION: u8 = 3;

/// Most bytes of one frame that reach userspace: BIG TCP's largest skb (`GSO_MAX_SIZE`, 8 * 65,535) and its headers
/// fit into 512 KiB + 512.
pub const CAPLEN_MAX: u32 = 512 * 1024 + 512;

/// Most interfaces of one capture.
pub const INTERFACES_MAX: usize = 256;

/// What the kernel says about one frame. Native byte order; lengths in octets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FrameHeader {
    /// [`VERSION`], first, so that a reader knows what follows.
    pub version: u8,
    /// Octets from the start of the record to the frame's first octet.
    pub header_len: u8,
    /// How `bytes` begins: see [`LinkType`].
    pub link_type: LinkType,
    /// [`flags`].
    pub flags: u16,
    /// The agent's number of the interface (its place among the `-i` flags), not the ifindex.
    pub interface: u16,
    /// `CLOCK_BOOTTIME` nanoseconds.
    pub timestamp: u64,
    /// Length of the frame where it was tapped (pcap `len`). Of a merged frame, all of it.
    pub len: u32,
    /// Octets that follow (pcap `caplen`): fewer because of the snaplen, of [`CAPLEN_MAX`], or of the 131,070 octets that an
    /// XDP program can copy; or, with [`flags::CUTOFF`] or [`flags::SHED`], because the headers are all that is copied of a
    /// SYN, FIN or RST.
    pub caplen: u32,
    /// Generation of the filter that let the frame through.
    pub generation: u32,
    /// Outer VLAN tag (TCI) that the NIC or the stack had taken out of the frame; valid with [`flags::VLAN`].
    pub vlan: u16,
    /// Of the peer's last acknowledgment, as in the header; with [`flags::PEER_ACKED`].
    pub peer_window: u16,
    /// Records this ring had refused for want of room before this one, ever: a hole that opens while it grows may be
    /// our own doing.
    pub refused: u64,
    /// The rest is what the kernel knows about the connection beyond this frame, with [`flags::FLOW`]; zeros without.
    ///
    /// Octets of the sender that a full ring has cost so far.
    pub lost: u64,
    /// Octets that the sender has sent so far by its sequence numbers, this segment included.
    pub reach: u64,
    /// Segments so far of the sender, this one included, and of its peer.
    pub segments: [u64; 2],
    /// The peer's highest acknowledgment, and when it came (boot clock, nanoseconds); with [`flags::PEER_ACKED`].
    pub peer_ack_time: u64,
    pub peer_ack: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<FrameHeader>() == 88);

/// Bits of [`FrameHeader::flags`].
pub mod flags {
    /// [`FrameHeader::vlan`](super::FrameHeader::vlan) holds a tag that is not in the frame's bytes.
    pub const VLAN: u16 = 1 << 0;
    /// The TCP checksum may be partial (offload), so it must not be verified: set on all that is sent and on merged
    /// frames. A frame received from a neighbour on the same host may be partial without it.
    pub const CHECKSUM_PARTIAL: u16 = 1 << 1;
    /// There is a flow record, and the fields that come from it are valid.
    pub const FLOW: u16 = 1 << 2;
    /// Payload of the sender was withheld because of the cut-off, in this frame or before it.
    pub const CUTOFF: u16 = 1 << 3;
    /// The connection was shed when it began: no payload of it is copied.
    pub const SHED: u16 = 1 << 4;
    /// The peer has acknowledged something.
    pub const PEER_ACKED: u16 = 1 << 5;
    /// The handshake was seen, and the sender of this frame opened the connection, or its peer did.
    pub const CLIENT_SOURCE: u16 = 1 << 6;
    pub const CLIENT_DESTINATION: u16 = 1 << 7;
}

/// A LINKTYPE_ value of the pcap registry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct LinkType(pub u16);

impl LinkType {
    pub const NULL: Self = Self(0);
    pub const ETHERNET: Self = Self(1);
    pub const PPP: Self = Self(9);
    pub const RAW: Self = Self(101);
    pub const LOOP: Self = Self(108);
    pub const LINUX_SLL: Self = Self(113);
    pub const IPV4: Self = Self(228);
    pub const IPV6: Self = Self(229);
    pub const LINUX_SLL2: Self = Self(276);
}
