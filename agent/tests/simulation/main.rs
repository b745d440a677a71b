//! Seeded conversations through a hostile network, held against what their endpoints really sent.
//!
//! `XDPFLOW_SEEDS=100000` runs that many seeds, `XDPFLOW_SEED=17` replays one and shows every record and event.

mod bugs;
mod census;
mod checker;
mod conclusion;
mod content;
mod drive;
mod endpoint;
mod ledger;
mod network;
mod packet;
mod plan;
mod rng;
mod scenario;
mod situations;
mod spans;
mod verdict;

use std::{env, thread};

use agent::reassembly::Config;
use bugs::{Bug, IMPATIENCE, Saboteur};
use census::Census;
use checker::Checker;
use drive::{Watch, drive};
use scenario::Scenario;

const SEEDS: u64 = 3_000;

/// Census lines, and how often each has to be reached in [`SEEDS`] seeds.
const EXPECTED: &[(&str, u64)] = &[
    ("segments", 200_000),
    ("connections", 5_000),
    ("clean conversations", 700),
    ("row 01 in order", 50_000),
    ("row 02 wrap", 500),
    ("row 03 out of order", 5_000),
    ("row 04 overlap", 5_000),
    ("row 04 retransmitted", 3_000),
    ("row 05 conflict", 300),
    ("row 06a late", 30),
    ("row 06a counted", 30),
    ("row 08 one-sided", 3_000),
    ("row 09 FIN", 3_000),
    ("row 09 empty FIN out of order", 50),
    ("row 10 RST", 300),
    ("row 10 forged RST", 30),
    ("row 11 reuse", 1_000),
    ("row 11 forged SYN", 30),
    ("row 12 after the close", 1_000),
    ("row 14 SYN with data", 300),
    ("row 15 simultaneous open", 100),
    ("row 16 keep-alive", 1_000),
    ("row 17 window probe", 15),
    ("row 20 snaplen", 3_000),
    ("row 21 far", 30),
    ("row 23 opens nothing", 200),
    ("row 24 stream queue full", 30),
    ("row 24 total queue full", 30),
    ("row 24 connection table full", 30),
    ("row 24 linger table full", 30),
    ("row 25 clock step", 50),
    ("row 25 silence", 500),
    ("row 26 continues", 30),
    ("updates", 100),
    ("handshake", 3_000),
    ("midstream", 200),
    ("fin", 2_000),
    ("rst", 200),
    ("idle", 200),
    ("reused", 30),
    ("evicted", 30),
    ("finish", 500),
    ("not-captured", 300),
    ("ring-full", 100),
    ("timeout", 20),
    ("limit", 100),
    ("close", 100),
    ("snaplen", 500),
];

#[test]
fn seeds() {
    if let Some(seed) = number("XDPFLOW_SEED") {
        let outcome = run(seed, true);
        assert_eq!(outcome.failure, None, "seed {seed}");
        return;
    }
    let seeds = number("XDPFLOW_SEEDS").unwrap_or(SEEDS);
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let spawn = |worker| {
            scope.spawn(move || {
                (worker..seeds).step_by(workers as usize).map(|seed| (seed, run(seed, false))).collect::<Vec<_>>()
            })
        };
        let handles: Vec<_> = (0..workers).map(spawn).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a worker panicked")).collect()
    });
    let mut census = Census::default();
    let mut failures = Vec::new();
    for (seed, outcome) in outcomes {
        census.merge(&outcome.census);
        failures.extend(outcome.failure.map(|why| format!("seed {seed}: {why}")));
    }
    print(&format!("{seeds} seeds, median conversation {} segments\n{census}", census.median()));
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
    let scarce: Vec<_> = EXPECTED
        .iter()
        .filter(|(what, least)| census.get(what) < least * seeds / SEEDS)
        .map(|(what, least)| format!("{what}: {}, at least {}", census.get(what), least * seeds / SEEDS))
        .collect();
    assert!(scarce.is_empty(), "reached too seldom:\n{}", scarce.join("\n"));
}

#[test]
fn planted_bugs_are_found() {
    const TIMES: usize = 10;
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
                assert!(saboteur.checker().failure.is_some(), "seed {seed}: {bug:?} was not found");
                found += 1;
            }
            if found == TIMES {
                report += &format!("{bug:?}: found {found} of {found} times, in {} seeds\n", seed + 1);
                break;
            }
            assert!(seed < 10_000, "{bug:?} had no opportunity");
        }
    }
    print(&report);
}

#[test]
fn planted_impatience_is_found() {
    let mut report = String::new();
    for (what, plant) in IMPATIENCE {
        let found = (0..300)
            .filter(|&seed| run_with(seed, false, plant).failure.is_some() && run(seed, false).failure.is_none())
            .count();
        assert!(found > 0, "{what}: not found");
        report += &format!("{what}: found in {found} of 300 seeds\n");
    }
    print(&report);
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
