//! Ctrl-C, SIGTERM and SIGHUP while child processes run: the children are ended, whatever waits for one of them returns
//! with an error, and on its way out every drop guard undoes what it did.
//!
//! Each child has a process group of its own, so that what it started ends with it (cargo does not end the tests that it
//! runs), and that a Ctrl-C reaches it once, from here, and not from the terminal as well.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt as _},
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::command::line;

/// From here on the signals do not end this process, but what it runs.
pub(crate) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        let mut state = state();
        state.interrupted = true;
        for pid in &state.children {
            // One that has just ended on its own needs no signal.
            let _ = kill_process_group(*pid, Signal::INT);
        }
    })
    .context("handle Ctrl-C")
}

/// Fails when a signal has come.
pub(crate) fn check() -> Result<()> {
    if state().interrupted {
        bail!("interrupted");
    }
    Ok(())
}

/// A child process, and all that it starts. They do not outlive this value.
pub(crate) struct Running {
    name: String,
    child: Child,
    pid: Pid,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = line(command);
        // The lock keeps a signal from coming between the start and the entry in the list.
        let mut state = state();
        if state.interrupted {
            bail!("interrupted");
        }
        let child = command.process_group(0).spawn().with_context(|| format!("run {name}"))?;
        let pid = Pid::from_child(&child);
        state.children.push(pid);
        Ok(Self { name, child, pid })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// As Ctrl-C in its terminal.
    pub(crate) fn interrupt(&self) -> Result<()> {
        kill_process_group(self.pid, Signal::INT).with_context(|| format!("stop {}", self.name))
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().with_context(|| format!("wait for {}", self.name))? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("{} did not end within {} s", self.name, limit.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same without looking from time to time, which would be part of what is measured; with the time that it spent
    /// in its own code and in the kernel.
    pub(crate) fn wait_for_usage(&mut self) -> Result<(ExitStatus, Duration, Duration)> {
        let mut status = 0;
        // SAFETY: `rusage` is plain data, for which zeros are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        loop {
            // SAFETY: both pointers are to live variables of the types that wait4(2) names. The child is ours and was not waited
            // for, so that its id is its own.
            let pid = unsafe { libc::wait4(self.pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) };
            let error = io::Error::last_os_error();
            match pid {
                -1 if error.kind() == io::ErrorKind::Interrupted => {}
                -1 => return Err(error).with_context(|| format!("wait for {}", self.name)),
                _ => break,
            }
        }
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Ok((ExitStatus::from_raw(status), time(usage.ru_utime), time(usage.ru_stime)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        state().children.retain(|pid| *pid != self.pid);
        // Both fail when all have ended, which is what is wanted.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

struct State {
    interrupted: bool,
    children: Vec<Pid>,
}

static STATE: Mutex<State> = Mutex::new(State { interrupted: false, children: Vec::new() });

/// A thread that panicked while holding the lock left nothing half done.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
