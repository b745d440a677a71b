//! Endpoints of connections that are over.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::segment::{SeqNum, Timestamp};

/// Remembers closed connections for a while, so that last ACKs and late retransmissions open nothing. Bounded: the
/// oldest entry gives way.
#[derive(Default)]
pub(super) struct Linger {
    entries: HashTable<Entry>,
    /// Fingerprint and deadline in order of entry: what to forget first. The deadline tells an entry from a later one of
    /// the same endpoints.
    order: VecDeque<(u64, Timestamp)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Keyed hash of the endpoints, which it stands for: with a million entries a pair is taken for another one with a
    /// chance of 2^-44.
    pub(super) fingerprint: u64,
    pub(super) expires: Timestamp,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Closed by the endpoints. ISNs of the lower and the higher one, as far as known: the same SYN again, or
    /// late, opens nothing.
    Over([Option<SeqNum>; 2]),
    /// We gave up on it (`idle`, `evicted`), and it may well go on: its serial.
    GivenUp(u64),
}

const _: () = assert!(size_of::<Entry>() <= 40);

impl Linger {
    /// Whether an older entry had to give way.
    pub(super) fn insert(&mut self, entry: Entry, max: usize) -> bool {
        self.remove(entry.fingerprint);
        let full = self.entries.len() >= max;
        while self.entries.len() >= max && !self.order.is_empty() {
            self.forget_oldest();
        }
        if max > 0 {
            self.entries.insert_unique(entry.fingerprint, entry, |entry| entry.fingerprint);
            self.order.push_back((entry.fingerprint, entry.expires));
        }
        full
    }

    pub(super) fn get(&self, fingerprint: u64, now: Timestamp) -> Option<&Entry> {
        self.find(fingerprint).filter(|entry| now < entry.expires)
    }

    pub(super) fn remove(&mut self, fingerprint: u64) {
        if let Ok(entry) = self.entries.find_entry(fingerprint, |entry| entry.fingerprint == fingerprint) {
            entry.remove();
        }
        // Its place in `order` goes when its turn comes, or here when such places are most of it.
        if self.order.len() > 2 * self.entries.len() + 64 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|&(fingerprint, expires)| self.find(fingerprint).is_some_and(|e| e.expires == expires));
            self.order = order;
        }
    }

    /// Drops what has expired. Deadlines rise in order of entry.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|&(_, expires)| expires <= now) {
            self.forget_oldest();
        }
    }

    fn find(&self, fingerprint: u64) -> Option<&Entry> {
        self.entries.find(fingerprint, |entry| entry.fingerprint == fingerprint)
    }

    fn forget_oldest(&mut self) {
        let Some((fingerprint, expires)) = self.order.pop_front() else { return };
        if let Ok(entry) = self.entries.find_entry(fingerprint, |entry| entry.fingerprint == fingerprint)
            && entry.get().expires == expires
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fingerprint: u64, expires: u64) -> Entry {
        Entry { fingerprint, expires: Timestamp(expires), kind: Kind::GivenUp(expires) }
    }

    #[test]
    fn is_bounded_and_forgets_the_oldest() {
        let mut linger = Linger::default();
        assert!(!linger.insert(entry(1, 10), 2));
        assert!(!linger.insert(entry(2, 11), 2));
        assert!(linger.insert(entry(3, 12), 2));
        assert!(linger.get(1, Timestamp(0)).is_none());
        assert!(linger.get(2, Timestamp(10)).is_some());
        assert!(linger.get(2, Timestamp(11)).is_none());
        linger.expire(Timestamp(11));
        assert_eq!((linger.entries.len(), linger.order.len()), (1, 1));
    }

    #[test]
    fn an_entry_that_came_again_keeps_its_later_deadline() {
        let mut linger = Linger::default();
        for expires in 10..1_000 {
            linger.insert(entry(7, expires), 100);
        }
        assert!(linger.order.len() < 100);
        linger.expire(Timestamp(998));
        assert!(linger.get(7, Timestamp(998)).is_some());
    }
}
