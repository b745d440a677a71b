use std::{
    fs,
    hint::black_box,
    mem,
    num::NonZeroU32,
    os::unix::fs::DirBuilderExt as _,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use hashbrown::HashMap;
use rustix::process::{Resource, getrlimit};

use crate::{
    ends::Ends,
    error::{Name, Reason},
    reassembly::{ConnectionId, Direction, Event, GapCause, Sink, Summary},
    segment::Timestamp,
    sink::{
        OnFull, Output, Shared, Stats,
        block::{Block, Chain, LARGEST, Pool, class_of},
        queue::{Close, Message, Queue, Write},
        record::{Identity, Kind, Loss, Record},
        short::{SHORT, Short},
        tree::OPEN,
        writer::Writer,
    },
    slab::Slab,
};

/// Files and an index in a directory. Lives on a shard's thread and never waits for a disk, unless
/// [`OnFull::Wait`] says so.
///
/// A stream that is short enough stays in memory until its connection closes, and is then written at once and under its
/// final name. One that is not, or that has waited for too long, or longest of all when the pool runs low, goes to a
/// file under `open/` that grows until then.
pub struct Directory {
    /// By slot.
    connections: Vec<Option<Connection>>,
    shorts: Slab<Short>,
    longs: Slab<Long>,
    /// What was lost for want of blocks, by slot.
    losses: HashMap<u32, Box<[Loss; 2]>>,
    shared: Arc<Shared>,
    /// Connections that hold octets, in order of age.
    oldest: Option<Slot>,
    newest: Option<Slot>,
    now: Timestamp,
    stats: Stats,
    output: Output,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
    /// The source has ended, and so can wait.
    source_ended: bool,
}

impl Directory {
    /// Makes the directory, and [`Output::shards`] sinks that write to it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or a writer's thread not be started.
    pub fn for_shards(output: &Output) -> anyhow::Result<Vec<Self>> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        ensure!(
            output.run.chars().all(plain),
            "run name {:?}: only letters, digits, - and _ fit into names",
            output.run
        );

        let open = output.dir.join(OPEN);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&open).map_err(|error| {
            let (open, reason) = (Name(&open), Reason(&error));
            anyhow!("create {open}: {reason} (choose a directory that this user may write to)")
        })?;
        let left = fs::read_dir(&open).with_context(|| format!("read {}", Name(&open)))?.count();
        if left > 0 {
            let open = Name(&open);
            (output.report)(&format!(
                "{open} holds {left} streams that an earlier run left incomplete, or that another run is writing"
            ));
        }

        let shared =
            Arc::new(Shared { pool: Pool::new(output.buffer), index: Mutex::default(), reported: Mutex::default() });
        (0..output.shards).map(|shard| Self::new(output.clone(), shared.clone(), shard)).collect()
    }

    fn new(mut output: Output, shared: Arc<Shared>, shard: u32) -> anyhow::Result<Self> {
        if output.on_full == OnFull::Wait {
            output.queue = output.queue.min(RECORDS_IN_FLIGHT);
        }
        let may_open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2 / u64::from(output.shards.max(1));
        let max_handles = output.max_open_files.min(may_open.try_into().unwrap_or(usize::MAX));
        let queue = Arc::new(Queue::default());
        let writer = {
            let (output, shared, queue) = (output.clone(), shared.clone(), queue.clone());
            thread::Builder::new()
                .name(format!("writer-{shard}"))
                .spawn(move || Writer::new(output, shared, shard, queue, max_handles).run())
                .context("start the writer's thread")?
        };
        Ok(Self {
            connections: Vec::new(),
            shorts: Slab::default(),
            longs: Slab::default(),
            losses: HashMap::new(),
            shared,
            oldest: None,
            newest: None,
            now: Timestamp::default(),
            stats: Stats::default(),
            output,
            queue,
            writer: Some(writer),
            source_ended: false,
        })
    }

    /// As [`Destination::expect`](super::Destination::expect).
    pub fn expect(&self, slot: u32) {
        let Some(Some(connection)) = self.connections.get(slot as usize) else { return };
        for place in connection.streams {
            black_box(match place.get() {
                Where::Nowhere => false,
                Where::Short(index) => self.shorts.get(index).is_some(),
                Where::Long(index) => self.longs.get(index).is_some(),
            });
        }
    }

    /// Writes what has been in memory for too long. `now` is capture time; to be called several times a second of it.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        let now = ticks(self.now);
        while let Some(slot) = self.oldest
            && let Some(connection) = self.connection(slot.number())
            && u64::from(now.wrapping_sub(connection.since)) >= self.output.write_age >> TICK_BITS
            && self.has_room()
        {
            self.stats.early_age += self.hand_over(slot);
        }
        // Another shard may need what is held here.
        self.release();
        self.queue.wake();
    }

    /// No frame follows. Closing what is open makes more records at once than the queue has room for, so that from now on
    /// they wait for it, as long as the writer makes progress.
    pub fn source_ended(&mut self) {
        self.source_ended = true;
    }

    /// Hands everything to the writer and waits for it, as long as it makes progress.
    pub fn finish(mut self) -> Stats {
        while let Some(slot) = self.oldest {
            self.hand_over(slot);
        }
        let (written, left_behind) = self.queue.finish(self.patience());
        self.stats.merge(&written);
        self.stats.buffer_high = self.shared.pool.high() as u64;
        if left_behind {
            (self.output.report)(
                "stop waiting for the disk: no write has come back (what was still queued is lost, disk-slow)",
            );
        } else if let Some(writer) = self.writer.take() {
            // It has ended, and said all it had to say through the queue.
            let _ = writer.join();
        }
        self.stats
    }

    fn open(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        let slot = id.slot as usize;
        if slot >= self.connections.len() {
            self.connections.resize_with(slot + 1, || None);
        }
        self.now = self.now.max(summary.start);
        self.connections[slot] = Some(Connection {
            serial: id.serial,
            start: summary.start,
            ends: Ends::new(summary.client, summary.server),
            since: 0,
            older: None,
            newer: None,
            streams: Default::default(),
            holds: false,
            growing: false,
        });
        self.note(Kind::Open, id, summary);
    }

    /// Keeps `bytes`: the first few of a stream apart, and in blocks as soon as there are more.
    fn append(&mut self, key: Key, offset: u64, bytes: &[u8]) {
        let Some(connection) = self.connection(key.slot) else { return };
        match connection.streams[key.direction as usize].get() {
            Where::Nowhere if bytes.is_empty() => return,
            Where::Nowhere if offset == 0 && bytes.len() <= SHORT && self.shared.pool.lets_grow(&self.shorts) => {
                let place = Place::short(self.shorts.insert(Short::new(bytes)));
                self.put(key, place);
                self.hold(key.slot);
            }
            Where::Nowhere => self.lengthen(key),
            Where::Short(index) => {
                let short = self.shorts.get_mut(index);
                if short.is_some_and(|short| short.bytes().len() as u64 == offset && short.fill(bytes)) {
                    return;
                }
                let short = self.shorts.remove(index).unwrap_or_default();
                self.lengthen(key);
                self.append_long(key, 0, short.bytes());
            }
            Where::Long(_) => {}
        }
        self.append_long(key, offset, bytes);
    }

    /// Copies `bytes` into blocks: the one time that they are copied.
    fn append_long(&mut self, key: Key, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(stream) = self.long(key) else { return };
            if stream.stopped {
                self.lose(key, offset, bytes.len() as u64);
                return;
            }
            match stream.chain.newest() {
                Some(block) if block.end() == offset && !block.is_full() => {
                    let taken = block.fill(bytes);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    offset += taken as u64;
                    if block.is_full() {
                        self.filled(key);
                    }
                }
                newest => {
                    // A stream that goes on gets larger and larger blocks. One that jumps may jump again.
                    let goes_on = newest.is_none_or(|block| block.end() == offset);
                    let fits = class_of(bytes.len());
                    let class = if goes_on { fits.max(usize::from(stream.next_class)) } else { fits };
                    let Some(block) = self.take(class, offset) else {
                        self.stop(key);
                        continue;
                    };
                    self.add(key, block, class);
                }
            }
        }
    }

    /// Adds an empty block to a stream.
    fn add(&mut self, key: Key, block: Box<Block>, class: usize) {
        let Some(stream) = self.long(key) else { return };
        stream.next_class = (class + 1).min(LARGEST) as u8;
        stream.chain.push(block);
        self.hold(key.slot);
    }

    /// A block of the stream is full: what there is goes to the writer if it is too much to hold.
    fn filled(&mut self, key: Key) {
        let limit = self.output.stream_memory;
        let Some(stream) = self.long(key) else { return };
        if stream.chain.held() >= limit {
            stream.large = true;
            self.send(key);
            self.settle(key.slot);
            self.stats.early_size += 1;
        }
    }

    /// A block, unless the pool is empty and waiting is out of the question.
    fn take(&mut self, class: usize, offset: u64) -> Option<Box<Block>> {
        loop {
            self.release();
            if let Some(block) = self.shared.pool.take(class, offset) {
                return Some(block);
            }
            self.queue.wake();
            if self.output.on_full == OnFull::Drop || self.queue.has_ended() {
                return None;
            }
            self.shared.pool.wait();
        }
    }

    /// Hands over the streams that have been in memory longest, until a quarter of the pool is free or on its way.
    fn release(&mut self) {
        while self.shared.pool.is_short()
            && let Some(slot) = self.oldest
            && self.has_room()
        {
            for direction in Direction::BOTH {
                if let Some(stream) = self.long(Key { slot: slot.number(), direction }) {
                    stream.large = false;
                }
            }
            self.stats.early_pool += self.hand_over(slot);
        }
    }

    /// Sends what a connection holds to the writer. Returns of how many streams that was something.
    fn hand_over(&mut self, slot: Slot) -> u64 {
        self.unlink(slot.number());
        Direction::BOTH.map(|direction| u64::from(self.send(Key { slot: slot.number(), direction }))).iter().sum()
    }

    /// Sends what a stream holds to the writer, if that is something.
    fn send(&mut self, key: Key) -> bool {
        let chain = self.empty(key);
        let Some(connection) = self.connection(key.slot) else { return false };
        if chain.is_empty() {
            return false;
        }
        connection.growing = true;
        let write = Write { identity: connection.identity(), direction: key.direction, chain };
        self.shared.pool.hand_over(write.chain.held());
        self.queue.push(Message::Write(write));
        self.keep_pace();
        true
    }

    /// Takes what a stream holds.
    fn empty(&mut self, key: Key) -> Chain {
        let place = self.connection(key.slot).map_or(Where::Nowhere, |it| it.streams[key.direction as usize].get());
        match place {
            Where::Nowhere => Chain::default(),
            Where::Short(index) => {
                let short = self.shorts.remove(index).unwrap_or_default();
                self.lengthen(key);
                self.shared.pool.chain_of(short.bytes())
            }
            Where::Long(_) => {
                let Some(stream) = self.long(key) else { return Chain::default() };
                if !stream.large {
                    stream.next_class = 0;
                }
                mem::take(&mut stream.chain)
            }
        }
    }

    /// Waits for the writers if the source can wait and they are behind.
    fn keep_pace(&self) {
        if self.output.on_full == OnFull::Wait && self.shared.pool.is_behind() {
            self.queue.wake();
            while self.shared.pool.is_behind() && !self.queue.has_ended() {
                self.shared.pool.wait();
            }
        }
    }

    /// Whether the queue takes one more record; waits until it does if the source can wait.
    fn has_room(&mut self) -> bool {
        if self.queue.size() < self.output.queue {
            return true;
        }
        if self.output.on_full == OnFull::Drop && !self.source_ended {
            return false;
        }
        let has_room = self.queue.wait_for_room(self.output.queue, self.patience());
        if !has_room {
            // Once is enough: nothing after this waits for that long again.
            self.output.patience = Duration::ZERO;
        }
        has_room
    }

    /// How long a writer that makes no progress is waited for.
    fn patience(&self) -> Option<Duration> {
        (self.output.on_full == OnFull::Drop).then_some(self.output.patience)
    }

    fn stop(&mut self, key: Key) {
        if let Some(stream) = self.long(key) {
            stream.stopped = true;
            self.stats.streams_stopped += 1;
        }
    }

    fn lose(&mut self, key: Key, offset: u64, len: u64) {
        self.stats.disk_slow += len;
        let losses = self.losses.entry(key.slot).or_default();
        losses[key.direction as usize].add(offset, len, GapCause::DiskSlow);
    }

    fn note(&mut self, event: Kind, id: ConnectionId, summary: &Summary<'_>) {
        if !self.has_room() {
            self.stats.notes_lost += 1;
            return;
        }
        let losses = self.losses.get(&id.slot).map(|losses| *losses.clone()).unwrap_or_default();
        self.queue.push(Message::Note(Box::new(Record::new(event, id, summary, losses))));
    }

    fn close(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        self.unlink(id.slot);
        let chains = Direction::BOTH.map(|direction| self.empty(Key { slot: id.slot, direction }));
        let Some(connection) = self.connections.get_mut(id.slot as usize).and_then(Option::take) else { return };
        for place in connection.streams {
            if let Where::Long(index) = place.get() {
                self.longs.remove(index);
            }
        }
        let losses = self.losses.remove(&id.slot);
        if self.has_room() {
            self.shared.pool.hand_over(chains.iter().map(Chain::held).sum());
            let losses = losses.map(|losses| *losses).unwrap_or_default();
            let record = Record::new(Kind::Close, id, summary, losses);
            self.queue.push(Message::Close(Box::new(Close { record, chains })));
            self.keep_pace();
            return;
        }
        self.stats.records_lost += 1;
        for chain in chains {
            self.stats.disk_slow += chain.octets();
            self.shared.pool.give_back(chain);
        }
        if connection.growing {
            self.queue.push(Message::Abandon(id.serial));
        }
    }

    fn connection(&mut self, slot: u32) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize)?.as_mut()
    }

    fn long(&mut self, key: Key) -> Option<&mut Long> {
        match self.connection(key.slot)?.streams[key.direction as usize].get() {
            Where::Long(index) => self.longs.get_mut(index),
            Where::Nowhere | Where::Short(_) => None,
        }
    }

    /// From now on, this stream has blocks.
    fn lengthen(&mut self, key: Key) {
        let place = Place::long(self.longs.insert(Long::default()));
        self.put(key, place);
    }

    fn put(&mut self, key: Key, place: Place) {
        if let Some(connection) = self.connection(key.slot) {
            connection.streams[key.direction as usize] = place;
        }
    }

    /// A connection holds octets: it is put behind all others in order of age, unless it is in it.
    fn hold(&mut self, slot: u32) {
        let (now, last) = (ticks(self.now), self.newest);
        let Some(connection) = self.connection(slot).filter(|connection| !connection.holds) else { return };
        (connection.holds, connection.since, connection.older, connection.newer) = (true, now, last, None);
        let this = Some(Slot::new(slot));
        self.newest = this;
        match last.and_then(|last| self.connection(last.number())) {
            Some(connection) => connection.newer = this,
            None => self.oldest = this,
        }
    }

    /// One direction of a connection holds nothing any more: if the other does not, either, it has no age.
    fn settle(&mut self, slot: u32) {
        let Some(streams) = self.connection(slot).map(|connection| connection.streams) else { return };
        let holds = streams.iter().any(|place| match place.get() {
            Where::Nowhere => false,
            Where::Short(_) => true,
            Where::Long(index) => self.longs.get(index).is_some_and(|stream| !stream.chain.is_empty()),
        });
        if !holds {
            self.unlink(slot);
        }
    }

    /// Takes a connection out of the order of age, if it is in it.
    fn unlink(&mut self, slot: u32) {
        let Some(connection) = self.connection(slot).filter(|connection| connection.holds) else { return };
        connection.holds = false;
        let (older, newer) = (connection.older.take(), connection.newer.take());
        match older.and_then(|older| self.connection(older.number())) {
            Some(connection) => connection.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.connection(newer.number())) {
            Some(connection) => connection.older = older,
            None => self.newest = older,
        }
    }
}

impl Sink for Directory {
    fn event(&mut self, id: ConnectionId, event: Event<'_>) {
        match event {
            Event::Open(summary) => self.open(id, summary),
            Event::Data { direction, offset, bytes } => {
                self.stats.handed += bytes.len() as u64;
                self.append(Key { slot: id.slot, direction }, offset, bytes);
            }
            // Nothing is written for it: the next octets say by their offset where they belong, and the record says why.
            Event::Gap { .. } => {}
            // There is no place for them; the core counts them instead if it is told so.
            Event::Late { .. } if !self.output.gaps.have_room() => {}
            Event::Late { direction, offset, bytes } => {
                self.stats.handed += bytes.len() as u64;
                self.append(Key { slot: id.slot, direction }, offset, bytes);
            }
            Event::Update(summary) => self.note(Kind::Update, id, summary),
            Event::Close(summary) => self.close(id, summary),
        }
    }
}

#[cfg(test)]
impl Directory {
    /// Waits until the writer has nothing to do, and returns the numbers of both.
    pub(super) fn stats_of_now(&mut self) -> Stats {
        self.queue.wait_for_room(1, None);
        let mut stats = self.stats;
        stats.merge(&self.queue.stats());
        stats
    }
}

impl Drop for Directory {
    /// Lets the writer end; [`Directory::finish`] waits for it, too.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Records that a writer may have before a shard that can wait waits.
const RECORDS_IN_FLIGHT: usize = 2 << 20;

/// What is kept of a connection. A million of them may be silent.
struct Connection {
    serial: u64,
    start: Timestamp,
    ends: Ends,
    /// When the oldest octet came, if there is one, in [`ticks`]. The connection is then in the order of age, between these
    /// two.
    since: u32,
    older: Option<Slot>,
    newer: Option<Slot>,
    streams: [Place; 2],
    holds: bool,
    /// The writer has heard of it.
    growing: bool,
}

impl Connection {
    fn identity(&self) -> Identity {
        let (client, server) = self.ends.get();
        Identity { serial: self.serial, start: self.start, client, server }
    }
}

const _: () = assert!(size_of::<Option<Connection>>() <= 56);

/// Capture time in units of 2^24 ns (16.8 ms), modulo 2^32, which is more than two years: octets never wait for that long.
fn ticks(time: Timestamp) -> u32 {
    (time.0 >> TICK_BITS) as u32
}

const TICK_BITS: u32 = 24;

/// Where the octets of a stream are: an index and which slab it is of, in half the memory.
#[derive(Clone, Copy, Default)]
struct Place(u32);

enum Where {
    /// There have been none.
    Nowhere,
    Short(u32),
    Long(u32),
}

impl Place {
    /// There are fewer streams in memory than 2^31.
    const fn short(index: u32) -> Self {
        Self((index + 1) << 1)
    }

    const fn long(index: u32) -> Self {
        Self((index + 1) << 1 | 1)
    }

    const fn get(self) -> Where {
        match (self.0 >> 1).checked_sub(1) {
            None => Where::Nowhere,
            Some(index) if self.0 & 1 == 0 => Where::Short(index),
            Some(index) => Where::Long(index),
        }
    }
}

/// What is in memory of one direction.
#[derive(Default)]
struct Long {
    chain: Chain,
    /// Class of the block that follows the newest.
    next_class: u8,
    /// It outgrew its memory before, and is likely to do it again.
    large: bool,
    /// There was no block for it: nothing more is taken from it.
    stopped: bool,
}

/// A stream: slot of its connection, and direction.
#[derive(Clone, Copy)]
struct Key {
    slot: u32,
    direction: Direction,
}

/// Slots count connections in memory: there are fewer of them than 2^32.
#[derive(Clone, Copy)]
struct Slot(NonZeroU32);

impl Slot {
    const fn new(slot: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(slot))
    }

    const fn number(self) -> u32 {
        self.0.get() - 1
    }
}
