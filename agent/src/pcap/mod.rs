//! pcap and pcapng files as a source of frames.

mod classic;
mod decompressor;
mod error;
mod input;
mod merge;
mod ng;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use agent_common::frame::LinkType;
pub use error::{Cause, Error, Offset};
pub use merge::Merge;

use self::{classic::Classic, input::Input, ng::Ng};
use crate::{
    frame::Frame,
    segment::{Origin, Timestamp},
};

/// Reads a capture file frame by frame, in large blocks and without an allocation per frame.
pub struct Reader {
    path: PathBuf,
    size: Option<u64>,
    input: Input,
    format: Format,
    /// Found and not given out yet, all of them in the input's buffer.
    found: VecDeque<Record>,
    ended: bool,
}

impl Reader {
    /// Opens `path` and finds out what it is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let open = || File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = open().map_err(|e| Error { path: path.to_owned(), cause: Cause::Io(e) })?;
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Self { size, ..Self::from_read(path, file)? })
    }

    /// Finds out what `read` gives. Errors say `path`.
    pub fn from_read(path: impl Into<PathBuf>, read: impl Read + Send + 'static) -> Result<Self, Error> {
        let path = path.into();
        let mut input = Input::new(Box::new(read));
        match Format::detect(&mut input) {
            Ok(format) => Ok(Self { path, size: None, input, format, found: VecDeque::new(), ended: false }),
            Err(cause) => Err(Error { path, cause }),
        }
    }

    /// The next frame, or `None` at the end of the file. There are no more frames after an error, what a damaged file has
    /// behind the damage is not looked for; but there may be another error.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        self.peek()?;
        Ok(self.take())
    }

    /// The next frame, if [`peek`](Self::peek) has found it.
    #[inline(always)]
    fn take(&mut self) -> Option<Frame<'_>> {
        self.found.pop_front().map(|record| self.frame(&record))
    }

    /// The time of the next frame.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Timestamp>, Error> {
        if self.found.is_empty() {
            self.look_ahead()?;
        }
        Ok(self.found.front().map(|record| record.timestamp))
    }

    /// The frames that come next, as far as [`peek`](Self::peek) has found them.
    pub fn ahead(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        self.found.iter().map(|record| self.frame(record))
    }

    #[inline(always)]
    fn frame(&self, record: &Record) -> Frame<'_> {
        Frame {
            timestamp: record.timestamp,
            len: record.len,
            bytes: self.input.bytes(record.bytes.clone()),
            link_type: record.link_type,
            origin: Origin { interface: record.interface, ..Origin::default() },
            flow: None,
        }
    }

    /// Octets of the file that were read so far.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Octets of the file when it was opened, if it is one.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Finds the next frame, and some of those that lie behind it in memory.
    fn look_ahead(&mut self) -> Result<(), Error> {
        let Some(first) = self.find()? else { return Ok(()) };
        self.found.push_back(first);
        if let Format::Classic(classic) = &self.format {
            while self.found.len() < AHEAD
                && let Some(record) = classic.next_in_memory(&mut self.input)
            {
                self.found.push_back(record);
            }
        }
        Ok(())
    }

    #[inline]
    fn find(&mut self) -> Result<Option<Record>, Error> {
        let found = match &mut self.format {
            _ if self.ended => Ok(None),
            Format::Classic(classic) => classic.next(&mut self.input),
            Format::Ng(ng) => ng.next(&mut self.input),
        };
        if let Ok(Some(record)) = found {
            return Ok(Some(record));
        }
        self.ended = true;
        let cause = match (found, &mut self.format) {
            (Err(cause), _) => Some(cause),
            (_, Format::Ng(ng)) => ng.take_left_out(),
            (_, Format::Classic(_)) => None,
        };
        cause.map_or(Ok(None), |cause| Err(Error { path: self.path.clone(), cause }))
    }
}

/// Most octets of one frame. The kernel makes frames of half of that (BIG TCP); whatever claims more is damage.
pub const CAPLEN_MAX: u32 = 1 << 20;

/// Frames that are found at once: what is known of their connections fits into the first-level cache.
const AHEAD: usize = 32;

enum Format {
    Classic(Classic),
    Ng(Ng),
}

impl Format {
    fn detect(input: &mut Input) -> Result<Self, Cause> {
        if input.is_at_end()? {
            return Err(Cause::Empty);
        }
        input.decompress()?;
        input.fill(4)?;
        let Some(&magic) = input.available().first_chunk() else {
            return Err(Cause::NotACapture);
        };
        if magic == ng::SECTION_HEADER {
            return Ok(Self::Ng(Ng::default()));
        }
        if let Some(classic) = Classic::open(magic, input)? {
            return Ok(Self::Classic(classic));
        }
        match magic {
            [0x1f, 0x8b, ..] => Err(Cause::Compressed { with: "gzip", by: "gunzip" }),
            [0x28, 0xb5, 0x2f, 0xfd] => Err(Cause::Compressed { with: "zstd", by: "unzstd" }),
            [0x04, 0x22, 0x4d, 0x18] => Err(Cause::Compressed { with: "lz4", by: "unlz4" }),
            [0xfd, b'7', b'z', b'X'] => Err(Cause::Compressed { with: "xz", by: "unxz" }),
            [b'B', b'Z', b'h', _] => Err(Cause::Compressed { with: "bzip2", by: "bunzip2" }),
            _ => Err(Cause::NotACapture),
        }
    }
}

/// A frame as a format finds it.
struct Record {
    timestamp: Timestamp,
    len: u32,
    /// Place in the input's buffer, valid until that is filled again.
    bytes: Range<usize>,
    link_type: LinkType,
    interface: u16,
}
