//! Where a stream begins: behind its SYN, at its peer's SYN-ACK, or where it was picked up.

use super::{Context, Extra, Fin, Start, Stream, WINDOW_UNKNOWN};
use crate::{reassembly::event::Sink, segment::SeqNum};

/// Room for earlier segments in front of the first one of a picked-up stream.
pub(super) const PICKUP_ROOM: u64 = 1 << 30;

impl Stream {
    /// Sequence number of the SYN, where one was seen.
    pub(in crate::reassembly) fn isn(&self) -> Option<SeqNum> {
        (self.start == Start::Syn).then(|| before(self.base))
    }

    /// The same where only the peer's SYN-ACK was seen. Of a stream that was picked up it is some number before it.
    pub(in crate::reassembly) fn presumed_isn(&self) -> Option<SeqNum> {
        self.is_located().then(|| before(self.base))
    }

    /// Whether offset 0 is known for good.
    pub(in crate::reassembly) fn is_located(&self) -> bool {
        matches!(self.start, Start::Midstream | Start::Syn)
    }

    /// Whether a SYN with this ISN and so many octets of data can be the beginning of this stream. `shaking_hands` says
    /// that the peer's SYN was seen.
    pub(in crate::reassembly) fn agrees_with(&self, isn: SeqNum, octets: u64, shaking_hands: bool) -> bool {
        let first = isn.advance(1);
        match self.start {
            // The bare ACK of a split handshake comes before its SYN, and has the same number.
            Start::Unknown => shaking_hands || self.sent() == Some(isn) || self.may_begin_at(first),
            Start::Pickup => self.may_begin_at(first),
            // The peer's SYN-ACK came first, and acknowledged data of the SYN.
            Start::Midstream if self.next == 0 => {
                u64::try_from(self.base.distance_from(first)).is_ok_and(|ahead| ahead <= octets)
            }
            Start::Midstream | Start::Syn => self.base == first,
        }
    }

    /// Whether the first octet ever sent may have this number: what was picked up lies behind it, and near enough.
    pub(in crate::reassembly) fn may_begin_at(&self, first: SeqNum) -> bool {
        let leads_to = |seq: SeqNum| (0..WINDOW_UNKNOWN).contains(&i64::from(seq.distance_from(first)));
        match self.start {
            Start::Unknown => self.sent().or_else(|| self.peer_ack()).is_none_or(leads_to),
            Start::Pickup => leads_to(self.base.advance(self.lowest())),
            Start::Midstream => leads_to(self.base),
            Start::Syn => self.base == first,
        }
    }

    /// Takes a SYN that [agrees](Self::agrees_with).
    pub(in crate::reassembly) fn handle_syn<S: Sink>(
        &mut self,
        isn: SeqNum,
        scale: Option<u8>,
        cx: &mut Context<'_, S>,
    ) {
        self.begin_at(isn.advance(1), Start::Syn, cx);
        self.scale = scale;
    }

    /// The peer's SYN-ACK says where this stream begins.
    pub(in crate::reassembly) fn handle_syn_ack<S: Sink>(&mut self, first: SeqNum, cx: &mut Context<'_, S>) {
        if !self.is_located() && self.agrees_with(before(first), 0, true) {
            self.begin_at(first, Start::Midstream, cx);
        }
    }

    /// Fixes offset 0 at `first`.
    pub(super) fn begin_at<S: Sink>(&mut self, first: SeqNum, start: Start, cx: &mut Context<'_, S>) {
        if self.start != Start::Unknown {
            let shift = i64::from(first.distance_from(self.base));
            let moved = |offset: u64| offset.saturating_add_signed(-shift);
            if let Some(fin) = self.fin.offset() {
                self.fin = Fin::at(moved(fin));
            }
            if self.acked > 0 {
                self.acked = moved(self.acked);
            }
            if let Some(extra) = &mut self.extra {
                extra.rebase(-shift);
            }
        }
        (self.start, self.base) = (start, first);
        if self.acked == 0
            && let Some(ack) = self.peer_ack()
            && let Some(offset) = self.offset_of(ack, WINDOW_UNKNOWN)
        {
            // The kernel may have told of one that is still to come.
            let at = self.extra.as_ref().map_or(cx.now, |extra| extra.last_ack.max(cx.now));
            self.set_acked(u64::try_from(offset).unwrap_or(0), at, cx.config);
        }
        self.drop_behind_wall(cx);
        self.drain(cx);
    }

    pub(super) fn end_pickup<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        let lowest = self.lowest();
        self.begin_at(self.base.advance(lowest), Start::Midstream, cx);
    }

    /// First position known while a stream is being picked up.
    pub(super) fn lowest(&self) -> u64 {
        let queued = self.extra.as_ref().and_then(|extra| extra.assembler.first());
        queued.into_iter().chain(self.fin.offset()).min().unwrap_or(PICKUP_ROOM)
    }
}

impl Extra {
    /// Moves every position that is known, because offset 0 turns out to be elsewhere.
    fn rebase(&mut self, distance: i64) {
        self.assembler.rebase(distance);
        let edges = [&mut self.matured, &mut self.cut_until, &mut self.held.end, &mut self.beyond, &mut self.reach]
            .into_iter()
            .filter(|edge| **edge > 0);
        let acks = self.acks.iter_mut().map(|(upto, _)| upto);
        let positions = edges.chain(acks).chain(&mut self.fragmented).chain(&mut self.told);
        positions.for_each(|position| *position = position.saturating_add_signed(distance));
    }
}

/// The sequence number before `seq`.
fn before(seq: SeqNum) -> SeqNum {
    SeqNum(seq.0.wrapping_sub(1))
}
