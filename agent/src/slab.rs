//! Things of one kind that are named by a number.

use std::{iter, mem};

/// In pages, so that growing neither moves what is there nor needs room for all of it twice.
pub(crate) struct Slab<T> {
    pages: Vec<Box<[Place<T>]>>,
    len: u32,
    /// The vacant place that is filled next. The others follow in the places themselves: removing a million things needs no
    /// memory for it.
    vacant: Option<u32>,
}

impl<T> Slab<T> {
    /// Octets for each.
    pub(crate) const PLACE: usize = size_of::<Place<T>>();

    /// Numbers are dense. This one is its name until it is removed.
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        if let Some(number) = self.vacant
            && let Some(place) = self.place(number)
            && let Place::Vacant { next } = *place
        {
            *place = Place::Full(entry);
            self.vacant = next;
            return number;
        }
        let number = self.len;
        self.len += 1;
        if number as usize / PAGE == self.pages.len() {
            self.pages.push(iter::repeat_with(|| Place::Vacant { next: None }).take(PAGE).collect());
        }
        if let Some(place) = self.place(number) {
            *place = Place::Full(entry);
        }
        number
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let next = self.vacant;
        let place = self.place(number).filter(|place| matches!(place, Place::Full(_)))?;
        let Place::Full(entry) = mem::replace(place, Place::Vacant { next }) else { return None };
        self.vacant = Some(number);
        Some(entry)
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        match self.pages.get(number as usize / PAGE)?.get(number as usize % PAGE)? {
            Place::Full(entry) => Some(entry),
            Place::Vacant { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.place(number)? {
            Place::Full(entry) => Some(entry),
            Place::Vacant { .. } => None,
        }
    }

    /// By number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let all = self.pages.iter().flatten();
        (0..).zip(all).filter_map(|(number, place)| match place {
            Place::Full(entry) => Some((number, entry)),
            Place::Vacant { .. } => None,
        })
    }

    /// Whether a place that was used before is vacant: the next thing needs no memory.
    pub(crate) fn has_vacancy(&self) -> bool {
        self.vacant.is_some()
    }

    #[inline]
    fn place(&mut self, number: u32) -> Option<&mut Place<T>> {
        self.pages.get_mut(number as usize / PAGE)?.get_mut(number as usize % PAGE)
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0, vacant: None }
    }
}

enum Place<T> {
    Full(T),
    Vacant { next: Option<u32> },
}

/// Places in a page.
const PAGE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_makes_room() {
        let mut slab = Slab::default();
        let [one, two] = [1, 2].map(|entry| slab.insert(entry));
        assert!(!slab.has_vacancy());
        assert_eq!(slab.remove(one), Some(1));
        assert!(slab.has_vacancy());
        assert_eq!((slab.insert(3), slab.remove(two)), (one, Some(2)));
        assert_eq!((slab.get(one), slab.get(two)), (Some(&3), None));
        assert_eq!((slab.remove(two), slab.get_mut(one)), (None, Some(&mut 3)));
        assert_eq!((slab.insert(4), slab.insert(5)), (two, 2));
    }

    #[test]
    fn pages_are_one_row_of_numbers() {
        let mut slab = Slab::default();
        assert!((0..1_000).all(|entry| slab.insert(entry) == entry));
        (0..1_000).filter(|entry| entry % 3 > 0).for_each(|entry| assert_eq!(slab.remove(entry), Some(entry)));
        assert!(slab.iter().eq((0..1_000).step_by(3).zip(&(0..1_000).step_by(3).collect::<Vec<_>>())));
        assert_eq!((slab.remove(1_000), slab.get(1_000), slab.get(u32::MAX)), (None, None, None));
    }
}
