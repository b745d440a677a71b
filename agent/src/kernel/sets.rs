//! The nets of a filter, as the kernel looks them up.

use agent_common::head::{Address, trie_key};
use anyhow::{Context as _, Result};
use aya::{
    EbpfError,
    maps::{LpmTrie, Map, MapData, lpm_trie::Key},
};
use aya_obj::generated::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_LPM_TRIE};

use super::loading;
use crate::filter::Sets;

/// The value has a bit for each set that the addresses of a prefix are in.
pub(super) type Trie = LpmTrie<MapData, Address, u32>;

/// A trie of its own for every filter: one that programs read is not written to.
pub(super) fn make(sets: &Sets) -> Result<Trie> {
    let (key, value, flags) = (size_of::<Key<Address>>() as u32, size_of::<u32>() as u32, BPF_F_NO_PREALLOC);
    let entries = u32::try_from(sets.len().max(1)).context("make a trie of the filter's nets")?;
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_LPM_TRIE as u32, key, value, entries, flags);
    let map = MapData::create(map, "xdpflow_nets", None).map_err(|error| loading(&EbpfError::from(error)))?;
    let mut trie = Trie::try_from(Map::LpmTrie(map))?;
    for (address, length, bits) in sets.iter() {
        let key = trie_key(address);
        // What is moved to the front leaves a word behind.
        let length = if key == address { length } else { length - 64 };
        trie.insert(&Key::new(length.into(), key), bits, 0).context("write the filter's nets")?;
    }
    Ok(trie)
}
