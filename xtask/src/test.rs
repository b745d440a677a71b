//! `cargo xtask test`: every layer of tests, fastest first, one line each.
//!
//! Layers are the test targets that cargo knows of, so a new file in `tests/` is a new layer. The kernel's layers load
//! programs and make network namespaces. Where they cannot, they say `skipped: NAME (reason)`: that is counted apart, and
//! for root it is a failure.

use std::{
    collections::BTreeSet,
    fmt, fs,
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    command, interrupt,
    setup::{self, Tool},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only tests whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let counts = layers(args.filter.as_deref())?;
    println!();
    let verdict = counts.verdict();
    if let Err(error) = &verdict {
        println!("{error}");
    }
    println!("{counts}");
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of the tests.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Counts {
    pub(crate) fn verdict(self) -> Result<()> {
        match self {
            Self { failed: 0, passed: 0, skipped: 0 } => bail!("no test has such a name"),
            Self { failed: 0, .. } => Ok(()),
            Self { failed, .. } => bail!("{failed} of {} tests failed", self.passed + failed + self.skipped),
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Sets up, builds and runs all layers.
pub(crate) fn layers(filter: Option<&str>) -> Result<Counts> {
    let mut tools = vec![Tool::Ip, Tool::Ethtool];
    if command::is_root() {
        // tcpdump is the second opinion of a kernel test.
        tools.push(Tool::Tcpdump);
    }
    for missing in [setup::tools(&tools), setup::ebpf()].into_iter().filter_map(Result::err) {
        println!("  {missing:#}: the tests that need it will say so");
    }
    let layers = find_layers()?;
    command::run(command::cargo().args(["test", "--no-run", "--quiet"]))?;

    println!();
    let mut total = Counts::default();
    for layer in &layers {
        total.add(layer.run(filter)?);
    }
    Ok(total)
}

/// In the order in which they run.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Layer {
    Unit,
    Documentation,
    Host(String),
    /// By its place in [`KERNEL`].
    Kernel(usize),
}

impl Layer {
    fn run(&self, filter: Option<&str>) -> Result<Counts> {
        let mut test = command::cargo();
        // All packages at once, as they were built: one alone may want its dependencies with other features.
        test.args(["test", "--no-fail-fast"]);
        match self {
            Self::Unit => test.args(["--lib", "--bins"]),
            Self::Documentation => test.arg("--doc"),
            Self::Host(_) | Self::Kernel(_) => test.args(["--test", self.name()]),
        };
        // Of tests that pass it shows whether they were skipped.
        test.args(["--", "--show-output"]).args(filter);
        if *self == Self::Unit && command::is_root() {
            // What unit tests are ignored for is that they need root.
            test.arg("--include-ignored");
        }

        let log = command::target().join("test").join(self.name()).with_extension("log");
        let start = Instant::now();
        let status = command::into_log(&mut test, &log, LIMIT);
        interrupt::check()?;
        let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        let mut report = Report::read(&text);
        let good = status.as_ref().is_ok_and(ExitStatus::success);
        // A crash or a hang is no line of the report.
        if !good && report.counts.failed == 0 {
            report.counts.failed = 1;
        }
        if self.is_kernel() && command::is_root() {
            report.counts.failed += report.counts.skipped;
            report.counts.skipped = 0;
        }
        self.print(&report, start.elapsed());
        if !good {
            // The standard harness says before this what the tests printed that passed.
            let start = text.find("\nfailures:\n").unwrap_or(0);
            text[start..].lines().filter(|line| !passed(line)).for_each(|line| println!("    {line}"));
        }
        if let Err(error) = status {
            println!("    {error:#}");
        }
        Ok(report.counts)
    }

    fn print(&self, report: &Report, took: Duration) {
        let Counts { passed, failed, skipped } = report.counts;
        // A filter leaves most layers empty.
        if passed + failed + skipped == 0 {
            return;
        }
        let (name, took) = (self.name(), took.as_secs_f64());
        println!("{name:20} {passed:5} passed {failed:3} failed {skipped:3} skipped {took:7.1} s");
        for skipped in &report.skipped {
            let verdict = if self.is_kernel() && command::is_root() { "failed: skipped as root" } else { "skipped" };
            println!("    {verdict}: {skipped}");
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Unit => "unit",
            Self::Documentation => "documentation",
            Self::Host(name) => name,
            Self::Kernel(place) => KERNEL[*place],
        }
    }

    fn is_kernel(&self) -> bool {
        matches!(self, Self::Kernel(_))
    }
}

/// What the test harness and the tests printed.
struct Report {
    counts: Counts,
    /// Names and reasons.
    skipped: Vec<String>,
}

impl Report {
    /// Understands the standard harness and that of the namespace tests, which has one line for each test and begins it
    /// with the verdict.
    fn read(text: &str) -> Self {
        let mut counts = Counts::default();
        let mut skipped = Vec::new();
        let mut idle = 0;
        let mut standard = false;
        for line in text.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                let count =
                    |what| result.split([';', '.']).find_map(|part| part.trim().strip_suffix(what)?.parse().ok());
                counts.passed += count(" passed").unwrap_or(0);
                counts.failed += count(" failed").unwrap_or(0);
                standard = true;
            } else if let Some((_, skip)) = line.split_once("skipped: ") {
                skipped.push(skip.to_owned());
                idle += 1;
            } else if let Some((name, why)) =
                line.strip_prefix("test ").and_then(|test| test.split_once(" ... ignored"))
            {
                skipped.push(format!("{name} (ignored{why})"));
            } else if line.starts_with("ok  ") {
                counts.passed += 1;
            } else if line.starts_with("FAILED ") {
                counts.failed += 1;
            }
        }
        counts.skipped = skipped.len() as u32;
        if standard {
            // It believes that a test which found nothing to do has passed.
            counts.passed = counts.passed.saturating_sub(idle);
        }
        Self { counts, skipped }
    }
}

/// Whether a line says no more than that a test passed.
fn passed(line: &str) -> bool {
    line.ends_with(" ... ok") || line.starts_with("ok  ")
}

/// All test targets of the packages for the host.
fn find_layers() -> Result<BTreeSet<Layer>> {
    let text = command::output(command::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("read what cargo metadata printed")?;
    let targets =
        metadata.packages.into_iter().filter(|package| package.name != "agent-ebpf").flat_map(|it| it.targets);
    let tests = targets.filter(|target| target.kind.iter().any(|kind| kind == "test")).map(|target| {
        let kernel = KERNEL.iter().position(|name| *name == target.name);
        kernel.map_or(Layer::Host(target.name), Layer::Kernel)
    });
    Ok([Layer::Unit, Layer::Documentation].into_iter().chain(tests).collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// No layer takes as long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// Test targets that need root and a kernel; the quicker one first.
const KERNEL: [&str; 2] = ["programs", "namespace"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_skips_apart() {
        let report = Report::read(
            "running 4 tests\n\
             test parses ... ok\n\
             test loads ... ok\n\
             test slow ... ignored, takes an hour\n\
             test breaks ... FAILED\n\
             ---- loads stdout ----\n\
             skipped: loads (not root)\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(report.counts.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(report.skipped, ["slow (ignored, takes an hour)", "loads (not root)"]);
    }

    #[test]
    fn the_namespace_tests_are_counted_too() {
        let report = Report::read(
            "ok      attach_native (0.4 s)\nFAILED  attach_tc (1.2 s)\nskipped: lo (needs root)\n\
             1 failed, 1 skipped, 1.6 s\nfailed: attach_tc\n",
        );
        assert_eq!(report.counts.to_string(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(report.skipped, ["lo (needs root)"]);
    }

    #[test]
    fn no_tests_are_no_success() {
        assert!(Counts::default().verdict().is_err());
        assert!(Counts { passed: 1, ..Counts::default() }.verdict().is_ok());
        assert!(Counts { passed: 1, failed: 1, skipped: 0 }.verdict().is_err());
    }
}
