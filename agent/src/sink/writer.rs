//! The writer: a thread that does every system call of a sink.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    mem,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use hashbrown::HashMap;

use crate::{
    reassembly::{Direction, GapCause},
    sink::{
        Gaps, OPEN, Output, Stats,
        block::{Block, Chain},
        handles::Handles,
        index::Index,
        name::Namer,
        queue::{Close, Message, Queue, Write},
        record::{FileRecord, Identity, Kind, Loss, Record, Run},
    },
};

pub(super) struct Writer {
    output: Output,
    shard: u32,
    queue: Arc<Queue>,
    namer: Namer,
    index: Index,
    /// Connections with a stream that did not fit into memory, by serial.
    growing: HashMap<u64, Files>,
    handles: Handles,
    /// Blocks that are done with, to go back when the message is.
    empty: Chain,
    stats: Stats,
    reported: Vec<Failure>,
    line: String,
}

impl Writer {
    pub(super) fn new(output: Output, shard: u32, queue: Arc<Queue>, max_handles: usize) -> Self {
        Self {
            namer: Namer::new(output.names, output.clock),
            index: Index::default(),
            growing: HashMap::new(),
            handles: Handles::new(max_handles),
            empty: Chain::default(),
            stats: Stats::default(),
            reported: Vec::new(),
            line: String::new(),
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
                self.0.end();
            }
        }
        let _end = End(self.queue.clone());

        while let Some(message) = self.queue.next() {
            match message {
                Message::Note(record) => self.note(&record),
                Message::Write(write) => self.write(*write),
                Message::Close(close) => self.close(*close),
                Message::Abandon(serial) => self.abandon(serial),
            }
            self.stats.files_evicted = self.handles.evicted();
            self.queue.done(mem::take(&mut self.empty), &self.stats);
        }
        let left = self.growing.values().map(Files::count);
        self.stats.files_left += left.sum::<u64>();
        self.queue.done(Chain::default(), &self.stats);
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
        if let Some(handle) = self.append(&identity, &mut files, direction, chain, Place::Open) {
            self.handles.put((identity.serial, direction), handle);
        }
        self.growing.insert(identity.serial, files);
    }

    fn close(&mut self, Close { record, chains }: Close) {
        let identity = &record.identity;
        let mut files = self.growing.remove(&identity.serial).unwrap_or_default();
        let mut durable = true;
        for ((direction, chain), stream) in Direction::BOTH.into_iter().zip(chains).zip(&record.streams) {
            let handle = self.append(identity, &mut files, direction, chain, Place::Folder);
            durable &= self.complete(identity, &mut files, direction, handle, stream.len);
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
            self.handles.take((serial, direction));
        }
        if let Some(files) = self.growing.remove(&serial) {
            self.stats.files_left += files.count();
        }
    }

    /// Writes the octets of `chain` to the file of their stream, which is made if there is none; returns the file if it
    /// is open now. After a failure the stream has ended: all that follows is lost for the same reason.
    fn append(
        &mut self,
        identity: &Identity,
        files: &mut Files,
        direction: Direction,
        chain: Chain,
        place: Place,
    ) -> Option<File> {
        let mut handle = self.handles.take((identity.serial, direction));
        let mut chain = chain.reverse();
        while let Some(block) = chain.pop() {
            let before = files.streams[direction as usize].written;
            let cause = match files.streams[direction as usize].failed {
                Some(cause) => Err(cause),
                None => self.put(identity, files, direction, &block, place, &mut handle).map_err(|error| {
                    let failure = Failure::of(&error);
                    let path = files.streams[direction as usize].path.as_deref().unwrap_or("a new file");
                    self.report(failure, &format!("write {path}"), &error);
                    failure.cause()
                }),
            };
            if let Err(cause) = cause {
                let file = &mut files.streams[direction as usize];
                file.failed = Some(cause);
                let taken = file.written - before;
                let lost = block.bytes().len() as u64 - taken;
                file.loss.get_or_insert_default().add(block.offset + taken, lost, cause);
                match cause {
                    GapCause::DiskFull => self.stats.disk_full += lost,
                    _ => self.stats.write_error += lost,
                }
            }
            self.empty.push(block);
        }
        handle
    }

    fn put(
        &mut self,
        identity: &Identity,
        files: &mut Files,
        direction: Direction,
        block: &Block,
        place: Place,
        handle: &mut Option<File>,
    ) -> io::Result<()> {
        if handle.is_none() {
            *handle = Some(self.open(identity, files, direction, place)?);
        }
        let Some(handle) = handle else { return Ok(()) };
        let file = &mut files.streams[direction as usize];
        let start = match self.output.gaps {
            Gaps::Skip => file.written,
            Gaps::Hole => block.offset,
            Gaps::Zero => {
                self.zeros(handle, file, block.offset)?;
                block.offset
            }
        };
        let mut rest = block.bytes();
        let mut position = start;
        while !rest.is_empty() {
            let taken = self.write_at(handle, rest, position)?;
            rest = rest.get(taken..).unwrap_or_default();
            position += taken as u64;
            file.written += taken as u64;
            file.len = file.len.max(position);
            self.stats.written += taken as u64;
        }
        Ok(())
    }

    /// Writes zeros from the end of the file to `end`.
    fn zeros(&mut self, handle: &File, file: &mut StreamFile, end: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while file.len < end {
            let len = (end - file.len).min(ZEROS.len() as u64) as usize;
            let taken = self.write_at(handle, &ZEROS[..len], file.len)? as u64;
            file.len += taken;
            self.stats.zeros += taken;
        }
        Ok(())
    }

    fn write_at(&self, handle: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
        loop {
            let result = handle.write_at(bytes, position);
            self.queue.alive();
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                result => return result,
            }
        }
    }

    /// Gives a file its length and its place. Returns whether it is as durable as a record wants it to be.
    fn complete(
        &mut self,
        identity: &Identity,
        files: &mut Files,
        direction: Direction,
        mut handle: Option<File>,
        len: u64,
    ) -> bool {
        let file = &mut files.streams[direction as usize];
        let Some(path) = &file.path else { return true };
        if file.written == 0 {
            // The first write failed.
            let _ = fs::remove_file(self.output.dir.join(path));
            file.path = None;
            return true;
        }

        let short = file.len < len && self.output.gaps != Gaps::Skip;
        if handle.is_none() && (short || self.output.sync) {
            match self.open(identity, files, direction, Place::Open) {
                Ok(opened) => handle = Some(opened),
                Err(error) => self.report(Failure::Complete, "open a file again to complete it", &error),
            }
        }
        let file = &mut files.streams[direction as usize];
        let mut durable = true;
        if let Some(handle) = handle {
            if short {
                let extended = match self.output.gaps {
                    // On a full disk a hole must do.
                    Gaps::Zero if file.failed.is_none() => self.zeros(&handle, file, len),
                    _ => handle.set_len(len),
                };
                if let Err(error) = extended {
                    self.report(Failure::Complete, "extend a file to the length of its stream", &error);
                }
            }
            if self.output.sync
                && let Err(error) = handle.sync_data()
            {
                durable = false;
                self.report(Failure::Sync, "sync a file", &error);
            }
        } else {
            durable = !self.output.sync;
        }

        if let Err(error) = self.settle(identity, files, direction) {
            self.report(Failure::Move, "move a file out of open/", &error);
        }
        let file = &files.streams[direction as usize];
        let Some(path) = &file.path else { return durable };
        if path.starts_with(OPEN) {
            self.stats.files_left += 1;
        } else {
            self.stats.files += 1;
        }
        if self.output.sync
            && let Err(error) = sync_folder(&self.output.dir, path)
        {
            durable = false;
            self.report(Failure::Sync, "sync a folder", &error);
        }
        durable
    }

    /// Moves a file that grew to where it belongs.
    fn settle(&mut self, identity: &Identity, files: &mut Files, direction: Direction) -> io::Result<()> {
        let Some(from) = files.streams[direction as usize].path.take_if(|path| path.starts_with(OPEN)) else {
            return Ok(());
        };
        // The name is taken first, with an empty file, since a rename would replace whatever had it.
        let moved = self.create(identity, files, direction, Place::Folder).and_then(|(_, to)| {
            let full = self.output.dir.join(&to);
            let moved = fs::rename(self.output.dir.join(&from), &full);
            moved.map(|()| to).inspect_err(|_| drop(fs::remove_file(full)))
        });
        match moved {
            Ok(to) => {
                files.streams[direction as usize].path = Some(to);
                self.stats.files_grown += 1;
                Ok(())
            }
            Err(error) => {
                files.streams[direction as usize].path = Some(from);
                Err(error)
            }
        }
    }

    /// Opens the file of a stream, which is made if there is none.
    fn open(&mut self, identity: &Identity, files: &mut Files, direction: Direction, place: Place) -> io::Result<File> {
        if let Some(path) = &files.streams[direction as usize].path {
            let path = self.output.dir.join(path);
            return self.handles.make_room(|| OpenOptions::new().write(true).open(&path));
        }
        let (handle, path) = self.create(identity, files, direction, place)?;
        files.streams[direction as usize].path = Some(path);
        Ok(handle)
    }

    fn create(
        &mut self,
        identity: &Identity,
        files: &mut Files,
        direction: Direction,
        place: Place,
    ) -> io::Result<(File, String)> {
        let number = *files.number.get_or_insert_with(|| self.namer.number(identity));
        let mut path = match place {
            Place::Open => OPEN.to_owned(),
            Place::Folder => self.namer.folder(identity),
        };
        path += &self.namer.name(identity, number, direction);
        match self.create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.stats.names_taken += 1;
                path += &format!(".{}-{}", self.output.run, self.run_of_records().id(identity.serial));
                Ok((self.create_new(&path)?, path))
            }
            result => Ok((result?, path)),
        }
    }

    fn create_new(&mut self, path: &str) -> io::Result<File> {
        let full = self.output.dir.join(path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match self.handles.make_room(|| options.open(&full)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_folders(&self.output.dir, path, self.output.sync)?;
                self.handles.make_room(|| options.open(&full))
            }
            result => result,
        }
    }

    fn record(&mut self, record: &Record, files: [FileRecord<'_>; 2]) {
        let mut line = mem::take(&mut self.line);
        line.clear();
        record.print(&mut line, &self.run_of_records(), files);
        let result = self.index.append(&self.output, record.end, &line);
        self.line = line;
        self.queue.alive();
        if let Err(error) = &result {
            self.report(Failure::Index, "append a record to connections.jsonl", error);
        }
        *match (record.event, result.is_ok()) {
            (Kind::Close, true) => &mut self.stats.records,
            (Kind::Close, false) => &mut self.stats.records_lost,
            (_, true) => &mut self.stats.notes,
            (_, false) => &mut self.stats.notes_lost,
        } += 1;
    }

    fn run_of_records(&self) -> Run<'_> {
        Run { name: &self.output.run, shard: self.shard, clock: self.output.clock }
    }

    fn report(&mut self, failure: Failure, doing: &str, error: &io::Error) {
        self.stats.errors += 1;
        if !self.reported.contains(&failure) {
            self.reported.push(failure);
            (self.output.report)(&format!("{doing}: {} ({})", reason(error), failure.consequence()));
        }
    }
}

/// The files of one connection.
#[derive(Default)]
struct Files {
    /// Earlier connections on the same endpoints; known once there is a file.
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
    /// Length of the file.
    len: u64,
    /// Stream octets in it.
    written: u64,
    failed: Option<GapCause>,
    loss: Option<Box<Loss>>,
}

/// Where a new file is made.
#[derive(Clone, Copy)]
enum Place {
    /// Among those that grow.
    Open,
    /// Where it stays.
    Folder,
}

/// Kinds of failure, each told once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failure {
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

/// Makes the folders that `path` names below `dir`, but not `dir`: that it is gone is an error.
fn make_folders(dir: &Path, path: &str, sync: bool) -> io::Result<()> {
    for (end, _) in path.match_indices('/') {
        let folder = &path[..end];
        match DirBuilder::new().mode(0o700).create(dir.join(folder)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) if sync => sync_folder(dir, folder)?,
            _ => {}
        }
    }
    Ok(())
}

/// Makes the entry of `path` below `dir` survive a power loss.
fn sync_folder(dir: &Path, path: &str) -> io::Result<()> {
    let folder = path.rfind('/').map_or("", |end| &path[..end]);
    File::open(dir.join(folder))?.sync_all()
}

/// As the house writes errors: in lower case, without a number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
