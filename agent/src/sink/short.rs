//! Streams of a few octets, of which there may be millions: smaller than any block.

use std::{mem, num::NonZeroU8};

/// The first octets of a stream.
pub(super) struct Short {
    /// One more than there are octets: so a vacant place of a [`Slab`] is no larger than one that is not.
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

/// Things of one kind without an allocation for each.
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    /// The place that is filled next; from there on, each vacant one says which.
    vacant: Option<u32>,
}

enum Place<T> {
    Full(T),
    Vacant { next: Option<u32> },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: None }
    }
}

impl<T: Default> Slab<T> {
    /// Its index is its name until it is removed.
    pub(super) fn insert(&mut self, entry: T) -> u32 {
        if let Some(index) = self.vacant
            && let Some(place) = self.places.get_mut(index as usize)
            && let Place::Vacant { next } = *place
        {
            *place = Place::Full(entry);
            self.vacant = next;
            return index;
        }
        self.places.push(Place::Full(entry));
        (self.places.len() - 1) as u32
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        match self.places.get(index as usize)? {
            Place::Full(entry) => Some(entry),
            Place::Vacant { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.places.get_mut(index as usize)? {
            Place::Full(entry) => Some(entry),
            Place::Vacant { .. } => None,
        }
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        let place = self.places.get_mut(index as usize).filter(|place| matches!(place, Place::Full(_)));
        match place.map(|place| mem::replace(place, Place::Vacant { next: self.vacant })) {
            Some(Place::Full(entry)) => {
                self.vacant = Some(index);
                entry
            }
            _ => T::default(),
        }
    }

    /// Whether the next one needs memory.
    pub(super) fn is_full(&self) -> bool {
        self.vacant.is_none()
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
        assert_eq!(size_of::<Place<Short>>(), 24);
    }

    #[test]
    fn what_is_removed_makes_room() {
        let mut slab = Slab::default();
        let [one, two] = [1, 2].map(|number| slab.insert(number));
        assert!(slab.is_full());
        assert_eq!(slab.remove(one), 1);
        assert!(!slab.is_full());
        assert_eq!((slab.insert(3), slab.remove(two)), (one, 2));
        assert_eq!((slab.get(one), slab.get(two)), (Some(&3), None));
        assert_eq!((slab.remove(two), slab.get_mut(one)), (0, Some(&mut 3)));
        assert_eq!((slab.insert(4), slab.insert(5)), (two, 2));
    }
}
