//! Kernel counters, one `u64` each per CPU, by name.

/// Index into the per-CPU counter array. Printing walks [`Counter::ALL`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Counter {
    /// Frames either program looked at.
    Seen,
    /// Frames the filter let through; each is either in a ring or one of the refusals below.
    Matched,
    /// Matched frames the ring had no room for.
    RingFull,
    /// Frames that end before the headers they announce; never matched.
    Malformed,
    /// Matched frames that were cut by the snaplen or by `CAPLEN_MAX`.
    Cut,
    /// Matched frames the kernel would not let us read.
    Unreadable,
}

impl Counter {
    pub const ALL: [Self; 6] =
        [Self::Seen, Self::Matched, Self::RingFull, Self::Malformed, Self::Cut, Self::Unreadable];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Matched => "matched",
            Self::RingFull => "ring_full",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::Unreadable => "unreadable",
        }
    }
}
