//! What a run of the binary left behind.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use serde_json::Value;

use crate::{file::Pcap, frame::Frame};

/// How `xdpflow replay` ended, and what it wrote.
pub(crate) struct Outcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// `close` lines of the index.
    pub closed: Vec<Value>,
    /// Files of streams, by path below the output directory.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where that came from, unless someone else keeps it.
    _folder: Option<Folder>,
}

/// A folder for one run: capture files and, below `out`, what xdpflow makes of them.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a capture file of `content`.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn replay(&self, files: &[PathBuf], args: &[&str]) -> Outcome {
        self.replay_with_input(b"", files, args)
    }

    /// The same with `input` in a pipe that is the standard input.
    pub(crate) fn replay_with_input(&self, input: &[u8], files: &[PathBuf], args: &[&str]) -> Outcome {
        let mut child = self.start(files, args);
        let mut pipe = child.stdin.take().unwrap();
        let output = thread::scope(|scope| {
            // Who does not want all of it closes the pipe.
            scope.spawn(move || pipe.write_all(input));
            child.wait_with_output().unwrap()
        });
        self.outcome(output)
    }

    /// Starts a replay whose standard streams are pipes.
    pub(crate) fn start(&self, files: &[PathBuf], args: &[&str]) -> Child {
        self.start_as(Command::new(env!("CARGO_BIN_EXE_xdpflow")), files, args)
    }

    /// The same by a command that runs xdpflow.
    pub(crate) fn start_as(&self, mut command: Command, files: &[PathBuf], args: &[&str]) -> Child {
        command.arg("replay").args(files).args(args);
        if !args.contains(&"--output") {
            command.arg("-o").arg(self.0.join("out"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// What it left behind.
    pub(crate) fn outcome(&self, output: Output) -> Outcome {
        let mut outcome = Outcome {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            closed: Vec::new(),
            files: BTreeMap::new(),
            _folder: None,
        };
        outcome.walk(&self.0.join("out"), "");
        outcome
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a test failed on can be looked at.
        if !thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

/// Replays one capture file.
pub(crate) fn replay(file: &[u8], args: &[&str]) -> Outcome {
    let folder = Folder::new();
    let file = folder.file("capture", file);
    let outcome = folder.replay(&[file], args);
    Outcome { _folder: Some(folder), ..outcome }
}

/// Replays frames from an ordinary file.
pub(crate) fn replay_frames(frames: &[Frame], args: &[&str]) -> Outcome {
    replay(&Pcap::PLAIN.write(frames), args)
}

impl Outcome {
    /// What must be the same however the frames came in: files, and records without what names the run.
    pub(crate) fn essence(&self) -> (Vec<String>, &BTreeMap<String, Vec<u8>>) {
        let mut records = self.closed.to_vec();
        for record in &mut records {
            let record = record.as_object_mut().unwrap();
            assert!(record.remove("run").is_some() && record.remove("id").is_some());
        }
        let mut records: Vec<_> = records.iter().map(Value::to_string).collect();
        records.sort();
        (records, &self.files)
    }

    /// Lines that xdpflow says when something is wrong.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("xdpflow: ") || line.contains("does not balance")).collect()
    }

    /// The summary that `--json` asks for.
    pub(crate) fn summary(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    fn walk(&mut self, folder: &Path, below: &str) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                self.walk(&entry.path(), &format!("{name}/"));
            } else if name.ends_with("connections.jsonl") {
                let text = fs::read_to_string(entry.path()).unwrap();
                let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                self.closed.extend(lines.filter(|line| line["event"] == "close"));
            } else {
                self.files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
}
