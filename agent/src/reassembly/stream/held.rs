//! Octets behind an accepted RST: stream data only if the peer acknowledges them, which proves that it ignored the RST.

use super::{Context, Fin, Piece, Stream};
use crate::reassembly::event::Sink;

impl Stream {
    /// Keeps a piece until its receiver acknowledges it or the connection closes.
    pub(in crate::reassembly) fn hold_piece<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let offset = self.offset_of(piece.seq, piece.window).and_then(|offset| u64::try_from(offset).ok());
        let queued = self.extra.as_ref().map_or(0, |extra| extra.queued());
        let full = queued + piece.octets.len() > cx.config.max_stream_queue as usize;
        let Some(offset) = offset.filter(|_| self.is_located() && self.fin.offset().is_none() && !full) else {
            cx.stats.after_close += piece.octets.len() as u64;
            return;
        };
        let known = (self.edge().saturating_sub(offset)).min(piece.octets.len() as u64);
        let (again, fresh) = piece.octets.split_at(known as usize);
        cx.stats.duplicate += again.len() as u64;
        self.queue(offset + known, fresh, piece.twin, cx);
        let cut = (offset + piece.octets.len() as u64).max(self.edge());
        let end = offset + piece.len();
        if end > cut {
            self.extra.get_or_insert_default().assembler.insert_cut(cut, end - cut, cx.now);
        }
        if piece.fin && end >= self.captured_end() {
            self.extra.get_or_insert_default().held_fin = Fin::at(end);
        }
    }

    /// Whether the peer has acknowledged any of what was held.
    pub(in crate::reassembly) fn held_was_acked(&self) -> bool {
        self.extra.as_ref().and_then(|extra| extra.assembler.first()).is_some_and(|first| self.acked > first)
    }

    /// Delivers what was held.
    pub(in crate::reassembly) fn release<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        if let Some(extra) = &mut self.extra
            && extra.held_fin.offset().is_some()
        {
            self.fin = std::mem::take(&mut extra.held_fin);
            extra.fin_seen = cx.now;
        }
        self.drain(cx);
        self.flush_due(cx);
    }

    /// Drops what was held.
    pub(in crate::reassembly) fn discard_held<S>(&mut self, cx: &mut Context<'_, S>) {
        if let Some(extra) = &mut self.extra {
            let dropped = extra.assembler.clear();
            cx.stats.queued -= dropped;
            cx.stats.after_close += dropped;
        }
        while self.drop_parked(cx) {}
    }
}
