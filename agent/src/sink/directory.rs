use crate::{
    reassembly::{ConnectionId, Event, Sink},
    segment::Timestamp,
    sink::{Output, Stats},
};

/// Files and an index in a directory. Lives on a shard's thread and never waits for a disk, unless
/// [`OnFull::Wait`](super::OnFull::Wait) says so.
pub struct Directory {
    stats: Stats,
}

impl Directory {
    /// Makes the directory and starts the writer. `shard` is below [`Output::shards`].
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or the thread not be started.
    pub fn new(output: Output, shard: u32) -> anyhow::Result<Self> {
        let _ = (output, shard);
        Ok(Self { stats: Stats::default() })
    }

    /// Writes what has been in memory for too long. `now` is capture time; to be called several times a second of it.
    pub fn tick(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Hands everything to the writer and waits for it, as long as it makes progress.
    pub fn finish(self) -> Stats {
        self.stats
    }
}

impl Sink for Directory {
    fn event(&mut self, connection: ConnectionId, event: Event<'_>) {
        let _ = (connection, event, &mut self.stats);
    }
}
