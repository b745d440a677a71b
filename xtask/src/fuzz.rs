//! `cargo xtask fuzz`: looks for inputs that break the targets in `agent/tests/fuzz`, with cargo-fuzz and libFuzzer.
//!
//! It starts from the corpora in the repository and from what earlier runs have found, which stays under `target/fuzz`.
//! With `--keep` the least part of it that reaches as much becomes the corpus in the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Mutex,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{command, interrupt, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The target to run; without it, all
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Replace the corpus in the repository by the least set of inputs that reaches as much
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut targets = targets()?;
    if let Some(target) = &args.target {
        if !targets.contains(target) {
            bail!("no target is called {target} (there are: {})", targets.join(", "));
        }
        targets.retain(|name| name == target);
    }
    let cargo_fuzz = setup::fuzzer()?;
    println!("building     {}", targets.join(", "));
    let built = build(&cargo_fuzz)?;

    // Two at a time, whatever the machine: whoever fuzzes works on something else meanwhile.
    let queue = Mutex::new(targets.into_iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let outcomes: Vec<Result<bool>> = thread::scope(|scope| {
        let work = || std::iter::from_fn(next).map(|target| Target::new(target, &built).run(args)).collect::<Vec<_>>();
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    interrupt::check()?;
    let clean = outcomes.into_iter().collect::<Result<Vec<_>>>()?.into_iter().all(|clean| clean);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names of the targets, in order.
fn targets() -> Result<Vec<String>> {
    let folder = source().join("fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut targets: Vec<String> =
        files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    targets.sort_unstable();
    Ok(targets)
}

/// Builds all targets, and says where they are.
fn build(cargo_fuzz: &Path) -> Result<PathBuf> {
    let mut build = setup::nightly(cargo_fuzz);
    build.args(["build", "--fuzz-dir"]).arg(source()).arg("--target-dir").arg(folder().join("build"));
    // What the targets run has no unsafe code of ours: a sanitizer would find nothing and take half of the time.
    build.args(["--sanitizer", "none"]);
    command::logged(&mut build, &folder().join("build.log"))?;
    let version = command::output(setup::nightly(Path::new("rustc")).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(folder().join("build").join(host).join("release"))
}

/// One target, and what it keeps where.
struct Target {
    name: String,
    binary: PathBuf,
    /// In the repository, and of earlier runs.
    corpus: PathBuf,
    found: PathBuf,
    crashes: PathBuf,
}

impl Target {
    fn new(name: String, built: &Path) -> Self {
        Self {
            binary: built.join(&name),
            corpus: source().join("corpus").join(&name),
            found: folder().join("corpus").join(&name),
            crashes: folder().join("crashes").join(&name),
            name,
        }
    }

    /// Whether nothing was found that breaks it.
    fn run(&self, args: &Args) -> Result<bool> {
        for folder in [&self.corpus, &self.found, &self.crashes] {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let log = folder().join(&self.name).with_extension("log");
        let limit = Duration::from_secs(args.minutes * 60);
        let mut run = self.binary();
        run.arg(format!("-max_total_time={}", limit.as_secs()));
        run.args([&*format!("-timeout={INPUT_SECONDS}"), "-print_final_stats=1"]);
        // New inputs go to the first corpus.
        run.arg(format!("-artifact_prefix={}/", self.crashes.display())).args([&self.found, &self.corpus]);
        let status = command::into_log(&mut run, &log, limit + SLACK);
        interrupt::check()?;
        let text =
            String::from_utf8_lossy(&fs::read(&log).with_context(|| format!("read {}", log.display()))?).into_owned();
        let crash = text.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
        println!("{:12} {}, {} crashes", self.name, Progress::read(&text), u32::from(crash.is_some()));
        if let Some(path) = crash {
            println!("    {path}\n    {} {path}", command::line(&self.binary()));
            return Ok(false);
        }
        let status = status?;
        if !status.success() {
            bail!("{} ended with {status} (see {})", self.name, log.display());
        }
        if args.keep {
            self.keep()?;
        }
        Ok(true)
    }

    /// Leaves in the repository the least set of inputs that reaches as much as all that are known. Of operations in a row it
    /// matters how often something happens, of octets that are parsed only that it does.
    fn keep(&self) -> Result<()> {
        let least = folder().join("least").join(&self.name);
        if least.exists() {
            fs::remove_dir_all(&least).with_context(|| format!("remove {}", least.display()))?;
        }
        fs::create_dir_all(&least).with_context(|| format!("create {}", least.display()))?;
        let [counters, len] = match &*self.name {
            "fragments" | "reassembly" => ["-use_counters=1", "-max_len=256"],
            _ => ["-use_counters=0", "-max_len=1024"],
        };
        let mut merge = self.binary();
        merge.args(["-set_cover_merge=1", counters, len]).args([&least, &self.corpus, &self.found]);
        command::logged(&mut merge, &folder().join(&self.name).with_extension("merge.log"))?;
        fs::remove_dir_all(&self.corpus).with_context(|| format!("remove {}", self.corpus.display()))?;
        fs::create_dir_all(&self.corpus).with_context(|| format!("create {}", self.corpus.display()))?;
        let (mut inputs, mut octets) = (0, 0);
        for file in fs::read_dir(&least).with_context(|| format!("read {}", least.display()))? {
            let file = file?;
            octets += fs::copy(file.path(), self.corpus.join(file.file_name()))?;
            inputs += 1;
        }
        println!("{:12} {inputs} inputs of {octets} octets kept in {}", self.name, self.corpus.display());
        Ok(())
    }

    fn binary(&self) -> Command {
        Command::new(&self.binary)
    }
}

/// What libFuzzer says in its last line of the kind `#500 DONE cov: 226 ft: 519 corp: 345/19Kb lim: 4096`.
struct Progress<'a> {
    executions: &'a str,
    coverage: &'a str,
    corpus: &'a str,
}

impl<'a> Progress<'a> {
    fn read(log: &'a str) -> Self {
        let last = log.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: ")).unwrap_or_default();
        let words: Vec<&str> = last.split_whitespace().collect();
        let after = |name| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
        Self {
            executions: words.first().map_or("0", |word| word.trim_start_matches('#')),
            coverage: after("cov:").unwrap_or("0"),
            corpus: after("corp:").unwrap_or("0/0b"),
        }
    }
}

impl std::fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (inputs, size) = self.corpus.split_once('/').unwrap_or((self.corpus, "0b"));
        write!(f, "{} executions, coverage {}, corpus of {inputs} inputs ({size})", self.executions, self.coverage)
    }
}

/// The crate with the targets.
fn source() -> PathBuf {
    command::root().join("agent/fuzz")
}

fn folder() -> PathBuf {
    command::root().join("target/fuzz")
}

/// An input that takes longer is a finding.
const INPUT_SECONDS: u32 = 10;
/// To read the corpus and to end.
const SLACK: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_tells_how_far_it_came() {
        let log = "INFO: seed corpus\n#2 INITED cov: 20 ft: 21 corp: 1/1b exec/s: 0 rss: 27Mb\n\
                   #29830645 DONE   cov: 226 ft: 519 corp: 345/19Kb lim: 4096 exec/s: 1147332 rss: 28Mb\n\
                   Done 29830645 runs in 26 second(s)\n";
        let told = Progress::read(log).to_string();
        assert_eq!(told, "29830645 executions, coverage 226, corpus of 345 inputs (19Kb)");
    }
}
