//! What a stream holds: a function of its key and the position, so that nothing has to be stored.

use crate::{packet::Position, rng::mix};

/// Key of one direction of one conversation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content(u64);

impl Content {
    pub(crate) fn new(seed: u64, conversation: usize, side: usize) -> Self {
        Self(mix(seed ^ mix((conversation * 2 + side) as u64 + 1)))
    }

    /// Appends `len` octets from `position` on.
    pub(crate) fn append(self, position: Position, len: usize, to: &mut Vec<u8>) {
        let until = to.len() + len;
        to.extend_from_slice(&self.word(position / 8)[(position % 8) as usize..]);
        for index in position / 8 + 1.. {
            if to.len() >= until {
                break;
            }
            to.extend_from_slice(&self.word(index));
        }
        to.truncate(until);
    }

    /// Index of the first octet that is not the one sent at `position` and on.
    pub(crate) fn mismatch(self, position: Position, octets: &[u8]) -> Option<usize> {
        let head = octets.len().min((8 - position % 8) as usize % 8);
        let (words, tail) = octets[head..].as_chunks();
        let first = position.div_ceil(8);
        let differs =
            |at: Position, octets: &[u8]| octets.iter().zip(at..).position(|(octet, at)| *octet != self.octet(at));
        if let Some(at) = differs(position, &octets[..head]) {
            return Some(at);
        }
        if let Some((index, word)) = (first..).zip(words).find(|(index, word)| self.word(*index) != **word) {
            return differs(8 * index, word).map(|at| (8 * index - position) as usize + at);
        }
        let at = octets.len() - tail.len();
        differs(position + at as Position, tail).map(|within| at + within)
    }

    fn octet(self, position: Position) -> u8 {
        self.word(position / 8)[(position % 8) as usize]
    }

    fn word(self, index: Position) -> [u8; 8] {
        mix(self.0.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes()
    }
}
