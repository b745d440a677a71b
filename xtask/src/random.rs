//! Random numbers that are the same for the same seed.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators"). What fails should fail again.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mixed(self.0)
    }

    /// Less than `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// From `low` to `high`, each power of two as likely as the others.
    pub(crate) fn scaled(&mut self, low: u64, high: u64) -> u64 {
        let fraction = self.next() as f64 / u64::MAX as f64;
        ((low as f64) * (high as f64 / low as f64).powf(fraction)) as u64
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.below(at as u64 + 1) as usize;
            items.swap(at, other);
        }
    }
}

/// Fills `buffer` with what `seed` says from octet `at` on: the generator counts, so it can start anywhere.
pub(crate) fn fill(seed: u64, at: u64, buffer: &mut [u8]) {
    let mut at = at;
    let mut rest = buffer;
    while !rest.is_empty() {
        let word = word(seed, at / 8).to_le_bytes();
        let part = &word[(at % 8) as usize..];
        let (filled, unfilled) = rest.split_at_mut(part.len().min(rest.len()));
        filled.copy_from_slice(&part[..filled.len()]);
        at += filled.len() as u64;
        rest = unfilled;
    }
}

/// The `number`th word of what `seed` says.
pub(crate) fn word(seed: u64, number: u64) -> u64 {
    mixed(seed.wrapping_add(number.wrapping_mul(GAMMA)))
}

fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
