//! What is judged when a connection opens: that something opens it, and that it may.

use agent::reassembly::{ConnectionId, Ended, Started, Summary};

use crate::{
    checker::{Became, Checker, Open},
    drive::EPOCH,
    figures::Frames,
    kernel::Copied,
    network::Record,
    packet::Kind,
};

impl Checker<'_> {
    pub(crate) fn on_open(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        if self.open.contains_key(&id.slot) {
            self.fail(|| format!("{id:?} opened in a slot that is in use"));
        }
        if !self.serials.insert(id.serial) {
            self.fail(|| format!("{id:?} opened with a serial that was used before"));
        }
        if self.open.len() >= self.config.max_connections as usize {
            self.fail(|| format!("{id:?} opened beyond max_connections"));
        }
        if summary.ended.is_some() {
            self.fail(|| format!("{id:?} opened with a reason to close"));
        }
        let Some(record) = self.opener(summary) else {
            return self.fail(|| format!("{id:?} opened out of nothing"));
        };
        let talk = record.packet.conversation;
        let client = usize::from(summary.client != self.endpoints(talk)[0]);
        if self.endpoints(talk) != [summary.client, summary.server]
            && self.endpoints(talk) != [summary.server, summary.client]
        {
            self.fail(|| format!("{id:?} has the endpoints of another conversation"));
        }
        if self.config.require_handshake && summary.started == Started::Midstream {
            self.fail(|| format!("{id:?} opened without a handshake"));
        }
        if record.packet.kind == Kind::Forged {
            self.fail(|| format!("{id:?} opened by a forged segment"));
        }
        self.judge_another(id, &record);
        self.mss[talk] = [None; 2];
        let again = !self.became[talk].is_empty();
        if again {
            let copied = self.copied.unwrap_or_else(|| Copied::whole(&record));
            self.ledger.forget(&record, &copied);
        }
        let since = if again { self.ledger.record - 1 } else { 0 };
        self.judge_continuation(talk, &record, summary.continues);
        self.became[talk].push(Became { serial: id.serial, closed: None, missing: 0 });
        let (start, opened_at, streams, frames) = (self.stamp, self.now(), Default::default(), Frames::default());
        let updated = opened_at.min(summary.start.0.saturating_sub(EPOCH));
        let (serial, opened) = (id.serial, self.ledger.record);
        self.open
            .insert(id.slot, Open { serial, talk, client, since, opened, start, opened_at, updated, streams, frames });
        let pair = self.capture.talks[talk].pair;
        let other = |open: &Open| [0, 1].contains(&pair) && self.capture.talks[open.talk].pair == 1 - pair;
        if self.scenario.twins && self.open.values().any(other) {
            self.census.add_many("row 29 interface is key", u64::from(self.config.interface_key));
            self.census.add_many("row 29 VLAN is key", u64::from(self.config.vlan_key));
        }
        self.census.add(if summary.continues.is_some() { "row 26 continues" } else { "connections" });
    }

    /// The record that opens a connection: the current one, or (row 11) the SYN that waited for the end of another.
    fn opener(&self, summary: &Summary<'_>) -> Option<Record> {
        let between = |talk: usize| {
            let [near, far] = self.endpoints(talk);
            let place = self.scenario.origin(self.capture.talks[talk].pair, 0);
            [[near, far], [far, near]].contains(&[summary.client, summary.server])
                && (!self.config.interface_key || place.interface == summary.origin.interface)
                && (!self.config.vlan_key || place.vlan == summary.origin.vlan)
        };
        let waits = |syn: &&Record| {
            let talk = syn.packet.conversation;
            between(talk) && self.became[talk].is_empty() && self.ledger.talks[talk].opener.is_some()
        };
        let waiting = self.syns.iter().rev().find(waits).copied();
        let opens = |record: &Record| {
            let talk = record.packet.conversation;
            self.ledger.talks[talk].opener.is_some() && between(talk)
        };
        let current = self.current.filter(opens);
        current
            .filter(|record| waiting.is_none_or(|syn| syn.packet.conversation == record.packet.conversation))
            .or(waiting)
    }

    /// A conversation may become several connections only where the first was given up or forgotten, or where it was picked
    /// up and its SYN comes behind its end, which nothing tells from that of another one.
    fn judge_another(&mut self, id: ConnectionId, opener: &Record) {
        let (talk, side) = (opener.packet.conversation, opener.packet.from);
        let (sender, peer) = (self.ledger.side(talk, side), self.ledger.side(talk, 1 - side));
        let told = [sender.syn, sender.syn_ack, peer.syn_ack].into_iter().flatten().min();
        let is_first_syn = opener.packet.syn && told == Some(self.ledger.record);
        let Some(last) = self.became[talk].last() else { return };
        let fine = match last.closed {
            None => false,
            Some((_, Ended::Idle | Ended::Evicted, _)) => true,
            Some((_, Ended::Fin | Ended::Rst, when)) => {
                is_first_syn || self.ledger.now.saturating_sub(when) >= self.config.linger || self.config.max_linger < 3
            }
            // Traffic of a conversation that the tap thought was over, because another has taken its endpoints.
            Some((_, Ended::Reused | Ended::Finish, _)) => false,
        };
        if !fine {
            let ended = last.closed.map(|closed| closed.1);
            self.fail(|| format!("{id:?} splits conversation {talk}, whose last connection ended {ended:?}"));
        }
    }

    /// Row 26: a connection that is picked up names the one that was given up on the same endpoints.
    fn judge_continuation(&mut self, talk: usize, opener: &Record, continues: Option<u64>) {
        let pair = self.capture.talks[talk].pair;
        let before = self.became.iter().zip(&self.capture.talks).filter(|(_, end)| end.pair == pair);
        let last = before.flat_map(|(became, _)| became).max_by_key(|became| became.serial);
        let given_up = last.filter(|last| matches!(last.closed, Some((_, Ended::Idle | Ended::Evicted, _))));
        let recent = given_up.and_then(|last| last.closed).is_some_and(|(_, _, when)| {
            self.is_steady() && self.config.max_linger >= 1_000 && self.ledger.now < when + self.config.idle_timeout
        });
        let expected = given_up.map(|last| last.serial).filter(|_| !opener.packet.syn);
        if continues != expected && (continues.is_some() || recent) {
            self.fail(|| format!("continues {continues:?}, not {expected:?}"));
        }
    }
}
