//! What one direction of a connection says.

use std::ops::Range;

use crate::random;

/// A text and, behind it, octets that the seed makes: any part of them without those before it.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) text: Vec<u8>,
    pub(super) seed: u64,
    /// Text included.
    pub(super) len: u64,
}

impl Content {
    pub(super) fn text(text: String) -> Self {
        Self { len: text.len() as u64, text: text.into_bytes(), seed: 0 }
    }

    pub(super) fn random(seed: u64, len: u64) -> Self {
        Self { text: Vec::new(), seed, len }
    }

    /// Puts a part of it in the place of what is in `octets`.
    pub(super) fn read(&self, part: Range<u64>, octets: &mut Vec<u8>) {
        octets.clear();
        let text = self.text.len() as u64;
        let [from, to] = [part.start, part.end].map(|at| at.min(text) as usize);
        octets.extend_from_slice(&self.text[from..to]);
        let at = part.start.max(text);
        octets.resize((part.end - part.start) as usize, 0);
        random::fill(self.seed, at, &mut octets[to - from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_parts_of_the_whole() {
        let content = Content { text: b"eleven char".to_vec(), seed: 7, len: 100 };
        let (mut whole, mut part) = (Vec::new(), Vec::new());
        content.read(0..100, &mut whole);
        assert_eq!((whole.len(), &whole[..11]), (100, &b"eleven char"[..]));
        for from in 0..100 {
            for to in from..=100 {
                content.read(from..to, &mut part);
                assert_eq!(part, whole[from as usize..to as usize]);
            }
        }
    }
}
