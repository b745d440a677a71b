//! The highest rate of frames of which none is lost, by search as RFC 2544 section 26.1 has it.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    super::{
        replay::Scratch,
        server::Mode,
        workload::{Made, Workload},
    },
    Args,
    site::no_offloads,
    watcher::{Setting, Watcher},
};
use crate::{
    command, interrupt,
    network::{Network, Side},
};

pub(super) fn run(args: &Args) -> Result<()> {
    command::build_agent(&["--example", "generate"])?;
    let network = Network::create()?;
    no_offloads(&network)?;
    // Without it, or a program in the driver, a veth device takes no frames that another program redirects to it. No two
    // segments in a row are of one connection, so none are merged.
    let mut ethtool = network.command(Side::Server, "ethtool")?;
    command::output(ethtool.args(["-K", Network::INTERFACE, "gro", "on"]))?;
    let scratch = Scratch::new(None, 1.0, false)?;
    let seconds = args.seconds.min(LONGEST);
    let paths = scratch.paths(Workload::Short);
    // Enough for the whole time: frames that come again would be told from new ones, and so would cost something else.
    let scale = (seconds as f64 * FASTEST / FRAMES).max(0.01);
    let Made { frames, .. } = Workload::Short.make(&paths.capture, scale, args.seed)?;
    let folder = scratch.folder("live");
    let setting = Setting { network: &network, folder: &folder, shards: args.shards, buffer: BUFFER };
    println!("\nFrames over veth, {} s each time; buffers of {} MiB.\n", seconds, BUFFER >> 20);
    println!("| sent by | watched by | highest rate without loss | at most sent | trials |\n|---|---|---|---|---|");
    let xdpflow = Mode::ALL.into_iter().flat_map(|mode| [Watcher::Xdpflow(mode), Watcher::Digest(mode)]);
    let watchers: Vec<Watcher> = xdpflow.chain([Watcher::Tcpdump]).collect();
    for sender in [Sender::Tcpreplay { capture: &paths.capture, frames }, Sender::Generate] {
        // The first time is slower than all others.
        let usual = sender.send(&network, None, seconds)?.rate;
        for &watcher in &watchers {
            let mut trials = 0;
            let mut fastest = 0.0_f64;
            let found = search(|rate| {
                interrupt::check()?;
                trials += 1;
                let watching = watcher.start(&setting)?;
                let sent = sender.send(&network, rate, seconds)?;
                let account = watching.end()?;
                let taken = account.taken.context("a watcher that does not say how many frames it took")?;
                ensure!(taken <= sent.frames, "{watcher}: {taken} frames of {} that were sent", sent.frames);
                let disk = account.summary["sink"]["disk_slow"].as_u64().unwrap_or_default();
                fastest = fastest.max(sent.rate);
                Ok(Trial { rate: sent.rate, lossless: taken == sent.frames && disk == 0 })
            })?;
            let rate = match found {
                Found::Nothing => "-".to_owned(),
                Found::Rate(rate) => format!("{rate:.0}"),
                Found::AllThatIsSent(rate) => format!("{rate:.0}, all that is sent"),
            };
            println!("| {} | {watcher} | {rate} | {fastest:.0} | {trials} |", sender.name());
        }
        println!("| {} | nobody | - | {usual:.0} | 1 |", sender.name());
    }
    Ok(())
}

enum Sender<'a> {
    /// A capture of real conversations
    Tcpreplay { capture: &'a Path, frames: u64 },
    /// Segments of full size on a thousand connections, by a program in the kernel
    Generate,
}

struct Sent {
    frames: u64,
    /// In a second.
    rate: f64,
}

impl Sender<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Tcpreplay { .. } => "tcpreplay",
            Self::Generate => "generate",
        }
    }

    /// Has the client's end send for about so long, as fast as it can if there is no rate.
    fn send(&self, network: &Network, rate: Option<f64>, seconds: u64) -> Result<Sent> {
        let wanted = rate.map(|rate| (rate * seconds as f64) as u64);
        let mut command;
        match *self {
            Self::Tcpreplay { capture, frames } => {
                command = network.command(Side::Client, "tcpreplay")?;
                let limit = wanted.map_or(frames, |wanted| wanted.min(frames));
                command.args(["-i", Network::INTERFACE, "-K", &format!("--limit={limit}")]);
                command.arg(rate.map_or_else(|| "--topspeed".to_owned(), |rate| format!("--pps={rate:.0}")));
                command.arg(capture);
            }
            Self::Generate => {
                command = network.command(Side::Client, command::target().join("release/examples/generate"))?;
                let frames = wanted.unwrap_or((seconds as f64 * FASTEST) as u64);
                command.args([Network::INTERFACE, &frames.to_string()]);
                command.args(rate.map(|rate| format!("{rate:.0}")));
            }
        }
        let printed = command::output(&mut command)?;
        parse(&printed).with_context(|| format!("{} did not say what it sent:\n{printed}", self.name()))
    }
}

/// `Actual: 1000 packets (900000 bytes) sent in 0.50 seconds`.
fn parse(printed: &str) -> Option<Sent> {
    let (frames, rest) = printed.lines().find_map(|line| line.strip_prefix("Actual: ")?.split_once(" packets "))?;
    let seconds: f64 = rest.split_once(" sent in ")?.1.split(' ').next()?.parse().ok()?;
    let frames: u64 = frames.parse().ok()?;
    Some(Sent { frames, rate: frames as f64 / Duration::try_from_secs_f64(seconds).ok()?.as_secs_f64().max(1e-6) })
}

struct Trial {
    /// At which was sent, which may be less than what was asked for.
    rate: f64,
    lossless: bool,
}

#[derive(Debug, PartialEq)]
enum Found {
    /// Even at the lowest rate something is lost.
    Nothing,
    Rate(f64),
    /// The sender is no faster.
    AllThatIsSent(f64),
}

/// Halves what is between a rate without loss and one with it. The first trial is as fast as can be sent.
fn search(mut trial: impl FnMut(Option<f64>) -> Result<Trial>) -> Result<Found> {
    let first = trial(None)?;
    if first.lossless {
        return Ok(Found::AllThatIsSent(first.rate));
    }
    let (mut without, mut with) = (0.0, first.rate);
    while with - without > with * RESOLUTION {
        let rate = f64::midpoint(without, with);
        if rate < LOWEST {
            break;
        }
        let Trial { rate: sent, lossless } = trial(Some(rate))?;
        if lossless {
            // A sender that falls behind has not shown more than it sent; one that never gets there ends the search.
            if sent <= without * (1.0 + RESOLUTION / 4.0) {
                break;
            }
            without = sent.min(rate);
        } else {
            with = rate;
        }
    }
    Ok(if without > 0.0 { Found::Rate(without) } else { Found::Nothing })
}

/// Of the higher rate.
const RESOLUTION: f64 = 0.03;

/// In a second.
const LOWEST: f64 = 1_000.0;

/// More than tcpreplay can send over veth, in a second; the other sender sends as many frames, in less time.
const FASTEST: f64 = 500_000.0;

/// Seconds of a trial, since a second of frames takes most of a gigabyte of memory, as often as they are kept.
const LONGEST: u64 = 3;

/// Of the workload at a scale of 1, about.
const FRAMES: f64 = 1_200_000.0;

/// Of either, in all.
const BUFFER: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A watcher that loses frames beyond `limit`, and a sender that sends `fastest` at most.
    fn found(limit: f64, fastest: f64) -> Found {
        search(|rate| {
            let rate = rate.unwrap_or(fastest).min(fastest);
            Ok(Trial { rate, lossless: rate <= limit })
        })
        .unwrap()
    }

    #[test]
    fn the_search_comes_close_to_the_limit_from_below() {
        for limit in [5_000.0, 77_777.0, 299_000.0] {
            let Found::Rate(rate) = found(limit, 300_000.0) else { panic!("{limit}") };
            assert!(rate <= limit && rate > limit * (1.0 - 2.0 * RESOLUTION), "{limit}: {rate}");
        }
        assert_eq!(found(400_000.0, 300_000.0), Found::AllThatIsSent(300_000.0));
        assert_eq!(found(10.0, 300_000.0), Found::Nothing);
    }

    #[test]
    fn tcpreplay_says_what_it_sent() {
        let sent = parse("Actual: 1000 packets (900000 bytes) sent in 0.50 seconds\nRated: 1.0 Bps\n").unwrap();
        assert_eq!((sent.frames, sent.rate.round()), (1000, 2000.0));
        assert!(parse("Rated: 1.0 Bps\n").is_none());
    }
}
