//! `cargo xtask simulate`: the simulation for longer than `cargo test` has time for, and a test of the simulation itself.

mod bugs;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::command;

/// What `agent/tests/simulation` is to do.
#[derive(ClapArgs)]
#[command(group = clap::ArgGroup::new("what").args(["seed", "seeds", "minutes", "bugs"]))]
pub(crate) struct Args {
    /// Replay one seed and show every record and event
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run so many seeds, from --first on
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    seeds: u64,
    /// Explore for so long, from a random seed on
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// The seed to begin with
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "bugs"])]
    first: Option<u64>,
    /// Plant known bugs in a copy of the reassembler, one at a time: the simulation must find each. With PARTs, those that
    /// have one of these in their names
    #[arg(long, value_name = "PART", num_args = 0..)]
    bugs: Option<Vec<String>>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(parts) = &args.bugs {
        return bugs::run(parts);
    }
    let mut test = command::cargo();
    test.args(["test", "--profile", "simulation", "--quiet", "--package", "agent", "--test", "simulation"]);
    test.args(["--", "--exact", "seeds", "--nocapture"]);
    if let Some(seed) = args.seed {
        test.env("XDPFLOW_SEED", seed.to_string());
    } else if let Some(minutes) = args.minutes {
        let first = args.first.map_or_else(random, Ok)?;
        println!("exploring from seed {first} on, for {minutes} min");
        test.env("XDPFLOW_FIRST", first.to_string()).env("XDPFLOW_MINUTES", minutes.to_string());
    } else {
        let first = args.first.unwrap_or(0);
        test.env("XDPFLOW_FIRST", first.to_string()).env("XDPFLOW_SEEDS", args.seeds.to_string());
    }
    if command::run(&mut test).is_err() {
        bail!("the simulation found something, or reached too little");
    }
    Ok(())
}

/// Below 10^12, so that it can be read aloud.
fn random() -> Result<u64> {
    let mut octets = [0; 8];
    getrandom(&mut octets, GetRandomFlags::empty()).context("draw a seed")?;
    Ok(u64::from_ne_bytes(octets) % 1_000_000_000_000)
}
