//! Segments behind an accepted RST: stream data only if the peer acknowledges them, which proves that it ignored the RST.

use super::{Context, Extra, Piece, Stream, WINDOW_ANY, parked::Parked};
use crate::reassembly::event::Sink;

impl Stream {
    /// How far the peer has acknowledged.
    pub(in crate::reassembly) fn acked(&self) -> u64 {
        self.acked
    }

    /// Keeps a piece until its receiver acknowledges it or the connection closes. Whether it is near enough to be believed
    /// is judged then: much of what it would be measured by is held as well.
    pub(in crate::reassembly) fn hold_piece<S: Sink>(&mut self, piece: &Piece<'_>, cx: &mut Context<'_, S>) {
        let held = Parked::new(piece, cx.now);
        let queued = self.extra.as_ref().map_or(0, |extra| extra.queued());
        let full = queued + held.charged() > cx.config.max_stream_queue as usize;
        if full || !self.is_located() {
            cx.stats.after_close += piece.octets.len() as u64;
        } else {
            self.extra.get_or_insert_default().held.push_back(held);
        }
    }

    /// Whether the peer has acknowledged any of what was held, and not for an earlier copy of it. When the RST came it had
    /// acknowledged `before`.
    pub(in crate::reassembly) fn held_was_acked(&self, before: u64) -> bool {
        let Some(extra) = self.extra.as_ref().filter(|_| self.acked > before) else { return false };
        extra.held.iter().filter_map(|held| self.first_unseen(held, extra)).any(|offset| offset < self.acked)
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
        let held = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        let now = cx.now;
        for held in &held {
            cx.now = held.seen;
            self.handle_piece(&Piece { window, ..held.piece(self.refused) }, cx);
        }
        cx.now = now;
        self.flush_due(cx);
    }

    /// Drops what was held.
    pub(in crate::reassembly) fn discard_held<S>(&mut self, cx: &mut Context<'_, S>) {
        let held = self.extra.as_mut().map(|extra| std::mem::take(&mut extra.held)).unwrap_or_default();
        cx.stats.after_close += held.iter().map(|held| held.octets.len() as u64).sum::<u64>();
        while self.drop_parked(cx) {}
    }
}
