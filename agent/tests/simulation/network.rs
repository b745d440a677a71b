//! The world in motion: endpoints, the links between them, and the tap on the way. Time is virtual.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    endpoint::Endpoint,
    fragments::{self, Fragment, Tally},
    packet::{Kind, Packet, Position, Side},
    rng::Rng,
    scenario::{Ids, Scenario},
};

/// What was recorded, in the order in which it was.
pub(crate) struct Capture {
    pub(crate) records: Vec<Record>,
    pub(crate) talks: Vec<TalkEnd>,
    pub(crate) fragments: Tally,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was stamped, on a clock that never steps.
    pub(crate) time: u64,
    pub(crate) packet: Packet,
    /// Records that the ring had refused before.
    pub(crate) refused: u64,
    /// The ring has no room for it.
    pub(crate) squeezed: bool,
    /// It holds no more than a part of the packet.
    pub(crate) fragment: Option<Fragment>,
}

/// How a conversation ended, as only its endpoints know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TalkEnd {
    pub(crate) pair: usize,
    /// Which of the conversations of the pair.
    pub(crate) index: usize,
    pub(crate) isn: [u32; 2],
    /// Octets of stream that were sent at least once.
    pub(crate) sent: [Position; 2],
    pub(crate) fin_sent: [bool; 2],
    /// Both sides closed and both know it, without a reset.
    pub(crate) in_order: bool,
}

const PACKETS_MAX: usize = 6_000;
const END: u64 = 4 * 3_600_000_000_000;

pub(crate) fn run(scenario: &mut Scenario) -> Capture {
    let rng = scenario.rng.clone();
    let mut world = World {
        scenario,
        rng,
        now: 0,
        queue: BinaryHeap::new(),
        hops: Vec::new(),
        vacant: Vec::new(),
        serial: 0,
        pairs: Vec::new(),
        talks: Vec::new(),
        records: Vec::new(),
        refused: 0,
        burst: 0,
        tapped: 0,
        passed: 0,
    };
    world.run();
    let World { mut records, talks, .. } = world;
    // The capture starts and stops anywhere.
    let thousandths = |of: u64| records.len() * of as usize / 1_000;
    let (start, end) = (thousandths(scenario.tap.starts), records.len() - thousandths(scenario.tap.ends));
    records.truncate(end);
    // But not between the true copy of a segment and others.
    let start = start.min(end);
    let copies = records[start..].iter().take_while(|record| record.packet.kind == Kind::Tampered).count();
    records.drain(..start + copies);
    let fragments = fragments::split(scenario, &mut Rng::new(scenario.seed ^ !0), &mut records);
    Capture { records, talks, fragments }
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    now: u64,
    /// By time, then by age; what is to happen is at that place in `hops`.
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    hops: Vec<Hop>,
    vacant: Vec<usize>,
    serial: u64,
    pairs: Vec<Pair>,
    talks: Vec<TalkEnd>,
    records: Vec<Record>,
    refused: u64,
    burst: u64,
    tapped: u64,
    passed: usize,
}

struct Pair {
    /// Index of the next conversation, and when it starts.
    next: usize,
    starts: Option<u64>,
    now: Option<(usize, [Endpoint; 2])>,
    in_flight: u64,
    /// When an endpoint or the next conversation has something to do.
    timer: Option<u64>,
}

#[derive(Clone, Copy)]
enum Hop {
    Tap(Packet),
    /// When it is stamped, and whether the ring has no room for it.
    Record(u64, Packet, bool),
    Arrive(Packet),
}

impl World<'_> {
    fn run(&mut self) {
        self.pairs = self
            .scenario
            .pairs
            .iter()
            .map(|talks| {
                let starts = Some(talks[0].after);
                Pair { next: 0, starts, now: None, in_flight: 0, timer: starts }
            })
            .collect();
        let mut out = Vec::new();
        while self.passed < PACKETS_MAX {
            let hop = self.queue.peek().map(|Reverse((time, ..))| *time);
            let timer = self.pairs.iter().filter_map(|pair| pair.timer).min();
            let Some(now) = hop.into_iter().chain(timer).min().filter(|now| *now < END) else { break };
            self.now = self.now.max(now);
            if hop == Some(now) {
                self.on_hop(&mut out);
            } else {
                self.on_timers(&mut out);
            }
            for packet in out.drain(..) {
                self.send(packet);
            }
        }
        // What the tap has still in its hands is recorded.
        while let Some((time, hop)) = self.pop() {
            self.now = self.now.max(time);
            if let Hop::Record(time, packet, squeezed) = hop {
                self.keep(time, packet, squeezed);
            }
        }
        for pair in 0..self.pairs.len() {
            self.retire(pair);
        }
    }

    fn on_timers(&mut self, out: &mut Vec<Packet>) {
        let now = self.now;
        for index in 0..self.pairs.len() {
            if self.pairs[index].timer.is_none_or(|due| due > now) {
                continue;
            }
            if self.pairs[index].starts.is_some_and(|at| at <= now) {
                self.start(index, out);
            }
            if let Some((_, endpoints)) = &mut self.pairs[index].now {
                endpoints.iter_mut().for_each(|endpoint| endpoint.on_timer(now, out));
            }
            self.schedule(index, out.is_empty());
        }
    }

    fn on_hop(&mut self, out: &mut Vec<Packet>) {
        match self.pop() {
            Some((_, Hop::Tap(packet))) => {
                self.on_tap(packet);
                self.schedule(self.talks[packet.conversation].pair, true);
            }
            Some((_, Hop::Record(time, packet, squeezed))) => self.keep(time, packet, squeezed),
            Some((_, Hop::Arrive(packet))) => {
                let pair = self.talks[packet.conversation].pair;
                self.pairs[pair].in_flight -= 1;
                if let Some((conversation, endpoints)) = &mut self.pairs[pair].now
                    && *conversation == packet.conversation
                {
                    endpoints[1 - packet.from].on_packet(self.now, &packet, out);
                    self.forge(pair, out);
                }
                self.schedule(pair, out.is_empty());
            }
            None => {}
        }
    }

    /// Schedules what follows a conversation that is over: nothing is on its way, and `silent` says nothing will be.
    fn schedule(&mut self, index: usize, silent: bool) {
        let pair = &mut self.pairs[index];
        pair.timer = pair.next_timer();
        let Some(next) = self.scenario.pairs[index].get(pair.next) else { return };
        let Some((_, ends)) = pair.now.as_ref().filter(|_| silent && pair.in_flight == 0 && pair.timer.is_none())
        else {
            return;
        };
        if next.abrupt || ends.iter().all(Endpoint::is_over) {
            pair.starts = Some(self.now + next.after);
            pair.timer = pair.starts;
        }
    }

    fn start(&mut self, index: usize, out: &mut Vec<Packet>) {
        self.retire(index);
        let pair = &mut self.pairs[index];
        let talk = &self.scenario.pairs[index][pair.next];
        let conversation = self.talks.len();
        let mut ends =
            [0, 1].map(|side| Endpoint::new(conversation, side, talk.plans[side].clone(), Rng::new(self.rng.next())));
        ends[0].connect(self.now, out);
        if talk.simultaneous {
            ends[1].connect(self.now, out);
        }
        self.talks.push(TalkEnd {
            pair: index,
            index: pair.next,
            isn: talk.isn,
            sent: [0; 2],
            fin_sent: [false; 2],
            in_order: false,
        });
        pair.now = Some((conversation, ends));
        pair.next += 1;
        pair.starts = None;
    }

    fn retire(&mut self, index: usize) {
        if let Some((conversation, ends)) = self.pairs[index].now.take() {
            let talk = &mut self.talks[conversation];
            talk.sent = [ends[0].sent().0, ends[1].sent().0];
            talk.fin_sent = [ends[0].sent().1, ends[1].sent().1];
            talk.in_order = ends.iter().all(Endpoint::closed_in_order);
        }
    }

    fn send(&mut self, mut packet: Packet) {
        self.passed += 1;
        packet.id = match self.scenario.ids {
            Ids::None => None,
            Ids::Atomic => Some(0),
            Ids::Counted => Some(self.passed as u16),
        };
        let network = &self.scenario.network;
        let copies = 1 + usize::from(self.rng.rarely(network.duplicated));
        for _ in 0..copies {
            if !self.rng.rarely(network.lost_before_tap) {
                let wait = network.latency / 2 + self.rng.below(network.jitter + 1);
                self.pairs[self.talks[packet.conversation].pair].in_flight += 1;
                self.push(wait, Hop::Tap(packet));
            }
        }
    }

    fn on_tap(&mut self, packet: Packet) {
        let recorded = self.record(packet, 0);
        if recorded && self.rng.rarely(self.scenario.tap.duplicated) {
            let behind = self.rng.below(self.scenario.tap.behind + 1);
            self.record(packet, behind);
        }
        // Only behind the true copy, which then is the first one.
        if recorded
            && packet.kind == Kind::Real
            && packet.stream_octets() > 0
            && self.rng.rarely(self.scenario.tap.tampered)
        {
            self.record(Packet { kind: Kind::Tampered, ..packet }, 0);
        }
        if self.rng.rarely(self.scenario.network.lost_behind_tap) {
            self.pairs[self.talks[packet.conversation].pair].in_flight -= 1;
        } else {
            self.push(self.scenario.network.latency / 2, Hop::Arrive(packet));
        }
    }

    /// Records it, so long `behind` others. Whether it was.
    fn record(&mut self, packet: Packet, behind: u64) -> bool {
        let tap = &self.scenario.tap;
        // A SYN that reuses endpoints is all that tells the conversations apart, and that of a long one has the scale.
        let talks = &self.scenario.pairs[self.talks[packet.conversation].pair];
        let needed = packet.syn && (talks.len() > 1 || self.scenario.long);
        if tap.only.is_some_and(|side| side != packet.from) {
            return false;
        }
        self.tapped += 1;
        let blind = tap.blind.is_some_and(|(start, len)| (start..start + len).contains(&self.tapped));
        if self.burst == 0 && (needed || !blind) && self.rng.rarely(tap.lost) {
            self.burst = self.rng.between(1, tap.burst);
        }
        let lost = !needed && (blind || self.burst > 0);
        self.burst -= u64::from(lost && !blind);
        // A kernel accounts for what its ring has no room for.
        let squeezed = lost && tap.ring && self.scenario.kernel.is_some();
        if lost && !squeezed {
            self.refused += u64::from(tap.ring);
            return false;
        }
        // A tampered copy comes right behind the true one, and never before it.
        let shuffled = if tap.tampered > 0 { 0 } else { self.rng.below(tap.shuffle + 1) };
        let wait = tap.skew[packet.from] + shuffled + behind;
        let time = if tap.early_stamp { self.now } else { self.now + wait };
        self.push(wait, Hop::Record(time, packet, squeezed));
        !squeezed
    }

    /// A SYN behind the end of a conversation opens another, whoever sent it: there the forger stays away.
    fn keep(&mut self, time: u64, packet: Packet, squeezed: bool) {
        let ended = |known: &Packet| {
            known.kind != Kind::Forged && known.conversation == packet.conversation && (known.rst || known.fin)
        };
        if packet.kind != Kind::Forged || !self.records.iter().any(|known| ended(&known.packet)) {
            self.records.push(Record { time, packet, refused: self.refused, squeezed, fragment: None });
        }
    }

    /// Somebody off the path guesses: an RST, a SYN or data with a number that is far from everything, or an RST with one
    /// that was right before.
    fn forge(&mut self, pair: usize, out: &mut Vec<Packet>) {
        let Some((conversation, ends)) = &self.pairs[pair].now else { return };
        if !ends.iter().all(Endpoint::established) || !self.rng.rarely(self.scenario.network.forged) {
            return;
        }
        let from: Side = self.rng.below(2) as Side;
        let (una, nxt) = ends[from].unacknowledged();
        let mut packet = Packet {
            conversation: *conversation,
            from,
            seq: 0,
            ack: None,
            syn: false,
            fin: false,
            rst: false,
            psh: false,
            urg: false,
            len: 0,
            window: 1_024,
            scale: None,
            mss: None,
            id: None,
            kind: Kind::Forged,
        };
        // Beyond every window, and not so far that it would lie behind again.
        let far = nxt + Position::from(self.rng.between(1 << 25, (3 << 30) - (1 << 25)));
        // Data and an ACK that happen to agree would be believed (row 21).
        let guess = match self.rng.below(8) {
            4 if self.scenario.network.forges_data => 2,
            2 if !self.scenario.network.forges_data => 4,
            guess => guess,
        };
        match guess {
            0 => (packet.rst, packet.seq) = (true, far),
            1 if self.scenario.tap.keeps_order() => {
                (packet.rst, packet.seq) = (true, una.saturating_sub(1 + Position::from(self.rng.below(1 << 16))));
            }
            2 => (packet.seq, packet.len) = (far, self.rng.between(1, 1_000).into()),
            3 | 6 | 7 => {
                let expected = ends[1 - from].received();
                let guess = una + Position::from(self.rng.between(1, 2_000));
                packet.kind = Kind::Guessed;
                (packet.rst, packet.seq) = (true, if guess == expected { guess + 1 } else { guess });
            }
            4 => {
                let beyond = ends[1 - from].unacknowledged().1 + Position::from(self.rng.between(1 << 25, 1 << 30));
                (packet.seq, packet.ack) = (nxt, Some(beyond));
            }
            _ => (packet.syn, packet.seq) = (true, far),
        }
        out.push(packet);
    }

    fn push(&mut self, wait: u64, hop: Hop) {
        self.serial += 1;
        let place = self.vacant.pop().unwrap_or(self.hops.len());
        if place == self.hops.len() {
            self.hops.push(hop);
        } else {
            self.hops[place] = hop;
        }
        self.queue.push(Reverse((self.now + wait, self.serial, place)));
    }

    fn pop(&mut self) -> Option<(u64, Hop)> {
        let Reverse((time, _, place)) = self.queue.pop()?;
        self.vacant.push(place);
        Some((time, self.hops[place]))
    }
}

impl Pair {
    fn next_timer(&self) -> Option<u64> {
        let ends = self.now.iter().flat_map(|(_, ends)| ends).filter_map(Endpoint::next_timer);
        ends.chain(self.starts).min()
    }
}
