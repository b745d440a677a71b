//! What a stream holds: a function of its key and the position, so that nothing has to be stored.

use crate::rng::mix;

/// Key of one direction of one conversation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content(u64);

impl Content {
    pub(crate) fn new(seed: u64, conversation: usize, side: usize) -> Self {
        Self(mix(seed ^ mix((conversation * 2 + side) as u64 + 1)))
    }

    pub(crate) fn octet(self, position: u64) -> u8 {
        self.word(position / 8).to_le_bytes()[(position % 8) as usize]
    }

    pub(crate) fn append(self, position: u64, len: u64, to: &mut Vec<u8>) {
        to.extend((position..position + len).map(|at| self.octet(at)));
    }

    /// Index of the first octet that is not the one sent at `position` and on.
    pub(crate) fn mismatch(self, position: u64, octets: &[u8]) -> Option<usize> {
        let mut word = (u64::MAX, [0; 8]);
        octets.iter().zip(position..).position(|(octet, at)| {
            if word.0 != at / 8 {
                word = (at / 8, self.word(at / 8).to_le_bytes());
            }
            *octet != word.1[(at % 8) as usize]
        })
    }

    fn word(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}
