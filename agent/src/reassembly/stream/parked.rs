//! Segments far from everything known, until something corroborates them.

use super::{Context, Piece, Start, Stream, WINDOW_ANY};
use crate::{
    reassembly::event::{GapCause, Sink},
    segment::{SeqNum, Timestamp},
};

pub(super) struct Parked {
    pub(super) seq: SeqNum,
    pub(super) octets: Box<[u8]>,
    cut: u32,
    fin: bool,
    pub(super) seen: Timestamp,
}

const PARKED_MAX: usize = 2;

impl Parked {
    pub(super) fn new(piece: &Piece<'_>, seen: Timestamp) -> Self {
        Self { seq: piece.seq, octets: piece.octets.into(), cut: piece.cut, fin: piece.fin, seen }
    }

    pub(super) fn end(&self) -> SeqNum {
        self.seq.advance(self.octets.len() as u64 + u64::from(self.cut))
    }

    /// The same with the FIN, which occupies a sequence number.
    pub(super) fn end_with_fin(&self) -> SeqNum {
        self.end().advance(u64::from(self.fin))
    }

    /// Whether an ACK of the peer says that it has all before this, and perhaps more, but no more than a `window` behind it.
    fn agrees_with(&self, ack: SeqNum, window: i64) -> bool {
        ack.distance_from(self.seq) >= 0 && i64::from(ack.distance_from(self.end())) < window.max(2)
    }

    /// Memory as allocated, as a queued chunk of its size costs.
    pub(super) fn charged(&self) -> usize {
        self.octets.len().max(128)
    }

    pub(super) fn piece(&self, refused: u32) -> Piece<'_> {
        Piece {
            seq: self.seq,
            octets: &self.octets,
            cut: self.cut,
            fin: self.fin,
            push: true,
            twin: false,
            refused: u64::from(refused),
            window: WINDOW_ANY,
        }
    }
}

impl Stream {
    /// Remembers a piece that lies far from everything known, unless the peer has acknowledged it before.
    pub(super) fn park<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        if piece.len() == 0 && !piece.fin {
            return;
        }
        let parked = Parked::new(piece, cx.now);
        let extra = self.extra.get_or_insert_default();
        if extra.far_ack.take_if(|ack| parked.agrees_with(*ack, piece.window)).is_some() {
            return self.believe(&parked, cx);
        }
        // Of two copies the first stays, as everywhere.
        if extra.parked.iter().any(|other| (other.seq, other.end_with_fin()) == (parked.seq, parked.end_with_fin())) {
            cx.stats.implausible += parked.octets.len() as u64;
            return;
        }
        extra.parked.push_back(parked);
        if extra.parked.len() > PARKED_MAX {
            self.drop_parked(cx);
        }
    }

    /// Drops the segment that has been parked longest, if there is one.
    pub(super) fn drop_parked<S>(&mut self, cx: &mut Context<'_, S>) -> bool {
        let oldest = self.extra.as_mut().and_then(|extra| extra.parked.pop_front());
        cx.stats.implausible += oldest.as_ref().map_or(0, |parked| parked.octets.len() as u64);
        oldest.is_some()
    }

    /// Takes what is parked and no longer far from everything known.
    pub(super) fn unpark<S: Sink>(&mut self, window: i64, cx: &mut Context<'_, S>) {
        while let Some(extra) = &self.extra
            && let Some((at, offset)) = (extra.parked.iter().enumerate())
                .find_map(|(at, parked)| Some((at, self.offset_of(parked.seq, window)?)))
            && let Some(parked) = self.extra.as_mut().and_then(|extra| extra.parked.remove(at))
        {
            self.place(offset, &parked.piece(self.refused), cx);
        }
    }

    /// Notes an ACK of the peer, and believes the parked segment that it acknowledges.
    pub(super) fn corroborate<S: Sink>(&mut self, ack: SeqNum, window: i64, cx: &mut Context<'_, S>) {
        let Some(extra) = &mut self.extra else { return };
        if let Some(at) = extra.parked.iter().position(|parked| parked.agrees_with(ack, window))
            && let Some(parked) = extra.parked.remove(at)
        {
            self.believe(&parked, cx);
        }
    }

    /// Remembers an ACK of the peer that lies far from everything known: it corroborates a segment that is still to come.
    pub(in crate::reassembly) fn note_far_ack(&mut self, ack: SeqNum) {
        self.extra.get_or_insert_default().far_ack = Some(ack);
    }

    /// Whether a parked segment is ahead of everything known, and before `offset`.
    fn lies_between(&self, parked: &Parked, offset: i64) -> bool {
        self.offset_of(parked.seq, WINDOW_ANY).is_some_and(|at| (self.highest().cast_signed()..offset).contains(&at))
    }

    /// Takes a parked segment after all: everything before it is a gap, unless the stream has come there on its own.
    pub(super) fn believe<S: Sink>(&mut self, parked: &Parked, cx: &mut Context<'_, S>) {
        if self.start == Start::Pickup {
            self.end_pickup(cx);
        }
        let Some(offset) = self.offset_of(parked.seq, WINDOW_ANY) else { return };
        // What is parked on the way there was captured, and is acknowledged by the same ACK.
        if let Some(extra) = &self.extra
            && let Some(at) = extra.parked.iter().position(|other| self.lies_between(other, offset))
            && let Some(other) = self.extra.as_mut().and_then(|extra| extra.parked.remove(at))
        {
            self.believe(&other, cx);
        }
        // Before a FIN alone lies the end of the stream, which may still come: it waits like any hole. Behind it lies nothing.
        if offset > self.highest().cast_signed() && parked.piece(0).len() > 0 && !self.has_fin() {
            self.flush_all(GapCause::NotCaptured, cx);
            let upto = offset.cast_unsigned().min(self.wall(cx.config));
            let cut = self.edge().min(upto);
            if cut > self.next {
                self.skip_to(cut, GapCause::Snaplen, cx);
            }
            if upto > self.next {
                self.skip_to(upto, GapCause::NotCaptured, cx);
            }
        }
        self.place(offset, &parked.piece(self.refused), cx);
    }
}
