//! Streams of a few octets, of which there may be millions: smaller than any block.

use std::mem;

/// The first octets of a stream.
#[derive(Default)]
pub(super) struct Short {
    pub(super) len: u8,
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
        self.data.get(..self.len.into()).unwrap_or_default()
    }

    /// Takes all of `bytes` or nothing.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> bool {
        let room = self.data.get_mut(self.len.into()..).unwrap_or_default().get_mut(..bytes.len());
        let fits = room.is_some();
        if let Some(room) = room {
            room.copy_from_slice(bytes);
            self.len += bytes.len() as u8;
        }
        fits
    }
}

/// Things of one kind without an allocation for each.
pub(super) struct Slab<T> {
    entries: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    /// Its index is its name until it is removed.
    pub(super) fn insert(&mut self, entry: T) -> u32 {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.entries.get_mut(index as usize)
        {
            *place = entry;
            return index;
        }
        self.entries.push(entry);
        (self.entries.len() - 1) as u32
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        self.free.push(index);
        self.entries.get_mut(index as usize).map(mem::take).unwrap_or_default()
    }

    /// Whether the next one needs memory.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stream_takes_all_or_nothing() {
        let mut short = Short::new(b"twenty octets are in");
        assert!(!short.fill(b"four"));
        assert!(short.fill(b" it"));
        assert_eq!(short.bytes(), b"twenty octets are in it");
        assert!(!short.fill(b"!") && short.fill(b""));
        assert_eq!(size_of::<Short>(), 24);
    }

    #[test]
    fn what_is_removed_makes_room() {
        let mut slab = Slab::default();
        let [one, two] = [1, 2].map(|number| slab.insert(number));
        assert!(slab.is_full());
        assert_eq!(slab.remove(one), 1);
        assert!(!slab.is_full());
        assert_eq!((slab.insert(3), slab.remove(two)), (one, 2));
        assert_eq!(slab.get_mut(one), Some(&mut 3));
    }
}
