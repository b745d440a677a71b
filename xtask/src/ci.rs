//! `cargo xtask ci`: everything that must hold before a change is merged.

use std::{
    fs,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};

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

/// Scores `replay` over a collection of other people's captures, where one lies beside the repository. Link types that
/// nothing here reads are left out.
fn corpus() -> Result<()> {
    let check = command::root().join("../shared/corpus/check.py");
    if !check.exists() {
        println!("none beside this repository");
        return Ok(());
    }
    let xdpflow = command::xdpflow();
    for gaps in ["skip", "zero"] {
        let replay = format!("{} replay {{pcap}} -o {{out}} --gaps {gaps} --decap all", xdpflow.display());
        let mut score = Command::new("python3");
        score.arg(&check).args(["--cmd", &replay, "--gaps", gaps]);
        score.args(["--skip-encap", "arcnet,juniper,wlan,fddi,ayiya,ipoib,ieee8021ah", "--skip-format", "snoop"]);
        let log = command::target().join(format!("test/corpus-{gaps}.log"));
        let status = command::into_log(&mut score, &log, LIMIT)?;
        let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        println!("{}", text.trim_end().lines().next_back().unwrap_or("it printed nothing"));
        if !status.success() {
            bail!("captures were read wrong: see {}", log.display());
        }
    }
    Ok(())
}

/// Of the corpus, each of whose captures has a limit of its own.
const LIMIT: Duration = Duration::from_secs(600);
