//! What the kernel keeps about a connection of which it does not copy everything. Processors that see both directions at
//! once write to different halves of it. What they share is [`Flow::state`], where a bit that one overwrites is set again by
//! the next frame that has reason to; who is the client is written before anyone can answer.

use bytemuck::{Pod, Zeroable};

use crate::{
    counter::Counter,
    head::{Address, Client, Head, control},
};

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

/// What one endpoint has sent. Octets are those of TCP payload; times are exact for what was copied, and early by a tick of the
/// kernel's timer at most for what was withheld.
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
    /// Octets of payload that a full ring refused.
    pub lost: u64,
    /// The highest acknowledgment number, and the window that came last, as in the header; with [`state::ACKED`].
    pub ack: u32,
    pub window: u16,
    /// Zero.
    pub reserved: u16,
}

/// What is not copied.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// Segments that only acknowledge.
    pub acks: bool,
    /// Octets of each direction behind so many; `u64::MAX` means none.
    pub cutoff: u64,
    /// Connections that begin while the ring is too full.
    pub shed: bool,
}

/// How much of a segment is copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    Whole,
    /// As far as the payload.
    Headers,
    /// The counter says why.
    Nothing(Counter),
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
    /// The key of a segment's connection, and the side that sent it: 0 or 1.
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
    /// Before anything was seen.
    pub const NONE: Self = {
        let side = Side {
            bytes: 0,
            segments: 0,
            start: 0,
            end: 0,
            ack_time: 0,
            last_seen: 0,
            lost: 0,
            ack: 0,
            window: 0,
            reserved: 0,
        };
        Self { sides: [side; 2], last_seen: 0, state: 0, reserved: 0 }
    };

    /// Who opened the connection, seen from a segment that `side` sent.
    #[inline(always)]
    pub fn client(&self, side: usize) -> Client {
        match (self.state & state::CLIENT << side != 0, self.state & state::CLIENT << (side ^ 1) != 0) {
            (true, false) => Client::Source,
            (false, true) => Client::Destination,
            _ => Client::Unknown,
        }
    }

    /// Takes note of who opened the connection, if this segment of `side` tells. A SYN with another sequence number than the
    /// last one's begins another connection between the same endpoints. The bare ACK of a split handshake comes before its
    /// SYN, and has the same number.
    #[inline(always)]
    pub fn open(&mut self, head: &Head, side: usize) {
        let client = match head.client() {
            Client::Source => side,
            Client::Destination => side ^ 1,
            Client::Unknown => return,
        };
        let own = &mut self.sides[side & 1];
        if own.end != 0 && own.start == own.end && own.start as u32 == head.seq() {
            own.start += 1;
            own.end += 1;
        } else if own.end != 0 && own.start as u32 != head.seq().wrapping_add(1) {
            *self = Self::NONE;
        }
        self.state = self.state & !(state::CLIENT | state::CLIENT << 1) | state::CLIENT << client;
    }

    /// Whether a segment may begin a connection, before it is [opened](Self::open): a SYN where nothing is known, or where both
    /// sides have closed. Any other may be forged, and says nothing of the connection that there is.
    #[inline(always)]
    pub fn begins(&self, head: &Head) -> bool {
        const CLOSED: u32 = state::FIN | state::FIN << 1;
        head.client() == Client::Source && (self.is_new() || self.state & CLOSED == CLOSED)
    }

    /// Whether nothing of the connection was accounted for yet.
    #[inline(always)]
    pub const fn is_new(&self) -> bool {
        self.sides[0].segments | self.sides[1].segments == 0
    }

    /// Whether a segment of `side`, not yet [noted](Self::note), speaks of nothing but what was seen: what it acknowledges is
    /// known, and without payload it begins where its sender has come to at most. Only then the accounts say all that it
    /// does; a hole or a forgery is for reassembly to judge.
    #[inline(always)]
    pub fn is_ordinary(&self, head: &Head, side: usize, len: u64) -> bool {
        let fin = self.state >> side & state::FIN != 0;
        (len > 0 || self.sides[side & 1].has_reached(head.seq(), fin)) && self.knows_ack(head, side)
    }

    /// Whether what a segment of `side` acknowledges has passed here, or nothing does that could.
    #[inline(always)]
    fn knows_ack(&self, head: &Head, side: usize) -> bool {
        let peer = &self.sides[side & 1 ^ 1];
        peer.end == 0 || peer.has_reached(head.ack(), self.state >> (side ^ 1) & state::FIN != 0)
    }

    /// Accounts for a segment of `side` with `len` octets of payload, except for the counts of octets and segments, and for
    /// the time, which [`hear`](Self::hear) is for. The result is how far behind the stream's first octet it begins, or
    /// before it, and whether it acknowledges more than was acknowledged before.
    #[inline(always)]
    pub fn note(&mut self, head: &Head, side: usize, len: u64) -> (i64, bool) {
        // Forged ones, and those of what went past us, do not stand in the way of those that follow.
        let believable = self.knows_ack(head, side);
        let (own, control) = (&mut self.sides[side & 1], head.control());
        let begin = own.note(head, len, self.state >> side & state::FIN != 0);
        let mut bits = self.state & !state::REFUSED;
        let mut advances = false;
        if control & control::ACK != 0 && believable {
            advances = own.acknowledge(head, bits & state::ACKED << side == 0);
            bits |= state::ACKED << side;
        }
        if control & control::FIN != 0 {
            bits |= state::FIN << side;
        }
        if bits != self.state {
            self.state = bits;
        }
        (begin, advances)
    }

    /// When the segment came that was accounted for, and what [`note`](Self::note) said of its acknowledgment.
    #[inline(always)]
    pub fn hear(&mut self, side: usize, advances: bool, now: u64) {
        let own = &mut self.sides[side & 1];
        own.last_seen = now;
        if advances {
            own.ack_time = now;
        }
        self.last_seen = now;
    }

    /// Decides what is copied of a segment that was [noted](Self::note), with as many octets of payload and at the position
    /// that this found. What opens, ends or tears a connection always comes through, as far as its headers at least; so
    /// does everything of a connection that no ring has heard of, and what is not [ordinary](Self::is_ordinary).
    #[inline(always)]
    pub fn extent(&mut self, head: &Head, side: usize, len: u64, begin: i64, ordinary: bool, orders: Orders) -> Extent {
        let control = head.control();
        let passes = control & (control::SYN | control::FIN | control::RST) != 0;
        let announced = self.state & state::ANNOUNCED != 0;
        if orders.shed && self.state & state::SHED != 0 {
            return if announced && !passes { Extent::Nothing(Counter::ShedFrames) } else { Extent::Headers };
        }
        if len == 0 {
            let only_acknowledges = orders.acks && ordinary && announced && !passes && control & control::URG == 0;
            return if only_acknowledges { Extent::Nothing(Counter::WithheldAcks) } else { Extent::Whole };
        }
        if orders.cutoff != u64::MAX && begin >= 0 && begin as u64 >= orders.cutoff {
            self.set(state::CUT << side);
            let withheld = announced && !passes && ordinary;
            return if withheld { Extent::Nothing(Counter::WithheldCutoff) } else { Extent::Headers };
        }
        Extent::Whole
    }

    /// Sets what is not set in [`state`](Self::state). Processors share it, and most frames find it as it should be.
    #[inline(always)]
    pub fn set(&mut self, bits: u32) {
        if self.state & bits != bits {
            self.state |= bits;
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

    /// Whether `seq` is not beyond what was sent, the FIN included. What comes first is beyond all.
    #[inline(always)]
    const fn has_reached(&self, seq: u32, fin: bool) -> bool {
        self.end != 0 && (self.end as u32).wrapping_add(fin as u32).wrapping_sub(seq).cast_signed() >= 0
    }

    /// A jump by more than [`JUMP_MAX`] is nobody's who has a window. Behind its `fin` a side sends nothing, but the octet of a
    /// keep-alive may have the FIN's number (RFC 9293 section 3.8.4); PSH tells it from one that comes late.
    #[inline(always)]
    fn note(&mut self, head: &Head, len: u64, fin: bool) -> i64 {
        let (syn, rst) = (head.control() & control::SYN != 0, head.control() & control::RST != 0);
        let first = head.seq().wrapping_add(syn as u32);
        if self.end == 0 && !rst {
            // High enough that nothing before it wraps.
            self.start = 1 << 32 | first as u64;
            self.end = self.start;
        }
        let begin = self.unwrap(first);
        let end = begin.wrapping_add(len);
        // A forged RST may lie anywhere in the window, and only says where it wants to be believed. What has no octets may
        // stand behind a FIN.
        let probes = fin && len == 1 && begin == self.end && head.control() & control::PSH == 0;
        if !rst && !probes && len > 0 && end > self.end && end - self.end <= JUMP_MAX {
            self.end = end;
        }
        begin.wrapping_sub(self.start).cast_signed()
    }

    #[inline(always)]
    fn acknowledge(&mut self, head: &Head, first: bool) -> bool {
        let ack = head.ack();
        let advances = first || ack.wrapping_sub(self.ack).cast_signed() > 0;
        if advances {
            self.ack = ack;
        }
        self.window = head.window();
        advances
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::TCP_WORD;

    fn segment(control: u8, seq: u32, ack: u32) -> Head {
        let mut head = Head::default();
        head.headers[TCP_WORD + 1] = seq.to_be();
        head.headers[TCP_WORD + 2] = ack.to_be();
        head.headers[TCP_WORD + 3] = (u32::from(control) << 16 | 77).to_be();
        head
    }

    #[test]
    fn a_position_is_found_from_either_side_of_a_wrap() {
        let mut flow = Flow::NONE;
        assert_eq!(flow.note(&segment(control::ACK, u32::MAX - 9, 1), 0, 20).0, 0);
        assert_eq!(flow.note(&segment(control::ACK, 10, 1), 0, 5).0, 20);
        assert_eq!(flow.note(&segment(control::ACK, u32::MAX - 4, 1), 0, 5).0, 5);
        assert_eq!(flow.note(&segment(control::ACK, u32::MAX - 19, 1), 0, 10).0, -10, "before the first that was seen");
        assert_eq!((flow.sides[0].reach(), flow.sides[1].reach()), (25, 0));
        assert_eq!(flow.note(&segment(control::ACK, 10 + (1 << 30), 1), 0, 100).0, 20 + (1 << 30));
        assert_eq!(flow.sides[0].reach(), 25, "nobody has such a window");
    }

    #[test]
    fn an_acknowledgment_moves_forward_only_also_through_a_wrap() {
        let mut flow = Flow::NONE;
        for (ack, now, expected) in [
            (u32::MAX - 5, 1, (u32::MAX - 5, 1)),
            (u32::MAX - 9, 2, (u32::MAX - 5, 1)),
            (3, 3, (3, 3)),
            (u32::MAX, 4, (3, 3)),
            (3, 5, (3, 3)),
        ] {
            let (_, advances) = flow.note(&segment(control::ACK, 1, ack), 1, 0);
            flow.hear(1, advances, now);
            assert_eq!((flow.sides[1].ack, flow.sides[1].ack_time), expected);
        }
        // Without the bit there is no acknowledgment, whatever the field says.
        assert_eq!(flow.note(&segment(control::RST, 1, 9), 1, 0), (0, false));
        assert_eq!((flow.sides[1].ack, flow.sides[1].window), (3, 77));
        assert_eq!(flow.state, state::ACKED << 1);
    }

    #[test]
    fn a_syn_begins_a_connection_where_none_is_open() {
        let mut flow = Flow::NONE;
        assert!(flow.begins(&segment(control::SYN, 1, 0)));
        assert!(!flow.begins(&segment(control::SYN | control::ACK, 1, 0)));
        flow.note(&segment(control::SYN, 1, 0), 0, 0);
        flow.sides[0].segments = 1;
        assert!(!flow.begins(&segment(control::SYN, 9_999, 0)));
        flow.note(&segment(control::FIN, 2, 0), 0, 0);
        assert!(!flow.begins(&segment(control::SYN, 9_999, 0)));
        flow.note(&segment(control::FIN, 2, 0), 1, 0);
        assert!(flow.begins(&segment(control::SYN, 9_999, 0)));
    }

    #[test]
    fn the_bare_ack_of_a_split_handshake_is_of_the_connection_whose_syn_comes_next() {
        let mut flow = Flow::NONE;
        for (control, seq, side) in [(control::SYN, 900, 0), (control::ACK, 7, 1), (control::SYN, 7, 1)] {
            let head = segment(control, seq, 901);
            flow.open(&head, side);
            flow.note(&head, side, 0);
            flow.set(state::SHED);
        }
        assert_eq!((flow.sides[0].start as u32, flow.sides[1].start as u32, flow.sides[1].reach()), (901, 8, 0));
        let head = segment(control::SYN, 70, 0);
        flow.open(&head, 1);
        assert_eq!((flow.sides[0].end, flow.state & state::SHED), (0, 0), "another connection");
    }

    #[test]
    fn what_has_no_octets_goes_no_further() {
        let mut flow = Flow::NONE;
        // The RST of a connection before it does not say where it begins.
        flow.note(&segment(control::RST, 7_000_000, 0), 0, 0);
        flow.note(&segment(control::ACK, 10, 1), 0, 5);
        flow.note(&segment(control::FIN, 15, 1), 0, 0);
        assert_eq!(flow.note(&segment(control::ACK, 16, 1), 0, 0).0, 6);
        assert_eq!(flow.sides[0].reach(), 5, "the FIN is no octet");
    }

    #[test]
    fn a_keep_alive_at_the_number_of_a_fin_is_no_octet() {
        let mut flow = Flow::NONE;
        flow.note(&segment(control::ACK, 10, 1), 0, 5);
        flow.note(&segment(control::ACK, 15, 1), 0, 1);
        assert_eq!(flow.sides[0].reach(), 6, "before the FIN it is one");
        flow.note(&segment(control::ACK | control::FIN, 17, 1), 0, 0);
        assert_eq!(flow.note(&segment(control::ACK | control::PSH, 16, 1), 0, 1).0, 6);
        assert_eq!(flow.sides[0].reach(), 7, "late");
        assert_eq!(flow.note(&segment(control::ACK, 17, 1), 0, 1).0, 7);
        assert_eq!(flow.sides[0].reach(), 7);
    }

    #[test]
    fn what_speaks_of_something_unseen_is_told_apart() {
        let mut flow = Flow::NONE;
        let ack = |seq, ack| segment(control::ACK, seq, ack);
        flow.note(&ack(100, 1), 0, 50);
        flow.sides[0].segments = 1;
        assert!(flow.is_ordinary(&ack(150, 7_777), 0, 0), "nobody has seen the peer");
        assert!(!flow.is_ordinary(&ack(151, 7_777), 0, 0), "a hole before it");
        for first in [9_000, 0, 1 << 31, u32::MAX] {
            assert!(!flow.is_ordinary(&ack(first, 150), 1, 0), "its first");
        }
        flow.note(&ack(9_000, 100), 1, 0);
        flow.sides[1].segments = 1;
        assert!(flow.is_ordinary(&ack(9_000, 150), 1, 0) && !flow.is_ordinary(&ack(9_000, 151), 1, 0));
        flow.note(&segment(control::ACK | control::FIN, 150, 1), 0, 0);
        assert!(
            flow.is_ordinary(&ack(9_000, 151), 1, 0) && !flow.is_ordinary(&ack(9_000, 152), 1, 0),
            "the FIN counts"
        );
        // A forged one does not stand in the way.
        flow.note(&ack(9_000, 5_000), 1, 0);
        assert_eq!(flow.sides[1].ack, 100);
        flow.note(&ack(9_000, 151), 1, 0);
        assert_eq!(flow.sides[1].ack, 151);
        // Where nothing is sent, nothing comes further.
        flow.note(&ack(400, 1), 0, 0);
        assert_eq!(flow.sides[0].reach(), 50);
    }

    #[test]
    fn both_directions_have_one_key() {
        let there = Head { src: [1, 2], dst: [1, 2], src_port: 9, dst_port: 8, ..Head::default() };
        let back = Head { src_port: 8, dst_port: 9, ..there };
        let ((key, side), (same, other)) = (FlowKey::of(&there), FlowKey::of(&back));
        assert_eq!((key, side, other), (same, 1, 0));
    }
}
