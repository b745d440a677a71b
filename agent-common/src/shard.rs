//! Which shard a frame belongs to: a keyed, symmetric hash, the same in the kernel and in `replay`.

use bytemuck::{Pod, Zeroable};

use crate::filter::Head;

/// Key of the shard hash: random for a live capture, so that nobody outside can choose the shard; fixed in replay.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ShardKey(pub [u64; 12]);

impl ShardKey {
    /// Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast"): for two different pairs of
    /// endpoints the chance of one hash is 2^-32 over the keys, whoever picked the pairs. Endpoints are put in order
    /// first, so both directions of a connection hash alike. Of fragments only the addresses count, since ports are
    /// in the first one alone.
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
