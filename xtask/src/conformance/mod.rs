//! `cargo xtask conformance`: what xdpflow and its peers make of captures that were written for it, a few for each row of
//! the byte contract. Captures are made from a script of what the two ends say; what they sent is what a program must find.
//!
//! Peers come from Debian's packages. Zeek and Suricata, which reassemble too, could not be had from there.

mod capture;
mod captures;
mod conversation;
mod expected;
mod file;
mod link;
mod packet;
mod program;
mod ranges;
mod record;
mod segment;
mod table;
mod tunnel;

use std::{collections::BTreeMap, fs, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{command, interrupt};
use capture::Capture;
use captures::ROWS;
use program::Program;
use table::{Outcome, Section};

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Run this program alone; may be repeated
    #[arg(long, value_name = "PROGRAM", value_enum)]
    only: Vec<Program>,
    /// Put the tables into docs/conformance.md and README.md
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Leave the captures and what was made of them in target/conformance
    #[arg(long)]
    keep: bool,
    /// Only the captures of this row, or those whose name contains this
    filter: Option<String>,
}

/// With xdpflow alone, as part of what must hold before a change is merged.
pub(crate) fn check() -> Result<()> {
    let args = Args { only: vec![Program::Xdpflow], ..Args::default() };
    match run(&args)? {
        ExitCode::SUCCESS => Ok(()),
        _ => bail!("see above"),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let programs: Vec<Program> =
        Program::ALL.into_iter().filter(|program| args.only.is_empty() || args.only.contains(program)).collect();
    let mut versions = BTreeMap::new();
    for program in &programs {
        match program.prepare() {
            Ok(version) => drop(versions.insert(*program, version)),
            Err(error) if *program == Program::Xdpflow => return Err(error),
            Err(error) => {
                interrupt::check()?;
                println!("  not compared with {}: {error:#}", program.name());
            }
        }
    }

    let outcomes = outcomes(args, &versions.keys().copied().collect::<Vec<_>>())?;
    let missed =
        outcomes.iter().filter(|outcome| matches!(outcome.verdicts.get(&Program::Xdpflow), Some(Err(_)))).count();
    if args.filter.is_some() {
        println!("{}", table::captures(&outcomes, &programs));
        return Ok(ExitCode::from(u8::from(missed > 0)));
    }
    let version = |program: &Program| {
        versions.get(program).cloned().unwrap_or_else(|| format!("{} could not be had", program.name()))
    };
    let caption = format!("{}.", programs.iter().map(version).collect::<Vec<_>>().join(", "));
    println!("{}\n\n{caption}", table::rows(&outcomes, &programs));
    for outcome in &outcomes {
        if let Some(Err(problem)) = outcome.verdicts.get(&Program::Xdpflow) {
            println!("missed       row {}, {}: {problem}", outcome.row, outcome.capture);
        }
    }
    let [readme, document] = ["README.md", "docs/conformance.md"].map(|file| command::root().join(file));
    let sections: [(Section<'_>, Table); 3] = [
        (Section { file: &readme, name: "conformance" }, table::rows),
        (Section { file: &document, name: "rows" }, table::rows),
        (Section { file: &document, name: "captures" }, table::captures),
    ];
    for (section, table) in &sections {
        if args.write {
            section.write(&format!("{}\n\n{caption}", table(&outcomes, &programs)))?;
        } else if programs.contains(&Program::Xdpflow) {
            section.check(&table(&outcomes, &[Program::Xdpflow]))?;
        }
    }
    Ok(ExitCode::from(u8::from(missed > 0)))
}

type Table = fn(&[Outcome], &[Program]) -> String;

/// Writes every capture and has it read.
fn outcomes(args: &Args, programs: &[Program]) -> Result<Vec<Outcome>> {
    let folder = command::target().join("conformance/captures");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let wanted = |capture: &Capture| match args.filter.as_deref() {
        None => true,
        Some(filter) if ROWS.iter().any(|(row, _)| *row == filter) => capture.row == filter,
        Some(filter) => capture.name.contains(filter),
    };
    let mut outcomes = Vec::new();
    for mut capture in captures::all().into_iter().filter(wanted) {
        interrupt::check()?;
        let dir = folder.join(format!("{}, {}", capture.row, capture.name));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let files = capture.write(&dir)?;
        let mut verdicts = BTreeMap::new();
        for program in programs {
            verdicts.insert(*program, program.try_on(&mut capture, &files, &dir)?);
        }
        if !args.keep {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        outcomes.push(Outcome { row: capture.row, capture: capture.name, verdicts });
    }
    Ok(outcomes)
}
