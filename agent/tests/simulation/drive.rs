//! Feeds one capture to a reassembler as a live capture would, and lets a sink watch.

use std::collections::VecDeque;

use agent::{
    decode::{Config, Decoder, Reject},
    frame::Frame,
    reassembly::{Reassembler, Sink, Stats},
    segment::{Flags, Origin, Segment, SeqNum, Timestamp},
};

use agent_common::frame::LinkType;

use crate::{
    checker::{Checker, Step, tamper},
    fragments::Tally,
    kernel::{Copied, Kernel},
    network::{Capture, Record},
    packet::{Kind, Packet, Position},
    scenario::Scenario,
    wire::{Octets, Wire},
};

/// A sink with a checker somewhere in it.
pub(crate) trait Watch<'a>: Sink {
    fn checker(&mut self) -> &mut Checker<'a>;
}

impl<'a> Watch<'a> for Checker<'a> {
    fn checker(&mut self) -> &mut Self {
        self
    }
}

/// The capture clock does not begin at zero.
pub(crate) const EPOCH: u64 = 3_000_000_000_000_000_000;
/// Ticks in a silence, at the most.
pub(crate) const SILENCE: u64 = 100;
/// Ticks and updates of a few connections that end by the idle timeout stay well below.
const TIMEOUTS_MAX: usize = 400_000;

pub(crate) fn drive<'a>(scenario: &Scenario, capture: &Capture, sink: &mut impl Watch<'a>) -> Stats {
    let kernel = scenario.kernel.map(|plan| Kernel::new(scenario, plan));
    let reassembler = Reassembler::new(scenario.config);
    let reassembler = match &kernel {
        Some(kernel) => reassembler.with_flows(Box::new(kernel.clone())),
        None => reassembler,
    };
    let tap = Tap { kernel, scenario, capture, copied: VecDeque::new(), next: 0 };
    let decoder = Decoder::new(Config::default());
    let mut driver = Driver { reassembler, decoder, tap, scenario, step: 0, shift: 0, last: None, timeouts: 0 };
    let mut payload = Vec::new();
    for (index, record) in capture.records.iter().enumerate() {
        if let Some((thousandth, step)) = scenario.tap.step
            && index == (capture.records.len() as u64 * thousandth / 1_000) as usize
        {
            driver.step(step, sink);
        }
        let record = Record { time: record.time.saturating_add_signed(driver.shift), ..*record };
        driver.run_timers(record.time, sink);
        let copied = driver.tap.copy(index, sink.checker());
        let record = Record { refused: copied.refused, ..record };
        if copied.extent.is_copied() {
            driver.last = Some(driver.last.unwrap_or(0).max(record.time));
            driver.hand_over(&record, capture, &copied, &mut payload, sink);
        } else {
            sink.checker().begin(Step::Timeout, None, 0);
            sink.checker().note_withheld(&record, &copied);
        }
        if sink.checker().failure.is_some() {
            break;
        }
    }
    if scenario.tap.silence {
        driver.be_silent(sink);
    }
    if let Some(last) = capture.records.last().filter(|_| scenario.kernel.is_some() && sink.checker().failure.is_none())
    {
        // What was withheld last has passed by then.
        driver.tick(last.time, sink);
    }
    driver.judge_fragments(capture, sink);
    sink.checker().begin(Step::Finish, None, 0);
    driver.reassembler.finish(sink);
    let open = sink.checker().still_open();
    if open > 0 {
        sink.checker().fail(|| format!("{open} connections are open after finish"));
    }
    *driver.reassembler.stats()
}

/// What copies packets: the kernel, where there is one.
struct Tap<'a> {
    kernel: Option<Kernel>,
    scenario: &'a Scenario,
    capture: &'a Capture,
    /// What is in the ring, or was withheld, behind what was read.
    copied: VecDeque<Copied>,
    /// Of the records, the next one that it sees.
    next: usize,
}

impl Tap<'_> {
    /// What became of a record, the next one in turn.
    fn copy(&mut self, index: usize, checker: &mut Checker<'_>) -> Copied {
        let record = &self.capture.records[index];
        let Some(kernel) = &self.kernel else {
            let snaplen = self.scenario.tap.snaplen.map_or(record.packet.len, Position::from);
            return Copied { captured: record.packet.len.min(snaplen), ..Copied::whole(record) };
        };
        if kernel.take_asked() {
            checker.note_asked();
        }
        self.look_ahead(record.time, index + 1, checker);
        self.copied.pop_front().expect("the kernel is ahead")
    }

    /// Lets the kernel see what passes by the time that the reassembler is at `time`, and so many records at the least.
    fn look_ahead(&mut self, time: u64, least: usize, checker: &mut Checker<'_>) {
        let Some(kernel) = &self.kernel else { return };
        let ahead = self.scenario.kernel.map_or(0, |plan| plan.ahead);
        while let Some(record) = self.capture.records.get(self.next)
            && (self.next < least || ahead > 0 && record.time <= time + ahead)
        {
            let ends = self.scenario.endpoints(self.capture.talks[record.packet.conversation].pair);
            let copied = kernel.copy(record, self.capture, ends);
            checker.census.add_many("row 27 flow forgotten", u64::from(copied.forgotten.is_some()));
            self.copied.push_back(copied);
            self.next += 1;
        }
        for talk in kernel.take_spoilt() {
            checker.ledger.talks[talk].spoilt = true;
        }
    }
}

struct Driver<'a> {
    reassembler: Reassembler,
    decoder: Decoder,
    tap: Tap<'a>,
    scenario: &'a Scenario,
    /// By how much the capture clock is off: what it has stepped.
    step: i64,
    /// A step that is too small to be told from time passing.
    shift: i64,
    /// The last time that the reassembler was given, since the clock stepped.
    last: Option<u64>,
    timeouts: usize,
}

impl Driver<'_> {
    fn stamp(&self, time: u64) -> Timestamp {
        Timestamp((EPOCH + time).saturating_add_signed(self.step))
    }

    fn step<'a>(&mut self, step: i64, sink: &mut impl Watch<'a>) {
        if step.unsigned_abs() > self.scenario.config.clock_step {
            self.step = step;
            self.last = None;
            sink.checker().census.add("row 25 clock step");
        } else {
            self.shift = step;
            sink.checker().census.add("row 25 clock step that is none");
        }
    }

    /// Lets timers fire up to `time`, exactly or in coarse ticks.
    fn run_timers<'a>(&mut self, time: u64, sink: &mut impl Watch<'a>) {
        let Some(last) = self.last else {
            self.last = Some(time);
            return;
        };
        // A long silence takes its ticks in larger steps, or they would be all there is.
        let tick = self.scenario.tap.tick.map(|tick| tick.max(time.saturating_sub(last) / SILENCE));
        while self.reassembler.poll_timeout().is_some_and(|due| tick.is_some() || due < self.stamp(time)) {
            let Some(at) = self.next_tick(tick).filter(|at| *at < time) else { break };
            if !self.tick(at, sink) {
                return;
            }
        }
    }

    /// When timers run next: every `tick`, or when something is due. And often enough for a small `Config::clock_step`,
    /// beyond which a silence is a discontinuity.
    fn next_tick(&self, tick: Option<u64>) -> Option<u64> {
        let last = self.last?;
        let due = match tick {
            Some(tick) => last + tick,
            None => {
                self.reassembler.poll_timeout()?.0.saturating_add_signed(-self.step).saturating_sub(EPOCH).max(last)
            }
        };
        Some(due.min(last + self.scenario.config.clock_step / 2))
    }

    fn be_silent<'a>(&mut self, sink: &mut impl Watch<'a>) {
        while self.reassembler.poll_timeout().is_some()
            && let Some(at) = self.next_tick(None)
        {
            if !self.tick(at, sink) {
                return;
            }
        }
        let open = sink.checker().still_open();
        sink.checker().census.add("row 25 silence");
        if open > 0 {
            sink.checker().fail(|| format!("{open} connections are open, and no timer is set for them"));
        }
    }

    /// Whether it made sense.
    fn tick<'a>(&mut self, at: u64, sink: &mut impl Watch<'a>) -> bool {
        let now = self.stamp(at);
        self.last = Some(at);
        self.timeouts += 1;
        let checker = sink.checker();
        if self.timeouts > TIMEOUTS_MAX {
            checker.fail(|| format!("poll_timeout asks for ever, now for {now:?}"));
            return false;
        }
        checker.begin(Step::Timeout, None, 0);
        checker.clock_hint = checker.clock_hint.max(at);
        self.tap.look_ahead(at, 0, checker);
        self.decoder.tick(now);
        self.reassembler.handle_timeout(now, sink);
        if self.reassembler.poll_timeout().is_some_and(|next| next <= now) {
            sink.checker().fail(|| format!("a timer that is due at {now:?} has not fired"));
            return false;
        }
        sink.checker().judge_overdue(at);
        sink.checker().failure.is_none()
    }

    fn hand_over<'a>(
        &mut self,
        record: &Record,
        capture: &Capture,
        copied: &Copied,
        payload: &mut Vec<u8>,
        sink: &mut impl Watch<'a>,
    ) {
        let (packet, captured) = (&record.packet, copied.captured);
        fill(packet, captured, sink.checker(), payload);
        let talk = &capture.talks[packet.conversation];
        let ends = self.scenario.endpoints(talk.pair);
        // What is due by then comes before the segment, and is judged without it.
        sink.checker().begin(Step::Timeout, None, 0);
        sink.checker().clock_hint = sink.checker().clock_hint.max(record.time);
        if self.tap.kernel.is_some() {
            // Who is asked then has seen it.
            sink.checker().ledger.talks[packet.conversation].last_stamp = self.stamp(record.time).0;
        }
        self.reassembler.handle_timeout(self.stamp(record.time), sink);
        sink.checker().judge_overdue(record.time);
        let is_whole = record.fragment.is_none_or(|fragment| fragment.completes);
        if is_whole {
            sink.checker().stamp = self.stamp(record.time).0;
            sink.checker().copied = Some(*copied);
            sink.checker().begin(Step::Segment, Some(*record), captured);
            sink.checker().note_situation(record, captured);
        }
        sink.checker().show(record, captured);
        let index = sink.checker().ledger.record;
        let segment = Segment {
            timestamp: self.stamp(record.time),
            src: ends[packet.from],
            dst: ends[1 - packet.from],
            seq: SeqNum(talk.isn[packet.from].wrapping_add(packet.seq as u32)),
            ack: SeqNum(packet.ack.map_or(0, |ack| talk.isn[1 - packet.from].wrapping_add(ack as u32))),
            flags: flags(packet),
            window: packet.window,
            window_scale: packet.scale,
            mss: packet.mss,
            ip_id: packet.id,
            payload,
            missing: (packet.len - captured) as u32,
            origin: Origin { refused: record.refused, ..self.scenario.origin(talk.pair, index) },
            flow: copied.note.as_ref(),
        };
        let before = *self.reassembler.stats();
        match self.scenario.wire {
            None => self.reassembler.handle_segment(&segment, sink),
            Some(wire) => {
                let numbers = [segment.seq.0, segment.ack.0];
                let ends = self.scenario.addresses(talk.pair);
                let octets = wire.encode(packet, numbers, payload, ends, segment.origin.vlan, record.fragment);
                if !is_whole {
                    return self.hand_over_part(&segment, wire, record, &octets, sink);
                }
                self.hand_over_frame(&segment, wire, &octets, sink);
            }
        }
        sink.checker().judge_figures(record, captured, &before, self.reassembler.stats());
        self.judge_memory(sink);
    }

    /// The decoder must find in a frame what was put into it.
    fn hand_over_frame<'a>(&mut self, put: &Segment<'_>, wire: Wire, octets: &Octets, sink: &mut impl Watch<'a>) {
        let found = match self.decoder.decode(&frame(put, octets)) {
            Ok(found) => found.segment,
            Err(why) => return sink.checker().fail(|| format!("the decoder says {why:?} of {octets:?}")),
        };
        if headers(&found) != headers(put)
            || (found.timestamp, found.origin, found.missing, found.flow)
                != (put.timestamp, put.origin, put.missing, put.flow)
            || found.payload != put.payload
        {
            return sink.checker().fail(|| format!("the decoder found {found:?}, not {put:?}"));
        }
        sink.checker().census.add(if wire.v6 { "decoded IPv6" } else { "decoded IPv4" });
        self.reassembler.handle_segment(&found, sink);
    }

    /// A fragment that completes nothing may say which segment it begins.
    fn hand_over_part<'a>(
        &mut self,
        put: &Segment<'_>,
        wire: Wire,
        record: &Record,
        octets: &Octets,
        sink: &mut impl Watch<'a>,
    ) {
        let verdict = self.decoder.decode(&frame(put, octets)).map(|found| found.segment.seq);
        let begun = self.decoder.take_begun();
        let begins = record.fragment.is_some_and(|fragment| wire.begins(&record.packet, fragment));
        let right = begun.map_or(!begins, |begun| begins && headers(&begun) == headers(put));
        if verdict != Err(Reject::Fragment) || !right {
            return sink.checker().fail(|| format!("the decoder says {verdict:?} and {begun:?} of a part of {put:?}"));
        }
        if let Some(begun) = begun {
            sink.checker().note_begun(&record.packet);
            self.reassembler.handle_fragment(&begun);
        }
    }

    /// The frames that completed nothing are accounted for.
    fn judge_fragments<'a>(&self, capture: &Capture, sink: &mut impl Watch<'a>) {
        let (found, checker) = (self.decoder.stats(), sink.checker());
        let waiting = found.timeout + found.unfinished;
        let found = Tally { joined: found.joined, duplicate: found.duplicate, overlapping: found.overlapping, waiting };
        let right = capture.fragments;
        checker.census.add_many("row 22 fragments joined", right.joined);
        checker.census.add_many("row 22 fragment seen twice", right.duplicate);
        checker.census.add_many("row 22 fragments overlap", right.overlapping);
        checker.census.add_many("row 22 fragment lost", right.waiting);
        if found != right {
            checker.fail(|| format!("of the fragments {right:?}, and the decoder says {found:?}"));
        }
    }

    fn judge_memory<'a>(&self, sink: &mut impl Watch<'a>) {
        let (config, checker) = (&self.scenario.config, sink.checker());
        let memory = self.reassembler.queued_memory();
        if memory > config.max_total_queue {
            checker.fail(|| format!("{memory} octets are queued"));
        }
        let open = checker.still_open();
        if open != self.reassembler.open_connections() || open > config.max_connections as usize {
            checker.fail(|| format!("{open} connections are open"));
        }
    }
}

fn frame<'a>(put: &Segment<'a>, octets: &'a Octets) -> Frame<'a> {
    Frame {
        timestamp: put.timestamp,
        len: octets.len as u32,
        bytes: &octets.captured,
        link_type: LinkType::ETHERNET,
        origin: Origin { vlan: None, ..put.origin },
        flow: put.flow,
    }
}

/// What a segment's header says.
fn headers(it: &Segment<'_>) -> impl PartialEq + use<> {
    (it.src, it.dst, it.seq, it.ack, it.flags, it.window, it.window_scale, it.mss, it.ip_id)
}

fn fill(packet: &Packet, captured: Position, checker: &Checker<'_>, payload: &mut Vec<u8>) {
    payload.clear();
    checker.contents[packet.conversation][packet.from].append(packet.position(), captured as usize, payload);
    match packet.kind {
        Kind::Real | Kind::Forged | Kind::Guessed => {}
        Kind::KeepAlive => payload.fill(0),
        Kind::Tampered => tamper(payload),
    }
}

pub(crate) fn flags(packet: &Packet) -> Flags {
    [
        (packet.syn, Flags::SYN),
        (packet.fin, Flags::FIN),
        (packet.rst, Flags::RST),
        (packet.psh, Flags::PSH),
        (packet.ack.is_some(), Flags::ACK),
        (packet.urg, Flags::URG),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(Flags(0), |all, (_, flag)| all | flag)
}
