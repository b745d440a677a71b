//! Runs tests by name, a few at a time, and prints one line for each. The standard harness cannot say why a test was
//! skipped, and calls a test that needs root and did not run `ok`.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use nix::unistd::Uid;

use crate::deadline::timed;

#[derive(Clone, Copy)]
pub(crate) struct Test {
    name: &'static str,
    run: fn(),
    alone: bool,
    needs_root: bool,
}

impl Test {
    pub(crate) const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, run, alone: false, needs_root: true }
    }

    /// Runs while no other test does: for those that measure what a busy machine would spoil.
    pub(crate) const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    pub(crate) const fn without_root(self) -> Self {
        Self { needs_root: false, ..self }
    }
}

/// What the user typed after `--`: words that select tests by a part of their names, and the flags of the standard
/// harness that make sense here.
pub(crate) struct Options {
    filters: Vec<String>,
    list: bool,
    threads: NonZero<usize>,
}

impl Options {
    pub(crate) fn from_args() -> Result<Self, String> {
        let mut options = Self { filters: Vec::new(), list: false, threads: THREADS };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let (flag, value) = arg.split_once('=').map_or((arg.as_str(), None), |(f, v)| (f, Some(v.to_owned())));
            match flag {
                "--list" => options.list = true,
                "--test-threads" => {
                    let value = value.or_else(|| args.next()).unwrap_or_default();
                    options.threads = value.parse().map_err(|_| format!("--test-threads {value}: not a number"))?;
                }
                "--nocapture" | "--no-capture" | "--show-output" | "--quiet" | "-q" => {}
                _ if flag.starts_with('-') => {
                    return Err(format!("unknown flag {flag} (known: --list, --test-threads)"));
                }
                _ => options.filters.push(arg),
            }
        }
        Ok(options)
    }

    fn selects(&self, test: &Test) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| test.name.contains(filter.as_str()))
    }
}

/// Runs the selected `tests`; as root nothing is ever skipped.
pub(crate) fn run(options: &Options, tests: &[&[Test]]) -> ExitCode {
    let selected: Vec<Test> = tests.concat().into_iter().filter(|test| options.selects(test)).collect();
    if options.list {
        selected.iter().for_each(|test| println!("{}: test", test.name));
        return ExitCode::SUCCESS;
    }
    let root = Uid::effective().is_root();
    let (runnable, skipped): (Vec<_>, Vec<_>) = selected.into_iter().partition(|test| root || !test.needs_root);
    let (alone, together): (Vec<_>, Vec<_>) = runnable.into_iter().partition(|test| test.alone);

    let (failed, time) = timed(|| [run_all(together, options.threads), run_all(alone, NonZero::<usize>::MIN)].concat());
    skipped.iter().for_each(|test| println!("skipped: {} (needs root)", test.name));
    println!("{} failed, {} skipped, {:.1} s", failed.len(), skipped.len(), time.as_secs_f64());
    failed.iter().for_each(|name| println!("failed: {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tests wait more than they work, so a few more of them than a small machine has processors run at once.
const THREADS: NonZero<usize> = NonZero::new(3).unwrap();

/// Names of the tests that failed.
fn run_all(tests: Vec<Test>, threads: NonZero<usize>) -> Vec<&'static str> {
    let queue = Mutex::new(tests.into_iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                while let Some(test) = { queue.lock().unwrap().next() } {
                    // The thread's name is what the panic message begins with.
                    let work = || thread::Builder::new().name(test.name.to_owned()).spawn(test.run).unwrap().join();
                    let (result, time) = timed(work);
                    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
                    println!("{verdict:7} {} ({:.1} s)", test.name, time.as_secs_f64());
                    if result.is_err() {
                        failed.lock().unwrap().push(test.name);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}
