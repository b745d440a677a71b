//! `cargo xtask bench filter`: a frame in the kernel, and a server whose frames are looked at and not wanted.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{
    median::Median,
    order,
    server::{Mode, Server, Watcher},
};
use crate::{
    command::{self, cargo},
    setup::{self, Tool},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, in each of which everything is measured once; at least 20 for the figures that are aimed at
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: usize,
    /// Seconds for which the server is loaded each time
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    seconds: u64,
    /// Leave out the server, or the frames
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    Frames,
    Server,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !command::is_root() {
        bail!("the kernel half is measured: this needs root");
    }
    setup::ebpf()?;
    if args.only != Some(Part::Server) {
        println!("\nA frame, by BPF_PROG_TEST_RUN:\n");
        command::run(cargo().args(["run", "--quiet", "--release", "--package", "agent", "--example", "cost"]))?;
    }
    if args.only != Some(Part::Frames) {
        setup::tools(&[Tool::Ip, Tool::Nginx, Tool::Wrk, Tool::Tcpdump])?;
        command::build_agent(&["--bins", "--example", "pass"])?;
        loaded(args)?;
    }
    Ok(())
}

/// Requests per second of a server that somebody watches, each beside an empty program attached in the same way.
fn loaded(args: &Args) -> Result<()> {
    let server = Server::start()?;
    let time = Duration::from_secs(args.seconds);
    let watchers: Vec<Watcher> = [Watcher::Nobody, Watcher::Tcpdump]
        .into_iter()
        .chain(Mode::ALL.into_iter().flat_map(|mode| [Watcher::Empty(mode), Watcher::Xdpflow(mode)]))
        .collect();
    server.load(time)?;
    let mut rates = vec![Vec::new(); watchers.len()];
    for round in 0..args.rounds {
        for number in order(round, watchers.len()) {
            let watching = server.watch(watchers[number])?;
            rates[number].push(server.load(time)?);
            watching.end()?;
        }
    }
    println!("\nnginx under wrk, a connection for each request; {} rounds of {} s:\n", args.rounds, args.seconds);
    println!("{:>30} {:>10}   beside {:>24}  ratio (95 % interval)", "watched by", "requests/s", "");
    for (number, watcher) in watchers.iter().enumerate() {
        let beside = match *watcher {
            Watcher::Nobody => continue,
            Watcher::Empty(_) | Watcher::Tcpdump => Watcher::Nobody,
            Watcher::Xdpflow(mode) => Watcher::Empty(mode),
        };
        let Some(other) = watchers.iter().position(|watcher| *watcher == beside) else { continue };
        let ratios = rates[number].iter().zip(&rates[other]).map(|(with, without)| with / without).collect();
        let (Some(rate), Some(ratio)) = (Median::of(rates[number].clone()), Median::of(ratios)) else { continue };
        println!(
            "{:>30} {:>10.0}   beside {:>24}  {:.3} ({:.3} to {:.3})",
            watcher.to_string(),
            rate.value,
            beside.to_string(),
            ratio.value,
            ratio.low,
            ratio.high
        );
        ensure!(rate.low > 0.0, "{watcher}: the server answered nothing");
    }
    Ok(())
}
