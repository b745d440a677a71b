//! What the kernel keeps about a connection of which it does not copy everything.

use bytemuck::{Pod, Zeroable};

use crate::head::{Address, Client, Head, control};

/// A connection's endpoints, the lower one first: the same for both directions.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowKey {
    pub addresses: [Address; 2],
    /// Host byte order.
    pub ports: [u16; 2],
    /// Zero.
    pub reserved: u32,
}

/// The accounts of one connection. What is named with a side is that of the lower endpoint, then that of the higher one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Flow {
    pub sides: [Side; 2],
    /// Boot clock, nanoseconds.
    pub last_seen: u64,
    /// [`state`].
    pub state: u32,
    /// Zero.
    pub reserved: u32,
}

/// What one endpoint has sent. Octets are those of TCP payload.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Side {
    /// Octets and segments, retransmitted ones included.
    pub bytes: u64,
    pub segments: u64,
    /// Sequence number of the stream's first octet and of the one behind its highest, both unwrapped: the lower half is what
    /// a header says. 0 before anything was sent.
    pub start: u64,
    pub end: u64,
    /// When `ack` last moved forward. Boot clock, nanoseconds.
    pub ack_time: u64,
    /// When this side was last heard. Boot clock, nanoseconds.
    pub last_seen: u64,
    /// Octets that a full ring refused.
    pub lost: u64,
    /// The highest acknowledgment number, and the window that came last, as in the header; with [`state::ACKED`].
    pub ack: u32,
    pub window: u16,
    /// Zero.
    pub reserved: u16,
}

/// Bits of [`Flow::state`]; those of a side are shifted by its number.
pub mod state {
    /// Its frames are not copied because the ring was too full when it began.
    pub const SHED: u32 = 1 << 0;
    /// A record of it has reached a ring.
    pub const ANNOUNCED: u32 = 1 << 1;
    /// The filter refused it: kept to remember who the client is.
    pub const REFUSED: u32 = 1 << 2;
    /// This side opened the connection.
    pub const CLIENT: u32 = 1 << 8;
    /// Something of this side was withheld because of the cut-off.
    pub const CUT: u32 = 1 << 10;
    /// This side has acknowledged something.
    pub const ACKED: u32 = 1 << 12;
    /// The FIN of this side was seen.
    pub const FIN: u32 = 1 << 14;
}

impl FlowKey {
    /// The key of a segment's connection, and the side that sent it.
    #[inline(always)]
    pub fn of(head: &Head) -> (Self, usize) {
        let (addresses, ports, side) = if (head.src, head.src_port) <= (head.dst, head.dst_port) {
            ([head.src, head.dst], [head.src_port, head.dst_port], 0)
        } else {
            ([head.dst, head.src], [head.dst_port, head.src_port], 1)
        };
        (Self { addresses, ports, reserved: 0 }, side)
    }
}

impl Flow {
    /// Who opened the connection, seen from a segment that `side` sent.
    #[inline(always)]
    pub fn client(&self, side: usize) -> Client {
        match (self.state & state::CLIENT << side != 0, self.state & state::CLIENT << (side ^ 1) != 0) {
            (true, false) => Client::Source,
            (false, true) => Client::Destination,
            _ => Client::Unknown,
        }
    }
}

impl Side {
    /// Octets from the first to the highest.
    #[inline(always)]
    pub const fn reach(&self) -> u64 {
        self.end.wrapping_sub(self.start)
    }

    /// The unwrapped sequence number nearest to the highest one so far.
    #[inline(always)]
    pub const fn unwrap(&self, seq: u32) -> u64 {
        self.end.wrapping_add(seq.wrapping_sub(self.end as u32) as i32 as i64 as u64)
    }

    /// Takes note of a segment with `len` octets of payload. A jump by more than [`JUMP_MAX`] is nobody's who has a window.
    #[inline(always)]
    pub fn note(&mut self, head: &Head, len: u64, now: u64) {
        let syn = head.control() & control::SYN != 0;
        let first = head.seq().wrapping_add(syn as u32);
        if self.end == 0 || syn && self.end as u32 != first {
            // High enough that nothing before it wraps.
            self.start = 1 << 32 | first as u64;
            self.end = self.start;
        }
        let end = self.unwrap(first) + len;
        if end > self.end && end - self.end <= JUMP_MAX {
            self.end = end;
        }
        self.bytes += len;
        self.segments += 1;
        self.last_seen = now;
    }
}

/// The largest window there is (RFC 7323 section 2.3).
pub const JUMP_MAX: u64 = 1 << 30;

#[cfg(feature = "user")]
// SAFETY: both are `bytemuck::Pod`, which is the stricter of the two.
unsafe impl aya::Pod for FlowKey {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl aya::Pod for Flow {}
