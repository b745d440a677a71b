//! The memory that stream octets wait in: blocks of six sizes from a pool of fixed size.

use std::mem;

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

/// Blocks that are free, and leave to make more. A size is as good as its neighbours: free blocks of one give way when
/// another is wanted.
pub(super) struct Pool {
    limit: usize,
    /// Memory of all blocks there are, of those that are free, and the most that was in use.
    allocated: usize,
    free: usize,
    high: usize,
    by_class: [Chain; CLASSES.len()],
}

impl Pool {
    /// At least [`Pool::MIN`].
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(Self::MIN), allocated: 0, free: 0, high: 0, by_class: Default::default() }
    }

    /// Sixteen of the largest block: with less, a few streams could not be read and written at the same time.
    pub(super) const MIN: usize = 16 * (CLASSES[LARGEST] + OVERHEAD);

    /// A block for data at `offset`, unless the pool is empty.
    pub(super) fn take(&mut self, class: usize, offset: u64) -> Option<Box<Block>> {
        let size = CLASSES.get(class)? + OVERHEAD;
        let block = match self.by_class.get_mut(class)?.pop() {
            Some(block) => {
                self.free -= size;
                Some(block)
            }
            None => {
                let mut others = self.by_class.iter_mut().rev();
                while self.allocated + size > self.limit
                    && let Some(other) = others.next()
                {
                    while self.allocated + size > self.limit
                        && let Some(block) = other.pop()
                    {
                        self.free -= block.size();
                        self.allocated -= block.size();
                    }
                }
                (self.allocated + size <= self.limit).then(|| {
                    self.allocated += size;
                    allocate(class)
                })
            }
        };
        self.high = self.high.max(self.used());
        block.map(|mut block| {
            block.offset = offset;
            block
        })
    }

    /// Takes back the blocks of `chain`.
    pub(super) fn give(&mut self, mut chain: Chain) {
        while let Some(mut block) = chain.pop() {
            self.free += block.size();
            block.len = 0;
            self.by_class[class_of(block.data.len())].push(block);
        }
    }

    pub(super) fn used(&self) -> usize {
        self.allocated - self.free
    }

    pub(super) fn high(&self) -> usize {
        self.high
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

/// Octets in a block, by class. With what precedes them they are 64, 256, 1,024, 4,096 and 16,384 octets of memory, so
/// that a stream of ten octets costs a cache line; the largest is a round number for the disk instead.
pub(super) const CLASSES: [usize; 6] = [24, 216, 984, 4_056, 16_344, 65_536];
pub(super) const LARGEST: usize = CLASSES.len() - 1;

/// The fields before the data, and the word that malloc keeps before an allocation.
const OVERHEAD: usize = size_of::<Block<[u8; 0]>>() + 8;
const _: () = assert!(CLASSES[0] + OVERHEAD == 64);

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
        let mut pool = Pool::new(0);
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
        let mut pool = Pool::new(0);
        let mut small = Chain::default();
        while let Some(block) = pool.take(0, 0) {
            small.push(block);
        }
        assert_eq!(pool.used(), Pool::MIN / 64 * 64);
        assert!(pool.take(LARGEST, 0).is_none());
        pool.give(small);
        assert_eq!(pool.used(), 0);
        let mut large = Chain::default();
        while let Some(block) = pool.take(LARGEST, 0) {
            large.push(block);
        }
        assert_eq!(pool.used(), Pool::MIN);
        assert_eq!(pool.high(), Pool::MIN);
        pool.give(large);
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.take(LARGEST, 9).unwrap().offset, 9);
    }
}
