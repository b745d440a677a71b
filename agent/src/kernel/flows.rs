//! The kernel's flow table, read from outside.

use std::{fmt, sync::Arc};

use agent_common::flow::{Flow, FlowKey};
use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};

/// The flow table. Its clones, for the threads of the shards, are the same table.
#[derive(Clone)]
pub struct Flows {
    map: Arc<HashMap<MapData, FlowKey, Flow>>,
}

impl Flows {
    pub(super) fn new(map: Map) -> Result<Self> {
        Ok(Self { map: Arc::new(HashMap::try_from(map)?) })
    }

    /// What the kernel knows about a connection now; `None` when it has forgotten it, or never had a table. A system call,
    /// and no use of the entry in the eyes of the table.
    pub fn get(&self, key: &FlowKey) -> Option<Flow> {
        self.map.get(key, 0).ok()
    }

    /// Entries in the table. Walks all of it.
    pub fn present(&self) -> u64 {
        self.map.keys().filter(Result::is_ok).count() as u64
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").finish_non_exhaustive()
    }
}
