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
    /// 1 when a question is about client or server, 0 otherwise; the same for sets, for samples and for
    /// [`Head::headers`].
    pub asks_client: u8,
    pub asks_sets: u8,
    pub asks_sample: u8,
    pub asks_headers: u8,
    pub reserved: [u8; 2],
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
    /// Is the port at least operand 0 and at most operand 1? Both are ports.
    pub const PORT: Self = Self(1);
    /// Is the address in one of the sets whose bits are set in operand 0?
    pub const SET: Self = Self(2);
    /// Are two words of the headers, the first in the upper half, after masking with operand 0 at least operand 1 and at
    /// most operand 2?
    pub const HEADER: Self = Self(3);
    /// Is there a VLAN tag, with an id of at least operand 0 and at most operand 1? Both have 16 bits.
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
        asks_sample: 0,
        asks_headers: 0,
        reserved: [0; 2],
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
        let facts = Facts { sets, sample: self.sample(head) };
        self.accepts_by(head, client, |at, destination_is_client| self.walk(at, head, &facts, destination_is_client))
    }

    /// As [`accepts`](Self::accepts), for who calls [`walk`](Self::walk) in a way of his own.
    #[inline(always)]
    pub fn accepts_by(&self, head: &Head, client: Client, walk: impl Fn(u8, bool) -> u8) -> bool {
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
        let mut destination_is_client = client == Client::Destination;
        let mut others = client == Client::Unknown && self.asks_client != 0;
        // Constant bounds and an index, not an iterator: that is the shape of a loop whose end the verifier sees.
        let mut at = start;
        let mut walks = 0;
        while walks < 2 * WALKS_MAX {
            at = walk(at, destination_is_client);
            if at == ACCEPT {
                return true;
            }
            if at == REFUSE {
                if !others {
                    return false;
                }
                (at, others, destination_is_client) = (start, false, true);
            }
            walks += 1;
        }
        false
    }

    /// What [`Test::SAMPLE`] looks at.
    #[inline(always)]
    pub fn sample(&self, head: &Head) -> u32 {
        if self.asks_sample != 0 { ShardKey::SAMPLE.hash(head) } else { 0 }
    }

    /// Asks the node `at` and those that follow, [`STEPS`] of them at most. The result is the next node, or the end.
    #[inline(always)]
    pub fn walk(&self, at: u8, head: &Head, facts: &Facts, destination_is_client: bool) -> u8 {
        let mut at = usize::from(at);
        let mut i = 0;
        while i < STEPS && at < usize::from(REFUSE) {
            // A mask bounds the index for the verifier too; of a comparison LLVM may keep only the sign.
            let node = &self.nodes[at % NODES_MAX];
            at = usize::from(if node.holds(head, facts, destination_is_client) { node.yes } else { node.no });
            i += 1;
        }
        at as u8
    }
}

/// What the nodes ask about a segment beyond its head.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Facts {
    /// A bit for each set, of those that the source is in, and of the destination's.
    pub sets: [u32; 2],
    /// [`Filter::sample`].
    pub sample: u32,
}

/// Nodes that are asked between two looks at where the walk has arrived. The verifier follows every answer to every one
/// of them, in the one function that has this loop.
const STEPS: usize = 16;
const WALKS_MAX: usize = NODES_MAX / STEPS;

impl Node {
    /// Comparisons are put together before they are made: each is a branch, and the verifier follows every one.
    #[inline(always)]
    fn holds(&self, head: &Head, facts: &Facts, destination_is_client: bool) -> bool {
        let [a, b, c, d] = self.operands;
        // Client and server are bits two above those of source and destination, the other way round when the destination is
        // the client.
        let roles = u64::from(self.ends.0 >> 2);
        let roles = if destination_is_client { roles >> 1 | (roles & 1) << 1 } else { roles };
        let ends = u64::from(self.ends.0) | roles;
        // All ones for an end that is not asked about.
        let (no_source, no_destination) = ((ends & 1).wrapping_sub(1), (ends >> 1 & 1).wrapping_sub(1));
        // Negative outside of `a..=b`, for what is far from 2^63.
        let outside = |value: u64| value.wrapping_sub(a) | b.wrapping_sub(value);
        match self.test {
            Test::NET => {
                let net = Net { address: [a, b], mask: [c, d] };
                net.differs(&head.src) | no_source == 0 || net.differs(&head.dst) | no_destination == 0
            }
            Test::PORT => {
                (outside(head.src_port.into()) | no_source).cast_signed() >= 0
                    || (outside(head.dst_port.into()) | no_destination).cast_signed() >= 0
            }
            Test::SET => {
                let [source, destination] = facts.sets;
                (u64::from(source) & !no_source | u64::from(destination) & !no_destination) & a != 0
            }
            Test::HEADER => {
                let word = |word: u32| u64::from(u32::from_be(head.headers[word as usize % HEADER_WORDS]));
                let value = (word(self.word) << 32 | word(self.word + 1)) & a;
                b <= value && value <= c
            }
            Test::VLAN => {
                // Without a tag, more than any id.
                let none = u64::from(!head.vlan & VLAN_PRESENT) << 1;
                (outside(u64::from(head.vlan & VLAN_ID) | none)).cast_signed() >= 0
            }
            Test::SAMPLE => u64::from(facts.sample) <= a,
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

    /// 0 for an address in the net.
    #[inline(always)]
    fn differs(&self, address: &Address) -> u64 {
        // `::/0` is all of IPv6 and nothing else: a net that leaves bits open which make an address an IPv4 one is an
        // IPv6 net and holds none.
        let open = MAPPED_MASK & !self.mask[1];
        let open = if open != 0 && is_mapped(address) { open } else { 0 };
        ((address[0] ^ self.address[0]) & self.mask[0]) | ((address[1] ^ self.address[1]) & self.mask[1]) | open
    }
}

#[cfg(feature = "user")]
// SAFETY: `Filter` is `bytemuck::Pod`, which is the stricter of the two.
unsafe impl aya::Pod for Filter {}
