//! Several captures as one.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{IsTerminal as _, stdin},
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use super::{Cause, Error, Reader};
use crate::{
    frame::Frame,
    segment::{Origin, Timestamp},
};

/// The frames of several captures in the order of their timestamps; of equal ones, in the order in which the captures were
/// given. Within a capture their order is never changed, even where its timestamps decrease.
///
/// A file is open from its first frame to its last: of a capture that was rotated, one file at a time.
pub struct Merge {
    sources: Vec<Source>,
    /// Sources that have another frame, but for the current one, by the time of that frame.
    waiting: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Whose frame was given out last.
    current: Option<usize>,
    /// Octets of the sources that ended.
    ended: u64,
    open: usize,
    open_max: usize,
    /// How many interfaces have a number.
    interfaces: u16,
    errors: Vec<Error>,
}

impl Merge {
    /// Opens `paths` for so many `readers`, each of which gets all frames. `-` is standard input.
    ///
    /// # Errors
    ///
    /// When one of them cannot be opened, is no capture, or its first frame is of a network that is not read here. Damage
    /// in front of a first frame is no more than damage elsewhere.
    pub fn open(paths: &[PathBuf], readers: usize) -> Result<Vec<Self>, Error> {
        let may_open = usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4).unwrap_or(OPEN_MAX);
        let mut first = Self {
            sources: Vec::new(),
            waiting: BinaryHeap::new(),
            current: None,
            ended: 0,
            open: 0,
            open_max: (OPEN_MAX.min(may_open) / readers.max(1)).max(1),
            interfaces: 0,
            errors: Vec::new(),
        };
        for (index, path) in paths.iter().enumerate() {
            let error = |cause| Err(Error { path: path.clone(), cause });
            if is_standard_input(path) && paths.iter().take(index).any(|path| is_standard_input(path)) {
                return error(Cause::NamedTwice);
            }
            let reader = open(path)?;
            let once = reader.size().is_none();
            if once && readers > 1 {
                return error(Cause::ReadOnce);
            }
            first.sources.push(Source { path: path.clone(), reader: Some(reader), numbers: Vec::new() });
            first.open += 1;
            let next = first.peek(index);
            if let Some(found) = first.errors.pop_if(|error| error.is_misuse()) {
                return Err(found);
            }
            first.waiting.extend(next.map(|next| Reverse((next, index))));
            // What is a file is opened again when it is its turn.
            if !once {
                first.close(index);
            }
        }
        // It is yet to be read.
        first.ended = 0;
        let others: Vec<_> = (1..readers).map(|_| first.again()).collect();
        Ok([first].into_iter().chain(others).collect())
    }

    /// The next frame. A capture that fails ends there, and the others go on.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let index = self.advance()?;
        self.current = Some(index);
        let alone = self.sources.len() == 1;
        let source = self.sources.get_mut(index)?;
        let frame = source.reader.as_mut()?.next().ok()??;
        if alone {
            return Some(frame);
        }
        let interface = number(&mut source.numbers, frame.origin.interface, &mut self.interfaces);
        Some(Frame { origin: Origin { interface, ..frame.origin }, ..frame })
    }

    /// Octets that were read so far of all files, compressed as they may be.
    pub fn position(&self) -> u64 {
        let open = self.sources.iter().filter_map(|source| source.reader.as_ref());
        self.ended + open.map(Reader::position).sum::<u64>()
    }

    /// What went wrong on the way, in the order of its discovery.
    pub fn into_errors(self) -> Vec<Error> {
        self.errors
    }

    /// The same from the start, without the errors that were found already.
    fn again(&self) -> Self {
        let source = |source: &Source| Source { path: source.path.clone(), reader: None, numbers: Vec::new() };
        Self {
            sources: self.sources.iter().map(source).collect(),
            waiting: self.waiting.clone(),
            errors: Vec::new(),
            ..*self
        }
    }

    /// The source whose turn it is. Its reader has a frame.
    #[inline]
    fn advance(&mut self) -> Option<usize> {
        let current = self.current.take();
        let mut candidate = current.and_then(|index| Some((self.peek(index)?, index)));
        loop {
            let waiting = self.waiting.peek().map(|Reverse(first)| *first);
            match (candidate, waiting) {
                (Some(candidate), Some(waiting)) if waiting < candidate => self.waiting.push(Reverse(candidate)),
                (Some((_, index)), _) => return Some(index),
                (None, _) => {}
            }
            let Reverse((time, index)) = self.waiting.pop()?;
            let is_open = self.sources.get(index)?.reader.is_some();
            candidate = if is_open { Some((time, index)) } else { self.reopen(index).map(|time| (time, index)) };
        }
    }

    /// The time of a source's next frame.
    #[inline]
    fn peek(&mut self, index: usize) -> Option<Timestamp> {
        let reader = self.sources.get_mut(index)?.reader.as_mut()?;
        loop {
            match reader.peek() {
                Ok(Some(time)) => return Some(time),
                Ok(None) => break,
                Err(error) => self.errors.push(error),
            }
        }
        self.close(index);
        None
    }

    #[cold]
    fn reopen(&mut self, index: usize) -> Option<Timestamp> {
        let source = self.sources.get_mut(index)?;
        let opened = if self.open < self.open_max {
            open(&source.path)
        } else {
            Err(Error { path: source.path.clone(), cause: Cause::TooManyOpen(self.open) })
        };
        match opened {
            Ok(reader) => {
                source.reader = Some(reader);
                self.open += 1;
                self.peek(index)
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    #[cold]
    fn close(&mut self, index: usize) {
        if let Some(reader) = self.sources.get_mut(index).and_then(|source| source.reader.take()) {
            self.open -= 1;
            self.ended += reader.position();
        }
    }
}

struct Source {
    path: PathBuf,
    /// While it is open.
    reader: Option<Reader>,
    /// Of its interfaces among those of all sources.
    numbers: Vec<Option<u16>>,
}

/// The number among all sources of a source's `interface`: they are numbered as their frames come. Should there be more
/// than there are numbers, the last one is for all the others.
fn number(numbers: &mut Vec<Option<u16>>, interface: u16, interfaces: &mut u16) -> u16 {
    let place = usize::from(interface);
    if numbers.len() <= place {
        numbers.resize(place + 1, None);
    }
    match numbers.get_mut(place) {
        Some(Some(number)) => *number,
        Some(vacant) => {
            let number = *vacant.insert(*interfaces);
            *interfaces = interfaces.saturating_add(1);
            number
        }
        None => interface,
    }
}

fn open(path: &Path) -> Result<Reader, Error> {
    if !is_standard_input(path) {
        return Reader::open(path);
    }
    let path = PathBuf::from("standard input");
    if stdin().is_terminal() {
        return Err(Error { path, cause: Cause::Terminal });
    }
    Reader::from_read(path, stdin())
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// Most files that are open at a time, of all readers: 256 MiB of blocks.
const OPEN_MAX: usize = 1_024;
