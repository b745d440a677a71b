//! tcpdump at work, as a second witness.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::capture::Scratch;
use crate::namespace::Namespace;

/// What passes an interface, in a file.
pub(crate) struct Recording {
    child: Child,
    stderr: BufReader<ChildStderr>,
    scratch: Scratch,
}

impl Recording {
    pub(crate) fn start(namespace: &Namespace, interface: &str) -> Self {
        let scratch = Scratch::new();
        let mut command = Command::new("tcpdump");
        command.args(["-B", "65536", "-Z", "root", "-i", interface, "-w"]).arg(file(&scratch));
        command.arg("tcp or vlan").stderr(Stdio::piped());
        let mut child = namespace.run(|| command.spawn()).unwrap_or_else(|error| panic!("tcpdump: {error}"));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "tcpdump ended");
        }
        Self { child, stderr, scratch }
    }

    /// Ends it; the file lives as long as what is returned.
    pub(crate) fn stop(mut self) -> (PathBuf, Scratch) {
        // What it has not been handed by then would be lost: the kernel does so every second at least.
        sleep(Duration::from_millis(1_200));
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let told: Vec<_> = self.stderr.lines().map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success(), "{told:?}");
        assert!(told.iter().any(|line| line == "0 packets dropped by kernel"), "{told:?}");
        (file(&self.scratch), self.scratch)
    }
}

fn file(scratch: &Scratch) -> PathBuf {
    scratch.path().join("recording.pcap")
}
