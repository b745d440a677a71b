//! Where streams go: files and an index in a directory, or a digest.
//!
//! Of a directory, the shard's thread fills blocks and never touches the disk; one writer thread per sink does every
//! system call. What the two hand each other is bounded: blocks come from a pool of fixed size, records are counted in
//! octets. The pool and the index are one for all sinks of a run.

mod block;
mod destination;
mod digest;
mod directory;
mod handles;
mod index;
mod name;
mod queue;
mod record;
mod short;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod writer;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize as _;

pub use self::{destination::Destination, digest::Digest, directory::Directory};

use self::{block::Pool, index::Index, writer::Failure};
use crate::clock::Clock;

/// What is written, where, and with how much memory. Sizes are octets. There is one sink for each shard.
#[derive(Clone)]
pub struct Output {
    pub form: Form,
    pub dir: PathBuf,
    /// Names this run in every record: letters, digits, `-` and `_`.
    pub run: String,
    pub clock: Clock,
    /// Names of the interfaces that frames come from, by their number; a record says `null` where there is none.
    pub interfaces: Vec<String>,
    pub gaps: Gaps,
    pub names: Names,
    /// Before a record is written, wait until its files are on stable storage.
    pub sync: bool,
    pub on_full: OnFull,
    /// The block pool: stream octets that are not on disk yet, of all sinks.
    pub buffer: usize,
    /// Records that are not on disk yet, of each sink.
    pub queue: usize,
    /// What one stream may hold before it goes to a file that grows.
    pub stream_memory: usize,
    /// How long octets stay in memory at most, in nanoseconds of capture time.
    pub write_age: u64,
    /// Growing files kept open at a time, by each sink. At most half of what the process may open, shared by all sinks.
    pub max_open_files: usize,
    /// Sinks of this run.
    pub shards: u32,
    /// How long a writer that makes no progress is waited for at the end; only with [`OnFull::Drop`].
    pub patience: Duration,
    /// Told of the first failure of each kind, as one line without a newline.
    pub report: Report,
}

/// Called from the writers' threads.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

impl Output {
    /// The defaults.
    pub fn new(dir: PathBuf, run: String, clock: Clock, report: Report) -> Self {
        Self {
            form: Form::Files,
            dir,
            run,
            clock,
            interfaces: Vec::new(),
            gaps: Gaps::Hole,
            names: Names::Time,
            sync: false,
            on_full: OnFull::Drop,
            buffer: 256 << 20,
            queue: 32 << 20,
            stream_memory: 256 << 10,
            write_age: 30_000_000_000,
            max_open_files: 512,
            shards: 1,
            patience: Duration::from_secs(10),
            report,
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("dir", &self.dir).field("run", &self.run).finish_non_exhaustive()
    }
}

/// What the sinks of a run have in common.
struct Shared {
    pool: Pool,
    // The rest is used by the writers only: whoever holds the lock of the index may wait for the disk.
    index: Mutex<Index>,
    reported: Mutex<Vec<Failure>>,
}

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// A file, and its connection a record.
    Files,
    /// A part of one checksum over all; nothing is written.
    Digest,
}

/// What stands in a file where stream octets are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gaps {
    /// A hole in a sparse file: the file offset is the stream offset.
    Hole,
    /// Nothing: the octets that were delivered, one after the other.
    Skip,
    /// Zeros that take up space: the file offset is the stream offset.
    Zero,
    /// A line `<<gap 1460>>`, with its number of octets, as Zeek writes it.
    Mark,
}

impl Gaps {
    /// Whether octets that come late have a place in the file.
    pub const fn have_room(self) -> bool {
        matches!(self, Self::Hole | Self::Zero)
    }
}

/// How files are called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Names {
    /// `2026-11-20/0730/073005.123456789-10.9.0.1.51244-10.9.0.2.8080`
    Time,
    /// `010.009.000.001.51244-010.009.000.002.08080`, and `c1`, `c2`, ... appended when the endpoints are used again.
    Tcpflow,
}

/// What happens when the writer is so far behind that the pool is empty or the queue is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFull {
    /// The source can wait: so does the shard.
    Wait,
    /// It cannot until it ends: whole streams stop, and records are lost.
    Drop,
}

/// What became of everything handed to a sink. `handed = written + digested + disk_slow + disk_full + write_error`,
/// each term counted at its own place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Stats {
    /// Stream octets handed in.
    pub handed: u64,
    /// Stream octets that the kernel took.
    pub written: u64,
    /// Stream octets in the digest.
    pub digested: u64,
    /// Stream octets lost because the pool was empty or the queue full.
    pub disk_slow: u64,
    /// Stream octets lost because the device was full.
    pub disk_full: u64,
    /// Stream octets lost to any other failure.
    pub write_error: u64,
    /// Zeros and marks written in place of gaps.
    pub zeros: u64,
    pub marks: u64,

    /// Files that hold a stream.
    pub files: u64,
    /// Those of them that grew under `open/`.
    pub files_grown: u64,
    /// Files left in `open/`, because their record was lost or they could not be moved.
    pub files_left: u64,
    /// The digest, where there is one in place of files, and the streams with octets in it.
    #[serde(serialize_with = "hexadecimal")]
    pub digest: Option<u64>,
    pub digested_streams: u64,
    /// Closed connections: lines in the index, where there is one.
    pub records: u64,
    /// Lines in the index: opened connections and updates.
    pub notes: u64,
    /// The same that could not be written.
    pub records_lost: u64,
    pub notes_lost: u64,
    /// Records whose stream length is not octets in the file plus gaps.
    pub records_unbalanced: u64,

    /// Most octets of the pool in use at a time.
    pub buffer_high: u64,
    /// Streams that stopped because the pool was empty.
    pub streams_stopped: u64,
    /// Streams written early: at `stream_memory`, at `write_age`, because the pool ran low.
    pub early_size: u64,
    pub early_age: u64,
    pub early_pool: u64,
    /// Growing files closed to stay within `max_open_files`, to be opened again.
    pub files_evicted: u64,
    /// Names that existed already.
    pub names_taken: u64,
    /// Calls that failed, by what is lost with them or not at all.
    pub errors: u64,
}

impl Stats {
    pub fn merge(&mut self, other: &Self) {
        let Self {
            handed,
            written,
            digested,
            disk_slow,
            disk_full,
            write_error,
            zeros,
            marks,
            files,
            files_grown,
            files_left,
            digest,
            digested_streams,
            records,
            notes,
            records_lost,
            notes_lost,
            records_unbalanced,
            buffer_high,
            streams_stopped,
            early_size,
            early_age,
            early_pool,
            files_evicted,
            names_taken,
            errors,
        } = other;
        self.handed += handed;
        self.written += written;
        self.digested += digested;
        self.disk_slow += disk_slow;
        self.disk_full += disk_full;
        self.write_error += write_error;
        self.zeros += zeros;
        self.marks += marks;
        self.files += files;
        self.files_grown += files_grown;
        self.files_left += files_left;
        // The same, however streams are divided among shards.
        self.digest = match (self.digest, *digest) {
            (Some(ours), Some(theirs)) => Some(ours.wrapping_add(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        self.digested_streams += digested_streams;
        self.records += records;
        self.notes += notes;
        self.records_lost += records_lost;
        self.notes_lost += notes_lost;
        self.records_unbalanced += records_unbalanced;
        // Of the pool that they share.
        self.buffer_high = self.buffer_high.max(*buffer_high);
        self.streams_stopped += streams_stopped;
        self.early_size += early_size;
        self.early_age += early_age;
        self.early_pool += early_pool;
        self.files_evicted += files_evicted;
        self.names_taken += names_taken;
        self.errors += errors;
    }

    /// Whether every octet handed in is accounted for.
    pub const fn balanced(&self) -> bool {
        self.handed == self.written + self.digested + self.disk_slow + self.disk_full + self.write_error
            && self.records_unbalanced == 0
    }
}

/// Numbers of 64 bits do not survive most readers of JSON.
#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn hexadecimal<S: serde::Serializer>(digest: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    digest.map(|digest| format!("{digest:016x}")).serialize(serializer)
}
