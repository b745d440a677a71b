//! IP datagrams that arrive in fragments, IPv4's (RFC 791 section 3.2) and IPv6's (RFC 8200 section 4.5) alike.

use std::collections::BTreeMap;

use etherparse::IpNumber;

use super::{Reject, Rest};
use crate::{segment::Timestamp, steady::SteadyClock};

/// Datagrams of which something is still missing. A fragment costs the logarithm of how many there are, whatever their
/// order.
#[derive(Debug)]
pub(super) struct Fragments {
    config: Config,
    clock: SteadyClock,
    datagrams: BTreeMap<Key, Datagram>,
    /// Datagrams in the order in which they began, which is that in which they expire.
    order: BTreeMap<u64, Key>,
    /// Datagrams begun, ever.
    begun: u64,
    /// Nothing expires before.
    due: Timestamp,
    /// Octets as allocated.
    memory: usize,
    stats: Stats,
}

/// What fragments may cost.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Datagrams at a time; beyond it the oldest gives way.
    pub max_datagrams: usize,
    /// Octets as allocated; beyond it the oldest datagrams give way.
    pub max_memory: usize,
    /// Nanoseconds from a datagram's first fragment, in whatever order they come, until it is given up.
    pub timeout: u64,
}

impl Default for Config {
    fn default() -> Self {
        // RFC 791 says 15 s at least, RFC 8200 60 s at most; Linux waits for 30 (`ipfrag_time`).
        Self { max_datagrams: 16_384, max_memory: 32 << 20, timeout: 30_000_000_000 }
    }
}

/// What became of the frames that held fragments, except for those that completed a datagram: these count as what was in
/// it. Frames that are refused as fragments = the sum of these.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Stats {
    /// In datagrams that were completed.
    pub joined: u64,
    /// Of octets that were there already, with the same values.
    pub duplicate: u64,
    /// In datagrams with fragments that contradict each other.
    pub overlapping: u64,
    /// In datagrams of which something was missing when their time was over.
    pub timeout: u64,
    /// In datagrams that gave way at a limit.
    pub limit: u64,
    /// Still waiting at the end.
    pub unfinished: u64,
}

/// Which datagram a fragment belongs to. A VLAN or a tunnel is no part of it, as it is none of a connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) src: [u64; 2],
    pub(super) dst: [u64; 2],
    pub(super) id: u32,
    /// Of IPv4 only: IPv6 has no such number in all fragments.
    pub(super) protocol: Option<u8>,
}

/// Which part of its datagram a fragment is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Identification of the datagram.
    pub(super) id: u32,
    pub(super) offset: u16,
    /// More fragments follow.
    pub(super) more: bool,
    /// Octets that precede the fragmentable part in the packet that is put together.
    pub(super) before: u16,
    /// What the fragmentable part begins with.
    pub(super) next: IpNumber,
}

/// A datagram put together: what was in the IP packet.
pub(super) struct Whole {
    pub(super) next: IpNumber,
    pub(super) bytes: Vec<u8>,
    /// Octets that were on the wire; more than `bytes` when the capture cut a fragment.
    pub(super) wire: usize,
}

impl Fragments {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            clock: SteadyClock::default(),
            datagrams: BTreeMap::new(),
            order: BTreeMap::new(),
            begun: 0,
            due: Timestamp::default(),
            memory: 0,
            stats: Stats::default(),
        }
    }

    /// Takes a fragment in; the last one that was missing gives the whole. [`Reject::Fragment`] means that the frame is
    /// one of those in [`Stats`].
    pub(super) fn insert(&mut self, now: Timestamp, key: Key, part: Part, rest: Rest<'_>) -> Result<Whole, Reject> {
        // RFC 8200 section 4.5: such a fragment is discarded, and says nothing about the others.
        let end = usize::from(part.offset) + rest.wire;
        let aligned = !part.more || rest.wire.is_multiple_of(8);
        if !aligned || rest.wire == 0 || usize::from(part.before) + end > usize::from(u16::MAX) {
            return Err(Reject::Malformed);
        }
        self.advance(now);
        if !self.datagrams.contains_key(&key) {
            self.begin(key);
        }
        let Some(datagram) = self.datagrams.get_mut(&key) else { return Err(Reject::Fragment) };
        let memory = datagram.memory();
        match datagram.insert(part, rest) {
            Inserted::Waiting => {}
            Inserted::Duplicate => self.stats.duplicate += 1,
            Inserted::Overlap(frames) => self.stats.overlapping += frames,
        }
        self.memory = self.memory - memory + datagram.memory();
        if datagram.is_complete()
            && let Some(datagram) = self.remove(&key)
        {
            // The frame at hand is one of them, and counts as what is in the datagram.
            self.stats.joined += datagram.pieces.len() as u64 - 1;
            return datagram.join().ok_or(Reject::Malformed);
        }
        while self.memory > self.config.max_memory && self.give_way() {}
        Err(Reject::Fragment)
    }

    /// Lets time pass, by the clock of the frames.
    #[inline]
    pub(super) fn advance(&mut self, now: Timestamp) {
        self.clock.advance(now, STEP);
        if !self.datagrams.is_empty() && self.clock.now() >= self.due {
            self.expire();
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let unfinished = self.datagrams.values().map(|datagram| datagram.pieces.len() as u64).sum();
        Stats { unfinished, ..self.stats }
    }

    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    fn begin(&mut self, key: Key) {
        while self.datagrams.len() >= self.config.max_datagrams.max(1) && self.give_way() {}
        let number = self.begun;
        self.begun += 1;
        let datagram = Datagram { number, expires: self.clock.now().after(self.config.timeout), ..Datagram::default() };
        self.memory += datagram.memory();
        self.order.insert(number, key);
        self.datagrams.insert(key, datagram);
    }

    /// At a limit, the oldest datagram gives way, if there is one.
    fn give_way(&mut self) -> bool {
        let oldest = self.oldest().and_then(|(key, _)| self.remove(&key));
        self.stats.limit += oldest.as_ref().map_or(0, |datagram| datagram.pieces.len() as u64);
        oldest.is_some()
    }

    fn expire(&mut self) {
        while let Some((key, expires)) = self.oldest() {
            self.due = expires;
            if expires > self.clock.now() {
                break;
            }
            self.stats.timeout += self.remove(&key).map_or(0, |datagram| datagram.pieces.len() as u64);
        }
    }

    fn oldest(&self) -> Option<(Key, Timestamp)> {
        let key = *self.order.first_key_value()?.1;
        Some((key, self.datagrams.get(&key)?.expires))
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.order.remove(&datagram.number);
        self.memory -= datagram.memory();
        Some(datagram)
    }
}

impl Stats {
    pub fn merge(&mut self, other: &Self) {
        let Self { joined, duplicate, overlapping, timeout, limit, unfinished } = other;
        self.joined += joined;
        self.duplicate += duplicate;
        self.overlapping += overlapping;
        self.timeout += timeout;
        self.limit += limit;
        self.unfinished += unfinished;
    }
}

/// One datagram of which something is missing.
#[derive(Debug, Default)]
struct Datagram {
    number: u64,
    expires: Timestamp,
    /// By offset; none overlaps another.
    pieces: BTreeMap<u16, Piece>,
    /// Octets in the pieces, as on the wire.
    held: usize,
    /// Octets allocated for the pieces.
    memory: usize,
    /// Where the last fragment ends, once it is there.
    len: Option<usize>,
    /// Fragments contradicted each other: whatever comes until the datagram expires is part of that.
    dropped: bool,
}

#[derive(Debug)]
struct Piece {
    bytes: Box<[u8]>,
    /// As on the wire.
    len: usize,
    next: IpNumber,
}

/// What [`Datagram::insert`] did with a fragment.
enum Inserted {
    Waiting,
    Duplicate,
    /// The datagram is lost, and with it so many frames.
    Overlap(u64),
}

impl Datagram {
    fn insert(&mut self, part: Part, rest: Rest<'_>) -> Inserted {
        if self.dropped {
            return Inserted::Overlap(1);
        }
        let (start, end) = (usize::from(part.offset), usize::from(part.offset) + rest.wire);
        if let Some(piece) = self.pieces.get(&part.offset)
            && piece.len == rest.wire
            && part.more == (self.len != Some(end))
            // As far as both were captured.
            && piece.bytes.iter().zip(rest.bytes).all(|(a, b)| a == b)
        {
            return Inserted::Duplicate;
        }
        let before = self.pieces.range(..=part.offset).next_back();
        let after = self.pieces.range(part.offset..).next();
        let overlaps = before.is_some_and(|(&offset, piece)| usize::from(offset) + piece.len > start)
            || after.is_some_and(|(&offset, _)| usize::from(offset) < end);
        // Two ends, or octets behind the end.
        let reach = self.pieces.last_key_value().map_or(0, |(&offset, piece)| usize::from(offset) + piece.len);
        let contradicts = if part.more {
            self.len.is_some_and(|len| end > len)
        } else {
            self.len.is_some_and(|len| len != end) || reach > end
        };
        if overlaps || contradicts {
            // RFC 5722 section 4, and RFC 8200 section 4.5: all of it is dropped, and what is still to come of it. An
            // overlap has no honest cause in IPv4 either.
            let frames = self.pieces.len() as u64 + 1;
            self.pieces.clear();
            (self.held, self.memory, self.dropped) = (0, 0, true);
            return Inserted::Overlap(frames);
        }
        if !part.more {
            self.len = Some(end);
        }
        self.held += rest.wire;
        self.memory += PIECE + rest.bytes.len().max(LEAST);
        self.pieces.insert(part.offset, Piece { bytes: rest.bytes.into(), len: rest.wire, next: part.next });
        Inserted::Waiting
    }

    fn is_complete(&self) -> bool {
        self.len == Some(self.held)
    }

    /// What was captured up to the first octet that was not. What a capture cut off a fragment lies in the middle of the
    /// datagram; a segment says only how much is missing at its end, and one frame yields one segment, so what stands
    /// behind the cut counts as cut off, too: less is delivered than could be, and nothing at the wrong place.
    fn join(self) -> Option<Whole> {
        let next = self.pieces.first_key_value()?.1.next;
        let mut bytes = Vec::with_capacity(self.held);
        for piece in self.pieces.values() {
            bytes.extend_from_slice(&piece.bytes);
            if piece.bytes.len() < piece.len {
                break;
            }
        }
        Some(Whole { next, bytes, wire: self.held })
    }

    fn memory(&self) -> usize {
        DATAGRAM + self.memory
    }
}

/// An hour, in nanoseconds: a step of more is no time that passed, as in reassembly.
const STEP: u64 = 3_600_000_000_000;

/// What a datagram costs beside its pieces, and a piece beside its octets: the entries, and as much again for the nodes of
/// the trees, which may be half empty.
const DATAGRAM: usize = 2 * (2 * size_of::<Key>() + size_of::<Datagram>() + size_of::<u64>());
const PIECE: usize = 2 * (size_of::<u16>() + size_of::<Piece>());

/// Least that an allocation is counted as.
const LEAST: usize = 32;
