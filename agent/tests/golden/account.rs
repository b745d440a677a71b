//! Holds what a run left behind against what the endpoints said.

use std::{collections::BTreeSet, ops::Range};

use serde_json::Value;

use crate::{
    file::SECOND,
    frame::{ACK, FIN, Frame},
    outcome::Outcome,
    recording::{Conversation, Said},
};

/// All of these conversations were replayed, from handshake to FIN and with every octet, and nothing else was written.
pub(crate) fn assert_complete<'a>(outcome: &Outcome, conversations: impl IntoIterator<Item = &'a Conversation>) {
    assert_octets(outcome, conversations);
    for record in &outcome.closed {
        assert_eq!((&record["started"], &record["ended"]), (&"handshake".into(), &"fin".into()), "{record}");
    }
}

/// The same, however they began and ended.
pub(crate) fn assert_octets<'a>(outcome: &Outcome, conversations: impl IntoIterator<Item = &'a Conversation>) {
    assert_fine(outcome);
    let mut files = BTreeSet::new();
    let mut expected = 0;
    for conversation in conversations {
        let record = record(outcome, conversation);
        for (direction, said) in conversation.said.iter().enumerate() {
            let stream = &record[NAMES[direction]];
            assert_eq!(stream["bytes"], said.octets.len(), "{record}");
            assert_eq!((&stream["conflict"], &stream["late"]), (&0.into(), &0.into()), "{record}");
            assert_eq!(gaps(stream), [], "{record}");
            assert_eq!(stream["gap_totals"], Value::Object(Default::default()), "{record}");
            assert_same(content(outcome, stream), &said.octets, record);
            files.extend(stream["file"].as_str());
        }
        expected += 1;
    }
    assert_eq!(outcome.closed.len(), expected, "a record of no conversation");
    assert!(outcome.files.keys().map(String::as_str).eq(files), "files: {:?}", outcome.files.keys());
}

/// One direction lies in one file, whoever was taken for the client and whenever it was taken to have begun.
pub(crate) fn assert_file(outcome: &Outcome, conversation: &Conversation, direction: usize) {
    let said = &conversation.said[direction].octets;
    let (src, dst) = conversation.ends(direction);
    let ends = format!("-{}.{}-{}.{}", src.ip(), src.port(), dst.ip(), dst.port());
    let found: Vec<_> = outcome.files.iter().filter(|(name, _)| name.ends_with(&ends)).collect();
    match found[..] {
        [(name, content)] => assert!(content == said, "{name} has other octets"),
        [] => assert!(said.is_empty(), "no file {ends}"),
        _ => panic!("{} files {ends}", found.len()),
    }
}

/// The run ended well, with nothing to complain of.
pub(crate) fn assert_fine(outcome: &Outcome) {
    assert_eq!((outcome.status, outcome.complaints()), (0, vec![]), "{}", outcome.stderr);
}

/// The only record of a conversation.
pub(crate) fn record<'a>(outcome: &'a Outcome, conversation: &Conversation) -> &'a Value {
    let ends = [("client", conversation.client), ("server", conversation.server)];
    let is_ours = |record: &&Value| {
        ends.iter().all(|(side, end)| {
            record[side]["ip"] == end.ip().to_string().as_str() && record[side]["port"] == end.port()
        })
    };
    let found: Vec<_> = outcome.closed.iter().filter(is_ours).collect();
    let [record] = found.as_slice() else {
        panic!("{} records of {} > {}: {found:#?}", found.len(), conversation.client, conversation.server)
    };
    record
}

/// When a conversation began, as a record has it.
pub(crate) fn start(conversation: &Conversation) -> String {
    let (hour, minute, second, nanosecond) = time_of_day(conversation.start);
    format!("{DAY}T{hour:02}:{minute:02}:{second:02}.{nanosecond:09}Z")
}

/// Where `--names time` puts a direction.
pub(crate) fn path(conversation: &Conversation, direction: usize) -> String {
    let (src, dst) = conversation.ends(direction);
    let (hour, minute, second, nanosecond) = time_of_day(conversation.start);
    let ends = format!("{}.{}-{}.{}", src.ip(), src.port(), dst.ip(), dst.port());
    format!("{DAY}/{hour:02}{minute:02}/{hour:02}{minute:02}{second:02}.{nanosecond:09}-{ends}")
}

/// What stands in a file where octets are missing.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Gaps {
    /// Zeros, written or not.
    Kept,
    Skipped,
}

/// What is to be expected when only these frames were seen, of each only the first octets. The SYNs must be among them:
/// they say where streams begin.
pub(crate) struct Seen<'a> {
    pub frames: &'a [Frame],
    pub snaplen: usize,
}

impl<'a> Seen<'a> {
    pub(crate) fn whole(frames: &'a [Frame]) -> Self {
        Self { frames, snaplen: usize::MAX }
    }

    /// Every octet that was not seen is in a gap, and every other one in its place. Returns how many are missing.
    pub(crate) fn assert_accounted(&self, outcome: &Outcome, conversations: &[Conversation], gaps_are: Gaps) -> usize {
        let mut missing = 0;
        for conversation in conversations {
            let record = record(outcome, conversation);
            for (direction, said) in conversation.said.iter().enumerate() {
                let stream = &record[NAMES[direction]];
                let (seen, len) = self.of(conversation, direction);
                let holes = holes(&seen[..len]);
                assert_eq!(gaps(stream), holes, "{} of {record}", NAMES[direction]);
                let delivered = seen.iter().filter(|seen| **seen).count();
                assert_eq!(stream["bytes"], delivered, "{record}");

                let is_there = |(octet, seen): (&u8, &bool)| match (seen, gaps_are) {
                    (true, _) => Some(*octet),
                    (false, Gaps::Kept) => Some(0),
                    (false, Gaps::Skipped) => None,
                };
                let trailing = stream["trailing_gap"]["len"].as_u64().unwrap_or(0) as usize;
                let in_file = if delivered == 0 { 0 } else { len - trailing };
                let expected: Vec<u8> = said.octets[..in_file].iter().zip(&seen).filter_map(is_there).collect();
                assert_same(content(outcome, stream), &expected, record);
                missing += holes.iter().map(Range::len).sum::<usize>();
            }
        }
        missing
    }

    /// Which octets of a stream were seen, and how many there are as far as these frames tell.
    fn of(&self, conversation: &Conversation, direction: usize) -> (Vec<bool>, usize) {
        let Said { first, octets } = &conversation.said[direction];
        let mut seen = vec![false; octets.len()];
        let (mut end, mut acknowledged) = (0, 0);
        for frame in self.frames {
            let tcp = frame.tcp();
            match conversation.direction(frame) {
                Some(sender) if sender == direction => {
                    // That of a SYN is one less, and it has no payload here.
                    let offset = tcp.seq.wrapping_sub(*first) as usize;
                    let captured = self.snaplen.saturating_sub(frame.payload_at()).min(tcp.payload.len());
                    if !tcp.payload.is_empty() {
                        seen[offset..offset + captured].fill(true);
                        end = end.max(offset + tcp.payload.len());
                    }
                    if tcp.flags & FIN != 0 {
                        end = octets.len();
                    }
                }
                // One octet may be the FIN that was not seen.
                Some(_) if tcp.flags & ACK != 0 => {
                    acknowledged = acknowledged.max((tcp.ack.wrapping_sub(*first) as usize).saturating_sub(1));
                }
                _ => {}
            }
        }
        (seen, end.max(acknowledged))
    }
}

/// Gaps of a stream in a record, the trailing one included; touching ones of different causes as one.
fn gaps(stream: &Value) -> Vec<Range<usize>> {
    let listed = stream["gaps"].as_array().unwrap();
    assert!(listed.len() < LISTED, "some gaps may not be listed");
    let range = |gap: &Value| {
        let [offset, len] = ["offset", "len"].map(|field| gap[field].as_u64().unwrap() as usize);
        offset..offset + len
    };
    let total: usize = listed.iter().map(|gap| range(gap).len()).sum();
    let totals: u64 = stream["gap_totals"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(total as u64, totals, "{stream}");
    let trailing = Some(&stream["trailing_gap"]).filter(|gap| !gap.is_null());
    let mut gaps: Vec<Range<usize>> = Vec::new();
    for gap in listed.iter().chain(trailing).map(range) {
        match gaps.last_mut() {
            Some(last) if last.end == gap.start => last.end = gap.end,
            _ => gaps.push(gap),
        }
    }
    gaps
}

/// Runs of octets that were not seen.
fn holes(seen: &[bool]) -> Vec<Range<usize>> {
    let mut at = 0;
    let runs = seen.chunk_by(|a, b| a == b).map(|run| {
        at += run.len();
        (run[0], at - run.len()..at)
    });
    runs.filter(|(seen, _)| !seen).map(|(_, run)| run).collect()
}

/// Octets of a stream's file, none where it has no file.
fn content<'a>(outcome: &'a Outcome, stream: &Value) -> &'a [u8] {
    let Some(file) = stream["file"].as_str() else { return &[] };
    let content = outcome.files.get(file).unwrap_or_else(|| panic!("{file} is not there"));
    assert!(!content.is_empty(), "{file} is empty");
    content
}

/// As `assert_eq!`, for octets nobody wants to see in full.
fn assert_same(found: &[u8], said: &[u8], record: &Value) {
    if found != said {
        let first = found.iter().zip(said).position(|(a, b)| a != b).unwrap_or_else(|| found.len().min(said.len()));
        panic!("{} octets, expected {}, the first difference at {first}: {record}", found.len(), said.len());
    }
}

fn time_of_day(at: u64) -> (u64, u64, u64, u64) {
    let seconds = (at / SECOND).checked_sub(MIDNIGHT).filter(|seconds| *seconds < 86_400);
    let seconds = seconds.unwrap_or_else(|| panic!("{at} is not on {DAY}, where the recording was made"));
    (seconds / 3_600, seconds / 60 % 60, seconds % 60, at % SECOND)
}

pub(crate) const NAMES: [&str; 2] = ["c2s", "s2c"];

/// Day of the recording, and where it begins in seconds since the epoch (date --utc -d 2026-11-20 +%s).
const DAY: &str = "2026-11-20";
const MIDNIGHT: u64 = 1_795_132_800;

/// Gaps that a record lists one by one.
const LISTED: usize = 256;
