//! Declared gaps of one stream.

use std::collections::VecDeque;

use super::event::{GAPS_KEPT, GAPS_LISTED, Gap, GapCause};

/// Keeps gaps to tell octets that come late from duplicates, and for the record. In order of offset; neighbours of one
/// cause are one gap. Bounded: beyond [`KNOWN_MAX`] the oldest behind the listed ones is forgotten, not its octets in
/// the totals.
#[derive(Default)]
pub(super) struct Gaps {
    known: VecDeque<Gap>,
    totals: [u64; GapCause::ALL.len()],
}

/// Gaps remembered for one stream; with one more that is being added 32 KiB, of which 2 KiB in any case. The others count
/// as queued, and give way when all queues are full. With a snaplen every long stream has that many.
const KNOWN_MAX: usize = GAPS_LISTED + 511;

impl Gaps {
    /// Adds a gap behind all others. Whether an older one had to be forgotten.
    pub(super) fn push(&mut self, gap: Gap) -> bool {
        self.totals[gap.cause as usize] += gap.len;
        if let Some(last) = self.known.back_mut()
            && last.cause == gap.cause
            && last.offset + last.len == gap.offset
        {
            last.len += gap.len;
            return false;
        }
        self.known.push_back(gap);
        self.bound()
    }

    /// The first part of `start..end` that lies in a gap.
    pub(super) fn first_within(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let at = self.known.partition_point(|gap| gap.offset + gap.len <= start);
        let gap = self.known.get(at).filter(|gap| gap.offset.max(start) < end)?;
        Some((gap.offset.max(start), (gap.offset + gap.len).min(end)))
    }

    /// Takes `start..end`, which lies within one gap, out of it, which may make two of it. Whether an older one had to be
    /// forgotten.
    pub(super) fn fill(&mut self, start: u64, end: u64) -> bool {
        let at = self.known.partition_point(|gap| gap.offset + gap.len <= start);
        let Some(&Gap { offset, len, cause, .. }) = self.known.get(at) else { return false };
        debug_assert!(offset <= start && end <= offset + len);
        self.totals[cause as usize] -= end - start;
        self.known.remove(at);
        let rest = [(offset, start), (end, offset + len)];
        for (start, end) in rest.into_iter().rev().filter(|(start, end)| start < end) {
            self.known.insert(at, Gap::new(start, end - start, cause));
        }
        self.bound()
    }

    /// Counts `octets` at `start`, which lie within one gap, as late for it.
    pub(super) fn count_late(&mut self, start: u64, octets: u64) {
        let at = self.known.partition_point(|gap| gap.offset + gap.len <= start);
        if let Some(gap) = self.known.get_mut(at) {
            gap.late += octets;
        }
    }

    /// Forgets all but the first [`GAPS_KEPT`] gaps, though not their octets in the totals. Whether there were more.
    pub(super) fn forget(&mut self) -> bool {
        let more = self.known.len() > GAPS_KEPT;
        self.known.truncate(GAPS_KEPT);
        self.known.shrink_to_fit();
        more
    }

    /// Memory of those that can be forgotten, as allocated.
    pub(super) fn charged(&self) -> usize {
        self.known.capacity().saturating_sub(GAPS_KEPT) * size_of::<Gap>()
    }

    /// The first ones, for the record.
    pub(super) fn listed(&mut self) -> &[Gap] {
        let known = self.known.make_contiguous();
        &known[..known.len().min(GAPS_LISTED)]
    }

    pub(super) fn totals(&self) -> [u64; GapCause::ALL.len()] {
        self.totals
    }

    fn bound(&mut self) -> bool {
        let full = self.known.len() > KNOWN_MAX;
        if full {
            self.known.remove(GAPS_LISTED);
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(offset: u64, len: u64) -> Gap {
        Gap::new(offset, len, GapCause::Timeout)
    }

    #[test]
    fn neighbours_are_one_and_filling_splits() {
        let mut gaps = Gaps::default();
        gaps.push(gap(10, 5));
        gaps.push(gap(15, 5));
        gaps.push(gap(30, 1));
        assert_eq!(gaps.listed(), [gap(10, 10), gap(30, 1)]);
        assert_eq!(gaps.first_within(0, 10), None);
        assert_eq!(gaps.first_within(12, 12), None);
        assert_eq!(gaps.first_within(12, 40), Some((12, 20)));
        assert_eq!(gaps.first_within(20, 31), Some((30, 31)));
        gaps.fill(12, 14);
        assert_eq!(gaps.listed(), [gap(10, 2), gap(14, 6), gap(30, 1)]);
        gaps.fill(30, 31);
        gaps.fill(10, 12);
        assert_eq!(gaps.listed(), [gap(14, 6)]);
        assert_eq!(gaps.totals()[GapCause::Timeout as usize], 6);
    }

    #[test]
    fn is_bounded_and_keeps_what_the_record_lists() {
        let mut gaps = Gaps::default();
        for n in 0..10_000 {
            gaps.push(gap(n * 3, 1));
        }
        assert_eq!(gaps.known.len(), KNOWN_MAX);
        assert_eq!(gaps.listed(), (0..GAPS_LISTED as u64).map(|n| gap(n * 3, 1)).collect::<Vec<_>>());
        assert_eq!(gaps.totals()[GapCause::Timeout as usize], 10_000);
        assert!(gaps.charged() >= (KNOWN_MAX - GAPS_KEPT) * size_of::<Gap>());
        assert!(gaps.forget() && !gaps.forget());
        assert_eq!(gaps.listed(), (0..GAPS_KEPT as u64).map(|n| gap(n * 3, 1)).collect::<Vec<_>>());
        assert_eq!((gaps.charged(), gaps.totals()[GapCause::Timeout as usize]), (0, 10_000));
    }

    #[test]
    fn is_bounded_when_one_gap_becomes_many() {
        let mut gaps = Gaps::default();
        gaps.push(gap(0, 1_000_000));
        let forgotten = (0..10_000).filter(|n| gaps.fill(2 * n + 1, 2 * n + 2)).count();
        assert_eq!((gaps.known.len(), forgotten), (KNOWN_MAX, 10_001 - KNOWN_MAX));
        assert_eq!(gaps.totals()[GapCause::Timeout as usize], 1_000_000 - 10_000);
        assert_eq!(gaps.first_within(500_000, 500_001), Some((500_000, 500_001)));
    }

    #[test]
    fn late_octets_are_counted_on_their_gap() {
        let mut gaps = Gaps::default();
        gaps.push(gap(10, 5));
        gaps.push(gap(30, 5));
        gaps.count_late(31, 2);
        gaps.count_late(31, 2);
        assert_eq!(gaps.listed(), [gap(10, 5), Gap { late: 4, ..gap(30, 5) }]);
    }
}
