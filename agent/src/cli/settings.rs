//! What a capture and a replay have in common: flags, in the groups in which `--help` shows them.

use std::{path::PathBuf, time::Duration};

use agent_common::tunnel::Tunnels;
use clap::{Args, ValueEnum};

use super::{
    filter::FilterArgs,
    value::{parse_duration, parse_size, parse_tunnel},
};
use crate::{
    decode::{self, fragments},
    filter::{self, Filter},
    reassembly::{self, Late, Overlap},
    sink::{Form, Gaps, Names, Output},
};

#[derive(Args, Debug)]
pub struct Settings {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    decode: DecodeArgs,
    #[command(flatten)]
    reassembly: ReassemblyArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    timeouts: TimeoutArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

impl Settings {
    /// What the flags ask for.
    ///
    /// # Errors
    ///
    /// When they cannot be understood, or the kernel half has no room for so many terms.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        filter::compile(&self.filter.expression()?, self.filter.snaplen(), self.tunnels())
    }

    /// Completes a filter by what stays as it is when a capture changes its filter.
    pub fn fix(&self, filter: &mut Filter) {
        filter.graph.snaplen = self.filter.snaplen();
        filter.graph.tunnels = self.tunnels();
    }

    /// What one of `parts` decoders looks for, among which the limits are divided.
    pub fn decode(&self, parts: u32) -> decode::Config {
        decode::Config {
            tunnels: self.tunnels(),
            verify_checksum: self.decode.verify_checksum,
            fragments: fragments::Config {
                max_datagrams: self.limits.max_fragmented.div_ceil(parts) as usize,
                max_memory: usize::try_from(self.limits.max_fragments / u64::from(parts)).unwrap_or(usize::MAX),
                timeout: nanoseconds(self.timeouts.fragment_timeout),
            },
        }
    }

    /// Limits and timeouts of one of `shards` reassemblers.
    pub fn reassembly(&self, shards: u32, hash_key: [u64; 12]) -> reassembly::Config {
        let Self { reassembly, output, timeouts, limits, .. } = self;
        let idle_timeout = nanoseconds(timeouts.idle_timeout);

        reassembly::Config {
            gap_hold: nanoseconds(timeouts.gap_hold),
            gap_timeout: nanoseconds(timeouts.gap_timeout),
            pickup_hold: nanoseconds(timeouts.pickup_hold),
            rst_hold: nanoseconds(timeouts.rst_hold),
            handshake_timeout: nanoseconds(timeouts.handshake_timeout).min(idle_timeout),
            fin_timeout: nanoseconds(timeouts.fin_timeout).min(idle_timeout),
            idle_timeout,
            linger: nanoseconds(timeouts.linger),
            clock_step: nanoseconds(timeouts.clock_step),
            update_interval: nanoseconds(output.update_interval),
            max_connections: limits.max_connections.div_ceil(shards),
            max_linger: limits.max_linger.div_ceil(shards),
            max_stream_queue: u32::try_from(limits.max_stream_queue).unwrap_or(u32::MAX),
            max_total_queue: limits.max_total_queue / u64::from(shards),
            max_stream_chunks: limits.max_stream_chunks,
            cutoff: self.cutoff(),
            require_handshake: reassembly.require_handshake,
            strict_fsm: reassembly.strict_fsm,
            strict_options: reassembly.strict_options,
            interface_key: reassembly.interface_key,
            vlan_key: reassembly.vlan_key,
            overlap: match reassembly.overlap {
                OverlapArg::First => Overlap::First,
                OverlapArg::Last => Overlap::Last,
            },
            late: match output.gaps {
                GapsArg::Hole | GapsArg::Zero => Late::Fill,
                GapsArg::Skip | GapsArg::Mark => Late::Count,
            },
            hash_key,
        }
    }

    /// Bytes of each direction that are wanted.
    pub fn cutoff(&self) -> Option<u64> {
        if self.reassembly.headers_only { Some(0) } else { self.reassembly.cutoff }
    }

    /// Whether addresses and ports alone do not make a connection.
    pub fn tells_more_connections_apart(&self) -> bool {
        self.reassembly.interface_key || self.reassembly.vlan_key
    }

    /// Whether something is to be said of segments that only acknowledge.
    pub fn looks_at_every_segment(&self) -> bool {
        let ReassemblyArgs { strict_fsm, strict_options, .. } = self.reassembly;
        self.tells_more_connections_apart() || strict_fsm || strict_options || self.decode.verify_checksum
    }

    /// Completes the output of one of `shards` sinks.
    pub fn output(&self, shards: u32, output: Output) -> Output {
        let Self { output: args, limits, .. } = self;
        Output {
            form: if args.output.as_os_str() == "digest" { Form::Digest } else { Form::Files },
            gaps: match args.gaps {
                GapsArg::Hole => Gaps::Hole,
                GapsArg::Skip => Gaps::Skip,
                GapsArg::Zero => Gaps::Zero,
                GapsArg::Mark => Gaps::Mark,
            },
            names: match args.names {
                NamesArg::Time => Names::Time,
                NamesArg::Tcpflow => Names::Tcpflow,
            },
            sync: args.sync,
            buffer: usize::try_from(limits.write_buffer).unwrap_or(usize::MAX),
            write_age: nanoseconds(self.timeouts.write_age),
            max_open_files: (limits.max_open_files as usize).div_ceil(shards as usize),
            shards,
            ..output
        }
    }

    fn tunnels(&self) -> Tunnels {
        self.decode.decap.iter().fold(Tunnels::NONE, |set, &tunnel| set | tunnel)
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Decoding")]
struct DecodeArgs {
    /// Tunnels to look into: all, or names with commas between them
    ///
    /// The names are vxlan, vxlan-gpe, geneve, gre, ipip, 6in4, l2tp, gtp, teredo, etherip and mpls. The filter is then
    /// about what is inside.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_tunnel)]
    decap: Vec<Tunnels>,

    /// Drop segments whose TCP checksum is wrong, unless the capture or an offload may be the reason
    #[arg(long)]
    verify_checksum: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Reassembly")]
struct ReassemblyArgs {
    /// Bytes of each direction that are kept, such as 64K; what follows is counted, and recorded as missing [default: all]
    ///
    /// In a capture it is not copied from the kernel either. SYN, FIN and RST always are, so that size and end are known.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cutoff: Option<u64>,

    /// Keep no bytes, only records: --cutoff 0
    #[arg(long, conflicts_with = "cutoff")]
    headers_only: bool,

    /// Which of two copies of a byte stays while both wait behind a hole
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = OverlapArg::First)]
    overlap: OverlapArg,

    /// The same addresses and ports on another interface are another connection
    #[arg(long)]
    interface_key: bool,

    /// The same addresses and ports with another VLAN id are another connection
    #[arg(long)]
    vlan_key: bool,

    /// Refuse connections whose SYN was not seen
    #[arg(long)]
    require_handshake: bool,

    /// Refuse segments that do not fit the state of their connection (gopacket's simple state machine)
    #[arg(long)]
    strict_fsm: bool,

    /// Refuse segments that are larger than the MSS of their receiver or go beyond its window
    ///
    /// Not where the capture sees frames that were merged: these are larger than any MSS.
    #[arg(long)]
    strict_options: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Directory for streams and index, made when it is not there; or `digest`
    ///
    /// With `digest` nothing is written, and the summary has a checksum over every byte of every stream. A directory of
    /// that name is ./digest.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// What stands in a file where bytes are missing
    #[arg(long, value_enum, value_name = "HOW", default_value_t = GapsArg::Hole)]
    gaps: GapsArg,

    /// How files are called
    #[arg(long, value_enum, value_name = "HOW", default_value_t = NamesArg::Time)]
    names: NamesArg,

    /// How often a changed connection is recorded while it is open
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = parse_duration)]
    update_interval: Duration,

    /// Wait until a connection's files are on stable storage before its record is written
    #[arg(long)]
    sync: bool,

    /// Print the summary as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Timeouts (500ms, 30s, 5min, 2h)")]
struct TimeoutArgs {
    /// Until a hole that the peer has acknowledged becomes a gap
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    gap_hold: Duration,

    /// Until a hole of which the peer says nothing becomes a gap
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    gap_timeout: Duration,

    /// Until a silent connection is closed
    #[arg(long, value_name = "TIME", default_value = "2h5min", value_parser = parse_duration)]
    idle_timeout: Duration,

    /// The same where only a part of the handshake was seen
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    handshake_timeout: Duration,

    /// The same where one side has sent its FIN
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = parse_duration)]
    fin_timeout: Duration,

    /// Until a closed connection is forgotten, and no longer absorbs what comes late
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    linger: Duration,

    /// Until the stream of a connection under way begins, with the earliest segment seen
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    pickup_hold: Duration,

    /// Until a reset connection is closed, which its receiver may turn out to have ignored
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    rst_hold: Duration,

    /// Until an IP datagram of which fragments are missing is dropped
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    fragment_timeout: Duration,

    /// Until bytes in memory are written to a file that grows
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    write_age: Duration,

    /// A step of the clock beyond this is no time passing, and lets nothing expire
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    clock_step: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = LIMITS)]
struct LimitArgs {
    /// Open connections; beyond it the longest idle one is closed
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// Closed connections remembered; beyond it the oldest is forgotten
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    max_linger: u32,

    /// Bytes of one stream that wait behind a hole; beyond it the hole becomes a gap
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse_size)]
    max_stream_queue: u64,

    /// Pieces of one stream that wait behind a hole; beyond it the hole becomes a gap
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..))]
    max_stream_chunks: u32,

    /// Bytes of all streams that wait behind holes; beyond it the stream that holds most gives way
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    max_total_queue: u64,

    /// IP datagrams that wait for fragments; beyond it the oldest is dropped
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    max_fragmented: u32,

    /// Memory for their fragments; beyond it the oldest datagram is dropped
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = parse_size)]
    max_fragments: u64,

    /// Memory for bytes that are not written yet; beyond it streams stop, or a replay waits
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    write_buffer: u64,

    /// Growing files kept open at a time; at most half of what the process may open
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_open_files: u32,
}

/// Heading of the limits.
pub(super) const LIMITS: &str = "Limits, all shards together (sizes: 64K, 4M, 1G)";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapArg {
    /// The one that was captured first
    First,
    /// The one that was captured last
    Last,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GapsArg {
    /// A hole in a sparse file: the place in the file is the place in the stream
    Hole,
    /// Zeros that take up space: the same place
    Zero,
    /// Nothing: the bytes that there are, one after the other
    Skip,
    /// A line <<gap 1460>>, with its number of bytes, as Zeek writes it
    Mark,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NamesArg {
    /// Start time and both ends, in dated folders
    Time,
    /// As tcpflow does, in one folder
    Tcpflow,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
