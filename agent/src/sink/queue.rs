//! What the shard hands its writer. Nobody holds the lock for longer than it takes to move a few pointers.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    reassembly::Direction,
    sink::{
        Stats,
        block::Chain,
        record::{Identity, Record},
    },
};

/// To the writer. A record is boxed, so that what is queued is small. Octets are not: a stream that goes on in order
/// allocates nothing.
pub(super) enum Message {
    /// A line for a connection that goes on.
    Note(Box<Record>),
    /// More octets of a stream that does not fit into memory.
    Write(Write),
    /// The last octets of a connection, and its line.
    Close(Box<Close>),
    /// The connection with this serial has closed, and there was no room for its record.
    Abandon(u64),
}

pub(super) struct Write {
    pub(super) identity: Identity,
    pub(super) direction: Direction,
    pub(super) chain: Chain,
}

pub(super) struct Close {
    pub(super) record: Record,
    pub(super) chains: [Chain; 2],
}

impl Message {
    /// Memory apart from blocks, which the pool bounds.
    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Note(record) => record.size(),
                Self::Close(close) => size_of::<Close>() + close.record.size() - size_of::<Record>(),
                Self::Write(_) | Self::Abandon(_) => 0,
            }
    }

    fn held(&self) -> usize {
        match self {
            Self::Write(write) => write.chain.held(),
            Self::Close(close) => close.chains.iter().map(Chain::held).sum(),
            Self::Note(_) | Self::Abandon(_) => 0,
        }
    }

    /// What is lost when the message is never worked off.
    fn loss(&self) -> Stats {
        match self {
            Self::Note(_) => Stats { notes_lost: 1, ..Stats::default() },
            Self::Write(write) => Stats { disk_slow: write.chain.octets(), ..Stats::default() },
            Self::Close(close) => {
                Stats { disk_slow: close.chains.iter().map(Chain::octets).sum(), records_lost: 1, ..Stats::default() }
            }
            Self::Abandon(_) => Stats::default(),
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Memory of the messages, the one that the writer is at included.
    size: AtomicUsize,
    /// For the writer: there are messages.
    work: Condvar,
    /// For the shard: a message is done.
    room: Condvar,
    /// System calls of the writer that came back: the sign of life that [`Queue::finish`] looks for.
    progress: AtomicU64,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    /// Memory that came since the writer was last woken.
    unannounced: usize,
    /// The message that the writer is at: its size, and what is lost if it never comes back.
    current: (usize, Stats),
    /// The writer's numbers, as of the last message that is done.
    stats: Stats,
    /// The writer waits.
    idle: bool,
    /// The shard waits until the messages take up no more memory than this: not just for the room it needs next, or the
    /// two would take turns.
    waiting: Option<usize>,
    /// No message will follow.
    closed: bool,
    /// The writer has ended.
    ended: bool,
}

/// Memory that is worth waking the writer for at once; [`Queue::wake`] does it for the rest.
const WAKE: usize = 64 << 10;

/// The shard's side.
impl Queue {
    pub(super) fn push(&self, message: Message) {
        let mut state = self.lock();
        let size = message.size();
        self.size.fetch_add(size, Ordering::Relaxed);
        state.unannounced += size + message.held();
        state.messages.push_back(message);
        if state.unannounced >= WAKE {
            self.announce(state);
        }
    }

    pub(super) fn wake(&self) {
        let state = self.lock();
        // A shard that has nothing to say leaves its writer asleep.
        if !state.messages.is_empty() {
            self.announce(state);
        }
    }

    /// Whether the writer takes nothing any more.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Memory of all messages that are not done.
    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn stats(&self) -> Stats {
        self.lock().stats
    }

    /// Waits until the messages take up no more than half of `limit`; with `patience`, only while the writer makes
    /// progress. Returns whether they do.
    pub(super) fn wait_for_room(&self, limit: usize, patience: Option<Duration>) -> bool {
        let limit = limit / 2;
        self.wake();
        let _state = self.wait_until(patience, |state| {
            let done = self.size() <= limit || state.ended;
            state.waiting = (!done).then_some(limit);
            done
        });
        self.size() <= limit
    }

    /// Waits for the writer to do what is queued and to end; with `patience`, only while it makes progress. Returns its
    /// numbers, and whether it was left behind; what it has not done is then counted as lost.
    pub(super) fn finish(&self, patience: Option<Duration>) -> (Stats, bool) {
        self.close();
        let mut state = self.wait_until(patience, |state| state.ended);
        let mut stats = state.stats;
        let left = mem::take(&mut state.current.1);
        stats.merge(&left);
        let messages = mem::take(&mut state.messages);
        for message in &messages {
            stats.merge(&message.loss());
        }
        (stats, !state.ended || left != Stats::default() || !messages.is_empty())
    }

    /// Waits until `done`, or until no system call of the writer has come back for as long as `patience`.
    fn wait_until(
        &self,
        patience: Option<Duration>,
        mut done: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let mut progress = self.progress.load(Ordering::Relaxed);
        while !done(&mut state) {
            let Some(patience) = patience else {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (next, timeout) = self.room.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = next;
            let before = mem::replace(&mut progress, self.progress.load(Ordering::Relaxed));
            if timeout.timed_out() && before == progress {
                break;
            }
        }
        state
    }

    /// No message will follow.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.announce(state);
    }

    fn announce(&self, mut state: MutexGuard<'_, State>) {
        state.unannounced = 0;
        let idle = mem::take(&mut state.idle);
        // Or the writer would wake up only to wait for the lock.
        drop(state);
        // A call into the kernel, which a writer that is at work does not need.
        if idle {
            self.work.notify_one();
        }
    }
}

/// The writer's side.
impl Queue {
    /// The next message; `None` when there will be none. The one before it is done, and `stats` are the numbers so far.
    pub(super) fn next(&self, stats: &Stats) -> Option<Message> {
        let mut state = self.lock();
        self.finish_current(&mut state, stats);
        loop {
            if let Some(message) = state.messages.pop_front() {
                state.current = (message.size(), message.loss());
                return Some(message);
            }
            if state.closed {
                return None;
            }
            state.idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next message, if there is one and it is `wanted`. Otherwise the one before it is not done yet: the writer has
    /// something left to do, or `unwritten` is lost.
    pub(super) fn next_if(
        &self,
        stats: &Stats,
        unwritten: &Stats,
        wanted: impl FnOnce(&Message) -> bool,
    ) -> Option<Message> {
        let mut state = self.lock();
        let message = state.messages.pop_front_if(|message| wanted(message))?;
        self.finish_current(&mut state, stats);
        let mut loss = message.loss();
        loss.merge(unwritten);
        state.current = (message.size(), loss);
        Some(message)
    }

    fn finish_current(&self, state: &mut State, stats: &Stats) {
        self.alive();
        let (size, _) = mem::take(&mut state.current);
        self.size.fetch_sub(size, Ordering::Relaxed);
        state.stats = *stats;
        if state.waiting.is_some_and(|limit| self.size() <= limit) {
            state.waiting = None;
            self.room.notify_one();
        }
    }

    /// A system call came back.
    pub(super) fn alive(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// The writer has ended, in whatever way: nobody must wait for it any more. `stats` are its last numbers, if it has any.
    pub(super) fn end(&self, stats: Option<&Stats>) {
        let mut state = self.lock();
        if let Some(stats) = stats {
            state.stats = *stats;
        }
        state.ended = true;
        drop(state);
        self.room.notify_one();
    }

    /// A writer that panicked has left the state whole: it holds the lock for moves only.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
