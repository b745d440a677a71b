//! What hostile traffic may cost, in memory and in honest connections beside it; and what usual traffic must not cost: an
//! allocation.

mod allocator;
mod bed;
mod connections;
mod forgeries;
mod fragments;
mod memory;
mod queues;
mod steady;

use allocator::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
