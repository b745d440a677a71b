//! The frame parser and the filter: one implementation for the kernel, for `replay` and for the tests.

use bytemuck::{Pod, Zeroable};

use crate::frame::LinkType;

/// Bounds-checked reads from a frame: the one thing that differs between the kernel and a slice.
pub trait ReadAt {
    /// The `T` at `offset`, unless it does not lie wholly inside the frame.
    fn read_at<T: Pod>(&self, offset: usize) -> Option<T>;
}

impl ReadAt for [u8] {
    #[inline(always)]
    fn read_at<T: Pod>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..)?.get(..size_of::<T>())?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }
}

/// An IP address as it is on the wire, in two words; IPv4 as `::ffff:a.b.c.d`.
pub type Address = [u64; 2];

/// What the filter looks at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    pub src: Address,
    pub dst: Address,
    /// Host byte order; 0 in a fragment.
    pub src_port: u16,
    pub dst_port: u16,
    pub fragment: bool,
}

/// What [`parse`] makes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// TCP, or a fragment of something that may be.
    Tcp(Head),
    /// Anything else, ARP and UDP among it.
    Other,
    /// The frame ends before the headers that it announces, or they contradict themselves.
    Malformed,
}

/// Reads a frame as far as the TCP ports.
#[inline(always)]
pub fn parse(frame: &(impl ReadAt + ?Sized), link_type: LinkType) -> Parsed {
    let _ = (frame, link_type);
    Parsed::Other
}

/// Most entries of one kind in a [`Filter`].
pub const NETS_MAX: usize = 16;
pub const PORTS_MAX: usize = 16;

/// Which frames the kernel copies to userspace. Values of one kind are alternatives, kinds must all hold, an empty kind
/// holds always: zero matches every TCP frame. Ports and addresses are matched against either endpoint.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Filter {
    /// Octets of a frame that are copied; 0 means all.
    pub snaplen: u32,
    pub hosts_len: u32,
    pub nets_len: u32,
    pub ports_len: u32,
    pub hosts: [Net; NETS_MAX],
    pub nets: [Net; NETS_MAX],
    pub ports: [PortRange; PORTS_MAX],
}

/// Addresses whose masked bits equal `address`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Net {
    pub address: Address,
    pub mask: Address,
}

/// Ports from `low` to `high`, both included, in host byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRange {
    pub low: u16,
    pub high: u16,
}

impl Filter {
    /// Whether userspace wants what `head` is the head of. A fragment is judged by its addresses alone.
    #[inline(always)]
    pub fn accepts(&self, head: &Head) -> bool {
        let _ = head;
        true
    }
}

#[cfg(feature = "user")]
// SAFETY: `Filter` is `bytemuck::Pod`, which is the stricter of the two.
unsafe impl aya::Pod for Filter {}
