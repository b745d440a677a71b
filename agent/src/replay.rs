//! `xdpflow replay`: the same line as live, entered at the decoder.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use agent_common::{filter::Filter, shard::ShardKey};
use anyhow::{Context as _, anyhow};

use crate::{
    decode,
    pcap::{self, Reader},
    reassembly,
    report::{Report, Source},
    shard::{Part, Shard, Share, Totals},
    sink::{Directory, Output},
};

/// What to replay, and how.
pub struct Replay {
    pub files: Vec<PathBuf>,
    pub filter: Filter,
    pub shards: u32,
    pub decode: decode::Config,
    pub config: reassembly::Config,
    pub output: Output,
}

/// How a replay ended: what it did, and what stopped it before the end of a file.
pub struct Outcome {
    pub report: Report,
    pub error: Option<pcap::Error>,
}

impl Replay {
    /// Octets in all files.
    pub fn size(&self) -> u64 {
        self.files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// Reads every file once per shard and takes the frames of that shard. What can be read before damage is delivered.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened or the output not be made: then nothing was written.
    pub fn run(&self, read: &AtomicU64) -> anyhow::Result<Outcome> {
        for file in &self.files {
            Reader::open(file)?;
        }
        let sinks = Directory::for_shards(&self.output)?;
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(sinks)
                .map(|(shard, sink)| {
                    let read = (shard == 0).then_some(read);
                    thread::Builder::new().name(format!("shard {shard}")).spawn_scoped(scope, move || {
                        let share = Share { key: ShardKey::FIXED, shard, shards: self.shards };
                        self.run_shard(Shard::new(self.filter, Part::File(share), self.decode, self.config, sink), read)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.context("start a thread")?.join().map_err(|_| anyhow!("a shard panicked")))
                .collect::<anyhow::Result<_>>()
        })?;
        let mut totals = Totals::default();
        let mut outcome = Outcome { report: Report::default(), error: None };
        for (shard, (part, frames, error)) in results.into_iter().enumerate() {
            totals.merge(&part);
            if shard == 0 {
                outcome.report.source = Source::Files(frames);
                outcome.error = error;
            }
        }
        outcome.report.totals = totals;
        Ok(outcome)
    }

    fn run_shard(&self, mut shard: Shard, progress: Option<&AtomicU64>) -> (Totals, u64, Option<pcap::Error>) {
        let (mut frames, mut before) = (0, 0);
        let mut error = None;
        for file in &self.files {
            match read_file(file, &mut shard, &mut frames, before, progress) {
                Ok(size) => before += size,
                Err(e) => {
                    error = Some(e);
                    break;
                }
            }
        }
        (shard.finish(), frames, error)
    }
}

fn read_file(
    path: &Path,
    shard: &mut Shard,
    frames: &mut u64,
    before: u64,
    progress: Option<&AtomicU64>,
) -> Result<u64, pcap::Error> {
    /// Frames between two looks at the progress.
    const STRIDE: u64 = 4_096;
    let mut reader = Reader::open(path)?;
    loop {
        let Some(frame) = reader.next()? else { return Ok(reader.size()) };
        *frames += 1;
        shard.handle_frame(&frame);
        if let Some(progress) = progress
            && frames.is_multiple_of(STRIDE)
        {
            progress.store(before + reader.position(), Ordering::Relaxed);
        }
    }
}
