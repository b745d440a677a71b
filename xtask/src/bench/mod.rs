//! `cargo xtask bench`: figures, each beside what it has to be held against, from one run.

mod filter;
mod floor;
mod growth;
mod live;
mod measured;
mod median;
mod plot;
mod program;
mod replay;
mod server;
mod workload;

use anyhow::Result;
use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What the kernel half costs: a frame, and a server whose frames it looks at and does not want
    Filter(filter::Args),
    /// What a replay costs, beside other programs and beside reading and writing alone
    Replay(replay::Args),
    /// What a frame costs when there are more open connections and more shards, as a plot
    Growth(growth::Args),
    /// A capture of a loaded server, beside other programs: paced, at its limit, and the highest rate without loss
    Live(live::Args),
    #[command(hide = true)]
    Floor(floor::Args),
    #[command(hide = true)]
    Client(live::client::Args),
}

/// In what order `count` things are measured in a round: back and forth, so that nobody always comes after the same one.
fn order(round: usize, count: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Filter(args) => filter::run(args),
        What::Replay(args) => replay::run(args),
        What::Growth(args) => growth::run(args),
        What::Live(args) => live::run(args),
        What::Floor(args) => floor::run(args),
        What::Client(args) => live::client::run(args),
    }
}
