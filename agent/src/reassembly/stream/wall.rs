//! Where delivery ends before the stream does: at the cut-off, or at the very beginning of what was shed.

use super::{Context, Known, Stream, WINDOW_ANY};
use crate::{
    reassembly::{config::Config, event::GapCause},
    segment::SeqNum,
};

/// No connection has this many octets: what is below zero, modulo 2^64, is not below this.
const ACCOUNT_MAX: u64 = 1 << 56;

impl Stream {
    /// No octet from here on is wanted.
    pub(super) fn wall(&self, config: &Config) -> u64 {
        // What was captured in spite of it, in fragments say, is there.
        if self.known.has(Known::SHED) { self.next } else { config.cutoff.unwrap_or(u64::MAX) }
    }

    pub(super) fn cause_of_wall(&self) -> GapCause {
        if self.known.has(Known::SHED) { GapCause::Shed } else { GapCause::Cutoff }
    }

    /// Where the stream ends as far as it is wanted, once its FIN was seen.
    pub(super) fn awaited_end(&self, config: &Config) -> Option<u64> {
        self.fin.offset().map(|fin| fin.min(self.wall(config)))
    }

    /// Drops what was queued behind the cut-off before it was known where that is.
    pub(super) fn drop_behind_wall<S>(&mut self, cx: &mut Context<'_, S>) {
        let wall = self.wall(cx.config);
        if let Some(extra) = &mut self.extra
            && let Some((octets, end)) = extra.assembler.truncate(wall)
        {
            cx.stats.queued -= octets;
            cx.stats.cutoff += octets;
            extra.beyond = extra.beyond.max(end);
        }
    }

    /// The kernel has shed the connection.
    pub(in crate::reassembly) fn shed(&mut self) {
        self.known.set(Known::SHED, true);
    }

    /// Takes note of how far this sender has come by the accounts of the kernel, which has withheld some of it: positions are
    /// told by these from now on, since 32 bits of a sequence number no longer do. Also when they say what an acknowledgment has
    /// said, whose last octet may have been the FIN. Each of the `segments` that it has counted of both sides, some of which
    /// acknowledge what did not pass, may have gone a window further than the one before it; what goes beyond that somebody else
    /// has sent.
    pub(in crate::reassembly) fn note_reach(&mut self, reach: u64, segments: u64, window: i64) {
        let highest = self.highest();
        if !self.is_located() || !(highest.max(1)..ACCOUNT_MAX).contains(&reach) {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        let more = segments.wrapping_sub(extra.reached_with).cast_signed().max(1);
        if reach - highest > window.max(1).saturating_mul(more).cast_unsigned() {
            return;
        }
        // Of what was acknowledged as far as that, none is the FIN's.
        (extra.reach, extra.reached_with) = (reach, segments);
        if reach > highest {
            self.note_sent_up_to(self.base.advance(reach));
        }
    }

    /// Takes note of the segments that the kernel has counted. How many more there are than were known.
    pub(in crate::reassembly) fn count_up_to(&mut self, segments: u64) -> i64 {
        let more = segments.wrapping_sub(self.segments).cast_signed().max(0);
        self.segments = self.segments.wrapping_add(more.cast_unsigned());
        more
    }

    /// Takes note of the octets that a full ring has cost so far.
    pub(in crate::reassembly) fn note_lost(&mut self, lost: u64) {
        if (self.lost() + 1..ACCOUNT_MAX).contains(&lost) {
            self.extra.get_or_insert_default().lost = lost;
        }
    }

    /// What was lost so far was lost before a segment that was captured.
    pub(in crate::reassembly) fn note_record(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.lost_before = extra.lost;
        }
    }

    pub(in crate::reassembly) fn lost(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.lost)
    }

    /// Sequence number of the first octet, where that is known for good.
    pub(in crate::reassembly) fn first(&self) -> Option<SeqNum> {
        self.is_located().then_some(self.base)
    }

    /// Where a sequence number lies, believable or not, modulo 2^64; at the beginning where that is not known.
    pub(in crate::reassembly) fn position_of(&self, seq: SeqNum) -> u64 {
        let offset = self.is_located().then(|| self.offset_of(seq, WINDOW_ANY)).flatten();
        offset.map_or(0, i64::cast_unsigned)
    }
}
