//! The binary at work in a namespace.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::deadline::eventually;
use crate::namespace::Namespace;
use crate::record::Output;

/// A folder of its own, removed unless its test failed.
pub(crate) struct Scratch {
    path: PathBuf,
    in_memory: bool,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")), false)
    }

    /// In a file system that lives in memory, which is always given back.
    pub(crate) fn in_memory() -> Self {
        Self::below(Path::new("/dev/shm"), true)
    }

    fn below(folder: &Path, in_memory: bool) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let path = folder.join(format!("namespace-{}-{}", id(), MADE.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).unwrap();
        Self { path, in_memory }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() && !self.in_memory {
            eprintln!("kept for you to look at: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// `xdpflow capture` while it runs.
pub(crate) struct Capture {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
    dir: PathBuf,
    scratch: Option<Scratch>,
}

impl Capture {
    /// Starts with these arguments and an output folder of its own; returns when everything is attached.
    pub(crate) fn start(namespace: &Namespace, args: &str) -> Self {
        let scratch = Scratch::new();
        let mut capture = Self::start_into(namespace, args, scratch.path());
        capture.scratch = Some(scratch);
        capture
    }

    /// As [`start`](Self::start), into a folder the caller keeps.
    pub(crate) fn start_into(namespace: &Namespace, args: &str, dir: &Path) -> Self {
        Self::spawn(namespace, xdpflow(&format!("capture {args}")), dir).attached()
    }

    /// `xdpflow replay` with these arguments, to its end.
    pub(crate) fn replay(args: &str) -> Outcome {
        let scratch = Scratch::new();
        let mut replay = Self::spawn(&Namespace::new(), xdpflow(&format!("replay {args}")), scratch.path());
        replay.scratch = Some(scratch);
        replay.wait()
    }

    /// Starts `command`, to which the output is added, and does not wait until it is attached.
    pub(crate) fn spawn(namespace: &Namespace, mut command: Command, dir: &Path) -> Self {
        command.arg("--json").arg("-o").arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.run(|| command.spawn()).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text).unwrap()
        });
        let stderr = Arc::<Mutex<String>>::default();
        let stderr_reader = thread::spawn({
            let (lines, stderr) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&stderr));
            move || lines.for_each(|line| *stderr.lock().unwrap() += &(line.unwrap() + "\n"))
        });
        let dir = dir.to_owned();
        Self { child, stdout: Some(stdout), stderr, stderr_reader: Some(stderr_reader), dir, scratch: None }
    }

    /// Waits until everything is attached.
    pub(crate) fn attached(self) -> Self {
        let listening = || self.stderr().lines().any(|line| line.starts_with("listening on"));
        eventually("listening", Duration::from_secs(20), || listening() || self.ended());
        assert!(listening(), "ended before it listened: {}", self.stderr());
        self
    }

    /// All of stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn ended(&self) -> bool {
        // A zombie has a status file as well, and says so in it.
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    }

    /// Stops it until SIGCONT; returns when none of its threads runs.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let threads = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        eventually("a pause", Duration::from_secs(5), || {
            fs::read_dir(&threads).unwrap().all(|thread| {
                let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap_or_default();
                status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
            })
        });
    }

    /// Octets of its own that it uses: neither its files nor its rings.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Outcome {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(mut self) -> Outcome {
        eventually("the end of xdpflow", Duration::from_secs(30), || self.ended());
        let status = self.child.wait().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        self.stderr_reader.take().unwrap().join().unwrap();
        let stderr = self.stderr();
        let summary =
            serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("no summary: {status}, {stdout}{stderr}"));
        Outcome { status, stderr, summary, output: Output::read(&self.dir), _scratch: self.scratch.take() }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.stderr());
        }
    }
}

/// What a capture left behind.
pub(crate) struct Outcome {
    pub status: ExitStatus,
    pub stderr: String,
    pub output: Output,
    summary: Value,
    _scratch: Option<Scratch>,
}

impl Outcome {
    /// Both ledgers balanced.
    pub(crate) fn assert_success(&self) {
        assert_eq!(self.status.code(), Some(0), "{}{}", self.stderr, self.summary);
    }

    /// A number of the summary.
    pub(crate) fn count(&self, pointer: &str) -> u64 {
        let count = self.summary.pointer(pointer).and_then(Value::as_u64);
        count.unwrap_or_else(|| panic!("no number {pointer} in {}", self.summary))
    }
}

/// The binary with these arguments.
pub(crate) fn xdpflow(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xdpflow"));
    command.args(args.split_whitespace());
    command
}
