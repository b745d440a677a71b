//! The kernel half as the agent sees it: load, attach, replace the filter, read the counters, detach. Its rings are
//! read by the shards, see [`Ring`].

mod attach;
mod flows;
mod ring;
mod sets;

use std::{
    error::Error as StdError,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use agent_common::{
    counter::Counter,
    filter as graph,
    ring::{BARRIER, RINGS_MAX, RingStats},
    shard::ShardKey,
};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    Ebpf, EbpfError, EbpfLoader, TestRunOptions, TestRunResult,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramFd, SchedClassifier, TestRun as _, tc::TcAttachType},
};
use aya_log::EbpfLogger;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
};

pub use self::{
    attach::{Attach, Attachment, Direction, Hook},
    flows::Flows,
    ring::{BadRecord, Record, Ring},
};
use crate::{error::Reason, filter::Filter};

/// The loaded kernel half. Dropping it detaches everything, and so does the death of the process, except for programs
/// attached by netlink (kernels before 6.6), which then fall silent when their heartbeat is five seconds old.
pub struct Kernel {
    ebpf: Ebpf,
    filters: Array<MapData, graph::Filter>,
    sets: ArrayOfMaps<MapData, sets::Trie>,
    generations: Array<MapData, u32>,
    generation: u32,
    flows: Flows,
    counters: PerCpuArray<MapData, [u64; Counter::ALL.len()]>,
    ring_stats: Array<MapData, RingStats>,
    interfaces: HashMap<MapData, u32, u32>,
    heartbeat: Array<MapData, u64>,
    rings: ArrayOfMaps<MapData, RingBuf<MapData>>,
    barrier: RingBuf<MapData>,
    clsact: bool,
    /// Filters that carry our name on a clsact qdisc are leftovers.
    sweep: bool,
    attached: Vec<attach::Attached>,
    logger: EbpfLogger<Messages>,
    messages: Messages,
}

/// What is fixed for the life of a [`Kernel`], and the filter that it begins with.
#[derive(Clone, Debug)]
pub struct Options {
    pub filter: Filter,
    /// `1..=RINGS_MAX`.
    pub shards: u32,
    /// Octets of each ring, rounded up to a power of two and a page.
    pub ring_size: u32,
    pub key: ShardKey,
    /// Attach to clsact even where the kernel has tcx.
    pub clsact: bool,
    /// Nanoseconds of the boot clock: the first heartbeat.
    pub now: u64,
    /// Connections in the flow table, 248 octets each, which are allocated at once; 0 for no table. What follows needs
    /// one, and so does a filter that is to know clients from servers.
    pub flows: u32,
    /// Octets of each direction after which only SYN, FIN and RST are copied, without payload.
    pub cutoff: Option<u64>,
    /// Copy no frame that only acknowledges, once a ring has heard of its connection.
    pub withhold_acks: bool,
    /// Unread octets in a ring above which a connection that begins is shed: counted, but not copied.
    pub shed_level: Option<u64>,
}

impl Options {
    /// One shard with a ring of a megabyte, and nothing that needs a flow table.
    pub fn new(filter: Filter, key: ShardKey, now: u64) -> Self {
        Self {
            filter,
            shards: 1,
            ring_size: 1 << 20,
            key,
            clsact: false,
            now,
            flows: 0,
            cutoff: None,
            withhold_acks: false,
            shed_level: None,
        }
    }
}

impl Kernel {
    /// Loads the maps and makes the rings, one per shard. Programs are loaded when they are first attached.
    pub fn load(options: &Options) -> Result<(Self, Vec<Ring>)> {
        ensure!(
            !OBJECT.is_empty(),
            "load the eBPF half: this xdpflow was built without it (run cargo xtask setup, then build again)"
        );
        let shards = options.shards;
        ensure!((1..=RINGS_MAX as u32).contains(&shards), "make {shards} rings: there can be 1 to {RINGS_MAX}");
        let ring_size = options.ring_size.max(PAGE_SIZE).checked_next_power_of_two();
        let ring_size = ring_size.context("make the rings: one cannot be larger than 2 GiB")?;
        let needs_flows = options.cutoff.is_some() || options.withhold_acks || options.shed_level.is_some();
        ensure!(
            options.flows > 0 || !needs_flows,
            "make a flow table of 0 connections: the cut-off and what else withholds needs one"
        );
        // Before 5.11 map memory counts against this limit; since then the cgroup is charged, and failing here means nothing.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });

        let clsact = options.clsact || !has_tcx();
        let mut ebpf = EbpfLoader::new()
            .override_global("SHARDS", &shards, true)
            .override_global("SHARD_KEY", &options.key.0, true)
            .override_global("WAKE_LEVEL", &u64::from(ring_size / 8).min(WAKE_LEVEL_MAX), true)
            .override_global("HEARTBEAT_NEEDED", &u8::from(clsact), true)
            .override_global("KEEP_FLOWS", &u8::from(options.flows > 0), true)
            .override_global("CUTOFF", &options.cutoff.unwrap_or(u64::MAX), true)
            .override_global("WITHHOLD_ACKS", &u8::from(options.withhold_acks), true)
            .override_global("SHED_LEVEL", &options.shed_level.unwrap_or(u64::MAX), true)
            .map_max_entries("FLOWS", options.flows.max(1))
            .load(OBJECT)
            .map_err(|error| loading(&error))?;

        let mut rings = ArrayOfMaps::try_from(take(&mut ebpf, "RINGS")?)?;
        let mut readers = Vec::new();
        for shard in 0..shards {
            let ring = make_ring(ring_size).with_context(|| format!("make a ring of {ring_size} octets"))?;
            rings.set(shard, &ring, 0)?;
            readers.push(Ring::new(ring));
        }
        let messages = Messages::default();
        let mut kernel = Self {
            filters: Array::try_from(take(&mut ebpf, "FILTERS")?)?,
            sets: ArrayOfMaps::try_from(take(&mut ebpf, "SETS")?)?,
            generations: Array::try_from(take(&mut ebpf, "GENERATION")?)?,
            generation: 0,
            flows: Flows::new(take(&mut ebpf, "FLOWS")?)?,
            counters: PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?,
            ring_stats: Array::try_from(take(&mut ebpf, "RING_STATS")?)?,
            interfaces: HashMap::try_from(take(&mut ebpf, "INTERFACES")?)?,
            heartbeat: Array::try_from(take(&mut ebpf, "HEARTBEAT")?)?,
            rings,
            barrier: make_ring(PAGE_SIZE)?,
            clsact,
            sweep: clsact && attach::no_agent_lives(options.now),
            attached: Vec::new(),
            logger: EbpfLogger::init_with_logger(&mut ebpf, messages.clone())?,
            messages,
            ebpf,
        };
        kernel.heartbeat(options.now)?;
        kernel.set_filter(&options.filter)?;
        Ok((kernel, readers))
    }

    /// Replaces the filter while frames pass and returns its generation, which every record names. A frame is judged by
    /// the old filter or the new one, never by a mixture: the slot that is written is one that no program reads.
    pub fn set_filter(&mut self, filter: &Filter) -> Result<u32> {
        let generation = self.generation.wrapping_add(1);
        self.filters.set(generation & 1, filter.graph, 0).context("write the filter")?;
        if filter.graph.asks_sets != 0 {
            let trie = sets::make(&filter.sets)?;
            self.sets.set(generation & 1, &trie, 0).context("write the filter's nets")?;
        }
        self.generations.set(0, generation, 0).context("write the filter's generation")?;
        self.generation = generation;
        self.wait_for_programs()?;
        Ok(generation)
    }

    /// Of the filter in force.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The counters in the order of [`Counter::ALL`], over all processors. Exact after [`detach`](Self::detach).
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()]> {
        let mut sum = [0; Counter::ALL.len()];
        for values in self.counters.get(&0, 0).context("read the kernel's counters")?.iter() {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        }
        Ok(sum)
    }

    /// The flow table, which any thread can look into.
    pub fn flows(&self) -> Flows {
        self.flows.clone()
    }

    /// What the kernel has counted about the ring of `shard`.
    pub fn ring_stats(&self, shard: u32) -> Result<RingStats> {
        self.ring_stats.get(&shard, 0).context("read the kernel's ring counters")
    }

    /// Tells programs that outlive the agent that it lives, at least every few seconds. `now` is the boot clock's.
    pub fn heartbeat(&mut self, now: u64) -> Result<()> {
        self.heartbeat.set(0, now, 0).context("write the heartbeat")
    }

    /// What the programs had to say since the last call: rare events, a line each.
    pub fn messages(&mut self) -> Vec<String> {
        self.logger.flush();
        self.messages.take()
    }

    /// Runs a program on a frame that no interface delivered (`BPF_PROG_TEST_RUN`), `repeat` times; `context` is a
    /// `__sk_buff` for the tc programs. What it captures is in the rings.
    pub fn test_run(
        &mut self,
        program: &str,
        frame: &[u8],
        context: Option<&[u8]>,
        repeat: u32,
    ) -> Result<TestRunResult> {
        let options = TestRunOptions { data_in: Some(frame), ctx_in: context, repeat, ..TestRunOptions::default() };
        self.loaded(program)?;
        match self.ebpf.program(program) {
            Some(Program::Xdp(program)) => Ok(program.test_run(options)?),
            Some(Program::SchedClassifier(program)) => Ok(program.test_run(options)?),
            _ => bail!("run {program}: neither XDP nor tc"),
        }
    }

    /// A program, loaded, for others to call: how it is measured.
    pub fn loaded(&mut self, name: &str) -> Result<&ProgramFd> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("load {name}: no such program"))?;
        if program.fd().is_err() {
            match program {
                Program::Xdp(program) => program.load()?,
                Program::SchedClassifier(program) => program.load()?,
                _ => bail!("load {name}: neither XDP nor tc"),
            }
        }
        Ok(program.fd()?)
    }

    /// Tells the programs that the interface `index` is `number` in their records.
    pub fn set_number(&mut self, index: u32, number: u16) -> Result<()> {
        self.interfaces.insert(index, u32::from(number), 0).context("number the interface")
    }

    /// Returns when every program that was running has ended, and so has submitted its record. Writing to a map of maps
    /// waits for that (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c); the slot is one that no shard picks.
    fn wait_for_programs(&mut self) -> Result<()> {
        self.rings.set(BARRIER, &self.barrier, 0).context("wait for running programs")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // After an error elsewhere: nothing more can be done about one here.
        let _ = self.detach();
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("generation", &self.generation)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

/// Where aya-log leaves what the programs say.
#[derive(Clone, Debug, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl Messages {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl log::Log for Messages {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("load the eBPF half: it has no map {name}"))
}

fn make_ring(size: u32) -> Result<RingBuf<MapData>> {
    let ring = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, size, 0);
    let ring = MapData::create(ring, "xdpflow_ring", None).map_err(|error| loading(&EbpfError::from(error)))?;
    Ok(RingBuf::try_from(Map::RingBuf(ring))?)
}

/// Asked of the kernel itself: one before 6.6 does not know the attach type.
fn has_tcx() -> bool {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => true,
        Err(error) => errno(&error) != Some(Errno::INVAL),
    }
}

/// Without privileges the first map fails already, and everything after it would: say what is missing, not what failed.
fn loading(error: &EbpfError) -> anyhow::Error {
    match errno(error) {
        Some(Errno::PERM) => anyhow!("load the eBPF half: {NOT_PERMITTED}"),
        _ => anyhow!("load the eBPF half: {}", reason(error)),
    }
}

/// The system's error behind `error`.
fn errno(error: &(dyn StdError + 'static)) -> Option<Errno> {
    source(error).and_then(Errno::from_io_error)
}

/// Why, in one line: the system's words when the system refused, else the error's own.
fn reason(error: &(dyn StdError + 'static)) -> String {
    match source(error) {
        Some(error) => Reason(error).to_string(),
        None => {
            let mut text = error.to_string();
            let mut error = error;
            while let Some(source) = error.source() {
                text = format!("{text}: {source}");
                error = source;
            }
            text.replace('\n', " ")
        }
    }
}

fn source<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

/// The kernel half as build.rs left it; empty when it could not be built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdpflow.o"));

const NOT_PERMITTED: &str =
    "operation not permitted (try sudo, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)";

/// Least size of a ring; larger pages only round it up further.
const PAGE_SIZE: u32 = 4096;

/// What `orphaned` of the programs waits for.
const HEARTBEAT_AGE_MAX: u64 = 5_000_000_000;

/// A megabyte unread is a thousand full frames per wakeup, and less than a millisecond at 10 Gbit/s.
const WAKE_LEVEL_MAX: u64 = 1 << 20;
