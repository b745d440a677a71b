//! Sends segments of a thousand connections faster than a socket can: `generate INTERFACE FRAMES [RATE]`, as root. The
//! kernel runs a program on frames of its own (`BPF_F_TEST_XDP_LIVE_FRAMES`) that redirects them to the interface. At its
//! end stands the line with which tcpreplay says what it sent.
//!
//! The other end of a veth pair takes such frames when it has an XDP program or GRO.
#![expect(clippy::print_stdout, reason = "who started it reads what was sent")]

use std::{env, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    EbpfLoader, TestRunOptions,
    maps::Array,
    programs::{TestRun as _, TestRunAttrs, Xdp},
};
use etherparse::PacketBuilder;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (interface, frames, rate) = match &words[..] {
        [interface, frames] => (interface, frames, FASTEST),
        [interface, frames, rate] => (interface, frames, rate.parse().context("a rate")?),
        _ => bail!("usage: generate INTERFACE FRAMES [RATE]"),
    };
    let frames: u64 = frames.parse().context("a number of frames")?;
    ensure!(rate > 0, "a rate of 0 sends nothing");
    let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"));
    let index: u32 = index.with_context(|| format!("no interface {interface}"))?.trim().parse()?;
    let mut ebpf = EbpfLoader::new()
        .override_global("INTERFACE", &index, true)
        .override_global("PAYLOAD", &PAYLOAD, true)
        .override_global("FRAMES", &CONNECTIONS, true)
        .override_global("RATE", &rate, true)
        .override_global("LIMIT", &frames, true)
        .load(OBJECT)?;
    let progress: Array<_, [u64; 3]> = Array::try_from(ebpf.take_map("SENT").context("the map SENT")?)?;
    let program: &mut Xdp = ebpf.program_mut("generate").context("the program generate")?.try_into()?;
    program.load()?;
    let mut frame = Vec::new();
    let builder =
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4([10, 1, 0, 2], [10, 1, 0, 1], 64);
    builder.tcp(1_024, 80, 0, 1_000).ack(1).write(&mut frame, &vec![b'x'; PAYLOAD as usize])?;

    let [mut sent, mut begun, mut last] = [0; 3];
    while sent < frames {
        let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        program.test_run(TestRunOptions { data_in: Some(&frame), repeat: RUN, attrs, ..TestRunOptions::new() })?;
        [sent, begun, last] = progress.get(&0, 0)?;
    }
    // A run goes on when all has been sent.
    let seconds = Duration::from_nanos(last - begun).as_secs_f64();
    println!("Actual: {sent} packets ({} bytes) sent in {seconds:.6} seconds", sent * frame.len() as u64);
    Ok(())
}

/// At once; a veth device has room for 256.
const BATCH: u32 = 64;

/// Times that the program runs, most of them in vain if the rate is low, before this one looks how far it has come.
const RUN: u32 = 1 << 20;

/// More than any machine sends.
const FASTEST: u64 = 1_000_000_000;

/// A power of two.
const CONNECTIONS: u32 = 1_024;

/// With its headers as large as a frame is on Ethernet.
const PAYLOAD: u32 = 1_460;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));
