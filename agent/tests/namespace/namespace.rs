//! Network namespaces and how a thread gets into one.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::panic::resume_unwind;
use std::process::{Command, id};
use std::thread::{self, Builder};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace without a name: it lives as long as its file is open, so the kernel cleans up after us, whatever
/// becomes of this process.
pub(crate) struct Namespace(File);

impl Namespace {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let namespace = Self(thread::spawn(make).join().unwrap());
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `work` on a thread inside the namespace. Processes it starts and sockets it opens stay in there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = || {
                enter(&self.0);
                work()
            };
            // Named as this thread, so that a panic in there names the test.
            let name = thread::current().name().unwrap_or("namespace").to_owned();
            Builder::new()
                .name(name)
                .spawn_scoped(scope, inside)
                .unwrap()
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// `ip ARGS` inside the namespace; its output.
    pub(crate) fn ip(&self, args: &str) -> String {
        self.output("ip", args.split_whitespace())
    }

    /// Output of a program that is expected to succeed.
    pub(crate) fn output<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> String {
        let mut command = Command::new(program);
        command.args(args);
        let output = self.run(|| command.output()).unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A file below /proc/sys/net, which shows the namespace of whoever looks.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/{name}"), value)).unwrap();
    }

    /// What `ip link` takes for a namespace.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", id(), self.0.as_raw_fd())
    }

    /// Segments that the TCP in here sent more than once, ever.
    pub(crate) fn retransmitted(&self) -> u64 {
        let snmp = self.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
        let mut tcp = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split_whitespace());
        let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
        let (_, value) = names.zip(values).find(|(name, _)| *name == "RetransSegs").unwrap();
        value.parse().unwrap()
    }
}

/// The one place where a thread changes its namespace. It never changes back, so only threads made for it come here.
fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
}
