//! `xdpflow capture`: load, attach, drain, and leave everything as it was.

mod in_force;

use std::{
    future, io,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use agent_common::shard::ShardKey;
use anyhow::{Context as _, anyhow};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    sync::{mpsc, watch},
    time,
};

use self::in_force::InForce;
use crate::{
    clock,
    control::{self, Order, Parse, Parsed, Socket, Words},
    decode,
    generations::Generations,
    interface::Interface,
    kernel::{Attach, Direction, Kernel, Options, Ring},
    mailbox::Mailbox,
    reassembly,
    report::{Report, Source},
    shard::{Part, Shard, Totals},
    signals::{Caught, Signals},
    sink::{Destination, Output, Report as Tell},
};

/// What to capture, and where to put it.
pub struct Capture {
    pub interfaces: Vec<Interface>,
    pub attach: Attach,
    pub direction: Direction,
    pub filter: Parsed,
    /// What it was parsed from.
    pub words: Words,
    /// Parses what it is changed to.
    pub parse: Parse,
    /// Where to listen for that; where nobody says so, below /run/xdpflow if that can be had.
    pub control: Option<PathBuf>,
    pub shards: u32,
    /// Octets of each shard's ring.
    pub ring_size: u32,
    pub withheld: Withheld,
    pub decode: decode::Config,
    pub config: reassembly::Config,
    pub output: Output,
    /// Told what happens, a line at a time.
    pub tell: Tell,
}

/// What the kernel counts and does not copy.
#[derive(Clone, Copy, Debug)]
pub struct Withheld {
    /// Connections that it keeps accounts of; without any it withholds nothing.
    pub max_flows: u32,
    /// Segments that only acknowledge.
    pub acks: bool,
    /// What lies behind so many octets of a direction.
    pub cutoff: Option<u64>,
    /// Connections that begin while so many octets of a ring are unread.
    pub shed_level: Option<u64>,
}

/// How a capture ended: what it did, and what went wrong while it ran.
pub struct Outcome {
    pub report: Report,
    pub errors: Vec<anyhow::Error>,
}

/// How long a shard sleeps when nothing wakes it: the programs wake it only when its ring fills, so this is how long the
/// last frames of a burst wait.
const POLL: Duration = Duration::from_millis(10);
/// A ring of 64 MiB is 54 ms at 10 Gbit/s, which on a busy machine is less than a thread may wait for its turn. A shard
/// needs a small part of a processor, and what it misses is lost; its writer, which needs more, stays as it is.
const SHARD_NICE: i32 = -10;
/// Records drained before time is looked at.
const BATCH: usize = 4_096;
/// Threads that read files of filters: one for each client of the control socket, and for SIGHUP.
const READERS_MAX: usize = control::CLIENTS_MAX + 1;
/// How often the agent shows that it lives, and looks whether its interfaces do. Programs that hang on no link fall
/// silent after five seconds.
const HEARTBEAT: Duration = Duration::from_secs(1);

impl Capture {
    /// Captures until SIGINT or SIGTERM, or until the last interface is gone. SIGHUP has the filter's files read again.
    ///
    /// # Errors
    ///
    /// When something cannot be loaded, attached or made. Nothing stays attached in any case. What goes wrong later ends
    /// the capture in order, with all that was captured until then.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(READERS_MAX).enable_all().build().context("start the runtime")?;
        let outcome = runtime.block_on(self.run_async());
        // Without waiting for a filter's file that cannot be read to its end.
        runtime.shutdown_background();
        outcome
    }

    async fn run_async(mut self) -> anyhow::Result<Outcome> {
        // First of all, so that from here on an interrupt ends the capture in order.
        let mut signals = Signals::new()?;

        let started = clock::now();
        let key = ShardKey(random_key()?);
        let (mut kernel, rings) = Kernel::load(&Options {
            shards: self.shards,
            ring_size: self.ring_size,
            flows: self.withheld.max_flows,
            cutoff: self.withheld.cutoff,
            withhold_acks: self.withheld.acks,
            shed_level: self.withheld.shed_level,
            ..Options::new(self.filter.filter.clone(), key, started.0)
        })?;
        let socket = self.listen()?;
        let sinks = Destination::for_shards(&self.output)?;
        let mut listening = Vec::new();
        for (number, interface) in (0..).zip(&self.interfaces) {
            let attachment = kernel.attach(number, interface, self.attach, self.direction)?;
            if let Some(reason) = &attachment.reason {
                (self.tell)(&format!("{}: {reason}", attachment.interface));
            }
            listening.push(attachment.to_string());
        }
        let (stop, stopping) = watch::channel(false);
        let mut threads = Vec::new();
        let mailboxes = Mailbox::for_shards(self.shards, key);
        let (generations, views) = Generations::new(kernel.generation(), self.filter.filter.clone(), self.shards);
        let ends = rings.into_iter().zip(sinks).zip(mailboxes).zip(views);
        for (number, (((ring, sink), mailbox), filters)) in ends.enumerate() {
            let shard = Shard::new(filters, Part::Ring(mailbox), self.decode, self.config, sink)
                .with_flows(Box::new(kernel.flows()));
            threads.push(ShardThread::spawn(number, ring, shard, stopping.clone())?);
        }
        (self.tell)(&format!("listening on {}", listening.join(", ")));

        let mut in_force = InForce::new(&mut self, generations, kernel.generation());
        let watched = self.watch(&mut kernel, &mut in_force, socket.as_ref(), &threads, &mut signals).await;
        // Nobody can be served from here on.
        drop(socket);
        // In this order, so that the ledgers can balance: no program runs, then every record is read, then the counters
        // are what they will ever be.
        let detached = kernel.detach();
        stop.send_replace(true);
        let mut errors: Vec<_> = [watched, detached].into_iter().filter_map(Result::err).collect();
        let mut report = Report::default();
        for thread in threads {
            match thread.join() {
                Ok(totals) => report.totals.merge(&totals),
                Err(error) => errors.push(error),
            }
        }
        kernel.messages().iter().for_each(|message| (self.tell)(message));
        report.source = Source::Kernel(kernel.counters()?);
        report.flows_spared = kernel.flows().spared();
        for shard in 0..self.shards {
            report.ring_level_max = report.ring_level_max.max(kernel.ring_stats(shard)?.level_max);
        }
        report.ring_size = self.ring_size;
        report.filter_changes = in_force.changes();
        report.elapsed = Duration::from_nanos(clock::now().since(started));
        Ok(Outcome { report, errors })
    }

    /// Where to ask this capture for something. It is no reason to fail that there is no such place, unless it was named.
    fn listen(&self) -> anyhow::Result<Option<Socket>> {
        match &self.control {
            Some(path) => Socket::bind(path).map(Some),
            None => Ok(Socket::in_folder()
                .map_err(|error| (self.tell)(&format!("the filter cannot be changed while this runs: {error:#}")))
                .ok()),
        }
    }

    /// Returns when the capture has to end.
    async fn watch(
        &self,
        kernel: &mut Kernel,
        in_force: &mut InForce,
        socket: Option<&Socket>,
        threads: &[ShardThread],
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let mut heartbeat = time::interval(HEARTBEAT);
        let mut present = self.interfaces.len();
        let (sender, mut orders) = mpsc::channel::<Order>(1);
        let mut serving = pin!(async {
            match socket {
                Some(socket) => control::serve(socket, self.parse, sender.clone()).await,
                None => future::pending().await,
            }
        });
        loop {
            tokio::select! {
                caught = signals.recv() => match caught {
                    Caught::End => return Ok(()),
                    Caught::Hangup => {
                        self.read_again(in_force, sender.clone());
                        continue;
                    }
                },
                Some(order) = orders.recv() => {
                    in_force.obey(order, kernel, &self.tell);
                    continue;
                }
                () = &mut serving => return Err(anyhow!("serve the control socket: it ended")),
                _ = heartbeat.tick() => {}
            }
            kernel.heartbeat(clock::now().0)?;
            kernel.messages().iter().for_each(|message| (self.tell)(message));
            for name in kernel.gone()? {
                present -= 1;
                (self.tell)(&format!("interface {name} is gone"));
            }
            if present == 0 {
                (self.tell)("no interface is left to capture on");
                return Ok(());
            }
            // Only an error ends one before it is told to.
            if threads.iter().any(ShardThread::is_finished) {
                return Ok(());
            }
        }
    }

    /// The filter anew from the same words, whose files may say something else now. Beside the loop, which goes on.
    fn read_again(&self, in_force: &InForce, orders: mpsc::Sender<Order>) {
        if !in_force.reads_files() {
            return (self.tell)("SIGHUP: nothing to read again, the filter names no file");
        }
        let (words, generation) = (in_force.words().clone(), in_force.generation());
        let (parse, tell) = (self.parse, Arc::clone(&self.tell));
        tokio::spawn(async move {
            if let Err(error) = control::read_again(words, generation, parse, &orders).await {
                tell(&format!("SIGHUP: the filter stays as it was: {}", control::one_line(&error)));
            }
        });
    }
}

/// A key that nobody outside can know.
pub fn random_key() -> anyhow::Result<[u64; 12]> {
    let mut key = [0; 12];
    let octets = bytemuck::bytes_of_mut(&mut key);
    // Requests of up to 256 octets are answered whole (getrandom(2)).
    let got =
        rustix::rand::getrandom(&mut *octets, rustix::rand::GetRandomFlags::empty()).context("make a random key")?;
    if got == octets.len() {
        Ok(key)
    } else {
        Err(anyhow!("make a random key: {got} octets instead of {}", octets.len()))
    }
}

struct ShardThread {
    handle: JoinHandle<io::Result<Totals>>,
    number: usize,
}

impl ShardThread {
    fn spawn(number: usize, ring: Ring, shard: Shard, stop: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let handle = thread::Builder::new()
            .name(format!("shard {number}"))
            .spawn(move || {
                // Without the privilege the thread is as nice as the others.
                let _ = rustix::process::nice(SHARD_NICE);
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(drain(ring, shard, stop))
            })
            .with_context(|| format!("start the thread of shard {number}"))?;
        Ok(Self { handle, number })
    }

    fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    fn join(self) -> anyhow::Result<Totals> {
        let number = self.number;
        let result = self.handle.join().map_err(|_| anyhow!("shard {number} panicked"))?;
        result.with_context(|| format!("read the ring of shard {number}"))
    }
}

/// The only loop of a live capture: ring, tick, stop.
async fn drain(ring: Ring, mut shard: Shard, mut stop: watch::Receiver<bool>) -> io::Result<Totals> {
    // SAFETY: a ring owns its map, whose descriptor is open and the same for as long as the ring lives.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
    let mut plant = Plant::from_environment();
    loop {
        // Asked before the ring is drained, so that what was in it when the programs were detached is read.
        let stopping = *stop.borrow_and_update();
        while !drain_batch(ring.get_mut(), &mut shard, &mut plant) {}
        if stopping {
            break;
        }
        tokio::select! {
            ready = ring.readable_mut() => ready?.clear_ready(),
            () = time::sleep(POLL) => {}
            _ = stop.changed() => {}
        }
    }
    Ok(shard.finish())
}

/// Whether the ring is empty now. Only then has time come as far as the clock: otherwise it is that of the last frame.
fn drain_batch(ring: &mut Ring, shard: &mut Shard, plant: &mut Plant) -> bool {
    let now = clock::now();
    // Before the ring is found to be empty, or a record of an earlier one could still come.
    let generation = shard.filters().in_force();
    shard.read_mail();
    for _ in 0..BATCH {
        match ring.next() {
            Some(Ok(_)) if plant.loses_this() => {}
            Some(Ok(record)) => shard.handle_frame(&record.frame()),
            Some(Err(_)) => shard.handle_bad_record(),
            None => {
                shard.filters().settle(generation);
                shard.tick(now);
                return true;
            }
        }
    }
    false
}

/// Loses one record without counting it, in debug builds that are asked to, so that a test can see the ledger notice.
struct Plant {
    armed: bool,
}

impl Plant {
    fn from_environment() -> Self {
        Self {
            armed: cfg!(debug_assertions) && std::env::var_os("XDPFLOW_PLANT").is_some_and(|it| it == "lost-record"),
        }
    }

    fn loses_this(&mut self) -> bool {
        cfg!(debug_assertions) && std::mem::take(&mut self.armed)
    }
}
