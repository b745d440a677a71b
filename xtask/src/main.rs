//! What a developer of xdpflow runs: `cargo xtask COMMAND`. Depends on none of the other crates; what it needs of them it
//! does through cargo and through the built binary, as a user would.
#![expect(clippy::disallowed_methods, reason = "the rule is about the agent; here are timeouts of real processes")]

mod bench;
mod ci;
mod command;
mod conformance;
mod demo;
mod fuzz;
mod interrupt;
mod network;
mod output;
mod random;
mod setup;
mod simulate;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What a developer of xdpflow runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what building, testing and the demo need, and say what and why
    Setup,
    /// Capture real HTTP traffic between two network namespaces and verify every stream
    Demo(demo::Args),
    /// Run every layer of tests, the kernel's included where this user may
    Test(test::Args),
    /// Look for inputs that break decoders, readers or reassembly
    Fuzz(fuzz::Args),
    /// Compare what xdpflow and its peers make of a capture for every row of the byte contract
    Conformance(conformance::Args),
    /// Measure, beside what does the same or nothing
    Bench(bench::Args),
    /// Run seeded conversations through a hostile network and hold every stream against what was sent
    Simulate(simulate::Args),
    /// Everything that must hold before a change is merged
    Ci,
    /// One side of the demo's traffic, started inside its namespace
    #[command(hide = true)]
    DemoServer(demo::server::Args),
    #[command(hide = true)]
    DemoClient(demo::client::Args),
}

fn main() -> ExitCode {
    let task = Args::parse().task;
    let result = match task {
        // A signal simply ends them.
        Task::DemoServer(_) | Task::DemoClient(_) => task.run(),
        _ => interrupt::install().and_then(|()| {
            let result = task.run();
            // What a signal broke off has failed for a reason that nobody needs to read.
            interrupt::check().and(result)
        }),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

impl Task {
    fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Setup => setup::run()?,
            Self::Demo(args) => demo::run(args)?,
            Self::Test(args) => return test::run(args),
            Self::Fuzz(args) => return fuzz::run(args),
            Self::Conformance(args) => return conformance::run(args),
            Self::Bench(args) => bench::run(args)?,
            Self::Simulate(args) => simulate::run(args)?,
            Self::Ci => return ci::run(),
            Self::DemoServer(args) => demo::server::run(args)?,
            Self::DemoClient(args) => demo::client::run(args)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
