//! Deadlines of connections.

use std::hint::black_box;

use crate::segment::Timestamp;

/// A hierarchical timing wheel of connection slots. Each slot is in it at most once, in a list that runs through
/// `nodes`, so that scheduling, moving and removing are O(1) and allocate nothing.
///
/// A deadline is rounded up to a tick of 2^24 ns (16.8 ms): never early, at most a tick late.
pub(super) struct Flusher {
    nodes: Vec<Node>,
    levels: [Level; LEVELS],
    /// Everything up to this tick has been popped.
    elapsed: u64,
    /// Slots of the tick that is being popped.
    due: u32,
}

#[derive(Clone, Copy)]
struct Node {
    /// Modulo 2^32: none lies further ahead than that of what has elapsed.
    tick: u32,
    /// [`NONE`] at the head of a list, [`UNSCHEDULED`] in none.
    previous: u32,
    next: u32,
}

struct Level {
    /// A bit for each list that is not empty.
    occupied: u64,
    heads: [u32; SLOTS],
}

impl Flusher {
    /// Makes sure that `slot` comes up at `deadline` or earlier.
    pub(super) fn schedule(&mut self, slot: u32, deadline: Timestamp) {
        let at = slot as usize;
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, Node { tick: 0, previous: UNSCHEDULED, next: NONE });
        }
        let tick = tick_after(deadline).clamp(self.elapsed + 1, self.elapsed + TICKS_AHEAD_MAX);
        let node = self.nodes[at];
        if node.previous == UNSCHEDULED || tick < self.tick_of(node) {
            self.remove(slot);
            self.insert(slot, tick);
        }
    }

    /// Has what is known of `slot` on its way from memory.
    pub(super) fn expect(&self, slot: u32) {
        black_box(self.nodes.get(slot as usize).map(|node| node.tick));
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(&node) = self.nodes.get(slot as usize) else { return };
        let Node { previous, next, .. } = node;
        if previous == UNSCHEDULED {
            return;
        }
        if let Some(node) = self.nodes.get_mut(next as usize) {
            node.previous = previous;
        }
        if let Some(node) = self.nodes.get_mut(previous as usize) {
            node.next = next;
        } else if self.due == slot {
            self.due = next;
        } else {
            let (level, list) = place(self.tick_of(node), self.elapsed);
            let level = &mut self.levels[level];
            level.heads[list] = next;
            if next == NONE {
                level.occupied &= !(1 << list);
            }
        }
        self.nodes[slot as usize].previous = UNSCHEDULED;
    }

    /// The next moment at which [`pop`](Self::pop) may have something, or has to sort its lists.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        if self.due != NONE {
            return Some(Timestamp(self.elapsed << TICK_BITS));
        }
        self.next_list().map(|(_, _, tick)| Timestamp(tick << TICK_BITS))
    }

    /// Takes out a slot whose deadline has come, and says when that was: never before what was popped earlier.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(u32, Timestamp)> {
        let now = now.0 >> TICK_BITS;
        while self.due == NONE {
            if now <= self.elapsed {
                return None;
            }
            let Some((level, list, tick)) = self.next_list().filter(|&(.., tick)| tick <= now) else {
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            let head = std::mem::replace(&mut self.levels[level].heads[list], NONE);
            self.levels[level].occupied &= !(1 << list);
            self.elapsed = tick;
            self.sort(head);
        }
        let slot = self.due;
        self.remove(slot);
        Some((slot, Timestamp(self.elapsed << TICK_BITS)))
    }

    /// Distributes the list at `head` over finer levels; what is due now goes to `due`.
    fn sort(&mut self, head: u32) {
        let mut slot = head;
        while slot != NONE {
            let node = self.nodes[slot as usize];
            let (tick, next) = (self.tick_of(node), node.next);
            if tick <= self.elapsed {
                let second = std::mem::replace(&mut self.due, slot);
                self.link(slot, tick, second);
            } else {
                self.insert(slot, tick);
            }
            slot = next;
        }
    }

    fn insert(&mut self, slot: u32, tick: u64) {
        let (level, list) = place(tick, self.elapsed);
        let level = &mut self.levels[level];
        let second = std::mem::replace(&mut level.heads[list], slot);
        level.occupied |= 1 << list;
        self.link(slot, tick, second);
    }

    /// Makes `slot` the head of a list that went on with `second`.
    fn link(&mut self, slot: u32, tick: u64, second: u32) {
        self.nodes[slot as usize] = Node { tick: tick as u32, previous: NONE, next: second };
        if let Some(node) = self.nodes.get_mut(second as usize) {
            node.previous = slot;
        }
    }

    /// The tick of a node that is in a list, which has not elapsed, or has just now.
    fn tick_of(&self, node: Node) -> u64 {
        self.elapsed + u64::from(node.tick.wrapping_sub(self.elapsed as u32))
    }

    /// The occupied list that comes next, and the tick at which its span begins. A finer level always comes before a
    /// coarser one, which starts where the finer one ends.
    fn next_list(&self) -> Option<(usize, usize, u64)> {
        self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0).map(|(number, level)| {
            let shift = number as u32 * SLOT_BITS;
            let current = (self.elapsed >> shift) % SLOTS as u64;
            let distance = u64::from(level.occupied.rotate_right(current as u32).trailing_zeros());
            let list = (current + distance) % SLOTS as u64;
            (number, list as usize, ((self.elapsed >> shift) + distance) << shift)
        })
    }
}

impl Default for Flusher {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            levels: [const { Level { occupied: 0, heads: [NONE; SLOTS] } }; LEVELS],
            elapsed: 0,
            due: NONE,
        }
    }
}

/// Level and list of a tick: the level of the highest digit in which it differs from `elapsed`.
fn place(tick: u64, elapsed: u64) -> (usize, usize) {
    let level = ((63 - ((tick ^ elapsed) | 1).leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
    (level as usize, ((tick >> (level * SLOT_BITS)) % SLOTS as u64) as usize)
}

/// The first tick that is not before `deadline`.
fn tick_after(deadline: Timestamp) -> u64 {
    (deadline.0 >> TICK_BITS) + u64::from(deadline.0 & ((1 << TICK_BITS) - 1) != 0)
}

const TICK_BITS: u32 = 24;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64 bits of nanoseconds are 40 bits of ticks: seven digits of six bits.
const LEVELS: usize = 7;
/// Two years and a quarter: what is due later comes up then, and is scheduled again.
const TICKS_AHEAD_MAX: u64 = u32::MAX as u64;
const NONE: u32 = u32::MAX;
const UNSCHEDULED: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 1 << TICK_BITS;

    fn pop_all(flusher: &mut Flusher, now: u64) -> Vec<u32> {
        let mut out: Vec<u32> = std::iter::from_fn(|| flusher.pop(Timestamp(now))).map(|(slot, _)| slot).collect();
        out.sort_unstable();
        out
    }

    #[test]
    fn fires_after_the_deadline_and_within_a_tick() {
        let mut flusher = Flusher::default();
        flusher.schedule(3, Timestamp(5 * TICK + 1));
        assert_eq!(pop_all(&mut flusher, 6 * TICK - 1), [0_u32; 0]);
        assert_eq!(flusher.pop(Timestamp(100 * TICK)), Some((3, Timestamp(6 * TICK))), "late, and yet in time");
        assert_eq!(flusher.next_deadline(), None);
    }

    #[test]
    fn only_an_earlier_deadline_moves_a_slot() {
        let mut flusher = Flusher::default();
        flusher.schedule(0, Timestamp(1000 * TICK));
        flusher.schedule(0, Timestamp(2000 * TICK));
        flusher.schedule(0, Timestamp(10 * TICK));
        assert_eq!(pop_all(&mut flusher, 10 * TICK), [0]);
        assert_eq!(pop_all(&mut flusher, u64::MAX), [0_u32; 0]);
    }

    #[test]
    fn what_is_far_ahead_comes_up_early() {
        let mut flusher = Flusher::default();
        flusher.schedule(0, Timestamp(7 * TICK));
        flusher.schedule(1, Timestamp(u64::MAX));
        assert_eq!(pop_all(&mut flusher, 7 * TICK), [0]);
        assert_eq!(pop_all(&mut flusher, TICKS_AHEAD_MAX * TICK - 1), [0_u32; 0]);
        assert_eq!(flusher.pop(Timestamp(u64::MAX)), Some((1, Timestamp(TICKS_AHEAD_MAX * TICK))));
    }

    /// Against a list of deadlines that is searched from end to end.
    #[test]
    fn agrees_with_an_obvious_model() {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut flusher, mut model) = (Flusher::default(), std::collections::BTreeMap::<u32, u64>::new());
            let mut now = random(1 << 20) * TICK * random(1 << 20);
            assert_eq!(pop_all(&mut flusher, now), [0_u32; 0]);
            for _ in 0..300 {
                let slot = random(40) as u32;
                match random(8) {
                    0 => {
                        flusher.remove(slot);
                        model.remove(&slot);
                    }
                    1..=4 => {
                        let deadline = now + (random(1 << 12) << random(28)) * (TICK >> 8);
                        flusher.schedule(slot, Timestamp(deadline));
                        let tick = tick_after(Timestamp(deadline)).max((now >> TICK_BITS) + 1);
                        model.entry(slot).and_modify(|known| *known = tick.min(*known)).or_insert(tick);
                    }
                    _ => {
                        now += random(1 << 8) * (TICK << random(14)) / 16;
                        let due: Vec<u32> = model
                            .iter()
                            .filter(|&(_, &tick)| tick <= now >> TICK_BITS)
                            .map(|(&slot, _)| slot)
                            .collect();
                        model.retain(|slot, _| !due.contains(slot));
                        assert_eq!(pop_all(&mut flusher, now), due);
                        let next = model.values().min().map(|&tick| Timestamp(tick << TICK_BITS));
                        assert!(flusher.next_deadline() <= next || next.is_none());
                        assert_eq!(flusher.next_deadline().is_some(), next.is_some());
                    }
                }
            }
        }
    }
}
