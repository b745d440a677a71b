//! What both halves of xdpflow share, and only that. No allocation, no standard library: the same code runs in the
//! kernel and in the tests on the host.
#![cfg_attr(not(test), no_std)]

pub mod counter;
pub mod filter;
pub mod flow;
pub mod frame;
pub mod head;
pub mod ring;
pub mod shard;
pub mod tunnel;
