//! `cargo xtask bench`: figures, each beside what it has to be held against, from one run.

mod filter;
mod median;
mod server;

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
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Filter(args) => filter::run(args),
    }
}
