//! What stands behind one ring: decoder, reassembler and sink, in that order, one frame at a time.

use agent_common::{filter::Filter, shard::ShardKey};

use crate::{
    decode::{Reject, decode},
    frame::Frame,
    reassembly::{self, Reassembler, Sink},
    segment::Timestamp,
    sink::{self, Directory},
};

/// The only path from a frame to a file, live or in replay.
pub struct Shard {
    filter: Filter,
    share: Option<Share>,
    reassembler: Reassembler,
    sink: Directory,
    frames: Frames,
    ticked: Timestamp,
}

/// The part of a capture file that a shard takes, since every shard reads all of it.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub key: ShardKey,
    pub shard: u32,
    pub shards: u32,
}

/// What became of every frame that was read. `read = segments + not_tcp + malformed + fragments + filtered + bad`, each
/// term counted at its own place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Frames {
    pub read: u64,
    /// Handed to the reassembler.
    pub segments: u64,
    pub not_tcp: u64,
    pub malformed: u64,
    /// IP fragments, which are not put together.
    pub fragments: u64,
    /// Refused by the filter when it was asked again with all of the headers at hand.
    pub filtered: u64,
    /// Records that are not what the kernel half writes.
    pub bad: u64,

    /// Payload octets in the segments.
    pub payload: u64,
    /// Frames that ended before their packet did: by the snaplen, on their way here or in the file.
    pub cut: u64,
    /// Segments whose IP header claims more than was on the wire.
    pub badlen: u64,
}

/// What a shard leaves behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub frames: Frames,
    pub reassembly: reassembly::Stats,
    pub sink: sink::Stats,
}

/// How often the sink looks at its clock, in nanoseconds of capture time.
const TICK: u64 = 10_000_000;

impl Shard {
    pub fn new(filter: Filter, share: Option<Share>, config: reassembly::Config, sink: Directory) -> Self {
        Self {
            filter,
            share,
            reassembler: Reassembler::new(config),
            sink,
            frames: Frames::default(),
            ticked: Timestamp::default(),
        }
    }

    pub fn handle_frame(&mut self, frame: &Frame<'_>) {
        if frame.timestamp.since(self.ticked) >= TICK || self.ticked > frame.timestamp {
            self.tick(frame.timestamp);
        }
        let frame = &self.cut(frame);
        let decoded = decode(frame);
        if !self.owns(&decoded) {
            return self.pass_time(frame.timestamp);
        }
        self.frames.read += 1;
        self.frames.cut += u64::from((frame.bytes.len() as u64) < u64::from(frame.len));
        match decoded {
            Ok(decoded) if self.filter.accepts(&decoded.segment.head()) => {
                self.frames.segments += 1;
                self.frames.badlen += u64::from(decoded.badlen);
                self.frames.payload += decoded.segment.payload.len() as u64;
                self.reassembler.handle_segment(&decoded.segment, &mut self.sink);
                return;
            }
            Ok(_) => self.frames.filtered += 1,
            Err(Reject::NotTcp) => self.frames.not_tcp += 1,
            Err(Reject::Fragment) => self.frames.fragments += 1,
            Err(Reject::Malformed) => self.frames.malformed += 1,
        }
        self.pass_time(frame.timestamp);
    }

    /// A record that could not be read.
    pub fn handle_bad_record(&mut self) {
        self.frames.read += 1;
        self.frames.bad += 1;
    }

    /// Lets time pass. `now` is the time up to which all frames have been handled.
    pub fn tick(&mut self, now: Timestamp) {
        self.ticked = now;
        self.reassembler.handle_timeout(now, &mut self.sink);
        self.sink.tick(now);
    }

    /// Delivers what is queued, closes what is open, writes what is in memory.
    pub fn finish(mut self) -> Totals {
        self.sink.source_ended();
        self.reassembler.finish(&mut self.sink);
        Totals { frames: self.frames, reassembly: *self.reassembler.stats(), sink: self.sink.finish() }
    }

    /// Frames that are not reassembled here are time as well, so that the number of shards makes no difference.
    fn pass_time(&mut self, now: Timestamp) {
        self.reassembler.handle_timeout(now, &mut self.sink);
    }

    /// The frame as far as the snaplen lets it through; of a live frame the kernel has seen to that.
    fn cut<'a>(&self, frame: &Frame<'a>) -> Frame<'a> {
        let snaplen = match self.filter.snaplen {
            0 => usize::MAX,
            snaplen => snaplen as usize,
        };
        Frame { bytes: &frame.bytes[..frame.bytes.len().min(snaplen)], ..*frame }
    }

    /// Whether this shard takes a frame. What has no endpoints belongs to the first one.
    fn owns(&self, decoded: &Result<crate::decode::Decoded<'_>, Reject>) -> bool {
        let Some(Share { key, shard, shards }) = self.share else { return true };
        let owner = decoded.as_ref().map_or(0, |decoded| ShardKey::pick(key.hash(&decoded.segment.head()), shards));
        owner == shard
    }
}

impl Frames {
    pub fn merge(&mut self, other: &Self) {
        let Self { read, segments, not_tcp, malformed, fragments, filtered, bad, payload, cut, badlen } = other;
        self.read += read;
        self.segments += segments;
        self.not_tcp += not_tcp;
        self.malformed += malformed;
        self.fragments += fragments;
        self.filtered += filtered;
        self.bad += bad;
        self.payload += payload;
        self.cut += cut;
        self.badlen += badlen;
    }
}

impl Totals {
    pub fn merge(&mut self, other: &Self) {
        let Self { frames, reassembly, sink } = other;
        self.frames.merge(frames);
        self.reassembly.merge(reassembly);
        self.sink.merge(sink);
    }
}

// Sinks are written to by one thread each, and nothing of a shard is shared.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Shard>();
    const fn is_sink<T: Sink>() {}
    is_sink::<Directory>();
};
