//! `connections.jsonl`: one line per event, in the folder of the day.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, FileExt as _, MetadataExt as _, OpenOptionsExt},
};

use rustix::io::Errno;

use crate::{
    segment::Timestamp,
    sink::{Output, name},
};

/// The index of the day that the last line was for. All sinks of a run share it, and what other runs append to the same
/// file the kernel serialises, so a line is written by one call or not at all.
#[derive(Default)]
pub(super) struct Index {
    day: u64,
    file: Option<File>,
    /// The file ends with a part of a line, since a disk was full: the next one ends that line first.
    torn: bool,
}

impl Index {
    /// Appends `line` to the index of the day of `event`, which is the time of the connection's last segment.
    pub(super) fn append(&mut self, output: &Output, event: Timestamp, line: &str) -> io::Result<()> {
        let wall = output.clock.wall(event);
        let day = wall.0 / DAY;
        if day != self.day {
            *self = Self { day, ..Self::default() };
        }
        // Somebody may have removed it: then there is a new one, or an error.
        if matches!(&self.file, Some(file) if file.metadata()?.nlink() == 0) {
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (file, torn) = open(output, &name::day(wall))?;
                self.torn = torn;
                none.insert(file)
            }
        };
        let ended;
        let bytes = if self.torn {
            ended = format!("\n{line}");
            ended.as_bytes()
        } else {
            line.as_bytes()
        };
        let result = loop {
            match file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        if matches!(result, Ok(len) if len == bytes.len()) {
            self.torn = false;
            return Ok(());
        }
        // Perhaps the file system went and came back. If not, what was written of the line is seen again.
        self.file = None;
        Err(result.err().unwrap_or_else(|| Errno::NOSPC.into()))
    }
}

const DAY: u64 = 86_400_000_000_000;

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
