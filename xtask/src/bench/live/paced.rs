//! A server that is asked at a part of the rate that it answers when nobody watches.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    super::{
        median::Median,
        order,
        plot::{Line, Plot},
        replay::Scratch,
        server::Mode,
    },
    Args,
    client::Answered,
    site::Site,
    watcher::{Account, Setting, Statistics, Watcher, busy, output, tcpflow},
};
use crate::{command, interrupt};

pub(super) fn run(args: &Args) -> Result<()> {
    let site = Site::start(args.seed)?;
    let scratch = Scratch::new(None, 1.0, false)?;
    let _statistics = Statistics::enable()?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let answered = site.ask(None, args.seconds)?;
        rates.push(answered.complete as f64 / answered.seconds);
    }
    let capacity = Median::of(rates).map_or(0.0, |rate| rate.value);
    ensure!(capacity > 0.0, "the server answered nothing");
    println!(
        "\nnginx under a paced client, a connection for each request; without a capture {capacity:.0} are answered in a second.\n\
         {} rounds of {} s.\n",
        args.rounds, args.seconds
    );
    println!(
        "| of that | watched by | answered | failed | late | machine CPU s | frames | lost | whole | cut | wrong | user s | system s \
         | programs s | ns a run |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let watchers = Mode::ALL.map(Watcher::Xdpflow).into_iter().chain([Watcher::Tcpdump, Watcher::Tcpflow]);
    let watchers: Vec<Option<Watcher>> = [None].into_iter().chain(watchers.map(Some)).collect();
    let mut lines: Vec<Line> =
        watchers.iter().flatten().map(|watcher| Line { name: watcher.to_string(), points: vec![] }).collect();
    let mut problems = Vec::new();
    for share in SHARES {
        let mut rows: Vec<Row> = watchers.iter().map(|&watcher| Row { watcher, rounds: Vec::new() }).collect();
        for round in 0..args.rounds {
            for number in order(round as usize, rows.len()) {
                interrupt::check()?;
                rows[number].measure(&site, &scratch, args, share * capacity)?;
            }
        }
        rows.iter().for_each(|row| row.print(share));
        problems.extend(rows.iter().filter_map(|row| row.problem(share)));
        // On the cable: tc is before the kernel cuts what is sent into segments, and sees fewer frames.
        let seen = |row: &Row| row.median(|it| it.account.seen.map(|seen| seen as f64));
        let frames = rows.iter().filter_map(seen).reduce(f64::max);
        for (line, row) in lines.iter_mut().zip(&rows[1..]) {
            let seconds = args.seconds as f64;
            let cpu = row.median(|it| Some(it.account.cpu.sum() + it.account.programs.nanoseconds as f64 / 1e9));
            line.points.extend(frames.zip(cpu).map(|(frames, cpu)| ((frames / seconds).round(), cpu / seconds)));
        }
    }
    let path = command::target().join("bench/live.svg");
    fs::create_dir_all(command::target().join("bench"))?;
    Plot { title: "live capture to files", x: "frames a second on the cable", y: "processors", lines }.write(&path)?;
    println!("\nplot         {}", path.display());
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

/// What was measured of a watcher at one rate.
struct Row {
    watcher: Option<Watcher>,
    rounds: Vec<Round>,
}

struct Round {
    answered: Answered,
    /// Of the whole machine.
    busy: f64,
    account: Account,
    tally: super::bodies::Tally,
}

impl Row {
    fn measure(&mut self, site: &Site, scratch: &Scratch, args: &Args, rate: f64) -> Result<()> {
        let folder = scratch.folder("live");
        let setting = Setting { network: site.network(), folder: &folder, shards: args.shards, buffer: BUFFER };
        let watching = self.watcher.map(|watcher| watcher.start(&setting)).transpose()?;
        let before = busy()?;
        let answered = site.ask(Some(rate), args.seconds)?;
        let busy = busy()? - before;
        let mut round = Round { answered, busy, account: Account::default(), tally: Default::default() };
        if let Some(watching) = watching {
            round.account = watching.end()?;
            if self.watcher == Some(Watcher::Tcpdump) {
                tcpflow(&folder)?;
            }
            round.tally = site.bodies.judge_files(&output(&folder))?;
        }
        self.rounds.push(round);
        Ok(())
    }

    /// Of what is there in every round.
    fn median(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let figures: Option<Vec<f64>> = self.rounds.iter().map(of).collect();
        Some(Median::of(figures?)?.value)
    }

    fn print(&self, share: f64) {
        let name = self.watcher.map_or_else(|| "nobody".to_owned(), |watcher| watcher.to_string());
        let count = |of: &dyn Fn(&Round) -> Option<u64>| {
            self.median(|round| Some(of(round)? as f64)).map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"))
        };
        let seconds = |of: &dyn Fn(&Round) -> f64| {
            self.median(|round| Some(of(round))).map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
        };
        let watched = |of: fn(&Round) -> u64| count(&|round| self.watcher.map(|_| of(round)));
        println!(
            "| {:.0} % | {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            share * 100.0,
            count(&|round| Some(round.answered.complete)),
            count(&|round| Some(round.answered.failed)),
            count(&|round| Some(round.answered.late)),
            seconds(&|round| round.busy),
            count(&|round| round.account.seen),
            count(&|round| round.account.lost),
            watched(|round| round.tally.whole),
            watched(|round| round.tally.cut),
            watched(|round| round.tally.wrong),
            seconds(&|round| round.account.cpu.user),
            seconds(&|round| round.account.cpu.system),
            seconds(&|round| round.account.programs.nanoseconds as f64 / 1e9),
            count(&|round| round.account.programs.nanoseconds.checked_div(round.account.programs.runs)),
        );
    }

    /// What xdpflow may not do in any round.
    fn problem(&self, share: f64) -> Option<String> {
        let watcher = self.watcher.filter(|watcher| matches!(watcher, Watcher::Xdpflow(_)))?;
        let bad = self.rounds.iter().find(|round| {
            round.account.lost != Some(0) || round.tally.wrong > 0 || round.tally.whole < round.answered.complete
        })?;
        Some(format!(
            "{watcher} at {:.0} %: {} frames lost, of {} responses {} are whole and {} are wrong",
            share * 100.0,
            bad.account.lost.unwrap_or_default(),
            bad.answered.complete,
            bad.tally.whole,
            bad.tally.wrong
        ))
    }
}

const SHARES: [f64; 3] = [0.25, 0.5, 0.75];

/// Of each watcher that takes a size, in all.
const BUFFER: u64 = 128 << 20;
