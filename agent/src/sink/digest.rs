use std::hint::black_box;

use crate::{
    clock::Clock,
    reassembly::{ConnectionId, Direction, Event, Sink, Summary},
    segment::Endpoint,
    sink::{Output, Stats},
};

/// A checksum over every octet that is delivered, in place of files.
///
/// The octet `b` at offset `o` of a stream with the key `k` adds `(b + 1) * 256^(o % 4) * (swap(k) + o / 4 * k)`, modulo
/// 2^64, where `swap` exchanges the halves. So it does not matter in what pieces the octets come, nor when, nor to which
/// shard; late ones count like all others, and a gap adds nothing. It does matter when an octet is missing, has another
/// value, stands at another offset or in another stream. The key is made of the stream's ends and the start of its
/// connection.
pub struct Digest {
    clock: Clock,
    late_have_room: bool,
    /// By slot, and by direction.
    keys: Vec<[u64; 2]>,
    sum: u64,
    stats: Stats,
}

impl Digest {
    pub fn new(output: &Output) -> Self {
        Self {
            clock: output.clock,
            late_have_room: output.gaps.have_room(),
            keys: Vec::new(),
            sum: 0,
            stats: Stats::default(),
        }
    }

    /// As [`Destination::expect`](super::Destination::expect).
    pub fn expect(&self, slot: u32) {
        black_box(self.keys.get(slot as usize).map(|[first, _]| *first));
    }

    pub fn finish(self) -> Stats {
        Stats { digest: Some(self.sum), ..self.stats }
    }

    fn open(&mut self, slot: usize, summary: &Summary<'_>) {
        if slot >= self.keys.len() {
            self.keys.resize(slot + 1, [0; 2]);
        }
        let start = self.clock.wall(summary.start).0;
        let (client, server) = (&summary.client, &summary.server);
        self.keys[slot] = [key(client, server, start), key(server, client, start)];
    }

    fn add(&mut self, slot: usize, direction: Direction, offset: u64, bytes: &[u8]) {
        self.stats.handed += bytes.len() as u64;
        let Some(keys) = self.keys.get(slot) else { return };
        let key = keys[direction as usize];
        self.stats.digested += bytes.len() as u64;
        let Sums { plain, weighted } = Sums::of(offset, bytes);
        self.sum =
            self.sum.wrapping_add(plain.wrapping_mul(key.rotate_left(32))).wrapping_add(weighted.wrapping_mul(key));
    }
}

impl Sink for Digest {
    fn event(&mut self, id: ConnectionId, event: Event<'_>) {
        let slot = id.slot as usize;
        match event {
            Event::Open(summary) => self.open(slot, summary),
            Event::Data { direction, offset, bytes } => self.add(slot, direction, offset, bytes),
            Event::Late { direction, offset, bytes } if self.late_have_room => self.add(slot, direction, offset, bytes),
            Event::Late { .. } | Event::Gap { .. } | Event::Update(_) => {}
            Event::Close(summary) => {
                self.stats.records += 1;
                self.stats.digested_streams += summary.streams.iter().filter(|it| it.delivered > 0).count() as u64;
            }
        }
    }
}

/// What a piece of a stream amounts to, before its key comes in: its words of 32 bits, to each octet of which one is
/// added, and the same multiplied with their numbers in the stream.
#[derive(Debug, Eq, PartialEq)]
struct Sums {
    plain: u64,
    weighted: u64,
}

impl Sums {
    fn of(offset: u64, bytes: &[u8]) -> Self {
        // Octets up to the stream's next whole word; memory may be aligned in any way.
        let (head, rest) = bytes.split_at((offset.wrapping_neg() % WORD as u64).min(bytes.len() as u64) as usize);
        let (words, tail) = rest.split_at(rest.len() / WORD * WORD);
        let mut number = offset / WORD as u64;
        let mut sums = Self { plain: 0, weighted: 0 };
        if !head.is_empty() {
            sums.add_part(number, offset % WORD as u64, head);
            number += 1;
        }
        sums.add_words(number, words);
        if !tail.is_empty() {
            sums.add_part(number + (words.len() / WORD) as u64, 0, tail);
        }
        sums
    }

    /// Part of a word, from the octet `at` on.
    fn add_part(&mut self, number: u64, at: u64, bytes: &[u8]) {
        let word = bytes.iter().rev().fold(0, |word, &byte| (word << 8) + u64::from(byte) + 1) << (8 * at);
        self.plain = self.plain.wrapping_add(word);
        self.weighted = self.weighted.wrapping_add(number.wrapping_mul(word));
    }

    /// Whole words. The sum of all sums so far is the sum of the words, each multiplied with how many words follow it and
    /// one more: additions alone, in lanes that do not wait for each other.
    fn add_words(&mut self, mut number: u64, bytes: &[u8]) {
        let mut rows = bytes.chunks_exact(LANES * WORD);
        // Pairs of words, and the second ones alone: the difference is what the first ones amount to.
        let (mut both, mut both_sums) = ([0_u64; LANES / 2], [0_u64; LANES / 2]);
        let (mut second, mut second_sums) = ([0_u64; LANES / 2], [0_u64; LANES / 2]);
        let count = rows.len() as u64;
        for row in &mut rows {
            for lane in 0..LANES / 2 {
                let pair = u64::from_le_bytes(std::array::from_fn(|at| row[lane * 8 + at]));
                both[lane] = both[lane].wrapping_add(pair);
                both_sums[lane] = both_sums[lane].wrapping_add(both[lane]);
                second[lane] = second[lane].wrapping_add(pair >> 32);
                second_sums[lane] = second_sums[lane].wrapping_add(second[lane]);
            }
        }
        for lane in 0..LANES / 2 {
            let first = both[lane].wrapping_sub(second[lane] << 32);
            let first_sums = both_sums[lane].wrapping_sub(second_sums[lane] << 32);
            let words = [(first, first_sums), (second[lane], second_sums[lane])];
            for (at, (sum, sums)) in (number + 2 * lane as u64..).zip(words) {
                self.plain = self.plain.wrapping_add(sum);
                let rows = count.wrapping_mul(sum).wrapping_sub(sums);
                self.weighted =
                    self.weighted.wrapping_add(at.wrapping_mul(sum)).wrapping_add(rows.wrapping_mul(LANES as u64));
            }
        }
        // The ones that are added to each octet.
        let words = count * LANES as u64;
        let numbers = u128::from(words) * (u128::from(2 * number) + u128::from(words).saturating_sub(1)) / 2;
        self.plain = self.plain.wrapping_add(words.wrapping_mul(ONES));
        self.weighted = self.weighted.wrapping_add((numbers as u64).wrapping_mul(ONES));

        number += words;
        for (number, word) in (number..).zip(rows.remainder().chunks_exact(WORD)) {
            self.add_part(number, 0, word);
        }
    }
}

/// Differs for the two directions, and where ends or start differ.
fn key(src: &Endpoint, dst: &Endpoint, start: u64) -> u64 {
    let ports = u64::from(src.port) << 16 | u64::from(dst.port);
    let addresses = [src.address, dst.address].into_iter().flatten().map(u64::from_be);
    addresses.chain([ports, start]).fold(0, |key, word| {
        // Of SplitMix64: an odd constant of which half the bits are set.
        let key = (key ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        key ^ key >> 31
    })
}

/// Octets of a word. Sums of 32-bit words in 64 bits lose nothing that tells two of them apart.
const WORD: usize = 4;
/// Words that are added at a time.
const LANES: usize = 8;
const ONES: u64 = 0x0101_0101;

#[cfg(test)]
mod tests {
    use super::*;

    /// As the documentation of [`Digest`] has it, an octet at a time.
    fn plainly(offset: u64, bytes: &[u8]) -> Sums {
        let mut sums = Sums { plain: 0, weighted: 0 };
        for (at, &byte) in (offset..).zip(bytes) {
            let value = (u64::from(byte) + 1) << (8 * (at % 4));
            sums.plain = sums.plain.wrapping_add(value);
            sums.weighted = sums.weighted.wrapping_add((at / 4).wrapping_mul(value));
        }
        sums
    }

    #[test]
    fn pieces_are_what_their_octets_are() {
        let bytes: Vec<u8> =
            (0_u32..3_000).map(|at| (at.wrapping_mul(at).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for offset in [0, 1, 2, 3, 31, 32, (1 << 32) - 5, (1 << 40) + 7, u64::MAX / 8] {
            for len in (0..100).chain([1_448, 3_000]) {
                assert_eq!(Sums::of(offset, &bytes[..len]), plainly(offset, &bytes[..len]), "{len} at {offset}");
            }
        }
        // The largest value that there is.
        assert_eq!(Sums::of(5, &[0xff; 3_000]), plainly(5, &[0xff; 3_000]));
    }

    #[test]
    fn keys_tell_ends_directions_and_starts_apart() {
        let [a, b, c] = [(1, 80), (2, 80), (1, 81)].map(|(host, port)| Endpoint::v4([10, 0, 0, host], port));
        let keys = [key(&a, &b, 7), key(&b, &a, 7), key(&a, &c, 7), key(&c, &b, 7), key(&a, &b, 8)];
        for (number, key) in keys.iter().enumerate() {
            assert!(!keys[..number].contains(key));
        }
    }
}
