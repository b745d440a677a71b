//! The kernel half between tap and reassembler: the accounts of `agent_common::flow` themselves, in a table of a drawn
//! size, and a ring that is read with a drawn delay. What it copies, what it says beside that, and what it answers.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use agent::{
    reassembly::{FlowSide, FlowState, Flows},
    segment::{Acknowledgment, Endpoint, FlowNote, SeqNum, Timestamp},
};
use agent_common::{
    counter::Counter,
    flow::{Extent, Flow, FlowKey, Orders, Side, state},
    head::{Head, TCP_WORD},
};

use crate::{
    drive::{EPOCH, flags},
    network::{Capture, Record},
    packet::{Kind, Packet, Position},
    rng::Rng,
    scenario::Scenario,
};

/// What the kernel is told, and how it fares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Bare ACKs are withheld.
    pub(crate) acks: bool,
    /// Percentage of the connections that find the ring too full when they begin.
    pub(crate) shed: u64,
    /// Flows that it can remember.
    pub(crate) table: Option<usize>,
    /// So long a record lies in the ring: its accounts are as much ahead of the reassembler.
    pub(crate) ahead: u64,
}

/// What became of a record in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    pub(crate) extent: Taken,
    /// Octets of payload; those that were wanted, and the ring had no room for.
    pub(crate) captured: Position,
    pub(crate) lost: Position,
    pub(crate) note: Option<FlowNote>,
    /// Records that the ring had refused before.
    pub(crate) refused: u64,
    /// The connection was shed.
    pub(crate) shed: bool,
    /// The conversation that was forgotten to make room for this one.
    pub(crate) forgotten: Option<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    Whole,
    Headers,
    /// The counter says why.
    Withheld(Counter),
    /// The ring had no room.
    Lost,
}

impl Copied {
    pub(crate) fn whole(record: &Record) -> Self {
        let captured = record.packet.len;
        Self {
            extent: Taken::Whole,
            captured,
            lost: 0,
            note: None,
            refused: record.refused,
            shed: false,
            forgotten: None,
        }
    }

    /// Whether the kernel has accounts that it is in.
    pub(crate) fn is_accounted_for(&self) -> bool {
        self.note.is_some() || !self.extent.is_copied()
    }
}

impl Taken {
    /// Whether the reassembler gets it.
    pub(crate) fn is_copied(self) -> bool {
        matches!(self, Self::Whole | Self::Headers)
    }
}

/// Shared with the reassembler, which asks.
#[derive(Clone)]
pub(crate) struct Kernel(Arc<Mutex<Accounts>>);

struct Accounts {
    plan: Plan,
    orders: Orders,
    snaplen: Option<u64>,
    rng: Rng,
    flows: HashMap<FlowKey, Entry>,
    /// Counts segments: what was used last.
    clock: u64,
    refused: u64,
    /// Conversations of which something withheld was forgotten before anybody heard of it, or whose accounts somebody else
    /// has spoilt.
    spoilt: Vec<usize>,
    /// Those of which a ring has heard.
    announced: HashSet<usize>,
    asked: bool,
}

struct Entry {
    flow: Flow,
    used: u64,
    conversation: usize,
    untold: Untold,
}

/// What was withheld since the last question, and no record has told.
#[derive(Clone, Copy, Default, PartialEq)]
struct Untold {
    /// Since the last record.
    segments: bool,
    /// Since the last record of the side that sent them: its peer's do not say how far it has come.
    octets: [bool; 2],
}

impl Kernel {
    pub(crate) fn new(scenario: &Scenario, plan: Plan) -> Self {
        let cutoff = scenario.config.cutoff.unwrap_or(u64::MAX);
        Self(Arc::new(Mutex::new(Accounts {
            plan,
            orders: Orders { acks: plan.acks, cutoff, shed: plan.shed > 0 },
            snaplen: scenario.tap.snaplen,
            rng: Rng::new(!scenario.seed),
            flows: HashMap::new(),
            clock: 0,
            refused: 0,
            spoilt: Vec::new(),
            announced: HashSet::new(),
            asked: false,
        })))
    }

    pub(crate) fn copy(&self, record: &Record, capture: &Capture, ends: [Endpoint; 2]) -> Copied {
        self.lock().copy(record, head(&record.packet, capture, ends))
    }

    /// Conversations of which the accounts are not whole any more.
    pub(crate) fn take_spoilt(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().spoilt)
    }

    /// Whether it was asked since the last time.
    pub(crate) fn take_asked(&self) -> bool {
        std::mem::take(&mut self.lock().asked)
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().expect("one thread")
    }
}

impl Flows for Kernel {
    fn flow(&mut self, a: Endpoint, b: Endpoint) -> Option<FlowState> {
        let head = Head { src: a.address, dst: b.address, src_port: a.port, dst_port: b.port, ..Head::default() };
        let (key, side) = FlowKey::of(&head);
        let mut accounts = self.lock();
        accounts.asked = true;
        let is_ahead = accounts.plan.ahead > 0;
        let entry = accounts.flows.get_mut(&key)?;
        if !is_ahead {
            // Otherwise it may be more than is done now, or about another connection than that of the one who asks.
            entry.untold = Untold::default();
        }
        let sides = [side, side ^ 1].map(|side| told(&entry.flow, side));
        Some(FlowState { sides, shed: has(&entry.flow, state::SHED) })
    }

    fn forget(&mut self, a: Endpoint, b: Endpoint) {
        let head = Head { src: a.address, dst: b.address, src_port: a.port, dst_port: b.port, ..Head::default() };
        let mut accounts = self.lock();
        if let Some(entry) = accounts.flows.remove(&FlowKey::of(&head).0) {
            accounts.spoil(&entry);
        }
    }
}

impl Accounts {
    /// As the programs do it: what the filter lets through is accounted for, and copied as far as it is wanted.
    fn copy(&mut self, record: &Record, head: Head) -> Copied {
        let (packet, now) = (&record.packet, EPOCH + record.time);
        let (key, side) = FlowKey::of(&head);
        self.clock += 1;
        let forgotten = self.make_room(&key);
        let new = Entry { flow: Flow::NONE, used: 0, conversation: packet.conversation, untold: Untold::default() };
        let Entry { flow, used, conversation, untold } = self.flows.entry(key).or_insert(new);
        *used = self.clock;
        let (before, begins) = (flow.is_new(), flow.begins(&head));
        flow.open(&head, side);
        if !before && flow.is_new() {
            // Who asks before he has read that far hears of another one.
            if *untold != Untold::default() || packet.kind == Kind::Forged || self.plan.ahead > 0 {
                self.spoilt.push(*conversation);
            }
            *untold = Untold::default();
        }
        if packet.kind == Kind::Forged && !packet.rst {
            self.spoilt.push(packet.conversation);
        }
        *conversation = packet.conversation;
        if self.orders.shed && begins && flow.is_new() && self.rng.chance(self.plan.shed) {
            flow.set(state::SHED);
        }
        let len = packet.len as u64;
        let ordinary = flow.is_ordinary(&head, side, len);
        let (begin, advances) = flow.note(&head, side, len);
        flow.hear(side, advances, now);
        flow.sides[side].bytes += len;
        flow.sides[side].segments += 1;
        let wanted = match flow.extent(&head, side, len, begin, ordinary, self.orders) {
            Extent::Whole => Taken::Whole,
            Extent::Headers => Taken::Headers,
            Extent::Nothing(counter) => Taken::Withheld(counter),
        };
        let whole = if wanted == Taken::Whole { packet.len } else { 0 };
        let refused = self.refused;
        let extent = if wanted.is_copied() && record.squeezed { Taken::Lost } else { wanted };
        let lost = if extent == Taken::Lost { whole } else { 0 };
        if extent == Taken::Lost {
            self.refused += 1;
            flow.sides[side].lost += lost as u64;
        }
        let note = extent.is_copied().then(|| note(flow, side));
        if note.is_some() {
            flow.set(state::ANNOUNCED);
            self.announced.insert(packet.conversation);
        } else if !has(flow, state::ANNOUNCED) && self.announced.contains(&packet.conversation) {
            // It was forgotten, and of accounts that begin anew without a record nobody can know whose they are.
            self.spoilt.push(packet.conversation);
        }
        untold.segments = note.is_none();
        untold.octets[side] = note.is_none() && (len > 0 || untold.octets[side]);
        let captured = if extent.is_copied() { whole.min(self.snaplen.map_or(whole, Position::from)) } else { 0 };
        Copied { extent, captured, lost, note, refused, shed: has(flow, state::SHED), forgotten }
    }

    /// Forgets the flow that was silent longest, if there is no room for another one.
    fn make_room(&mut self, key: &FlowKey) -> Option<usize> {
        let full = self.plan.table.is_some_and(|size| self.flows.len() >= size) && !self.flows.contains_key(key);
        let oldest = self.flows.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
        let entry = self.flows.remove(&oldest.filter(|_| full)?)?;
        self.spoil(&entry);
        Some(entry.conversation)
    }

    /// What is forgotten before anybody has heard of it.
    fn spoil(&mut self, entry: &Entry) {
        if entry.untold != Untold::default() {
            self.spoilt.push(entry.conversation);
        }
    }
}

/// What the parser finds in the packet.
fn head(packet: &Packet, capture: &Capture, ends: [Endpoint; 2]) -> Head {
    let talk = &capture.talks[packet.conversation];
    let (src, dst) = (ends[packet.from], ends[1 - packet.from]);
    let mut head =
        Head { src: src.address, dst: dst.address, src_port: src.port, dst_port: dst.port, ..Head::default() };
    let number = |side: usize, at: Position| talk.isn[side].wrapping_add(at as u32);
    head.headers[TCP_WORD + 1] = number(packet.from, packet.seq).to_be();
    head.headers[TCP_WORD + 2] = packet.ack.map_or(0, |ack| number(1 - packet.from, ack)).to_be();
    head.headers[TCP_WORD + 3] = (u32::from(flags(packet).0) << 16 | u32::from(packet.window)).to_be();
    head
}

/// What stands beside a record of `side`.
fn note(flow: &Flow, side: usize) -> FlowNote {
    let [own, peer] = [side, side ^ 1].map(|side| told(flow, side));
    FlowNote {
        reach: own.reach,
        lost: own.lost,
        segments: [own.segments, peer.segments],
        peer_ack: peer.ack,
        client: flow.client(side),
        cut: own.cut,
        shed: has(flow, state::SHED),
    }
}

fn told(flow: &Flow, side: usize) -> FlowSide {
    let Side { segments, lost, last_seen, ack, ack_time, window, .. } = flow.sides[side];
    let ack = Acknowledgment { number: SeqNum(ack), time: Timestamp(ack_time), window };
    FlowSide {
        segments,
        reach: flow.sides[side].reach(),
        lost,
        ack: has(flow, state::ACKED << side).then_some(ack),
        last_seen: Timestamp(last_seen),
        cut: has(flow, state::CUT << side),
    }
}

fn has(flow: &Flow, bits: u32) -> bool {
    flow.state & bits != 0
}
