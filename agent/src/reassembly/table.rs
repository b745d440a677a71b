//! The connections, by slot and by endpoints.

use agent_common::{filter::Head, shard::ShardKey};
use hashbrown::HashTable;

use super::connection::Connection;
use crate::segment::{Endpoint, Timestamp};

/// Slots are dense and used again; the index holds slot numbers alone, so that it costs five octets per connection.
pub(super) struct Table {
    index: HashTable<u32>,
    slots: Vec<Option<Connection>>,
    vacant: Vec<u32>,
    keys: [ShardKey; 2],
    /// Longest idle connections at one moment, the longest last: see [`longest_idle`](Self::longest_idle).
    idle: Vec<(Timestamp, u32)>,
}

impl Table {
    pub(super) fn new(key: [u64; 12]) -> Self {
        // The second key is made from the first by a bijection (SplitMix64's finaliser), so it is as secret.
        let second = key.map(|word| {
            let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
        });
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            vacant: Vec::new(),
            keys: [ShardKey(key), ShardKey(second)],
            idle: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, a: Endpoint, b: Endpoint) -> Option<u32> {
        let between = |&slot: &u32| self.get(slot).is_some_and(|connection| connection.is_between(a, b));
        self.index.find(self.hash(a, b), between).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        let (a, b) = connection.endpoints();
        let hash = self.hash(a, b);
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(connection);
        let (slots, keys) = (&self.slots, &self.keys);
        self.index.insert_unique(hash, slot, |&slot| {
            slots[slot as usize].as_ref().map_or(0, |connection| {
                let (a, b) = connection.endpoints();
                spread(keys, a, b)
            })
        });
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let (a, b) = self.get(slot)?.endpoints();
        if let Ok(entry) = self.index.find_entry(self.hash(a, b), |&found| found == slot) {
            entry.remove();
        }
        self.vacant.push(slot);
        self.slots[slot as usize].take()
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
            self.idle.extend(self.slots.iter().enumerate().filter_map(|(slot, connection)| {
                connection.as_ref().map(|connection| (connection.last_seen, slot as u32))
            }));
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

    /// Keyed hash of a pair of endpoints, the same in both orders.
    pub(super) fn hash(&self, a: Endpoint, b: Endpoint) -> u64 {
        spread(&self.keys, a, b)
    }
}

fn spread(keys: &[ShardKey; 2], a: Endpoint, b: Endpoint) -> u64 {
    let head = Head { src: a.address, dst: b.address, src_port: a.port, dst_port: b.port, ..Head::default() };
    (u64::from(keys[0].hash(&head)) << 32) | u64::from(keys[1].hash(&head))
}

// The README says what a connection costs.
const _: () = assert!(size_of::<Option<Connection>>() <= 320);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reassembly::Config;

    /// The linger takes the whole hash for the endpoints, so the key that replay and tests use must mix as well as a random
    /// one: neither swapped ports nor addresses of equal sum are the same endpoints.
    #[test]
    fn the_fixed_key_tells_endpoints_apart() {
        let table = Table::new(Config::default().hash_key);
        let hash =
            |a, a_port, b, b_port| table.hash(Endpoint::v4([10, 0, 0, a], a_port), Endpoint::v4([10, 0, 0, b], b_port));
        assert_eq!(hash(1, 1000, 4, 80), hash(4, 80, 1, 1000));
        assert_ne!(hash(1, 1000, 4, 80), hash(1, 80, 4, 1000));
        assert_ne!(hash(1, 1000, 4, 80), hash(2, 1000, 3, 80));
    }
}
