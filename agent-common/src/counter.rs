//! Kernel counters, one `u64` each per CPU, by name.

/// Index into the per-CPU counter array. Printing walks [`Counter::ALL`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Counter {
    /// Frames either program looked at.
    Seen,
    /// Frames the filter let through; each is either in a ring or counted by one of those below that refuse or withhold it.
    Matched,
    /// Matched frames the ring had no room for.
    RingFull,
    /// Frames that end before the headers they announce; never matched.
    Malformed,
    /// Matched frames that were cut by the snaplen or by `CAPLEN_MAX`.
    Cut,
    /// Matched frames the kernel would not let us read.
    Unreadable,
    /// Matched frames that only acknowledge, of connections that a ring has heard of: what they say is in later records.
    WithheldAcks,
    /// Matched frames whose payload lies behind the cut-off.
    WithheldCutoff,
    /// Matched frames of connections that were shed.
    ShedFrames,
    /// Connections that were shed because their ring was too full when they began.
    ShedConnections,
    /// Of those, the ones that a ring has heard of. No frame of the others found room in it.
    ShedAnnounced,
    /// Entries made in the flow table. Those that are not in it at the end had to make room for others.
    FlowsCreated,
}

impl Counter {
    pub const ALL: [Self; 12] = [
        Self::Seen,
        Self::Matched,
        Self::RingFull,
        Self::Malformed,
        Self::Cut,
        Self::Unreadable,
        Self::WithheldAcks,
        Self::WithheldCutoff,
        Self::ShedFrames,
        Self::ShedConnections,
        Self::ShedAnnounced,
        Self::FlowsCreated,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Matched => "matched",
            Self::RingFull => "ring_full",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::Unreadable => "unreadable",
            Self::WithheldAcks => "withheld_acks",
            Self::WithheldCutoff => "withheld_cutoff",
            Self::ShedFrames => "shed_frames",
            Self::ShedConnections => "shed_connections",
            Self::ShedAnnounced => "shed_announced",
            Self::FlowsCreated => "flows_created",
        }
    }
}
