//! One connection, from its SYN to its end.

use std::{collections::VecDeque, net::SocketAddrV4, ops::Range};

use anyhow::Result;

use super::{
    content::Content,
    manifest::Manifest,
    pcap::{ACK, FIN, MSS, PSH, Pcap, SYN, Segment},
};
use crate::random::{self, Random};

/// Client and server, what they say, and the segments in which they say it.
pub(super) struct Conversation {
    ends: [SocketAddrV4; 2],
    isns: [u32; 2],
    contents: [Content; 2],
    script: VecDeque<Step>,
    /// When its SYN was captured, in nanoseconds.
    start: u64,
    /// Of a million segments of full size, how many are not captured.
    loss: u64,
}

/// A segment by `from`, 0 or 1. Positions are counted from the SYN, which is at 0.
struct Step {
    from: usize,
    flags: u8,
    at: u64,
    ack: u64,
    payload: u64,
}

impl Conversation {
    pub(super) fn new(ends: [SocketAddrV4; 2], isns: [u32; 2]) -> Self {
        Self { ends, isns, contents: Default::default(), script: VecDeque::new(), start: 0, loss: 0 }
    }

    /// Loses so many of a million segments of full size before they are captured. The peer has them.
    pub(super) fn losing(self, loss: u64) -> Self {
        Self { loss, ..self }
    }

    /// A request, its response, and the server closes.
    pub(super) fn exchange(mut self, request: Content, response: Content) -> Self {
        let [asked, answered] = [request.len + 1, response.len + 1];
        self.contents = [request, response];
        self.open();
        self.step(0, PSH | ACK, 1, 1, asked - 1);
        self.step(1, ACK, 1, asked, 0);
        for (number, from) in (1..answered).step_by(MSS as usize).enumerate() {
            let to = answered.min(from + MSS);
            self.step(1, if to == answered { PSH | ACK } else { ACK }, from, asked, to - from);
            if number % 2 == 1 || to == answered {
                self.step(0, ACK, asked, to, 0);
            }
        }
        self.close(1);
        self
    }

    /// Both speak at once. What they say is delayed, comes twice, and overlaps; each copy of an octet is the same.
    pub(super) fn quarrel(mut self, contents: [Content; 2], random: &mut Random) -> Self {
        self.contents = contents;
        self.open();
        // Segments by the place in which they would come, had nothing happened to them.
        let mut segments: Vec<(u64, usize, Range<u64>)> = Vec::new();
        for (from, content) in self.contents.iter().enumerate() {
            let (mut at, mut place) = (0, 0);
            while at < content.len {
                let to = content.len.min(at + 1 + random.below(MSS));
                let delay = if random.below(5) == 0 { random.below(DELAY) } else { 0 };
                segments.push((place + delay, from, at..to));
                if random.below(10) == 0 {
                    segments.push((place + random.below(2 * DELAY), from, at..to));
                }
                if random.below(10) == 0 {
                    // A retransmission is cut where its sender likes.
                    let (low, high) = (at.saturating_sub(random.below(MSS / 2)), to);
                    segments.push((place + random.below(2 * DELAY), from, low..high.min(low + MSS)));
                }
                (at, place) = (to, place + 1);
            }
        }
        segments.sort_by_key(|(place, from, part)| (*place, *from, part.start));
        let mut arrived: [Vec<Range<u64>>; 2] = Default::default();
        let mut edges = [0; 2];
        for (number, (_, from, part)) in segments.into_iter().enumerate() {
            let peer = 1 - from;
            self.step(from, PSH | ACK, 1 + part.start, 1 + edges[peer], part.end - part.start);
            arrived[from].push(part);
            // What the peer has in order, as it acknowledges it.
            let edge = &mut edges[from];
            while let Some(next) = arrived[from].iter().position(|part| part.start <= *edge) {
                *edge = (*edge).max(arrived[from].swap_remove(next).end);
            }
            if number % 3 == 0 {
                let (at, ack) = (1 + edges[peer], 1 + edges[from]);
                self.step(peer, ACK, at, ack, 0);
            }
        }
        self.close(0);
        self
    }

    pub(super) fn ends(&self) -> [SocketAddrV4; 2] {
        self.ends
    }

    /// Writes the next segment; whether there is another one.
    pub(super) fn write(&mut self, pcap: &mut Pcap, manifest: &mut Manifest, octets: &mut Vec<u8>) -> Result<bool> {
        let Some(step) = self.script.pop_front() else { return Ok(false) };
        let (from, to) = (step.from, 1 - step.from);
        if step.flags & SYN != 0 && from == 0 {
            self.start = pcap.time();
            for side in [0, 1] {
                manifest.add(self.ends[side], self.ends[1 - side], pcap.time(), &self.contents[side]);
            }
        }
        let offset = step.at.saturating_sub(1);
        self.contents[from].read(offset..offset + step.payload, octets);
        // The first one is there, so that a stream is, too.
        let is_lost = random::word(self.start, offset) % 1_000_000 < self.loss;
        if is_lost && offset > 0 && step.payload == MSS {
            manifest.lose(self.ends[from], self.ends[to], self.start, offset, octets);
            pcap.miss(FRAME_TIME);
            return Ok(true);
        }
        let place = |side: usize, at: u64| self.isns[side].wrapping_add(at as u32);
        let segment = Segment {
            src: self.ends[from],
            dst: self.ends[to],
            seq: place(from, step.at),
            ack: if step.flags & ACK == 0 { 0 } else { place(to, step.ack) },
            flags: step.flags,
            payload: octets,
        };
        pcap.write(&segment, FRAME_TIME)?;
        Ok(!self.script.is_empty())
    }

    fn open(&mut self) {
        self.step(0, SYN, 0, 0, 0);
        self.step(1, SYN | ACK, 0, 1, 0);
        self.step(0, ACK, 1, 1, 0);
    }

    fn close(&mut self, first: usize) {
        let ends = [0, 1].map(|side: usize| self.contents[side].len + 1);
        let (first, second) = ((first, ends[first]), (1 - first, ends[1 - first]));
        self.step(first.0, FIN | ACK, first.1, second.1, 0);
        self.step(second.0, FIN | ACK, second.1, first.1 + 1, 0);
        self.step(first.0, ACK, first.1 + 1, second.1 + 1, 0);
    }

    fn step(&mut self, from: usize, flags: u8, at: u64, ack: u64, payload: u64) {
        self.script.push_back(Step { from, flags, at, ack, payload });
    }
}

/// Microseconds from frame to frame.
const FRAME_TIME: u64 = 5;
/// Segments by which one is late at most: less than a window of them.
const DELAY: u64 = 16;
