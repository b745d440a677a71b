//! How often each situation was reached. What is not reached is not tested.

use std::{collections::BTreeMap, fmt};

#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    counts: BTreeMap<&'static str, u64>,
    /// Conversations by the segments that were recorded of them.
    lengths: BTreeMap<usize, u64>,
}

impl Census {
    pub(crate) fn add(&mut self, what: &'static str) {
        self.add_many(what, 1);
    }

    pub(crate) fn add_many(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.counts.entry(what).or_default() += count;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            self.add_many(what, *count);
        }
        for (segments, count) in &other.lengths {
            *self.lengths.entry(*segments).or_default() += count;
        }
    }

    pub(crate) fn add_conversation(&mut self, segments: usize) {
        *self.lengths.entry(segments).or_default() += 1;
    }

    /// Segments of the median conversation.
    pub(crate) fn median(&self) -> usize {
        let half = self.lengths.values().sum::<u64>() / 2;
        let mut below = 0;
        let mut reaches_half = |count: &u64| {
            below += count;
            below > half
        };
        self.lengths.iter().find(|(_, count)| reaches_half(count)).map_or(0, |(segments, _)| *segments)
    }

    pub(crate) fn get(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "{count:>12}  {what}"))
    }
}
