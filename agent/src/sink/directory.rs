use std::{
    fs, mem,
    num::NonZeroU32,
    os::unix::fs::DirBuilderExt as _,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use rustix::process::{Resource, getrlimit};

use crate::{
    error::{Name, Reason},
    reassembly::{ConnectionId, Direction, Event, GapCause, Sink, Summary},
    segment::Timestamp,
    sink::{
        OnFull, Output, Shared, Stats,
        block::{Block, Chain, LARGEST, Pool, class_of},
        queue::{Close, Message, Queue, Write},
        record::{Identity, Kind, Loss, Record},
        tree::OPEN,
        writer::Writer,
    },
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
    shared: Arc<Shared>,
    oldest: Option<Key>,
    newest: Option<Key>,
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

    fn new(output: Output, shared: Arc<Shared>, shard: u32) -> anyhow::Result<Self> {
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

    /// Writes what has been in memory for too long. `now` is capture time; to be called several times a second of it.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some(key) = self.oldest
            && let Some(stream) = self.stream(key)
            && now.since(stream.since) >= self.output.write_age
            && self.has_room()
        {
            self.hand_over(key);
            self.stats.early_age += 1;
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
        while let Some(key) = self.oldest {
            self.hand_over(key);
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
            identity: Identity::new(id, summary),
            streams: Default::default(),
            losses: None,
            growing: false,
        });
        self.note(Kind::Open, id, summary);
    }

    /// Copies `bytes` into blocks: the one time that they are copied.
    fn append(&mut self, key: Key, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(stream) = self.stream(key) else { return };
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
        let now = self.now;
        let Some(stream) = self.stream(key) else { return };
        stream.next_class = (class + 1).min(LARGEST) as u8;
        let first = stream.chain.is_empty();
        stream.chain.push(block);
        if first {
            stream.since = now;
            self.link(key);
        }
    }

    /// A block of the stream is full: what there is goes to the writer if it is too much to hold.
    fn filled(&mut self, key: Key) {
        let limit = self.output.stream_memory;
        let Some(stream) = self.stream(key) else { return };
        if stream.chain.held() >= limit {
            stream.large = true;
            self.hand_over(key);
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
            && let Some(key) = self.oldest
            && self.has_room()
        {
            if let Some(stream) = self.stream(key) {
                stream.large = false;
            }
            self.hand_over(key);
            self.stats.early_pool += 1;
        }
    }

    /// Sends what a stream holds to the writer.
    fn hand_over(&mut self, key: Key) {
        self.unlink(key);
        let Some(Some(connection)) = self.connections.get_mut(key.slot()) else { return };
        let stream = &mut connection.streams[key.direction() as usize];
        if !stream.large {
            stream.next_class = 0;
        }
        let chain = mem::take(&mut stream.chain);
        if chain.is_empty() {
            return;
        }
        connection.growing = true;
        let write = Write { identity: connection.identity, direction: key.direction(), chain };
        self.shared.pool.hand_over(write.chain.held());
        self.queue.push(Message::Write(write));
        self.keep_pace();
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
        if let Some(stream) = self.stream(key) {
            stream.stopped = true;
            self.stats.streams_stopped += 1;
        }
    }

    fn lose(&mut self, key: Key, offset: u64, len: u64) {
        self.stats.disk_slow += len;
        if let Some(Some(connection)) = self.connections.get_mut(key.slot()) {
            let losses = connection.losses.get_or_insert_default();
            losses[key.direction() as usize].add(offset, len, GapCause::DiskSlow);
        }
    }

    fn note(&mut self, event: Kind, id: ConnectionId, summary: &Summary<'_>) {
        if !self.has_room() {
            self.stats.notes_lost += 1;
            return;
        }
        let Some(Some(connection)) = self.connections.get(id.slot as usize) else { return };
        let losses = connection.losses.as_deref().cloned().unwrap_or_default();
        self.queue.push(Message::Note(Box::new(Record::new(event, id, summary, losses))));
    }

    fn close(&mut self, id: ConnectionId, summary: &Summary<'_>) {
        for direction in Direction::BOTH {
            self.unlink(Key::new(id.slot, direction));
        }
        let Some(connection) = self.connections.get_mut(id.slot as usize).and_then(Option::take) else { return };
        let Connection { streams, losses, growing, .. } = connection;
        let chains = streams.map(|stream| stream.chain);
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
        if growing {
            self.queue.push(Message::Abandon(id.serial));
        }
    }

    fn stream(&mut self, key: Key) -> Option<&mut Stream> {
        self.connections
            .get_mut(key.slot())?
            .as_mut()
            .map(|connection| &mut connection.streams[key.direction() as usize])
    }

    /// Puts a stream behind all others in order of age.
    fn link(&mut self, key: Key) {
        let older = self.newest.replace(key);
        match older.and_then(|older| self.stream(older)) {
            Some(stream) => stream.newer = Some(key),
            None => self.oldest = Some(key),
        }
        if let Some(stream) = self.stream(key) {
            stream.older = older;
            stream.newer = None;
        }
    }

    /// Takes a stream out of the order of age, if it is in it.
    fn unlink(&mut self, key: Key) {
        let Some(stream) = self.stream(key) else { return };
        if stream.chain.is_empty() {
            return;
        }
        let (older, newer) = (stream.older.take(), stream.newer.take());
        match older.and_then(|older| self.stream(older)) {
            Some(stream) => stream.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.stream(newer)) {
            Some(stream) => stream.older = older,
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
                self.append(Key::new(id.slot, direction), offset, bytes);
            }
            // Nothing is written for it: the next octets say by their offset where they belong, and the record says why.
            Event::Gap { .. } => {}
            // There is no place for them; the core counts them instead if it is told so.
            Event::Late { .. } if !self.output.gaps.have_room() => {}
            Event::Late { direction, offset, bytes } => {
                self.stats.handed += bytes.len() as u64;
                self.append(Key::new(id.slot, direction), offset, bytes);
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

struct Connection {
    identity: Identity,
    streams: [Stream; 2],
    /// What was lost for want of blocks.
    losses: Option<Box<[Loss; 2]>>,
    /// The writer has heard of it.
    growing: bool,
}

/// What is in memory of one direction.
#[derive(Default)]
struct Stream {
    chain: Chain,
    /// When the oldest octet came, if there is one. The stream is then in the order of age, between these two.
    since: Timestamp,
    older: Option<Key>,
    newer: Option<Key>,
    /// Class of the block that follows the newest.
    next_class: u8,
    /// It outgrew its memory before, and is likely to do it again.
    large: bool,
    /// There was no block for it: nothing more is taken from it.
    stopped: bool,
}

/// A stream: slot of its connection, and direction.
#[derive(Clone, Copy)]
struct Key(NonZeroU32);

impl Key {
    /// Slots count connections in memory: there are fewer of them than 2^31.
    const fn new(slot: u32, direction: Direction) -> Self {
        Self(NonZeroU32::MIN.saturating_add(slot.saturating_mul(2).saturating_add(direction as u32)))
    }

    const fn slot(self) -> usize {
        ((self.0.get() - 1) / 2) as usize
    }

    const fn direction(self) -> Direction {
        Direction::BOTH[((self.0.get() - 1) % 2) as usize]
    }
}

// A million connections are 160 MB of them.
const _: () = assert!(size_of::<Option<Connection>>() <= 160);
