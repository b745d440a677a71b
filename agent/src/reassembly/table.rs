//! The connections, by slot and by endpoints.

use agent_common::{head::Head, shard::ShardKey};
use hashbrown::HashTable;

use super::{config::Config, connection::Connection};
use crate::{
    segment::{Endpoint, Origin, Segment, Timestamp},
    slab::Slab,
};

/// Slots are dense and used again; the index holds slot numbers alone, so that it costs five octets per place.
pub(super) struct Table {
    index: HashTable<u32>,
    slots: Slab<Connection>,
    hasher: Hasher,
    /// Longest idle connections at one moment, the longest last: see [`longest_idle`](Self::longest_idle).
    idle: Vec<(Timestamp, u32)>,
}

impl Table {
    pub(super) fn new(config: &Config) -> Self {
        Self { index: HashTable::new(), slots: Slab::default(), hasher: Hasher::new(config), idle: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, segment: &Segment<'_>) -> Option<u32> {
        let Segment { src, dst, .. } = *segment;
        let place = self.hasher.place(&segment.origin);
        let is_it = |&slot: &u32| {
            self.get(slot).is_some_and(|known| {
                known.is_between(src, dst) && (place == 0 || self.hasher.place(&known.origin()) == place)
            })
        };
        self.index.find(self.hasher.hash(src, dst, place), is_it).copied()
    }

    /// The slot that a connection with this hash most likely has, without a look at the connection.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |_| true).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot)
    }

    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        let hash = self.hasher.hash_of(&connection);
        let slot = self.slots.insert(connection);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |&slot| slots.get(slot).map_or(0, |known| hasher.hash_of(known)));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let hash = self.hasher.hash_of(self.get(slot)?);
        if let Ok(entry) = self.index.find_entry(hash, |&found| found == slot) {
            entry.remove();
        }
        self.slots.remove(slot)
    }

    /// The connection that has been idle longest. Keeping all of them in order would cost every segment two cache
    /// misses; instead, the longest idle ones are sorted out once in a while, and of those every one that has not been
    /// seen since is still the longest idle of all.
    pub(super) fn longest_idle(&mut self) -> Option<u32> {
        loop {
            while let Some((last_seen, slot)) = self.idle.pop() {
                if self.get(slot).is_some_and(|connection| connection.last_seen == last_seen) {
                    return Some(slot);
                }
            }
            if self.index.is_empty() {
                return None;
            }
            self.idle.extend(self.slots.iter().map(|(slot, connection)| (connection.last_seen, slot)));
            let keep = self.idle.len().div_ceil(16);
            self.idle.select_nth_unstable(keep - 1);
            self.idle.truncate(keep);
            self.idle.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    /// Every slot in use, in the order the connections were opened.
    pub(super) fn in_order(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.index.iter().copied().collect();
        slots.sort_unstable_by_key(|&slot| self.get(slot).map(|connection| connection.serial));
        slots
    }

    /// Keyed hash of all that tells a connection from others, the same for both directions.
    pub(super) fn fingerprint(&self, src: Endpoint, dst: Endpoint, origin: &Origin) -> u64 {
        self.hasher.hash(src, dst, self.hasher.place(origin))
    }

    pub(super) fn fingerprint_of(&self, connection: &Connection) -> u64 {
        self.hasher.hash_of(connection)
    }
}

/// A bijection: SplitMix64's finaliser but for its last shift, which only mixes the lower bits better.
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// What makes two connections different ones.
struct Hasher {
    keys: [ShardKey; 2],
    interface: bool,
    vlan: bool,
}

impl Hasher {
    fn new(config: &Config) -> Self {
        let key = config.hash_key;
        // The second key is made from the first by a bijection, so it is as secret.
        let second = key.map(mix);
        Self { keys: [ShardKey(key), ShardKey(second)], interface: config.interface_key, vlan: config.vlan_key }
    }

    /// As far as it is part of the key, where a frame was seen: an interface in the upper half, a VLAN in the lower. 0
    /// when none is.
    fn place(&self, origin: &Origin) -> u32 {
        let interface = if self.interface { u32::from(origin.interface) + 1 } else { 0 };
        let vlan = origin.vlan.filter(|_| self.vlan).map_or(0, |vlan| u32::from(vlan) + 1);
        interface << 16 | vlan
    }

    fn hash(&self, a: Endpoint, b: Endpoint, place: u32) -> u64 {
        let head = Head { src: a.address, dst: b.address, src_port: a.port, dst_port: b.port, ..Head::default() };
        let hash = (u64::from(self.keys[0].hash(&head)) << 32) | u64::from(self.keys[1].hash(&head));
        // An odd factor: different places never make one hash of the same endpoints.
        hash.wrapping_add(u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn hash_of(&self, connection: &Connection) -> u64 {
        let (a, b) = connection.endpoints();
        self.hash(a, b, self.place(&connection.origin()))
    }
}

// The README says what a connection costs.
const _: () = assert!(Slab::<Connection>::PLACE <= 208);

#[cfg(test)]
mod tests {
    use super::*;

    /// The linger takes the whole hash for the endpoints, so the key that replay and tests use must mix as well as a random
    /// one: neither swapped ports nor addresses of equal sum are the same endpoints.
    #[test]
    fn the_fixed_key_tells_endpoints_apart() {
        let hasher = Hasher::new(&Config::default());
        let hash = |a, a_port, b, b_port| {
            hasher.hash(Endpoint::v4([10, 0, 0, a], a_port), Endpoint::v4([10, 0, 0, b], b_port), 0)
        };
        assert_eq!(hash(1, 1000, 4, 80), hash(4, 80, 1, 1000));
        assert_ne!(hash(1, 1000, 4, 80), hash(1, 80, 4, 1000));
        assert_ne!(hash(1, 1000, 4, 80), hash(2, 1000, 3, 80));
    }
}
