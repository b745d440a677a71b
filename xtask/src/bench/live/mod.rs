//! `cargo xtask bench live`: what a capture costs and loses while a server is loaded, beside other programs.

mod bodies;
pub(super) mod client;
mod paced;
mod rate;
mod saturation;
mod site;
mod watcher;

use anyhow::{Result, bail};

use crate::{
    command,
    setup::{self, Tool},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is measured; all of it if nothing is named
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// Rounds in which everything is measured once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of load each time
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// xdpflow's threads, each with a ring of its own
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// What is served and sent is made of it
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    /// nginx under paced clients, at a quarter, a half and three quarters of what it answers without a capture
    Paced,
    /// nginx under wrk: how many connections are whole
    Saturation,
    /// The highest rate of frames without loss, by search
    Rate,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !command::is_root() {
        bail!("a capture is measured: this needs root");
    }
    setup::ebpf()?;
    setup::tools(&[Tool::Ip, Tool::Ethtool, Tool::Nginx, Tool::Wrk, Tool::Tcpdump, Tool::Tcpflow, Tool::Tcpreplay])?;
    command::build_agent(&["--bins"])?;
    let wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    if wanted(Part::Paced) {
        paced::run(args)?;
    }
    if wanted(Part::Saturation) {
        saturation::run(args)?;
    }
    if wanted(Part::Rate) {
        rate::run(args)?;
    }
    Ok(())
}
