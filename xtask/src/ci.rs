//! `cargo xtask ci`: everything that must hold before a change is merged.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{command, demo, test};

pub(crate) fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    let mut counts = test::Counts::default();

    step("formatting", &mut failed, || command::run(command::cargo().args(["fmt", "--all", "--check"])));
    step("lints", &mut failed, || {
        command::run(command::cargo().args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]))
    });
    step("tests", &mut failed, || {
        counts = test::layers(None)?;
        counts.verdict()
    });
    step("demo", &mut failed, || demo::run(&demo::Args::default()));
    step("corpus", &mut failed, corpus);

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
    let output = Command::new("python3").arg(&check).args(["--cmd", &replay, "--gaps", "skip"]).output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            println!("{}", text.trim_end().lines().next_back().unwrap_or("it printed nothing"));
        }
        Err(error) => println!("python3 {}: {error}", check.display()),
    }
    Ok(())
}
