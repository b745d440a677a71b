//! Streams of a few octets, of which there may be millions: smaller than any block.

use std::num::NonZeroU8;

/// The first octets of a stream.
pub(super) struct Short {
    /// One more than there are octets: so a vacant place in a [`Slab`](crate::slab::Slab) is no larger than one that is not.
    next: NonZeroU8,
    data: [u8; SHORT],
}

/// Octets that fit. With their number they are 24.
pub(super) const SHORT: usize = 23;

impl Short {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut short = Self::default();
        short.fill(bytes);
        short
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.data.get(..self.len()).unwrap_or_default()
    }

    fn len(&self) -> usize {
        usize::from(self.next.get()) - 1
    }

    /// Takes all of `bytes` or nothing.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> bool {
        let len = self.len();
        let room = self.data.get_mut(len..).unwrap_or_default().get_mut(..bytes.len());
        let fits = room.is_some();
        if let Some(room) = room {
            room.copy_from_slice(bytes);
            self.next = self.next.saturating_add(bytes.len() as u8);
        }
        fits
    }
}

impl Default for Short {
    fn default() -> Self {
        Self { next: NonZeroU8::MIN, data: [0; SHORT] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;

    #[test]
    fn a_short_stream_takes_all_or_nothing() {
        let mut short = Short::new(b"twenty octets are in");
        assert!(!short.fill(b"four"));
        assert!(short.fill(b" it"));
        assert_eq!(short.bytes(), b"twenty octets are in it");
        assert!(!short.fill(b"!") && short.fill(b""));
        assert_eq!(Slab::<Short>::PLACE, 24);
    }
}
