//! TCP stream reassembly. No clock, no sockets, no files: time and segments come in as arguments, events go out through
//! a [`Sink`]. It cannot fail: bad input becomes a counter, a gap or a close.

mod assembler;
mod config;
mod connection;
mod event;
mod flow;
mod flusher;
mod gaps;
mod linger;
mod stats;
mod stream;
mod strict;
mod table;
mod twins;

use std::collections::BTreeSet;

pub use config::{Config, Late, Overlap};
use connection::{Connection, Core, Outcome};
pub use event::{
    ConnectionId, Direction, Ended, Event, GAPS_KEPT, GAPS_LISTED, Gap, GapCause, Sink, Started, StreamSummary, Summary,
};
pub use flow::{FlowSide, FlowState, Flows, NoFlows};
use flusher::Flusher;
use linger::{Entry, Kind, Linger};
pub use stats::Stats;
use table::Table;
use twins::Twins;

use crate::{
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
    steady::SteadyClock,
};

/// The connection table, its timers and its limits.
pub struct Reassembler {
    config: Config,
    stats: Stats,
    table: Table,
    flusher: Flusher,
    over: Linger,
    given_up: Linger,
    queues: Queues,
    twins: Twins,
    flows: Box<dyn Flows + Send>,
    clock: SteadyClock,
    /// As of when things are done: the clock's time, or that of a deadline before.
    now: Timestamp,
}

/// What a connection needs of the reassembler. A function would borrow all of that.
macro_rules! lend {
    ($self:ident, $slot:expr, $sink:ident) => {
        Core {
            config: &$self.config,
            stats: &mut $self.stats,
            clock: &$self.clock,
            now: $self.now,
            slot: $slot,
            flows: &mut *$self.flows,
            sink: &mut *$sink,
        }
    };
}

impl Reassembler {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            stats: Stats::default(),
            table: Table::new(&config),
            flusher: Flusher::default(),
            over: Linger::default(),
            given_up: Linger::default(),
            queues: Queues::default(),
            twins: Twins::default(),
            flows: Box::new(NoFlows),
            clock: SteadyClock::default(),
            now: Timestamp::default(),
        }
    }

    /// With somebody to ask what was withheld.
    pub fn with_flows(self, flows: Box<dyn Flows + Send>) -> Self {
        Self { flows, ..self }
    }

    /// Who is asked what was withheld.
    pub fn flows(&mut self) -> &mut dyn Flows {
        &mut *self.flows
    }

    /// Has what is known of connections on its way from memory; `each` is told of their slots. Of a million connections every
    /// place is far away, and each pass here asks for many of them before it needs one.
    pub fn expect(&self, mut ends: impl Iterator<Item = (Endpoint, Endpoint, Origin)>, mut each: impl FnMut(u32)) {
        const AT_ONCE: usize = 32;
        let mut hashes = [0; AT_ONCE];
        let mut slots = [None; AT_ONCE];
        loop {
            let mut count = 0;
            for (hash, (src, dst, origin)) in hashes.iter_mut().zip(&mut ends) {
                *hash = self.table.fingerprint(src, dst, &origin);
                count += 1;
            }
            for (slot, &hash) in slots.iter_mut().zip(&hashes).take(count) {
                *slot = self.table.guess(hash);
            }
            for &slot in slots.iter().take(count).flatten() {
                self.table.get(slot).map(Connection::expect);
                self.flusher.expect(slot);
                each(slot);
            }
            if count < AT_ONCE {
                return;
            }
        }
    }

    /// Takes one segment. Its timestamp is also the time, so what is due by then is done first.
    pub fn handle_segment(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        self.handle_timeout(segment.timestamp, sink);
        self.stats.segments += 1;
        self.stats.payload += segment.payload.len() as u64;
        if segment.flow.is_some() && (self.config.interface_key || self.config.vlan_key) {
            // The kernel tells fewer connections apart.
            self.dispatch(&Segment { flow: None, ..*segment }, sink);
        } else {
            self.dispatch(segment, sink);
        }
    }

    /// Takes note of a segment of which the first of several IP fragments has come, for the cause of the gap that it leaves
    /// if the others do not.
    pub fn handle_fragment(&mut self, segment: &Segment<'_>) {
        if let Some(slot) = self.table.find(segment)
            && let Some(connection) = self.table.get_mut(slot)
        {
            connection.handle_fragment(segment);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work to do, on the clock of the segments.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.flusher.next_deadline().map(|deadline| self.clock.frames(deadline))
    }

    /// Does what time alone demands: gaps, closes, updates. A time earlier than before counts as the same.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut impl Sink) {
        self.stats.clock_steps += u64::from(self.clock.advance(now, self.config.clock_step));
        // What came due in a silence is done as of then: what it starts, such as a linger, has been running since.
        let now = self.clock.now();
        while let Some((slot, due)) = self.flusher.pop(now) {
            self.now = due;
            let Some(connection) = self.table.get_mut(slot) else { continue };
            let mut core = lend!(self, slot, sink);
            connection.ask(&mut core);
            match connection.handle_timeout(&mut core) {
                Outcome::Closed(ended) => self.close(slot, ended, sink),
                Outcome::Open | Outcome::Reused { .. } => {
                    self.settle(slot);
                    // A gap takes room as well.
                    self.limit_queues(sink);
                }
            }
        }
        self.now = now;
        self.over.expire(self.now);
        self.given_up.expire(self.now);
    }

    /// Delivers what is queued and closes every connection, in the order they were opened.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        // Nothing comes due any more, and the order takes memory as well.
        self.flusher = Flusher::default();
        for slot in self.table.in_order() {
            self.close(slot, Ended::Finish, sink);
        }
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.table.len()
    }

    /// Octets of memory that queued segments cost now.
    pub fn queued_memory(&self) -> u64 {
        self.queues.total
    }

    /// Finds or opens the connection of a segment.
    fn dispatch(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        let slot = match self.table.find(segment) {
            Some(slot) => slot,
            None => match self.judge_unknown(segment) {
                Some(continues) => self.open(segment, continues, sink),
                None => return,
            },
        };
        let Some(connection) = self.table.get_mut(slot) else { return };
        let mut core = lend!(self, slot, sink);
        let direction = connection.direction_of(segment);
        let twin = self.twins.is_twin(connection.serial, direction, segment, core.now);
        core.stats.duplicate_frames += u64::from(twin);
        match connection.handle_segment(segment, direction, twin, &mut core) {
            Outcome::Open => {
                self.settle(slot);
                self.limit_queues(sink);
            }
            Outcome::Closed(ended) => self.close(slot, ended, sink),
            Outcome::Reused { syn, then_segment } => {
                self.close(slot, Ended::Reused, sink);
                self.dispatch(&syn.segment(), sink);
                if then_segment {
                    self.dispatch(segment, sink);
                }
            }
        }
    }

    /// Whether a segment of unknown endpoints opens a connection, and if so, which one it continues.
    fn judge_unknown(&mut self, segment: &Segment<'_>) -> Option<Option<u64>> {
        let fingerprint = self.table.fingerprint(segment.src, segment.dst, &segment.origin);
        let payload = segment.payload.len() as u64;
        let syn = segment.flags.contains(Flags::SYN);
        if let Some(Entry { kind: Kind::Over(isns), .. }) = self.over.get(fingerprint, self.now) {
            let same = isns[usize::from(segment.src > segment.dst)] == Some(segment.seq);
            if !syn || same || segment.flags.contains(Flags::RST) {
                self.stats.after_close += payload;
                self.stats.lingering += 1;
                return None;
            }
            self.over.remove(fingerprint);
        }
        if segment.flags.contains(Flags::RST) {
            self.stats.rst_payload += payload;
            self.stats.orphans += 1;
            return None;
        }
        if syn {
            // Whatever is picked up later is this connection, and not the one before.
            self.given_up.remove(fingerprint);
            return Some(None);
        }
        if payload == 0 && segment.missing == 0 {
            self.stats.orphans += 1;
            return None;
        }
        if self.config.require_handshake {
            self.stats.no_handshake += payload;
            return None;
        }
        Some(match self.given_up.get(fingerprint, self.now) {
            Some(&Entry { kind: Kind::GivenUp(serial), .. }) => {
                self.given_up.remove(fingerprint);
                Some(serial)
            }
            _ => None,
        })
    }

    fn open(&mut self, first: &Segment<'_>, continues: Option<u64>, sink: &mut impl Sink) -> u32 {
        while self.table.len() >= self.config.max_connections.max(1) as usize
            && let Some(longest) = self.table.longest_idle()
        {
            self.stats.limit_connections += 1;
            self.close(longest, Ended::Evicted, sink);
        }
        self.stats.opened += 1;
        let slot = self.table.insert(Connection::new(self.stats.opened, first, self.now, continues));
        if let Some(connection) = self.table.get_mut(slot) {
            connection.open(slot, sink);
        }
        slot
    }

    fn close(&mut self, slot: u32, ended: Ended, sink: &mut impl Sink) {
        let Some(mut connection) = self.table.remove(slot) else { return };
        self.flusher.remove(slot);
        self.queues.set(slot, [0, 0]);
        let mut core = lend!(self, slot, sink);
        // Others end with a segment, or were asked for when their time had come.
        if matches!(ended, Ended::Evicted | Ended::Finish) {
            connection.ask(&mut core);
        }
        let pending = connection.take_pending(ended, core.stats);
        let ended = connection.close(ended, &mut core);

        let (client, server) = connection.endpoints();
        let fingerprint = self.table.fingerprint_of(&connection);
        let full = match ended {
            Ended::Fin | Ended::Rst => {
                let kind = Kind::Over(by_endpoint(connection.isns(), client, server));
                let expires = self.now.after(self.config.linger);
                self.over.insert(Entry { fingerprint, expires, kind }, self.config.max_linger as usize)
            }
            Ended::Idle | Ended::Evicted => {
                if connection.has_flow() {
                    self.flows.forget(client, server);
                }
                let kind = Kind::GivenUp(connection.serial);
                let expires = self.now.after(self.config.idle_timeout);
                self.given_up.insert(Entry { fingerprint, expires, kind }, self.config.max_linger as usize)
            }
            Ended::Reused | Ended::Finish => false,
        };
        self.stats.limit_linger += u64::from(full);
        for syn in pending {
            self.dispatch(&syn.segment(), sink);
        }
    }

    /// Brings timer and queue accounts of a connection up to date.
    fn settle(&mut self, slot: u32) {
        let Some(connection) = self.table.get(slot) else { return };
        self.flusher.schedule(slot, connection.deadline(&self.config));
        self.queues.set(slot, connection.charged());
    }

    /// While the queues are too large, the stream holding most gives way.
    fn limit_queues(&mut self, sink: &mut impl Sink) {
        while self.queues.total > self.config.max_total_queue
            && let Some((slot, direction)) = self.queues.largest()
            && let Some(connection) = self.table.get_mut(slot)
        {
            self.stats.limit_total_queue += 1;
            let mut core = lend!(self, slot, sink);
            connection.give_way(direction, &mut core);
            self.settle(slot);
        }
    }
}

/// What each stream has queued.
#[derive(Default)]
struct Queues {
    total: u64,
    by_size: BTreeSet<(u64, u32, u8)>,
    /// By slot; only as long as the highest slot that ever queued.
    sizes: Vec<[u64; 2]>,
}

impl Queues {
    fn set(&mut self, slot: u32, sizes: [u64; 2]) {
        let at = slot as usize;
        if at >= self.sizes.len() {
            if sizes == [0, 0] {
                return;
            }
            self.sizes.resize(at + 1, [0, 0]);
        }
        if self.sizes[at] == sizes {
            return;
        }
        for (direction, (old, new)) in (0..).zip(self.sizes[at].into_iter().zip(sizes)) {
            if old > 0 {
                self.by_size.remove(&(old, slot, direction));
            }
            if new > 0 {
                self.by_size.insert((new, slot, direction));
            }
            self.total = self.total - old + new;
        }
        self.sizes[at] = sizes;
    }

    fn largest(&self) -> Option<(u32, Direction)> {
        self.by_size.last().map(|&(_, slot, direction)| (slot, Direction::BOTH[usize::from(direction)]))
    }
}

/// ISNs of the lower and the higher endpoint.
fn by_endpoint([c, s]: [Option<SeqNum>; 2], client: Endpoint, server: Endpoint) -> [Option<SeqNum>; 2] {
    if client > server { [s, c] } else { [c, s] }
}
