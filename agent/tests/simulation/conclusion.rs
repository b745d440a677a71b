//! What is judged when all is over: that every conversation was noticed, the clean ones perfectly, and the ledger of
//! octets.

use agent::reassembly::{Ended, Stats};

use crate::{checker::Checker, ledger::SideLedger, scenario::generous};

impl Checker<'_> {
    pub(crate) fn conclude(&mut self, stats: &Stats) {
        for talk in 0..self.capture.talks.len() {
            if let Some(why) = self.judge_talk(talk) {
                self.fail(|| format!("conversation {talk}: {why}"));
            }
        }
        if stats.imbalance() != 0 {
            self.fail(|| format!("the octets do not balance: {} of {stats:?}", stats.imbalance()));
        }
        let (payload, delivered, records) = (self.ledger.payload, self.delivered, self.ledger.record as u64);
        let agree = (stats.payload, stats.delivered, stats.queued, stats.segments) == (payload, delivered, 0, records);
        let connections = self.became.iter().map(Vec::len).sum::<usize>() as u64;
        if !agree || (stats.opened, stats.closed) != (connections, connections) {
            self.fail(|| {
                format!(
                    "{payload} octets, {delivered} delivered, {records} records, {connections} connections: {stats:?}"
                )
            });
        }
        for (what, count) in [
            ("row 24 stream queue full", stats.limit_stream_queue),
            ("row 24 total queue full", stats.limit_total_queue),
            ("row 24 connection table full", stats.limit_connections),
            ("row 24 linger table full", stats.limit_linger),
            ("row 10 implausible", stats.rst_implausible),
            ("row 10 reopened", stats.reopened),
            ("row 11 unconfirmed", stats.syn_unconfirmed),
            ("row 16 probe octets", stats.probe),
            ("row 21 implausible octets", stats.implausible),
        ] {
            self.census.add_many(what, count);
        }
    }

    fn judge_talk(&mut self, talk: usize) -> Option<String> {
        let truth = &self.ledger.talks[talk];
        let end = self.capture.talks[talk];
        let became = &self.became[talk];
        if truth.opener.is_some() && became.is_empty() {
            return Some("was not noticed".into());
        }
        let plausible = truth.sides.iter().all(SideLedger::all_plausible);
        if !self.scenario.sees_all() || !generous(&self.config) || !end.in_order || !plausible {
            return None;
        }
        self.census.add("clean conversations");
        // What is repeated for longer than the linger after both FINs were seen may open another one.
        let Some(first) = became.first() else { return Some("became no connection".into()) };
        match first.closed {
            Some((_, Ended::Fin, _)) if first.missing == 0 => None,
            other => Some(format!("all was captured, and it ended {other:?} with {} octets missing", first.missing)),
        }
    }
}
