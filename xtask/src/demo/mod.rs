//! `cargo xtask demo`: real HTTP between two network namespaces, captured by the binary that users run, and every stream
//! compared with what its two ends sent and received. Where the kernel's part cannot run, a capture of the same traffic
//! that was recorded once is replayed instead.

pub(crate) mod client;
mod http;
pub(crate) mod server;
mod transcript;
mod verify;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    command,
    interrupt::{self, Running},
    network::{Network, Side},
    setup::{self, Tool},
};
use transcript::Transcript;
use verify::Verdict;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Leave the network namespaces up until the next demo or bench
    #[arg(long)]
    keep: bool,
    /// Replay the recorded capture even where the kernel's part could run
    #[arg(long)]
    no_kernel: bool,
    /// Write to this folder, which must not exist yet [default: target/demo/TIME]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Record the capture that is replayed without root, and its manifest, anew
    #[arg(long, hide = true)]
    record: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.record {
        setup::tools(&[Tool::Ip, Tool::Tcpdump])?;
        return record();
    }
    let without_kernel = if args.no_kernel {
        Some("--no-kernel".to_owned())
    } else if !command::is_root() {
        Some("not root".to_owned())
    } else {
        setup::tools(&[Tool::Ip])?;
        None
    };
    match (setup::ebpf(), &without_kernel) {
        (Err(error), Some(_)) => println!("  {error:#}"),
        (result, _) => result?,
    }
    println!("building     cargo build --release");
    command::run(
        command::cargo().args(["build", "--release"]).args((!io::stderr().is_terminal()).then_some("--quiet")),
    )?;
    let dir = output_folder(args.output.as_deref())?;

    let reason = match without_kernel {
        Some(reason) => reason,
        None => match Network::create() {
            Ok(network) => match live(&network, &dir)? {
                Ran::Verified => {
                    if args.keep {
                        network.keep();
                    }
                    return Ok(());
                }
                Ran::Refused(reason) => reason,
            },
            Err(error) => {
                interrupt::check()?;
                format!("{error:#}")
            }
        },
    };
    replay(&reason, &dir)
}

enum Ran {
    Verified,
    /// The kernel does not let even root do it here.
    Refused(String),
}

/// The whole line, from the wire to the file.
fn live(network: &Network, dir: &Path) -> Result<Ran> {
    let mut capture = network.command(Side::Server, command::xdpflow())?;
    capture
        .args(["capture", "-i", Network::INTERFACE, "--attach", "native", "--port", &PORT.to_string(), "-o"])
        .arg(dir);
    let (capture, listening) = match command::start_until(&mut capture, LISTENING, &log()) {
        Ok(started) => started,
        Err(error) => {
            interrupt::check()?;
            let reason = format!("{error:#}");
            let refused = ["not permitted", "ermission denied"].iter().any(|words| reason.contains(words));
            return if refused { Ok(Ran::Refused(reason)) } else { Err(error) };
        }
    };
    println!("capturing    {}", listening);

    let start = Instant::now();
    let (clients, servers) = traffic(network, false)?;
    let took = start.elapsed();
    thread::sleep(SETTLE);
    let (status, summary) = stop(capture)?;

    println!();
    if let Err(problem) = verify::endpoints_agree(&clients, &servers) {
        bail!("the demo's own traffic went wrong: {problem}");
    }
    let mut verdict = verify::output(dir, &clients)?;
    if !status.success() {
        verdict.problems.insert(0, format!("xdpflow capture: {status}"));
    }
    if network.has_xdp()? {
        verdict.problems.push("an XDP program is still attached".to_owned());
    }
    print_table(&clients, &verdict);
    let octets: u64 = clients.iter().map(|client| client.sent.len + client.received.len).sum();
    println!(
        "\n{} in {:.2} s, {:.1} Gbit/s; sha256 of every stream compared with the sender's and the receiver's",
        size(octets),
        took.as_secs_f64(),
        octets as f64 * 8e-9 / took.as_secs_f64()
    );
    print_summary(&summary);
    finish(&verdict, dir)?;
    Ok(Ran::Verified)
}

/// The same line from the decoder on.
fn replay(reason: &str, dir: &Path) -> Result<()> {
    println!("replaying    {CAPTURE} ({reason})");
    let manifest = command::root().join(MANIFEST);
    let text = fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    let transcripts = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Transcript>, _>>()
        .with_context(|| format!("read {}", manifest.display()))?;

    let mut replay = Command::new(command::xdpflow());
    replay.arg("replay").arg(command::root().join(CAPTURE)).arg("-o").arg(dir);
    let mut process = Running::start(replay.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let mut summary = String::new();
    if let Some(mut stderr) = process.child().stderr.take() {
        stderr.read_to_string(&mut summary).context("read what xdpflow prints")?;
    }
    let status = process.wait(Duration::MAX)?;

    println!();
    let mut verdict = verify::output(dir, &transcripts)?;
    if !status.success() {
        verdict.problems.insert(0, format!("xdpflow replay: {status}"));
    }
    print_table(&transcripts, &verdict);
    println!("\nsha256 of every stream compared with what its two ends noted when this was recorded");
    print_summary(&summary.lines().map(str::to_owned).collect::<Vec<_>>());
    finish(&verdict, dir)?;
    println!(
        "\nnot shown    the kernel's part. As root, the demo runs 250 connections between two network namespaces, one\n\
         {:13}of them over 100 MB, and captures them as they happen: XDP on what the server receives, tc on what\n\
         {:13}it sends. Namespaces and programs are gone afterwards.",
        "", ""
    );
    Ok(())
}

/// Makes what [`replay`] replays.
fn record() -> Result<()> {
    let network = Network::create()?;
    let (capture, manifest) = (command::root().join(CAPTURE), command::root().join(MANIFEST));
    if let Some(folder) = capture.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut tcpdump = network.command(Side::Server, "tcpdump")?;
    tcpdump.args(["-i", Network::INTERFACE, "-B", "65536", "-Z", "root", "-w"]).arg(&capture);
    tcpdump.args(["port", &PORT.to_string()]);
    let (tcpdump, _) = command::start_until(&mut tcpdump, LISTENING, &log())?;
    let (clients, servers) = traffic(&network, true)?;
    // It reads a block of frames a second.
    thread::sleep(Duration::from_secs(2));
    let (status, printed) = stop(tcpdump)?;
    if !status.success() || !printed.iter().any(|line| line == "0 packets dropped by kernel") {
        bail!("tcpdump: {status}: {}", printed.join("; "));
    }
    if let Err(problem) = verify::endpoints_agree(&clients, &servers) {
        bail!("the demo's own traffic went wrong: {problem}");
    }
    let lines: Vec<String> = clients.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    fs::write(&manifest, lines.join("\n") + "\n").with_context(|| format!("write {}", manifest.display()))?;
    println!("{CAPTURE}: {} connections, {}", clients.len(), size(fs::metadata(&capture)?.len()));
    Ok(())
}

/// Ends what was started with [`log`], as Ctrl-C would; returns how it ended, and what it has printed since it was ready.
fn stop(mut capture: Running) -> Result<(ExitStatus, Vec<String>)> {
    capture.interrupt()?;
    let status = capture.wait(STOP_LIMIT)?;
    let said = fs::read_to_string(log()).with_context(|| format!("read {}", log().display()))?;
    let lines = said.lines().skip_while(|line| !line.contains(LISTENING)).skip(1);
    Ok((status, lines.map(str::to_owned).collect()))
}

/// What xdpflow prints, or tcpdump for the recorded capture.
fn log() -> PathBuf {
    command::target().join("demo/capture.log")
}

/// Runs the client against the server; returns what the two of them noted.
fn traffic(network: &Network, small: bool) -> Result<(Vec<Transcript>, Vec<Transcript>)> {
    let this = env::current_exe().context("find this program")?;
    let port = PORT.to_string();
    let mut server = network.command(Side::Server, &this)?;
    server.args(["demo-server", "--port", &port, Network::SERVER_V4, Network::SERVER_V6]);
    let mut server = Running::start(server.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let (sender, server_lines) = mpsc::channel();
    let output = server.child().stdout.take().context("read from the server")?;
    thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    if server_lines.recv_timeout(ENDPOINT_LIMIT).context("the demo's server did not start")? != server::READY {
        bail!("the demo's server did not start");
    }

    let mut client = network.command(Side::Client, &this)?;
    client.args(["demo-client", "--port", &port, "--v4", Network::SERVER_V4, "--v6", Network::SERVER_V6]);
    if small {
        client.arg("--small");
    }
    let mut client = Running::start(client.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = client.child().stdout.take().context("read from the client")?;
    let mut clients: Vec<Transcript> = Vec::new();
    for line in BufReader::new(output).lines() {
        clients.push(serde_json::from_str(&line.context("read from the client")?).context("read from the client")?);
    }
    let status = client.wait(ENDPOINT_LIMIT)?;
    interrupt::check()?;
    if !status.success() {
        bail!("the demo's client failed: {status}");
    }

    let mut servers = Vec::new();
    while servers.len() < clients.len() {
        let line =
            server_lines.recv_timeout(ENDPOINT_LIMIT).context("the demo's server knows of too few connections")?;
        servers.push(serde_json::from_str(&line).context("read from the server")?);
    }
    Ok((clients, servers))
}

/// Never an old one, whose files would be mistaken for ours.
fn output_folder(wanted: Option<&Path>) -> Result<PathBuf> {
    let dir = match wanted {
        Some(dir) => dir.to_owned(),
        None => {
            let time = command::output(Command::new("date").args(["--utc", "+%Y-%m-%dT%H%M%S.%3N"]))?;
            command::target().join("demo").join(time.trim_end())
        }
    };
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::create_dir(&dir).with_context(|| format!("create {} (--output wants a new folder)", dir.display()))?;
    Ok(std::path::absolute(&dir)?)
}

fn print_table(transcripts: &[Transcript], verdict: &Verdict) {
    struct Row<'a> {
        kind: &'a str,
        connections: u64,
        up: u64,
        down: u64,
        verified: u64,
    }
    impl<'a> Row<'a> {
        fn new(kind: &'a str) -> Self {
            Self { kind, connections: 0, up: 0, down: 0, verified: 0 }
        }

        fn add(&mut self, transcript: &Transcript, verified: bool) {
            self.connections += 1;
            self.up += transcript.sent.len;
            self.down += transcript.received.len;
            self.verified += u64::from(verified);
        }

        fn print(&self) {
            let Self { kind, connections, up, down, verified } = self;
            println!("  {kind:28} {connections:11} {:>10} {:>10} {verified:10}", size(*up), size(*down));
        }
    }
    // Kinds follow each other, so each row is a run of transcripts.
    println!("  {:28} {:>11} {:>10} {:>10} {:>10}", "what", "connections", "up", "down", "verified");
    let mut total = Row::new("");
    for kind in transcripts.chunk_by(|a, b| a.kind == b.kind) {
        let mut row = Row::new(&kind[0].kind);
        for transcript in kind {
            let verified = verdict.verified.get(total.connections as usize).copied().unwrap_or(false);
            row.add(transcript, verified);
            total.add(transcript, verified);
        }
        row.print();
    }
    total.print();
}

fn print_summary(lines: &[String]) {
    println!("\nxdpflow's own account:");
    for line in lines {
        println!("  {line}");
    }
}

fn finish(verdict: &Verdict, dir: &Path) -> Result<()> {
    println!("\noutput       {}", dir.display());
    if verdict.problems.is_empty() {
        return Ok(());
    }
    println!("\nproblems:");
    for problem in verdict.problems.iter().take(PROBLEMS_SHOWN) {
        println!("  {problem}");
    }
    if verdict.problems.len() > PROBLEMS_SHOWN {
        println!("  ...");
    }
    bail!("{} problems with what was captured", verdict.problems.len());
}

/// As people read sizes: three digits or so.
fn size(octets: u64) -> String {
    match octets {
        0..1_000 => format!("{octets} B"),
        1_000..1_000_000 => format!("{:.1} kB", octets as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", octets as f64 / 1e6),
        _ => format!("{:.2} GB", octets as f64 / 1e9),
    }
}

/// Of the namespaces' own, so it cannot be taken.
const PORT: u16 = 8080;

/// The last FIN and its ACK are on their way when both ends have their answer.
const SETTLE: Duration = Duration::from_millis(200);

const ENDPOINT_LIMIT: Duration = Duration::from_secs(10);
/// Time to drain the rings and write what is queued.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Both xdpflow and tcpdump say so when every frame from now on will be seen.
const LISTENING: &str = "listening on";

const PROBLEMS_SHOWN: usize = 12;

const CAPTURE: &str = "xtask/demo/recorded.pcap";
const MANIFEST: &str = "xtask/demo/recorded.jsonl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let sizes =
            [(0, "0 B"), (999, "999 B"), (65_536, "65.5 kB"), (128_000_000, "128.0 MB"), (4_200_000_000, "4.20 GB")];
        for (octets, text) in sizes {
            assert_eq!(size(octets), text);
        }
    }
}
