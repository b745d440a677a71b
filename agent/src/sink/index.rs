//! `connections.jsonl`: one line per event, in the folder of the day.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, FileExt as _, MetadataExt as _, OpenOptionsExt},
};

use rustix::io::Errno;

use crate::{
    clock::Wall,
    sink::{Output, name, record::Kind},
};

/// The index of the day that the last lines were for. All sinks of a run share it, and what other runs append to the same
/// file the kernel serialises, so lines are written by one call or, from one of them on, not at all.
#[derive(Default)]
pub(super) struct Index {
    day: u64,
    file: Option<File>,
    /// The file ends with a part of a line, since a disk was full: the next one ends that line first.
    torn: bool,
}

/// Lines of one day that are not in its index yet.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) text: String,
    /// Days since 1970.
    day: u64,
    /// Where each of them ends, and what it tells of.
    ends: Vec<(usize, Kind)>,
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether a line of that time may be added, which is that of the connection's last segment.
    pub(super) fn take(&self, time: Wall) -> bool {
        self.is_empty() || self.text.len() < LINES && self.day == time.0 / DAY
    }

    /// What was appended to the text is a line.
    pub(super) fn end(&mut self, kind: Kind, time: Wall) {
        self.day = time.0 / DAY;
        self.ends.push((self.text.len(), kind));
    }

    /// Whether each of them is in the first `written` octets, and what it tells of.
    pub(super) fn kinds(&self, written: usize) -> impl Iterator<Item = (Kind, bool)> {
        self.ends.iter().map(move |&(end, kind)| (kind, end <= written))
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

impl Index {
    /// Appends lines to the index of their day, by one call. Returns how many octets of them are there, and why that is not
    /// all.
    pub(super) fn append(&mut self, output: &Output, lines: &Lines) -> (usize, io::Result<()>) {
        let mut written = 0;
        let result = self.write(output, lines, &mut written);
        (written, result)
    }

    fn write(&mut self, output: &Output, lines: &Lines, written: &mut usize) -> io::Result<()> {
        if lines.day != self.day {
            *self = Self { day: lines.day, ..Self::default() };
        }
        // Somebody may have removed it: then there is a new one, or an error.
        if matches!(&self.file, Some(file) if file.metadata()?.nlink() == 0) {
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (file, torn) = open(output, &name::day(Wall(lines.day * DAY)))?;
                self.torn = torn;
                none.insert(file)
            }
        };
        let ended;
        let bytes = if self.torn {
            ended = format!("\n{}", lines.text);
            ended.as_bytes()
        } else {
            lines.text.as_bytes()
        };
        let result = loop {
            match file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        if let Ok(len) = result {
            *written = len.saturating_sub(usize::from(self.torn));
            if len == bytes.len() {
                self.torn = false;
                return Ok(());
            }
        }
        // Perhaps the file system went and came back. If not, what was written of a line is seen again.
        self.file = None;
        Err(result.err().unwrap_or_else(|| Errno::NOSPC.into()))
    }
}

const DAY: u64 = 86_400_000_000_000;

/// Octets of lines that are not written yet, and one line more.
const LINES: usize = 64 << 10;

/// Opens the index of a day, and tells whether its last line has no end.
fn open(output: &Output, day: &str) -> io::Result<(File, bool)> {
    let folder = output.dir.join(day);
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(folder.join("connections.jsonl"))?;
    let mut last = [b'\n'];
    if let Some(end) = file.metadata()?.len().checked_sub(1) {
        file.read_at(&mut last, end)?;
    }
    Ok((file, last != [b'\n']))
}
