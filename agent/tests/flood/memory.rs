//! What the README says that the core allocates at most, as a sum.

use agent::reassembly::Config;

use crate::allocator::Usage;

/// Octets for `irregular` streams that are not, or were not always, in order, of which each has `gaps` to remember.
#[track_caller]
pub(crate) fn check(usage: Usage, config: &Config, irregular: u64, gaps: u64) {
    // Tables double as they grow.
    let connections = u64::from(config.max_connections).next_power_of_two();
    let remembered = 2 * u64::from(config.max_linger).next_power_of_two();
    let stated = connections * CONNECTION
        + remembered * REMEMBERED
        + config.max_total_queue * QUEUED
        + irregular * (IRREGULAR + gaps.next_power_of_two() * GAP)
        + FIXED;
    assert!(usage.peak <= stated, "{usage:?}, and {stated} octets are stated");
    assert_eq!(usage.kept, 0);
}

/// The connection itself, and its places in tables.
const CONNECTION: u64 = 304;
const REMEMBERED: u64 = 160;
/// A piece of 128 octets is charged 128, and has a place in a tree and an allocation of its own beside them.
const QUEUED: u64 = 2;
const IRREGULAR: u64 = 1_024;
const GAP: u64 = 32;
/// The timing wheel, the frames that may come twice, and tables at their least.
const FIXED: u64 = 160 << 10;
