//! Packets that the tap sees in IP fragments, and which of those make a whole (row 22).

use std::collections::HashMap;

use crate::{
    network::Record,
    packet::{Kind, Packet},
    plan::SECOND,
    rng::Rng,
    scenario::{Ids, Scenario},
    wire::Wire,
};

/// Which part of its packet a frame holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    /// Number of its datagram.
    pub(crate) datagram: u32,
    /// Octets behind the IP header.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) of: usize,
    /// With it all of the packet is there.
    pub(crate) completes: bool,
}

/// What must have become of the frames that completed nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) joined: u64,
    pub(crate) duplicate: u64,
    pub(crate) overlapping: u64,
    /// Given up, or still waiting at the end.
    pub(crate) waiting: u64,
}

/// How long the fragments of a packet wait for each other.
const TIMEOUT: u64 = 30 * SECOND;

/// Splits some packets, in place.
pub(crate) fn split(scenario: &Scenario, rng: &mut Rng, records: &mut Vec<Record>) -> Tally {
    let Some(wire) = scenario.wire.filter(|_| scenario.tap.fragmented > 0) else { return Tally::default() };
    let mut copies: HashMap<Option<u16>, u32> = HashMap::new();
    for record in &*records {
        *copies.entry(record.packet.id).or_default() += 1;
    }
    let mut frames = Vec::new();
    let mut datagrams = 0;
    for record in records.drain(..) {
        let unique = scenario.ids != Ids::Counted || copies[&record.packet.id] == 1;
        if unique && may_be_split(&record.packet) && rng.rarely(scenario.tap.fragmented) {
            datagrams += 1;
            let mut record = record;
            if scenario.ids == Ids::Atomic {
                record.packet.id = Some(datagrams as u16);
            }
            frames.extend(fragments(&wire, scenario.tap.shuffle, &record, datagrams, rng));
        } else {
            frames.push(record);
        }
    }
    frames.sort_by_key(|frame| frame.time);
    *records = frames;
    join(records)
}

fn may_be_split(packet: &Packet) -> bool {
    packet.kind == Kind::Real && !packet.syn && !packet.rst && (16..60_000).contains(&packet.len)
}

/// The frames of one packet that are captured, each with its time.
fn fragments(wire: &Wire, shuffle: u64, record: &Record, datagram: u32, rng: &mut Rng) -> Vec<Record> {
    let of = wire.fragmentable(&record.packet);
    let units = (of / 8) as u64;
    let mut cuts: Vec<_> = (1..rng.between(2, 4)).map(|_| 8 * rng.between(1, units - 1) as usize).collect();
    cuts.extend([0, of]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut parts: Vec<_> = cuts.windows(2).map(|cut| (cut[0], cut[1], 0)).collect();
    if rng.chance(50) {
        for at in (1..parts.len()).rev() {
            parts.swap(at, rng.below(at as u64 + 1) as usize);
        }
    }
    let at = rng.below(parts.len() as u64) as usize;
    match rng.below(10) {
        0..2 => {
            parts.remove(at);
        }
        2 => parts[at].2 = TIMEOUT + rng.magnitude(SECOND, 60 * SECOND),
        3 => parts[at].2 = rng.below(shuffle + 1),
        // One that begins eight octets too early, and is not the whole.
        4 if parts[at].0 > 8 => {
            let (start, end, _) = parts[at];
            parts.insert(rng.below(parts.len() as u64 + 1) as usize, (start - 8, end, 0));
        }
        _ => {}
    }
    let mut frames = Vec::new();
    for (start, end, wait) in parts {
        let fragment = Some(Fragment { datagram, start, end, of, completes: false });
        let frame = Record { time: record.time + wait, fragment, ..*record };
        frames.extend(std::iter::repeat_n(frame, 1 + usize::from(rng.chance(10))));
    }
    frames
}

/// Finds the frames with which a packet is complete.
fn join(frames: &mut [Record]) -> Tally {
    struct Datagram {
        began: u64,
        parts: Vec<(usize, usize)>,
        dropped: bool,
    }
    let mut tally = Tally::default();
    let mut known: HashMap<u32, Datagram> = HashMap::new();
    for frame in frames {
        let (now, Some(fragment)) = (frame.time, &mut frame.fragment) else { continue };
        if let Some(old) = known.get(&fragment.datagram).filter(|old| now - old.began >= TIMEOUT) {
            tally.waiting += old.parts.len() as u64;
            known.remove(&fragment.datagram);
        }
        let begun = || Datagram { began: now, parts: Vec::new(), dropped: false };
        let datagram = known.entry(fragment.datagram).or_insert_with(begun);
        let (start, end) = (fragment.start, fragment.end);
        if datagram.dropped {
            tally.overlapping += 1;
        } else if datagram.parts.contains(&(start, end)) {
            tally.duplicate += 1;
        } else if datagram.parts.iter().any(|part| part.0 < end && start < part.1) {
            tally.overlapping += 1 + datagram.parts.len() as u64;
            datagram.parts.clear();
            datagram.dropped = true;
        } else {
            datagram.parts.push((start, end));
        }
        if datagram.parts.iter().map(|(start, end)| end - start).sum::<usize>() == fragment.of {
            tally.joined += datagram.parts.len() as u64 - 1;
            fragment.completes = true;
            known.remove(&fragment.datagram);
        }
    }
    tally.waiting += known.values().map(|datagram| datagram.parts.len() as u64).sum::<u64>();
    tally
}
