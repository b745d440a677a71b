//! TCP stream reassembly. No clock, no sockets, no files: time and segments come in as arguments, events go out through
//! a [`Sink`].

mod config;
mod event;

pub use config::{Config, Late};
pub use event::{
    ConnectionId, Direction, Ended, Event, GAPS_LISTED, Gap, GapCause, Sink, Started, StreamSummary, Summary,
};

use crate::segment::{Segment, Timestamp};

/// The connection table, its timers and its limits.
pub struct Reassembler {
    config: Config,
}

impl Reassembler {
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes one segment. `segment.timestamp` is also the time: an earlier one than before counts as the same.
    pub fn handle_segment(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        let _ = (segment, sink, &self.config);
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Does what time alone demands: gaps, closes, updates.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut impl Sink) {
        let _ = (now, sink);
    }

    /// Delivers what is queued and closes every connection, in the order they were opened.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        let _ = sink;
    }

    pub fn stats(&self) -> &Stats {
        const { &Stats::ZERO }
    }
}

/// What became of every segment and of every payload octet. `payload = delivered + duplicate + conflict + below_start +
/// late + implausible + limit + after_close + rst_payload`, each term counted at its own place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    pub segments: u64,
    /// Payload octets captured.
    pub payload: u64,
    pub delivered: u64,
}

impl Stats {
    pub const ZERO: Self = Self { segments: 0, payload: 0, delivered: 0 };
}
