//! `cargo xtask ci`: everything that must hold before a change is merged.

use std::{
    fs,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{command, conformance, demo, interrupt, test};

pub(crate) fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    let mut counts = test::Counts::default();

    step("formatting", &mut failed, || {
        command::run(command::cargo().args(["fmt", "--all", "--check"]))?;
        command::run(command::cargo().args(["fmt", "--check", "--manifest-path", "agent/fuzz/Cargo.toml"]))
    });
    step("lints", &mut failed, || {
        command::run(command::cargo().args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]))
    });
    step("tests", &mut failed, || {
        counts = test::layers(None)?;
        counts.verdict()
    });
    step("conformance", &mut failed, conformance::check);
    step("demo", &mut failed, || demo::run(&demo::Args::default()));
    step("corpus", &mut failed, corpus);

    interrupt::check()?;

    println!();
    for name in &failed {
        println!("failed: {name}");
    }
    // Whoever reads the output by machine reads its last line.
    println!("{counts}");
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all steps even when one fails: whoever waited for the tests wants to know about the demo, too.
fn step(name: &'static str, failed: &mut Vec<&'static str>, run: impl FnOnce() -> Result<()>) {
    println!("\n== {name}");
    if let Err(error) = run() {
        println!("error: {error:#}");
        failed.push(name);
    }
}

/// Scores `replay` over a collection of other people's captures, where one lies beside the repository. It is no part of
/// the project, so its score is information and not a condition.
fn corpus() -> Result<()> {
    let check = command::root().join("../shared/corpus/check.py");
    if !check.exists() {
        println!("none beside this repository");
        return Ok(());
    }
    let replay = format!("{} replay {{pcap}} -o {{out}} --gaps skip", command::xdpflow().display());
    let log = command::target().join("test/corpus.log");
    let mut score = Command::new("python3");
    match command::into_log(score.arg(&check).args(["--cmd", &replay, "--gaps", "skip"]), &log, LIMIT) {
        Ok(_) => {
            let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
            println!("{}", text.trim_end().lines().next_back().unwrap_or("it printed nothing"));
        }
        Err(error) => println!("{error:#}"),
    }
    Ok(())
}

/// Of the corpus, each of whose captures has a limit of its own.
const LIMIT: Duration = Duration::from_secs(600);
