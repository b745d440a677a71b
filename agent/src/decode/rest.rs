//! What remains of a frame behind the headers read so far.

use super::Reject;
use crate::frame::Frame;

#[derive(Clone, Copy)]
pub(super) struct Rest<'a> {
    pub(super) bytes: &'a [u8],
    /// Octets that were on the wire: at least `bytes.len()`, more when the capture cut the frame.
    pub(super) wire: usize,
}

impl<'a> Rest<'a> {
    #[inline]
    pub(super) fn of(frame: &Frame<'a>) -> Self {
        Self { bytes: frame.bytes, wire: frame.bytes.len().max(frame.len as usize) }
    }

    #[inline]
    pub(super) fn skip(self, octets: usize) -> Result<Self, Reject> {
        let bytes = self.bytes.get(octets..).ok_or(Reject::Malformed)?;
        Ok(Self { bytes, wire: self.wire - octets })
    }

    /// Drops what lies beyond `octets`: padding, and what the layer below appended.
    #[inline]
    pub(super) fn truncate(self, octets: usize) -> Self {
        let bytes = self.bytes.get(..octets).unwrap_or(self.bytes);
        Self { bytes, wire: self.wire.min(octets) }
    }

    #[inline]
    pub(super) fn array<const N: usize>(self, offset: usize) -> Result<[u8; N], Reject> {
        self.bytes.get(offset..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Reject::Malformed)
    }

    #[inline]
    pub(super) fn u16(self, offset: usize) -> Result<u16, Reject> {
        self.array(offset).map(u16::from_be_bytes)
    }

    /// As if no more had been on the wire.
    pub(super) fn captured(self) -> Self {
        Self { wire: self.bytes.len(), ..self }
    }

    /// Whether all of it was captured.
    #[inline]
    pub(super) fn is_whole(self) -> bool {
        self.bytes.len() == self.wire
    }
}
