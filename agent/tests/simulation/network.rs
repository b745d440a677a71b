//! The world in motion: endpoints, the links between them, and the tap on the way. Time is virtual.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use crate::{
    endpoint::Endpoint,
    packet::{Kind, Packet, Side},
    rng::Rng,
    scenario::Scenario,
};

/// What was recorded, in the order in which it was.
pub(crate) struct Capture {
    pub(crate) records: Vec<Record>,
    pub(crate) talks: Vec<TalkEnd>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When it was stamped, on a clock that never steps.
    pub(crate) time: u64,
    pub(crate) packet: Packet,
    /// Records that the ring had refused before.
    pub(crate) refused: u64,
}

/// How a conversation ended, as only its endpoints know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TalkEnd {
    pub(crate) pair: usize,
    pub(crate) isn: [u32; 2],
    /// Octets of stream that were sent at least once.
    pub(crate) sent: [u64; 2],
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
        hops: BTreeMap::new(),
        serial: 0,
        pairs: Vec::new(),
        talks: Vec::new(),
        records: Vec::new(),
        refused: 0,
        burst: 0,
        passed: 0,
    };
    world.run();
    Capture { records: world.records, talks: world.talks }
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    now: u64,
    /// By time, then by age; what is to happen is in `hops`.
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    hops: BTreeMap<u64, Hop>,
    serial: u64,
    pairs: Vec<Pair>,
    talks: Vec<TalkEnd>,
    records: Vec<Record>,
    refused: u64,
    burst: u64,
    passed: usize,
}

struct Pair {
    /// Index of the next conversation, and when it starts.
    next: usize,
    starts: Option<u64>,
    now: Option<(usize, [Endpoint; 2])>,
    in_flight: u64,
}

#[derive(Clone, Copy)]
enum Hop {
    Tap(Packet),
    Record(u64, Packet),
    Arrive(Packet),
}

impl World<'_> {
    fn run(&mut self) {
        self.pairs = self
            .scenario
            .pairs
            .iter()
            .map(|talks| Pair { next: 0, starts: Some(talks[0].after), now: None, in_flight: 0 })
            .collect();
        let mut out = Vec::new();
        while self.passed < PACKETS_MAX {
            let hop = self.queue.peek().map(|Reverse((time, _))| *time);
            let timer = self.pairs.iter().filter_map(Pair::next_timer).min();
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
            self.schedule();
        }
        // What the tap has still in its hands is recorded.
        while let Some(Reverse((time, serial))) = self.queue.pop() {
            self.now = self.now.max(time);
            if let Some(Hop::Record(time, packet)) = self.hops.remove(&serial) {
                self.keep(time, packet);
            }
        }
        for pair in 0..self.pairs.len() {
            self.retire(pair);
        }
    }

    fn on_timers(&mut self, out: &mut Vec<Packet>) {
        for index in 0..self.pairs.len() {
            if self.pairs[index].starts.is_some_and(|at| at <= self.now) {
                self.start(index, out);
            }
            let now = self.now;
            if let Some((_, endpoints)) = &mut self.pairs[index].now {
                endpoints.iter_mut().for_each(|endpoint| endpoint.on_timer(now, out));
            }
        }
    }

    fn on_hop(&mut self, out: &mut Vec<Packet>) {
        let Some(Reverse((_, serial))) = self.queue.pop() else { return };
        match self.hops.remove(&serial) {
            Some(Hop::Tap(packet)) => self.on_tap(packet),
            Some(Hop::Record(time, packet)) => self.keep(time, packet),
            Some(Hop::Arrive(packet)) => {
                let pair = self.talks[packet.conversation].pair;
                self.pairs[pair].in_flight -= 1;
                if let Some((conversation, endpoints)) = &mut self.pairs[pair].now
                    && *conversation == packet.conversation
                {
                    endpoints[1 - packet.from].on_packet(self.now, &packet, out);
                    self.forge(pair, out);
                }
            }
            None => {}
        }
    }

    /// Starts what is due and schedules what follows a conversation that is over.
    fn schedule(&mut self) {
        for index in 0..self.pairs.len() {
            let pair = &mut self.pairs[index];
            let quiet = pair.in_flight == 0
                && pair.now.as_ref().is_some_and(|(_, ends)| ends.iter().all(|end| end.next_timer().is_none()));
            let talks = &self.scenario.pairs[index];
            let Some(next) = talks.get(pair.next) else { continue };
            if pair.starts.is_none() && pair.now.is_some() && quiet {
                let over = pair.now.as_ref().is_some_and(|(_, ends)| ends.iter().all(Endpoint::is_over));
                if over || next.abrupt {
                    pair.starts = Some(self.now + next.after);
                }
            }
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
        self.talks.push(TalkEnd { pair: index, isn: talk.isn, sent: [0; 2], fin_sent: [false; 2], in_order: false });
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

    fn send(&mut self, packet: Packet) {
        self.passed += 1;
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
        let recorded = self.record(packet);
        if self.rng.rarely(self.scenario.tap.duplicated) {
            self.record(packet);
        }
        // Only behind the true copy, which then is the first one.
        if recorded
            && packet.kind == Kind::Real
            && packet.stream_octets() > 0
            && self.rng.rarely(self.scenario.tap.tampered)
        {
            self.record(Packet { kind: Kind::Tampered, ..packet });
        }
        if self.rng.rarely(self.scenario.network.lost_behind_tap) {
            self.pairs[self.talks[packet.conversation].pair].in_flight -= 1;
        } else {
            self.push(self.scenario.network.latency / 2, Hop::Arrive(packet));
        }
    }

    /// Whether it was.
    fn record(&mut self, packet: Packet) -> bool {
        let tap = &self.scenario.tap;
        // A SYN that reuses endpoints is all that tells the conversations apart.
        let needed = packet.syn && self.scenario.pairs[self.talks[packet.conversation].pair].len() > 1;
        if tap.only.is_some_and(|side| side != packet.from) {
            return false;
        }
        if self.burst == 0 && self.rng.rarely(tap.lost) {
            self.burst = self.rng.between(1, tap.burst);
        }
        if self.burst > 0 && !needed {
            self.burst -= 1;
            self.refused += u64::from(tap.ring);
            return false;
        }
        // A tampered copy comes right behind the true one, and never before it.
        let shuffled = if tap.tampered > 0 { 0 } else { self.rng.below(tap.shuffle + 1) };
        let wait = tap.skew[packet.from] + shuffled;
        let time = if tap.early_stamp { self.now } else { self.now + wait };
        self.push(wait, Hop::Record(time, packet));
        true
    }

    /// A SYN behind the end of a conversation opens another, whoever sent it: there the forger stays away.
    fn keep(&mut self, time: u64, packet: Packet) {
        let ended = |known: &Packet| {
            known.kind != Kind::Forged && known.conversation == packet.conversation && (known.rst || known.fin)
        };
        if packet.kind != Kind::Forged || !self.records.iter().any(|known| ended(&known.packet)) {
            self.records.push(Record { time, packet, refused: self.refused });
        }
    }

    /// Somebody off the path guesses: an RST or a SYN with a number far from everything.
    fn forge(&mut self, pair: usize, out: &mut Vec<Packet>) {
        let Some((conversation, ends)) = &self.pairs[pair].now else { return };
        if !ends.iter().all(Endpoint::established) || !self.rng.rarely(self.scenario.network.forged) {
            return;
        }
        let from: Side = self.rng.below(2) as Side;
        let syn = self.rng.chance(50);
        out.push(Packet {
            conversation: *conversation,
            from,
            seq: self.rng.between(1 << 28, (1 << 32) - (1 << 28)),
            ack: None,
            syn,
            fin: false,
            rst: !syn,
            psh: false,
            len: 0,
            window: 1_024,
            scale: None,
            kind: Kind::Forged,
        });
    }

    fn push(&mut self, wait: u64, hop: Hop) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + wait, self.serial)));
        self.hops.insert(self.serial, hop);
    }
}

impl Pair {
    fn next_timer(&self) -> Option<u64> {
        let ends = self.now.iter().flat_map(|(_, ends)| ends).filter_map(Endpoint::next_timer);
        ends.chain(self.starts).min()
    }
}
