//! `connections.jsonl`: one line per event, in the folder of the day.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
};

use crate::{
    segment::Timestamp,
    sink::{Output, name},
};

/// The index of the day that the last line was for. All sinks append to the same file, which the kernel serialises, so
/// a line is written by one call or not at all.
#[derive(Default)]
pub(super) struct Index {
    day: u64,
    file: Option<File>,
    /// The last call wrote a part of its line: the next one ends that line first.
    torn: bool,
}

impl Index {
    /// Appends `line` to the index of the day of `event`.
    pub(super) fn append(&mut self, output: &Output, event: Timestamp, line: &str) -> io::Result<()> {
        let wall = output.clock.wall(event);
        let day = wall.0 / DAY;
        if day != self.day {
            *self = Self { day, file: None, torn: false };
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(output, &name::day(wall))?),
        };
        let torn;
        let bytes = if self.torn {
            torn = format!("\n{line}");
            torn.as_bytes()
        } else {
            line.as_bytes()
        };
        let result = loop {
            match file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(len) if len == bytes.len() => {
                self.torn = false;
                Ok(())
            }
            Ok(len) => {
                let ended = self.torn && len == 1;
                self.torn = (self.torn || len > 0) && !ended;
                Err(ErrorKind::StorageFull.into())
            }
            Err(error) => {
                // Perhaps the file system went and came back.
                self.file = None;
                Err(error)
            }
        }
    }
}

const DAY: u64 = 86_400_000_000_000;

fn open(output: &Output, day: &str) -> io::Result<File> {
    let folder = output.dir.join(day);
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join("connections.jsonl"))
}
