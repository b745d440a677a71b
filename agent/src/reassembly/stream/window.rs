//! What a sender may have sent, as far as its peer's window tells.

use super::{Known, Piece, Start, Stream, WINDOW_ANY, WINDOW_UNKNOWN};
use crate::segment::{Flags, Segment, SeqNum};

impl Stream {
    /// How far `peer` may be believed to send beyond what is known: the largest window this side has offered it. With a
    /// scale, that of the SYN alone says little: what was offered next may have been overtaken as well.
    pub(in crate::reassembly) fn window_for(&self, peer: &Self) -> i64 {
        match self.shift_for(peer) {
            Some(shift) if shift == 0 || !self.known.has(Known::WINDOW_OF_SYN) => i64::from(self.window_max) << shift,
            _ => WINDOW_UNKNOWN,
        }
    }

    /// Whether a segment that ends at `end` goes beyond the window that `peer` offered last, as far as that is known.
    pub(in crate::reassembly) fn exceeds(&self, end: SeqNum, peer: &Self) -> bool {
        let offered = peer.shift_for(self).map(|shift| i64::from(peer.window) << shift);
        let first = self.peer_ack().and_then(|ack| self.offset_of(ack, WINDOW_ANY));
        let end = self.offset_of(end, WINDOW_ANY);
        first.zip(end).zip(offered).is_some_and(|((first, end), window)| end - first > window.max(1))
    }

    /// Where the SYN of one side has no scale, the other side's does not count (RFC 7323 section 2.2).
    pub(in crate::reassembly) fn agree_on_scales(&mut self, peer: &mut Self) {
        if self.start == Start::Syn && peer.start == Start::Syn && (self.scale.is_none() || peer.scale.is_none()) {
            (self.scale, peer.scale) = (None, None);
        }
    }

    /// The scale of the windows that this side offers, where both SYNs were seen. A shift beyond 14 counts as 14 (RFC 7323
    /// section 2.3).
    fn shift_for(&self, peer: &Self) -> Option<u8> {
        let both = self.start == Start::Syn && peer.start == Start::Syn;
        both.then(|| self.scale.unwrap_or(0).min(14))
    }

    /// Takes note of what a segment of this sender has used and offers, after its contents have been taken. `end` is
    /// behind all that it occupies, `peer_window` what its peer has offered. Unless it is believable, it says nothing.
    pub(in crate::reassembly) fn note_sent(&mut self, segment: &Segment<'_>, end: SeqNum, peer_window: i64) {
        if self.is_located() {
            let Some(offset) = self.offset_of(end, peer_window.saturating_add(1)) else { return };
            if offset <= self.edge().cast_signed() {
                // Nothing is missing before it.
                self.refused = segment.origin.refused as u32;
            }
        }
        self.note_window(segment.window, segment.flags.contains(Flags::SYN));
        if goes_on(self.sent(), end, self.is_located()) {
            self.note_sent_up_to(end);
        }
    }

    /// Takes note of a window that this sender offers, in a SYN or not.
    pub(in crate::reassembly) fn note_window(&mut self, window: u16, syn: bool) {
        self.window = window;
        let of_syn = self.known.has(Known::WINDOW_OF_SYN);
        // Where windows are scaled, that of the SYN is in another unit.
        let scaled = |of_syn: u16| of_syn.div_ceil(1 << self.scale.unwrap_or(0).min(14));
        if !syn {
            let before = if of_syn { scaled(self.window_max) } else { self.window_max };
            self.window_max = before.max(window);
            self.known.set(Known::WINDOW_OF_SYN, false);
        } else if of_syn || self.window_max == 0 {
            self.window_max = self.window_max.max(window);
            self.known.set(Known::WINDOW_OF_SYN, true);
        } else {
            // It was overtaken, as a split handshake or a lost SYN-ACK has it.
            self.window_max = self.window_max.max(scaled(window));
        }
    }

    pub(super) fn note_sent_up_to(&mut self, end: SeqNum) {
        self.sent = end;
        self.known.set(Known::SENT, true);
    }

    pub(super) fn note_peer_ack(&mut self, ack: SeqNum) {
        self.peer_ack = ack;
        self.known.set(Known::PEER_ACK, true);
    }

    /// Whether the peer has acknowledged less, as far as is known, but something.
    pub(in crate::reassembly) fn is_ahead(&self, ack: SeqNum) -> bool {
        self.peer_ack().is_some_and(|known| ack.distance_from(known) > 0)
    }

    /// Whether anything is known that this sender has used.
    pub(in crate::reassembly) fn has_sent(&self) -> bool {
        self.known.has(Known::SENT)
    }

    pub(super) fn sent(&self) -> Option<SeqNum> {
        self.known.has(Known::SENT).then_some(self.sent)
    }

    pub(super) fn peer_ack(&self) -> Option<SeqNum> {
        self.known.has(Known::PEER_ACK).then_some(self.peer_ack)
    }

    /// Whether a segment with this sequence number goes on in the sequence space of this stream.
    pub(in crate::reassembly) fn believes(&self, seq: SeqNum, peer_window: i64) -> bool {
        self.is_located() && self.offset_of(seq, peer_window).is_some()
    }

    /// Whether an ACK number says that the SYN of this sender has arrived, and no more than was sent.
    pub(in crate::reassembly) fn is_answered_by(&self, ack: SeqNum) -> bool {
        let reach = |isn: SeqNum| self.sent().map(|sent| sent.distance_from(isn));
        self.isn().is_some_and(|isn| reach(isn).is_some_and(|reach| (1..=reach).contains(&ack.distance_from(isn))))
    }

    /// Whether this sender has sent nothing but its SYN, or nothing at all.
    pub(in crate::reassembly) fn is_opening(&self) -> bool {
        !self.known.has(Known::SENT) || self.known.has(Known::WINDOW_OF_SYN)
    }

    /// Whether an RST of this sender is believable (RFC 9293 section 3.10.7.4, RFC 5961 section 3.2).
    pub(in crate::reassembly) fn may_reset(&self, seq: SeqNum, peer: &Self) -> bool {
        let fin = self.fin.offset().map(|fin| self.base.advance(fin));
        let in_window = || match (self.peer_ack(), peer.shift_for(self)) {
            (Some(ack), Some(shift)) => {
                (0..i64::from(peer.window) << shift).contains(&i64::from(seq.distance_from(ack)))
            }
            _ => false,
        };
        self.peer_ack() == Some(seq)
            || self.sent() == Some(seq)
            || fin.is_some_and(|fin| fin == seq || fin.advance(1) == seq)
            || in_window()
    }

    /// Whether this is a keep-alive probe: nothing or one octet, one before RCV.NXT (RFC 9293 section 3.8.4). RCV.NXT is
    /// the delivered edge, or what the peer acknowledged, or what this sender has used. Where the octet before it was not
    /// delivered, or nothing at all is known, it may also be data, and PSH tells: stacks set it on the last octet that
    /// they have, and not on a probe.
    pub(super) fn is_probe(&self, piece: &Piece<'_>) -> bool {
        if piece.len() > 1 || piece.fin {
            return false;
        }
        let edge = piece.seq.advance(1);
        let in_gap =
            || self.extra.as_ref().is_some_and(|extra| extra.gaps.first_within(self.next - 1, self.next).is_some());
        let delivered = self.is_located() && self.next > 0 && self.base.advance(self.next) == edge && !in_gap();
        let nothing_known = self.start == Start::Unknown && self.sent().is_none() && self.peer_ack().is_none();
        delivered || (!piece.push && (self.peer_ack() == Some(edge) || self.sent() == Some(edge) || nothing_known))
    }
}

/// Whether `new` comes after `known`, and near enough where nothing else tells.
pub(super) fn goes_on(known: Option<SeqNum>, new: SeqNum, located: bool) -> bool {
    known.is_none_or(|known| {
        let ahead = i64::from(new.distance_from(known));
        ahead > 0 && (located || ahead < WINDOW_UNKNOWN)
    })
}
