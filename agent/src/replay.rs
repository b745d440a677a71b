//! `xdpflow replay`: the same line as live, entered at the decoder.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use agent_common::shard::ShardKey;
use anyhow::{Context as _, anyhow};

use crate::{
    decode,
    filter::Filter,
    pcap::{self, Merge},
    reassembly,
    report::{Report, Source},
    shard::{Part, Shard, Share, Totals},
    sink::{Destination, Output},
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

/// How a replay ended: what it did, and what was wrong with the files.
pub struct Outcome {
    pub report: Report,
    pub errors: Vec<pcap::Error>,
}

impl Replay {
    /// Octets in all files, if that is known before they are read.
    pub fn size(&self) -> Option<u64> {
        let size = |file: &PathBuf| file.metadata().ok().filter(|it| it.is_file()).map(|it| it.len());
        self.files.iter().map(size).sum()
    }

    /// Merges the files once per shard and takes the frames of that shard. What can be read of a damaged one is delivered.
    /// `read` says how far it has come. When `stop` is set, the files end there; only with one shard, since others would
    /// have come to other places.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened or the output not be made: then nothing was written.
    pub fn run(&self, read: &AtomicU64, stop: &AtomicBool) -> anyhow::Result<Outcome> {
        let merges = Merge::open(&self.files, self.shards as usize)?;
        let sinks = Destination::for_shards(&self.output)?;
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(merges.into_iter().zip(sinks))
                .map(|(shard, (merge, sink))| {
                    let read = (shard == 0).then_some(read);
                    thread::Builder::new().name(format!("shard {shard}")).spawn_scoped(scope, move || {
                        let share = Share { key: ShardKey::FIXED, shard, shards: self.shards };
                        let shard = Shard::new(self.filter.clone(), Part::File(share), self.decode, self.config, sink);
                        run_shard(merge, shard, read, stop)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.context("start a thread")?.join().map_err(|_| anyhow!("a shard panicked")))
                .collect::<anyhow::Result<_>>()
        })?;
        let mut totals = Totals::default();
        let mut outcome = Outcome { report: Report::default(), errors: Vec::new() };
        for (shard, (part, frames, errors)) in results.into_iter().enumerate() {
            totals.merge(&part);
            if shard == 0 {
                outcome.report.source = Source::Files(frames);
            }
            // All shards meet the same damage. But a file may be gone when only one of them opens it.
            for error in errors {
                if outcome.errors.iter().all(|known| known.to_string() != error.to_string()) {
                    outcome.errors.push(error);
                }
            }
        }
        outcome.report.totals = totals;
        Ok(outcome)
    }
}

fn run_shard(
    mut merge: Merge,
    mut shard: Shard,
    progress: Option<&AtomicU64>,
    stop: &AtomicBool,
) -> (Totals, u64, Vec<pcap::Error>) {
    /// Frames between two looks at the progress.
    const STRIDE: u64 = 4_096;
    let mut frames = 0_u64;
    while !stop.load(Ordering::Relaxed)
        && let Some(reader) = merge.reader()
    {
        let ahead = reader.ahead();
        let count = ahead.len();
        shard.expect(ahead);
        for _ in 0..count {
            let Some(frame) = merge.next() else { break };
            frames += 1;
            shard.handle_frame(&frame);
            if let Some(progress) = progress
                && frames.is_multiple_of(STRIDE)
            {
                progress.store(merge.position(), Ordering::Relaxed);
            }
        }
    }
    (shard.finish(), frames, merge.into_errors())
}
