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
    let network = Network::create()?;
    no_offloads(&network)?;
    let scratch = Scratch::new(None, 1.0, false)?;
    let paths = scratch.paths(Workload::Short);
    // Enough for the whole time: frames that come again would be told from new ones, and so would cost something else.
    let scale = (args.seconds as f64 * FASTEST / FRAMES).max(0.01);
    let Made { frames, .. } = Workload::Short.make(&paths.capture, scale, args.seed)?;
    let folder = scratch.folder("live");
    let setting = Setting { network: &network, folder: &folder, shards: args.shards, buffer: BUFFER };
    send(&network, &paths.capture, frames, None)?;
    println!(
        "\ntcpreplay of {frames} frames over veth, {} s each time; buffers of {} MiB.\n",
        args.seconds,
        BUFFER >> 20
    );
    println!("| watched by | highest rate without loss | at most sent | trials |\n|---|---|---|---|");
    let xdpflow = Mode::ALL.into_iter().flat_map(|mode| [Watcher::Xdpflow(mode), Watcher::Digest(mode)]);
    for watcher in xdpflow.chain([Watcher::Tcpdump]) {
        let mut trials = 0;
        let mut fastest = 0.0_f64;
        let found = search(|rate| {
            interrupt::check()?;
            trials += 1;
            let watching = watcher.start(&setting)?;
            let count = rate.map_or(frames, |rate| frames.min((rate * args.seconds as f64) as u64));
            let sent = send(&network, &paths.capture, count, rate)?;
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
        println!("| {watcher} | {rate} | {fastest:.0} | {trials} |");
    }
    Ok(())
}

struct Sent {
    frames: u64,
    /// In a second.
    rate: f64,
}

/// Has the client's end send so many frames of a capture.
fn send(network: &Network, capture: &Path, frames: u64, rate: Option<f64>) -> Result<Sent> {
    let mut tcpreplay = network.command(Side::Client, "tcpreplay")?;
    tcpreplay.args(["-i", Network::INTERFACE, "-K", &format!("--limit={frames}")]);
    match rate {
        None => tcpreplay.arg("--topspeed"),
        Some(rate) => tcpreplay.arg(format!("--pps={rate:.0}")),
    };
    let printed = command::output(tcpreplay.arg(capture))?;
    parse(&printed).with_context(|| format!("tcpreplay did not say what it sent:\n{printed}"))
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

/// More than tcpreplay can send over veth, in a second.
const FASTEST: f64 = 500_000.0;

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
