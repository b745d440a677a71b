//! What should have happened by now: a gap that nobody fills, an idle connection that closes.

use crate::{
    checker::{Checker, Open, OpenStream},
    drive::SILENCE,
    ledger::{SideLedger, TalkLedger},
    packet::Side,
};

/// The reassembler may be a tick of its timers late: 2^24 ns.
const TICK: u64 = 2 << 24;

/// Acknowledgments of holes of one stream (README, limits).
const ACKS_REMEMBERED: usize = 16;

impl Checker<'_> {
    /// Timers have run up to `now`.
    pub(crate) fn judge_overdue(&mut self, now: u64) {
        if !self.is_steady() || self.scenario.is_strict() {
            return;
        }
        let mut wrong = None;
        let mut open = std::mem::take(&mut self.open);
        for (slot, open) in &mut open {
            let idle = now.saturating_sub(self.last_seen(open).max(open.opened_at));
            if idle > self.most_timeout(open) + TICK + self.ahead(idle) && !self.ledger.talks[open.talk].spoilt {
                wrong = Some(format!("slot {slot} has been idle for {idle} ns"));
            }
            for side in 0..2 {
                if now >= open.streams[side].look_again {
                    open.streams[side].look_again = now + self.config.gap_hold / 4;
                    let overdue = self.overdue_gap(open, side, now);
                    wrong = wrong.or_else(|| overdue.map(|why| format!("slot {slot}, side {side}: {why}")));
                }
            }
        }
        self.open = open;
        if let Some(why) = wrong {
            self.fail(|| why);
        }
    }

    /// What has not come out of the ring counts as heard, and between two ticks nobody looks, `idle` for so long.
    fn ahead(&self, idle: u64) -> u64 {
        let tick = self.scenario.tap.tick.map_or(0, |tick| tick.max(idle / SILENCE));
        self.scenario.kernel.map_or(0, |plan| plan.ahead + tick)
    }

    /// Of all conversations on the same endpoints.
    fn last_seen(&self, open: &Open) -> u64 {
        let pair = self.capture.talks[open.talk].pair;
        let talks = self.ledger.talks.iter().zip(&self.capture.talks);
        talks.filter(|(_, end)| end.pair == pair).map(|(talk, _)| talk.last_seen).max().unwrap_or(0)
    }

    /// The longest time without a segment that may not close it.
    fn most_timeout(&self, open: &Open) -> u64 {
        let (talk, config) = (&self.ledger.talks[open.talk], &self.config);
        let shakes_hands = |side: &SideLedger| {
            side.segments == side.records.len() as u64 && side.records.iter().all(|record| record.opens)
        };
        if !talk.is_plausible() || talk.real_rst.is_some() || !self.is_alone(open) {
            config.idle_timeout.max(config.fin_timeout).max(config.handshake_timeout)
        } else if talk.sides.iter().any(|side| side.fin.is_some()) {
            config.fin_timeout
        } else if talk.sides.iter().all(shakes_hands) && talk.sides.iter().any(SideLedger::begins_with_syn) {
            config.handshake_timeout
        } else {
            config.idle_timeout
        }
    }

    fn overdue_gap(&self, open: &Open, side: Side, now: u64) -> Option<String> {
        let talk = &self.ledger.talks[open.talk];
        let ledger = &talk.sides[side];
        let stream: &OpenStream = &open.streams[side];
        let clear = talk.is_plausible() && ledger.begins_with_syn() && ledger.cut.is_empty() && open.since == 0;
        if !clear
            || talk.spoilt
            || talk.shed
            || talk.real_rst.is_some()
            || !ledger.ambiguous.is_empty()
            || !self.is_alone(open)
        {
            return None;
        }
        let edge = stream.edge;
        let mut beyond = ledger.octets.within(edge, ledger.captured_end[1].min(self.wall())).peekable();
        let behind = beyond.peek()?.0;
        if behind == edge {
            return Some(format!("what follows {edge} was captured and not delivered"));
        }
        let captured = ledger.time_of(beyond.map(|span| span.2).min()?)?;
        // A FIN stands behind every hole.
        let opened = ledger.fin.map_or(captured, |_| captured.min(ledger.fin_seen));
        let overdue = |since: u64, wait: u64| now > since.max(opened) + wait + TICK;
        match ledger.acks.last() {
            // Not every ACK is remembered, but the highest is.
            Some(last) if last.believable > edge => {
                let highest = ledger.acks.partition_point(|ack| ack.believable < last.believable);
                let (highest, handed) = (ledger.acks[highest].time, ledger.acks[highest].handed);
                // Asked for before what is in the ring, it may not be believed, and is asked for again a hold later. If its
                // sender says it again before anybody asks, or more, it counts from then. Of too many, it becomes one with the
                // next.
                let later = ledger.acks.iter().filter(|ack| ack.believable > edge);
                let asked = self.is_ahead() || self.scenario.kernel.is_some() && later.count() >= ACKS_REMEMBERED;
                let ahead = if self.is_ahead() { self.ahead(now.saturating_sub(highest)) } else { 0 };
                let again = if handed && !asked { 0 } else { self.config.gap_hold + ahead };
                overdue(highest, self.config.gap_hold + again)
                    .then(|| format!("{edge}..{behind} was acknowledged {} ns ago", now - highest))
            }
            Some(last) if last.reach > edge || last.time >= opened => None,
            _ if ledger.lost_word >= opened => None,
            _ => overdue(opened, self.config.gap_timeout)
                .then(|| format!("nobody has filled or denied {edge}..{behind} for {} ns", now - opened)),
        }
    }

    /// No other conversation uses the same endpoints.
    pub(crate) fn is_alone(&self, open: &Open) -> bool {
        self.scenario.pairs[self.capture.talks[open.talk].pair].len() == 1
    }
}

impl TalkLedger {
    pub(crate) fn is_plausible(&self) -> bool {
        self.sides.iter().all(SideLedger::all_plausible)
    }
}

impl SideLedger {
    pub(crate) fn begins_with_syn(&self) -> bool {
        let syn = self.syn.or(self.syn_ack);
        syn.is_some_and(|syn| self.records.first().is_some_and(|first| first.record == syn))
            && !self.begins_behind_syn()
    }

    /// Row 13: the SYN-ACK came before the SYN, and says where the stream begins: it acknowledged more than the SYN then
    /// had, which was sent again without its data.
    pub(crate) fn begins_behind_syn(&self) -> bool {
        self.answered
            .is_some_and(|(record, position)| position > self.octets_of_syn && self.syn.is_some_and(|syn| record < syn))
    }

    fn time_of(&self, record: usize) -> Option<u64> {
        let at = self.records.binary_search_by_key(&record, |known| known.record).ok()?;
        Some(self.records[at].time)
    }
}
