//! Sends segments of a thousand connections faster than a socket can: `generate INTERFACE FRAMES [RATE]`, as root. The
//! kernel runs a program on frames of its own (`BPF_F_TEST_XDP_LIVE_FRAMES`) that redirects them to the interface. At its
//! end stands the line with which tcpreplay says what it sent.
//!
//! The other end of a veth pair takes such frames when it has an XDP program or GRO.
#![expect(clippy::print_stdout, reason = "who started it reads what was sent")]
#![expect(clippy::disallowed_methods, reason = "frames are sent in real time")]

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    EbpfLoader, TestRunOptions,
    programs::{TestRun as _, TestRunAttrs, Xdp},
};
use etherparse::PacketBuilder;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (interface, frames, rate) = match &words[..] {
        [interface, frames] => (interface, frames, f64::INFINITY),
        [interface, frames, rate] => (interface, frames, rate.parse().context("a rate")?),
        _ => bail!("usage: generate INTERFACE FRAMES [RATE]"),
    };
    let frames: u64 = frames.parse().context("a number of frames")?;
    let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"));
    let index: u32 = index.with_context(|| format!("no interface {interface}"))?.trim().parse()?;
    let mut ebpf = EbpfLoader::new()
        .override_global("INTERFACE", &index, true)
        .override_global("PAYLOAD", &PAYLOAD, true)
        .override_global("FRAMES", &CONNECTIONS, true)
        .load(OBJECT)?;
    let program: &mut Xdp = ebpf.program_mut("generate").context("the program generate")?.try_into()?;
    program.load()?;
    let mut frame = Vec::new();
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4([10, 1, 0, 2], [10, 1, 0, 1], 64);
    builder.tcp(1_024, 80, 0, 1_000).ack(1).write(&mut frame, &vec![b'x'; PAYLOAD as usize])?;

    let start = Instant::now();
    let mut sent = 0;
    while sent < frames {
        let due = Duration::from_secs_f64(sent as f64 / rate);
        thread::sleep(due.saturating_sub(start.elapsed()));
        // What is due in a millisecond, in whole batches: each run has to make its frames anew.
        let burst = (rate * PERIOD).min(f64::from(LONGEST)) as u32 / BATCH * BATCH;
        let burst = burst.max(BATCH).min((frames - sent).try_into().unwrap_or(u32::MAX));
        let attrs = TestRunAttrs::new().xdp_live_frames(BATCH.min(burst));
        program.test_run(TestRunOptions { data_in: Some(&frame), repeat: burst, attrs, ..TestRunOptions::new() })?;
        sent += u64::from(burst);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("Actual: {sent} packets ({} bytes) sent in {seconds:.6} seconds", sent * frame.len() as u64);
    Ok(())
}

/// At once; a veth device has room for 256.
const BATCH: u32 = 64;

/// Frames of a run at most, after which it can be interrupted.
const LONGEST: u32 = 1 << 16;

const PERIOD: f64 = 0.001;

/// A power of two.
const CONNECTIONS: u32 = 1_024;

/// With its headers as large as a frame is on Ethernet.
const PAYLOAD: u32 = 1_460;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));
