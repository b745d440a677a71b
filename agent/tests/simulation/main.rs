//! Seeded conversations through a hostile network, held against what their endpoints really sent.
//!
//! `cargo xtask simulate --help` says how to run it. What that uses: `XDPFLOW_SEEDS=100000` runs that many seeds, from
//! `XDPFLOW_FIRST` on; `XDPFLOW_MINUTES=5` runs as many as fit; `XDPFLOW_SEED=17` replays one and shows every record and
//! event.

mod bugs;
mod census;
mod checker;
mod conclusion;
mod content;
mod drive;
mod endpoint;
mod figures;
mod fragments;
mod kernel;
mod ledger;
mod network;
mod opening;
mod overdue;
mod packet;
mod plan;
mod rng;
mod scenario;
mod situations;
mod spans;
mod verdict;
mod wire;

use std::{
    env,
    io::{self, IsTerminal},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agent::reassembly::Config;
use bugs::{Bug, IMPATIENCE, MISCOUNTS, Saboteur};
use census::Census;
use checker::Checker;
use drive::{Watch, drive};
use scenario::Scenario;

/// What `cargo test` runs.
const SEEDS: u64 = 2_000;

/// Failures, after which more of them say nothing new.
const ENOUGH: usize = 40;

#[test]
fn seeds() {
    if let Some(seed) = number("XDPFLOW_SEED") {
        let outcome = run(seed, true);
        assert_eq!(outcome.failure, None, "seed {seed}");
        return;
    }
    let run = Run::new();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| run.work())).collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
    });
    let (census, mut failures) = run.found.into_inner().expect("no worker panicked");
    let (last, took) = (run.first + census.seeds.max(1) - 1, run.began.elapsed());
    print(&format!("seeds {} to {last}, {:.2?} each\n{census}", run.first, took / census.seeds.max(1) as u32));
    failures.sort_unstable();
    let shown: Vec<_> = failures
        .iter()
        .map(|(seed, why)| format!("seed {seed}: {why}\n    cargo xtask simulate --seed {seed}"))
        .collect();
    assert!(failures.is_empty(), "{} of {} seeds failed:\n{}", failures.len(), census.seeds, shown.join("\n"));
    let scarce = census.scarce();
    assert!(scarce.is_empty(), "reached too seldom in {} seeds:\n{}", census.seeds, scarce.join("\n"));
}

#[test]
fn planted_bugs_are_found() {
    const TIMES: usize = 4;
    let mut report = String::new();
    for bug in Bug::ALL {
        let mut found = 0;
        for seed in 0.. {
            let (mut scenario, patience) = (Scenario::draw(seed), seed % 5);
            let capture = network::run(&mut scenario);
            let mut saboteur = Saboteur::new(Checker::new(&scenario, &capture, false), bug, patience);
            let stats = drive(&scenario, &capture, &mut saboteur);
            saboteur.checker().conclude(&stats);
            if saboteur.fired {
                let noticed = saboteur.checker().failure.is_some();
                assert!(noticed || !bug.is_always_found(), "seed {seed}: {bug:?} was not found");
                found += usize::from(noticed);
            }
            if found == TIMES {
                report += &format!("{bug:?}: found {found} times in {} seeds\n", seed + 1);
                break;
            }
            assert!(seed < 10_000, "{bug:?} had no opportunity");
        }
    }
    print(&report);
}

#[test]
fn planted_impatience_is_found() {
    const SEEDS: u64 = 150;
    let mut found = IMPATIENCE.map(|_| 0);
    for seed in (0..SEEDS).filter(|&seed| run(seed, false).failure.is_none()) {
        for ((_, plant), found) in IMPATIENCE.iter().zip(&mut found) {
            *found += u64::from(run_with(seed, false, *plant).failure.is_some());
        }
    }
    for ((what, _), found) in IMPATIENCE.iter().zip(found) {
        print(&format!("{what}: found in {found} of {SEEDS} seeds"));
        assert!(found > 0, "{what}: not found");
    }
}

#[test]
fn miscounts_are_found() {
    for (what, plant) in MISCOUNTS {
        for seed in 0..10 {
            let mut scenario = Scenario::draw(seed);
            let capture = network::run(&mut scenario);
            let mut checker = Checker::new(&scenario, &capture, false);
            let mut stats = drive(&scenario, &capture, &mut checker);
            plant(&mut stats);
            checker.conclude(&stats);
            assert!(checker.failure.is_some(), "seed {seed}: a wrong {what} was not found");
        }
    }
}

/// Many seeds, by several threads.
struct Run {
    first: u64,
    next: AtomicU64,
    end: u64,
    began: Instant,
    until: Option<Instant>,
    terminal: bool,
    found: Mutex<(Census, Vec<(u64, String)>)>,
}

impl Run {
    #[expect(clippy::disallowed_methods, reason = "how long to explore is a matter of real time")]
    fn new() -> Self {
        let first = number("XDPFLOW_FIRST").unwrap_or(0);
        let minutes = number("XDPFLOW_MINUTES");
        let seeds = number("XDPFLOW_SEEDS").unwrap_or_else(|| if minutes.is_some() { u64::MAX } else { SEEDS });
        Self {
            first,
            next: AtomicU64::new(first),
            end: first.saturating_add(seeds),
            began: Instant::now(),
            until: minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes)),
            terminal: io::stderr().is_terminal(),
            found: Mutex::default(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "how long to explore is a matter of real time")]
    fn work(&self) {
        let mut census = Census::default();
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end || self.until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            let outcome = run(seed, false);
            census.merge(&outcome.census.of_one_seed());
            if let Some(why) = outcome.failure {
                let failures = &mut self.found.lock().expect("no worker panicked").1;
                failures.push((seed, why));
                if failures.len() >= ENOUGH {
                    self.next.store(self.end, Ordering::Relaxed);
                }
            }
            if self.terminal && seed.is_multiple_of(256) {
                self.show_progress(seed);
            }
        }
        self.found.lock().expect("no worker panicked").0.merge(&census);
    }

    #[expect(clippy::print_stderr, reason = "somebody waits")]
    fn show_progress(&self, seed: u64) {
        let failures = self.found.lock().expect("no worker panicked").1.len();
        eprint!("\r{} seeds, {failures} failed ", seed - self.first);
    }
}

struct Outcome {
    failure: Option<String>,
    census: Census,
}

fn run(seed: u64, trace: bool) -> Outcome {
    run_with(seed, trace, |_| {})
}

/// `plant` changes the configuration behind the checker's back.
fn run_with(seed: u64, trace: bool, plant: fn(&mut Config)) -> Outcome {
    let mut scenario = Scenario::draw(seed);
    if trace {
        scenario.show();
    }
    let capture = network::run(&mut scenario);
    let promised = scenario.config;
    plant(&mut scenario.config);
    let mut checker = Checker::new(&scenario, &capture, trace);
    checker.config = promised;
    let stats = drive(&scenario, &capture, &mut checker);
    checker.conclude(&stats);
    Outcome { failure: checker.failure, census: checker.census }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable}={value}: not a number")))
}

#[expect(clippy::print_stdout, reason = "the census is what the run is for")]
fn print(text: &str) {
    println!("{text}");
}
