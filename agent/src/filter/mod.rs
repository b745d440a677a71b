//! What the user wants captured, as an expression, and as the graph that kernel and agent walk for every frame.

mod compile;
mod sets;

use std::sync::Arc;

use agent_common::head::{Client, Head};
use ipnet::IpNet;

pub use self::{compile::compile, sets::Sets};

/// What must hold for a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expression {
    Test(Test),
    Not(Box<Self>),
    /// All of them; true when there are none.
    And(Vec<Self>),
    /// One of them at least; false when there are none.
    Or(Vec<Self>),
}

/// One question about a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Test {
    Net(End, IpNet),
    /// From the first to the last, both included.
    Ports(End, u16, u16),
    /// In one net of many, which came from a file as a rule.
    Set(End, Arc<Set>),
    Ipv4,
    Ipv6,
    /// With a VLAN tag, of any id when there is none here. The outermost tag counts.
    Vlan(Option<u16>),
    /// `low <= octets & mask <= high`, with the octets of a header as one big-endian number.
    Header {
        layer: Layer,
        /// Octets from the start of the header.
        offset: u8,
        /// 1, 2 or 4 octets.
        width: u8,
        mask: u32,
        low: u32,
        high: u32,
    },
    /// One connection in so many, the same ones on every host.
    Sample(u32),
}

/// Nets under one name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Set {
    pub name: String,
    pub nets: Vec<IpNet>,
}

/// Whose address or port a question is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum End {
    Source,
    Destination,
    Either,
    /// Who opened the connection, and its peer. Where the handshake was not seen, either end may be.
    Client,
    Server,
}

/// A header whose octets can be asked for: the part that is the same without options.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layer {
    /// IPv4, 20 octets.
    Ip,
    /// 40 octets.
    Ip6,
    /// 20 octets.
    Tcp,
}

/// An expression, compiled: one meaning wherever it is asked.
#[derive(Clone, Debug)]
pub struct Filter {
    /// What the kernel walks.
    pub graph: agent_common::filter::Filter,
    pub sets: Arc<Sets>,
}

impl Filter {
    /// Every TCP segment.
    pub fn everything() -> Self {
        Self { graph: agent_common::filter::Filter::EVERYTHING, sets: Arc::default() }
    }

    /// Whether the user wants what `head` is the head of.
    #[inline]
    pub fn accepts(&self, head: &Head, client: Client) -> bool {
        let sets = if self.graph.asks_sets == 0 { [0, 0] } else { [self.sets.of(&head.src), self.sets.of(&head.dst)] };
        self.graph.accepts(head, client, sets)
    }
}
