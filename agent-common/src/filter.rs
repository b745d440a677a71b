//! Which frames the kernel copies: a graph of questions about the head of a frame. One implementation for the kernel, for
//! `replay` and for the tests.

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use crate::{
    head::{Address, Client, HEADER_WORDS, Head, MAPPED_MASK, VLAN_ID, VLAN_PRESENT, is_mapped},
    shard::ShardKey,
    tunnel::Tunnels,
};

/// Most questions in a [`Filter`].
pub const NODES_MAX: usize = 128;

/// Most sets that the questions of one filter can name.
pub const SETS_MAX: usize = 32;

/// In place of a node's number: the end.
pub const ACCEPT: u8 = 255;
pub const REFUSE: u8 = 254;

/// Which frames are copied, and how much of each.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Filter {
    /// Octets of a frame that are copied; 0 means all.
    pub snaplen: u32,
    /// Tunnels that userspace looks into.
    pub tunnels: Tunnels,
    /// Where judging begins: a node's number, or [`ACCEPT`] or [`REFUSE`].
    pub segment: u8,
    /// The same for a fragment, of which only the addresses are known: questions about the rest are answered so that it
    /// is let through.
    pub fragment: u8,
    /// 1 when a question is about client or server, 0 otherwise; the same for sets and for [`Head::headers`].
    pub asks_client: u8,
    pub asks_sets: u8,
    pub asks_headers: u8,
    pub reserved: [u8; 3],
    pub nodes: [Node; NODES_MAX],
}

/// One question, and where each answer leads.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Node {
    pub test: Test,
    /// Of the questions about an end: which one.
    pub ends: Ends,
    /// The next node's number, or [`ACCEPT`] or [`REFUSE`].
    pub yes: u8,
    pub no: u8,
    /// [`Test::HEADER`]: number of the first of two words.
    pub word: u32,
    /// What the answer is compared with, see [`Test`].
    pub operands: [u64; 4],
}

/// What a [`Node`] asks.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Test(pub u8);

impl Test {
    /// Is the address in the net? Operands: address, mask; two words each.
    pub const NET: Self = Self(0);
    /// Is the port at least operand 0 and at most operand 1?
    pub const PORT: Self = Self(1);
    /// Is the address in one of the sets whose bits are set in operand 0?
    pub const SET: Self = Self(2);
    /// Are two words of the headers, the first in the upper half, after masking with operand 0 at least operand 1 and at
    /// most operand 2?
    pub const HEADER: Self = Self(3);
    /// Is there a VLAN tag, with an id of at least operand 0 and at most operand 1?
    pub const VLAN: Self = Self(4);
    /// Is the connection's hash, the same on every host, at most operand 0?
    pub const SAMPLE: Self = Self(5);
}

/// A set of ends of a segment.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Ends(pub u8);

impl Ends {
    pub const SOURCE: Self = Self(1 << 0);
    pub const DESTINATION: Self = Self(1 << 1);
    pub const CLIENT: Self = Self(1 << 2);
    pub const SERVER: Self = Self(1 << 3);
    pub const EITHER: Self = Self(Self::SOURCE.0 | Self::DESTINATION.0);
}

impl Filter {
    /// Every TCP frame, whole.
    pub const EVERYTHING: Self = Self {
        snaplen: 0,
        tunnels: Tunnels::NONE,
        segment: ACCEPT,
        fragment: ACCEPT,
        asks_client: 0,
        asks_sets: 0,
        asks_headers: 0,
        reserved: [0; 3],
        nodes: [Node { test: Test::NET, ends: Ends(0), yes: 0, no: 0, word: 0, operands: [0; 4] }; NODES_MAX],
    };

    /// Whether userspace wants what `head` is the head of. A fragment is judged by its addresses alone, and what may be a
    /// tunnel not even by these: the endpoints that count are inside. While nobody knows who the client is, either end
    /// may be.
    ///
    /// `sets` are those that the source and the destination are in, a bit each; asked for with
    /// [`asks_sets`](Self::asks_sets) only.
    #[inline(always)]
    pub fn accepts(&self, head: &Head, client: Client, sets: [u32; 2]) -> bool {
        if head.tunnels != Tunnels::NONE {
            if head.tunnels.intersects(self.tunnels) {
                return true;
            }
            if !head.fragment {
                return false;
            }
        }
        let start = if head.fragment { self.fragment } else { self.segment };
        if start >= REFUSE {
            return start == ACCEPT;
        }
        let (first, second) = (client == Client::Destination, client == Client::Unknown && self.asks_client != 0);
        self.walk(start, head, sets, first) || second && self.walk(start, head, sets, true)
    }

    /// The loop has a constant bound and an index, not an iterator: that is the shape whose end the verifier sees.
    #[inline(always)]
    fn walk(&self, start: u8, head: &Head, sets: [u32; 2], destination_is_client: bool) -> bool {
        let mut at = usize::from(start);
        let mut i = 0;
        while i < NODES_MAX {
            if at >= NODES_MAX {
                return at == usize::from(ACCEPT);
            }
            let node = &self.nodes[at];
            at = usize::from(if node.holds(head, sets, destination_is_client) { node.yes } else { node.no });
            i += 1;
        }
        at == usize::from(ACCEPT)
    }
}

impl Node {
    #[inline(always)]
    fn holds(&self, head: &Head, sets: [u32; 2], destination_is_client: bool) -> bool {
        let [a, b, c, d] = self.operands;
        // Client and server are bits two above those of source and destination, the other way round when the destination is
        // the client.
        let roles = self.ends.0 >> 2;
        let roles = if destination_is_client { roles >> 1 | (roles & 1) << 1 } else { roles };
        let ends = self.ends.0 | roles;
        // No short circuits: the verifier follows every branch, for every node.
        let ends = |source: bool, destination: bool| (source as u8 | (destination as u8) << 1) & ends & 3 != 0;
        match self.test {
            Test::NET => {
                let net = Net { address: [a, b], mask: [c, d] };
                ends(net.holds(&head.src), net.holds(&head.dst))
            }
            Test::PORT => {
                let holds = |port: u16| (a <= u64::from(port)) & (u64::from(port) <= b);
                ends(holds(head.src_port), holds(head.dst_port))
            }
            Test::SET => {
                let holds = |sets: u32| u64::from(sets) & a != 0;
                ends(holds(sets[0]), holds(sets[1]))
            }
            Test::HEADER => {
                let word = |word: u32| u64::from(u32::from_be(head.headers[word as usize % HEADER_WORDS]));
                let value = (word(self.word) << 32 | word(self.word + 1)) & a;
                (b <= value) & (value <= c)
            }
            Test::VLAN => {
                let id = u64::from(head.vlan & VLAN_ID);
                (head.vlan & VLAN_PRESENT != 0) & (a <= id) & (id <= b)
            }
            Test::SAMPLE => u64::from(ShardKey::FIXED.hash(head)) <= a,
            _ => false,
        }
    }
}

/// Addresses whose masked bits equal `address`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Net {
    pub address: Address,
    pub mask: Address,
}

impl Net {
    /// The addresses that share the first `prefix` bits with `address`; a prefix longer than the address means all of
    /// its bits.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let (octets, prefix) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 96 + u32::from(prefix.min(32))),
            IpAddr::V6(address) => (address.octets(), u32::from(prefix.min(128))),
        };
        let ones = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        let address: Address = bytemuck::cast(octets);
        let mask: Address = bytemuck::cast(ones.to_be_bytes());
        Self { address: [address[0] & mask[0], address[1] & mask[1]], mask }
    }

    #[inline(always)]
    fn holds(&self, address: &Address) -> bool {
        // `::/0` is all of IPv6 and nothing else: a net that leaves bits open which make an address an IPv4 one is an
        // IPv6 net and holds none.
        let open = if is_mapped(address) { MAPPED_MASK & !self.mask[1] } else { 0 };
        ((address[0] ^ self.address[0]) & self.mask[0]) | ((address[1] ^ self.address[1]) & self.mask[1]) | open == 0
    }
}

#[cfg(feature = "user")]
// SAFETY: `Filter` is `bytemuck::Pod`, which is the stricter of the two.
unsafe impl aya::Pod for Filter {}
