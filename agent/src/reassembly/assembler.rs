//! Out-of-order octets of one stream.

use std::collections::{BTreeMap, VecDeque};

use super::config::Overlap;
use crate::segment::Timestamp;

/// Octets that wait for a hole to fill, by stream offset: 64 bit, so nothing here can wrap.
///
/// Invariant: chunks are not empty and do not overlap.
#[derive(Default)]
pub(super) struct Assembler {
    chunks: BTreeMap<u64, Content>,
    /// What the chunks cost, by [`cost`].
    charged: usize,
    /// Ends of chunks and when these were seen. Both rise: a chunk with an older one behind it is left out, since it will be
    /// gone before that.
    waiting: VecDeque<(u64, Timestamp)>,
}

/// One chunk.
pub(super) enum Content {
    Octets(Box<[u8]>),
    /// So many octets were there on the wire and were cut off by the snaplen.
    Cut(u64),
}

/// What became of the octets of one [`Assembler::insert`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Inserted {
    pub(super) new: u64,
    pub(super) duplicate: u64,
    /// Overlapped octets that differ from the copy that was queued.
    pub(super) conflict: u64,
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Octets(octets) => octets.len() as u64,
            Self::Cut(len) => *len,
        }
    }
}

impl Assembler {
    /// Queues what of `octets` is not queued already. Where both copies exist, `overlap` decides.
    pub(super) fn insert(&mut self, mut offset: u64, mut octets: &[u8], seen: Timestamp, overlap: Overlap) -> Inserted {
        let mut inserted = Inserted::default();
        while !octets.is_empty() {
            if let Some((&start, chunk)) = self.chunks.range_mut(..=offset).next_back()
                && let end = start + chunk.len()
                && end > offset
            {
                let known = usize::try_from(end - offset).map_or(octets.len(), |n| n.min(octets.len()));
                let (again, rest) = octets.split_at(known);
                match chunk {
                    Content::Octets(queued) => {
                        let at = (offset - start) as usize;
                        let queued = &mut queued[at..at + known];
                        let conflict = differing(queued, again);
                        inserted.conflict += conflict;
                        inserted.duplicate += known as u64 - conflict;
                        if overlap == Overlap::Last && conflict > 0 {
                            queued.copy_from_slice(again);
                        }
                        (offset, octets) = (offset + known as u64, rest);
                    }
                    // A retransmission brings what the snaplen had cut off.
                    Content::Cut(_) => self.replace_cut(start, offset, again),
                }
                continue;
            }
            let room = self.chunks.range(offset..).next().map_or(u64::MAX, |(&start, _)| start - offset);
            let (fits, rest) = octets.split_at(usize::try_from(room).map_or(octets.len(), |n| n.min(octets.len())));
            self.put(offset, Content::Octets(fits.into()));
            self.wait(offset + fits.len() as u64, seen);
            inserted.new += fits.len() as u64;
            (offset, octets) = (offset + fits.len() as u64, rest);
        }
        self.check();
        inserted
    }

    /// Remembers that `len` octets were cut off by the snaplen, where nothing better is queued.
    pub(super) fn insert_cut(&mut self, mut offset: u64, len: u64, seen: Timestamp) {
        let end = offset + len;
        while offset < end {
            if let Some((&start, chunk)) = self.chunks.range(..=offset).next_back()
                && start + chunk.len() > offset
            {
                offset = start + chunk.len();
                continue;
            }
            let until = self.chunks.range(offset..).next().map_or(end, |(&start, _)| start.min(end));
            self.put(offset, Content::Cut(until - offset));
            self.wait(until, seen);
            offset = until;
        }
        self.check();
    }

    /// Offset of the first chunk.
    pub(super) fn first(&self) -> Option<u64> {
        self.chunks.first_key_value().map(|(&offset, _)| offset)
    }

    /// When the hole before the first chunk opened: that was when the first segment behind it was seen, and all chunks
    /// stand behind it.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.waiting.front().map(|&(_, seen)| seen)
    }

    /// Offset behind the last chunk.
    pub(super) fn end(&self) -> Option<u64> {
        self.chunks.last_key_value().map(|(&offset, chunk)| offset + chunk.len())
    }

    /// Removes the first chunk if it starts at `offset`.
    pub(super) fn pop_at(&mut self, offset: u64) -> Option<Content> {
        let entry = self.chunks.first_entry()?;
        if *entry.key() != offset {
            return None;
        }
        let chunk = entry.remove();
        self.charged -= cost(&chunk);
        while self.waiting.pop_front_if(|(end, _)| *end <= offset + chunk.len()).is_some() {}
        Some(chunk)
    }

    /// Removes all from `offset` on; how many octets that were, and where the last of them ended.
    pub(super) fn truncate(&mut self, offset: u64) -> Option<(u64, u64)> {
        let end = self.end().filter(|&end| end > offset)?;
        let mut removed = 0;
        while let Some(last) = self.chunks.last_entry()
            && *last.key() + last.get().len() > offset
        {
            let (start, mut chunk) = last.remove_entry();
            self.charged -= cost(&chunk);
            let kept = offset.saturating_sub(start);
            if let Content::Octets(octets) = &chunk {
                removed += octets.len() as u64 - kept;
            }
            if kept > 0 {
                chunk = match chunk {
                    Content::Octets(octets) => Content::Octets(octets[..kept as usize].into()),
                    Content::Cut(_) => Content::Cut(kept),
                };
                self.put(start, chunk);
            }
        }
        let mut seen = None;
        while let Some((_, since)) = self.waiting.pop_back_if(|(end, _)| *end > offset) {
            seen = Some(since);
        }
        if let Some((end, seen)) = self.end().zip(seen) {
            self.wait(end, seen);
        }
        self.check();
        Some((removed, end))
    }

    /// Moves every chunk, because offset 0 turns out to be elsewhere.
    pub(super) fn rebase(&mut self, distance: i64) {
        let moved = |(at, chunk): (u64, Content)| (at.saturating_add_signed(distance), chunk);
        self.chunks = std::mem::take(&mut self.chunks).into_iter().map(moved).collect();
        self.waiting.iter_mut().for_each(|(end, _)| *end = end.saturating_add_signed(distance));
        self.check();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Octets of memory that the queue is charged with.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    fn put(&mut self, offset: u64, chunk: Content) {
        self.charged += cost(&chunk);
        self.chunks.insert(offset, chunk);
    }

    /// Notes that something waits up to `end`, `seen` no earlier than all that waits.
    fn wait(&mut self, end: u64, seen: Timestamp) {
        match self.waiting.back_mut() {
            Some((last, _)) if *last >= end => {}
            Some((last, since)) if *since == seen => *last = end,
            _ => self.waiting.push_back((end, seen)),
        }
    }

    /// Takes the part that `octets` will fill out of the cut chunk at `start`.
    fn replace_cut(&mut self, start: u64, offset: u64, octets: &[u8]) {
        let Some(cut) = self.chunks.remove(&start) else { return };
        self.charged -= cost(&cut);
        let (end, filled) = (start + cut.len(), offset + octets.len() as u64);
        for (from, until) in [(start, offset), (filled, end)] {
            if from < until {
                self.put(from, Content::Cut(until - from));
            }
        }
    }

    fn check(&self) {
        if cfg!(debug_assertions) {
            let mut end = 0;
            for (&start, chunk) in &self.chunks {
                assert!(chunk.len() > 0 && start >= end, "chunks are not empty and do not overlap");
                end = start + chunk.len();
            }
            assert_eq!(self.charged, self.chunks.values().map(cost).sum::<usize>());
        }
    }
}

/// Octets in which two copies differ.
pub(super) fn differing(a: &[u8], b: &[u8]) -> u64 {
    if a == b { 0 } else { a.iter().zip(b).filter(|(a, b)| a != b).count() as u64 }
}

/// Memory as allocated: a small chunk still costs its node and its allocation.
fn cost(chunk: &Content) -> usize {
    const CHUNK_MIN: usize = 128;
    match chunk {
        Content::Octets(octets) => octets.len().max(CHUNK_MIN),
        Content::Cut(_) => CHUNK_MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(assembler: &mut Assembler, offset: u64, octets: &[u8]) -> Inserted {
        assembler.insert(offset, octets, Timestamp(0), Overlap::First)
    }

    fn drain(mut assembler: Assembler) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(offset) = assembler.first() {
            let chunk = assembler.pop_at(offset).unwrap();
            out.push((
                offset,
                match chunk {
                    Content::Octets(octets) => octets.into_vec(),
                    Content::Cut(len) => vec![b'-'; len as usize],
                },
            ));
        }
        assert_eq!(assembler.charged(), 0);
        out
    }

    #[test]
    fn first_copy_wins_and_conflicts_are_counted() {
        let mut assembler = Assembler::default();
        insert(&mut assembler, 10, b"bbbb");
        assert_eq!(insert(&mut assembler, 8, b"aabxaaaa"), Inserted { new: 4, duplicate: 1, conflict: 3 });
        assert_eq!(drain(assembler), [(8, b"aa".to_vec()), (10, b"bbbb".to_vec()), (14, b"aa".to_vec())]);
    }

    #[test]
    fn last_copy_wins_on_request() {
        let mut assembler = Assembler::default();
        insert(&mut assembler, 10, b"bbbb");
        assembler.insert(9, b"aaaaaa", Timestamp(0), Overlap::Last);
        assert_eq!(drain(assembler), [(9, b"a".to_vec()), (10, b"aaaa".to_vec()), (14, b"a".to_vec())]);
    }

    #[test]
    fn octets_replace_what_was_cut() {
        let mut assembler = Assembler::default();
        insert(&mut assembler, 10, b"ab");
        assembler.insert_cut(9, 8, Timestamp(0));
        assert_eq!(insert(&mut assembler, 13, b"cd").new, 2);
        assert_eq!(
            drain(assembler),
            [(9, b"-".to_vec()), (10, b"ab".to_vec()), (12, b"-".to_vec()), (13, b"cd".to_vec()), (15, b"--".to_vec())]
        );
    }

    #[test]
    fn the_oldest_is_the_one_that_has_waited_longest_of_those_still_there() {
        let mut assembler = Assembler::default();
        for (at, offset) in [(1, 30), (2, 20), (3, 40), (3, 50), (4, 10)] {
            assembler.insert(offset, b"ab", Timestamp(at), Overlap::First);
        }
        for (offset, oldest) in [(10, 1), (20, 1), (30, 1), (40, 3), (50, 3)] {
            assert_eq!(assembler.oldest(), Some(Timestamp(oldest)));
            assert!(assembler.pop_at(offset).is_some());
        }
        assert_eq!(assembler.oldest(), None);
    }

    #[test]
    fn small_chunks_are_charged_what_they_cost() {
        let mut assembler = Assembler::default();
        insert(&mut assembler, 1, b"x");
        insert(&mut assembler, 3, b"y");
        assert_eq!((assembler.charged(), assembler.chunks(), assembler.end()), (256, 2, Some(4)));
        drain(assembler);
    }
}
