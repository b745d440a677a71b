//! Frames seen a moment ago.

use super::{event::Direction, table::mix};
use crate::segment::{Segment, Timestamp};

/// Tells a frame that was captured twice, by two interfaces or a mirror port, from a retransmission: a copy follows
/// within 10 ms and has the IP identification of the first, while a sender counts that up. What has none, or 0 for being
/// atomic (RFC 6864 section 4.1), is never taken for a copy.
///
/// So many recent frames are known, in sets by hash. Where a set is full, one is forgotten, and its copy counts as
/// retransmitted.
pub(super) struct Twins {
    sets: Box<[Set; SETS]>,
}

/// A line of the cache.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Recent; 8]);

#[derive(Clone, Copy, Default)]
struct Recent {
    print: u32,
    /// In units of 1,024 ns, modulo 73 minutes.
    time: u32,
}

/// 64 KiB, which stay in the second-level cache: 8,192 frames. 10 ms at half a million frames a second are 5,000.
const SETS: usize = 1_024;
const WITHIN: u32 = 10_000_000 >> 10;

impl Twins {
    /// Whether this segment of a connection has just been seen; it has now.
    #[inline]
    pub(super) fn is_twin(&mut self, serial: u64, direction: Direction, segment: &Segment<'_>, now: Timestamp) -> bool {
        let Some(id) = segment.ip_id.filter(|&id| id != 0) else { return false };
        let len = segment.payload.len() as u64 + u64::from(segment.missing);
        let sender = serial << 9 | u64::from(segment.flags.0) << 1 | direction as u64;
        let place = u64::from(segment.seq.0) << 32 | (len & 0xffff) << 16 | u64::from(id);
        let print = mix(mix(sender) ^ place);
        // The upper bits are the best.
        let Set(recent) = &mut self.sets[(print >> 48) as usize % SETS];
        let seen = Recent { print: (print >> 16) as u32, time: (now.0 >> 10) as u32 };
        let is_fresh = |known: &Recent| seen.time.wrapping_sub(known.time) <= WITHIN;
        let twin = recent.iter().position(|known| known.print == seen.print && is_fresh(known));
        let place = twin.or_else(|| recent.iter().position(|known| !is_fresh(known))).unwrap_or(0);
        recent[place] = seen;
        twin.is_some()
    }
}

impl Default for Twins {
    fn default() -> Self {
        Self { sets: Box::new([Set::default(); SETS]) }
    }
}
