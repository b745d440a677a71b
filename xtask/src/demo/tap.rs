//! A process that watches an interface until it is told to stop: xdpflow, or tcpdump for the recorded capture.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{command::line, interrupt::Running};

pub(crate) struct Tap {
    process: Running,
    name: String,
    /// Lines of both its outputs.
    printed: Receiver<String>,
    /// What it says it listens on.
    pub(crate) listening: String,
}

impl Tap {
    /// Returns when every frame from now on will be seen. Both programs say so in the same words.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = line(command);
        let mut process = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let (sender, printed) = mpsc::channel();
        if let Some(stdout) = process.child().stdout.take() {
            forward(stdout, sender.clone());
        }
        if let Some(stderr) = process.child().stderr.take() {
            forward(stderr, sender);
        }
        let start = Instant::now();
        let mut before = Vec::new();
        while let Ok(line) = printed.recv_timeout(START_LIMIT.saturating_sub(start.elapsed())) {
            if line.contains("listening on") {
                return Ok(Self { process, name, printed, listening: line });
            }
            before.push(line);
        }
        bail!("{name} did not start: {}", before.join("; "));
    }

    /// Stops it as Ctrl-C would; returns how it ended, and what it printed on the way.
    pub(crate) fn stop(mut self) -> Result<(ExitStatus, Vec<String>)> {
        self.process.interrupt()?;
        let mut lines = Vec::new();
        let start = Instant::now();
        // Both outputs end when the process does.
        loop {
            match self.printed.recv_timeout(STOP_LIMIT.saturating_sub(start.elapsed())) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("{} did not stop: {}", self.name, lines.join("; ")),
            }
        }
        Ok((self.process.wait(Duration::from_secs(1))?, lines))
    }
}

fn forward(source: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            // Nobody listens any more when the demo has failed already.
            let _ = sender.send(line);
        }
    });
}

/// Loading takes the verifier a second at worst; native mode may rebuild the rings of a card.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Time to drain the rings and write what is queued.
const STOP_LIMIT: Duration = Duration::from_secs(60);
