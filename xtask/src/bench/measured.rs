//! What a process cost.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{command::line, interrupt::Running};

/// What a process took until its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) wall: f64,
    /// The most anonymous memory that was seen, in octets: pages of files and of shared memory are not the process's.
    pub(super) memory: u64,
}

impl Cost {
    pub(super) fn cpu(&self) -> f64 {
        self.user + self.system
    }

    /// Runs a command to its end.
    pub(super) fn of(command: &mut Command) -> Result<Self> {
        let start = Instant::now();
        let mut running = Running::start(command)?;
        let status = format!("/proc/{}/status", running.child().id());
        let ended = AtomicBool::new(false);
        let (usage, wall, memory) = thread::scope(|scope| {
            // The kernel's own high-water mark counts pages of files, and those of the process that started this one.
            let memory = scope.spawn(|| {
                let mut most = 0;
                while !ended.load(Ordering::Relaxed) {
                    most = most.max(anonymous(&fs::read_to_string(&status).unwrap_or_default()));
                    thread::park_timeout(SAMPLE);
                }
                most
            });
            let usage = running.wait_for_usage();
            let wall = start.elapsed();
            ended.store(true, Ordering::Relaxed);
            memory.thread().unpark();
            (usage, wall, memory.join().unwrap_or_default())
        });
        let (status, user, system) = usage?;
        if !status.success() {
            bail!("{} failed: {status}", line(command));
        }
        Ok(Self { user: user.as_secs_f64(), system: system.as_secs_f64(), wall: wall.as_secs_f64(), memory })
    }
}

/// Octets, of what `/proc/PID/status` says.
fn anonymous(status: &str) -> u64 {
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.unwrap_or(0_u64) << 10
}

/// How often memory is looked at, which costs some ten microseconds.
const SAMPLE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_those_of_the_process() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; sleep 0.1"]);
        let cost = Cost::of(&mut command).unwrap();
        assert!(cost.user > 0.0 && cost.wall > 0.1 && cost.wall > cost.user, "{cost:?}");
        assert!(cost.memory > 50_000 && cost.memory < 50_000_000, "{cost:?}");
        assert!(Cost::of(Command::new("false").arg("")).is_err());
    }

    #[test]
    fn anonymous_memory_is_a_line_of_the_status() {
        assert_eq!(anonymous("VmHWM:\t  9000 kB\nRssAnon:\t     120 kB\nRssFile:\t 8 kB\n"), 120 << 10);
    }
}
