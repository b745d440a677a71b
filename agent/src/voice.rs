//! Standard error, from a thread of its own: it may be a pipe that nobody reads, and nothing waits for that.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use crate::sink::Report as Tell;

/// Says lines in the order in which they come. Those that nobody has read in time are counted and lost.
pub struct Voice {
    lines: Arc<Lines>,
    ended: Receiver<()>,
}

/// Lines that wait to be read.
const LINES_MAX: usize = 1_024;
/// How long the end waits for who reads the last of them.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

impl Voice {
    /// # Errors
    ///
    /// When there can be no thread.
    pub fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, waiting) = mpsc::sync_channel::<String>(LINES_MAX);
        let lines = Arc::new(Lines { sender: Mutex::new(Some(sender)), lost: AtomicU64::new(0) });
        let (end, ended) = mpsc::sync_channel(1);
        let same = Arc::clone(&lines);
        thread::Builder::new().name("voice".into()).spawn(move || {
            for line in waiting {
                // A reader that went away wants no more.
                let _ = out.write_all(line.as_bytes());
                let lost = same.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(out, "xdpflow: {lost} lines were not read in time");
                }
            }
            let _ = out.flush();
            let _ = end.send(());
        })?;
        Ok(Self { lines, ended })
    }

    /// Says `text`, which ends its lines itself.
    pub fn say(&self, text: String) {
        self.lines.push(text);
    }

    /// Says lines behind `prefix`, until the end of this voice.
    pub fn teller(&self, prefix: &'static str) -> Tell {
        let lines = Arc::clone(&self.lines);
        Arc::new(move |line| lines.push(format!("{prefix}{line}\n")))
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        drop(self.lines.lock().take());
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

struct Lines {
    /// Nothing once the voice has ended.
    sender: Mutex<Option<SyncSender<String>>>,
    lost: AtomicU64,
}

impl Lines {
    fn push(&self, text: String) {
        let full = |sender: &SyncSender<_>| matches!(sender.try_send(text), Err(TrySendError::Full(_)));
        if self.lock().as_ref().is_some_and(full) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SyncSender<String>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, PipeWriter};

    use super::*;
    use crate::clock;

    fn voice() -> (Voice, impl Iterator<Item = String>) {
        let (reader, writer): (_, PipeWriter) = io::pipe().unwrap();
        (Voice::start(writer).unwrap(), BufReader::new(reader).lines().map(Result::unwrap))
    }

    #[test]
    fn lines_come_in_order_and_all_before_the_end() {
        let (voice, lines) = voice();
        let tell = voice.teller("here: ");
        for number in 0..LINES_MAX {
            tell(&number.to_string());
        }
        drop(voice);
        tell("too late");
        assert!(lines.eq((0..LINES_MAX).map(|number| format!("here: {number}"))));
    }

    #[test]
    fn nothing_waits_for_who_does_not_read() {
        let (voice, lines) = voice();
        let started = clock::now();
        // More than a pipe takes.
        let line = format!("{}\n", "x".repeat(1_000));
        for _ in 0..2 * LINES_MAX {
            voice.say(line.clone());
        }
        assert!(voice.lines.lost.load(Ordering::Relaxed) > 0);
        drop(voice);
        assert!(Duration::from_nanos(clock::now().since(started)) < 10 * PATIENCE);
        let lines: Vec<_> = lines.collect();
        let said = lines.iter().filter(|it| it.starts_with("xx")).count();
        let count = |line: &String| line.strip_prefix("xdpflow: ")?.split(' ').next()?.parse::<usize>().ok();
        let lost: usize = lines.iter().filter_map(count).sum();
        assert_eq!(said + lost, 2 * LINES_MAX);
    }
}
