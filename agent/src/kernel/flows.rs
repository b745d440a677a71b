//! The kernel's flow table, read from outside.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use agent_common::flow::{Flow, FlowKey};
use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};

/// The flow table. Its clones, for the threads of the shards, are the same table.
#[derive(Clone)]
pub struct Flows {
    map: Arc<RwLock<HashMap<MapData, FlowKey, Flow>>>,
    removed: Arc<AtomicU64>,
}

impl Flows {
    pub(super) fn new(map: Map) -> Result<Self> {
        Ok(Self { map: Arc::new(RwLock::new(HashMap::try_from(map)?)), removed: Arc::default() })
    }

    /// What the kernel knows about a connection now; `None` when it has forgotten it, or never had a table. A system call,
    /// and no use of the entry in the eyes of the table.
    pub fn get(&self, key: &FlowKey) -> Option<Flow> {
        self.read().get(key, 0).ok()
    }

    /// Has the kernel forget what it knows.
    pub fn remove(&self, key: &FlowKey) {
        if self.map.write().unwrap_or_else(PoisonError::into_inner).remove(key).is_ok() {
            self.removed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries that the kernel had no need to forget: in the table, which is walked, and removed.
    pub fn spared(&self) -> u64 {
        self.read().keys().filter(Result::is_ok).count() as u64 + self.removed.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<MapData, FlowKey, Flow>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").finish_non_exhaustive()
    }
}
