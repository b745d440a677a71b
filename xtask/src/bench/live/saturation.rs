//! A server at its limit, and everyone too slow: how many connections are whole, and how the others were lost.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    super::{median::Median, order, replay::Scratch, server::Mode},
    Args,
    bodies::{Bodies, Response, Tally},
    site::Site,
    watcher::{Setting, Watcher, output, tcpflow},
};
use crate::interrupt;

pub(super) fn run(args: &Args) -> Result<()> {
    let site = Site::start(args.seed)?;
    let scratch = Scratch::new(None, 1.0, false)?;
    let folder = scratch.folder("live");
    let setting = Setting { network: site.network(), folder: &folder, shards: args.shards, buffer: BUFFER };
    let time = std::time::Duration::from_secs(args.seconds);
    site.saturate(time)?;
    println!(
        "\nnginx under wrk at full speed, a connection for each request; buffers of {} MiB; {} rounds of {} s.\n",
        BUFFER >> 20,
        args.rounds,
        args.seconds
    );
    println!(
        "| watched by | requests | frames | lost | whole | whole of requests | cut | wrong | shed | hurt | user s | system s |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut found = Vec::new();
    let (mut ratios, mut shares) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let mut whole = [0; 2];
        let mut share = [0.0_f64; 2];
        for number in order(round as usize, whole.len()) {
            interrupt::check()?;
            let watcher = [Watcher::Xdpflow(Mode::Native), Watcher::Tcpdump][number];
            let watching = watcher.start(&setting)?;
            let requests = site.saturate(time)?;
            let account = watching.end()?;
            let kept = match watcher {
                Watcher::Tcpdump => {
                    tcpflow(&folder)?;
                    Kept { tally: site.bodies.judge_files(&output(&folder))?, shed: 0, hurt: 0 }
                }
                _ => Kept::of_records(&site.bodies, &output(&folder))?,
            };
            let Kept { tally, shed, hurt } = kept;
            let of_xdpflow = |count: u64| if number == 0 { count.to_string() } else { "-".to_owned() };
            let (seen, lost) = (account.seen.unwrap_or_default(), account.lost.unwrap_or_default());
            println!(
                "| {watcher} | {requests} | {seen} | {:.1} % | {} | {:.1} % | {} | {} | {} | {} | {:.2} | {:.2} |",
                lost as f64 * 100.0 / seen.max(1) as f64,
                tally.whole,
                tally.whole as f64 * 100.0 / requests.max(1) as f64,
                tally.cut,
                tally.wrong,
                of_xdpflow(shed),
                of_xdpflow(hurt),
                account.cpu.user,
                account.cpu.system
            );
            whole[number] = tally.whole;
            // Who loses nothing has no part in how many the server answers.
            share[number] = (tally.whole as f64 / requests.max(1) as f64).min(1.0);
            if number == 0 {
                found.extend(kept.problem(round));
            }
        }
        ratios.push(whole[0] as f64 / whole[1].max(1) as f64);
        shares.push(share[0] / share[1].max(f64::MIN_POSITIVE));
    }
    if let Some(ratio) = Median::of(ratios) {
        println!(
            "\nwhole connections, xdpflow to tcpdump and tcpflow: {:.2} ({:.2} to {:.2})",
            ratio.value, ratio.low, ratio.high
        );
    }
    if Median::of(shares).is_some_and(|share| share.value < 1.0) {
        found.push("tcpdump and tcpflow have more of the connections whole".to_owned());
    }
    ensure!(found.is_empty(), "{}", found.join("; "));
    Ok(())
}

/// What became of the connections that a capture knows of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Kept {
    /// Of those that are neither shed nor hurt.
    tally: Tally,
    shed: u64,
    /// With a gap, or without their beginning: neither whole nor shed.
    hurt: u64,
}

impl Kept {
    /// By xdpflow's own records: what it says is whole has to be.
    fn of_records(bodies: &Bodies, output: &Path) -> Result<Self> {
        let mut kept = Self::default();
        for day in fs::read_dir(output).with_context(|| format!("read {}", output.display()))? {
            let index = day?.path().join("connections.jsonl");
            if !index.exists() {
                continue;
            }
            let text = fs::read_to_string(&index).with_context(|| format!("read {}", index.display()))?;
            for line in text.lines() {
                let record: Record = serde_json::from_str(line).with_context(|| format!("read {}", index.display()))?;
                if record.event == "close" {
                    kept.add(&record, bodies, output)?;
                }
            }
        }
        Ok(kept)
    }

    fn add(&mut self, record: &Record, bodies: &Bodies, output: &Path) -> Result<()> {
        let streams = [&record.c2s, &record.s2c];
        let gaps = || streams.iter().flat_map(|stream| stream.gaps.iter().chain(&stream.trailing_gap));
        if gaps().any(|gap| gap.cause == "shed") {
            self.shed += 1;
            // Neither direction may have a part.
            self.hurt += u64::from(streams.iter().any(|stream| stream.file.is_some()));
            return Ok(());
        }
        if gaps().next().is_some() || record.started != "handshake" {
            self.hurt += 1;
            return Ok(());
        }
        let read = |stream: &Stream| match &stream.file {
            Some(file) => fs::read(output.join(file)).with_context(|| format!("read {file}")),
            None => Ok(Vec::new()),
        };
        let request = read(&record.c2s)?;
        let response = bodies.judge(&read(&record.s2c)?);
        let asked = request.starts_with(b"GET /") && request.ends_with(b"\r\n\r\n");
        self.tally.add(match response {
            // An answer to what nobody asked.
            Response::Whole if !asked => Response::Wrong,
            // Only who leaves before the end has a part of a response; wrk does so when its time is over.
            Response::Cut if record.ended.as_deref() == Some("fin") && !request.is_empty() => Response::Wrong,
            other => other,
        });
        Ok(())
    }

    fn problem(self, round: u32) -> Option<String> {
        let Self { tally: Tally { wrong, .. }, hurt, .. } = self;
        (wrong > 0 || hurt > 0).then(|| format!("round {}: {wrong} connections are wrong, {hurt} hurt", round + 1))
    }
}

/// As far as this looks at it.
#[derive(Deserialize)]
struct Record {
    event: String,
    started: String,
    ended: Option<String>,
    c2s: Stream,
    s2c: Stream,
}

#[derive(Deserialize)]
struct Stream {
    file: Option<String>,
    gaps: Vec<Gap>,
    trailing_gap: Option<Gap>,
}

#[derive(Deserialize)]
struct Gap {
    cause: String,
}

/// Of either, in all.
const BUFFER: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a connection with this request and this response, after `spoil` changed its record.
    fn kept(name: &str, request: &str, response: &[u8], spoil: impl FnOnce(&mut Record)) -> Kept {
        let dir = std::env::temp_dir().join(format!("xtask-live-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("up"), request).unwrap();
        fs::write(dir.join("down"), response).unwrap();
        let stream = |file: &str| Stream { file: Some(file.to_owned()), gaps: vec![], trailing_gap: None };
        let (event, started) = ("close".to_owned(), "handshake".to_owned());
        let mut record =
            Record { event, started, ended: Some("fin".to_owned()), c2s: stream("up"), s2c: stream("down") };
        spoil(&mut record);
        let mut kept = Kept::default();
        kept.add(&record, &Bodies::new(1), &dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        kept
    }

    #[test]
    fn only_whole_connections_are_lost() {
        let request = "GET /0 HTTP/1.1\r\n\r\n";
        let mut response = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec();
        response.extend(crate::bench::live::bodies::first(1));
        let one = |whole, cut, wrong| Kept { tally: Tally { whole, cut, wrong }, ..Kept::default() };
        let gap = |cause: &str| Some(Gap { cause: cause.to_owned() });

        assert_eq!(kept("whole", request, &response, |_| ()), one(1, 0, 0));
        assert_eq!(kept("asked", "GET", &response, |_| ()), one(0, 0, 1));
        // Who left before the end has said so.
        assert_eq!(
            kept("left", request, &response[..500], |record| record.ended = Some("rst".to_owned())),
            one(0, 1, 0)
        );
        assert_eq!(kept("cut", request, &response[..500], |_| ()), one(0, 0, 1));
        let hurt = Kept { hurt: 1, ..Kept::default() };
        assert_eq!(kept("gap", request, &response, |record| record.s2c.gaps.extend(gap("ring-full"))), hurt);
        assert_eq!(kept("late", request, &response, |record| record.started = "midstream".to_owned()), hurt);
        let shed = |record: &mut Record| {
            record.s2c = Stream { file: None, gaps: vec![], trailing_gap: gap("shed") };
        };
        assert_eq!(kept("part", request, &response, shed), Kept { shed: 1, hurt: 1, ..Kept::default() });
        let both = |record: &mut Record| {
            shed(record);
            record.c2s.file = None;
        };
        assert_eq!(kept("shed", request, &response, both), Kept { shed: 1, ..Kept::default() });
    }
}
