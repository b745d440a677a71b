use crate::{
    reassembly::{ConnectionId, Event, Sink},
    segment::Timestamp,
    sink::{Digest, Directory, Form, Output, Stats},
};

/// Where a shard's streams go.
pub enum Destination {
    Files(Box<Directory>),
    Digest(Box<Digest>),
}

impl Destination {
    /// One for each of [`Output::shards`].
    ///
    /// # Errors
    ///
    /// As [`Directory::for_shards`].
    pub fn for_shards(output: &Output) -> anyhow::Result<Vec<Self>> {
        Ok(match output.form {
            Form::Files => Directory::for_shards(output)?.into_iter().map(Self::from).collect(),
            Form::Digest => (0..output.shards).map(|_| Self::Digest(Box::new(Digest::new(output)))).collect(),
        })
    }

    /// Has what is known of a connection on its way from memory: an event of this slot will come.
    pub fn expect(&self, slot: u32) {
        match self {
            Self::Files(directory) => directory.expect(slot),
            Self::Digest(digest) => digest.expect(slot),
        }
    }

    /// As [`Directory::tick`].
    pub fn tick(&mut self, now: Timestamp) {
        if let Self::Files(directory) = self {
            directory.tick(now);
        }
    }

    /// As [`Directory::source_ended`].
    pub fn source_ended(&mut self) {
        if let Self::Files(directory) = self {
            directory.source_ended();
        }
    }

    /// As [`Directory::finish`].
    pub fn finish(self) -> Stats {
        match self {
            Self::Files(directory) => directory.finish(),
            Self::Digest(digest) => digest.finish(),
        }
    }
}

impl From<Directory> for Destination {
    fn from(directory: Directory) -> Self {
        Self::Files(Box::new(directory))
    }
}

impl Sink for Destination {
    fn event(&mut self, connection: ConnectionId, event: Event<'_>) {
        match self {
            Self::Files(directory) => directory.event(connection, event),
            Self::Digest(digest) => digest.event(connection, event),
        }
    }
}
