//! The filter that a capture goes by, and how another takes its place.

use std::process;

use agent_common::{counter::Counter, tunnel::Tunnels};
use anyhow::ensure;
use serde_json::Value;

use super::Capture;
use crate::{
    clock::{self, Clock, Wall},
    control::{self, Change, Order, Status, What, Words},
    filter::Filter,
    generations::Generations,
    kernel::Kernel,
    sink::Report as Tell,
};

/// What is in force, in which words, and since when.
pub(super) struct InForce {
    generations: Generations,
    words: Words,
    meaning: String,
    reads_files: bool,
    size: control::InForce,
    since: Wall,
    /// What the kernel had counted by then.
    before: [u64; Counter::ALL.len()],
    changes: u64,
    /// Fixed for the life of the capture, whatever filter it is.
    snaplen: u32,
    tunnels: Tunnels,
    interfaces: Vec<String>,
    clock: Clock,
}

impl InForce {
    /// What `capture` begins with.
    pub(super) fn new(capture: &mut Capture, generations: Generations, generation: u32) -> Self {
        let clock = capture.output.clock;
        let filter = &capture.filter;
        Self {
            generations,
            words: std::mem::take(&mut capture.words),
            meaning: filter.meaning.clone(),
            reads_files: filter.reads_files,
            size: control::InForce::new(generation, &filter.filter),
            since: clock.wall(clock::now()),
            before: [0; Counter::ALL.len()],
            changes: 0,
            snaplen: filter.filter.graph.snaplen,
            tunnels: filter.filter.graph.tunnels,
            interfaces: capture.interfaces.iter().map(|interface| interface.name.clone()).collect(),
            clock,
        }
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn reads_files(&self) -> bool {
        self.reads_files
    }

    pub(super) fn generation(&self) -> u32 {
        self.size.generation
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Does what was asked for. Every change is told, and so is what has come of it.
    pub(super) fn obey(&mut self, order: Order, kernel: &mut Kernel, tell: &Tell) {
        let answer = match order.what {
            What::Show => self.status(kernel).and_then(|status| Ok(serde_json::to_value(status)?)),
            What::Set(change) => self.change(*change, kernel).and_then(|size| {
                tell(&format!("filter of generation {}: {size}", size.generation));
                Ok(serde_json::to_value(size)?)
            }),
        };
        // Who asked may be gone.
        let _: Result<(), anyhow::Result<Value>> = order.reply.send(answer);
    }

    fn change(&mut self, change: Change, kernel: &mut Kernel) -> anyhow::Result<control::InForce> {
        let Change { words, parsed, instead_of } = change;
        ensure!(
            instead_of.is_none_or(|generation| generation == self.generation()),
            "it was changed while its files were read"
        );
        let mut graph = parsed.filter.graph;
        (graph.snaplen, graph.tunnels) = (self.snaplen, self.tunnels);
        let filter = Filter { graph, ..parsed.filter };
        let generation = kernel.generation().wrapping_add(1);
        // The shards know it before the first frame that it lets through.
        self.generations.announce(generation, filter.clone())?;
        let result = kernel.set_filter(&filter);
        // What counts is what the programs go by, also after an error.
        if kernel.generation() == generation {
            self.generations.enforce(generation);
            self.words = words;
            self.meaning = parsed.meaning;
            self.reads_files = parsed.reads_files;
            self.size = control::InForce::new(generation, &filter);
            self.since = self.clock.wall(clock::now());
            // No program goes by the old one any more.
            self.before = kernel.counters()?;
            self.changes += 1;
        }
        result.map(|_| self.size)
    }

    fn status(&self, kernel: &Kernel) -> anyhow::Result<Status> {
        let counters = kernel.counters()?;
        let by_this = counters.iter().zip(&self.before).map(|(now, before)| now - before);
        let named = || Counter::ALL.iter().map(|counter| counter.name().to_owned());
        let decap = Tunnels::NAMES.iter().filter(|(_, tunnel)| self.tunnels.intersects(*tunnel));
        Ok(Status {
            pid: process::id(),
            interfaces: self.interfaces.clone(),
            words: self.words.clone(),
            meaning: self.meaning.clone(),
            in_force: self.size,
            since: self.since.to_string(),
            changes: self.changes,
            snaplen: self.snaplen,
            decap: decap.map(|(name, _)| (*name).to_owned()).collect(),
            counters: named().zip(counters).collect(),
            counters_of_generation: named().zip(by_this).collect(),
        })
    }
}
