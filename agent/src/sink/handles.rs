//! Files that grow, as far as they are kept open: the ones written last.

use std::{collections::BTreeMap, fs::File, io};

use hashbrown::HashMap;
use rustix::io::Errno;

use crate::reassembly::Direction;

/// A stream: serial of its connection, and direction.
pub(super) type Key = (u64, Direction);

pub(super) struct Handles {
    max: usize,
    files: HashMap<Key, (File, u64)>,
    /// Keys in order of last use.
    order: BTreeMap<u64, Key>,
    uses: u64,
    evicted: u64,
}

impl Handles {
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), files: HashMap::new(), order: BTreeMap::new(), uses: 0, evicted: 0 }
    }

    pub(super) fn take(&mut self, key: Key) -> Option<File> {
        let (file, use_) = self.files.remove(&key)?;
        self.order.remove(&use_);
        Some(file)
    }

    /// Keeps a file open, and closes another one for it at the limit.
    pub(super) fn put(&mut self, key: Key, file: File) {
        if self.files.len() >= self.max {
            self.evict();
        }
        self.uses += 1;
        self.order.insert(self.uses, key);
        self.files.insert(key, (file, self.uses));
    }

    /// Opens a file, and closes others if the process or the system has too many.
    pub(super) fn make_room(&mut self, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
        loop {
            match open() {
                Err(error) if is_exhausted(&error) && self.evict() => {}
                result => return result,
            }
        }
    }

    fn evict(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_first() else { return false };
        self.evicted += 1;
        self.files.remove(&key).is_some()
    }

    /// Files closed before their time.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(Errno::MFILE.raw_os_error()) || number == Some(Errno::NFILE.raw_os_error())
}
