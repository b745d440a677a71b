//! One world, drawn from one seed: who talks, through what, how it is captured, and with which configuration.

use std::net::IpAddr;

use agent::{
    reassembly::{Config, Late, Overlap},
    segment::{Endpoint, Origin},
};

use crate::{
    kernel,
    plan::{Close, MS, Plan, SECOND, US},
    rng::Rng,
    wire::{self, Wire},
};

pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) config: Config,
    /// Pairs of endpoints, each with the conversations that use it one after the other.
    pub(crate) pairs: Vec<Vec<Talk>>,
    /// The first two pairs have the same endpoints, and are told apart by where their frames are seen (row 29).
    pub(crate) twins: bool,
    pub(crate) network: Network,
    pub(crate) tap: Tap,
    /// What the tap sees goes through a kernel that withholds some of it.
    pub(crate) kernel: Option<kernel::Plan>,
    /// One conversation of more than 4 GiB.
    pub(crate) long: bool,
    /// The reassembler gets what the decoder makes of frames.
    pub(crate) wire: Option<Wire>,
    pub(crate) ids: Ids,
}

/// Whether IP headers have an identification that tells them apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ids {
    /// IPv6.
    None,
    /// RFC 6864 section 4.1: any will do, and most take 0.
    Atomic,
    Counted,
}

pub(crate) struct Talk {
    pub(crate) plans: [Plan; 2],
    pub(crate) isn: [u32; 2],
    /// Pause after the conversation before it on the same endpoints; or after the start of the capture.
    pub(crate) after: u64,
    /// Starts even if the one before it is still open: its hosts have died.
    pub(crate) abrupt: bool,
    pub(crate) simultaneous: bool,
}

/// Chances are out of 10,000.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub(crate) latency: u64,
    pub(crate) jitter: u64,
    pub(crate) lost_before_tap: u64,
    pub(crate) lost_behind_tap: u64,
    pub(crate) duplicated: u64,
    pub(crate) forged: u64,
    /// The forger sends data; otherwise ACKs.
    pub(crate) forges_data: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tap {
    pub(crate) lost: u64,
    /// A loss takes this many packets in a row at the most.
    pub(crate) burst: u64,
    /// After so many packets, it sees none of so many.
    pub(crate) blind: Option<(u64, u64)>,
    /// Losses are the ring's, which counts them.
    pub(crate) ring: bool,
    /// What packets of either side wait for before they are recorded: less than the gap hold together.
    pub(crate) skew: [u64; 2],
    pub(crate) shuffle: u64,
    /// Stamps are taken before that wait, so they may decrease.
    pub(crate) early_stamp: bool,
    pub(crate) duplicated: u64,
    /// So long after the first copy the second one is recorded at the most.
    pub(crate) behind: u64,
    pub(crate) tampered: u64,
    /// Packets that were sent in IP fragments.
    pub(crate) fragmented: u64,
    pub(crate) snaplen: Option<u64>,
    pub(crate) only: Option<usize>,
    /// Thousandths of the recorded packets that are cut off at the start and at the end.
    pub(crate) starts: u64,
    pub(crate) ends: u64,
    /// At this thousandth of the packets the clock steps by so many nanoseconds.
    pub(crate) step: Option<(u64, i64)>,
    /// Timers run when they are due; otherwise this often.
    pub(crate) tick: Option<u64>,
    /// After the last packet time goes on until every timer has fired.
    pub(crate) silence: bool,
}

impl Tap {
    /// Packets are recorded in the order in which they pass.
    pub(crate) fn keeps_order(&self) -> bool {
        (self.skew, self.shuffle, self.behind) == ([0; 2], 0, 0)
    }
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = draw_config(&mut rng);
        let network = draw_network(&mut rng);
        let tap = draw_tap(&mut rng, config.clock_step);
        let kernel = rng.chance(30).then(|| draw_kernel(&mut rng));
        let long = rng.rarely(150);
        let wire = (!long && rng.chance(15)).then(|| draw_wire(&mut rng));
        let ids = match wire {
            Some(Wire { v6: true, .. }) => Ids::None,
            _ if rng.chance(70) => Ids::Counted,
            Some(_) => Ids::Atomic,
            None => rng.pick(&[Ids::None, Ids::Atomic]),
        };
        let pairs = Vec::new();
        let mut scenario = Self { seed, config, pairs, twins: false, network, tap, kernel, rng, long, wire, ids };
        if long {
            scenario.draw_long_talk();
        } else {
            scenario.draw_talks();
        }
        scenario.reconcile();
        scenario
    }

    #[expect(clippy::print_stderr, reason = "a replayed seed shows what happens")]
    pub(crate) fn show(&self) {
        eprintln!("{:#?}\n{:#?}\n{:#?}\n{:#?}", self.config, self.network, self.tap, self.kernel);
    }

    /// Of a pair: the side that sends the first SYN, then its peer.
    pub(crate) fn endpoints(&self, pair: usize) -> [Endpoint; 2] {
        self.addresses(pair).map(|(ip, port)| Endpoint::new(ip, port))
    }

    pub(crate) fn addresses(&self, pair: usize) -> [(IpAddr, u16); 2] {
        let pair = if self.twins && pair == 1 { 0 } else { pair };
        wire::endpoints(pair, self.wire.is_some_and(|wire| wire.v6))
    }

    /// Where the frame of a record is seen: what is part of a connection's key is the same for all frames of a pair, and the
    /// rest differs from record to record.
    pub(crate) fn origin(&self, pair: usize, record: usize) -> Origin {
        let interface = if self.config.interface_key { pair } else { record % 3 };
        // Where both are part of the key, one of them is enough.
        let vlan = match (self.config.vlan_key, self.config.interface_key) {
            (true, true) => 7,
            (true, false) => 7 + pair,
            (false, _) => record / 2 % 4,
        };
        Origin { interface: interface as u16, vlan: (vlan > 0).then_some(vlan as u16), ..Origin::default() }
    }

    /// Strict checks refuse what receivers accept: what is missing says little then.
    pub(crate) fn is_strict(&self) -> bool {
        self.config.strict_fsm || self.config.strict_options
    }

    /// The tap sees all that passes it, whole, from the first packet to the last.
    pub(crate) fn sees_all(&self) -> bool {
        let tap = &self.tap;
        (tap.lost, tap.blind, tap.snaplen, tap.only, tap.starts, tap.ends, tap.step, tap.fragmented)
            == (0, None, None, None, 0, 0, None, 0)
    }

    /// One conversation of more than 4 GiB, of which little is captured.
    fn draw_long_talk(&mut self) {
        let (rng, tap) = (&mut self.rng, &mut self.tap);
        let mut plans = [Plan::draw(rng), Plan::draw(rng)];
        let sender = rng.below(2) as usize;
        plans[sender].enlarge(rng);
        if rng.chance(20) {
            plans[1 - sender].enlarge(rng);
        }
        plans.iter_mut().for_each(Plan::accept_enlarged);
        tap.snaplen = Some(rng.below(200));
        // The window's scale has to be known, or nothing so large is believed.
        (tap.starts, tap.ends, tap.only, tap.blind) = (0, 0, None, None);
        // Nor what is so far out of place that 32 bits do not tell how far.
        (tap.skew, tap.shuffle, tap.behind) = ([0; 2], 0, 0);
        self.network.jitter = self.network.jitter.min(self.network.latency / 4);
        self.network.lost_before_tap = self.network.lost_before_tap.min(200);
        self.network.lost_behind_tap = self.network.lost_behind_tap.min(200);
        let isn = [isn(rng), isn(rng)];
        self.pairs.push(vec![Talk { plans, isn, after: 0, abrupt: false, simultaneous: false }]);
    }

    fn draw_talks(&mut self) {
        let rng = &mut self.rng;
        for _ in 0..rng.pick(&[1, 1, 1, 2, 2, 3]) {
            let mut isn = [isn(rng), isn(rng)];
            let count = if rng.chance(60) { 1 } else { rng.pick(&[2, 2, 3, 4]) };
            let talks = (0..count).map(|n| {
                let mut plans = [Plan::draw(rng), Plan::draw(rng)];
                if n + 1 < count && rng.chance(90) {
                    // Otherwise the next conversation has to wait for a host to die.
                    plans.iter_mut().filter(|plan| plan.close == Close::Never).for_each(|plan| plan.close = Close::Fin);
                }
                if n > 0 {
                    // A host's clock for ISNs (RFC 9293 section 3.4.1) keeps a new connection away from the old one.
                    isn = isn.map(|isn| isn.wrapping_add(rng.between(1 << 24, 1 << 31) as u32));
                    // Data that overtakes the segment which confirms such a handshake belongs to nobody yet.
                    plans.iter_mut().for_each(|plan| plan.split = None);
                }
                Talk {
                    plans,
                    isn,
                    after: if n == 0 { rng.below(SECOND) } else { rng.magnitude(MS, 200 * SECOND) },
                    abrupt: rng.chance(10),
                    simultaneous: rng.chance(5),
                }
            });
            let talks = talks.collect();
            self.pairs.push(talks);
        }
    }

    /// Takes out what would leave nobody able to say what is right.
    fn reconcile(&mut self) {
        if self.is_strict() {
            // They judge what the kernel may withhold.
            (self.kernel, self.config.cutoff) = (None, None);
        }
        if let Some(kernel) = &mut self.kernel {
            // Its clock never steps, it stamps what it sees when it sees it, and it tells fewer connections apart.
            (self.tap.step, self.tap.early_stamp, self.tap.fragmented) = (None, false, 0);
            (self.config.interface_key, self.config.vlan_key) = (false, false);
            kernel.ahead = kernel.ahead.min(self.config.gap_hold / 4).min(self.config.rst_hold / 4);
        }
        if self.wire.is_none() || self.tap.snaplen.is_some() || self.tap.tampered > 0 || self.tap.step.is_some() {
            // Cut fragments are the decoder's own tests'; the others need a true copy that comes first, or a clock.
            self.tap.fragmented = 0;
        }
        if self.tap.fragmented > 0 {
            self.tap.early_stamp = false;
            // They wait for each other as long again.
            self.tap.shuffle /= 2;
        }
        self.twins = self.pairs.len() > 1 && (self.config.interface_key || self.config.vlan_key);
        if self.is_strict() {
            // Who refuses a SYN does not see that endpoints are used again.
            self.pairs.iter_mut().for_each(|talks| talks.truncate(1));
            self.network.forged = 0;
        }
        let reused = self.pairs.iter().any(|talks| talks.len() > 1);
        if reused {
            // One-sided, a reuse is confirmed by payload at ISN + 1, which must be there, and before anything else. And
            // data of the new connection that overtakes its SYN-ACK cannot be told from the old one's.
            self.tap.only = None;
            self.tap.behind = 0;
            self.tap.skew = [0; 2];
            self.tap.shuffle = 0;
        }
        if self.pairs.iter().flatten().any(|talk| talk.plans[0].open_data > 0 || talk.simultaneous) {
            // Row 13: where the SYN-ACK comes first its number is the start, and data of the SYN lies before it.
            self.tap.skew = [0; 2];
            self.tap.shuffle = 0;
        }
        if !generous(&self.config) || !self.sees_all() {
            // Out of place it would open or corroborate something.
            self.network.forged = 0;
        }
        self.tap.skew = self.tap.skew.map(|skew| skew.min(self.config.gap_hold / 4));
        self.tap.shuffle = self.tap.shuffle.min(self.config.gap_hold / 4).min(self.config.pickup_hold / 4);
        // More than half a round trip would turn whole flights upside down, further than any window reaches.
        self.tap.shuffle = self.tap.shuffle.min(self.network.latency / 2);
        if !generous(&self.config) {
            // A limit may end the search for a stream's start before its SYN comes.
            self.tap.shuffle = 0;
        }
        if (self.tap.step.is_some() || self.config.clock_step != Config::default().clock_step)
            && self.ids == Ids::Counted
        {
            // Across a step nobody knows what is 10 ms.
            self.ids = Ids::Atomic;
        }
        if self.tap.step.is_some() {
            // Across a step, a stamp that lies before the last one is as good as time passing.
            self.tap.early_stamp = false;
        }
        if self.tap.starts > 0 {
            self.tap.skew = self.tap.skew.map(|skew| skew.min(self.config.pickup_hold / 4));
        }
    }
}

/// No limit and no timeout that an ordinary conversation could reach.
pub(crate) fn generous(ours: &Config) -> bool {
    let usual = Config::default();
    (ours.max_connections, ours.max_linger, ours.max_stream_queue, ours.max_stream_chunks, ours.max_total_queue)
        == (usual.max_connections, usual.max_linger, usual.max_stream_queue, 4_096, usual.max_total_queue)
        && (ours.handshake_timeout, ours.fin_timeout, ours.idle_timeout, ours.linger)
            == (usual.handshake_timeout, usual.fin_timeout, usual.idle_timeout, usual.linger)
}

fn isn(rng: &mut Rng) -> u32 {
    if rng.chance(60) { u32::MAX - rng.magnitude(1, 64 << 10) as u32 + rng.below(2) as u32 } else { rng.next() as u32 }
}

fn draw_wire(rng: &mut Rng) -> Wire {
    Wire {
        v6: rng.chance(50),
        extra: if rng.chance(20) { rng.between(1, 3) as u8 } else { 0 },
        options: rng.below(4) as u8,
        padding: (if rng.chance(20) { rng.between(1, 18) as usize } else { 0 }, rng.next() as u8),
    }
}

fn draw_network(rng: &mut Rng) -> Network {
    let forges_data = rng.chance(50);
    let mut maybe = |percent, low, high| if rng.chance(percent) { rng.magnitude(low, high) } else { 0 };
    Network {
        forges_data,
        latency: maybe(100, 20 * US, 100 * MS),
        jitter: maybe(30, 10 * US, 20 * MS),
        lost_before_tap: maybe(30, 10, 800),
        lost_behind_tap: maybe(25, 10, 800),
        duplicated: maybe(20, 10, 500),
        forged: maybe(20, 50, 500),
    }
}

/// Well beyond what is a discontinuity, or well below.
fn draw_step(rng: &mut Rng, limit: u64) -> i64 {
    let step = if rng.chance(70) { limit * rng.between(2, 200) } else { rng.magnitude(MS, limit / 2) };
    if rng.chance(50) { step.cast_signed() } else { -step.cast_signed() }
}

fn draw_tap(rng: &mut Rng, clock_step: u64) -> Tap {
    Tap {
        lost: if rng.chance(35) { rng.magnitude(10, 1_500) } else { 0 },
        burst: rng.magnitude(1, 20),
        blind: rng.chance(8).then(|| (rng.magnitude(10, 1_000), rng.magnitude(20, 400))),
        ring: rng.chance(40),
        skew: if rng.chance(25) { [rng.below(250 * MS), rng.below(250 * MS)] } else { [0; 2] },
        shuffle: if rng.chance(25) { rng.magnitude(US, 50 * MS) } else { 0 },
        early_stamp: rng.chance(30),
        duplicated: if rng.chance(15) { rng.magnitude(10, 500) } else { 0 },
        behind: if rng.chance(50) { rng.magnitude(US, 20 * MS) } else { 0 },
        tampered: if rng.chance(10) { rng.magnitude(10, 500) } else { 0 },
        fragmented: if rng.chance(30) { rng.magnitude(20, 2_000) } else { 0 },
        snaplen: rng.chance(12).then(|| rng.magnitude(1, 1_200) - 1),
        only: rng.chance(8).then(|| rng.below(2) as usize),
        starts: if rng.chance(20) { rng.between(1, 900) } else { 0 },
        ends: if rng.chance(15) { rng.between(1, 900) } else { 0 },
        step: rng.chance(10).then(|| (rng.below(1_000), draw_step(rng, clock_step))),
        tick: rng.chance(40).then(|| rng.magnitude(MS, SECOND)),
        silence: rng.chance(40),
    }
}

fn draw_kernel(rng: &mut Rng) -> kernel::Plan {
    kernel::Plan {
        acks: rng.chance(85),
        shed: if rng.chance(15) { rng.pick(&[20, 50, 100]) } else { 0 },
        table: rng.chance(15).then(|| rng.between(1, 2) as usize),
        ahead: if rng.chance(25) { rng.magnitude(MS, 200 * MS) } else { 0 },
    }
}

/// Exhaustive, so that a new field cannot be forgotten.
fn draw_config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    let Config {
        gap_hold,
        gap_timeout,
        pickup_hold,
        rst_hold,
        handshake_timeout,
        fin_timeout,
        idle_timeout,
        linger,
        clock_step,
        update_interval,
        max_connections,
        max_linger,
        max_stream_queue,
        max_stream_chunks,
        max_total_queue,
        cutoff,
        require_handshake,
        strict_fsm,
        strict_options,
        interface_key,
        vlan_key,
        overlap,
        late,
        hash_key,
    } = &mut config;
    if rng.chance(25) {
        *gap_hold = rng.magnitude(50 * MS, 3 * SECOND);
        *gap_timeout = *gap_hold + rng.magnitude(100 * MS, 60 * SECOND);
        *pickup_hold = rng.magnitude(MS, 200 * MS);
        *rst_hold = rng.magnitude(300 * MS, 3 * SECOND);
        *handshake_timeout = rng.magnitude(SECOND, 100 * SECOND);
        *fin_timeout = rng.magnitude(SECOND, 400 * SECOND);
        *idle_timeout = rng.magnitude(2 * SECOND, 8_000 * SECOND);
        // As the command line has it.
        (*handshake_timeout, *fin_timeout) =
            ((*handshake_timeout).min(*idle_timeout), (*fin_timeout).min(*idle_timeout));
        *linger = rng.magnitude(100 * MS, 100 * SECOND);
        *update_interval = rng.magnitude(SECOND, 400 * SECOND);
    }
    if rng.chance(25) {
        *clock_step = rng.magnitude(10 * SECOND, 8_000 * SECOND);
    }
    if rng.chance(20) {
        match rng.below(5) {
            0 => *max_connections = rng.between(1, 3) as u32,
            1 => *max_linger = rng.below(3) as u32,
            2 => *max_stream_queue = rng.magnitude(256, 64 << 10) as u32,
            3 => *max_stream_chunks = rng.between(1, 20) as u32,
            _ => *max_total_queue = rng.magnitude(512, 64 << 10),
        }
    }
    *cutoff = rng.chance(15).then(|| rng.magnitude(1, 256 << 10) - 1);
    *require_handshake = rng.chance(5);
    *strict_fsm = rng.chance(2);
    *strict_options = rng.chance(2);
    *interface_key = rng.chance(5);
    *vlan_key = rng.chance(5);
    *overlap = if rng.chance(20) { Overlap::Last } else { Overlap::First };
    *late = if rng.chance(50) { Late::Fill } else { Late::Count };
    *hash_key = std::array::from_fn(|_| rng.next());
    config
}
