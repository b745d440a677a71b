//! What the user wants captured, as an expression, and as the graph that kernel and agent walk for every frame.

mod arithmetic;
mod compile;
mod error;
pub mod explain;
mod lexer;
mod parse;
mod services;
mod sets;

use std::{ops::Not, sync::Arc};

use agent_common::head::{Client, Head};
use ipnet::IpNet;

pub use self::{compile::compile, error::Error, parse::parse, sets::Sets};

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

impl Expression {
    pub const fn everything() -> Self {
        Self::And(Vec::new())
    }

    pub const fn nothing() -> Self {
        Self::Or(Vec::new())
    }

    /// One of these tests at least.
    pub fn any(tests: impl IntoIterator<Item = Test>) -> Self {
        Self::Or(tests.into_iter().map(Self::Test).collect())
    }

    /// What is left to ask when only some tests can be answered: it holds wherever the expression may hold.
    pub fn weakened(&self, is_known: impl Fn(&Test) -> bool) -> Self {
        self.assuming(&is_known, true)
    }

    /// The same, but it holds only where the expression must hold.
    pub fn strengthened(&self, is_known: impl Fn(&Test) -> bool) -> Self {
        self.assuming(&is_known, false)
    }

    /// With `answer` in place of the unknown, turned around in a negation.
    fn assuming(&self, is_known: &impl Fn(&Test) -> bool, answer: bool) -> Self {
        let (everything, nothing) = (Self::everything(), Self::nothing());
        match self {
            Self::Test(test) if is_known(test) => self.clone(),
            Self::Test(_) => {
                if answer {
                    everything
                } else {
                    nothing
                }
            }
            Self::Not(inner) => match inner.assuming(is_known, !answer) {
                inner if inner == everything => nothing,
                inner if inner == nothing => everything,
                inner => !inner,
            },
            Self::And(all) => {
                let mut all: Vec<_> = all.iter().map(|inner| inner.assuming(is_known, answer)).collect();
                all.retain(|inner| *inner != everything);
                if all.contains(&nothing) { nothing } else { Self::And(all) }
            }
            Self::Or(any) => {
                let mut any: Vec<_> = any.iter().map(|inner| inner.assuming(is_known, answer)).collect();
                any.retain(|inner| *inner != nothing);
                if any.contains(&everything) { everything } else { Self::Or(any) }
            }
        }
    }
}

impl From<Test> for Expression {
    fn from(test: Test) -> Self {
        Self::Test(test)
    }
}

impl Not for Expression {
    type Output = Self;

    fn not(self) -> Self {
        Self::Not(Box::new(self))
    }
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

impl Test {
    /// Whether every fragment of a datagram has the answer.
    pub fn is_known_of_fragments(&self) -> bool {
        matches!(self, Self::Net(..) | Self::Set(..) | Self::Ipv4 | Self::Ipv6 | Self::Vlan(_))
    }

    /// Whether it is about what stays the same for as long as a connection lasts.
    pub fn is_about_endpoints(&self) -> bool {
        matches!(self, Self::Net(..) | Self::Ports(..) | Self::Set(..) | Self::Ipv4 | Self::Ipv6 | Self::Sample(_))
    }
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

/// The TCP flags, from the lowest bit on (RFC 9293 section 3.1).
pub(crate) const CONTROL_BITS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

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
