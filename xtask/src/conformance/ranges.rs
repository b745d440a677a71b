//! Which octets of a stream there are: a set of ranges.

use std::ops::Range;

/// Ranges in order, none of which touch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub(crate) fn insert(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        // Nearly all of them extend the last one.
        let first = self.0.partition_point(|range| range.end < new.start);
        let last = self.0.partition_point(|range| range.start <= new.end);
        let merged =
            self.0[first..last].iter().fold(new, |all, range| all.start.min(range.start)..all.end.max(range.end));
        self.0.splice(first..last, [merged]);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    pub(crate) fn end(&self) -> Option<u64> {
        self.0.last().map(|range| range.end)
    }

    /// How far they go on from `offset` without a hole.
    pub(crate) fn reach(&self, offset: u64) -> u64 {
        // It is asked for with each segment of a capture that has many holes.
        let at = self.0.partition_point(|range| range.end <= offset);
        self.0.get(at).filter(|range| range.start <= offset).map_or(offset, |range| range.end)
    }

    /// What they leave out between `begin` and their end.
    pub(crate) fn holes(&self, begin: u64) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        let mut next = begin;
        for range in self.0.iter().filter(|range| range.end > begin) {
            if range.start > next {
                holes.push(next..range.start);
            }
            next = range.end;
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();
        for new in [10..20, 40..50, 30..30, 20..25, 5..8, 24..41] {
            ranges.insert(new);
        }
        assert_eq!(ranges.iter().cloned().collect::<Vec<_>>(), [5..8, 10..50]);
        assert_eq!(ranges.holes(0), [0..5, 8..10]);
        assert_eq!(ranges.holes(3), [3..5, 8..10]);
        assert_eq!([0, 5, 7, 8, 10].map(|offset| ranges.reach(offset)), [0, 8, 8, 8, 50]);
    }
}
