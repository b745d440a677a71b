//! A global allocator that counts, for each thread apart, so that what runs beside a test does not disturb it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, and what the current thread has asked of it.
pub(crate) struct Counting;

/// What a piece of code has asked for. Octets as asked for, without what malloc keeps beside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Calls that returned memory, be it new or moved.
    pub(crate) allocations: u64,
    /// More octets than before, at the worst moment and at the end.
    pub(crate) peak: u64,
    pub(crate) kept: u64,
}

/// Runs something on this thread and says what memory it took.
pub(crate) fn measure<T>(run: impl FnOnce() -> T) -> (T, Usage) {
    let before = COUNT.get();
    COUNT.set(Count { peak: before.current, ..before });
    let result = run();
    let after = COUNT.get();
    let more = |octets: i64| u64::try_from(octets - before.current).unwrap_or(0);
    let usage = Usage {
        allocations: after.allocations - before.allocations,
        peak: more(after.peak),
        kept: more(after.current),
    };
    (result, usage)
}

#[derive(Clone, Copy)]
struct Count {
    allocations: u64,
    /// Below zero where a thread frees what others allocated.
    current: i64,
    peak: i64,
}

thread_local! {
    /// Has no destructor and is made at compile time, so that the allocator may use it at any moment of a thread's life.
    static COUNT: Cell<Count> = const { Cell::new(Count { allocations: 0, current: 0, peak: 0 }) };
}

fn count(allocations: u64, octets: i64) {
    let mut count = COUNT.get();
    count.allocations += allocations;
    count.current += octets;
    count.peak = count.peak.max(count.current);
    COUNT.set(count);
}

// SAFETY: every call is handed on to the system's allocator as it came, and `count` neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// What grows is counted once: the kernel moves what is large page by page, and never keeps two of it.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
