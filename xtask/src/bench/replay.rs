//! `cargo xtask bench replay`: xdpflow and its peers on the same captures, every stream compared with what was sent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    floor,
    measured::Cost,
    median::Median,
    order,
    program::{Made, Paths, Program, remove},
    workload::{self, Manifest, Workload},
};
use crate::{command, interrupt};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Captures to make and read; all of them if none is named
    #[arg(value_enum, value_name = "WORKLOAD")]
    workloads: Vec<Workload>,
    /// Run this alone; may be repeated
    #[arg(long, value_name = "PROGRAM", value_enum)]
    only: Vec<Program>,
    /// Rounds in which everything is measured once, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Size of the captures; at 1 they have a million frames and more
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// What the captures are made of
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Where captures and output lie [default: /dev/shm, where it has room]
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Leave the captures there
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut programs = Vec::new();
    for program in Program::ALL {
        if !args.only.is_empty() && !args.only.contains(&program) {
            continue;
        }
        match program.prepare() {
            Ok(()) => programs.push(program),
            Err(error) if program.is_ours() => return Err(error),
            Err(error) => {
                interrupt::check()?;
                println!("  not measured: {}: {error:#}", program.name());
            }
        }
    }
    let workloads = if args.workloads.is_empty() { &Workload::ALL[..] } else { &args.workloads };
    let mut wrong = Vec::new();
    let scratch = Scratch::new(args.scratch.as_deref(), args.scale, args.keep)?;
    for &workload in workloads {
        let paths = scratch.paths(workload);
        let made = workload.make(&paths.capture, args.scale, args.seed)?;
        floor::write_lengths(&made.manifest, &paths.lengths)?;
        let mut rows: Vec<Row> = programs.iter().map(|&program| Row::new(program)).collect();
        for round in 0..=args.rounds {
            for number in order(round, rows.len()) {
                rows[number].measure(&paths, &made.manifest, round > 0)?;
            }
        }
        print(workload, args, &made, &rows);
        if !args.keep {
            fs::remove_file(&paths.capture).with_context(|| format!("remove {}", paths.capture.display()))?;
        }
        wrong.extend(rows.iter().filter(|row| row.program.is_ours() && !row.is_right()).map(|row| row.program.name()));
    }
    if !wrong.is_empty() {
        bail!("wrong: {}", wrong.join(", "));
    }
    Ok(())
}

/// What was measured of one program.
struct Row {
    program: Program,
    costs: Vec<Cost>,
    /// What it made of the capture, or why it could not.
    made: Result<Made, String>,
}

impl Row {
    fn new(program: Program) -> Self {
        Self { program, costs: Vec::new(), made: Err("was not run".to_owned()) }
    }

    /// Runs it once more, unless it has failed before.
    fn measure(&mut self, paths: &Paths, manifest: &Manifest, counts: bool) -> Result<()> {
        if counts && self.made.is_err() {
            return Ok(());
        }
        match self.program.run(paths, manifest) {
            Ok((cost, made)) => {
                if counts {
                    self.costs.push(cost);
                }
                // One round in which it was wrong is enough.
                if !counts || self.is_right() {
                    self.made = Ok(made);
                }
            }
            Err(error) if self.program.is_ours() => return Err(error),
            Err(error) => {
                interrupt::check()?;
                let said = format!("{error:#}");
                self.made = Err(said.lines().next().unwrap_or_default().chars().take(80).collect());
            }
        }
        Ok(())
    }

    fn is_right(&self) -> bool {
        match self.made {
            Ok(Made::Files(verdict)) => verdict.wrong == 0 && verdict.missing == 0,
            Ok(Made::Digest { right }) => right,
            Ok(Made::Nothing) => true,
            Err(_) => false,
        }
    }

    fn median(&self, figure: impl Fn(&Cost) -> f64) -> f64 {
        Median::of(self.costs.iter().map(figure).collect()).map_or(f64::NAN, |median| median.value)
    }

    /// Of the same round, so that what slows the machine slows both.
    fn ratio(&self, other: Option<&Self>, figure: impl Fn(&Cost) -> f64) -> String {
        let Some(other) = other else { return "-".to_owned() };
        let ratios = self.costs.iter().zip(&other.costs).map(|(ours, theirs)| figure(ours) / figure(theirs));
        Median::of(ratios.collect()).map_or_else(|| "-".to_owned(), |median| format!("{:.2}", median.value))
    }
}

fn print(workload: Workload, args: &Args, made: &workload::Made, rows: &[Row]) {
    let manifest = &made.manifest;
    println!(
        "\n{}: {} frames, {} streams of {} octets; seed {}, scale {}; medians of {} rounds\n",
        workload.name(),
        made.frames,
        manifest.count,
        manifest.octets,
        args.seed,
        args.scale,
        args.rounds
    );
    println!(
        "| who | user s | sys s | wall s | ns CPU a frame | anonymous MB | CPU, of xdpflow's | of its floor's | streams right | octets right | |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let of = |program: Program| rows.iter().find(|row| row.program == program);
    for row in rows {
        let made_of = match &row.made {
            Ok(made) => made,
            Err(reason) => {
                println!("| {} | - | - | - | - | - | - | - | - | - | failed: {reason} |", row.program.name());
                continue;
            }
        };
        let (streams, octets, remark) = match made_of {
            Made::Nothing => ("-".to_owned(), "-".to_owned(), String::new()),
            Made::Digest { right: true } => (manifest.count.to_string(), manifest.octets.to_string(), String::new()),
            Made::Digest { right: false } => ("-".to_owned(), "-".to_owned(), "WRONG".to_owned()),
            Made::Files(verdict) => {
                let remark = if row.is_right() {
                    String::new()
                } else {
                    format!("WRONG: {} files that are no stream, {} streams missing", verdict.wrong, verdict.missing)
                };
                (verdict.right.to_string(), verdict.octets.to_string(), remark)
            }
        };
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.1} | {} | {} | {streams} | {octets} | {remark} |",
            row.program.name(),
            row.median(|cost| cost.user),
            row.median(|cost| cost.system),
            row.median(|cost| cost.wall),
            row.median(Cost::cpu) * 1e9 / made.frames as f64,
            row.median(|cost| cost.memory as f64) / 1e6,
            row.ratio(of(Program::Xdpflow), Cost::cpu),
            row.ratio(of(row.program.floor()), Cost::cpu),
        );
    }
}

/// A folder for captures and output, which is gone afterwards unless it is kept.
pub(super) struct Scratch {
    folder: PathBuf,
    keep: bool,
}

impl Scratch {
    /// In memory if there is room, since a disk would be all that is measured.
    pub(super) fn new(wanted: Option<&Path>, scale: f64, keep: bool) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let room = rustix::fs::statvfs(memory).map_or(0, |it| it.f_bavail * it.f_frsize);
        let parent = match wanted {
            Some(folder) => folder.to_owned(),
            None if room as f64 > ROOM * scale => memory.to_owned(),
            None => command::target().join("bench"),
        };
        let folder = parent.join(format!("xdpflow-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        if keep {
            println!("captures     {}", folder.display());
        }
        Ok(Self { folder, keep })
    }

    pub(super) fn paths(&self, workload: Workload) -> Paths {
        let [lengths, output, log] = ["lengths", "output", "log"].map(|name| self.folder.join(name));
        Paths { capture: self.folder.join(format!("{}.pcap", workload.name())), lengths, output, log }
    }

    /// For whoever makes and removes it.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is left, and no reason to fail.
            let _ = remove(&self.folder);
        }
    }
}

/// Octets of the largest capture and of what a program makes of it: a million files take a page and an inode each.
const ROOM: f64 = 6e9;

fn parse_scale(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|scale| *scale > 0.0 && *scale <= 100.0).ok_or_else(|| "not between 0 and 100".to_owned())
}
