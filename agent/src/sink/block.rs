//! The memory that stream octets wait in: blocks of six sizes from a pool of fixed size that all shards share.

use std::{
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    sink::short::{SHORT, Short},
    slab::Slab,
};

/// A place for stream octets that follow each other, and the block before it in its chain.
pub(super) struct Block<D: ?Sized = [u8]> {
    previous: Chain,
    /// Stream offset of the first octet.
    pub(super) offset: u64,
    len: u32,
    /// Memory of this block and of all before it.
    held: u32,
    data: D,
}

impl Block {
    pub(super) fn bytes(&self) -> &[u8] {
        self.data.get(..self.len as usize).unwrap_or_default()
    }

    /// Stream offset behind the last octet.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len as usize == self.data.len()
    }

    /// Memory as allocated.
    pub(super) fn size(&self) -> usize {
        self.data.len() + OVERHEAD
    }

    /// Takes as much of `bytes` as there is room for, and returns how much that was.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let room = self.data.get_mut(self.len as usize..).unwrap_or_default();
        let taken = room.len().min(bytes.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.len += taken as u32;
        taken
    }
}

/// The blocks of one stream. The newest is at hand, since that is the one being filled; [`Chain::reverse`] gives the
/// order for writing.
#[derive(Default)]
pub(super) struct Chain(Option<Box<Block>>);

impl Chain {
    pub(super) fn newest(&mut self) -> Option<&mut Block> {
        self.0.as_deref_mut()
    }

    /// Moves blocks that follow each other without a gap from here to the end of `run`, at most `max` of them.
    pub(super) fn pop_run(&mut self, run: &mut Vec<Box<Block>>, max: usize) {
        let mut end = self.0.as_ref().map(|block| block.offset);
        while run.len() < max
            && self.0.as_ref().map(|block| block.offset) == end
            && let Some(block) = self.pop()
        {
            end = Some(block.end());
            run.push(block);
        }
    }

    pub(super) fn push(&mut self, mut block: Box<Block>) {
        block.held = (self.held() + block.size()) as u32;
        block.previous = mem::take(self);
        self.0 = Some(block);
    }

    pub(super) fn pop(&mut self) -> Option<Box<Block>> {
        let mut block = self.0.take()?;
        *self = mem::take(&mut block.previous);
        Some(block)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Memory as allocated.
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block.held as usize)
    }

    /// Stream octets.
    pub(super) fn octets(&self) -> u64 {
        let mut octets = 0;
        let mut next = &self.0;
        while let Some(block) = next {
            octets += u64::from(block.len);
            next = &block.previous.0;
        }
        octets
    }

    pub(super) fn reverse(mut self) -> Self {
        let mut reversed = Self::default();
        while let Some(block) = self.pop() {
            reversed.push(block);
        }
        reversed
    }
}

impl Drop for Chain {
    /// One after the other: left to itself, a box drops the next one before it returns, and the stack has an end.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// The blocks of all sinks of a run: those that are free, and leave to make more. A size is as good as its neighbours:
/// free blocks of one give way when another is wanted.
pub(super) struct Pool {
    limit: usize,
    /// What the writers may have of it before a shard that can wait waits.
    in_flight: usize,
    /// Memory of the blocks that are not free, and the most that it was.
    used: AtomicUsize,
    high: AtomicUsize,
    /// The part of it that is on its way back: in the queues of the writers.
    writing: AtomicUsize,
    free: Mutex<Free>,
    returned: Condvar,
    /// Shards that wait. To wake nobody is a system call as well.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Free {
    /// Memory of all blocks there are, and of short streams.
    allocated: usize,
    shorts: usize,
    /// The one used last is used again first: it is the one that a cache may still hold.
    by_class: [Chain; CLASSES.len()],
}

impl Pool {
    /// At least [`Pool::MIN`].
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(Self::MIN);
        Self {
            limit,
            in_flight: IN_FLIGHT.min(limit / 2),
            used: AtomicUsize::new(0),
            high: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            free: Mutex::default(),
            returned: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Sixteen of the largest block: with less, a few streams could not be read and written at the same time.
    pub(super) const MIN: usize = 16 * (CLASSES[LARGEST] + OVERHEAD);

    /// A block for data at `offset`, unless the pool is empty.
    pub(super) fn take(&self, class: usize, offset: u64) -> Option<Box<Block>> {
        let mut block = self.lock().take(class, self.limit)?;
        let used = self.used.fetch_add(block.size(), Ordering::Relaxed) + block.size();
        self.high.fetch_max(used, Ordering::Relaxed);
        block.offset = offset;
        Some(block)
    }

    /// Whether one more short stream may be kept, in memory that stays what it is: so they get no more than a quarter.
    pub(super) fn lets_grow(&self, shorts: &Slab<Short>) -> bool {
        shorts.has_vacancy() || {
            let mut free = self.lock();
            let grows =
                free.shorts + size_of::<Short>() <= self.limit / 4 && free.make_room(size_of::<Short>(), self.limit);
            if grows {
                free.shorts += size_of::<Short>();
                self.used.fetch_add(size_of::<Short>(), Ordering::Relaxed);
            }
            grows
        }
    }

    /// A short stream as the writer takes it, be the pool empty or not: what is queued is bounded by number, too.
    pub(super) fn chain_of(&self, bytes: &[u8]) -> Chain {
        let mut block = self.lock().take(0, usize::MAX).unwrap_or_else(|| allocate(0));
        self.used.fetch_add(block.size(), Ordering::Relaxed);
        block.offset = 0;
        block.fill(bytes);
        let mut chain = Chain::default();
        chain.push(block);
        chain
    }

    /// This much memory is now the writer's, who will give it back.
    pub(super) fn hand_over(&self, size: usize) {
        self.writing.fetch_add(size, Ordering::Relaxed);
    }

    /// Takes back the blocks of `chain`, which were handed over.
    pub(super) fn give(&self, chain: Chain) {
        if !chain.is_empty() {
            self.writing.fetch_sub(chain.held(), Ordering::Relaxed);
            self.give_back(chain);
        }
    }

    /// Takes back blocks that never were.
    pub(super) fn give_back(&self, mut chain: Chain) {
        let mut free = self.lock();
        self.used.fetch_sub(chain.held(), Ordering::Relaxed);
        while let Some(mut block) = chain.pop() {
            block.len = 0;
            free.by_class[class_of(block.data.len())].push(block);
        }
        drop(free);
        if self.waiting.load(Ordering::Relaxed) > 0 && self.has_room() {
            self.returned.notify_all();
        }
    }

    /// Waits until some blocks are free, but not for long: another shard may have them all, and only the caller can
    /// tell whether that shard has to be waited for.
    pub(super) fn wait(&self) {
        let free = self.lock();
        // Seen by whoever takes the lock next to give blocks back.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if !self.has_room() {
            let wait = self.returned.wait_timeout(free, Duration::from_millis(10));
            drop(wait.unwrap_or_else(PoisonError::into_inner));
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the writers have so much to do that whoever can wait should: memory that they have used before is several
    /// times as fast as more of it.
    pub(super) fn is_behind(&self) -> bool {
        self.writing.load(Ordering::Relaxed) > self.in_flight
    }

    /// Whether there is so little left, and so little on its way back, that something should be handed over.
    pub(super) fn is_short(&self) -> bool {
        let (used, writing) = (self.used(), self.writing.load(Ordering::Relaxed));
        self.limit.saturating_sub(used) < self.limit / 4 && writing < self.limit / 4
    }

    /// Whether a shard that waits should go on: not with just as much as it needs next, or it and the writer would take
    /// turns.
    fn has_room(&self) -> bool {
        self.used() <= self.limit - self.limit / 8 && self.writing.load(Ordering::Relaxed) <= self.in_flight / 2
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn high(&self) -> usize {
        self.high.load(Ordering::Relaxed)
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn take(&mut self, class: usize, limit: usize) -> Option<Box<Block>> {
        if let Some(block) = self.by_class.get_mut(class)?.pop() {
            return Some(block);
        }
        self.make_room(CLASSES.get(class)? + OVERHEAD, limit).then(|| allocate(class))
    }

    /// Adds so much to what there is, for which free blocks give way.
    fn make_room(&mut self, size: usize, limit: usize) -> bool {
        let mut excess = (self.allocated + size).saturating_sub(limit);
        for others in self.by_class.iter_mut().rev() {
            while excess > 0
                && let Some(block) = others.pop()
            {
                excess = excess.saturating_sub(block.size());
                self.allocated -= block.size();
            }
        }
        if excess == 0 {
            self.allocated += size;
        }
        excess == 0
    }
}

/// Enough for a writer to never be without work, and no more than caches may hold.
const IN_FLIGHT: usize = 8 << 20;

/// Octets in a block, by class. With what precedes them they are 64, 256, 1,024, 4,096 and 16,384 octets of memory, so
/// that a stream of ten octets costs a cache line; the largest is a round number for the disk instead.
pub(super) const CLASSES: [usize; 6] = [24, 216, 984, 4_056, 16_344, 65_536];
pub(super) const LARGEST: usize = CLASSES.len() - 1;

/// The fields before the data, and the word that malloc keeps before an allocation.
const OVERHEAD: usize = size_of::<Block<[u8; 0]>>() + 8;
const _: () = assert!(CLASSES[0] + OVERHEAD == 64 && CLASSES[0] >= SHORT);

/// The class whose blocks hold `octets`, or the largest.
pub(super) fn class_of(octets: usize) -> usize {
    CLASSES.iter().position(|&size| octets <= size).unwrap_or(LARGEST)
}

fn allocate(class: usize) -> Box<Block> {
    fn block<const N: usize>() -> Box<Block> {
        Box::new(Block { previous: Chain::default(), offset: 0, len: 0, held: 0, data: [0; N] })
    }
    match class {
        0 => block::<{ CLASSES[0] }>(),
        1 => block::<{ CLASSES[1] }>(),
        2 => block::<{ CLASSES[2] }>(),
        3 => block::<{ CLASSES[3] }>(),
        4 => block::<{ CLASSES[4] }>(),
        _ => block::<{ CLASSES[LARGEST] }>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_keeps_order_and_counts_memory() {
        let pool = Pool::new(0);
        let mut chain = Chain::default();
        for (class, bytes) in [b"one".as_slice(), b"two".as_slice(), b"three".as_slice()].into_iter().enumerate() {
            let mut block = pool.take(class, class as u64).unwrap();
            assert_eq!(block.fill(bytes), bytes.len());
            chain.push(block);
        }
        assert_eq!(chain.held(), 64 + 256 + 1_024);
        assert_eq!(pool.used(), chain.held());
        assert_eq!(chain.octets(), 11);
        let mut chain = chain.reverse();
        let mut seen = Vec::new();
        while let Some(block) = chain.pop() {
            seen.push((block.offset, block.bytes().to_vec()));
        }
        assert_eq!(seen, [(0, b"one".to_vec()), (1, b"two".to_vec()), (2, b"three".to_vec())]);
    }

    #[test]
    fn pool_has_a_limit_and_sizes_give_way() {
        let pool = Pool::new(0);
        let mut small = Chain::default();
        while let Some(block) = pool.take(0, 0) {
            small.push(block);
        }
        assert_eq!(pool.used(), Pool::MIN / 64 * 64);
        assert!(pool.take(LARGEST, 0).is_none());
        pool.give_back(small);
        assert_eq!(pool.used(), 0);
        let mut large = Chain::default();
        while let Some(block) = pool.take(LARGEST, 0) {
            large.push(block);
        }
        assert_eq!(pool.used(), Pool::MIN);
        assert_eq!(pool.high(), Pool::MIN);
        pool.give_back(large);
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.take(LARGEST, 9).unwrap().offset, 9);
    }
}
