//! Who watches, what it says of itself and what it cost.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    super::{program::remove, server::Mode},
    bodies::PORT,
};
use crate::{
    command,
    interrupt::Running,
    network::{Network, Side},
};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Watcher {
    /// To files
    Xdpflow(Mode),
    /// With --output digest
    Digest(Mode),
    /// -w
    Tcpdump,
    /// -i
    Tcpflow,
}

/// How a watcher is started.
pub(super) struct Setting<'a> {
    pub(super) network: &'a Network,
    /// A folder of its own, emptied before.
    pub(super) folder: &'a Path,
    pub(super) shards: u32,
    /// Octets of all its buffers.
    pub(super) buffer: u64,
}

/// A watcher at work.
pub(super) struct Watching {
    watcher: Watcher,
    running: Running,
    folder: PathBuf,
    /// What it took to start.
    before: Cpu,
}

/// What a watcher says, and what the kernel says of it.
#[derive(Default)]
pub(super) struct Account {
    /// Frames that it wanted, and of those the ones that it did not get.
    pub(super) seen: Option<u64>,
    pub(super) lost: Option<u64>,
    /// Frames that it got, or counted in the kernel and did without.
    pub(super) taken: Option<u64>,
    /// From the moment when it was ready.
    pub(super) cpu: Cpu,
    /// Of its programs in the kernel.
    pub(super) programs: Programs,
    /// What xdpflow prints.
    pub(super) summary: Value,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// What the kernel counts of programs while `kernel.bpf_stats_enabled` is 1.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Programs {
    pub(super) nanoseconds: u64,
    pub(super) runs: u64,
}

impl Watcher {
    pub(super) fn start(self, setting: &Setting<'_>) -> Result<Watching> {
        let Setting { network, folder, shards, buffer } = *setting;
        remove(folder)?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let output = output(folder);
        let (mut command, ready) = match self {
            Self::Xdpflow(mode) | Self::Digest(mode) => {
                let ring = (buffer / u64::from(shards)).max(1).next_power_of_two().to_string();
                let mut xdpflow = network.command(Side::Server, command::xdpflow())?;
                xdpflow.args(["capture", "-i", Network::INTERFACE, "--attach", mode.name(), "--json"]);
                xdpflow.args([
                    "--port",
                    &PORT.to_string(),
                    "--shards",
                    &shards.to_string(),
                    "--ring-size",
                    &ring,
                    "-o",
                ]);
                xdpflow.arg(if self == Self::Xdpflow(mode) { output.as_path() } else { Path::new("digest") });
                (xdpflow, "listening on")
            }
            Self::Tcpdump => {
                let mut tcpdump = network.command(Side::Server, "tcpdump")?;
                tcpdump.args(["-i", Network::INTERFACE, "-Z", "root", "-B", &(buffer >> 10).to_string(), "-w"]);
                tcpdump.arg(capture(folder)).arg(format!("tcp port {PORT}"));
                (tcpdump, "listening on")
            }
            Self::Tcpflow => {
                let mut tcpflow = network.command(Side::Server, "tcpflow")?;
                tcpflow.args(["-S", "enable_report=NO", "-i", Network::INTERFACE, "-o"]).arg(output);
                tcpflow.arg(format!("tcp port {PORT}"));
                (tcpflow, "listening on")
            }
        };
        let (running, _) = command::start_until(&mut command, ready, &folder.join(LOG))?;
        let mut watching = Watching { watcher: self, running, folder: folder.to_owned(), before: Cpu::default() };
        watching.before = Cpu::of(watching.pid())?;
        Ok(watching)
    }
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xdpflow(mode) => write!(f, "xdpflow, {}", mode.name()),
            Self::Digest(mode) => write!(f, "xdpflow, {}, digest", mode.name()),
            Self::Tcpdump => f.write_str("tcpdump -w"),
            Self::Tcpflow => f.write_str("tcpflow -i"),
        }
    }
}

impl Watching {
    /// After what is in the buffers was read: tcpdump looks at them once in a second, and not again when it is told to end.
    pub(super) fn end(mut self) -> Result<Account> {
        thread::sleep(SETTLE);
        let programs = Programs::of(self.pid())?;
        self.running.interrupt()?;
        let (status, user, system) = self.running.wait_for_usage()?;
        let log = self.folder.join(LOG);
        let said = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        // Tcpflow ends as the signal has it.
        ensure!(status.success() || self.watcher == Watcher::Tcpflow, "{} failed ({status}): {said}", self.watcher);
        let cpu = Cpu {
            user: (user.as_secs_f64() - self.before.user).max(0.0),
            system: (system.as_secs_f64() - self.before.system).max(0.0),
        };
        let account = Account { cpu, programs, ..Account::default() };
        match self.watcher {
            Watcher::Xdpflow(_) | Watcher::Digest(_) => account.of_xdpflow(&said),
            Watcher::Tcpdump => account.of_tcpdump(&said),
            Watcher::Tcpflow => Ok(account),
        }
    }

    fn pid(&mut self) -> u32 {
        self.running.child().id()
    }
}

impl Account {
    fn of_xdpflow(mut self, said: &str) -> Result<Self> {
        let line = said.lines().find(|line| line.starts_with('{')).context("xdpflow printed no summary")?;
        self.summary = serde_json::from_str(line).context("read xdpflow's summary")?;
        if self.summary["balances"] != true {
            bail!("xdpflow's ledgers do not balance: {}", self.summary["ledgers"]);
        }
        let count = |name| self.summary["source"]["kernel"][name].as_u64().with_context(|| format!("no {name}"));
        let matched = count("matched")?;
        let lost = count("ring_full")? + count("unreadable")?;
        let shed = count("shed_frames")?;
        (self.seen, self.lost, self.taken) = (Some(matched), Some(lost + shed), Some(matched - lost - shed));
        Ok(self)
    }

    fn of_tcpdump(mut self, said: &str) -> Result<Self> {
        let count = |what: &str| {
            let count = said.lines().find_map(|line| line.strip_suffix(what)?.trim().parse::<u64>().ok());
            count.with_context(|| format!("tcpdump did not say how many{what}: {said}"))
        };
        let lost = count(" packets dropped by kernel")?;
        self.taken = Some(count(" packets captured")?);
        (self.seen, self.lost) = (Some(count(" packets received by filter")?), Some(lost));
        Ok(self)
    }
}

impl Cpu {
    pub(super) fn sum(self) -> f64 {
        self.user + self.system
    }

    fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The name, in parentheses, may have spaces in it; these are the 14th and the 15th field.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let mut ticks = fields.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
        let (Some(user), Some(system)) = (ticks.next(), ticks.next()) else { bail!("{path} is of another form") };
        Ok(Self { user: user / TICKS, system: system / TICKS })
    }
}

impl Programs {
    /// Those that a process holds.
    fn of(pid: u32) -> Result<Self> {
        let mut sum = Self::default();
        let folder = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
            // What was closed meanwhile is no program.
            let counted = Self::parse(&fs::read_to_string(entry?.path()).unwrap_or_default());
            sum.nanoseconds += counted.nanoseconds;
            sum.runs += counted.runs;
        }
        Ok(sum)
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Self { nanoseconds: field("run_time_ns:").unwrap_or(0), runs: field("run_cnt:").unwrap_or(0) }
    }
}

/// Has the kernel count what programs take, for as long as this lives.
pub(super) struct Statistics {
    before: String,
}

impl Statistics {
    pub(super) fn enable() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS).with_context(|| format!("read {STATISTICS}"))?;
        fs::write(STATISTICS, "1").with_context(|| format!("write {STATISTICS}"))?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // It costs some ten nanoseconds a frame, and can be switched off by hand.
        let _ = fs::write(STATISTICS, &self.before);
    }
}

/// Seconds for which the machine's processors did something, all together.
pub(super) fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else {
        bail!("/proc/stat is of another form")
    };
    Ok((user + nice + system + irq + softirq) / TICKS)
}

/// Where streams go.
pub(super) fn output(folder: &Path) -> PathBuf {
    folder.join("streams")
}

/// Where tcpdump writes.
pub(super) fn capture(folder: &Path) -> PathBuf {
    folder.join("capture.pcap")
}

/// Has tcpflow make streams of what tcpdump wrote.
pub(super) fn tcpflow(folder: &Path) -> Result<()> {
    let mut tcpflow = Command::new("tcpflow");
    tcpflow.args(["-q", "-S", "enable_report=NO", "-r"]).arg(capture(folder)).arg("-o").arg(output(folder));
    command::output(&mut tcpflow).map(drop)
}

/// Of a second: what /proc counts in, USER_HZ, is 100 on everything that xdpflow runs on.
const TICKS: f64 = 100.0;

const SETTLE: Duration = Duration::from_secs(2);

const LOG: &str = "log";

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_counted_by_what_the_kernel_says_of_descriptors() {
        let text = "pos:\t0\nprog_type:\t6\nprog_id:\t17\nrun_time_ns:\t1200\nrun_cnt:\t10\nrecursion_misses:\t0\n";
        assert_eq!(Programs::parse(text), Programs { nanoseconds: 1200, runs: 10 });
        assert_eq!(Programs::parse("pos:\t0\nflags:\t02\n"), Programs::default());
    }

    #[test]
    fn tcpdump_says_what_it_lost() {
        let said = "tcpdump: listening on eth0\n7 packets captured\n10 packets received by filter\n3 packets dropped by kernel\n";
        let account = Account::default().of_tcpdump(said).unwrap();
        assert_eq!((account.seen, account.lost, account.taken), (Some(10), Some(3), Some(7)));
        assert!(Account::default().of_tcpdump("7 packets captured\n").is_err());
    }

    #[test]
    fn xdpflow_lost_what_its_ring_refused_and_what_it_shed() {
        let said = "listening on eth0\n{\"balances\":true,\"source\":{\"kernel\":{\"matched\":10,\"ring_full\":1,\"unreadable\":0,\"shed_frames\":2}}}\n";
        let account = Account::default().of_xdpflow(said).unwrap();
        assert_eq!((account.seen, account.lost, account.taken), (Some(10), Some(3), Some(7)));
        assert!(Account::default().of_xdpflow("{\"balances\":false}").is_err());
    }

    #[test]
    fn this_process_has_used_a_processor() {
        assert!(busy().unwrap() > 0.0);
        assert!(Cpu::of(std::process::id()).unwrap().sum() >= 0.0);
    }
}
