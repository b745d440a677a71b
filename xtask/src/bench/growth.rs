//! `cargo xtask bench growth`: what a frame costs when there are more connections, and with more shards.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    median::Median,
    plot::{Line, Plot},
    program::{Made, Program},
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
    let paths = scratch.paths(Workload::Idle);
    let shards = [1, 2, 4];
    let mut lines: Vec<[Line; 2]> = shards
        .iter()
        .map(|shards| ["CPU", "wall"].map(|what| Line { name: format!("{what}, {shards} shards"), points: vec![] }))
        .collect();
    println!(
        "| connections | frames | shards | ns CPU a frame | ns wall a frame | anonymous MB |\n|---|---|---|---|---|---|"
    );
    for connections in (3..).map(|power| 10_u32.pow(power)).take_while(|&count| count <= args.connections) {
        interrupt::check()?;
        // As many frames each time, so that what a start costs has the same part in all.
        let words = (u64::from(args.connections) * 4 / u64::from(connections)).saturating_sub(2);
        let made = workload::idle(&paths.capture, connections.into(), words, args.seed)?;
        let frames = made.frames as f64;
        let mut costs = vec![Vec::new(); shards.len()];
        for round in 0..=args.rounds {
            for (costs, shards) in costs.iter_mut().zip(shards) {
                let (cost, result) = Program::Digest.run_with(shards, &paths, &made.manifest)?;
                ensure!(result == Made::Digest { right: true }, "{connections} connections: the digest is wrong");
                if round > 0 {
                    costs.push(cost);
                }
            }
        }
        for ((costs, shards), [cpu, wall]) in costs.into_iter().zip(shards).zip(&mut lines) {
            let figures = [
                costs.iter().map(|cost| cost.cpu() * 1e9 / frames).collect(),
                costs.iter().map(|cost| cost.wall * 1e9 / frames).collect(),
                costs.iter().map(|cost| cost.memory as f64 / 1e6).collect(),
            ];
            let [on_cpu, waited, memory] = figures.map(|it| Median::of(it).map_or(f64::NAN, |median| median.value));
            cpu.points.push((connections.into(), on_cpu));
            wall.points.push((connections.into(), waited));
            println!("| {connections} | {} | {shards} | {on_cpu:.0} | {waited:.0} | {memory:.1} |", made.frames);
        }
    }
    let folder = command::target().join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join("connections.svg");
    let lines = lines.into_iter().flatten().collect();
    Plot { title: "replay --output digest, idle connections", x: "open connections", y: "ns a frame", lines }
        .write(&path)?;
    println!("\nplot         {}", path.display());
    Ok(())
}
