//! Several captures as one.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{IsTerminal as _, stdin},
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use super::{Cause, Error, Reader};
use crate::{frame::Frame, segment::Timestamp};

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
            let error = |cause| Err(Error { path: name(path).to_owned(), cause });
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
    #[inline(always)]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let index = self.advance()?;
        self.current = Some(index);
        let alone = self.sources.len() == 1;
        let source = self.sources.get_mut(index)?;
        let mut frame = source.reader.as_mut()?.take()?;
        if !alone {
            frame.origin.interface = number(&mut source.numbers, frame.origin.interface, &mut self.interfaces);
        }
        Some(frame)
    }

    /// The capture whose turn it is. Frames of others may come between those that are ahead in it.
    pub fn reader(&mut self) -> Option<&Reader> {
        self.current = self.advance();
        self.sources.get(self.current?)?.reader.as_ref()
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
        let mut candidate = None;
        if let Some(index) = self.current.take() {
            candidate = self.peek(index).map(|time| (time, index));
            if self.waiting.is_empty() && candidate.is_some() {
                return Some(index);
            }
        }
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
    if stdin().is_terminal() {
        return Err(Error { path: name(path).to_owned(), cause: Cause::Terminal });
    }
    Reader::from_read(name(path), stdin())
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

/// What errors call it.
fn name(path: &Path) -> &Path {
    if is_standard_input(path) { Path::new("standard input") } else { path }
}

/// Most files that are open at a time, of all readers: 256 MiB of blocks.
const OPEN_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::{
        super::{
            input::ByteOrder,
            tests::{Temporary, Writer},
        },
        *,
    };

    /// A file with a frame at each of `seconds`. What is in the frames is the file's `name` and their number.
    fn file(name: u8, seconds: &[u32]) -> Temporary {
        let file = Writer::new(ByteOrder::Little).file_header(0xa1b2_c3d4, 1);
        let frames = (0..).zip(seconds);
        Temporary::new(&frames.fold(file, |file, (number, &at)| file.record(at, 0, 2, &[name, number])).bytes)
    }

    fn paths(files: &[Temporary]) -> Vec<PathBuf> {
        files.iter().map(|file| file.0.clone()).collect()
    }

    /// Time and content of every frame.
    fn drain(merge: &mut Merge) -> Vec<(u32, [u8; 2])> {
        let mut frames = Vec::new();
        while let Some(frame) = merge.next() {
            frames.push(((frame.timestamp.0 / 1_000_000_000) as u32, frame.bytes.try_into().unwrap()));
        }
        frames
    }

    #[test]
    fn frames_are_in_the_order_of_their_timestamps() {
        type Case<'a> = (&'a [&'a [u32]], &'a [(u32, [u8; 2])]);
        let cases: [Case<'_>; 7] = [
            (&[&[1, 2]], &[(1, [0, 0]), (2, [0, 1])]),
            (&[&[]], &[]),
            (&[&[3, 4], &[], &[1, 2]], &[(1, [2, 0]), (2, [2, 1]), (3, [0, 0]), (4, [0, 1])]),
            (&[&[1, 4], &[2, 3, 5]], &[(1, [0, 0]), (2, [1, 0]), (3, [1, 1]), (4, [0, 1]), (5, [1, 2])]),
            // Of equal times the file that was given first is first.
            (&[&[1, 1], &[1, 2], &[1]], &[(1, [0, 0]), (1, [0, 1]), (1, [1, 0]), (1, [2, 0]), (2, [1, 1])]),
            // The order within a file stands, whatever its clock did.
            (&[&[5, 2, 9]], &[(5, [0, 0]), (2, [0, 1]), (9, [0, 2])]),
            (
                &[&[5, 2, 9], &[3, 6, 1]],
                &[(3, [1, 0]), (5, [0, 0]), (2, [0, 1]), (6, [1, 1]), (1, [1, 2]), (9, [0, 2])],
            ),
        ];
        for (times, expected) in cases {
            let files: Vec<_> = (0..).zip(times).map(|(name, times)| file(name, times)).collect();
            let size: u64 = files.iter().map(|file| file.0.metadata().unwrap().len()).sum();
            for merge in &mut Merge::open(&paths(&files), 2).unwrap() {
                assert_eq!(drain(merge), expected, "{times:?}");
                assert!(merge.next().is_none() && merge.errors.is_empty());
                // What has no frame need not be opened again.
                let empty = times.iter().filter(|times| times.is_empty()).count() as u64;
                assert_eq!((merge.position(), merge.open), (size - 24 * empty, 0));
            }
        }
    }

    #[test]
    fn a_rotated_capture_is_open_one_file_at_a_time() {
        let mut files: Vec<_> =
            (0..=u8::MAX).map(|name| file(name, &[2 * u32::from(name), 2 * u32::from(name) + 1])).collect();
        files.reverse();
        let [merge] = &mut Merge::open(&paths(&files), 1).unwrap()[..] else { panic!() };
        merge.open_max = 1;
        let frames = (0..512).map(|at| (at, [(at / 2) as u8, (at % 2) as u8]));
        assert!(drain(merge).into_iter().eq(frames));
        assert!(merge.errors.is_empty(), "{:?}", merge.errors);
    }

    #[test]
    fn files_too_many_at_a_time_are_named_and_the_others_are_read() {
        let files = [file(0, &[1, 9]), file(1, &[2, 8]), file(2, &[3, 7]), file(3, &[10])];
        let [merge] = &mut Merge::open(&paths(&files), 1).unwrap()[..] else { panic!() };
        merge.open_max = 2;
        assert_eq!(drain(merge), [(1, [0, 0]), (2, [1, 0]), (8, [1, 1]), (9, [0, 1]), (10, [3, 0])]);
        let [Error { path, cause: Cause::TooManyOpen(2) }] = &merge.errors[..] else { panic!("{:?}", merge.errors) };
        assert_eq!(*path, files[2].0);
    }

    #[test]
    fn interfaces_of_different_files_are_different() {
        let ng = |times: &[(u32, u64)]| {
            let file = Writer::new(ByteOrder::Big).section().interface(1, 0, |it| it).interface(1, 0, |it| it);
            let packets = times.iter().fold(file, |file, &(on, at)| file.packet(on, at, 1, b"x"));
            Temporary::new(&packets.bytes)
        };
        let files = [ng(&[(1, 1), (0, 4), (1, 5)]), file(0, &[0, 1]), ng(&[(0, 2), (1, 3), (0, 6)])];
        let numbers = |files: &[Temporary]| {
            let [merge] = &mut Merge::open(&paths(files), 1).unwrap()[..] else { panic!() };
            let mut numbers = Vec::new();
            while let Some(frame) = merge.next() {
                numbers.push(frame.origin.interface);
            }
            numbers
        };
        // The frames of the second file are the first and the last ones.
        assert_eq!(numbers(&files), [0, 1, 2, 3, 4, 1, 2, 0]);
        assert_eq!(numbers(&files[..1]), [1, 0, 1]);
    }
}
