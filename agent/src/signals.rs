//! SIGINT, SIGTERM and SIGHUP.

use std::{fs, future};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// They end a capture or a replay in order.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal went away. None under nohup, which asks to go on.
    hangup: Option<Signal>,
}

impl Signals {
    /// Catches them from here on; within a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn new() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catch signals");
        let hangup = if is_ignored(SignalKind::hangup()) { None } else { Some(catch(SignalKind::hangup())?) };
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())?, hangup })
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether this process was started with a signal ignored (`SigIgn` in proc_pid_status(5), bit 0 is signal 1).
fn is_ignored(signal: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 != 0)
}
