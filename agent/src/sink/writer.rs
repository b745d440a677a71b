//! The writer: a thread that does every system call of a sink.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice},
    mem,
    sync::{Arc, PoisonError},
};

use hashbrown::HashMap;
use rustix::io::{Errno, pwritev};

use crate::{
    error::Reason,
    reassembly::{Direction, GapCause},
    sink::{
        Gaps, Output, Shared, Stats,
        block::{Block, Chain},
        handles::Handles,
        index::Lines,
        queue::{Close, Message, Queue, Write},
        record::{FileRecord, Identity, Kind, Loss, Record, Run},
        tree::{OPEN, Place, Stream, Tree},
    },
};

pub(super) struct Writer {
    output: Output,
    shard: u32,
    queue: Arc<Queue>,
    tree: Tree,
    shared: Arc<Shared>,
    /// Connections with a stream that did not fit into memory, by serial.
    growing: HashMap<u64, Files>,
    /// Memory for the blocks that are written by one call.
    run: Vec<Box<Block>>,
    stats: Stats,
    lines: Lines,
    /// What it means should they never be written.
    unwritten: Stats,
}

impl Writer {
    pub(super) fn new(output: Output, shared: Arc<Shared>, shard: u32, queue: Arc<Queue>, max_handles: usize) -> Self {
        Self {
            tree: Tree::new(&output, shard, Handles::new(max_handles)),
            shared,
            growing: HashMap::new(),
            run: Vec::with_capacity(RUN),
            stats: Stats::default(),
            lines: Lines::default(),
            unwritten: Stats::default(),
            output,
            shard,
            queue,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        struct End(Arc<Queue>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.end(None);
            }
        }
        let _end = End(self.queue.clone());

        while let Some(message) = self.next() {
            match message {
                Message::Note(record) => self.note(&record),
                Message::Write(write) => self.write(write),
                Message::Close(close) => self.close(*close),
                Message::Abandon(serial) => self.abandon(serial),
            }
            self.stats.files_evicted = self.tree.handles.evicted();
            self.stats.names_taken = self.tree.names_taken();
        }
        let left = self.growing.values().map(Files::count);
        self.stats.files_left += left.sum::<u64>();
        self.queue.end(Some(&self.stats));
    }

    /// The next message. Lines are written together, one call for as many connections as close while others do; they wait
    /// neither for the writer to have something to do nor for octets of streams that go on.
    fn next(&mut self) -> Option<Message> {
        if !self.lines.is_empty() {
            let waits = |next: &Message| !matches!(next, Message::Write(_));
            if let Some(message) = self.queue.next_if(&self.stats, &self.unwritten, waits) {
                return Some(message);
            }
            self.write_lines();
        }
        self.queue.next(&self.stats)
    }

    fn note(&mut self, record: &Record) {
        let serial = record.identity.serial;
        match self.growing.remove(&serial) {
            None => self.record(record, Files::default().records()),
            Some(files) => {
                self.record(record, files.records());
                self.growing.insert(serial, files);
            }
        }
    }

    fn write(&mut self, Write { identity, direction, chain }: Write) {
        let mut files = self.growing.remove(&identity.serial).unwrap_or_default();
        let stream = self.stream(&identity, &mut files, direction);
        if let Some(handle) = self.append(stream, &mut files.streams[direction as usize], chain, Place::Open) {
            self.tree.handles.put(stream.key(), handle);
        }
        self.growing.insert(identity.serial, files);
    }

    fn close(&mut self, Close { record, chains }: Close) {
        let identity = &record.identity;
        let mut files = self.growing.remove(&identity.serial).unwrap_or_default();
        let mut durable = true;
        for (direction, chain) in Direction::BOTH.into_iter().zip(chains) {
            let file = &files.streams[direction as usize];
            if chain.is_empty() && file.path.is_none() {
                continue;
            }
            let stream = self.stream(identity, &mut files, direction);
            let file = &mut files.streams[direction as usize];
            let handle = self.append(stream, file, chain, Place::Folder);
            durable &= self.complete(stream, file, handle, record.streams[direction as usize].len);
        }
        if durable {
            self.record(&record, files.records());
        } else {
            // The line is the promise that the files are there.
            self.stats.records_lost += 1;
        }
        for (stream, (file, record)) in record.streams.iter().zip(files.streams.iter().zip(files.records())) {
            let gaps: u64 = stream.gap_totals(record).iter().sum();
            self.stats.records_unbalanced += u64::from(stream.len != file.written + gaps);
        }
    }

    fn abandon(&mut self, serial: u64) {
        for direction in Direction::BOTH {
            self.tree.handles.take((serial, direction));
        }
        if let Some(files) = self.growing.remove(&serial) {
            self.stats.files_left += files.count();
        }
    }

    /// Writes the octets of `chain` to the file of their stream, which is made if there is none; returns the file if it
    /// is open now. After a failure the stream has ended: all that follows is lost for the same reason.
    fn append(&mut self, stream: Stream<'_>, file: &mut StreamFile, chain: Chain, place: Place) -> Option<File> {
        let mut handle = self.tree.handles.take(stream.key());
        let mut chain = chain.reverse();
        let mut run = mem::take(&mut self.run);
        loop {
            chain.pop_run(&mut run, RUN);
            let (Some(first), Some(last)) = (run.first(), run.last()) else { break };
            let (start, end, before) = (first.offset, last.end(), file.written);
            let cause = match file.failed {
                Some(cause) => Err(cause),
                None => self.put(stream, file, &mut handle, &run, start, place).map_err(|error| {
                    let failure = Failure::of(&error);
                    self.report(failure, &format!("write {}", file.path.as_deref().unwrap_or("a new file")), &error);
                    failure.cause()
                }),
            };
            if let Err(cause) = cause {
                let taken = file.written - before;
                let lost = end - start - taken;
                file.failed = Some(cause);
                file.loss.get_or_insert_default().add(start + taken, lost, cause);
                match cause {
                    GapCause::DiskFull => self.stats.disk_full += lost,
                    _ => self.stats.write_error += lost,
                }
            }
            let mut empty = Chain::default();
            run.drain(..).for_each(|block| empty.push(block));
            self.shared.pool.give(empty);
        }
        self.run = run;
        handle
    }

    fn put(
        &mut self,
        stream: Stream<'_>,
        file: &mut StreamFile,
        handle: &mut Option<File>,
        run: &[Box<Block>],
        offset: u64,
        place: Place,
    ) -> io::Result<()> {
        let handle = match handle {
            Some(handle) => handle,
            none => none.insert(match &file.path {
                Some(path) => self.tree.open(path)?,
                None => {
                    let (handle, path) = self.tree.create(stream, place)?;
                    file.path = Some(path);
                    handle
                }
            }),
        };
        let mut position = match self.output.gaps {
            Gaps::Skip => file.written,
            Gaps::Hole => offset,
            Gaps::Zero => {
                self.zeros(handle, file, offset)?;
                offset
            }
            Gaps::Mark => {
                self.mark(handle, file, offset)?;
                file.len
            }
        };
        let mut slices = [IoSlice::new(&[]); RUN];
        slices.iter_mut().zip(run).for_each(|(slice, block)| *slice = IoSlice::new(block.bytes()));
        let mut rest = &mut slices[..];
        let before = file.written;
        // Those that are empty are passed over.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let taken = self.write_at(handle, rest, position)?;
            IoSlice::advance_slices(&mut rest, taken);
            position += taken as u64;
            file.written += taken as u64;
            file.len = file.len.max(position);
            file.next = offset + (file.written - before);
            self.stats.written += taken as u64;
        }
        Ok(())
    }

    /// Writes zeros from the end of the file to `end`.
    fn zeros(&mut self, handle: &File, file: &mut StreamFile, end: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while file.len < end {
            let len = (end - file.len).min(ZEROS.len() as u64) as usize;
            let taken = self.write_at(handle, &[IoSlice::new(&ZEROS[..len])], file.len)? as u64;
            file.len += taken;
            self.stats.zeros += taken;
        }
        Ok(())
    }

    /// Writes a line about what is missing between the last octet and `offset`.
    fn mark(&mut self, handle: &File, file: &mut StreamFile, offset: u64) -> io::Result<()> {
        if offset <= file.next {
            return Ok(());
        }
        let text = format!("\n<<gap {}>>\n", offset - file.next);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let taken = self.write_at(handle, &[IoSlice::new(rest)], file.len)?;
            rest = rest.get(taken..).unwrap_or_default();
            file.len += taken as u64;
            self.stats.marks += taken as u64;
        }
        file.next = offset;
        Ok(())
    }

    fn write_at(&self, handle: &File, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        loop {
            let result = pwritev(handle, slices, position);
            self.queue.alive();
            match result {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                result => return Ok(result?),
            }
        }
    }

    /// Gives a file its length and its place. Returns whether it is as durable as a record wants it to be.
    fn complete(&mut self, stream: Stream<'_>, file: &mut StreamFile, mut handle: Option<File>, len: u64) -> bool {
        let Some(path) = file.path.take() else { return true };
        if file.written == 0 {
            // The first write failed. Should the file stay behind, it says nothing wrong: it is empty, and no record
            // names it.
            let _ = self.tree.remove(&path);
            return true;
        }

        let short = match self.output.gaps {
            Gaps::Skip => false,
            Gaps::Hole | Gaps::Zero => file.len < len,
            Gaps::Mark => file.next < len,
        };
        if handle.is_none() && (short || self.output.sync) {
            handle =
                self.tried(Failure::Complete, "open a file again to complete it", |writer| writer.tree.open(&path));
        }
        let mut durable = !self.output.sync;
        if let Some(handle) = handle {
            if short {
                self.tried(Failure::Complete, "extend a file to the length of its stream", |writer| {
                    match writer.output.gaps {
                        // Once a write has failed, a hole must do.
                        Gaps::Zero if file.failed.is_none() => writer.zeros(&handle, file, len),
                        Gaps::Mark => writer.mark(&handle, file, len),
                        _ => handle.set_len(len),
                    }
                });
            }
            durable = durable || self.tried(Failure::Sync, "sync a file", |_| handle.sync_data()).is_some();
        }

        let path = if path.starts_with(OPEN) {
            match self.tried(Failure::Move, "move a file out of open/", |writer| writer.tree.settle(stream, &path)) {
                Some(settled) => {
                    self.stats.files += 1;
                    self.stats.files_grown += 1;
                    settled
                }
                None => {
                    self.stats.files_left += 1;
                    path
                }
            }
        } else {
            self.stats.files += 1;
            path
        };
        if self.output.sync {
            durable &= self.tried(Failure::Sync, "sync a folder", |writer| writer.tree.sync(&path)).is_some();
        }
        file.path = Some(path);
        durable
    }

    fn record(&mut self, record: &Record, files: [FileRecord<'_>; 2]) {
        let time = self.output.clock.wall(record.end);
        if !self.lines.take(time) {
            self.write_lines();
        }
        let mut lines = mem::take(&mut self.lines);
        record.print(&mut lines.text, &self.run_of_records(), files);
        lines.end(record.event, time);
        self.lines = lines;
        *lines_of(&mut self.unwritten, record.event, false) += 1;
        if self.output.sync {
            self.write_lines();
        }
    }

    fn write_lines(&mut self) {
        let (written, result) = {
            let mut index = self.shared.index.lock().unwrap_or_else(PoisonError::into_inner);
            index.append(&self.output, &self.lines)
        };
        self.queue.alive();
        if let Err(error) = &result {
            self.report(Failure::Index, "append a record to connections.jsonl", error);
        }
        for (kind, is_written) in self.lines.kinds(written) {
            *lines_of(&mut self.stats, kind, is_written) += 1;
        }
        self.lines.clear();
        self.unwritten = Stats::default();
    }

    fn run_of_records(&self) -> Run<'_> {
        Run { name: &self.output.run, shard: self.shard, clock: self.output.clock, interfaces: &self.output.interfaces }
    }

    fn stream<'a>(&mut self, identity: &'a Identity, files: &mut Files, direction: Direction) -> Stream<'a> {
        let number = *files.number.get_or_insert_with(|| self.tree.number(identity));
        Stream { identity, direction, number }
    }

    /// Does what an output can do without, and reports it when it fails.
    fn tried<T>(
        &mut self,
        failure: Failure,
        doing: &str,
        action: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> Option<T> {
        let result = action(self);
        self.queue.alive();
        result.inspect_err(|error| self.report(failure, doing, error)).ok()
    }

    fn report(&mut self, failure: Failure, doing: &str, error: &io::Error) {
        self.stats.errors += 1;
        let mut reported = self.shared.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if !reported.contains(&failure) {
            reported.push(failure);
            (self.output.report)(&format!("{doing}: {} ({})", Reason(error), failure.consequence()));
        }
    }
}

/// Blocks in one call, at most: the 256 KiB that a long stream hands over are five.
const RUN: usize = 16;

/// How many lines of a kind were written, or not.
fn lines_of(stats: &mut Stats, kind: Kind, are_written: bool) -> &mut u64 {
    match (kind, are_written) {
        (Kind::Close, true) => &mut stats.records,
        (Kind::Close, false) => &mut stats.records_lost,
        (_, true) => &mut stats.notes,
        (_, false) => &mut stats.notes_lost,
    }
}

/// The files of one connection.
#[derive(Default)]
struct Files {
    number: Option<u32>,
    streams: [StreamFile; 2],
}

impl Files {
    fn count(&self) -> u64 {
        self.streams.iter().filter(|file| file.path.is_some()).count() as u64
    }

    fn records(&self) -> [FileRecord<'_>; 2] {
        self.streams.each_ref().map(|file| FileRecord { path: file.path.as_deref(), loss: file.loss.as_deref() })
    }
}

#[derive(Default)]
struct StreamFile {
    /// Below the directory.
    path: Option<String>,
    /// Length of the file, unless gaps are skipped: then it is `written`.
    len: u64,
    /// Stream offset behind the last octet in it.
    next: u64,
    /// Stream octets in it.
    written: u64,
    failed: Option<GapCause>,
    loss: Option<Box<Loss>>,
}

/// Kinds of failure, each told once in a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    Full,
    Write,
    Complete,
    Move,
    Sync,
    Index,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Write,
        }
    }

    const fn cause(self) -> GapCause {
        match self {
            Self::Full => GapCause::DiskFull,
            _ => GapCause::WriteError,
        }
    }

    const fn consequence(self) -> &'static str {
        match self {
            Self::Full => "streams end here with a gap disk-full; new ones are written as soon as there is room",
            Self::Write => "the stream ends here with a gap write-error; others go on",
            Self::Complete => "the file is shorter than its stream",
            Self::Move => "it stays there, and its record says so",
            Self::Sync => "records whose files may not survive a power loss are left out",
            Self::Index => "records are lost and counted until it works again",
        }
    }
}
