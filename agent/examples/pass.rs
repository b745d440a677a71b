//! Attaches a program that does nothing until it is interrupted: `pass INTERFACE native|generic|tc`, as root. A server's
//! rate beside this one is what looking at its frames costs, without what attaching costs.
#![expect(clippy::print_stdout, reason = "who started it waits for the line")]

use std::env;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType, Xdp, XdpMode},
};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let words: Vec<String> = env::args().skip(1).collect();
    let [interface, mode] = &words[..] else { bail!("usage: pass INTERFACE native|generic|tc") };
    let mut ebpf = Ebpf::load(OBJECT)?;
    if mode != "generic" && mode != "native" && mode != "tc" {
        bail!("{mode}: neither native nor generic nor tc");
    }
    // As xdpflow does: what is sent always comes from tc.
    let receive = mode == "tc";
    if !receive {
        let program: &mut Xdp = ebpf.program_mut("pass").context("the program pass")?.try_into()?;
        program.load()?;
        let mode = if mode == "native" { XdpMode::Driver } else { XdpMode::Skb };
        program.attach(interface, mode)?;
    }
    let program: &mut SchedClassifier = ebpf.program_mut("pass_tc").context("the program pass_tc")?.try_into()?;
    program.load()?;
    program.attach(interface, TcAttachType::Egress)?;
    if receive {
        program.attach(interface, TcAttachType::Ingress)?;
    }
    println!("attached");
    interrupt.recv().await;
    Ok(())
}

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench.o"));
