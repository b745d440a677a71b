//! `cargo xtask bench growth`: what a frame costs when there are more connections, more shards, and when more is lost.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    median::Median,
    plot::{Line, Plot},
    program::{Made, Paths, Program},
    replay::Scratch,
    workload::{self, Workload},
};
use crate::{command, interrupt};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds in which everything is measured once, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Open connections at most, of which the plot has every power of ten from 1,000 on
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    connections: u32,
    /// What the captures are made of
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    Program::Digest.prepare()?;
    let scratch = Scratch::new(None, 1.0, false)?;
    with_connections(args, &scratch.paths(Workload::Idle))?;
    with_loss(args, &scratch.paths(Workload::Short))
}

fn with_connections(args: &Args, paths: &Paths) -> Result<()> {
    let mut lines = Lines::new("connections");
    for connections in (3..).map(|power| 10_u32.pow(power)).take_while(|&count| count <= args.connections) {
        // As many frames each time, so that what a start costs has the same part in all.
        let words = (u64::from(args.connections) * 4 / u64::from(connections)).saturating_sub(2);
        let made = workload::idle(&paths.capture, connections.into(), words, args.seed)?;
        lines.measure(args, paths, &made, &connections.to_string(), Some(connections.into()))?;
    }
    lines.draw("connections.svg", "replay --output digest, idle connections", "open connections")
}

fn with_loss(args: &Args, paths: &Paths) -> Result<()> {
    let mut lines = Lines::new("% lost");
    for loss in [0, 100, 1_000, 10_000, 100_000, 300_000] {
        let connections = u64::from(args.connections) * 24 / 1_000;
        let made = workload::lossy(&paths.capture, connections, loss, args.seed)?;
        let percent = loss as f64 / 1e4;
        // A logarithm has no place for nothing.
        lines.measure(args, paths, &made, &percent.to_string(), (loss > 0).then_some(percent))?;
    }
    lines.draw("loss.svg", "replay --output digest, short connections", "% of segments of full size not captured")
}

/// CPU and wall time of a frame, for each number of shards.
struct Lines([[Line; 2]; SHARDS.len()]);

const SHARDS: [u32; 3] = [1, 2, 4];

impl Lines {
    /// Begins a table of them, too.
    fn new(what: &str) -> Self {
        println!("\n| {what} | frames | shards | ns CPU a frame | ns wall a frame | anonymous MB |");
        println!("|---|---|---|---|---|---|");
        Self(SHARDS.map(|shards| {
            ["CPU", "wall"].map(|what| Line { name: format!("{what}, {shards} shards"), points: vec![] })
        }))
    }

    /// Rows with this name, and points at `x`.
    fn measure(&mut self, args: &Args, paths: &Paths, made: &workload::Made, name: &str, x: Option<f64>) -> Result<()> {
        let frames = made.frames as f64;
        let mut costs = SHARDS.map(|_| Vec::new());
        for round in 0..=args.rounds {
            interrupt::check()?;
            for (costs, shards) in costs.iter_mut().zip(SHARDS) {
                let (cost, result) = Program::Digest.run_with(shards, paths, &made.manifest)?;
                ensure!(result == Made::Digest { right: true }, "{name}: the digest is wrong");
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        for ((costs, shards), [cpu, wall]) in costs.into_iter().zip(SHARDS).zip(&mut self.0) {
            let figures = [
                costs.iter().map(|cost| cost.cpu() * 1e9 / frames).collect(),
                costs.iter().map(|cost| cost.wall * 1e9 / frames).collect(),
                costs.iter().map(|cost| cost.memory as f64 / 1e6).collect(),
            ];
            let [on_cpu, waited, memory] = figures.map(|it| Median::of(it).map_or(f64::NAN, |median| median.value));
            if let Some(x) = x {
                cpu.points.push((x, on_cpu));
                wall.points.push((x, waited));
            }
            println!("| {name} | {} | {shards} | {on_cpu:.0} | {waited:.0} | {memory:.1} |", made.frames);
        }
        Ok(())
    }

    fn draw(self, file: &str, title: &str, x: &str) -> Result<()> {
        let folder = command::target().join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join(file);
        let lines = self.0.into_iter().flatten().collect();
        Plot { title, x, y: "ns a frame", lines }.write(&path)?;
        println!("\nplot         {}", path.display());
        Ok(())
    }
}
