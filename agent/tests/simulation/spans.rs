//! Sets of positions, each with the index of the record that brought it first.

use std::collections::BTreeMap;

use crate::packet::Position;

/// Non-overlapping spans by start: their end and the record that they came with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(BTreeMap<Position, (Position, usize)>);

impl Spans {
    /// Adds what is not there yet. How much that was.
    pub(crate) fn add(&mut self, start: Position, end: Position, record: usize) -> Position {
        let mut at = start;
        let mut fresh = Vec::new();
        for (from, until, _) in self.within(start, end).collect::<Vec<_>>() {
            if at < from {
                fresh.push((at, from));
            }
            at = until;
        }
        if at < end {
            fresh.push((at, end));
        }
        let len = fresh.iter().map(|(from, until)| until - from).sum();
        self.0.extend(fresh.into_iter().map(|(from, until)| (from, (until, record))));
        len
    }

    /// Takes out what is there. How much that was.
    pub(crate) fn remove(&mut self, start: Position, end: Position) -> Position {
        let mut removed = 0;
        for (from, until, record) in self.within(start, end).collect::<Vec<_>>() {
            removed += until - from;
            let whole = self.0.range(..=from).next_back().map(|(from, (until, _))| (*from, *until));
            if let Some((whole_from, whole_until)) = whole {
                self.0.remove(&whole_from);
                if whole_from < from {
                    self.0.insert(whole_from, (from, record));
                }
                if until < whole_until {
                    self.0.insert(until, (whole_until, record));
                }
            }
        }
        removed
    }

    /// What of `start..end` is in the set, in order: from, until, record.
    pub(crate) fn within(&self, start: Position, end: Position) -> impl Iterator<Item = (Position, Position, usize)> {
        let first = self.0.range(..=start).next_back().map_or(start, |(from, _)| *from);
        self.0
            .range(first..end.max(first))
            .map(move |(from, (until, record))| ((*from).max(start), (*until).min(end), *record))
            .filter(|(from, until, _)| from < until)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Position, Position, usize)> {
        self.0.iter().map(|(from, (until, record))| (*from, *until, *record))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> Position {
        self.all().map(|(from, until, _)| until - from).sum()
    }
}
