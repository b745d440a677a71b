//! SIGINT, SIGTERM and SIGHUP, and what SIGXFSZ is not to do.

use std::{fs, future};

use anyhow::Context as _;
use rustix::process::Signal as Name;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// The signals that mean something here.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

/// What one of them asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caught {
    /// SIGINT, SIGTERM: an end in order.
    End,
    /// SIGHUP: the terminal went away, or files are to be read again.
    Hangup,
}

impl Signals {
    /// Catches them from here on; within a runtime.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn new() -> anyhow::Result<Self> {
        Self::catching(true)
    }

    /// The same for who takes SIGHUP for an end: not under nohup, which asks to go on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn unless_ignored() -> anyhow::Result<Self> {
        Self::catching(!is_ignored(SignalKind::hangup()))
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) -> Caught {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Caught::End,
            _ = self.terminate.recv() => Caught::End,
            _ = hangup => Caught::Hangup,
        }
    }

    fn catching(hangup: bool) -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catch signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: hangup.then(|| catch(SignalKind::hangup())).transpose()?,
        })
    }
}

/// From here on, write(2) past the limit of a file's size (ulimit -f) fails in place of killing.
///
/// # Errors
///
/// When the kernel refuses.
pub fn survive_file_size_limit() -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build().context("start the runtime")?;
    let caught = runtime.block_on(async { signal(SignalKind::from_raw(Name::XFSZ.as_raw())) });
    // For good, though nobody looks at it.
    caught.map(drop).context("catch SIGXFSZ")
}

/// Whether this process was started with a signal ignored (`SigIgn` in proc_pid_status(5), bit 0 is signal 1).
fn is_ignored(signal: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 != 0)
}
