//! A file through one buffer.

use std::{
    io::{self, Cursor, Read},
    mem,
    ops::Range,
};

use super::{
    Cause,
    decompressor::{Compression, Decompressor},
    error::Offset,
};

/// What was read of a file and not consumed yet is [`available`](Self::available), in one piece.
pub(super) struct Input {
    source: Source,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Place of `start` in the file, or in what it decompresses to.
    offset: Offset,
}

enum Source {
    Plain(Box<dyn Read + Send>),
    Compressed(Box<Decompressor>),
}

impl Input {
    pub(super) fn new(read: Box<dyn Read + Send>) -> Self {
        let source = Source::Plain(read);
        Self { source, buffer: vec![0; BLOCK_LEN], start: 0, end: 0, offset: Offset::default() }
    }

    /// If the file begins with the magic of a compressed one, begins anew with what it decompresses to.
    pub(super) fn decompress(&mut self) -> Result<(), Cause> {
        self.fill(4)?;
        let Some(compression) = self.available().first_chunk().and_then(|magic| Compression::of(*magic)) else {
            return Ok(());
        };
        if let Source::Plain(rest) = &mut self.source {
            let rest = mem::replace(rest, Box::new(io::empty()));
            let whole = Cursor::new(self.available().to_vec()).chain(rest);
            self.source = Source::Compressed(Box::new(Decompressor::new(compression, Box::new(whole))));
            (self.start, self.end) = (0, 0);
            self.offset.decompressed = true;
        }
        Ok(())
    }

    /// Octets of the file that were used, compressed as they may be.
    pub(super) fn position(&self) -> u64 {
        match &self.source {
            Source::Plain(_) => self.offset.octets,
            Source::Compressed(decompressor) => decompressor.consumed(),
        }
    }

    /// Place of the first available octet.
    pub(super) fn offset(&self) -> Offset {
        self.offset
    }

    pub(super) fn available(&self) -> &[u8] {
        self.bytes(self.start..self.end)
    }

    /// Octets of the buffer, consumed or not.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Reads until `octets` are available or the file ends, and as much more as fits.
    #[inline]
    pub(super) fn fill(&mut self, octets: usize) -> Result<(), Cause> {
        if self.end - self.start >= octets { Ok(()) } else { self.read(octets) }
    }

    #[inline]
    pub(super) fn is_at_end(&mut self) -> Result<bool, Cause> {
        self.fill(1)?;
        Ok(self.start == self.end)
    }

    /// The next `octets`, which are the beginning of `what` or all of it.
    #[inline]
    pub(super) fn require(&mut self, octets: usize, what: &'static str) -> Result<&[u8], Cause> {
        self.fill(octets)?;
        if self.end - self.start < octets {
            let has = self.end - self.start;
            return Err(Cause::CutShort { what, offset: self.offset, has: has as u64, needs: octets as u64 });
        }
        Ok(self.bytes(self.start..self.start + octets))
    }

    /// Consumes `octets`, or what is available; returns where they are in the buffer until it is filled again.
    #[inline]
    pub(super) fn consume(&mut self, octets: usize) -> Range<usize> {
        let consumed = self.start..self.end.min(self.start.saturating_add(octets));
        self.start = consumed.end;
        self.offset.octets += consumed.len() as u64;
        consumed
    }

    /// Consumes `octets` without having them in memory at once.
    pub(super) fn skip(&mut self, octets: u64, what: &'static str) -> Result<(), Cause> {
        let offset = self.offset;
        let mut left = octets;
        while left > 0 {
            if self.is_at_end()? {
                return Err(Cause::CutShort { what, offset, has: octets - left, needs: octets });
            }
            left -= self.consume(usize::try_from(left).unwrap_or(usize::MAX)).len() as u64;
        }
        Ok(())
    }

    #[cold]
    fn read(&mut self, octets: usize) -> Result<(), Cause> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < octets {
            self.buffer.resize(octets, 0);
        }
        while self.end < octets {
            match self.source.read(self.buffer.get_mut(self.end..).unwrap_or_default())? {
                0 => break,
                len => self.end += len,
            }
        }
        Ok(())
    }
}

impl Source {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Cause> {
        match self {
            Self::Plain(read) => loop {
                match read.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return Ok(result?),
                }
            },
            Self::Compressed(decompressor) => decompressor.read(buffer),
        }
    }
}

/// A read(2) of this size costs little per octet, and the block stays in the second-level cache.
const BLOCK_LEN: usize = 256 * 1024;

/// Byte order of the machine that wrote the file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum ByteOrder {
    #[default]
    Little,
    Big,
}

impl ByteOrder {
    pub(super) fn u16(self, octets: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(octets),
            Self::Big => u16::from_be_bytes(octets),
        }
    }

    pub(super) fn u32(self, octets: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(octets),
            Self::Big => u32::from_be_bytes(octets),
        }
    }

    pub(super) fn i64(self, octets: [u8; 8]) -> i64 {
        match self {
            Self::Little => i64::from_le_bytes(octets),
            Self::Big => i64::from_be_bytes(octets),
        }
    }
}

/// Fields one after another; `None` when there are no more.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) order: ByteOrder,
}

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(|octets| self.order.u16(octets))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(|octets| self.order.u32(octets))
    }

    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(slice)
    }
}
