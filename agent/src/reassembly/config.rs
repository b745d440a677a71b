//! Every timeout and every limit of the core, with its default.

use agent_common::shard::ShardKey;

/// Times are nanoseconds of the capture clock, sizes are octets as allocated.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a hole that the peer has acknowledged is held before it is a gap: longer than the usual
    /// retransmission timeout, so that an ACK which overtook its data makes no false gap.
    pub gap_hold: u64,
    /// How long a hole is waited for when the peer says nothing about it.
    pub gap_timeout: u64,
    /// How long a picked-up direction waits for an earlier first segment.
    pub pickup_hold: u64,
    /// How long a connection is kept after an RST in case the receiver ignored it.
    pub rst_hold: u64,
    /// Idle time after which a connection closes: handshake incomplete, one FIN seen, otherwise.
    pub handshake_timeout: u64,
    pub fin_timeout: u64,
    pub idle_timeout: u64,
    /// How long the endpoints of a closed connection absorb what comes late (TIME-WAIT).
    pub linger: u64,
    /// A step of the capture clock beyond this, either way, is a discontinuity and lets nothing expire.
    pub clock_step: u64,
    /// How often a changed connection is reported while it is open.
    pub update_interval: u64,

    pub max_connections: u32,
    pub max_linger: u32,
    /// Out-of-order octets and chunks held for one stream.
    pub max_stream_queue: u32,
    pub max_stream_chunks: u32,
    /// Out-of-order octets held for all streams.
    pub max_total_queue: u64,

    /// Octets of each direction that are delivered; what follows is a trailing gap.
    pub cutoff: Option<u64>,
    /// Refuse connections whose SYN was not seen.
    pub require_handshake: bool,
    /// Refuse segments that do not fit the state of their connection, or their receiver's MSS and window.
    pub strict_fsm: bool,
    pub strict_options: bool,
    /// The same endpoints on another interface, or with another VLAN id, are another connection.
    pub interface_key: bool,
    pub vlan_key: bool,
    pub overlap: Overlap,
    pub late: Late,
    /// Key of the connection table's hash: random in a live capture, fixed in replay and in tests.
    pub hash_key: [u64; 12],
}

/// Which copy of an octet stays when two are queued behind a hole. What has been delivered stays in any case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overlap {
    First,
    Last,
}

/// What becomes of octets that arrive after a gap over them was declared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Late {
    /// The output is addressed by offset: they are written into place and the gap shrinks.
    Fill,
    /// The output is a sequence of octets: they are counted.
    Count,
}

const SECOND: u64 = 1_000_000_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            gap_hold: SECOND,
            gap_timeout: 30 * SECOND,
            pickup_hold: SECOND / 10,
            rst_hold: SECOND,
            handshake_timeout: 60 * SECOND,
            fin_timeout: 300 * SECOND,
            // RFC 5382 section 5: 2 hours 4 minutes at the least.
            idle_timeout: 7_500 * SECOND,
            linger: 60 * SECOND,
            clock_step: 3_600 * SECOND,
            update_interval: 300 * SECOND,
            max_connections: 1 << 20,
            max_linger: 1 << 20,
            max_stream_queue: 4 << 20,
            max_stream_chunks: 4_096,
            max_total_queue: 256 << 20,
            cutoff: None,
            require_handshake: false,
            strict_fsm: false,
            strict_options: false,
            interface_key: false,
            vlan_key: false,
            overlap: Overlap::First,
            late: Late::Fill,
            hash_key: ShardKey::FIXED.0,
        }
    }
}
