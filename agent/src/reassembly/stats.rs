//! What became of every segment and of every payload octet.

/// Counted over all connections. Octets of payload unless said otherwise; each is incremented at its own place, and none
/// is derived from another, so that [`Stats::imbalance`] can say so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Stats {
    /// Segments taken.
    pub segments: u64,
    /// Payload captured.
    pub payload: u64,

    /// Handed to the sink, late ones included that were written into place.
    pub delivered: u64,
    /// Seen before, and equal where both copies were at hand.
    pub duplicate: u64,
    /// Seen before with other values, both copies behind a hole.
    pub conflict: u64,
    /// Before the point where a stream was picked up.
    pub below_start: u64,
    /// For a gap that had been declared, where the output cannot take them.
    pub late: u64,
    /// Keep-alive probes.
    pub probe: u64,
    /// Far from everything known of the stream and never corroborated, or behind its FIN.
    pub implausible: u64,
    /// After the connection was over: lingering endpoints, or behind an accepted RST.
    pub after_close: u64,
    /// In segments with RST set: text for the reader of a trace, not stream data (RFC 9293 section 3.5.3).
    pub rst_payload: u64,
    /// Of connections refused because their SYN was not seen.
    pub no_handshake: u64,
    /// Of segments that the strict checks refused.
    pub strict: u64,
    /// Behind the cut-off of their stream.
    pub cutoff: u64,
    /// Behind a hole, not delivered yet; 0 at the end.
    pub queued: u64,

    /// Stream octets in gaps, as declared.
    pub gaps: u64,
    /// Of those, the ones that came late and were written into place.
    pub gaps_filled: u64,
    /// Stream octets in trailing gaps, which are no part of `gaps`.
    pub gaps_trailing: u64,
    /// Of those, the ones behind a cut-off, and those of connections that were shed.
    pub gaps_cutoff: u64,
    pub gaps_shed: u64,
    /// Octets, retransmitted ones included, that a full ring has cost streams.
    pub ring_full: u64,

    /// Connections, by how they came and went.
    pub opened: u64,
    pub closed: u64,
    /// Segments without payload that belong to no known connection.
    pub orphans: u64,
    /// Segments of connections that were over: last ACKs and late retransmissions.
    pub lingering: u64,
    pub rst_implausible: u64,
    /// Accepted RSTs that the receiver turned out to have ignored.
    pub reopened: u64,
    /// SYNs with another ISN that nothing confirmed.
    pub syn_unconfirmed: u64,
    /// Segments captured twice, within 10 ms and with one IP identification: no retransmissions.
    pub duplicate_frames: u64,
    /// Segments with URG set.
    pub urgent: u64,
    /// Segments that the strict checks refused, by check.
    pub refused_fsm: u64,
    pub refused_options: u64,
    /// Steps of the clock that were too large to be time passing.
    pub clock_steps: u64,

    /// Limits reached: times a stream's queue, the total queue, the connection table, the linger table was full.
    pub limit_stream_queue: u64,
    pub limit_total_queue: u64,
    pub limit_connections: u64,
    pub limit_linger: u64,
    /// Gaps that could not be kept to tell late octets from duplicates.
    pub limit_gaps: u64,
}

impl Stats {
    /// Payload captured that no term accounts for: 0, or there is a bug.
    pub fn imbalance(&self) -> i128 {
        i128::from(self.payload)
            - [
                self.delivered,
                self.duplicate,
                self.conflict,
                self.below_start,
                self.late,
                self.probe,
                self.implausible,
                self.after_close,
                self.rst_payload,
                self.no_handshake,
                self.strict,
                self.cutoff,
                self.queued,
            ]
            .map(i128::from)
            .iter()
            .sum::<i128>()
    }

    /// Adds the figures of another shard.
    pub fn merge(&mut self, other: &Self) {
        // Exhaustive, so that a new field cannot be forgotten.
        let Self {
            segments,
            payload,
            delivered,
            duplicate,
            conflict,
            below_start,
            late,
            probe,
            implausible,
            after_close,
            rst_payload,
            no_handshake,
            strict,
            cutoff,
            queued,
            gaps,
            gaps_filled,
            gaps_trailing,
            gaps_cutoff,
            gaps_shed,
            ring_full,
            opened,
            closed,
            orphans,
            lingering,
            rst_implausible,
            reopened,
            syn_unconfirmed,
            duplicate_frames,
            urgent,
            refused_fsm,
            refused_options,
            clock_steps,
            limit_stream_queue,
            limit_total_queue,
            limit_connections,
            limit_linger,
            limit_gaps,
        } = self;
        *segments += other.segments;
        *payload += other.payload;
        *delivered += other.delivered;
        *duplicate += other.duplicate;
        *conflict += other.conflict;
        *below_start += other.below_start;
        *late += other.late;
        *probe += other.probe;
        *implausible += other.implausible;
        *after_close += other.after_close;
        *rst_payload += other.rst_payload;
        *no_handshake += other.no_handshake;
        *strict += other.strict;
        *cutoff += other.cutoff;
        *queued += other.queued;
        *gaps += other.gaps;
        *gaps_filled += other.gaps_filled;
        *gaps_trailing += other.gaps_trailing;
        *gaps_cutoff += other.gaps_cutoff;
        *gaps_shed += other.gaps_shed;
        *ring_full += other.ring_full;
        *opened += other.opened;
        *closed += other.closed;
        *orphans += other.orphans;
        *lingering += other.lingering;
        *rst_implausible += other.rst_implausible;
        *reopened += other.reopened;
        *syn_unconfirmed += other.syn_unconfirmed;
        *duplicate_frames += other.duplicate_frames;
        *urgent += other.urgent;
        *refused_fsm += other.refused_fsm;
        *refused_options += other.refused_options;
        *clock_steps += other.clock_steps;
        *limit_stream_queue += other.limit_stream_queue;
        *limit_total_queue += other.limit_total_queue;
        *limit_connections += other.limit_connections;
        *limit_linger += other.limit_linger;
        *limit_gaps += other.limit_gaps;
    }
}
