//! Segments of a few connections, out of order, cut, forged, and time that passes, stands still or jumps.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use agent::{
    reassembly::{
        Config, ConnectionId, Event, FlowSide, FlowState, Flows, Late, Overlap, Reassembler, Sink, Stats, Summary,
    },
    segment::{Acknowledgment, Endpoint, Flags, FlowNote, Origin, Segment, SeqNum, Timestamp},
};
use arbitrary::{Arbitrary, Unstructured};

pub(crate) fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let config = input.limits.config();
    let heard = input.play(config);
    // Nothing that comes out may hang on the order of a hash table.
    let other = Config { hash_key: config.hash_key.map(|word| word.rotate_left(7) ^ 0x5bd1_e995), ..config };
    assert_eq!(heard, input.play(other), "another key, other events");
    // What a kernel says may be anything, as far as the promises of the core go.
    let cutoff = Some(u64::from(input.limits.linger) * 4);
    for seed in 1..3 {
        input.play_with(Config { cutoff, ..config }, Some(Notes(seed)));
        input.play_with(config, Some(Notes(seed)));
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    limits: Limits,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
struct Limits {
    connections: u8,
    linger: u8,
    stream_queue: u16,
    stream_chunks: u8,
    total_queue: u16,
    require_handshake: bool,
    strict_fsm: bool,
    strict_options: bool,
    interface_key: bool,
    vlan_key: bool,
    last_copy: bool,
    count_late: bool,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Segment(Spec),
    Pass(Time),
    /// As long as there is something to wait for, at most so often.
    Poll(u8),
}

#[derive(Arbitrary, Debug)]
struct Spec {
    /// Which connection, which side.
    flow: u8,
    position: Position,
    ack: Option<Position>,
    flags: u8,
    len: u8,
    /// This many times as long.
    times: u8,
    missing: u8,
    window: u8,
    scale: Option<u8>,
    mss: Option<u16>,
    /// The same number on another interface is the same frame again.
    ip_id: Option<bool>,
    interface: bool,
    vlan: Option<bool>,
    refused: bool,
    /// With other octets than usual at its place.
    other: bool,
}

/// A place in a stream, counted from its ISN.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Position {
    Near(u8),
    Farther(i16),
    Anywhere(u32),
    /// In the sequence space of the next connection.
    Next(u8),
}

#[derive(Arbitrary, Debug)]
enum Time {
    Microseconds(u16),
    Milliseconds(u16),
    Seconds(u16),
    Back(u16),
    Jump(u32),
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

impl Limits {
    fn config(&self) -> Config {
        Config {
            max_connections: u32::from(self.connections),
            max_linger: u32::from(self.linger),
            max_stream_queue: u32::from(self.stream_queue),
            max_stream_chunks: u32::from(self.stream_chunks),
            max_total_queue: u64::from(self.total_queue),
            require_handshake: self.require_handshake,
            strict_fsm: self.strict_fsm,
            strict_options: self.strict_options,
            interface_key: self.interface_key,
            vlan_key: self.vlan_key,
            overlap: if self.last_copy { Overlap::Last } else { Overlap::First },
            late: if self.count_late { Late::Count } else { Late::Fill },
            ..Config::default()
        }
    }
}

impl Input {
    /// Hash of everything that was heard.
    fn play(&self, config: Config) -> u64 {
        self.play_with(config, None)
    }

    fn play_with(&self, config: Config, mut notes: Option<Notes>) -> u64 {
        let mut reassembler = Reassembler::new(config);
        if let Some(Notes(seed)) = notes {
            reassembler = reassembler.with_flows(Box::new(Notes(!seed)));
        }
        let honest = |operation: &Operation| !matches!(operation, Operation::Segment(Spec { other: true, .. }));
        // Accounts may come any way within the 2^56 octets that they are believed.
        let gap_max = if notes.is_some() { 1 << 57 } else { 1 << 32 };
        let mut heard = Heard { one_content: self.operations.iter().all(honest), gap_max, ..Heard::default() };
        let mut now = 1_000_000 * SECOND;
        let mut refused = 0;
        for operation in &self.operations {
            match operation {
                Operation::Segment(spec) => {
                    refused += u64::from(spec.refused);
                    let payload = spec.payload();
                    let note = notes.as_mut().and_then(|notes| notes.note(now));
                    let segment = Segment { flow: note.as_ref(), ..spec.segment(now, refused, &payload) };
                    reassembler.handle_segment(&segment, &mut heard);
                }
                Operation::Pass(time) => {
                    now = time.after(now);
                    reassembler.handle_timeout(Timestamp(now), &mut heard);
                }
                Operation::Poll(times) => {
                    for _ in 0..*times {
                        let Some(due) = reassembler.poll_timeout() else { break };
                        now = now.max(due.0);
                        reassembler.handle_timeout(due, &mut heard);
                        assert!(reassembler.poll_timeout().is_none_or(|next| next > due), "{due:?} is due for ever");
                    }
                }
            }
            assert!(reassembler.open_connections() <= config.max_connections.max(1) as usize);
            assert!(reassembler.queued_memory() <= config.max_total_queue);
            heard.check(reassembler.stats());
            // What waits to be confirmed is in no term yet.
            let waiting = reassembler.stats().imbalance();
            assert!((0..=i128::from(reassembler.queued_memory())).contains(&waiting), "{:?}", reassembler.stats());
        }
        reassembler.finish(&mut heard);
        heard.check(reassembler.stats());
        assert_eq!(reassembler.stats().imbalance(), 0, "{:?}", reassembler.stats());
        assert_eq!((reassembler.open_connections(), reassembler.queued_memory()), (0, 0));
        assert_eq!(reassembler.stats().queued, 0);
        assert!(heard.open.is_empty());
        heard.hash.finish()
    }
}

/// What a kernel might say: mostly near what is true, at times anything.
#[derive(Clone, Copy)]
struct Notes(u64);

impl Notes {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^ (word >> 27)
    }

    fn chance(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }

    fn count(&mut self) -> u64 {
        let word = self.next();
        if self.chance(4) { word } else { word % 1_000 }
    }

    fn ack(&mut self, now: u64) -> Option<Acknowledgment> {
        let number = SeqNum(if self.chance(2) { self.next() as u32 } else { 5_000 + self.count() as u32 });
        let time = if self.chance(8) { self.next() } else { now.saturating_sub(self.next() % (10 * SECOND)) };
        let ack = Acknowledgment { number, time: Timestamp(time), window: self.next() as u16 };
        self.chance(2).then_some(ack)
    }

    fn note(&mut self, now: u64) -> Option<FlowNote> {
        let note = FlowNote {
            reach: self.count(),
            lost: self.count(),
            segments: [self.count(), self.count()],
            peer_ack: self.ack(now),
            cut: self.chance(4),
            shed: self.chance(32),
            ..FlowNote::default()
        };
        (!self.chance(4)).then_some(note)
    }
}

impl Flows for Notes {
    fn flow(&mut self, _: Endpoint, _: Endpoint) -> Option<FlowState> {
        let mut side = || FlowSide {
            segments: self.count(),
            reach: self.count(),
            lost: self.count(),
            ack: self.ack(1_000_000 * SECOND),
            last_seen: Timestamp(1_000_000 * SECOND + self.next() % (10 * SECOND)),
            cut: self.chance(4),
        };
        let sides = [side(), side()];
        (!self.chance(4)).then_some(FlowState { sides, shed: self.chance(32) })
    }

    fn forget(&mut self, _: Endpoint, _: Endpoint) {}
}

impl Spec {
    const fn side(&self) -> usize {
        (self.flow & 1) as usize
    }

    const fn isn(&self, side: usize) -> u32 {
        // Some wrap soon.
        [0xffff_ff80, 5_000, 0x7fff_fff0, 0xffff_fff0][((self.flow >> 1) as usize + side) % 4]
    }

    const fn seq(&self) -> u32 {
        self.position.seq(self.isn(self.side()))
    }

    /// Each octet is the low octet of its sequence number.
    fn payload(&self) -> Vec<u8> {
        let len = usize::from(self.len) * (1 + usize::from(self.times % 8));
        let first = self.seq().wrapping_add(u32::from(self.flags & Flags::SYN.0 != 0));
        (0..len as u32).map(|at| first.wrapping_add(at) as u8 ^ u8::from(self.other)).collect()
    }

    fn segment<'a>(&self, now: u64, refused: u64, payload: &'a [u8]) -> Segment<'a> {
        let client = Endpoint::v4([10, 0, 0, 1], 40_000 + u16::from(self.flow >> 1 & 3));
        let server = Endpoint::v4([10, 0, 0, 2], 80);
        let (src, dst) = if self.side() == 0 { (client, server) } else { (server, client) };
        let ack = if self.ack.is_some() { Flags::ACK } else { Flags(0) };
        Segment {
            timestamp: Timestamp(now),
            src,
            dst,
            seq: SeqNum(self.seq()),
            ack: SeqNum(self.ack.map_or(0, |ack| ack.seq(self.isn(1 - self.side())))),
            flags: Flags(self.flags & !Flags::ACK.0) | ack,
            window: u16::from(self.window) << 8,
            window_scale: self.scale,
            mss: self.mss,
            ip_id: self.ip_id.map(u16::from),
            payload,
            missing: u32::from(self.missing),
            origin: Origin {
                interface: u16::from(self.interface),
                vlan: self.vlan.map(u16::from),
                refused,
                ..Origin::default()
            },
            flow: None,
        }
    }
}

impl Position {
    const fn seq(self, isn: u32) -> u32 {
        match self {
            Self::Near(octets) => isn.wrapping_add(octets as u32),
            Self::Farther(octets) => isn.wrapping_add_signed(octets as i32),
            Self::Anywhere(octets) => isn.wrapping_add(octets),
            Self::Next(octets) => isn.wrapping_add(100_000_000 + octets as u32),
        }
    }
}

impl Time {
    fn after(&self, now: u64) -> u64 {
        let (then, unit) = match *self {
            Self::Microseconds(n) => (u64::from(n), MICROSECOND),
            Self::Milliseconds(n) => (u64::from(n), MILLISECOND),
            Self::Seconds(n) => (u64::from(n), SECOND),
            Self::Back(n) => return now.saturating_sub(u64::from(n) * SECOND),
            Self::Jump(n) => (u64::from(n), SECOND),
        };
        // The end of time, 292 years from 1970 on, is no matter of ours.
        (now + then * unit).min(u64::MAX / 2)
    }
}

/// What the sink was told, held against the promises of [`Sink`] and against the counters.
#[derive(Default)]
struct Heard {
    hash: DefaultHasher,
    /// By slot.
    open: BTreeMap<u32, Connection>,
    serial: u64,
    /// All copies of an octet are the same.
    one_content: bool,
    gap_max: u64,
    delivered: u64,
    gaps: u64,
    filled: u64,
    trailing: u64,
    closed: u64,
}

struct Connection {
    serial: u64,
    streams: [Stream; 2],
}

#[derive(Default)]
struct Stream {
    next: u64,
    /// Gaps that are still open, by where they begin.
    gaps: BTreeMap<u64, u64>,
    /// What the low octet of offset 0's sequence number must be.
    base: Option<u8>,
}

impl Sink for Heard {
    fn event(&mut self, id: ConnectionId, event: Event<'_>) {
        (id.slot, id.serial).hash(&mut self.hash);
        if let Event::Open(summary) = event {
            assert!(id.serial > self.serial, "serials are used once");
            self.serial = id.serial;
            let connection = Connection { serial: id.serial, streams: Default::default() };
            assert!(self.open.insert(id.slot, connection).is_none(), "the slot is in use");
            assert_eq!(summary.ended, None);
            return self.note(summary);
        }
        let connection = self.open.get_mut(&id.slot).expect("opened before");
        assert_eq!(connection.serial, id.serial);
        match event {
            Event::Open(_) => {}
            Event::Data { direction, offset, bytes } => {
                (0, direction, offset, bytes).hash(&mut self.hash);
                let stream = &mut connection.streams[direction as usize];
                assert!(!bytes.is_empty() && offset == stream.next);
                stream.next += bytes.len() as u64;
                self.delivered += bytes.len() as u64;
                assert!(!self.one_content || stream.fits(offset, bytes), "{direction:?} {offset} {bytes:?}");
            }
            Event::Gap { direction, gap } => {
                (1, direction, gap.offset, gap.len, gap.cause).hash(&mut self.hash);
                let stream = &mut connection.streams[direction as usize];
                assert!(gap.len > 0 && gap.len <= self.gap_max && gap.offset == stream.next);
                stream.next += gap.len;
                // Gaps that touch are one.
                let touching = stream.gaps.last_entry().filter(|last| *last.get() == gap.offset);
                let start = touching.map_or(gap.offset, |last| last.remove_entry().0);
                stream.gaps.insert(start, stream.next);
                self.gaps += gap.len;
            }
            Event::Late { direction, offset, bytes } => {
                (2, direction, offset, bytes).hash(&mut self.hash);
                let stream = &mut connection.streams[direction as usize];
                stream.fill(offset, offset + bytes.len() as u64);
                self.delivered += bytes.len() as u64;
                self.filled += bytes.len() as u64;
                assert!(!self.one_content || stream.fits(offset, bytes), "{direction:?} {offset} {bytes:?}");
            }
            Event::Update(summary) => {
                connection.check(summary);
                self.note(summary);
            }
            Event::Close(summary) => {
                connection.check(summary);
                assert!(summary.ended.is_some());
                self.open.remove(&id.slot);
                self.closed += 1;
                self.trailing +=
                    summary.streams.iter().filter_map(|stream| stream.trailing_gap).map(|gap| gap.len).sum::<u64>();
                self.note(summary);
            }
        }
    }
}

impl Heard {
    fn note(&mut self, summary: &Summary<'_>) {
        format!("{summary:?}").hash(&mut self.hash);
    }

    /// The counters say what the events said.
    fn check(&self, stats: &Stats) {
        assert_eq!(
            (stats.delivered, stats.gaps, stats.gaps_filled, stats.gaps_trailing, stats.opened, stats.closed),
            (self.delivered, self.gaps, self.filled, self.trailing, self.serial, self.closed)
        );
    }
}

impl Connection {
    /// A summary says what the events said.
    fn check(&self, summary: &Summary<'_>) {
        for (stream, told) in self.streams.iter().zip(&summary.streams) {
            let open: u64 = stream.gaps.iter().map(|(start, end)| end - start).sum();
            assert_eq!(told.len, stream.next);
            assert_eq!(told.delivered + open, told.len);
            assert_eq!(told.gap_totals.iter().sum::<u64>(), open);
            assert!(told.gaps.is_sorted_by(|a, b| a.offset + a.len <= b.offset));
            assert!(told.gaps.iter().map(|gap| gap.len).sum::<u64>() <= open);
            assert!(told.trailing_gap.is_none_or(|gap| gap.offset == told.len && gap.len > 0));
        }
    }
}

impl Stream {
    /// Whether octets stand where their sequence numbers put them.
    fn fits(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let base = *self.base.get_or_insert_with(|| bytes[0].wrapping_sub(offset as u8));
        (offset..).zip(bytes).all(|(offset, &octet)| octet == base.wrapping_add(offset as u8))
    }

    /// Takes `start..end`, which must lie within one gap, out of it.
    fn fill(&mut self, start: u64, end: u64) {
        let (from, until) = self.gaps.range(..=start).next_back().map(|(&from, &until)| (from, until)).expect("a gap");
        assert!(start < end && end <= until, "late octets lie in a gap");
        self.gaps.remove(&from);
        if from < start {
            self.gaps.insert(from, start);
        }
        if end < until {
            self.gaps.insert(end, until);
        }
    }
}
