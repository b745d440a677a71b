//! Datagrams in fragments: in any order, again, overlapping, cut off, too late, more of them than there is room for. A
//! model that is as simple as the RFCs says what must come out, and when.

use agent::{
    decode::{Config, Decoder, Reject, fragments},
    frame::Frame,
    segment::{Endpoint, Origin, Segment, Timestamp},
};
use agent_common::frame::LinkType;
use arbitrary::{Arbitrary, Unstructured};

pub(crate) fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let max_datagrams = 1 + usize::from(input.datagrams % 8);
    let max_memory = if input.little_memory { 4_096 } else { usize::MAX };
    let limits = fragments::Config { max_datagrams, max_memory, timeout: TIMEOUT };
    let mut decoder = Decoder::new(Config { fragments: limits, ..Config::default() });
    let mut model = Model { datagrams: Vec::new(), max: max_datagrams, clock: 0, latest: 0 };
    let one_content =
        input.operations.iter().all(|it| !matches!(it, Operation::Fragment(Fragment { other: true, .. })));
    let mut now = 1_000_000 * SECOND;
    let mut refused = 0;
    for operation in &input.operations {
        let fragment = match operation {
            Operation::Fragment(fragment) => fragment,
            Operation::Pass(milliseconds) => {
                now += u64::from(*milliseconds) * 1_000_000;
                continue;
            }
        };
        let (piece, packet) = (fragment.piece(), fragment.packet(input.version6));
        let frame = Frame {
            timestamp: Timestamp(now),
            len: (packet.len() + piece.wire - piece.octets.len()) as u32,
            bytes: &packet,
            link_type: LinkType::RAW,
            origin: Origin::default(),
            flow: None,
        };
        let found = decoder.decode(&frame);
        refused += u64::from(matches!(found, Err(Reject::Fragment)));
        if let Ok(found) = &found {
            assert_eq!((found.segment.src, found.segment.dst), fragment.ends(input.version6));
            assert!(!one_content || fragment.is_part_of(&found.segment), "{found:?}");
        }
        // Which datagram gives way for want of memory is the decoder's to choose.
        if !input.little_memory {
            let expected = model.take(now, fragment.datagram(), piece, if input.version6 { 0 } else { IPV4_LEN });
            assert_eq!(found.map(|found| Told::from(&found.segment)), expected, "{fragment:?}");
        }
        assert!(decoder.fragments_memory() <= max_memory);
    }
    let fragments::Stats { joined, duplicate, overlapping, timeout, limit, unfinished } = decoder.stats();
    assert_eq!(joined + duplicate + overlapping + timeout + limit + unfinished, refused);
}

#[derive(Arbitrary, Debug)]
struct Input {
    version6: bool,
    datagrams: u8,
    little_memory: bool,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Fragment(Fragment),
    /// Milliseconds.
    Pass(u16),
}

#[derive(Arbitrary, Debug)]
struct Fragment {
    datagram: u8,
    place: u8,
    len: u8,
    /// Only the last one may have any number of octets.
    ragged: bool,
    more: bool,
    /// From 200 on, so many octets less are captured.
    cut: u8,
    /// With other octets than usual at their place.
    other: bool,
}

const SECOND: u64 = 1_000_000_000;
const TIMEOUT: u64 = 30 * SECOND;
/// More than this is no time that passed.
const STEP: u64 = 3_600 * SECOND;
/// Of a TCP header without options: its length, and what of it must have been captured.
const HEADER_LEN: usize = 20;
const HEADER_READ: usize = 16;
const IPV4_LEN: usize = 20;
const TCP: u8 = 6;
const IPV6_FRAGMENT: u8 = 44;

impl Fragment {
    const fn datagram(&self) -> u8 {
        self.datagram % 16
    }

    /// So near to the others that they meet, or so far that the largest datagram ends within it.
    fn start(&self) -> usize {
        match self.place {
            0..240 => usize::from(self.place % 16) * 8,
            240.. => 65_000 + usize::from(self.place) * 8 % 512,
        }
    }

    fn piece(&self) -> Piece {
        let wire = if self.ragged { usize::from(self.len % 80) } else { usize::from(self.len % 80) / 8 * 8 };
        let captured = wire.saturating_sub(usize::from(self.cut.saturating_sub(200)));
        let octets = (self.start()..).take(captured).map(|at| self.octet(at)).collect();
        Piece { start: self.start(), octets, wire, more: self.more }
    }

    /// What stands in the datagram: a TCP header, then octets that tell where they belong.
    fn octet(&self, at: usize) -> u8 {
        match at {
            // Source port.
            1 => self.datagram(),
            // Header length.
            12 => (HEADER_LEN as u8 / 4) << 4,
            0..HEADER_LEN => 0,
            _ => (at as u8).wrapping_mul(7).wrapping_add(self.datagram()) ^ u8::from(self.other),
        }
    }

    fn packet(&self, version6: bool) -> Vec<u8> {
        let piece = self.piece();
        let offset = (piece.start / 8) as u16;
        let mut packet = if version6 {
            let len = (8 + piece.wire) as u16;
            let [h, l] = len.to_be_bytes();
            let [o, p] = (offset << 3 | u16::from(self.more)).to_be_bytes();
            let addresses = [[0xfd; 16], [0xfe; 16]].concat();
            [&[0x60, 0, 0, 0, h, l, IPV6_FRAGMENT, 64][..], &addresses, &[TCP, 0, o, p, 0, 0, 0, self.datagram()]]
                .concat()
        } else {
            let len = (IPV4_LEN + piece.wire) as u16;
            let [h, l] = len.to_be_bytes();
            let [o, p] = (offset | u16::from(self.more) << 13).to_be_bytes();
            vec![0x45, 0, h, l, 0, self.datagram(), o, p, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        };
        packet.extend_from_slice(&piece.octets);
        packet
    }

    fn ends(&self, version6: bool) -> (Endpoint, Endpoint) {
        let port = u16::from(self.datagram());
        if version6 {
            (Endpoint::new([0xfd; 16].into(), port), Endpoint::new([0xfe; 16].into(), 0))
        } else {
            (Endpoint::v4([10, 0, 0, 1], port), Endpoint::v4([10, 0, 0, 2], 0))
        }
    }

    /// Whether a segment is what all fragments of this datagram say.
    fn is_part_of(&self, segment: &Segment<'_>) -> bool {
        (HEADER_LEN..).zip(segment.payload).all(|(at, &octet)| octet == self.octet(at))
    }
}

/// What came out: payload, and how much of it was cut off.
#[derive(Debug, PartialEq)]
struct Told(Vec<u8>, usize);

impl From<&Segment<'_>> for Told {
    fn from(segment: &Segment<'_>) -> Self {
        Self(segment.payload.to_vec(), segment.missing as usize)
    }
}

/// What must come out.
struct Model {
    /// In the order in which they began.
    datagrams: Vec<Datagram>,
    max: usize,
    /// Nanoseconds that have passed, without steps of the clock, and when the last fragment came.
    clock: u64,
    latest: u64,
}

struct Datagram {
    id: u8,
    begun: u64,
    /// In order of their place.
    pieces: Vec<Piece>,
    /// Fragments overlapped: nothing comes of it until its time is over.
    dropped: bool,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    /// As captured.
    octets: Vec<u8>,
    /// Octets on the wire.
    wire: usize,
    more: bool,
}

impl Model {
    /// `before` is how many octets a whole packet has in front of the datagram's.
    fn take(&mut self, now: u64, id: u8, piece: Piece, before: usize) -> Result<Told, Reject> {
        let passed = now - std::mem::replace(&mut self.latest, now);
        self.clock += if passed > STEP { 0 } else { passed };
        let now = self.clock;
        // RFC 6946: no fragment of anything.
        if piece.start == 0 && !piece.more {
            return segment(&[piece]);
        }
        // RFC 8200 section 4.5.
        if piece.wire == 0 || piece.more && !piece.wire.is_multiple_of(8) || before + piece.end() > 65_535 {
            return Err(Reject::Malformed);
        }
        self.datagrams.retain(|datagram| now < datagram.begun + TIMEOUT);
        if self.datagrams.iter().all(|datagram| datagram.id != id) {
            if self.datagrams.len() == self.max {
                self.datagrams.remove(0);
            }
            self.datagrams.push(Datagram { id, begun: now, pieces: Vec::new(), dropped: false });
        }
        let at = self.datagrams.iter().position(|datagram| datagram.id == id).expect("it was just begun");
        let datagram = &mut self.datagrams[at];
        if datagram.dropped || datagram.pieces.iter().any(|known| known.is_same(&piece)) {
            return Err(Reject::Fragment);
        }
        if datagram.pieces.iter().any(|known| known.contradicts(&piece)) {
            datagram.dropped = true;
            return Err(Reject::Fragment);
        }
        datagram.pieces.push(piece);
        datagram.pieces.sort_by_key(|piece| piece.start);
        if !datagram.is_complete() {
            return Err(Reject::Fragment);
        }
        segment(&self.datagrams.remove(at).pieces)
    }
}

impl Datagram {
    fn is_complete(&self) -> bool {
        let touch = self.pieces.windows(2).all(|pair| pair[0].end() == pair[1].start);
        touch && self.pieces[0].start == 0 && self.pieces.last().is_some_and(|last| !last.more)
    }
}

impl Piece {
    const fn end(&self) -> usize {
        self.start + self.wire
    }

    /// An exact duplicate (RFC 8200 section 4.5), as far as both were captured.
    fn is_same(&self, other: &Self) -> bool {
        (self.start, self.wire, self.more) == (other.start, other.wire, other.more)
            && self.octets.iter().zip(&other.octets).all(|(a, b)| a == b)
    }

    /// They overlap (RFC 5722), or one lies behind the end that the other one is.
    const fn contradicts(&self, other: &Self) -> bool {
        (self.start < other.end() && other.start < self.end())
            || (!self.more && other.end() > self.end())
            || (!other.more && self.end() > other.end())
    }
}

/// The segment in pieces that touch, as far as they were captured in one.
fn segment(pieces: &[Piece]) -> Result<Told, Reject> {
    let mut octets = Vec::new();
    for piece in pieces {
        octets.extend_from_slice(&piece.octets);
        if piece.octets.len() < piece.wire {
            break;
        }
    }
    let wire: usize = pieces.iter().map(|piece| piece.wire).sum();
    if octets.len() < HEADER_READ || wire < HEADER_LEN {
        return Err(Reject::Malformed);
    }
    let payload = octets.get(HEADER_LEN..).unwrap_or_default().to_vec();
    let missing = wire - HEADER_LEN - payload.len();
    Ok(Told(payload, missing))
}
