//! What a single record must do to the counters. Where the capture leaves no doubt, each figure is known from outside.

use std::collections::HashMap;

use agent::reassembly::{Config, Ended, GAPS_KEPT, Gap, Late, Overlap, Stats, StreamSummary};

use crate::{
    checker::{Checker, Declared, Open, OpenStream, Step},
    drive::{EPOCH, flags},
    ledger::SideLedger,
    network::Record,
    packet::{Kind, Packet, Position, Side},
    plan::MS,
};

/// What is expected of the record at hand, as far as it has to be known before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected {
    /// The conversation was open, and its sender's stream had come so far.
    edge: Option<Position>,
    /// Octets of which another copy, with other values, waits.
    conflict: Position,
    /// The frame has been captured before, within 10 ms.
    twin: bool,
}

/// Figures of a stream that are told when it closes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    doubtful: bool,
    retransmitted: u64,
    /// One octet may be a probe.
    perhaps_retransmitted: u64,
    out_of_order: u64,
    conflict: Position,
    late: Position,
}

/// Frames of a connection and when each was last seen (row 29): by side, sequence number, length, flags and
/// identification.
#[derive(Debug, Default)]
pub(crate) struct Frames(HashMap<(Side, Position, Position, u8, u16), u64>);

impl Frames {
    /// Whether the same was seen within 10 ms; `now` is when it is now.
    fn has(&self, packet: &Packet, now: u64) -> bool {
        let seen = name(packet).and_then(|name| self.0.get(&name));
        seen.is_some_and(|seen| microseconds(now) - microseconds(*seen) <= microseconds(10 * MS))
    }

    fn note(&mut self, packet: &Packet, now: u64) {
        if let Some(name) = name(packet) {
            self.0.insert(name, now);
        }
    }

    /// There are so many that the reassembler may have forgotten some.
    fn are_many(&self) -> bool {
        self.0.len() > 1_000
    }
}

fn name(packet: &Packet) -> Option<(Side, Position, Position, u8, u16)> {
    let id = packet.id.filter(|id| *id != 0)?;
    Some((packet.from, packet.seq, packet.len, flags(packet).0, id))
}

/// In which the reassembler counts here, each of 1,024 ns.
fn microseconds(time: u64) -> u64 {
    time >> 10
}

impl Checker<'_> {
    /// Before the ledger takes note of the record.
    pub(crate) fn expect(&self, packet: &Packet, captured: Position) -> Expected {
        let Some(open) = self.open_of(packet.conversation) else { return Expected::default() };
        let edge = open.streams[packet.from].edge;
        let ledger = self.ledger.side(packet.conversation, packet.from);
        let captured = self.wanted(packet, captured);
        let (start, end) = (packet.position().max(edge), packet.position() + captured);
        let tampered: Position = ledger.tampered.within(start, end).map(|(from, until, _)| until - from).sum();
        let conflict = match (packet.kind, self.config.overlap) {
            (Kind::Tampered, Overlap::First) => end.saturating_sub(start),
            (Kind::Tampered, Overlap::Last) => end.saturating_sub(start) - tampered,
            (Kind::Real, Overlap::Last) => tampered,
            _ => 0,
        };
        Expected { edge: Some(edge), conflict, twin: false }
    }

    /// After the ledger has taken note of the record, and before the reassembler sees it: what will be said of its stream
    /// at the end.
    pub(crate) fn foresee(&mut self, packet: &Packet, captured: Position) {
        let (talk, side) = (packet.conversation, packet.from);
        let Some(slot) = self.slot_of(talk).filter(|_| packet.kind != Kind::Forged) else { return };
        let captured = self.wanted(packet, captured);
        let fresh = self.fresh(packet, captured);
        let (sure, conflict) = (self.is_sure(&self.open[&slot], side, packet), self.expected.conflict);
        let now = EPOCH + self.now();
        let twin = self.open[&slot].frames.has(packet, now);
        self.expected.twin = twin;
        let wall = self.wall();
        let Some(open) = self.open.get_mut(&slot) else { return };
        let stream = &mut open.streams[side];
        let (start, end) = (packet.position(), packet.position() + captured);
        let late = match self.config.late {
            Late::Fill => Vec::new(),
            Late::Count => stream.missing.within(start, end).collect(),
        };
        if packet.kind != Kind::KeepAlive {
            late.iter().for_each(|(from, until, index)| stream.gaps[*index].late += until - from);
        }
        let late: Position = late.iter().map(|(from, until, _)| until - from).sum();
        let seen = packet.kind != Kind::KeepAlive && captured > 0 && fresh == 0 && late == 0 && !twin;
        let figures = &mut stream.figures;
        figures.doubtful |= !sure;
        figures.retransmitted += u64::from(seen && packet.len > 1);
        // One octet may be a probe.
        figures.perhaps_retransmitted += u64::from(seen && packet.len == 1);
        figures.out_of_order += u64::from(packet.stream_octets() > 0 && start > stream.edge && start < wall && !twin);
        figures.conflict += conflict;
        figures.late += if packet.kind == Kind::KeepAlive { 0 } else { late };
    }

    /// After the reassembler has taken the record.
    pub(crate) fn judge_figures(&mut self, record: &Record, captured: Position, before: &Stats, after: &Stats) {
        let packet = &record.packet;
        let expected = self.expected;
        let talk = packet.conversation;
        let moved = |figure: fn(&Stats) -> u64| figure(after).wrapping_sub(figure(before)).cast_signed();
        let octets = captured as i64;
        let Some(slot) = self.slot_of(talk) else {
            if expected.edge.is_none() {
                self.judge_stranger(record, octets, moved);
            }
            return;
        };
        if self.scenario.is_strict() {
            return self.judge_strictness(packet, octets, moved);
        }
        let now = EPOCH + self.now();
        let Some(open) = self.open.get_mut(&slot) else { return };
        open.frames.note(packet, now);
        let Some(open) = self.open.get(&slot) else { return };
        if packet.kind == Kind::Forged {
            let reset = self.ledger.talks[talk].real_rst.is_some();
            // What somebody else has sent behind a cut-off the kernel may have believed, and what it is near to.
            let spoilt = self.ledger.talks[talk].spoilt;
            if packet.rst && !reset && !spoilt && moved(|stats| stats.rst_implausible) != 1 {
                self.fail(|| "a forged RST was not refused".into());
            }
            self.forged += captured;
            return;
        }
        let side = packet.from;
        let sure = self.is_sure(open, side, packet);
        let behind = captured;
        let captured = self.wanted(packet, captured);
        let (octets, behind) = (captured as i64, (behind - captured) as i64);
        let (start, end) = (packet.position(), packet.position() + captured);
        let stream = &open.streams[side];
        let ledger = self.ledger.side(talk, side);
        let edge = expected.edge.unwrap_or(0);
        if !sure {
            return;
        }
        let twins = moved(|stats| stats.duplicate_frames);
        if twins != i64::from(expected.twin) && !open.frames.are_many() {
            return self.fail(|| format!("{twins} frames were captured twice, not {}", expected.twin));
        }
        self.census.add_many("row 29 frame seen twice", u64::from(expected.twin));
        if packet.kind == Kind::KeepAlive {
            let is_probe = packet.len == 1 && captured == 1 && edge > 0 && end == edge;
            if is_probe && moved(|stats| stats.probe) != 1 {
                self.fail(|| "a keep-alive's octet was not taken for one".into());
            }
            return;
        }
        let waiting = ledger.captured.saturating_sub(stream.delivered + stream.figures.late);
        if waiting > self.config.max_stream_queue.into() && self.config.cutoff.is_none() {
            return self.fail(|| format!("{waiting} octets of one stream are queued"));
        }
        let count = |spans: &dyn Fn() -> Position| spans() as i64;
        let fresh = self.fresh(packet, captured) as i64;
        let late = match self.config.late {
            Late::Fill => 0,
            Late::Count => count(&|| stream.missing.within(start, end).map(|(from, until, _)| until - from).sum()),
        };
        let fresh_below = match self.config.late {
            Late::Fill => 0,
            Late::Count => count(&|| fresh_below(ledger, start, end.min(edge), self.ledger.record)),
        };
        let cut = moved(|stats| stats.cutoff);
        if cut != behind && moved(|stats| stats.probe) == 0 {
            return self.fail(|| format!("{cut} octets lay behind the cut-off, not {behind}"));
        }
        let probe = moved(|stats| stats.probe);
        let kept = moved(|stats| stats.delivered) + moved(|stats| stats.queued);
        let again = moved(|stats| stats.duplicate) + moved(|stats| stats.conflict);
        let conflict = moved(|stats| stats.conflict);
        let figures = (kept, again, conflict, moved(|stats| stats.late));
        let right = (fresh - fresh_below, octets - late - (fresh - fresh_below), expected.conflict as i64, late);
        // With many gaps those forgotten make late octets duplicates.
        let wrong = probe == 0 && figures != right && stream.knows_all_gaps(&self.config);
        if wrong || probe > 0 && (captured > 1 || fresh > 0) {
            self.fail(|| {
                format!("kept, seen again, in conflict, late: {figures:?}, not {right:?}; {probe} octets are a probe")
            });
        }
    }

    /// A record that the strict checks may have refused, of a conversation that is open.
    fn judge_strictness(&mut self, packet: &Packet, octets: i64, moved: impl Fn(fn(&Stats) -> u64) -> i64) {
        let (fsm, options) = (moved(|stats| stats.refused_fsm), moved(|stats| stats.refused_options));
        let refused = fsm + options;
        let allowed = i64::from(self.config.strict_fsm) + i64::from(self.config.strict_options);
        if fsm > i64::from(self.config.strict_fsm) || options > i64::from(self.config.strict_options) {
            return self.fail(|| format!("{refused} refused, by checks that are off"));
        }
        if refused > allowed.min(1) || moved(|stats| stats.strict) != octets * refused {
            return self.fail(|| format!("{refused} refused, of {octets} octets"));
        }
        let known = self.mss[packet.conversation];
        if packet.syn {
            if refused == 0 {
                self.mss[packet.conversation][packet.from] = packet.mss;
            }
        } else if let Some(mss) = known[1 - packet.from]
            && self.config.strict_options
            && packet.len > mss.into()
            && refused == 0
        {
            self.fail(|| format!("{} octets were not refused where the MSS is {mss}", packet.len));
        }
    }

    /// A record whose conversation is open neither before nor after it.
    fn judge_stranger(&mut self, record: &Record, octets: i64, moved: impl Fn(fn(&Stats) -> u64) -> i64) {
        let packet = &record.packet;
        let talk = packet.conversation;
        let pair = self.capture.talks[talk].pair;
        if self.scenario.pairs[pair].len() > 1 || !self.is_steady() {
            // It may count for another conversation on the same endpoints.
            return;
        }
        let taken = moved(|stats| stats.delivered) + moved(|stats| stats.queued) + moved(|stats| stats.duplicate);
        let right = match self.became[talk].last().and_then(|last| last.closed) {
            Some((_, Ended::Fin | Ended::Rst, when)) if self.lingers_since(when) && !packet.syn => {
                (moved(|stats| stats.after_close), moved(|stats| stats.lingering)) == (octets, 1)
            }
            None if !packet.syn && octets == 0 => moved(|stats| stats.orphans) <= 1,
            None if packet.rst => moved(|stats| stats.rst_payload) == octets && moved(|stats| stats.orphans) == 1,
            None if self.config.require_handshake && !packet.syn => moved(|stats| stats.no_handshake) == octets,
            _ => true,
        };
        if taken != 0 || !right {
            self.fail(|| format!("{octets} octets of no open connection were not counted as such ({taken} taken)"));
        }
    }

    /// The closing figures of a stream about which there was no doubt.
    pub(crate) fn judge_closing_figures(&self, open: &Open, side: Side, numbers: &StreamSummary<'_>) -> Option<String> {
        let figures = &open.streams[side].figures;
        let ledger = self.ledger.side(open.talk, side);
        let (told, right) = ((numbers.segments, numbers.urgent), (ledger.segments, ledger.urgent));
        let talk = &self.ledger.talks[open.talk];
        // What lies in the ring is counted already.
        let passes = |record: &&Record| (record.packet.conversation, record.packet.from) == (open.talk, side);
        let more = if self.has_passed_more() { self.passes().filter(passes).count() as u64 } else { 0 };
        let counted = (right.0..=right.0 + more).contains(&told.0) || more > 0 && !self.is_steady();
        if self.is_alone(open) && open.since == 0 && !(talk.spoilt || counted && told.1 == right.1) {
            return Some(format!("segments and urgent ones: {told:?}, not {right:?}"));
        }
        let (lost, [most, least]) = (Position::from(numbers.ring_full), ledger.lost);
        let most = if self.has_passed_more() { Position::MAX } else { most };
        // What was lost before its first record is nobody's.
        let begins = talk.sides.iter().all(SideLedger::begins_with_syn);
        let least = if begins { least } else { 0 };
        if self.is_alone(open) && open.since == 0 && !talk.spoilt && !(least..=most).contains(&lost) {
            return Some(format!("{lost} octets were lost to the ring, not {:?}", ledger.lost));
        }
        // An ACK that is ahead of what is in the ring may be believed later, and what it corroborates be parked until then.
        if figures.doubtful
            || self.is_ahead()
            || self.scenario.is_strict()
            || open.since > 0
            || ledger.syn.or(ledger.syn_ack).is_none()
        {
            return None;
        }
        let late = |gap: &Gap| {
            let declared = &open.streams[side].gaps;
            let inside = |one: &&Declared| (gap.offset..gap.offset + gap.len).contains(&one.gap.offset);
            declared.iter().filter(inside).map(|one| one.late).sum::<Position>()
        };
        if self.config.late == Late::Count
            && let Some(gap) = numbers.gaps.iter().find(|gap| late(gap) != gap.late.into())
        {
            return Some(format!("{} octets were late for {gap:?}", late(gap)));
        }
        let told = (Position::from(numbers.conflict), Position::from(numbers.late), numbers.out_of_order);
        let right = (figures.conflict, figures.late, figures.out_of_order);
        let least = figures.retransmitted;
        let most = least + figures.perhaps_retransmitted;
        (told != right && open.streams[side].knows_all_gaps(&self.config) || !(least..=most).contains(&numbers.retransmitted))
            .then(|| {
                let retransmitted = numbers.retransmitted;
                format!(
                    "conflict, late, out of order: {told:?}, not {right:?}; {retransmitted} retransmitted, not {least} to {most}"
                )
            })
    }

    /// Nothing that the tap has seen leaves a doubt about where the octets of this record belong.
    fn is_sure(&self, open: &Open, side: Side, packet: &Packet) -> bool {
        let talk = &self.ledger.talks[open.talk];
        let ledger = &talk.sides[side];
        let pair = self.capture.talks[open.talk].pair;
        let succeeded = self.capture.talks[open.talk + 1..].iter().any(|later| later.pair == pair);
        let begins = open.since == 0 && ledger.begins_with_syn();
        // What opens a connection may close another one.
        let opens = packet.syn && (self.capture.talks[open.talk].index > 0 || self.small_limits());
        // A record may end the pickup of the other side, of which something is cut off then.
        let picked_up = |side: &SideLedger| !side.records.is_empty() && !side.begins_with_syn();
        let cuts = self.config.cutoff.is_some() && talk.sides.iter().any(picked_up);
        // And the limit for all may take from another one.
        begins
            && !cuts
            && !opens
            && self.config.max_total_queue == Config::default().max_total_queue
            && !self.may_give_up_syn(open)
            && !packet.rst
            && !succeeded
            && talk.real_rst.is_none()
            && talk.is_plausible()
            && ledger.cut.is_empty()
            && ledger.ambiguous.is_empty()
            && !talk.shed
            && !talk.spoilt
    }

    /// How many of the captured octets lie before the cut-off, in a stream that begins with its SYN.
    fn wanted(&self, packet: &Packet, captured: Position) -> Position {
        if packet.stream_octets() == 0 { captured } else { captured.min(self.wall().saturating_sub(packet.position())) }
    }

    /// How many of those came with the record at hand for the first time.
    fn fresh(&self, packet: &Packet, wanted: Position) -> Position {
        let ledger = self.ledger.side(packet.conversation, packet.from);
        if packet.stream_octets() == 0 {
            return self.ledger.fresh;
        }
        fresh_below(ledger, packet.position(), packet.position() + wanted, self.ledger.record)
    }

    /// The kernel's accounts may know of records that are still in the ring.
    pub(crate) fn is_ahead(&self) -> bool {
        self.scenario.kernel.is_some_and(|plan| plan.ahead > 0)
    }

    /// Whether more has passed the kernel than has been taken: what is ahead of the ring, or the record at hand, before which
    /// timers run.
    fn has_passed_more(&self) -> bool {
        let next = self.capture.records.get(self.ledger.record);
        let is_at_hand = self.step == Step::Timeout && next.is_some_and(|next| next.time <= self.now());
        self.is_ahead() || self.scenario.kernel.is_some() && is_at_hand
    }
}

impl OpenStream {
    /// The reassembler keeps 512 gaps of a stream, of which what comes late makes more; or fewer while the queues of all
    /// streams are full.
    pub(crate) fn knows_all_gaps(&self, config: &Config) -> bool {
        let kept = if config.max_total_queue < Config::default().max_total_queue { GAPS_KEPT } else { 512 };
        self.gaps.len() + self.fills <= kept
    }
}

/// Octets of `start..end` that came with this record for the first time.
fn fresh_below(ledger: &SideLedger, start: Position, end: Position, record: usize) -> Position {
    let spans = ledger.octets.within(start, end.max(start)).filter(|span| span.2 == record);
    spans.map(|(from, until, _)| until - from).sum()
}
