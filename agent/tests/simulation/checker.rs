//! The sink that believes nothing: it holds every event against the ledger. What can be judged at once is; gaps and
//! whole streams are judged when their connection closes (see `verdict.rs`).

use std::collections::{HashMap, HashSet};

use agent::{
    reassembly::{Config, ConnectionId, Direction, Ended, Event, Gap, GapCause, Late, Overlap, Sink, Summary},
    segment::Endpoint,
};
use agent_common::counter::Counter;

use crate::{
    census::{self, Census},
    content::Content,
    drive::EPOCH,
    figures::{Expected, Figures, Frames},
    kernel::{Copied, Taken},
    ledger::{Ledger, SideLedger},
    network::{Capture, Record, TalkEnd},
    packet::{Kind, Packet, Position, Side},
    scenario::Scenario,
    spans::Spans,
};

pub(crate) struct Checker<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) capture: &'a Capture,
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
    pub(crate) census: Census,
    pub(crate) contents: Vec<[Content; 2]>,
    /// The first thing that was wrong.
    pub(crate) failure: Option<String>,
    pub(crate) delivered: Position,
    /// Octets in gaps; those of them that came late; those in trailing gaps.
    pub(crate) missed: [Position; 3],
    pub(crate) evicted: u64,
    pub(crate) reset: u64,
    pub(crate) urgent: u64,
    /// By conversation and side: the MSS of the last SYN that the strict checks let pass.
    pub(crate) mss: Vec<[Option<u16>; 2]>,
    pub(crate) trace: bool,
    /// Time that timers were given, on the clock that never steps.
    pub(crate) clock_hint: u64,
    /// What the reassembler is doing.
    pub(crate) step: Step,
    pub(crate) steps: usize,
    pub(crate) current: Option<Record>,
    pub(crate) syns: Vec<Record>,
    /// What became of it in the kernel.
    pub(crate) copied: Option<Copied>,
    /// Octets that full rings have cost, as told.
    pub(crate) ring_full: u64,
    /// In trailing gaps, behind a cut-off and of connections that were shed.
    pub(crate) unwanted: [Position; 2],
    pub(crate) open: HashMap<u32, Open>,
    /// What the record at hand should do.
    pub(crate) expected: Expected,
    /// Octets of segments that nobody sent.
    pub(crate) forged: Position,
    /// Of the record at hand, on the capture's clock.
    pub(crate) stamp: u64,
    pub(crate) serials: HashSet<u64>,
    /// By conversation: the connections it became, in order.
    pub(crate) became: Vec<Vec<Became>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Segment,
    Timeout,
    Finish,
}

/// A connection that the reassembler has open.
pub(crate) struct Open {
    pub(crate) serial: u64,
    pub(crate) talk: usize,
    /// Which side is the client.
    pub(crate) client: Side,
    /// Records up to this one belong to an earlier connection.
    pub(crate) since: usize,
    /// The record with which it was opened: the first one, or what confirmed the SYN that reused the endpoints.
    pub(crate) opened: usize,
    /// Stamps of its first segment and of the last word about it.
    pub(crate) start: u64,
    /// When it was opened, and when it was last told of. What came due in a silence is done as of before.
    pub(crate) opened_at: u64,
    pub(crate) updated: u64,
    pub(crate) streams: [OpenStream; 2],
    pub(crate) frames: Frames,
}

/// By side.
#[derive(Default)]
pub(crate) struct OpenStream {
    /// Where offset 0 may lie, until the octets leave only one possibility.
    pub(crate) bases: Option<Vec<Position>>,
    pub(crate) edge: Position,
    pub(crate) delivered: Position,
    pub(crate) gaps: Vec<Declared>,
    /// Of the declared gaps, what is still missing; the record is the gap's index.
    pub(crate) missing: Spans,
    pub(crate) fills: usize,
    /// When to look for an overdue gap.
    pub(crate) look_again: u64,
    pub(crate) figures: Figures,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    pub(crate) gap: Gap,
    pub(crate) record: usize,
    pub(crate) step: usize,
    pub(crate) time: u64,
    pub(crate) refused: u64,
    /// Octets that came for it and could not be written into place, each copy counted.
    pub(crate) late: Position,
}

/// What a conversation became.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Became {
    pub(crate) serial: u64,
    pub(crate) closed: Option<(usize, Ended, u64)>,
    /// Octets of both streams that are in gaps.
    pub(crate) missing: Position,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(scenario: &'a Scenario, capture: &'a Capture, trace: bool) -> Self {
        let talks = capture.talks.len();
        Self {
            scenario,
            capture,
            config: scenario.config,
            ledger: Ledger::new(capture, scenario.config.require_handshake),
            census: Census::default(),
            contents: (0..talks).map(|talk| [0, 1].map(|side| Content::new(scenario.seed, talk, side))).collect(),
            failure: None,
            delivered: 0,
            missed: [0; 3],
            evicted: 0,
            reset: 0,
            urgent: 0,
            mss: vec![[None; 2]; talks],
            trace,
            clock_hint: 0,
            step: Step::Timeout,
            steps: 0,
            current: None,
            syns: Vec::new(),
            copied: None,
            ring_full: 0,
            unwanted: [0; 2],
            open: HashMap::new(),
            expected: Expected::default(),
            forged: 0,
            stamp: 0,
            serials: HashSet::new(),
            became: vec![Vec::new(); talks],
        }
    }

    /// The reassembler is about to do something.
    pub(crate) fn begin(&mut self, step: Step, current: Option<Record>, captured: Position) {
        self.step = step;
        self.steps += 1;
        self.current = current;
        if let Some((record, copied)) = current.zip(self.copied) {
            self.ledger.stamp = self.stamp;
            self.expected = self.expect(&record.packet, captured);
            self.ledger.note(&record, &copied);
            self.foresee(&record.packet, captured);
            if record.packet.syn && record.packet.kind == Kind::Real {
                self.syns.push(record);
            }
        }
    }

    /// A record passes that the kernel withholds, or has no room for.
    pub(crate) fn note_withheld(&mut self, record: &Record, copied: &Copied) {
        self.census.add(match copied.extent {
            Taken::Withheld(Counter::WithheldAcks) => "row 27 bare ACK withheld",
            Taken::Withheld(Counter::WithheldCutoff) => "row 27 cut off",
            Taken::Withheld(Counter::ShedFrames) => "row 27 shed",
            _ => "row 27 lost to the ring",
        });
        self.ledger.stamp = EPOCH + record.time;
        self.ledger.note_withheld(record, copied);
        self.show_withheld(record, copied);
    }

    /// The reassembler has asked the kernel.
    pub(crate) fn note_asked(&mut self) {
        self.census.add("row 27 asked");
    }

    /// A fragment that begins a segment is about to be handed to the reassembler.
    pub(crate) fn note_begun(&mut self, packet: &Packet) {
        let edge = self.open_of(packet.conversation).map(|open| open.streams[packet.from].edge);
        self.ledger.note_begun(packet, edge);
    }

    pub(crate) fn fail(&mut self, why: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(format!("at record {}: {}", self.ledger.record, why()));
        }
    }

    /// The slot of the connection that a conversation has now.
    pub(crate) fn slot_of(&self, talk: usize) -> Option<u32> {
        self.open.iter().find(|(_, open)| open.talk == talk).map(|(slot, _)| *slot)
    }

    pub(crate) fn open_of(&self, talk: usize) -> Option<&Open> {
        self.open.values().find(|open| open.talk == talk)
    }

    /// No step has come between the capture's clock and the one that never steps.
    pub(crate) fn is_steady(&self) -> bool {
        self.scenario.tap.step.is_none() && self.config.clock_step == Config::default().clock_step
    }

    /// Whether the endpoints of a connection that closed at `when` still absorb what comes late.
    pub(crate) fn lingers_since(&self, when: u64) -> bool {
        self.config.max_linger >= 1_000 && self.ledger.now < when + self.config.linger
    }

    pub(crate) fn still_open(&self) -> usize {
        self.open.len()
    }

    fn on_update(&mut self, open: &mut Open, summary: &Summary<'_>) {
        self.census.add("updates");
        let elapsed = self.now() - open.updated;
        if self.is_steady() && elapsed < self.config.update_interval {
            self.fail(|| format!("an update {elapsed} ns after the last word"));
        }
        // It may have come due in a silence and be told only now: then the next one is due the sooner.
        open.updated = self.now().min(open.updated.saturating_add(self.config.update_interval));
        for direction in Direction::BOTH {
            let wrong = self.judge_summary(&open.streams[open.side(direction)], &summary.streams[direction as usize]);
            if let Some(why) = wrong {
                self.fail(|| format!("update of {direction:?}: {why}"));
            }
        }
    }

    /// On the clock that never steps.
    pub(crate) fn now(&self) -> u64 {
        self.ledger.now.max(self.clock_hint)
    }

    fn on_data(&mut self, open: &mut Open, direction: Direction, offset: Position, bytes: &[u8]) {
        let side = open.side(direction);
        let bases = self.bases(open, side);
        let stream = &mut open.streams[side];
        if offset != stream.edge || bytes.is_empty() {
            let edge = stream.edge;
            return self.fail(|| format!("{} octets at {offset}, expected at {edge}", bytes.len()));
        }
        let before = bases.len();
        let probes = &self.ledger.side(open.talk, side).ambiguous;
        let fits: Vec<_> = bases
            .iter()
            .copied()
            .filter(|base| {
                self.mismatch(open.talk, side, base + offset, bytes).is_none()
                    || bytes.len() == 1 && probes.within(base + offset, base + offset + 1).next().is_some()
            })
            .collect();
        if fits.is_empty() {
            let at = (before == 1).then(|| self.mismatch(open.talk, side, bases[0] + offset, bytes));
            self.fail(|| format!("octets at {direction:?} {offset}..+{} were never sent there: {at:?}", bytes.len()));
        } else {
            stream.bases = Some(fits);
        }
        stream.edge += bytes.len() as Position;
        let edge = stream.edge;
        if edge > self.wall() {
            self.fail(|| format!("octets up to {edge} of {direction:?}, behind the cut-off"));
        }
        let talk = &self.ledger.talks[open.talk];
        // Nobody may have heard of it before the accounts began anew.
        if talk.shed && !talk.spoilt && open.since == 0 && self.is_alone(open) {
            self.fail(|| "octets of a connection that was shed".into());
        }
        let stream = &mut open.streams[side];
        stream.delivered += bytes.len() as Position;
        self.delivered += bytes.len() as Position;
    }

    /// Index of the first octet that should not stand at `position` and on. With `Overlap::Last` what was captured last
    /// while the octets waited is right.
    fn mismatch(&self, talk: usize, side: Side, position: Position, octets: &[u8]) -> Option<usize> {
        let (content, ledger) = (self.contents[talk][side], self.ledger.side(talk, side));
        if ledger.tampered_ever.is_empty() {
            return content.mismatch(position, octets);
        }
        let right = if self.config.overlap == Overlap::First { &ledger.tampered_first } else { &ledger.tampered };
        let right = content.mismatch(position, &untampered(right, position, octets));
        // Strict checks may have refused any copy. Of what waits to be corroborated the first one may have been dropped, and
        // what waits behind an RST, or with a SYN that reuses endpoints, comes out as if it had not waited.
        let any = self.scenario.is_strict()
            || !ledger.all_plausible()
            || self.ledger.talks[talk].real_rst.is_some()
            || self.capture.talks[talk].index > 0 && position < ledger.octets_of_syn;
        right.filter(|_| !any).or_else(|| right.and_then(|_| self.mismatch_of_all(talk, side, position, octets)))
    }

    /// The same where any copy is right.
    fn mismatch_of_all(&self, talk: usize, side: Side, position: Position, octets: &[u8]) -> Option<usize> {
        let (content, ledger) = (self.contents[talk][side], self.ledger.side(talk, side));
        let mut other = octets.to_vec();
        tamper(&mut other);
        let mut at = 0;
        while let Some(changed) = content.mismatch(position + at as Position, &octets[at..]) {
            at += changed;
            let here = position + at as Position;
            let mut tampered = ledger.tampered_ever.within(here, position + octets.len() as Position);
            let Some((_, until, _)) = tampered.next().filter(|(from, ..)| *from == here) else { return Some(at) };
            let until = (until - position) as usize;
            at = match content.mismatch(here, &other[at..until]) {
                Some(0) => return Some(at),
                Some(right) => at + right,
                None => until,
            };
        }
        None
    }

    fn on_gap(&mut self, open: &mut Open, direction: Direction, gap: Gap) {
        let side = open.side(direction);
        let stream = &mut open.streams[side];
        self.census.add_many(census::cause(gap.cause), 1);
        if Position::from(gap.offset + gap.len) > self.wall() {
            self.fail(|| format!("{gap:?} goes beyond the cut-off"));
        }
        let acknowledged = gap.cause == GapCause::NotCaptured;
        self.census.add(if acknowledged { "row 06 acknowledged hole" } else { "row 07 hole that nobody fills" });
        let (start, end) = (Position::from(gap.offset), Position::from(gap.offset) + Position::from(gap.len));
        if start != stream.edge || start == end {
            let edge = stream.edge;
            self.fail(|| format!("{gap:?} does not begin at {edge}"));
        }
        self.missed[0] += end - start;
        let index = stream.gaps.len();
        stream.gaps.push(Declared {
            gap,
            record: self.ledger.record,
            step: self.steps,
            time: self.ledger.now.max(self.clock_hint),
            refused: self.ledger.refused,
            late: 0,
        });
        stream.missing.add(start, end, index);
        stream.edge = end;
    }

    fn on_late(&mut self, open: &mut Open, direction: Direction, offset: Position, bytes: &[u8]) {
        let side = open.side(direction);
        let content = self.contents[open.talk][side];
        let bases = self.bases(open, side);
        let stream = &mut open.streams[side];
        let end = offset + bytes.len() as Position;
        self.census.add("row 06a late");
        if self.config.late == Late::Count {
            self.fail(|| "late octets where the output cannot take them".into());
        }
        if stream.missing.remove(offset, end) != end - offset {
            self.fail(|| format!("late octets {offset}..{end} do not lie in a gap"));
        }
        stream.fills += 1;
        self.missed[1] += end - offset;
        stream.delivered += bytes.len() as Position;
        self.delivered += bytes.len() as Position;
        // Of what waits to be corroborated the first copy may have been dropped.
        let plausible = self.ledger.side(open.talk, side).all_plausible();
        let SideLedger { ambiguous: probes, tampered, .. } = self.ledger.side(open.talk, side);
        let wrong = |base: &Position| {
            if bytes.len() == 1 && probes.within(base + offset, base + offset + 1).next().is_some() {
                return false;
            }
            let changed = || untampered(tampered, base + offset, bytes);
            content.mismatch(base + offset, bytes).is_some()
                && (plausible || content.mismatch(base + offset, &changed()).is_some())
        };
        if bases.iter().all(wrong) {
            self.fail(|| format!("late octets at {offset} were never sent there"));
        }
    }

    /// Nothing from this offset on is delivered.
    pub(crate) fn wall(&self) -> Position {
        self.config.cutoff.map_or(Position::MAX >> 1, Position::from)
    }

    /// Where the stream of `side` may begin.
    fn bases(&self, open: &Open, side: Side) -> Vec<Position> {
        open.streams[side].bases.clone().unwrap_or_else(|| self.possible_bases(open, side))
    }

    pub(crate) fn possible_bases(&self, open: &Open, side: Side) -> Vec<Position> {
        let ledger = self.ledger.side(open.talk, side);
        if open.since == 0 && !self.scenario.is_strict() && (ledger.syn.is_some() || ledger.syn_ack.is_some()) {
            let behind = self.may_give_up_syn(open) || ledger.begins_behind_syn();
            let answered = ledger.answered.filter(|_| behind);
            return [0].into_iter().chain(answered.map(|(_, position)| position)).collect();
        }
        let mut starts = ledger.starts.clone();
        if self.scenario.is_strict() {
            // As where the SYN was not seen, or as if it had been.
            starts.push(0);
        }
        starts.sort_unstable();
        starts.dedup();
        starts
    }

    /// A SYN that reuses endpoints waits for confirmation, and the limit for all may take its data. So does the end of the
    /// connection before, if that has not closed in order.
    pub(crate) fn may_give_up_syn(&self, open: &Open) -> bool {
        let TalkEnd { pair, index, .. } = self.capture.talks[open.talk];
        let sides = &self.ledger.talks[open.talk].sides;
        let syn = sides.iter().filter_map(|side| side.syn.or(side.syn_ack)).min().unwrap_or(usize::MAX);
        let waited = |record: usize| (syn..open.opened).contains(&record);
        let dropped = |became: &Became| matches!(became.closed, Some((record, Ended::Idle | Ended::Evicted | Ended::Rst, _)) if waited(record));
        let before = self.became.iter().zip(&self.capture.talks).filter(|(_, other)| other.pair == pair);
        index > 0
            && (self.config.max_total_queue != Config::default().max_total_queue
                || before.flat_map(|(became, _)| became).any(dropped))
    }

    pub(crate) fn endpoints(&self, talk: usize) -> [Endpoint; 2] {
        self.scenario.endpoints(self.capture.talks[talk].pair)
    }
}

/// The octets as they were before the tap changed what is `tampered`.
fn untampered(tampered: &Spans, position: Position, octets: &[u8]) -> Vec<u8> {
    let mut right = octets.to_vec();
    for (from, until, _) in tampered.within(position, position + octets.len() as Position) {
        tamper(&mut right[(from - position) as usize..(until - position) as usize]);
    }
    right
}

/// What the tap does to octets that are not those that were sent, and undoes it.
pub(crate) fn tamper(octets: &mut [u8]) {
    octets.iter_mut().for_each(|octet| *octet ^= 0xa5);
}

impl Sink for Checker<'_> {
    #[expect(clippy::print_stderr, reason = "a replayed seed shows what happens")]
    fn event(&mut self, id: ConnectionId, event: Event<'_>) {
        if self.trace {
            match event {
                Event::Data { direction, offset, bytes } => {
                    eprintln!("        {id:?} data {direction:?} {offset}..+{}", bytes.len());
                }
                Event::Late { direction, offset, bytes } => {
                    eprintln!("        {id:?} late {direction:?} {offset}..+{}", bytes.len());
                }
                Event::Gap { direction, gap } => eprintln!("        {id:?} {direction:?} {gap:?} at {}", self.now()),
                _ => eprintln!("        {id:?} {event:?}"),
            }
        }
        if let Event::Open(summary) = event {
            return self.on_open(id, summary);
        }
        let Some(mut open) = self.open.remove(&id.slot).filter(|open| open.serial == id.serial) else {
            return self.fail(|| format!("{id:?} is not open"));
        };
        match event {
            Event::Open(_) => {}
            Event::Data { direction, offset, bytes } => self.on_data(&mut open, direction, offset.into(), bytes),
            Event::Gap { direction, gap } => self.on_gap(&mut open, direction, gap),
            Event::Late { direction, offset, bytes } => self.on_late(&mut open, direction, offset.into(), bytes),
            Event::Update(summary) => self.on_update(&mut open, summary),
            Event::Close(summary) => {
                let full = self.open.len() + 1 >= self.config.max_connections as usize;
                return self.on_close(id, &mut open, summary, full);
            }
        }
        self.open.insert(id.slot, open);
    }
}

impl Open {
    pub(crate) fn side(&self, direction: Direction) -> Side {
        if direction == Direction::ClientToServer { self.client } else { 1 - self.client }
    }
}

impl OpenStream {
    /// What is missing in the end, by cause.
    pub(crate) fn missing_by_cause(&self) -> [Position; GapCause::ALL.len()] {
        let mut totals = [0; GapCause::ALL.len()];
        for (from, until, index) in self.missing.all() {
            totals[self.gaps[index].gap.cause as usize] += until - from;
        }
        totals
    }
}
