//! What stands behind one ring: decoder, reassembler and sink, in that order, one frame at a time.

use agent_common::shard::ShardKey;

use crate::{
    decode::{self, Decoded, Decoder, Reject, fragments},
    frame::Frame,
    generations::Filters,
    judge::Judge,
    mailbox::{Letter, Mailbox, Sent},
    reassembly::{self, Flows, Reassembler, Sink},
    segment::{Origin, Segment, Timestamp},
    sink::{self, Destination},
};

/// The only path from a frame to a file, live or in replay.
pub struct Shard {
    judge: Judge,
    part: Part,
    decoder: Decoder,
    reassembler: Reassembler,
    sink: Destination,
    frames: Frames,
    ticked: Timestamp,
    /// [`Origin::refused`](crate::segment::Origin::refused) of the last frame from this shard's ring.
    refused: u64,
}

/// Which connections a shard takes.
#[derive(Debug)]
pub enum Part {
    /// Of a capture file, which every shard reads all of.
    File(Share),
    /// Those whose frames are in its ring. What turns out to be another shard's goes there by mail.
    Ring(Mailbox),
}

/// The part of a capture file that a shard takes.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub key: ShardKey,
    pub shard: u32,
    pub shards: u32,
}

/// What became of every frame that was read. `read = segments + not_tcp + malformed + fragments + filtered + bad_checksum +
/// mailbox_full + bad`, each term counted at its own place, `read` where the frame was and `segments` where it went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Frames {
    pub read: u64,
    /// Handed to the reassembler.
    pub segments: u64,
    pub not_tcp: u64,
    pub malformed: u64,
    /// IP fragments, but those that completed a datagram: they are what was in it.
    pub fragments: u64,
    /// Refused by the filter when it was asked again with all of the headers at hand.
    pub filtered: u64,
    /// Segments with a wrong checksum, where it was to be verified.
    pub bad_checksum: u64,
    /// Segments of another shard that had too much mail.
    pub mailbox_full: u64,
    /// Records that are not what the kernel half writes.
    pub bad: u64,

    /// Payload octets in the segments, those with a wrong checksum included.
    pub payload: u64,
    /// Payload octets in segments with a wrong checksum.
    pub bad_checksum_payload: u64,
    /// Frames that ended before their packet did: by the snaplen, on their way here or in the file.
    pub cut: u64,
    /// Segments whose IP header claims more than was on the wire.
    pub badlen: u64,
    /// Connections that filters by client and server asked about, and whose client was forgotten.
    pub clients_forgotten: u64,
}

/// What a shard leaves behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub frames: Frames,
    pub fragments: fragments::Stats,
    pub reassembly: reassembly::Stats,
    pub sink: sink::Stats,
}

/// Connections whose state no cache next to a processor holds.
const MANY: usize = 4_096;

/// How often the sink looks at its clock, in nanoseconds of capture time.
const TICK: u64 = 10_000_000;

impl Shard {
    pub fn new(
        filters: impl Into<Filters>,
        part: Part,
        decode: decode::Config,
        reassembly: reassembly::Config,
        sink: impl Into<Destination>,
    ) -> Self {
        Self {
            judge: Judge::new(filters),
            part,
            decoder: Decoder::new(decode),
            reassembler: Reassembler::new(reassembly),
            sink: sink.into(),
            frames: Frames::default(),
            ticked: Timestamp::default(),
            refused: 0,
        }
    }

    /// With somebody to ask what the kernel withheld.
    pub fn with_flows(self, flows: Box<dyn Flows + Send>) -> Self {
        Self { reassembler: self.reassembler.with_flows(flows), ..self }
    }

    /// Takes a look at frames that will come next, so that what is known of their connections is on its way from memory by
    /// then: of all of them at the same time, and not of one after the other. It changes nothing.
    pub fn expect<'a>(&self, frames: impl Iterator<Item = Frame<'a>>) {
        if self.reassembler.open_connections() < MANY {
            return;
        }
        let ends = frames.filter_map(|frame| decode::ends(&frame));
        self.reassembler.expect(ends, |slot| self.sink.expect(slot));
    }

    pub fn handle_frame(&mut self, frame: &Frame<'_>) {
        if frame.timestamp.since(self.ticked) >= TICK || self.ticked > frame.timestamp {
            self.tick(frame.timestamp);
        }
        self.refused = frame.origin.refused;
        let frame = &cut(frame, self.judge.filter().graph.snaplen);
        let decoded = self.decoder.decode(frame);
        let fragment = matches!(decoded, Err(Reject::Fragment));
        if !matches!(&self.part, Part::File(share) if !share.owns(&decoded)) {
            let frames = &mut self.frames;
            frames.read += 1;
            frames.cut += u64::from((frame.bytes.len() as u64) < u64::from(frame.len));
            match decoded {
                Ok(decoded) if !self.judge.accepts(&decoded, self.reassembler.flows()) => frames.filtered += 1,
                Ok(decoded) if decoded.bad_checksum => {
                    frames.bad_checksum += 1;
                    frames.bad_checksum_payload += decoded.segment.payload.len() as u64;
                    frames.payload += decoded.segment.payload.len() as u64;
                }
                Ok(decoded) => {
                    frames.badlen += u64::from(decoded.badlen);
                    let sent = match &self.part {
                        Part::Ring(mailbox) if decoded.unwrapped => mailbox.send(&decoded.segment),
                        _ => Sent::Ours,
                    };
                    match sent {
                        Sent::Ours => {
                            frames.count(&decoded.segment);
                            return self.reassembler.handle_segment(&decoded.segment, &mut self.sink);
                        }
                        Sent::Away => {}
                        Sent::Full => frames.mailbox_full += 1,
                    }
                }
                Err(Reject::NotTcp) => frames.not_tcp += 1,
                Err(Reject::Fragment) => frames.fragments += 1,
                Err(Reject::Malformed) => frames.malformed += 1,
            }
        }
        // Frames that are not reassembled here are time as well, so that the number of shards makes no difference.
        self.reassembler.handle_timeout(frame.timestamp, &mut self.sink);
        if fragment && let Some(begun) = self.decoder.take_begun() {
            self.note_begun(&begun);
        }
    }

    /// A fragment says whose it is, though the frame that it came in is nobody's.
    #[cold]
    fn note_begun(&mut self, begun: &Segment<'_>) {
        let sent = match &self.part {
            Part::Ring(mailbox) => mailbox.send_begun(begun),
            Part::File(_) => Sent::Ours,
        };
        if sent == Sent::Ours {
            self.reassembler.handle_fragment(begun);
        }
    }

    /// Takes in the segments that came through other shards' rings.
    pub fn read_mail(&mut self) {
        let Part::Ring(mailbox) = &self.part else { return };
        while let Some(letter) = mailbox.receive() {
            take(&letter, self.refused, &mut self.frames, &mut self.reassembler, &mut self.sink);
        }
    }

    /// The filters that judge the frames of this shard's ring.
    pub fn filters(&self) -> &Filters {
        self.judge.filters()
    }

    /// A record that could not be read.
    pub fn handle_bad_record(&mut self) {
        self.frames.read += 1;
        self.frames.bad += 1;
    }

    /// Lets time pass. `now` is the time up to which all frames have been handled.
    pub fn tick(&mut self, now: Timestamp) {
        self.ticked = now;
        self.decoder.tick(now);
        self.reassembler.handle_timeout(now, &mut self.sink);
        self.sink.tick(now);
    }

    /// Delivers what is queued, closes what is open, writes what is in memory. Live, when all shards have come to this: what
    /// one found in its ring at last may belong to another.
    pub fn finish(self) -> Totals {
        let Self { judge, part, decoder, mut frames, mut reassembler, mut sink, refused, .. } = self;
        frames.clients_forgotten = judge.forgotten();
        // Of a capture file every shard puts all fragments together; the first one counts them.
        let counts_fragments = match part {
            Part::File(share) => share.shard == 0,
            Part::Ring(mailbox) => {
                for letter in mailbox.receive_rest() {
                    take(&letter, refused, &mut frames, &mut reassembler, &mut sink);
                }
                true
            }
        };
        let fragments = if counts_fragments { decoder.stats() } else { fragments::Stats::default() };
        sink.source_ended();
        reassembler.finish(&mut sink);
        Totals { frames, fragments, reassembly: *reassembler.stats(), sink: sink.finish() }
    }
}

impl Share {
    /// Whether this shard takes a frame. What has no endpoints belongs to the first one.
    fn owns(&self, decoded: &Result<Decoded<'_>, Reject>) -> bool {
        let hash = |decoded: &Decoded<'_>| self.key.hash(&decoded.segment.head());
        decoded.as_ref().map_or(0, |decoded| ShardKey::pick(hash(decoded), self.shards)) == self.shard
    }
}

/// Takes a segment that came by mail. What its own ring had refused says nothing about this one's, of which `refused` is
/// the count.
fn take(letter: &Letter, refused: u64, frames: &mut Frames, reassembler: &mut Reassembler, sink: &mut Destination) {
    let segment = letter.segment();
    let segment = Segment { origin: Origin { refused, ..segment.origin }, ..segment };
    if letter.is_begun() {
        reassembler.handle_fragment(&segment);
    } else {
        frames.count(&segment);
        reassembler.handle_segment(&segment, sink);
    }
}

/// A frame as far as the snaplen lets it through; of a live frame the kernel has seen to that.
fn cut<'a>(frame: &Frame<'a>, snaplen: u32) -> Frame<'a> {
    let snaplen = if snaplen == 0 { usize::MAX } else { snaplen as usize };
    Frame { bytes: &frame.bytes[..frame.bytes.len().min(snaplen)], ..*frame }
}

impl Frames {
    fn count(&mut self, segment: &Segment<'_>) {
        self.segments += 1;
        self.payload += segment.payload.len() as u64;
    }

    pub fn merge(&mut self, other: &Self) {
        let Self {
            read,
            segments,
            not_tcp,
            malformed,
            fragments,
            filtered,
            bad_checksum,
            mailbox_full,
            bad,
            payload,
            bad_checksum_payload,
            cut,
            badlen,
            clients_forgotten,
        } = other;
        self.read += read;
        self.segments += segments;
        self.not_tcp += not_tcp;
        self.malformed += malformed;
        self.fragments += fragments;
        self.filtered += filtered;
        self.bad_checksum += bad_checksum;
        self.mailbox_full += mailbox_full;
        self.bad += bad;
        self.payload += payload;
        self.bad_checksum_payload += bad_checksum_payload;
        self.cut += cut;
        self.badlen += badlen;
        self.clients_forgotten += clients_forgotten;
    }
}

impl Totals {
    pub fn merge(&mut self, other: &Self) {
        let Self { frames, fragments, reassembly, sink } = other;
        self.frames.merge(frames);
        self.fragments.merge(fragments);
        self.reassembly.merge(reassembly);
        self.sink.merge(sink);
    }
}

// Sinks are written to by one thread each, and nothing of a shard is shared.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Shard>();
    const fn is_sink<T: Sink>() {}
    is_sink::<Destination>();
};
