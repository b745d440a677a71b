//! What the kernel keeps about one ring, beside its records.

use bytemuck::{Pod, Zeroable};

/// Most rings, and so shards, of one capture.
pub const RINGS_MAX: usize = 64;

/// A slot behind those of the shards, see `Kernel::set_filter`.
pub const BARRIER: u32 = RINGS_MAX as u32;

/// Written by the programs of all processors.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RingStats {
    /// Records that the ring had no room for, ever.
    pub refused: u64,
    /// Highest number of unread octets seen in the ring. Two processors may race for it, so it is a hint.
    pub level_max: u64,
}

#[cfg(feature = "user")]
// SAFETY: `RingStats` is `bytemuck::Pod`, which is the stricter of the two.
unsafe impl aya::Pod for RingStats {}
