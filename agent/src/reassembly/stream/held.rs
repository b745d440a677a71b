//! Segments behind an accepted RST: stream data only if the peer acknowledges them, which proves that it ignored the RST.

use super::{Context, Piece, Stream, WINDOW_ANY, parked::Parked};
use crate::reassembly::event::Sink;

impl Stream {
    /// Keeps a piece until its receiver acknowledges it or the connection closes.
    pub(in crate::reassembly) fn hold_piece<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let held = Parked::from(piece);
        let queued = self.extra.as_ref().map_or(0, |extra| extra.queued());
        let full = queued + held.charged() > cx.config.max_stream_queue as usize;
        if full || !self.believes(piece.seq, piece.window) {
            cx.stats.after_close += piece.octets.len() as u64;
        } else {
            self.extra.get_or_insert_default().held.push_back(held);
        }
    }

    /// Whether the peer has acknowledged any of what was held, beyond what was delivered before.
    pub(in crate::reassembly) fn held_was_acked(&self) -> bool {
        let (acked, edge) = (self.acked.cast_signed(), self.edge().cast_signed());
        let goes_on = |held: &Parked| {
            let offset = self.offset_of(held.seq, WINDOW_ANY)?.max(edge);
            Some(offset < acked && self.offset_of(held.end_with_fin(), WINDOW_ANY)? > edge)
        };
        self.extra.iter().flat_map(|extra| &extra.held).any(|held| goes_on(held).unwrap_or(false))
    }

    /// Takes what was held, as if the RST had not been there.
    pub(in crate::reassembly) fn release<S: Sink>(&mut self, window: i64, cx: &mut Context<'_, S>) {
        let held = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        for held in &held {
            self.handle_piece(&Piece { window, ..held.piece(self.refused) }, cx);
        }
        self.flush_due(cx);
    }

    /// Drops what was held.
    pub(in crate::reassembly) fn discard_held<S>(&mut self, cx: &mut Context<'_, S>) {
        let held = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        cx.stats.after_close += held.iter().map(|held| held.octets.len() as u64).sum::<u64>();
        while self.drop_parked(cx) {}
    }
}
