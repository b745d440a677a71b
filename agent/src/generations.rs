//! The filter in its generations. Whoever reads a ring asks again the filter that let a frame through, also while the filter
//! changes: so nothing of a connection that the old filter and the new one want is refused, whichever judged it.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU32, Ordering},
};

use anyhow::ensure;

use crate::filter::Filter;

/// Where new generations come from.
#[derive(Debug)]
pub struct Generations(Arc<Shared>);

/// One shard's view of them: the filter that judged the last frame, and the way to the others.
#[derive(Debug)]
pub struct Filters {
    filter: Arc<Filter>,
    generation: u32,
    shared: Arc<Shared>,
    shard: usize,
}

/// Most filters that frames in the rings may have been judged by.
pub const GENERATIONS_MAX: usize = 8;

impl Generations {
    /// The first `filter`, and a view for each of `shards`.
    pub fn new(generation: u32, filter: Filter, shards: u32) -> (Self, Vec<Filters>) {
        let filter = Arc::new(filter);
        let shared = Arc::new(Shared {
            kept: RwLock::new(vec![(generation, Arc::clone(&filter))]),
            in_force: AtomicU32::new(generation),
            settled: (0..shards).map(|_| AtomicU32::new(generation)).collect(),
        });
        let view = |shard| Filters { filter: Arc::clone(&filter), generation, shared: Arc::clone(&shared), shard };
        let views = (0..shards as usize).map(view).collect();
        (Self(shared), views)
    }

    /// Makes known to all shards what is about to come into force, so that no record is ahead of its filter.
    ///
    /// # Errors
    ///
    /// When some shard still has records of too many earlier ones to read.
    pub fn announce(&self, generation: u32, filter: Filter) -> anyhow::Result<()> {
        let in_force = self.0.in_force.load(Ordering::Relaxed);
        let age = |generation: u32| in_force.wrapping_sub(generation);
        let oldest = self.0.settled.iter().map(|settled| age(settled.load(Ordering::Acquire))).max().unwrap_or(0);
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        // One more stays. A ring is read as far as its first record that is still being written, and behind one of the new
        // generation there may be one of the old. What was announced and never came into force has no age, and goes.
        kept.retain(|(generation, _)| age(*generation) <= oldest.saturating_add(1));
        ensure!(
            kept.len() < GENERATIONS_MAX,
            "{} changes of the filter are still on their way to all shards (try again in a moment)",
            kept.len() - 1
        );
        kept.push((generation, Arc::new(filter)));
        Ok(())
    }

    /// From here on no program judges by an earlier one.
    pub fn enforce(&self, generation: u32) {
        self.0.in_force.store(generation, Ordering::Release);
    }
}

impl Filters {
    /// The filter that let a frame through. As a rule it is the one that let the last one through.
    #[inline]
    pub fn of(&mut self, generation: u32) -> &Filter {
        if generation != self.generation {
            self.turn_to(generation);
        }
        &self.filter
    }

    /// That of the last frame.
    #[inline]
    pub fn last(&self) -> &Filter {
        &self.filter
    }

    /// What every record is judged by that is written from now on, or what is still newer.
    pub fn in_force(&self) -> u32 {
        self.shared.in_force.load(Ordering::Acquire)
    }

    /// The ring was empty after `generation` had come into force, so no record of an earlier one is left in it.
    pub fn settle(&self, generation: u32) {
        if let Some(settled) = self.shared.settled.get(self.shard)
            && settled.load(Ordering::Relaxed) != generation
        {
            settled.store(generation, Ordering::Release);
        }
    }

    #[cold]
    fn turn_to(&mut self, generation: u32) {
        let kept = self.shared.kept.read().unwrap_or_else(PoisonError::into_inner);
        // All that can be in a ring is kept. Of anything else the newest filter is as good a guess as any.
        let known = kept.iter().find(|(known, _)| *known == generation).or_else(|| kept.last());
        if let Some((_, filter)) = known {
            self.filter = Arc::clone(filter);
        }
        self.generation = generation;
    }
}

/// A filter that stays as it is, of generation 0: that of a replay.
impl From<Filter> for Filters {
    fn from(filter: Filter) -> Self {
        let filter = Arc::new(filter);
        let shared =
            Shared { kept: RwLock::new(vec![(0, Arc::clone(&filter))]), in_force: AtomicU32::new(0), settled: vec![] };
        Self { filter, generation: 0, shared: Arc::new(shared), shard: 0 }
    }
}

#[derive(Debug)]
struct Shared {
    /// By generation, the newest last.
    kept: RwLock<Vec<(u32, Arc<Filter>)>>,
    in_force: AtomicU32,
    /// By shard: the generation before which its ring holds none.
    settled: Vec<AtomicU32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter that can be told from others.
    fn numbered(snaplen: u32) -> Filter {
        let mut filter = Filter::everything();
        filter.graph.snaplen = snaplen;
        filter
    }

    fn change(generations: &Generations, generation: u32) -> anyhow::Result<()> {
        generations.announce(generation, numbered(generation))?;
        generations.enforce(generation);
        Ok(())
    }

    #[test]
    fn each_record_has_the_filter_of_its_generation_however_they_are_mixed() {
        let (generations, mut views) = Generations::new(1, numbered(1), 2);
        change(&generations, 2).unwrap();
        generations.announce(3, numbered(3)).unwrap();
        for view in &mut views {
            for generation in [1, 1, 2, 1, 3, 2, 3, 3, 1] {
                assert_eq!(view.of(generation).graph.snaplen, generation);
            }
        }
    }

    #[test]
    fn what_a_ring_may_still_hold_is_kept_and_no_more() {
        let (generations, mut views) = Generations::new(1, numbered(1), 2);
        let kept = || generations.0.kept.read().unwrap().iter().map(|(generation, _)| *generation).collect::<Vec<_>>();
        change(&generations, 2).unwrap();
        change(&generations, 3).unwrap();
        views[0].settle(views[0].in_force());
        change(&generations, 4).unwrap();
        assert_eq!(kept(), [1, 2, 3, 4], "the second shard has not emptied its ring yet");
        views.iter().for_each(|view| view.settle(view.in_force()));
        change(&generations, 5).unwrap();
        assert_eq!(kept(), [3, 4, 5]);
        assert_eq!(views[1].of(3).graph.snaplen, 3);
    }

    #[test]
    fn changes_that_outrun_a_shard_are_refused() {
        let (generations, views) = Generations::new(u32::MAX - 2, numbered(0), 1);
        let mut generation = u32::MAX - 2;
        let error = loop {
            match change(&generations, generation.wrapping_add(1)) {
                Ok(()) => generation = generation.wrapping_add(1),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(error, "7 changes of the filter are still on their way to all shards (try again in a moment)");
        assert_eq!(generation, (GENERATIONS_MAX as u32 - 1).wrapping_add(u32::MAX - 2));
        views[0].settle(views[0].in_force());
        change(&generations, generation.wrapping_add(1)).unwrap();
    }

    #[test]
    fn what_never_came_into_force_is_forgotten() {
        let (generations, mut views) = Generations::new(1, numbered(1), 1);
        generations.announce(2, numbered(77)).unwrap();
        generations.announce(2, numbered(2)).unwrap();
        assert_eq!(views[0].of(2).graph.snaplen, 2);
    }
}
