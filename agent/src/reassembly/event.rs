//! What the reassembler says, and to whom.

use crate::segment::{Endpoint, Origin, Timestamp};

/// Where reassembled streams go: the core's only output port. Errors are the sink's to count, since reassembly cannot
/// fail.
pub trait Sink {
    /// `event` is lent for the call alone. For one connection: [`Event::Open`] once, then any number of the others,
    /// [`Event::Close`] once and last. `Data` and `Gap` of one direction come in order of offset and without overlap or
    /// distance: each begins where the one before it ended.
    fn event(&mut self, connection: ConnectionId, event: Event<'_>);
}

/// Names a connection for as long as it is open.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionId {
    /// Place in the connection table: small, dense, used again after [`Event::Close`]. Sinks index by it.
    pub slot: u32,
    /// Counts the connections of one reassembler; never used again.
    pub serial: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Open(&'a Summary<'a>),
    /// Stream octets, in order, each delivered once.
    Data {
        direction: Direction,
        offset: u64,
        bytes: &'a [u8],
    },
    /// Stream octets that will not be delivered in order.
    Gap {
        direction: Direction,
        gap: Gap,
    },
    /// Stream octets that arrived after a gap over them had been declared. They lie wholly inside that gap, which
    /// shrinks accordingly. Only with [`Late::Fill`](super::Late::Fill).
    Late {
        direction: Direction,
        offset: u64,
        bytes: &'a [u8],
    },
    /// The connection changed since the last `Open` or `Update`, and [`Config::update_interval`](super::Config::update_interval)
    /// has passed.
    Update(&'a Summary<'a>),
    Close(&'a Summary<'a>),
}

/// Sender of the SYN to its peer, or back. Without a SYN the sender of the first segment seen is the client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    ClientToServer = 0,
    ServerToClient = 1,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::ClientToServer, Self::ServerToClient];

    pub const fn reverse(self) -> Self {
        match self {
            Self::ClientToServer => Self::ServerToClient,
            Self::ServerToClient => Self::ClientToServer,
        }
    }
}

/// All that is known of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    pub client: Endpoint,
    pub server: Endpoint,
    /// First and last segment.
    pub start: Timestamp,
    pub end: Timestamp,
    pub started: Started,
    /// `None` until [`Event::Close`].
    pub ended: Option<Ended>,
    pub origin: Origin,
    /// Serial of the connection on the same endpoints that was closed by `idle` or `evicted` and that this one was
    /// picked up from.
    pub continues: Option<u64>,
    /// By [`Direction`].
    pub streams: [StreamSummary<'a>; 2],
}

/// All that is known of one direction. Octets unless said otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamSummary<'a> {
    /// Length of the stream so far: delivered and gaps.
    pub len: u64,
    /// Delivered, late ones that were written into place included.
    pub delivered: u64,
    /// Segments, empty ones included, and those that the kernel counted and did not copy.
    pub segments: u64,
    /// Segments with payload of which every octet had been seen before.
    pub retransmitted: u64,
    /// Segments that arrived behind a hole.
    pub out_of_order: u64,
    /// Octets of which two copies with different values waited behind a hole;
    /// [`Config::overlap`](super::Config::overlap) says which was kept.
    pub conflict: u64,
    /// Octets that arrived after a gap over them had been declared and could not be written into place.
    pub late: u64,
    /// Segments with URG set. Urgent octets stay in line (RFC 6093 section 3.1).
    pub urgent: u64,
    /// Octets, retransmitted ones included, in segments for which the kernel's ring had no room.
    pub ring_full: u64,
    /// In order of offset, not touching within one cause; the first [`GAPS_LISTED`] of them.
    pub gaps: &'a [Gap],
    /// What is missing behind the last octet captured: the peer acknowledged it, a FIN stands behind it, the snaplen
    /// cut it off, or it was sent behind the cut-off. Known at [`Event::Close`]; no part of `len`, `gaps` and
    /// `gap_totals`, for nothing stands behind it.
    pub trailing_gap: Option<Gap>,
    /// Octets by cause, of all gaps but the trailing one; index with `cause as usize`.
    pub gap_totals: [u64; GapCause::ALL.len()],
}

/// Gaps that a summary lists one by one.
pub const GAPS_LISTED: usize = 512;
/// Gaps that it lists, and that octets may be late for, even when the queues of all streams were full meanwhile.
pub const GAPS_KEPT: usize = 64;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    pub offset: u64,
    pub len: u64,
    pub cause: GapCause,
    /// Octets of it that arrived after all and could not be written into place, each copy counted.
    pub late: u64,
}

impl Gap {
    pub const fn new(offset: u64, len: u64, cause: GapCause) -> Self {
        Self { offset, len, cause, late: 0 }
    }
}

/// Why stream octets are missing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum GapCause {
    /// The peer acknowledged them, or the stream went on far behind them: they were sent, and we did not see them.
    NotCaptured,
    /// In place of the others: the ring refused frames between the stream's last segment before the hole and the first
    /// behind it, so this is most likely our own loss.
    RingFull,
    /// Nobody filled the hole for the gap timeout, and the peer acknowledged nothing meanwhile.
    Timeout,
    /// A queue limit was reached while the hole was waited for.
    Limit,
    /// The connection ended, or was reset, while the hole was waited for.
    Close,
    /// A segment was sent in IP fragments, of which the first was captured and others were not.
    Fragment,
    /// Cut off by the capture length.
    Snaplen,
    /// Behind the octets of each direction that were asked for.
    Cutoff,
    /// The kernel copied nothing of the connection, because its ring was too full when that began.
    Shed,
    /// The writer was behind, and its buffers were full.
    DiskSlow,
    /// No space left on the device.
    DiskFull,
    /// Any other failure to write.
    WriteError,
}

impl GapCause {
    pub const ALL: [Self; 12] = [
        Self::NotCaptured,
        Self::RingFull,
        Self::Timeout,
        Self::Limit,
        Self::Close,
        Self::Fragment,
        Self::Snaplen,
        Self::Cutoff,
        Self::Shed,
        Self::DiskSlow,
        Self::DiskFull,
        Self::WriteError,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NotCaptured => "not-captured",
            Self::RingFull => "ring-full",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Close => "close",
            Self::Fragment => "fragment",
            Self::Snaplen => "snaplen",
            Self::Cutoff => "cutoff",
            Self::Shed => "shed",
            Self::DiskSlow => "disk-slow",
            Self::DiskFull => "disk-full",
            Self::WriteError => "write-error",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Started {
    /// A SYN was seen.
    Handshake,
    /// The connection was under way.
    Midstream,
}

impl Started {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Midstream => "midstream",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ended {
    /// Both directions delivered up to their FIN.
    Fin,
    Rst,
    /// Nothing seen for the timeout of its state.
    Idle,
    /// A new connection took its endpoints.
    Reused,
    /// The connection table was full.
    Evicted,
    /// The capture ended first.
    Finish,
}

impl Ended {
    pub const ALL: [Self; 6] = [Self::Fin, Self::Rst, Self::Idle, Self::Reused, Self::Evicted, Self::Finish];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Idle => "idle",
            Self::Reused => "reused",
            Self::Evicted => "evicted",
            Self::Finish => "finish",
        }
    }
}
