//! Which shard a frame belongs to: a keyed, symmetric hash, the same in the kernel and in `replay`.

use bytemuck::{Pod, Zeroable};

use crate::head::Head;

/// Key of the shard hash: random for a live capture, so that nobody outside can choose the shard; fixed in replay.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ShardKey(pub [u64; 12]);

impl ShardKey {
    /// For replay, tests and measurements: the same on every run. Its words differ as random ones do; with words that do
    /// not, the hash would not tell the endpoints of one connection from a permutation of them.
    pub const FIXED: Self = Self([
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
        0xd6e8_feb8_6659_fd93,
        0xa076_1d64_78bd_642f,
        0xe703_7ed1_a0b4_28db,
        0x8ebc_6af0_9c88_c6e3,
        0x5896_36d1_7a4c_8f5b,
        0x1d8e_4e27_c47d_124f,
        0xeb44_acca_b455_d165,
        0x3c6e_f372_fe94_f82b,
    ]);

    /// For samples of connections: the same on every host, so that all of a fleet take the same ones, and another one than
    /// that of the shards, or a sample would be the part of one shard.
    pub const SAMPLE: Self = {
        let mut key = Self::FIXED.0;
        let mut i = 0;
        while i < key.len() {
            key[i] = key[i].rotate_left(29);
            i += 1;
        }
        Self(key)
    };

    /// Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast"): for two different pairs of
    /// endpoints the chance of one hash is 2^-32 over the keys, whoever picked the pairs. Endpoints are put in order
    /// first, so both directions of a connection hash alike. Of fragments only the addresses count, since ports are
    /// in the first one alone, and of tunnels, since those outside say nothing of what is inside.
    #[inline(always)]
    pub fn hash(&self, head: &Head) -> u32 {
        let k = &self.0;
        let (a, b) = if (head.src, head.src_port) <= (head.dst, head.dst_port) {
            ((head.src, head.src_port), (head.dst, head.dst_port))
        } else {
            ((head.dst, head.dst_port), (head.src, head.src_port))
        };
        let words = [a.0[0], a.0[1], b.0[0], b.0[1]];
        let mut sum = k[10];
        let mut i = 0;
        while i < 4 {
            let (low, high) = (words[i] as u32, (words[i] >> 32) as u32);
            sum = sum.wrapping_add(
                k[2 * i].wrapping_add(u64::from(low)).wrapping_mul(k[2 * i + 1].wrapping_add(u64::from(high))),
            );
            i += 1;
        }
        sum = sum.wrapping_add(k[8].wrapping_add(u64::from(a.1)).wrapping_mul(k[9].wrapping_add(u64::from(b.1))));
        (sum >> 32) as u32
    }

    /// Maps a hash onto `shards` without a division (Lemire's multiply-shift); `shards` is at least 1.
    #[inline(always)]
    pub fn pick(hash: u32, shards: u32) -> u32 {
        ((u64::from(hash) * u64::from(shards)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads() -> impl Iterator<Item = Head> {
        (0..20_000_u64).map(|i| {
            let address = |n: u64| [0, (0xffff_0000 | n << 32).rotate_left((n % 3 * 8) as u32)];
            Head {
                src: address(i % 7),
                dst: address(i % 5),
                src_port: 1024 + (i % 900) as u16,
                dst_port: [80, 443, 1024][i as usize % 3],
                ..Head::default()
            }
        })
    }

    #[test]
    fn both_directions_hash_alike() {
        for head in heads() {
            let Head { src, dst, src_port, dst_port, .. } = head;
            let back = Head { src: dst, dst: src, src_port: dst_port, dst_port: src_port, ..head };
            assert_eq!(ShardKey::FIXED.hash(&head), ShardKey::FIXED.hash(&back), "{head:?}");
        }
    }

    #[test]
    fn connections_spread_over_the_shards_and_hang_on_the_key() {
        for shards in [1, 2, 5, 8, 64] {
            let mut load = vec![0_u32; shards as usize];
            for port in 0..60_000 {
                let head = Head { src_port: port, dst_port: 443, ..heads().next().unwrap() };
                load[ShardKey::pick(ShardKey::FIXED.hash(&head), shards) as usize] += 1;
            }
            let fair = 60_000 / shards;
            assert!(load.iter().all(|&n| n > fair * 3 / 4 && n < fair * 5 / 4), "{shards} shards: {load:?}");
        }
        let other = ShardKey(ShardKey::FIXED.0.map(|word| word.rotate_left(17)));
        let same = heads().filter(|head| ShardKey::FIXED.hash(head) == other.hash(head)).count();
        assert!(same < 3, "{same}");
    }
}
