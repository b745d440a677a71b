//! What is judged when all is over: that every conversation was noticed, the clean ones perfectly, and the ledger of
//! octets.

use agent::reassembly::{Config, Ended, Stats};

use crate::{
    checker::{Became, Checker},
    ledger::{SideLedger, TalkLedger},
    network::Record,
    packet::{Kind, Position},
    scenario::generous,
};

impl Checker<'_> {
    pub(crate) fn conclude(&mut self, stats: &Stats) {
        for talk in 0..self.capture.talks.len() {
            if let Some(why) = self.judge_talk(talk) {
                self.fail(|| format!("conversation {talk}: {why}"));
            }
        }
        self.count_streams();
        let idle = |became: &Became| matches!(became.closed, Some((_, Ended::Idle, _)));
        let gave_up = self.became.iter().flatten().any(idle);
        let plain = self.scenario.sees_all()
            && !self.scenario.is_strict()
            && generous(&self.config)
            && self.config.cutoff.is_none()
            && !self.ledger.talks.iter().any(|talk| talk.shed || talk.spoilt)
            && !gave_up
            && !(0..self.capture.talks.len()).any(|talk| self.was_guessed_at(talk));
        if plain && self.ledger.talks.iter().all(TalkLedger::is_plausible) {
            self.judge_plain(stats);
        }
        if stats.imbalance() != 0 {
            self.fail(|| format!("the octets do not balance: {} of {stats:?}", stats.imbalance()));
        }
        let (payload, delivered, records) = (self.ledger.payload, self.delivered, self.ledger.handed);
        let agree = [stats.payload, stats.delivered].map(Position::from) == [payload, delivered]
            && (stats.queued, stats.segments) == (0, records);
        let missed = [stats.gaps, stats.gaps_filled, stats.gaps_trailing].map(Position::from);
        // One that was reset says so, although it had to give way.
        let evicted = self.evicted..=self.evicted + self.reset;
        if missed != self.missed || !evicted.contains(&stats.limit_connections) {
            let gaps = self.missed;
            self.fail(|| format!("{gaps:?} octets in gaps, filled, trailing, and {evicted:?} evicted: {stats:?}"));
        }
        let unwanted = [stats.gaps_cutoff, stats.gaps_shed].map(Position::from);
        if stats.ring_full != self.ring_full || unwanted != self.unwanted {
            let (ring_full, unwanted) = (self.ring_full, self.unwanted);
            self.fail(|| format!("{ring_full} octets lost to the ring, {unwanted:?} cut off and shed: {stats:?}"));
        }
        if stats.urgent != self.urgent {
            let urgent = self.urgent;
            self.fail(|| format!("{urgent} urgent segments: {stats:?}"));
        }
        let connections = self.became.iter().map(Vec::len).sum::<usize>() as u64;
        if !agree || (stats.opened, stats.closed) != (connections, connections) {
            self.fail(|| {
                format!(
                    "{payload} octets, {delivered} delivered, {records} records, {connections} connections: {stats:?}"
                )
            });
        }
        self.census.add_counters(stats);
        self.count_limits(stats);
    }

    /// All was seen and nothing reached a limit: some counters have nothing to count.
    fn judge_plain(&mut self, stats: &Stats) {
        let forged = self.forged;
        // An RST gives up holes, and may turn out to have been ignored.
        let reset = self.capture.records.iter().any(|record| record.packet.rst && record.packet.kind != Kind::Forged);
        let unmoved = [
            stats.below_start,
            if reset { 0 } else { stats.late },
            stats.no_handshake,
            stats.limit_stream_queue,
            stats.limit_total_queue,
            stats.limit_connections,
            stats.limit_linger,
        ];
        if Position::from(stats.implausible) != forged || self.scenario.tap.tampered == 0 && stats.conflict > 0 {
            self.fail(|| format!("all was seen, {forged} octets of it forged: {stats:?}"));
        }
        if !self.config.require_handshake && unmoved.iter().any(|count| *count > 0) {
            self.fail(|| format!("all was seen, and nothing was out of bounds: {stats:?}"));
        }
    }

    /// Which limit it was that a counter speaks of.
    fn count_limits(&mut self, stats: &Stats) {
        let (ours, usual) = (&self.config, Config::default());
        for (what, reached) in [
            ("row 24 max_connections", stats.limit_connections > 0),
            ("row 24 max_linger", stats.limit_linger > 0),
            (
                "row 24 max_stream_queue",
                stats.limit_stream_queue > 0 && ours.max_stream_queue != usual.max_stream_queue,
            ),
            (
                "row 24 max_stream_chunks",
                stats.limit_stream_queue > 0 && ours.max_stream_chunks != usual.max_stream_chunks,
            ),
            ("row 24 max_total_queue", stats.limit_total_queue > 0),
        ] {
            self.census.add_many(what, u64::from(reached));
        }
    }

    /// Somebody guessed an RST that the tap may believe.
    fn was_guessed_at(&self, talk: usize) -> bool {
        let guess = |record: &Record| record.packet.kind == Kind::Guessed && record.packet.conversation == talk;
        self.capture.records.iter().any(guess)
    }

    fn count_streams(&mut self) {
        for (talk, end) in self.capture.talks.iter().enumerate() {
            let sides = &self.ledger.talks[talk].sides;
            let segments = sides.iter().map(|side| side.records.len()).sum();
            if segments > 0 {
                self.census.add_conversation(segments);
            }
            for (side, isn) in sides.iter().zip(end.isn) {
                self.census.add_many("row 21 corroborated", side.corroborated);
                let end = side.captured_end[1];
                let wraps = (Position::from(isn) + 1 + end) >> 32;
                self.census.add_many("streams", u64::from(end > 0));
                self.census.add_many("streams that cross 2^32", u64::from(end > 0 && wraps > 0));
                self.census.add_many("streams that cross it several times", u64::from(end > 0 && wraps > 1));
                self.census.add_many("streams beyond 4 GiB", u64::from(end >> 32 > 0));
            }
        }
    }

    fn judge_talk(&mut self, talk: usize) -> Option<String> {
        let truth = &self.ledger.talks[talk];
        let end = self.capture.talks[talk];
        let became = &self.became[talk];
        let first_of_pair = self.capture.talks[..talk].iter().all(|earlier| earlier.pair != end.pair);
        if truth.opener.is_some() && became.is_empty() && (truth.confirmed || first_of_pair) {
            return Some("was not noticed".into());
        }
        let plausible = truth.sides.iter().all(SideLedger::all_plausible);
        if !self.scenario.sees_all()
            || self.scenario.is_strict()
            || !generous(&self.config)
            || !end.in_order
            || truth.spoilt
            || !plausible
        {
            return None;
        }
        self.census.add("clean conversations");
        // What is repeated for longer than the linger after both FINs were seen may open another one.
        let (Some(first), Some(last)) = (became.first(), became.last()) else {
            return Some("became no connection".into());
        };
        if self.was_guessed_at(talk) {
            let goes_on = truth.guessed && truth.rsts == 1 && truth.goes_on_after_rst(self.config.rst_hold);
            self.census.add_many("row 10 RST that was ignored", u64::from(goes_on));
            // One that was reset may have been picked up again: the ledger knows of that one alone.
            let reset = matches!(last.closed, Some((_, Ended::Rst, _)));
            // An RST gives up the holes that there are, and what fills them proves nothing.
            let network = &self.scenario.network;
            let in_order = (network.jitter, network.lost_before_tap) == (0, 0) && self.scenario.tap.keeps_order();
            return (goes_on && in_order && (reset || last.missing > 0)).then(|| {
                format!("went on after an RST, and ended {:?} with {} octets missing", last.closed, last.missing)
            });
        }
        match first.closed {
            // A silence may have been longer than the timeout, which was judged when it closed.
            Some((_, Ended::Fin | Ended::Idle, _)) if first.missing == 0 => None,
            other => Some(format!("all was captured, and it ended {other:?} with {} octets missing", first.missing)),
        }
    }
}
