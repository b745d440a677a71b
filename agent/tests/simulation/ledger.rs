//! What the capture has shown so far of every conversation, from its sender's side: the truth that events are held
//! against. It only ever knows the records up to the current one.

use crate::{
    kernel::{Copied, Taken},
    network::{Capture, Record},
    packet::{Kind, Packet, Position, Side},
    spans::Spans,
};

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) talks: Vec<TalkLedger>,
    /// Index of the current record, counted from 1: 0 is before the first.
    pub(crate) record: usize,
    /// Those of them that the reassembler gets.
    pub(crate) handed: u64,
    /// Latest stamp so far, on the clock that never steps.
    pub(crate) now: u64,
    pub(crate) refused: u64,
    pub(crate) payload: Position,
    /// Octets that the current record was the first to bring.
    pub(crate) fresh: Position,
    /// Of the current record, on the capture's clock.
    pub(crate) stamp: u64,
    require_handshake: bool,
}

#[derive(Default)]
pub(crate) struct TalkLedger {
    pub(crate) sides: [SideLedger; 2],
    /// Stamp and index of the last record; of the one before it.
    pub(crate) last_seen: u64,
    pub(crate) last_stamp: u64,
    /// The first RST that may be believed, and when it came.
    pub(crate) real_rst: Option<usize>,
    pub(crate) rst_seen: u64,
    pub(crate) rsts: u64,
    /// It was not its sender's.
    pub(crate) guessed: bool,
    pub(crate) first_record: Option<usize>,
    /// The first record that may open a connection.
    pub(crate) opener: Option<usize>,
    /// More than SYNs of one side: where endpoints are reused, these are not enough.
    pub(crate) confirmed: bool,
    /// When the last record came that the reassembler got, and its stamp.
    pub(crate) told: u64,
    pub(crate) told_stamp: u64,
    /// The kernel shed it.
    pub(crate) shed: bool,
    /// The kernel's accounts of it are not whole.
    pub(crate) spoilt: bool,
}

#[derive(Default)]
pub(crate) struct SideLedger {
    /// Payload that was captured, and what the snaplen cut off, with the record that brought it first.
    pub(crate) octets: Spans,
    pub(crate) cut: Spans,
    /// What the kernel has copied no more than the headers of.
    pub(crate) bare: Spans,
    /// What was captured last of these octets was not what was sent.
    pub(crate) tampered: Spans,
    /// Nor what was captured first: the true copy closed a connection of which nothing is remembered.
    pub(crate) tampered_first: Spans,
    /// Nor what was captured of them at any time.
    pub(crate) tampered_ever: Spans,
    /// ACKs for this side that somebody else sent, and that may have been believed: they stood for many, or the kernel tells
    /// them.
    pub(crate) forged_acks: Vec<ForgedAck>,
    /// Octets that were captured, each counted once.
    pub(crate) captured: Position,
    /// Segments, forged ones included; those since the last one with an ACK that was handed over; those with URG set.
    pub(crate) segments: u64,
    unheard_segments: u64,
    pub(crate) urgent: u64,
    /// Octets that a full ring has cost: all, and those before the last record of this side.
    pub(crate) lost: [Position; 2],
    /// Behind all that the kernel, or the reassembler, has seen of this side; with the last record, and now.
    pub(crate) sent_end: [Position; 2],
    /// Behind all that the kernel's accounts have of this side: what lies before the first segment has passed, for all they
    /// know.
    account: Option<Position>,
    /// The kernel has withheld some of it.
    pub(crate) withheld: bool,
    /// The kernel has seen its FIN.
    ended: bool,
    pub(crate) syn: Option<usize>,
    pub(crate) syn_ack: Option<usize>,
    pub(crate) fin: Option<(usize, Position)>,
    pub(crate) fin_seen: u64,
    pub(crate) octets_of_syn: Position,
    /// The first SYN-ACK of the peer, and what it acknowledges.
    pub(crate) answered: Option<(usize, Position)>,
    /// ACKs of the peer for this side.
    pub(crate) acks: Vec<Ack>,
    /// The highest one that the kernel tells.
    told_ack: Option<Ack>,
    /// When a segment of the peer was last lost to the ring of whose ACK the kernel does not tell.
    pub(crate) lost_word: u64,
    /// The ring has refused some of whose ACK it does: of several it tells the highest alone, which may be too far without the
    /// others.
    pub(crate) lost_ack: bool,
    /// Records of this side.
    pub(crate) records: Vec<SideRecord>,
    /// Octets of keep-alives: while nothing says that they lie before RCV.NXT, they may be taken for data (row 16).
    pub(crate) ambiguous: Spans,
    /// Of those that the kernel has withheld it says no more than that they were sent.
    pub(crate) withheld_probes: Spans,
    /// Where the stream may have been picked up: every number that anybody has named.
    pub(crate) starts: Vec<Position>,
    /// Behind the last octet captured, before the current record and with it.
    pub(crate) captured_end: [Position; 2],
    /// Segments of which the first fragment was captured, and not all others.
    pub(crate) begun: Vec<Begun>,
    /// The first record that is not within the window that the tap knows of.
    pub(crate) implausible: Option<usize>,
    /// The record that was corroborated after that: from it on all is certain again.
    pub(crate) resumed: Option<usize>,
    /// How often that happened.
    pub(crate) corroborated: u64,
    /// What waits to be corroborated: record, position and end; at most two.
    parked: Vec<(usize, Position, Position)>,
    /// The ring's count at the last record with payload, or without a hole before it.
    refused: Option<u64>,
    highest: Position,
    /// The same by what was handed over alone, and the first record that is not within the window of that.
    heard: Position,
    unheard: Option<usize>,
    window: Option<Position>,
    scale: Option<u8>,
}

#[derive(Clone, Copy)]
pub(crate) struct SideRecord {
    pub(crate) record: usize,
    pub(crate) time: u64,
    pub(crate) position: Position,
    pub(crate) len: Position,
    /// It takes sequence numbers, or seems to.
    pub(crate) occupies: bool,
    /// It completes no handshake: a SYN or an RST.
    pub(crate) opens: bool,
    /// The ring refused records since the one of this side before it that had payload, or named nothing beyond.
    pub(crate) hurt: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Begun {
    /// The record before it.
    pub(crate) record: usize,
    pub(crate) position: Position,
    /// The tap had every reason to believe it.
    pub(crate) sure: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) record: usize,
    pub(crate) time: u64,
    pub(crate) position: Position,
    /// The highest position up to here; of those within the window that the tap knows of (row 21) and not on an RST,
    /// which may be refused.
    pub(crate) reach: Position,
    pub(crate) believable: Position,
    pub(crate) of_rst: bool,
    /// The reassembler got it. Otherwise it is heard when the kernel is asked, or when its sender says it again.
    pub(crate) handed: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct ForgedAck {
    pub(crate) record: usize,
    pub(crate) time: u64,
    pub(crate) position: Position,
}

impl Ledger {
    pub(crate) fn new(capture: &Capture, require_handshake: bool) -> Self {
        let talks = capture.talks.iter().map(|_| TalkLedger::default()).collect();
        Self { talks, require_handshake, ..Self::default() }
    }

    /// Takes note of a record that is about to be handed to the reassembler; `captured` octets of its payload are.
    pub(crate) fn note(&mut self, record: &Record, copied: &Copied) {
        self.record += 1;
        self.handed += 1;
        self.now = self.now.max(record.time);
        self.refused = record.refused;
        self.payload += copied.captured;
        self.apply(record, copied);
    }

    /// Takes note of a record that only the kernel sees: of what it says the reassembler hears sooner or later.
    pub(crate) fn note_withheld(&mut self, record: &Record, copied: &Copied) {
        self.record += 1;
        self.now = self.now.max(record.time);
        self.apply(record, copied);
    }

    /// Takes note of a fragment that begins a segment; the stream has come to `edge`.
    pub(crate) fn note_begun(&mut self, packet: &Packet, edge: Option<Position>) {
        let talk = &mut self.talks[packet.conversation];
        let known = talk.sides.iter().all(|side| side.syn.or(side.syn_ack).is_some());
        let side = &mut talk.sides[packet.from];
        let (position, window) = (packet.position(), side.window.unwrap_or(0).max(1));
        let sure = known && edge.is_some_and(|edge| (edge..side.highest + window).contains(&position));
        side.begun.push(Begun { record: self.record, position, sure });
    }

    /// A connection is picked up that had been given up: nothing before this record is known to it, but for what the kernel
    /// still tells.
    pub(crate) fn forget(&mut self, record: &Record, copied: &Copied) {
        let talk = &mut self.talks[record.packet.conversation];
        let TalkLedger { spoilt, shed, sides, .. } = std::mem::take(talk);
        let sides = sides.map(SideLedger::forget);
        *talk = TalkLedger { spoilt, shed, sides, ..TalkLedger::default() };
        self.apply(record, copied);
    }

    /// A connection is given up, and the kernel is told to forget it.
    pub(crate) fn give_up(&mut self, talk: usize) {
        self.forget_accounts(talk);
        self.talks[talk].sides.iter_mut().for_each(|side| side.forged_acks.clear());
    }

    /// The kernel's accounts of it begin anew.
    pub(crate) fn forget_accounts(&mut self, talk: usize) {
        for side in &mut self.talks[talk].sides {
            (side.told_ack, side.account, side.ended) = (None, None, false);
        }
    }

    fn apply(&mut self, record: &Record, copied: &Copied) {
        let (index, now, packet) = (self.record, self.now, record.packet);
        let (captured, handed) = (copied.captured, copied.extent.is_copied());
        if let Some(forgotten) = copied.forgotten {
            self.forget_accounts(forgotten);
        }
        let talk = &mut self.talks[packet.conversation];
        talk.last_seen = now;
        talk.last_stamp = self.stamp;
        talk.shed |= copied.shed;
        if handed {
            (talk.told, talk.told_stamp) = (now, self.stamp);
        }
        talk.first_record.get_or_insert(index);
        self.fresh = 0;
        let [one, other] = &mut talk.sides;
        let (sender, peer) = if packet.from == 0 { (one, other) } else { (other, one) };
        // The kernel tells an acknowledgment only if it has seen what that is of, or nothing of whom it is for.
        let seen = peer.account.map(|account| account + Position::from(peer.ended));
        let ack = packet.ack.and_then(|ack| ack.checked_sub(1));
        let told = ack.is_some_and(|ack| seen.is_none_or(|seen| ack <= seen));
        let stands_for_many = sender.unheard_segments > 0 || !handed;
        sender.unheard_segments = if handed && packet.ack.is_some() { 0 } else { sender.unheard_segments + 1 };
        if packet.kind == Kind::Forged {
            sender.segments += 1;
            // Of a side that it has not seen the kernel believes any acknowledgment, and tells it ever after.
            let tells = peer.account.is_none() && copied.is_accounted_for();
            let believed = ack.filter(|_| stands_for_many || tells);
            peer.forged_acks.extend(believed.map(|position| ForgedAck { record: index, time: now, position }));
            return;
        }
        let opens = packet.syn || !packet.rst && packet.len > 0 && !self.require_handshake;
        if opens && handed {
            talk.opener.get_or_insert(index);
        }
        if !packet.rst {
            let account = sender.account.get_or_insert_with(|| packet.position());
            if packet.stream_octets() > 0 {
                let end = packet.position() + packet.len;
                *account = end.max(*account);
                sender.sent_end[1] = end.max(sender.sent_end[1]);
            }
        }
        sender.ended |= packet.fin;
        if let Some(ack) = ack.filter(|_| told && copied.is_accounted_for())
            && peer.told_ack.is_none_or(|known| known.position < ack)
        {
            let [position, reach] = [ack; 2];
            peer.told_ack =
                Some(Ack { record: index, time: now, position, reach, believable: 0, of_rst: false, handed: false });
        }
        if talk.opener.is_none() {
            // Nothing is open to take it, and what is opened later hears of it.
            peer.acks = peer.told_ack.into_iter().collect();
            return;
        }
        // A bare ACK confirms no SYN: it may be an old one.
        talk.confirmed |= handed && (packet.len > 0 || packet.syn && packet.ack.is_some());
        talk.sides[packet.from].segments += 1;
        talk.sides[packet.from].urgent += u64::from(packet.urg && handed);
        let scaled = talk.sides.iter().all(|side| side.scale.is_some());
        let known = talk.sides.iter().all(|side| side.syn.or(side.syn_ack).is_some());
        let reset = talk.real_rst.is_some();
        let [one, other] = &mut talk.sides;
        let (sender, peer) = if packet.from == 0 { (one, other) } else { (other, one) };

        let room = |side: &SideLedger| if known { side.window.unwrap_or(0).max(1) } else { 16 << 20 };
        let reach = |side: &SideLedger| side.highest + room(side);
        if copied.extent == Taken::Lost && !told {
            peer.lost_word = now;
        } else if let Some(ack) = ack {
            peer.lost_ack |= copied.extent == Taken::Lost;
            // Of what is lost to the ring the acknowledgment is not, and what its flags would have done is.
            let (syn, rst) = (packet.syn && handed, packet.rst && handed);
            let plausible = ack <= reach(peer) && !rst;
            let (reach, believable) = peer.acks.last().map_or((0, 0), |last| (last.reach, last.believable));
            let believable = if plausible { believable.max(ack) } else { believable };
            let reach = reach.max(ack);
            peer.acks.push(Ack { record: index, time: now, position: ack, reach, believable, of_rst: rst, handed });
            peer.starts.push(ack);
            if syn {
                peer.answered.get_or_insert((index, ack));
            }
            if plausible {
                peer.highest = peer.highest.max(ack);
                if handed && ack <= peer.heard + room(peer) {
                    peer.heard = peer.heard.max(ack);
                }
            }
            let room = room(peer);
            peer.corroborate(room, reset, |_, start, end| start < ack && ack <= end);
        }
        let offered = Position::from(packet.window);
        peer.window = Some(match (sender.scale, packet.syn) {
            (Some(shift), false) if scaled => offered << shift,
            _ => offered,
        });
        let plausible = packet.position() < reach(sender) || sender.records.is_empty();
        let window = room(sender);
        if copied.extent == Taken::Lost {
            sender.lost[0] += copied.lost;
            return;
        }
        sender.withheld |= copied.extent == Taken::Headers || !handed && packet.len > 0;
        if !handed {
            if packet.kind == Kind::KeepAlive {
                sender.withheld_probes.add(packet.position(), packet.position() + packet.len, index);
            }
            // Where a bare ACK stands nobody takes for octets, nor tells.
            if plausible && packet.stream_octets() > 0 {
                sender.highest = sender.highest.max(packet.position() + packet.stream_octets());
            }
            return;
        }
        (sender.lost[1], sender.sent_end[0]) = (sender.lost[0], sender.sent_end[1]);

        if packet.syn {
            sender.scale = packet.scale;
            let syn = if packet.ack.is_some() { &mut sender.syn_ack } else { &mut sender.syn };
            syn.get_or_insert(index);
            sender.octets_of_syn = sender.octets_of_syn.max(packet.len);
        }
        let position = packet.position();
        sender.starts.extend([position, position + packet.len]);
        if packet.rst {
            if talk.real_rst.is_none() {
                (talk.rst_seen, talk.guessed) = (now, packet.kind == Kind::Guessed);
            }
            talk.rsts += 1;
            talk.real_rst.get_or_insert(index);
        }
        let len = packet.stream_octets();
        sender.captured_end[0] = sender.captured_end[1];
        if len > 0 {
            let captured = captured.min(len);
            self.fresh = sender.octets.add(position, position + captured, index);
            sender.captured += self.fresh;
            if packet.kind == Kind::Tampered {
                if self.fresh == captured {
                    sender.tampered_first.add(position, position + captured, index);
                }
                sender.tampered.add(position, position + captured, index);
                sender.tampered_ever.add(position, position + captured, index);
            } else if !sender.tampered.is_empty() {
                sender.tampered.remove(position, position + captured);
            }
            sender.captured_end[1] = sender.captured_end[1].max(position + captured);
            let missing = if copied.extent == Taken::Whole { &mut sender.cut } else { &mut sender.bare };
            missing.add(position + captured, position + len, index);
        } else if packet.kind == Kind::KeepAlive && packet.len > 0 {
            sender.ambiguous.add(position, position + 1, index);
        }
        if packet.fin {
            sender.fin_seen = if sender.fin.is_none() { now } else { sender.fin_seen };
            sender.fin.get_or_insert((index, position + packet.len));
        }
        let occupies = !packet.rst && packet.end() > packet.seq;
        if plausible && occupies {
            sender.highest = sender.highest.max(position + len);
            if position < sender.heard + window {
                sender.heard = sender.heard.max(position + len);
            } else {
                sender.unheard.get_or_insert(index);
            }
        }
        if occupies && sender.corroborate(window, reset, |_, _, end| end == position) {
            sender.highest = sender.highest.max(position + len);
        } else if !plausible && occupies {
            sender.implausible.get_or_insert(index);
            sender.resumed = None;
            sender.park(index, position, position + len);
        } else if !plausible {
            sender.implausible.get_or_insert(index);
        }
        let hurt = len > 0 && sender.refused.is_some_and(|before| before != record.refused);
        if len > 0 || position <= sender.highest {
            sender.refused = Some(record.refused);
        }
        let opens = packet.syn || packet.rst;
        sender.records.push(SideRecord { record: index, time: now, position, len, occupies, opens, hurt });
    }

    pub(crate) fn side(&self, talk: usize, side: Side) -> &SideLedger {
        &self.talks[talk].sides[side]
    }
}

impl TalkLedger {
    /// The first RST was not accepted, or proved to be ignored: octets came behind it, and the peer acknowledged them,
    /// within `hold`.
    pub(crate) fn goes_on_after_rst(&self, hold: u64) -> bool {
        let Some(rst) = self.real_rst else { return true };
        self.sides.iter().any(|side| {
            let held = side.octets.all().filter(|span| span.2 > rst);
            let acked = |(from, _, record): (Position, Position, usize)| {
                let mut acks = side.acks.iter().filter(|ack| ack.record > record && ack.time < self.rst_seen + hold);
                acks.any(|ack| ack.position > from)
            };
            held.into_iter().any(acked)
        })
    }
}

impl SideLedger {
    /// What the kernel still tells.
    fn forget(self) -> Self {
        let Self { forged_acks, told_ack, account, sent_end, ended, .. } = self;
        let acks = told_ack.into_iter().collect();
        Self { acks, forged_acks, told_ack, account, sent_end, ended, ..Self::default() }
    }

    fn park(&mut self, record: usize, position: Position, end: Position) {
        self.parked.push((record, position, end));
        if self.parked.len() > 2 {
            self.parked.remove(0);
        }
    }

    /// Row 21: a segment far from everything known is believed when the peer acknowledges within it, or another one
    /// continues it. Whether there was one. What comes behind an RST may be dropped, and then corroborates nothing.
    fn corroborate(
        &mut self,
        window: Position,
        reset: bool,
        is_it: impl Fn(usize, Position, Position) -> bool,
    ) -> bool {
        let Some(at) = self.parked.iter().position(|&(record, start, end)| is_it(record, start, end)) else {
            return false;
        };
        let (record, _, end) = self.parked.remove(at);
        self.corroborated += 1;
        self.highest = self.highest.max(end);
        // What is still far away after that remains in doubt.
        self.parked.retain(|(_, start, _)| *start >= end + window);
        if self.parked.is_empty() && !reset {
            self.resumed = Some(record);
        }
        true
    }

    /// When the peer was first seen to acknowledge everything below `position`, by record `until`.
    pub(crate) fn acked(&self, position: Position, until: usize) -> Option<u64> {
        let at = self.acks.partition_point(|ack| ack.reach < position);
        self.acks.get(at).filter(|ack| ack.record <= until).map(|ack| ack.time)
    }

    /// Octets that the snaplen cut off by the records that `known` picks, and those of them that came before an RST: what
    /// comes behind it is held, and may be dropped.
    pub(crate) fn cut_within(
        &self,
        start: Position,
        end: Position,
        known: impl Fn(usize) -> bool,
        rst: usize,
    ) -> (Position, Position) {
        let spans = self.cut.within(start, end).filter(|span| known(span.2));
        spans.fold((0, 0), |(all, surely), (from, to, record)| {
            (all + to - from, if record < rst { surely + to - from } else { surely })
        })
    }

    /// Whether an octet at `position` may be a keep-alive's, which nobody can know.
    pub(crate) fn may_be_probed(&self, position: Position) -> bool {
        [&self.ambiguous, &self.withheld_probes]
            .into_iter()
            .any(|probes| probes.within(position, position + 1).next().is_some())
    }

    /// Behind the last of them.
    pub(crate) fn probed_end(&self) -> Position {
        let probes = [&self.ambiguous, &self.withheld_probes].into_iter().flat_map(Spans::all);
        probes.map(|(_, end, _)| end).max().unwrap_or(0)
    }

    pub(crate) fn window_is_closed(&self) -> bool {
        self.window == Some(0)
    }

    pub(crate) fn all_plausible(&self) -> bool {
        self.implausible.is_none()
    }

    /// Whether only what the kernel has told, if it did, makes `record` or one before it plausible.
    pub(crate) fn is_unheard(&self, record: usize) -> bool {
        self.unheard.is_some_and(|first| first <= record)
    }
}
