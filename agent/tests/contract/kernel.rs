//! A kernel that copies only what is needed: what it withholds is in its accounts, and beside the next segment.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use agent::{
    reassembly::{FlowSide, FlowState, Flows},
    segment::{Acknowledgment, Endpoint, Flags, FlowNote, Segment, SeqNum},
};

/// What it is told to withhold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// ACKs without anything else.
    pub(crate) acks: bool,
    pub(crate) cutoff: Option<u64>,
    /// The connections that begin now are shed.
    pub(crate) shed: bool,
}

/// Accounts of every pair of endpoints, the lower one first.
#[derive(Clone, Default)]
pub(crate) struct Kernel {
    pub(crate) orders: Orders,
    accounts: Arc<Mutex<HashMap<[Endpoint; 2], Account>>>,
    /// Accounts that began anew with another SYN: what the old ones had counted is gone.
    restarts: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Default)]
struct Account {
    sides: [Side; 2],
    shed: bool,
    announced: bool,
}

#[derive(Clone, Copy, Default)]
struct Side {
    state: FlowSide,
    /// Sequence number of the first octet.
    start: Option<SeqNum>,
}

impl Side {
    /// Whether it has sent all before `number`, one of which may be a FIN's. What it has sent may not pass here at all.
    fn has_reached(&self, number: SeqNum) -> bool {
        self.start.is_none_or(|start| number.distance_from(start.advance(self.state.reach + 1)) <= 0)
    }
}

impl Kernel {
    pub(crate) fn new(orders: Orders) -> Self {
        Self { orders, ..Self::default() }
    }

    pub(crate) fn has_restarted(&self) -> bool {
        self.restarts.load(Ordering::Relaxed)
    }

    /// What of `segment` is copied, and the note beside it.
    pub(crate) fn copy<'a>(&self, segment: &Segment<'a>) -> Option<(Segment<'a>, FlowNote)> {
        let mut accounts = self.accounts.lock().expect("one thread");
        let (key, side) = key(segment.src, segment.dst);
        let has = |flag| segment.flags.contains(flag);
        let len = segment.payload.len() as u64 + u64::from(segment.missing);
        let first = segment.seq.advance(u64::from(has(Flags::SYN)));
        let account = accounts.entry(key).or_default();
        let known = account.sides[side].start;
        let begins = has(Flags::SYN) && known != Some(first) && (!has(Flags::ACK) || known.is_some());
        if begins {
            self.restarts.fetch_or(account.announced, Ordering::Relaxed);
            *account = Account { shed: self.orders.shed, ..Account::default() };
        }
        let [own, peer] = if side == 0 { [0, 1] } else { [1, 0] };
        let knows_ack = account.sides[peer].has_reached(segment.ack);
        let sender = &mut account.sides[own];
        let start = *sender.start.get_or_insert(first);
        let position = {
            let highest = start.advance(sender.state.reach);
            sender.state.reach.saturating_add_signed(i64::from(first.distance_from(highest)))
        };
        if !has(Flags::RST) {
            sender.state.reach = sender.state.reach.max(position + len);
        }
        sender.state.segments += 1;
        sender.state.last_seen = segment.timestamp;
        if has(Flags::ACK) && knows_ack {
            let new = Acknowledgment { number: segment.ack, time: segment.timestamp, window: segment.window };
            let ack = sender.state.ack.get_or_insert(new);
            if segment.ack.distance_from(ack.number) > 0 {
                *ack = new;
            }
            ack.window = segment.window;
        }
        let control = [Flags::SYN, Flags::FIN, Flags::RST, Flags::URG].into_iter().any(has);
        let cutoff = if account.shed { Some(0) } else { self.orders.cutoff };
        let behind = len > 0 && cutoff.is_some_and(|cutoff| position >= cutoff);
        sender.state.cut |= behind && !account.shed;
        let withheld = account.announced && !control && (behind || self.orders.acks && knows_ack && len == 0);
        let [own, peer] = [account.sides[own].state, account.sides[peer].state];
        account.announced |= !withheld;
        let note = FlowNote {
            reach: own.reach,
            lost: own.lost,
            segments: [own.segments, peer.segments],
            peer_ack: peer.ack,
            cut: own.cut,
            shed: account.shed,
            ..FlowNote::default()
        };
        let payload = if behind { &[] } else { segment.payload };
        let missing = segment.missing + (segment.payload.len() - payload.len()) as u32;
        (!withheld).then_some((Segment { payload, missing, ..*segment }, note))
    }

    /// A segment that the ring had no room for.
    pub(crate) fn lose(&self, segment: &Segment<'_>) {
        let (key, side) = key(segment.src, segment.dst);
        if self.copy(segment).is_some() {
            let mut accounts = self.accounts.lock().expect("one thread");
            let account = accounts.entry(key).or_default();
            account.sides[side].state.lost += segment.payload.len() as u64;
        }
    }

    /// Forgets all accounts, as it may when it has too many.
    pub(crate) fn forget(&self) {
        self.accounts.lock().expect("one thread").clear();
    }

    /// As if `octets` more had gone by, of which nothing was copied.
    pub(crate) fn skip(&self, from: Endpoint, to: Endpoint, octets: u64) {
        let (key, side) = key(from, to);
        let mut accounts = self.accounts.lock().expect("one thread");
        let state = &mut accounts.entry(key).or_default().sides[side].state;
        state.reach += octets;
        state.segments += octets / 1_000;
        state.cut = true;
    }
}

impl Flows for Kernel {
    fn flow(&mut self, a: Endpoint, b: Endpoint) -> Option<FlowState> {
        let (key, side) = key(a, b);
        let account = *self.accounts.lock().expect("one thread").get(&key)?;
        let mut sides = account.sides.map(|side| side.state);
        if side == 1 {
            sides.reverse();
        }
        Some(FlowState { sides, shed: account.shed })
    }
}

fn key(from: Endpoint, to: Endpoint) -> ([Endpoint; 2], usize) {
    if from < to { ([from, to], 0) } else { ([to, from], 1) }
}
