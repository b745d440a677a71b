//! Holes: what the peer has acknowledged, how long is waited, and when a hole becomes a gap.

use super::{Context, Extra, Parked, Start, Stream, window::goes_on};
use crate::{
    reassembly::{
        config::Config,
        event::{GapCause, Sink},
    },
    segment::{SeqNum, Timestamp},
};

/// With more, the newest two become one, which only makes a gap later.
const ACKS_MAX: usize = 16;

/// A sender has a window under way, of whose fragmented segments these are the latest.
const FRAGMENTED_MAX: usize = 8;

impl Stream {
    /// Takes an ACK number of the peer, which came at `at`, and may stand for many: it is believed as far as these `reach`, what
    /// is parked no further than a window from it. Not if it is far from everything known: then this is false. The kernel may
    /// have been `asked` for it: then it says nothing of where the segments are that are still in the ring.
    pub(in crate::reassembly) fn handle_ack<S: Sink>(
        &mut self,
        ack: SeqNum,
        [window, reach]: [i64; 2],
        at: Timestamp,
        asked: bool,
        cx: &mut Context<'_, S>,
    ) -> bool {
        if !self.is_located() {
            if goes_on(self.peer_ack(), ack, false) {
                self.note_peer_ack(ack);
            }
            self.note_ack_time(at);
            return true;
        }
        if self.extra.is_some() {
            self.note_ack_time(at);
            // What is near says no more of what is parked than that there was room for it.
            if self.offset_of_ack(ack, reach, asked).is_none() {
                self.corroborate(ack, reach, cx);
            }
        }
        let Some(offset) = self.offset_of_ack(ack, reach, asked) else { return false };
        let Ok(offset) = u64::try_from(offset) else { return true };
        if !asked {
            self.catch_up(offset);
        }
        if offset < self.acked {
            return true;
        }
        self.note_peer_ack(ack);
        if offset > self.acked {
            if asked {
                self.extra.get_or_insert_default().told.get_or_insert(self.acked);
            }
            self.set_acked(offset, at, cx.config);
            self.unpark(window, cx);
        }
        true
    }

    /// It stands behind the last octet that the window has room for.
    fn offset_of_ack(&self, ack: SeqNum, window: i64, asked: bool) -> Option<i64> {
        let window = window.saturating_add(1);
        if asked { self.offset_near(self.highest().max(self.acked), ack, window) } else { self.offset_of(ack, window) }
    }

    /// The ring has come to an ACK of the peer that the kernel was asked for before.
    pub(in crate::reassembly) fn hear_again(&mut self, ack: SeqNum) {
        if let Some(offset) = self.offset_of(ack, 1).and_then(|offset| u64::try_from(offset).ok()) {
            self.catch_up(offset);
        }
    }

    /// The ring has come as far as the peer's ACK of `offset`.
    fn catch_up(&mut self, offset: u64) {
        if let Some(extra) = &mut self.extra {
            extra.told = extra.told.map(|told| told.max(offset)).filter(|&told| told < self.acked);
        }
    }

    /// Does what time demands.
    pub(in crate::reassembly) fn flush_due<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        let Some(extra) = &mut self.extra else { return };
        extra.looked = cx.now;
        if self.start == Start::Pickup && extra.pickup_since.after(cx.config.pickup_hold) <= cx.now {
            self.end_pickup(cx);
        }
        while let Some(behind) = self.behind_hole(cx.config) {
            let least = self.least_ack(behind);
            let Some(extra) = &mut self.extra else { return };
            let opened = extra.hole_opened();
            while let Some(&(upto, at)) = extra.acks.front()
                && at.after(cx.config.gap_hold) <= cx.now
            {
                extra.matured = extra.matured.max(upto);
                extra.acks.pop_front();
            }
            if extra.matured >= least {
                let upto = extra.matured.min(behind);
                self.declare(upto, GapCause::NotCaptured, cx);
            } else if self.acked < least && extra.last_ack < opened && opened.after(cx.config.gap_timeout) <= cx.now {
                self.declare(behind, GapCause::Timeout, cx);
            } else {
                return;
            }
        }
    }

    /// When [`flush_due`](Self::flush_due) has something to do. ACKs may be `withheld`: then it is also when they would have
    /// to be asked for, so that none is known later than what it says is due.
    pub(in crate::reassembly) fn deadline(&self, withheld: bool, config: &Config) -> Option<Timestamp> {
        let extra = self.extra.as_ref()?;
        if self.start == Start::Pickup {
            return Some(extra.pickup_since.after(config.pickup_hold));
        }
        let look = || withheld.then(|| extra.looked.after(config.gap_hold));
        let Some(behind) = self.behind_hole(config) else {
            return extra.parked.back().and_then(|_| look());
        };
        let least = self.least_ack(behind);
        let held = extra.acks.iter().find(|&&(upto, _)| upto >= least).map(|&(_, at)| at.after(config.gap_hold));
        let opened = extra.hole_opened();
        let timeout = || (extra.last_ack < opened).then(|| opened.after(config.gap_timeout));
        held.or_else(|| timeout().into_iter().chain(look()).min())
    }

    /// Takes note that the peer has acknowledged something at `at`.
    pub(in crate::reassembly) fn note_ack_time(&mut self, at: Timestamp) {
        if let Some(extra) = &mut self.extra {
            extra.last_ack = extra.last_ack.max(at);
        }
    }

    /// Forgets the gaps where they take up most, because the queues of all streams are full. Whether they did.
    pub(in crate::reassembly) fn forget_gaps<S>(&mut self, cx: &mut Context<'_, S>) -> bool {
        let extra = self.extra.as_mut().filter(|extra| extra.gaps.charged() >= extra.queued());
        let forgotten = extra.is_some_and(|extra| extra.gaps.forget());
        cx.stats.limit_gaps += u64::from(forgotten);
        forgotten
    }

    /// Gives up the first hole, or what is parked where there is none, because a limit on queues was reached.
    pub(in crate::reassembly) fn give_way<S: Sink>(&mut self, cx: &mut Context<'_, S>) {
        if self.start == Start::Pickup {
            self.end_pickup(cx);
        } else if let Some(behind) = self.behind_hole(cx.config) {
            self.declare(behind, GapCause::Limit, cx);
        } else {
            self.drop_parked(cx);
        }
    }

    /// Delivers all that is queued, behind gaps: `cause` is that of holes which the peer has not acknowledged.
    pub(in crate::reassembly) fn flush_all<S: Sink>(&mut self, cause: GapCause, cx: &mut Context<'_, S>) {
        if self.start == Start::Pickup {
            self.end_pickup(cx);
        }
        while let Some(behind) = self.behind_hole(cx.config) {
            if self.acked >= self.least_ack(behind) {
                self.declare(self.acked.min(behind), GapCause::NotCaptured, cx);
            } else {
                self.declare(behind, cause, cx);
            }
        }
    }

    /// Remembers how far the peer has acknowledged, and since when where that is ahead of what was delivered.
    pub(super) fn set_acked(&mut self, offset: u64, now: Timestamp, config: &Config) {
        self.acked = offset;
        // Behind the FIN, and behind the cut-off, there is nothing to wait for.
        if self.awaited_end(config).unwrap_or_else(|| self.wall(config)).min(offset) > self.edge() {
            let next = self.next;
            let extra = self.extra.get_or_insert_default();
            while extra.acks.front().is_some_and(|&(upto, _)| upto <= next) {
                extra.acks.pop_front();
            }
            if extra.acks.len() >= ACKS_MAX {
                extra.acks.pop_back();
            }
            extra.acks.push_back((offset, now));
        }
    }

    /// Takes note of a segment of which a part has come, in a fragment: if what it carries turns out to be missing, this
    /// is why.
    pub(in crate::reassembly) fn note_fragment(&mut self, seq: SeqNum, window: i64) {
        let offset = self.offset_of(seq, window).and_then(|offset| u64::try_from(offset).ok());
        let Some(offset) = offset.filter(|&offset| self.is_located() && offset >= self.edge()) else { return };
        let fragmented = &mut self.extra.get_or_insert_default().fragmented;
        if fragmented.len() >= FRAGMENTED_MAX {
            fragmented.pop_front();
        }
        fragmented.push_back(offset);
    }

    /// What lies behind the first hole, a segment, the FIN, or before that the cut-off.
    pub(super) fn behind_hole(&self, config: &Config) -> Option<u64> {
        let extra = self.extra.as_ref().filter(|_| self.is_located())?;
        let end = self.awaited_end(config).filter(|&end| end > self.edge() && extra.tail_given_up.is_none());
        extra.assembler.first().or(end)
    }

    /// Least ACK for which the hole before `behind` is a gap as far as that says. What only the FIN stands behind is given up
    /// as a whole, since the stream ends with it, and so has to be acknowledged as a whole.
    fn least_ack(&self, behind: u64) -> u64 {
        let queued = self.extra.as_ref().is_some_and(|extra| !extra.assembler.is_empty());
        if queued { self.edge() + 1 } else { behind }
    }

    /// Declares everything up to `upto` a gap and delivers what stands behind it. Where only the FIN stands behind it,
    /// this is the end: the trailing gap is told at close.
    fn declare<S: Sink>(&mut self, upto: u64, cause: GapCause, cx: &mut Context<'_, S>) {
        if let Some(extra) = &mut self.extra
            && extra.assembler.is_empty()
            && self.fin.offset().is_some_and(|fin| upto <= fin)
        {
            extra.tail_given_up = Some(cause);
            return;
        }
        let edge = self.edge();
        let fragmented = self.extra.as_mut().is_some_and(|extra| extra.is_fragmented(edge, upto));
        let ring_full = self.extra.as_ref().is_some_and(|extra| extra.ring_full);
        let cause = match cause {
            _ if ring_full => GapCause::RingFull,
            _ if fragmented => GapCause::Fragment,
            cause => cause,
        };
        if edge > self.next {
            self.skip_to(edge, GapCause::Snaplen, cx);
        }
        self.skip_to(upto, cause, cx);
        self.drain(cx);
    }
}

impl Extra {
    /// Whether a segment began between `start` and `end` of which only a part came; it is of no more interest then.
    pub(super) fn is_fragmented(&mut self, start: u64, end: u64) -> bool {
        let fragmented = self.fragmented.iter().any(|offset| (start..end).contains(offset));
        self.fragmented.retain(|&offset| offset >= end);
        fragmented
    }

    /// Memory that queued and parked octets cost.
    pub(super) fn queued(&self) -> usize {
        self.assembler.charged() + self.held.charged + self.parked.iter().map(Parked::charged).sum::<usize>()
    }

    /// When the first hole opened. A FIN that was seen stands behind every hole.
    fn hole_opened(&self) -> Timestamp {
        let fin = Some(self.fin_seen).filter(|seen| *seen > Timestamp::default());
        self.assembler.oldest().into_iter().chain(fin).min().unwrap_or_default()
    }
}
