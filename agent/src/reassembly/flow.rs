//! What the kernel knows of the connections of which it withholds something.

use agent_common::head::Client;

use crate::segment::{Acknowledgment, Endpoint, Timestamp};

/// Where that can be asked for, when something is to be decided that no segment brings: a hole has waited long enough, a
/// connection has been silent, changed or has to go.
pub trait Flows {
    /// What is known of the connection between `a` and `b`. `None` says that nothing of it is withheld, or that nobody knows.
    fn flow(&mut self, a: Endpoint, b: Endpoint) -> Option<FlowState>;

    /// Who opened the connection, seen from a segment from `a` to `b`; also of what the filter has refused.
    fn client(&mut self, _a: Endpoint, _b: Endpoint) -> Client {
        Client::Unknown
    }

    /// The connection between `a` and `b` was given up. If it goes on all the same, that is to be copied like a new one.
    fn forget(&mut self, a: Endpoint, b: Endpoint);
}

/// One connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowState {
    /// What the first endpoint asked for has sent, and the other one.
    pub sides: [FlowSide; 2],
    /// It was shed when it began: none of its payload is copied.
    pub shed: bool,
}

/// What one endpoint has sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowSide {
    pub segments: u64,
    /// Octets by sequence numbers.
    pub reach: u64,
    /// Octets that a full ring has cost.
    pub lost: u64,
    pub ack: Option<Acknowledgment>,
    pub last_seen: Timestamp,
    /// Payload was withheld because of the cut-off.
    pub cut: bool,
}

/// For a source that withholds nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoFlows;

impl Flows for NoFlows {
    fn flow(&mut self, _: Endpoint, _: Endpoint) -> Option<FlowState> {
        None
    }

    fn forget(&mut self, _: Endpoint, _: Endpoint) {}
}
