//! Datagrams in pieces, in the order and the state in which a network may deliver them.

use super::*;
use crate::decode::fragments::{Config as Limits, Stats};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// What both versions have in common: a TCP segment, cut behind each of `cuts`.
#[derive(Clone, Copy, Debug)]
enum Version {
    V4,
    V6,
}

const BOTH: [Version; 2] = [Version::V4, Version::V6];

impl Version {
    /// A fragment of the datagram `id`: `content` at `offset`.
    fn fragment(self, id: u16, offset: usize, more: bool, content: &[u8]) -> Vec<u8> {
        match self {
            Self::V4 => {
                let mut packet = ipv4(6, (offset / 8) as u16 | if more { 0x2000 } else { 0 }, content);
                packet[4..6].copy_from_slice(&id.to_be_bytes());
                packet
            }
            Self::V6 => {
                let [high, low] = (offset as u16 | u16::from(more)).to_be_bytes();
                let [i0, i1] = id.to_be_bytes();
                ipv6(44, &[&[6, 0, high, low, 0, 0, i0, i1][..], content].concat())
            }
        }
    }

    /// `segment` in pieces that end at each of `cuts` and at its end.
    fn cut(self, id: u16, segment: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let ends = cuts.iter().copied().chain([segment.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let pieces = starts.zip(ends);
        pieces.map(|(start, end)| self.fragment(id, start, end < segment.len(), &segment[start..end])).collect()
    }
}

/// A segment of 20 + 80 octets that no other piece of it looks like.
fn segment() -> Vec<u8> {
    tcp(Flags::ACK, &[], &payload())
}

fn payload() -> Vec<u8> {
    (0..80).collect()
}

struct Bench {
    decoder: Decoder,
    now: u64,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { decoder: Decoder::new(Config { fragments: limits, ..Config::default() }), now: START }
    }

    fn send(&mut self, packet: &[u8]) -> Result<Vec<u8>, Reject> {
        self.send_cut(packet, packet.len())
    }

    /// Of a packet of which `wire` octets were on the wire, the payload of what is in it.
    fn send_cut(&mut self, packet: &[u8], wire: usize) -> Result<Vec<u8>, Reject> {
        let frame = Frame { timestamp: Timestamp(self.now), len: wire as u32, ..frame(LinkType::RAW, packet) };
        self.decoder.decode(&frame).map(|decoded| decoded.segment.payload.to_vec())
    }

    #[track_caller]
    fn holds(&mut self, packet: &[u8]) {
        assert_eq!(self.send(packet), Err(Reject::Fragment));
    }
}

#[test]
fn row_22_any_order_makes_the_whole() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for version in BOTH {
        for order in ORDERS {
            let mut bench = Bench::new(Limits::default());
            let pieces = version.cut(7, &segment(), &[24, 64]);
            bench.holds(&pieces[order[0]]);
            bench.holds(&pieces[order[1]]);
            assert_eq!(bench.send(&pieces[order[2]]), Ok(payload()), "{version:?} {order:?}");
            assert_eq!(bench.decoder.stats(), Stats { joined: 2, ..Stats::default() });
        }
    }
}

#[test]
fn row_22_what_a_fragmented_segment_says() {
    let pieces = Version::V4.cut(0xbeef, &segment(), &[40]);
    let mut decoder = decoder();
    assert!(decoder.decode(&frame(LinkType::RAW, &pieces[0])).is_err());
    let decoded = decoder.decode(&frame(LinkType::RAW, &pieces[1])).expect("a segment");
    assert!(decoded.unwrapped && !decoded.badlen);
    assert_eq!(decoded.segment.ip_id, Some(0xbeef));
    assert_eq!((decoded.segment.src, decoded.segment.seq), (Endpoint::v4(CLIENT, 51_244), SeqNum(0xffff_fff0)));
    assert_eq!((decoded.segment.payload, decoded.segment.missing), (&payload()[..], 0));
}

#[test]
fn row_22_the_first_fragment_names_its_segment() {
    for version in BOTH {
        let pieces = version.cut(7, &segment(), &[24, 64]);
        let mut decoder = decoder();
        assert!(decoder.decode(&frame(LinkType::RAW, &pieces[1])).is_err());
        assert!(decoder.take_begun().is_none());
        assert!(decoder.decode(&frame(LinkType::RAW, &pieces[0])).is_err());
        let begun = decoder.take_begun().expect("the header was in it");
        assert_eq!((begun.src.port, begun.seq, begun.payload.len()), (51_244, SeqNum(0xffff_fff0), 0));
        assert!(decoder.take_begun().is_none());
    }
}

/// Every one of the smallest pieces there are, backwards.
#[test]
fn row_22_tiny_fragments() {
    let segment = tcp(Flags::ACK, &[], &vec![0x5a; 65_535 - 20 - 20]);
    let cuts: Vec<usize> = (8..segment.len()).step_by(8).collect();
    let mut bench = Bench::new(Limits::default());
    let mut pieces = Version::V4.cut(7, &segment, &cuts);
    assert_eq!(pieces.len(), 8_190);
    pieces.reverse();
    let last = pieces.pop().expect("pieces");
    pieces.iter().for_each(|piece| bench.holds(piece));
    assert_eq!(bench.send(&last).map(|payload| payload.len()), Ok(65_535 - 40));
}

#[test]
fn row_22_datagrams_do_not_mix() {
    for version in BOTH {
        let mut bench = Bench::new(Limits::default());
        let other = tcp(Flags::ACK, &[], &[0xee; 80]);
        let (ours, theirs) = (version.cut(7, &segment(), &[40]), version.cut(8, &other, &[40]));
        bench.holds(&ours[0]);
        bench.holds(&theirs[1]);
        assert_eq!(bench.send(&ours[1]), Ok(payload()));
        assert_eq!(bench.send(&theirs[0]), Ok(vec![0xee; 80]));
        // The same number once more.
        bench.holds(&ours[1]);
        assert_eq!(bench.send(&ours[0]), Ok(payload()));
    }
    // IPv4 numbers datagrams for each protocol.
    let pieces = Version::V4.cut(7, &segment(), &[40]);
    let mut ah = pieces[0].clone();
    ah[9] = 51;
    let mut bench = Bench::new(Limits::default());
    bench.holds(&ah);
    bench.holds(&pieces[0]);
    assert_eq!(bench.send(&pieces[1]), Ok(payload()));
}

#[test]
fn row_22_an_exact_duplicate_is_ignored() {
    for version in BOTH {
        let mut bench = Bench::new(Limits::default());
        let pieces = version.cut(7, &segment(), &[24, 64]);
        for piece in [0, 0, 2, 2, 0] {
            bench.holds(&pieces[piece]);
        }
        assert_eq!(bench.send(&pieces[1]), Ok(payload()));
        assert_eq!(bench.decoder.stats(), Stats { joined: 2, duplicate: 3, ..Stats::default() });
    }
}

/// RFC 5722 section 4, for IPv4 as well: the datagram is dropped, and what is still to come of it.
#[test]
fn row_22_any_other_overlap_drops_the_datagram() {
    let segment = segment();
    for version in BOTH {
        let pieces = version.cut(7, &segment, &[24, 64]);
        let part = |start: usize, end: usize| version.fragment(7, start, end < 100, &segment[start..end]);
        let mut tampered = segment[24..64].to_vec();
        tampered[3] ^= 1;
        let cases = [
            // With the same octets: longer, shorter, across a border, within.
            part(24, 72),
            part(24, 56),
            part(16, 32),
            part(32, 40),
            part(56, 100),
            // Other octets, another end, octets behind the end, and an end where there is more.
            version.fragment(7, 24, true, &tampered),
            version.fragment(7, 104, false, &[0; 8]),
            version.fragment(7, 104, true, &[0; 8]),
            version.fragment(7, 24, false, &segment[24..64]),
            version.fragment(7, 64, true, &segment[64..96]),
        ];
        for (number, overlapping) in cases.iter().enumerate() {
            let mut bench = Bench::new(Limits::default());
            bench.holds(&pieces[1]);
            bench.holds(&pieces[2]);
            bench.holds(overlapping);
            bench.holds(&pieces[0]);
            for piece in &pieces {
                bench.holds(piece);
            }
            assert_eq!(bench.decoder.stats(), Stats { overlapping: 7, ..Stats::default() }, "{version:?} {number}");
            // Its time over, the number may be used again.
            bench.now += 30 * SECOND;
            bench.holds(&pieces[0]);
            bench.holds(&pieces[1]);
            assert_eq!(bench.send(&pieces[2]), Ok(payload()), "{version:?} {number}");
        }
    }
}

#[test]
fn row_22_fragments_that_cannot_be() {
    for version in BOTH {
        let mut bench = Bench::new(Limits::default());
        let pieces = version.cut(7, &segment(), &[40]);
        bench.holds(&pieces[0]);
        for malformed in [
            // RFC 8200 section 4.5: not a multiple of 8, though more follow; none; behind 65,535.
            version.fragment(7, 40, true, &[0; 59]),
            version.fragment(7, 40, true, &[]),
            version.fragment(7, 104, false, &[]),
            version.fragment(7, 65_528, false, &[0; 8]),
        ] {
            assert_eq!(bench.send(&malformed), Err(Reject::Malformed));
        }
        // Where it ends nobody knows: the header says more than there is.
        assert_eq!(bench.send(&pieces[1][..pieces[1].len() - 8]), Err(Reject::Malformed));
        assert_eq!(bench.send(&pieces[1]), Ok(payload()), "the others are not the worse for it");
        assert_eq!(bench.decoder.stats(), Stats { joined: 1, ..Stats::default() });
    }
}

/// RFC 6946: offset 0 and nothing to follow, whatever else has its number.
#[test]
fn row_22_an_atomic_fragment_is_whole() {
    let mut bench = Bench::new(Limits::default());
    let pieces = Version::V6.cut(7, &segment(), &[40]);
    bench.holds(&pieces[0]);
    assert_eq!(bench.send(&Version::V6.fragment(7, 0, false, &segment())), Ok(payload()));
    assert_eq!(bench.send(&pieces[1]), Ok(payload()));
}

/// What stands behind the first fragment's header rules (RFC 8200 section 4.5).
#[test]
fn row_22_headers_in_the_fragments() {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let content = [&options(6)[..], &segment()].concat();
    let mut bench = Bench::new(Limits::default());
    let part = |header: u8, offset: usize, content: &[u8]| {
        let mut packet = Version::V6.fragment(7, offset, offset == 0, content);
        packet[40] = header;
        packet
    };
    // The second one's number says nothing.
    bench.holds(&part(6, 32, &content[32..]));
    assert_eq!(bench.send(&part(60, 0, &content[..32])), Ok(payload()));

    // Hop-by-hop options before the fragment header; IPv4 options in the first fragment alone.
    let mut pieces = Version::V6.cut(8, &segment(), &[40]);
    for piece in &mut pieces {
        piece.splice(40..40, options(44));
        piece[5] += 8;
        piece[6] = 0;
    }
    bench.holds(&pieces[0]);
    assert_eq!(bench.send(&pieces[1]), Ok(payload()));
    let mut pieces = Version::V4.cut(8, &segment(), &[40]);
    pieces[0].splice(20..20, [1, 1, 1, 0]);
    pieces[0][0] = 0x46;
    pieces[0][3] += 4;
    bench.holds(&pieces[0]);
    assert_eq!(bench.send(&pieces[1]), Ok(payload()));
}

#[test]
fn row_22_a_datagram_has_30_seconds() {
    for version in BOTH {
        let pieces = version.cut(7, &segment(), &[24, 64]);
        let mut bench = Bench::new(Limits::default());
        bench.holds(&pieces[0]);
        bench.now += 20 * SECOND;
        bench.holds(&pieces[1]);
        bench.now += 10 * SECOND - 1;
        assert_eq!(bench.send(&pieces[2]), Ok(payload()), "in time");

        bench.holds(&pieces[0]);
        bench.now += 20 * SECOND;
        bench.holds(&pieces[1]);
        bench.now += 10 * SECOND;
        bench.holds(&pieces[2]);
        let stats = Stats { joined: 2, timeout: 2, unfinished: 1, ..Stats::default() };
        assert_eq!(bench.decoder.stats(), stats, "the first fragment's time counts");
        bench.decoder.tick(Timestamp(bench.now + 30 * SECOND));
        assert_eq!(bench.decoder.stats(), Stats { timeout: 3, unfinished: 0, ..stats });
    }
}

/// Frames of any kind are time; steps of the clock are none.
#[test]
fn row_25_clock_steps_and_fragments() {
    const HOUR: u64 = 3_600 * SECOND;
    let pieces = Version::V4.cut(7, &segment(), &[24, 64]);
    let plain = plain4();
    for step in [HOUR + 1, 5 * HOUR] {
        for forwards in [true, false] {
            let mut bench = Bench::new(Limits::default());
            bench.holds(&pieces[0]);
            bench.now += 20 * SECOND;
            bench.holds(&pieces[1]);
            bench.now = if forwards { bench.now + step } else { bench.now - step };
            assert!(bench.send(&plain).is_ok());
            bench.now += 10 * SECOND - 1;
            assert_eq!(bench.send(&pieces[2]), Ok(payload()), "a step lets nothing expire");

            bench.holds(&pieces[0]);
            bench.now = if forwards { bench.now + step } else { bench.now - step };
            assert!(bench.send(&plain).is_ok());
            bench.now += 30 * SECOND;
            bench.holds(&pieces[1]);
            assert_eq!(bench.decoder.stats().timeout, 1, "nor does it keep anything");
        }
    }
    // Frames that tell that hours passed.
    let mut bench = Bench::new(Limits::default());
    bench.holds(&pieces[0]);
    for _ in 0..120 {
        bench.now += 60 * SECOND;
        assert!(bench.send(&plain).is_ok());
    }
    bench.holds(&pieces[1]);
    bench.holds(&pieces[2]);
    assert_eq!(bench.decoder.stats(), Stats { timeout: 1, unfinished: 2, ..Stats::default() });
}

#[test]
fn row_24_the_oldest_datagram_gives_way() {
    let mut bench = Bench::new(Limits { max_datagrams: 3, ..Limits::default() });
    let datagrams: Vec<_> = (0..5).map(|id| Version::V4.cut(id, &segment(), &[24, 64])).collect();
    for datagram in &datagrams[..3] {
        bench.holds(&datagram[0]);
        bench.holds(&datagram[1]);
    }
    bench.holds(&datagrams[3][0]);
    assert_eq!(bench.decoder.stats(), Stats { limit: 2, unfinished: 5, ..Stats::default() });
    assert_eq!(bench.send(&datagrams[1][2]), Ok(payload()));
    // The first one has to begin anew, which now nobody has to give way for.
    bench.holds(&datagrams[0][2]);
    assert_eq!(bench.decoder.stats(), Stats { limit: 2, joined: 2, unfinished: 4, ..Stats::default() });
}

/// Fragments of datagrams that are never completed, next to one that is: what is held stays below the limit.
#[test]
fn row_24_a_flood_of_fragments() {
    const MEMORY: usize = 1 << 20;
    let mut bench = Bench::new(Limits { max_memory: MEMORY, ..Limits::default() });
    for id in 0..u16::MAX {
        bench.now += 1_000_000;
        bench.holds(&Version::V4.fragment(
            id,
            usize::from(id % 8_000) * 8,
            true,
            &vec![0; usize::from(id % 16 + 1) * 8],
        ));
        if id % 1_000 == 0 {
            let pieces = Version::V6.cut(id, &segment(), &[24, 64]);
            bench.holds(&pieces[2]);
            bench.holds(&pieces[0]);
            assert_eq!(bench.send(&pieces[1]), Ok(payload()));
        }
        assert!(bench.decoder.fragments_memory() <= MEMORY);
    }
    let stats = bench.decoder.stats();
    assert_eq!(stats.limit + stats.timeout + stats.unfinished, u64::from(u16::MAX));
    assert!(stats.limit > 30_000 && stats.unfinished > 1_000, "{stats:?}");

    // One datagram alone, in pieces as small as they get, and more than there is room for.
    let mut bench = Bench::new(Limits { max_memory: 10_000, ..Limits::default() });
    for offset in (0..65_000).step_by(16) {
        bench.holds(&Version::V4.fragment(1, offset, true, &[0; 8]));
        assert!(bench.decoder.fragments_memory() <= 10_000);
    }
}

/// What the snaplen cut off a fragment is missing from there on.
#[test]
fn row_22_fragments_cut_by_the_snaplen() {
    for version in BOTH {
        let pieces = version.cut(7, &segment(), &[24, 64]);
        let header = pieces[0].len() - 24;
        // Which piece is cut, to how many octets; what is left of the payload.
        for (cut, len, left) in [(0, 22, 2), (1, 30, 34), (1, 0, 4), (2, 30, 74), (2, 0, 44)] {
            for last in 0..3 {
                let mut bench = Bench::new(Limits::default());
                let mut send = |number: usize| {
                    let piece = &pieces[number];
                    let captured = if number == cut { header + len } else { piece.len() };
                    let frame = Frame { len: piece.len() as u32, ..frame(LinkType::RAW, &piece[..captured]) };
                    let decoded = bench.decoder.decode(&frame);
                    decoded.map(|decoded| (decoded.segment.payload.to_vec(), decoded.segment.missing))
                };
                for number in (0..3).filter(|&number| number != last) {
                    assert_eq!(send(number), Err(Reject::Fragment));
                }
                assert_eq!(send(last), Ok((payload()[..left].to_vec(), 80 - left as u32)), "{cut} {len} {last}");
            }
        }
    }
}
