//! SYNs that may begin another connection on the same endpoints.

use super::{Connection, octets};
use crate::{
    reassembly::{event::Direction, stats::Stats},
    segment::{Flags, OwnedSegment, Segment},
};

/// A SYN, or SYN-ACK, that may begin a new connection on the same endpoints.
pub(in crate::reassembly) struct PendingSyn {
    pub(super) direction: Direction,
    pub(super) segment: OwnedSegment,
    /// Of payload that it came with.
    octets: u64,
    /// Its sender has gone on in the old sequence space since.
    pub(super) doubted: bool,
}

impl PendingSyn {
    pub(super) fn new(segment: &Segment<'_>, direction: Direction) -> Self {
        Self { direction, segment: segment.into(), octets: octets(segment), doubted: false }
    }

    pub(in crate::reassembly) fn segment(&self) -> Segment<'_> {
        self.segment.lend()
    }

    /// Whether `other` is the same SYN again, with no more data.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let (known, again) = (self.segment(), other.segment());
        known.seq == again.seq && known.payload.len() >= again.payload.len()
    }

    pub(super) fn count_dropped(self, stats: &mut Stats) {
        stats.syn_unconfirmed += 1;
        stats.after_close += self.segment().payload.len() as u64;
    }

    /// Whether the other half of the handshake fits to it, or its sender goes on behind it and has not gone on in the
    /// old sequence space.
    pub(super) fn is_confirmed_by(&self, segment: &Segment<'_>, direction: Direction) -> bool {
        let (syn, ack) = (segment.flags.contains(Flags::SYN), segment.flags.contains(Flags::ACK));
        let first = self.segment().seq.advance(1);
        // Of data in a SYN (RFC 7413) its peer takes all, some or nothing.
        let taken = u64::try_from(segment.ack.distance_from(first));
        let answers = ack && taken.is_ok_and(|taken| taken <= self.octets);
        if segment.flags.contains(Flags::RST) {
            false
        } else if self.direction == direction {
            !syn && !self.doubted && segment.seq == first && octets(segment) > 0
        } else if self.segment().flags.contains(Flags::ACK) {
            // A SYN-ACK: its SYN, which came late, or the third segment of the handshake.
            (syn && segment.seq.advance(1) == self.segment().ack) || answers
        } else {
            syn && answers
        }
    }
}

impl Connection {
    /// Remembers a SYN in place of its sender's last one. The same SYN again brings nothing new, unless more data.
    pub(super) fn remember(&mut self, syn: PendingSyn, stats: &mut Stats) {
        let pending = &mut self.extra.get_or_insert_default().pending;
        let known = pending.iter_mut().find(|known| known.direction == syn.direction);
        let dropped = match known {
            Some(known) if known.covers(&syn) => syn,
            Some(known) => std::mem::replace(known, syn),
            None => return pending.push(syn),
        };
        dropped.count_dropped(stats);
    }

    /// The remembered SYN of which this segment confirms that it began another connection.
    pub(super) fn confirmed(&mut self, segment: &Segment<'_>, direction: Direction) -> Option<PendingSyn> {
        let pending = &mut self.extra.as_mut()?.pending;
        let at = pending.iter().position(|syn| syn.is_confirmed_by(segment, direction))?;
        Some(pending.remove(at))
    }

    /// The sender of a remembered SYN that goes on in the old sequence space has not begun another connection. An ACK right
    /// behind the SYN ends its handshake, also where the ISN lies close ahead of the old space (RFC 6528 section 3).
    pub(super) fn doubt_pending(&mut self, segment: &Segment<'_>, direction: Direction, window: i64) {
        let Some(extra) = &mut self.extra else { return };
        if let Some(pending) = extra.pending.iter_mut().find(|pending| pending.direction == direction)
            && segment.seq != pending.segment().seq.advance(1)
            && self.streams[direction as usize].believes(segment.seq, window)
        {
            pending.doubted = true;
        }
    }
}
