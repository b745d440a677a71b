//! Which rows of the contract a record touches, for the census; and the record itself, for a replayed seed.

use crate::{
    checker::Checker,
    kernel::Copied,
    network::Record,
    packet::{Kind, Packet, Position},
    plan::SECOND,
};

impl Checker<'_> {
    pub(crate) fn note_situation(&mut self, record: &Record, captured: Position) {
        let packet = &record.packet;
        let talk = &self.capture.talks[packet.conversation];
        let pair = &self.scenario.pairs[talk.pair];
        let side = self.ledger.side(packet.conversation, packet.from);
        let (position, len) = (packet.position(), packet.stream_octets());
        // What came before this record.
        let first = side.octets.within(position, position + len).all(|(.., index)| index == self.ledger.record);
        let highest = side.captured_end[0];
        let number = |at: Position| talk.isn[packet.from].wrapping_add(1).wrapping_add(at as u32);
        let over = self.became[packet.conversation].last().is_some_and(|last| last.closed.is_some());
        let unknown = self.became[packet.conversation].is_empty();
        let peer = self.ledger.side(packet.conversation, 1 - packet.from);
        let with_syn = peer.octets_of_syn;
        let taken = packet.ack.map_or(0, |ack| ack.saturating_sub(1));
        let answered = packet.syn && packet.ack.is_some() && with_syn > 0;
        let split = pair[talk.index].plans[1].split.is_some() && !pair[talk.index].simultaneous;
        let half_closed = peer.fin.is_some() && record.time > peer.fin_seen + 60 * SECOND;
        let situations = [
            ("row 01 in order", len > 0 && position == highest),
            ("row 02 wrap", len > 0 && number(position) > number(position + len) || len >> 32 > 0),
            ("row 02 wrap with retransmission", len > 0 && !first && number(position) > number(position + len)),
            ("row 03 out of order", len > 0 && position > highest),
            ("row 04 overlap", len > 0 && !first),
            ("row 08 one-sided", self.scenario.tap.only.is_some()),
            ("row 09 FIN", packet.fin),
            ("row 09 empty FIN out of order", packet.fin && packet.len == 0 && position > highest),
            ("row 10 RST", packet.rst && packet.kind == Kind::Real),
            ("row 10 forged RST", packet.rst && packet.kind == Kind::Forged),
            ("row 10 RST with text", packet.rst && packet.len > 0),
            ("row 11 reuse", packet.syn && pair.len() > 1 && packet.kind == Kind::Real),
            ("row 11 forged SYN", packet.syn && packet.kind == Kind::Forged),
            ("row 12 after the close", over && !packet.syn),
            ("row 14 SYN with data", packet.syn && len > 0),
            ("row 14 SYN data refused", answered && taken == 0),
            ("row 14 SYN data partly taken", answered && taken > 0 && taken < with_syn),
            ("row 15 simultaneous open", packet.syn && packet.ack.is_none() && packet.from == 1 && !split),
            ("row 15 split handshake", packet.syn && packet.ack.is_none() && packet.from == 1 && split),
            ("row 16 keep-alive", packet.kind == Kind::KeepAlive),
            ("row 16 keep-alive with an octet", packet.kind == Kind::KeepAlive && packet.len > 0),
            ("row 17 window probe", len == 1 && position == highest && side.window_is_closed()),
            ("row 18 urgent", packet.urg),
            ("row 20 snaplen", captured < packet.len),
            ("row 21 far", side.implausible == Some(self.ledger.record)),
            ("row 21 forged ACK", packet.kind == Kind::Forged && packet.ack.is_some()),
            ("row 21 forged data", packet.kind == Kind::Forged && packet.len > 0),
            ("row 23 opens nothing", unknown && packet.len == 0 && !packet.syn),
            ("row 26 half-closed for long", len > 0 && half_closed),
            ("segments", true),
        ];
        for (what, _) in situations.into_iter().filter(|situation| situation.1) {
            self.census.add(what);
        }
    }

    #[expect(clippy::print_stderr, reason = "a replayed seed shows what happens")]
    pub(crate) fn show(&self, record: &Record, captured: Position) {
        if self.trace {
            let index = self.ledger.record;
            let part = record.fragment.map_or(String::new(), |it| format!(", {}..{} of {}", it.start, it.end, it.of));
            eprintln!("{index:>5} {:>15} {} ({captured} captured{part})", record.time, describe(&record.packet));
        }
    }
}

impl Checker<'_> {
    #[expect(clippy::print_stderr, reason = "a replayed seed shows what happens")]
    pub(crate) fn show_withheld(&self, record: &Record, copied: &Copied) {
        if self.trace {
            let index = self.ledger.record;
            eprintln!("{index:>5} {:>15} {} ({:?})", record.time, describe(&record.packet), copied.extent);
        }
    }
}

fn describe(packet: &Packet) -> String {
    let flags: String = [(packet.syn, 'S'), (packet.fin, 'F'), (packet.rst, 'R'), (packet.psh, 'P'), (packet.urg, 'U')]
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| letter)
        .collect();
    let ack = packet.ack.map_or(String::new(), |ack| format!(" ack {}", ack as i128 - 1));
    format!(
        "talk {} {} [{flags:4}] {}..+{}{ack} win {} {:?}",
        packet.conversation,
        if packet.from == 0 { "->" } else { "<-" },
        packet.seq as i128 - 1,
        packet.len,
        packet.window,
        packet.kind
    )
}
