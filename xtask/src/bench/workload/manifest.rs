//! What a workload's streams are.

use std::{collections::HashMap, net::SocketAddrV4};

use sha2::{Digest as _, Sha256};

use super::content::Content;

/// Every stream with octets, and the digest of all of them.
#[derive(Default)]
pub(crate) struct Manifest {
    streams: HashMap<Stream, u32>,
    pub(crate) count: u64,
    pub(crate) octets: u64,
    /// As `xdpflow replay --output digest` has it.
    pub(crate) digest: u64,
}

/// What can be told of a stream by a file that holds it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Stream {
    pub(crate) src: SocketAddrV4,
    pub(crate) dst: SocketAddrV4,
    pub(crate) len: u64,
    pub(crate) hash: [u8; 32],
}

impl Manifest {
    /// `start` is when the first segment of the connection was captured, in nanoseconds.
    pub(super) fn add(&mut self, src: SocketAddrV4, dst: SocketAddrV4, start: u64, content: &Content) {
        let mut hash = Sha256::new();
        let key = key(src, dst, start);
        let mut octets = Vec::new();
        // A multiple of the words that the digest is made of.
        const PIECE: u64 = 64 << 10;
        for from in (0..content.len).step_by(PIECE as usize) {
            content.read(from..content.len.min(from + PIECE), &mut octets);
            hash.update(&octets);
            self.digest = self.digest.wrapping_add(digest(key, from, &octets));
        }
        if content.len > 0 {
            let stream = Stream { src, dst, len: content.len, hash: hash.finalize().into() };
            *self.streams.entry(stream).or_default() += 1;
            self.count += 1;
            self.octets += content.len;
        }
    }

    /// As if `octets` of a stream, from `offset` on, had never been captured, as far as its digest goes: what files hold is
    /// not told any more. `offset` is a multiple of four, and no stream loses all that it has.
    pub(super) fn lose(&mut self, src: SocketAddrV4, dst: SocketAddrV4, start: u64, offset: u64, octets: &[u8]) {
        self.digest = self.digest.wrapping_sub(digest(key(src, dst, start), offset, octets));
        self.octets -= octets.len() as u64;
    }

    /// Holds what a program wrote against it.
    pub(crate) fn compare(&self, found: impl Iterator<Item = Option<Stream>>) -> Verdict {
        let mut left = self.streams.clone();
        let mut verdict = Verdict::default();
        for stream in found {
            match stream.and_then(|stream| Some((left.get_mut(&stream).filter(|left| **left > 0)?, stream.len))) {
                Some((left, len)) => {
                    *left -= 1;
                    verdict.right += 1;
                    verdict.octets += len;
                }
                None => verdict.wrong += 1,
            }
        }
        verdict.missing = self.count - verdict.right;
        verdict
    }

    /// For the same files without a program that finds out what is in them.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = u64> {
        self.streams.iter().flat_map(|(stream, &count)| (0..count).map(|_| stream.len))
    }
}

/// How many streams a program got right, and how many octets there are in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) right: u64,
    pub(crate) octets: u64,
    /// Files that are no stream.
    pub(crate) wrong: u64,
    /// Streams without a file.
    pub(crate) missing: u64,
}

/// Of a stream, as the documentation of xdpflow's digest has it.
fn key(src: SocketAddrV4, dst: SocketAddrV4, start: u64) -> u64 {
    let [from, to] = [src, dst].map(|end| u128::from(end.ip().to_ipv6_mapped()));
    let ports = u64::from(src.port()) << 16 | u64::from(dst.port());
    [(from >> 64) as u64, from as u64, (to >> 64) as u64, to as u64, ports, start].into_iter().fold(0, |key, word| {
        let key = (key ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        key ^ key >> 31
    })
}

/// What octets add to the digest; `offset` is a multiple of four.
fn digest(key: u64, offset: u64, octets: &[u8]) -> u64 {
    let mut sum = 0_u64;
    for (number, octets) in (offset / 4..).zip(octets.chunks(4)) {
        let word = octets.iter().rev().fold(0, |word, &octet| (word << 8) + u64::from(octet) + 1);
        // A carry out of the first octets of a word is one into the next, as where they are added one by one.
        let factor = key.rotate_left(32).wrapping_add(number.wrapping_mul(key));
        sum = sum.wrapping_add(word.wrapping_mul(factor));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_a_sum_over_octets() {
        let octets = [0xff, 0xff, 0xff, 0xff, 0, 1, 0xff];
        let key: u64 = 0x0123_4567_89ab_cdef;
        let mut expected = 0_u64;
        for (offset, octet) in (8_u64..).zip(octets) {
            let factor = key.rotate_left(32).wrapping_add((offset / 4).wrapping_mul(key));
            expected = expected.wrapping_add(((u64::from(octet) + 1) << (8 * (offset % 4))).wrapping_mul(factor));
        }
        assert_eq!(digest(key, 8, &octets), expected);
    }

    #[test]
    fn what_is_lost_was_never_there() {
        let [a, b] = [1, 2].map(|host| SocketAddrV4::new([10, 0, 0, host].into(), 80));
        let mut whole = Manifest::default();
        whole.add(a, b, 1, &Content::text("12345678abc".to_owned()));
        let mut front = Manifest::default();
        front.add(a, b, 1, &Content::text("12345678".to_owned()));
        whole.lose(a, b, 1, 8, b"abc");
        assert_eq!((whole.digest, whole.octets), (front.digest, front.octets));
    }

    #[test]
    fn each_stream_is_found_once() {
        let [a, b] = [1, 2].map(|host| SocketAddrV4::new([10, 0, 0, host].into(), 80));
        let mut manifest = Manifest::default();
        manifest.add(a, b, 1, &Content::text("one".to_owned()));
        manifest.add(b, a, 1, &Content::text("other".to_owned()));
        manifest.add(b, a, 2, &Content::default());
        let one = Stream { src: a, dst: b, len: 3, hash: Sha256::digest("one").into() };
        let verdict = manifest.compare([Some(one), Some(one), None].into_iter());
        assert_eq!(verdict, Verdict { right: 1, octets: 3, wrong: 2, missing: 1 });
    }
}
