//! Segments behind an accepted RST: stream data only if the peer acknowledges them, which proves that it ignored the RST.

use std::collections::VecDeque;

use super::{Context, Extra, Piece, Stream, WINDOW_ANY, parked::Parked};
use crate::reassembly::event::Sink;

/// Segments behind an RST, until the peer turns out to have ignored that.
#[derive(Default)]
pub(super) struct Held {
    pieces: VecDeque<Parked>,
    /// What they cost.
    pub(super) charged: usize,
    /// Behind the last of them.
    pub(super) end: u64,
}

impl Stream {
    /// How far the peer has acknowledged.
    pub(in crate::reassembly) fn acked(&self) -> u64 {
        self.acked
    }

    /// Keeps a piece until its receiver acknowledges it or the connection closes.
    pub(in crate::reassembly) fn hold_piece<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let held = Parked::new(piece, cx.now);
        let (queued, pieces) = self.extra.as_ref().map_or((0, 0), |extra| (extra.queued(), extra.held.pieces.len()));
        let full = queued + held.charged() > cx.config.max_stream_queue as usize
            || pieces >= cx.config.max_stream_chunks as usize;
        if full || !self.believes(piece.seq, piece.window) {
            cx.stats.after_close += piece.octets.len() as u64;
        } else {
            let end = self.offset_of(held.end_with_fin(), WINDOW_ANY).and_then(|end| u64::try_from(end).ok());
            let extra = self.extra.get_or_insert_default();
            extra.held.end = extra.held.end.max(end.unwrap_or(0));
            extra.held.charged += held.charged();
            extra.held.pieces.push_back(held);
        }
    }

    /// Whether the peer has acknowledged any of what was held, and not for an earlier copy of it. When the RST came it had
    /// acknowledged `before`.
    pub(in crate::reassembly) fn held_was_acked(&self, before: u64) -> bool {
        let Some(extra) = self.extra.as_ref().filter(|_| self.acked > before) else { return false };
        extra.held.pieces.iter().filter_map(|held| self.first_unseen(held, extra)).any(|offset| offset < self.acked)
    }

    /// Where what was held first goes beyond what was captured before the RST.
    fn first_unseen(&self, held: &Parked, extra: &Extra) -> Option<u64> {
        let start = u64::try_from(self.offset_of(held.seq, WINDOW_ANY)?).unwrap_or(0);
        let end = u64::try_from(self.offset_of(held.end_with_fin(), WINDOW_ANY)?).unwrap_or(0);
        let in_gap = extra.gaps.first_within(start, end).map(|(from, _)| from);
        in_gap.or_else(|| Some(start.max(self.edge())).filter(|&from| from < end))
    }

    /// Takes what was held, as of when it came, as if the RST had not been there.
    pub(in crate::reassembly) fn release<S: Sink>(&mut self, window: i64, cx: &mut Context<'_, S>) {
        let now = cx.now;
        for held in &self.take_held() {
            cx.now = held.seen;
            self.handle_piece(&Piece { window, ..held.piece(self.refused) }, cx);
        }
        cx.now = now;
        self.flush_due(cx);
    }

    /// Drops what was held.
    pub(in crate::reassembly) fn discard_held<S>(&mut self, cx: &mut Context<'_, S>) {
        cx.stats.after_close += self.take_held().iter().map(|held| held.octets.len() as u64).sum::<u64>();
        while self.drop_parked(cx) {}
    }

    fn take_held(&mut self) -> VecDeque<Parked> {
        self.extra.as_mut().map(|extra| std::mem::take(&mut extra.held).pieces).unwrap_or_default()
    }
}
