//! A reassembler under attack, and an honest conversation beside it.

use agent::{
    reassembly::{Config, ConnectionId, Ended, Event, Reassembler, Sink, Stats},
    segment::{Endpoint, Flags, Origin, Segment, SeqNum, Timestamp},
};

/// The reassembler, its clock, and the conversation that must not suffer.
pub(crate) struct Bed {
    reassembler: Reassembler,
    honest: Honest,
    /// Nanoseconds of the capture clock.
    now: u64,
    /// Octets that each side of the honest conversation has sent.
    said: u64,
}

/// One frame's worth of the honest conversation.
const WORD: usize = 100;

/// Sequence numbers of the honest conversation: the first octets of client and server. The first one wraps soon.
pub(crate) const FIRST: [SeqNum; 2] = [SeqNum(0xffff_fc00), SeqNum(5_000)];
/// What it offers, without a scale.
const WINDOW: u16 = 8_192;

impl Bed {
    pub(crate) fn new(config: Config) -> Self {
        let mut bed = Self {
            reassembler: Reassembler::new(config),
            honest: Honest::default(),
            now: 1_000_000_000_000_000,
            said: 0,
        };
        let [client, server] = FIRST;
        bed.send(&Segment { seq: before(client), ..honest(0, Flags::SYN) });
        bed.send(&Segment { seq: before(server), ack: client, ..honest(1, Flags::SYN | Flags::ACK) });
        bed.send(&Segment { seq: client, ack: server, ..honest(0, Flags::ACK) });
        bed
    }

    /// A segment, a microsecond after the one before.
    pub(crate) fn send(&mut self, segment: &Segment<'_>) {
        self.now += 1_000;
        let segment = Segment { timestamp: Timestamp(self.now), ..*segment };
        self.reassembler.handle_segment(&segment, &mut self.honest);
    }

    /// Each side of the honest conversation says a word, and hears that of the other.
    pub(crate) fn talk(&mut self) {
        let [client, server] = FIRST.map(|first| first.advance(self.said));
        let word = self.word(0);
        self.send(&Segment { seq: client, ack: server, payload: &word, ..honest(0, Flags::ACK) });
        let heard = client.advance(WORD as u64);
        self.send(&Segment { seq: server, ack: heard, payload: &word, ..honest(1, Flags::ACK) });
        self.said += WORD as u64;
    }

    /// The same twice, where the second word overtakes the first.
    pub(crate) fn talk_in_disorder(&mut self) {
        let [client, server] = FIRST.map(|first| first.advance(self.said));
        let (first, second) = (self.word(0), self.word(WORD as u64));
        for (from, seq, ack) in [(0, client, server), (1, server, client.advance(2 * WORD as u64))] {
            let later = seq.advance(WORD as u64);
            self.send(&Segment { seq: later, ack, payload: &second, ..honest(from, Flags::ACK) });
            self.send(&Segment { seq, ack, payload: &first, ..honest(from, Flags::ACK) });
        }
        self.said += 2 * WORD as u64;
    }

    /// Whether the honest side `from` may not send with this sequence number now: it is far outside the window.
    pub(crate) fn is_far(&self, from: usize, seq: SeqNum) -> bool {
        let ahead = seq.distance_from(FIRST[from].advance(self.said));
        !(-1 << 20..1 << 20).contains(&ahead)
    }

    pub(crate) fn queued_memory(&self) -> u64 {
        self.reassembler.queued_memory()
    }

    /// Ends the honest conversation, and everything. Nothing of it is missing, and both ledgers balance.
    pub(crate) fn finish(mut self) -> Stats {
        let [client, server] = FIRST.map(|first| first.advance(self.said));
        self.send(&Segment { seq: client, ack: server, ..honest(0, Flags::FIN | Flags::ACK) });
        self.send(&Segment { seq: server, ack: client.advance(1), ..honest(1, Flags::FIN | Flags::ACK) });
        let Honest { delivered, ended, .. } = self.honest;
        assert!(self.said > 0);
        assert_eq!((delivered, ended), ([self.said; 2], Some(Ended::Fin)), "the honest conversation is complete");
        self.reassembler.finish(&mut self.honest);
        let stats = *self.reassembler.stats();
        assert_eq!((stats.imbalance(), stats.queued, stats.opened - stats.closed), (0, 0, 0), "{stats:?}");
        assert_eq!((self.reassembler.queued_memory(), self.reassembler.open_connections()), (0, 0));
        stats
    }

    fn word(&self, ahead: u64) -> [u8; WORD] {
        std::array::from_fn(|at| octet(self.said + ahead + at as u64))
    }
}

/// A segment of the honest conversation, without numbers and payload.
pub(crate) fn honest(from: usize, flags: Flags) -> Segment<'static> {
    let ends = [Endpoint::v4([10, 0, 0, 1], 40_000), Endpoint::v4([10, 0, 0, 2], 443)];
    segment(ends[from], ends[1 - from], flags)
}

/// Any other.
pub(crate) fn segment(src: Endpoint, dst: Endpoint, flags: Flags) -> Segment<'static> {
    Segment {
        timestamp: Timestamp::default(),
        src,
        dst,
        seq: SeqNum(0),
        ack: SeqNum(0),
        flags,
        window: WINDOW,
        window_scale: None,
        mss: None,
        ip_id: None,
        payload: &[],
        missing: 0,
        origin: Origin::default(),
        flow: None,
    }
}

/// The sequence number before `seq`.
pub(crate) const fn before(seq: SeqNum) -> SeqNum {
    SeqNum(seq.0.wrapping_sub(1))
}

/// What stands at this offset, in either direction.
const fn octet(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// A sink that keeps nothing, and sees whether the first connection is whole.
#[derive(Default)]
struct Honest {
    id: Option<ConnectionId>,
    delivered: [u64; 2],
    ended: Option<Ended>,
}

impl Sink for Honest {
    fn event(&mut self, id: ConnectionId, event: Event<'_>) {
        if *self.id.get_or_insert(id) != id {
            return;
        }
        match event {
            Event::Data { direction, offset, bytes } => {
                let delivered = &mut self.delivered[direction as usize];
                assert_eq!(offset, *delivered);
                assert!((offset..).zip(bytes).all(|(offset, &found)| found == octet(offset)), "octets of someone else");
                *delivered += bytes.len() as u64;
            }
            Event::Gap { gap, .. } => panic!("something honest is missing: {gap:?}"),
            Event::Close(summary) => {
                assert!(summary.streams.iter().all(|stream| stream.trailing_gap.is_none()));
                self.ended = summary.ended;
            }
            Event::Open(_) | Event::Update(_) | Event::Late { .. } => {}
        }
    }
}
