//! What the user types, and what it means.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use agent_common::{
    filter::{Filter, NETS_MAX, Net, PORTS_MAX, PortRange},
    tunnel::Tunnels,
};
use anyhow::{Context as _, bail};
use bytemuck::Zeroable as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::{
    decode::{self, fragments},
    kernel,
    reassembly::{self, Late, Overlap},
    sink::{Gaps, Names, Output},
};

/// Capture TCP connections in the kernel and write every stream to a file of its own.
#[derive(Debug, Parser)]
#[command(name = "xdpflow", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  xdpflow capture -i eth0 --port 443 -o /var/tmp/tls
  xdpflow capture -i eth0 -i eth1 --net 10.0.0.0/8 --host 2001:db8::7 -o out
  xdpflow replay monday.pcap tuesday.pcapng --port 80 --gaps skip -o out
  xdpflow interfaces

Each stream (one direction of a connection) becomes one file below the output directory. What is in it, what is missing and
why is in DATE/connections.jsonl there, in the line with which the connection closes. `xdpflow capture --help` and
`xdpflow replay --help` explain the rest.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture from interfaces until interrupted (needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)
    #[command(after_help = CAPTURE_EXAMPLES)]
    Capture(Capture),
    /// Read pcap and pcapng files instead, also compressed ones, with the same filters and the same output
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// List interfaces, what is attached to them, and where a capture would attach
    Interfaces,
}

const CAPTURE_EXAMPLES: &str = "\
Examples:
  xdpflow capture -i eth0 --port 443 -o out            HTTPS, both directions
  xdpflow capture -i eth0 --host 192.0.2.1 --port 80 --port 8080 -o out
                                                       that host, on either port
  xdpflow capture -i mirror0 --direction rx -o out     a mirror port: all of it is received
  xdpflow capture -i lo --port 5432 --snaplen 256 -o out

Values of one flag are alternatives; different flags must all hold. A host, net or port may be at either end.
Frames always pass: nothing is dropped, delayed or changed. Ctrl-C detaches, writes what is in memory and prints a
summary; the exit status is 0 when every frame and every byte is accounted for, 1 when not or after an error, 2 when the
command line is wrong.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  xdpflow replay capture.pcap.gz -o out
  xdpflow replay tap-a.pcap tap-b.pcapng --host 2001:db8::7 -o out
                                                       two captures as one, in the order of time
  xdpflow replay capture.pcap --gaps zero --shards 2 -o out
  xzcat capture.pcap.xz | xdpflow replay - -o out      from standard input

Files are pcap or pcapng, as they are or compressed with gzip or zstd. Of a damaged file what can be read is delivered.
Values of one flag are alternatives; different flags must all hold. A host, net or port may be at either end.
The exit status is 0 when every frame and every byte is accounted for, 1 when not or after an error, 2 when the command line
is wrong or the link type of a file is not supported.";

#[derive(Args, Debug)]
pub struct Capture {
    /// Interface to capture on; may be repeated
    #[arg(short, long = "interface", value_name = "IFACE", required = true)]
    pub interface: Vec<String>,

    /// Frames received, sent, or both
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    pub direction: Direction,

    /// Where to hook into the receive path; what is sent always comes from tc
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    pub attach: Attach,

    /// Memory of each shard's ring: a power of two from 256K to 1G
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_ring_size)]
    pub ring_size: u32,

    /// Threads, each with a ring of its own; at most 64 [default: number of processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: Option<u32>,

    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub decode: DecodeArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct Replay {
    /// Capture files, merged by time; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Threads, each of which reads all files, and so none that can be read once; at most 64
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: u32,

    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub decode: DecodeArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Direction {
    Rx,
    Tx,
    Both,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Attach {
    /// XDP in the driver: the cheapest on hardware, costs a virtual device its segmentation offload
    Native,
    /// XDP behind the driver: for any driver, makes every frame linear first
    Generic,
    /// tc ingress: beside another XDP program, or on devices that XDP does not suit
    Tc,
    /// Native XDP on drivers known to take it well, tc elsewhere and where XDP is refused
    Auto,
}

impl From<Direction> for kernel::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Rx => Self::Rx,
            Direction::Tx => Self::Tx,
            Direction::Both => Self::Both,
        }
    }
}

impl From<Attach> for kernel::Attach {
    fn from(attach: Attach) -> Self {
        match attach {
            Attach::Native => Self::Native,
            Attach::Generic => Self::Generic,
            Attach::Tc => Self::Tc,
            Attach::Auto => Self::Auto,
        }
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Filter")]
pub struct FilterArgs {
    /// Address at either end; up to 16 times
    #[arg(long, value_name = "ADDR", value_parser = parse_host)]
    host: Vec<IpAddr>,

    /// Network at either end, such as 10.0.0.0/8 or 2001:db8::/32; up to 16 times
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    net: Vec<IpNet>,

    /// Port at either end; up to 16 times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,

    /// Bytes of each frame that are captured; what is cut off is recorded as missing [default: all]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,
}

impl FilterArgs {
    /// # Errors
    ///
    /// When a flag is given more often than the kernel half has room for.
    pub fn build(&self) -> anyhow::Result<Filter> {
        let mut filter = Filter::zeroed();
        filter.snaplen = self.snaplen.unwrap_or(0);
        filter.hosts_len = fill(&mut filter.hosts, "--host", self.host.iter().map(|&host| Net::new(host, u8::MAX)))?;
        let nets = self.net.iter().map(|net| Net::new(net.addr(), net.prefix_len()));
        filter.nets_len = fill(&mut filter.nets, "--net", nets)?;
        let ports = self.port.iter().map(|&port| PortRange { low: port, high: port });
        filter.ports_len = fill(&mut filter.ports, "--port", ports)?;
        Ok(filter)
    }
}

const _: () = assert!(NETS_MAX == 16 && PORTS_MAX == 16, "the README says 16");

fn fill<T>(slots: &mut [T], flag: &str, values: impl ExactSizeIterator<Item = T>) -> anyhow::Result<u32> {
    let (given, room) = (values.len(), slots.len());
    if given > room {
        bail!("{flag} was given {given} times: at most {room} fit into the filter");
    }
    slots.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
    Ok(given as u32)
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeArgs {
    /// Tunnels to look into: all, or some of vxlan, vxlan-gpe, geneve, gre, ipip, 6in4, l2tp, gtp, teredo, etherip, mpls,
    /// with commas between them
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_tunnel)]
    decap: Vec<Tunnels>,

    /// Drop segments whose TCP checksum is wrong, unless the capture or an offload may be the reason
    #[arg(long)]
    verify_checksum: bool,

    /// IP datagrams that wait for fragments, in all shards; beyond it the oldest is dropped
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    max_fragmented: u32,

    /// Memory for their fragments, in all shards; beyond it the oldest datagram is dropped
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = parse_size)]
    max_fragments: u64,

    /// How long a datagram waits for its fragments
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    fragment_timeout: Duration,
}

impl DecodeArgs {
    pub fn tunnels(&self) -> Tunnels {
        self.decap.iter().fold(Tunnels::NONE, |set, &tunnel| set | tunnel)
    }

    /// What one of `parts` decoders looks for, among which the limits are divided.
    pub fn build(&self, parts: u32) -> decode::Config {
        decode::Config {
            tunnels: self.tunnels(),
            verify_checksum: self.verify_checksum,
            fragments: fragments::Config {
                max_datagrams: self.max_fragmented.div_ceil(parts) as usize,
                max_memory: usize::try_from(self.max_fragments / u64::from(parts)).unwrap_or(usize::MAX),
                timeout: nanoseconds(self.fragment_timeout),
            },
        }
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Directory for streams and index; made when it is not there
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// What stands in a file where bytes are missing
    #[arg(long, value_enum, default_value_t = GapsArg::Hole)]
    gaps: GapsArg,

    /// How files are called
    #[arg(long, value_enum, default_value_t = NamesArg::Time)]
    names: NamesArg,

    /// Wait until a connection's files are on stable storage before its record is written
    #[arg(long)]
    sync: bool,

    /// Print the summary as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GapsArg {
    /// A hole: the place in the file is the place in the stream
    Hole,
    /// Nothing: the bytes that there are, one after the other
    Skip,
    /// Zeros that take up space
    Zero,
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

#[derive(Args, Debug)]
#[command(next_help_heading = "Timeouts and limits")]
pub struct LimitArgs {
    /// How long a hole that the peer has acknowledged is held open
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    gap_hold: Duration,

    /// How long a hole is waited for when the peer acknowledges nothing
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    gap_timeout: Duration,

    /// Close a connection that has been silent for so long (sooner after a FIN or before the handshake is complete)
    #[arg(long, value_name = "TIME", default_value = "2h5min", value_parser = parse_duration)]
    idle_timeout: Duration,

    /// How often a changed connection is recorded while it is open
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = parse_duration)]
    update_interval: Duration,

    /// Close a connection of which only a part of the handshake was seen and that has been silent for so long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    handshake_timeout: Duration,

    /// Close a connection of which one side has sent its FIN and that has been silent for so long
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = parse_duration)]
    fin_timeout: Duration,

    /// How long the endpoints of a closed connection absorb what comes late
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    linger: Duration,

    /// How long a connection under way waits for an earlier segment when it is picked up
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    pickup_hold: Duration,

    /// How long a reset connection is kept in case its receiver ignored the RST
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    rst_hold: Duration,

    /// A step of the clock beyond this is no time passing, and lets nothing expire
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    clock_step: Duration,

    /// Refuse connections whose SYN was not seen
    #[arg(long)]
    require_handshake: bool,

    /// Refuse segments that do not fit the state of their connection (gopacket's simple state machine)
    #[arg(long)]
    strict_fsm: bool,

    /// Refuse segments that are larger than the MSS of their receiver or go beyond its window; not where the capture sees
    /// frames that were merged
    #[arg(long)]
    strict_options: bool,

    /// The same addresses and ports on another interface are another connection
    #[arg(long)]
    interface_key: bool,

    /// The same addresses and ports with another VLAN id are another connection
    #[arg(long)]
    vlan_key: bool,

    /// Which of two copies of a byte stays while both wait behind a hole
    #[arg(long, value_enum, default_value_t = OverlapArg::First)]
    overlap: OverlapArg,

    /// Connections open at a time, in all shards; beyond it the longest idle one is closed
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// Closed connections remembered, in all shards; beyond it the oldest is forgotten
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    max_linger: u32,

    /// Memory for bytes of one stream that wait behind a hole; beyond it the hole becomes a gap
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse_size)]
    max_stream_queue: u64,

    /// Pieces of one stream that wait behind a hole; beyond it the hole becomes a gap
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..))]
    max_stream_chunks: u32,

    /// Memory for all streams, in all shards; beyond it the stream that holds most gives way
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    max_total_queue: u64,

    /// Memory for bytes that are not written yet, in all shards; beyond it streams stop, or a replay waits
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size)]
    write_buffer: u64,

    /// How long bytes stay in memory before they are written
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    write_age: Duration,

    /// Growing files kept open at a time, in all shards; at most half of what the process may open
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_open_files: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapArg {
    First,
    Last,
}

impl LimitArgs {
    /// Limits and timeouts of one of `shards` reassemblers.
    pub fn config(&self, output: &OutputArgs, shards: u32, hash_key: [u64; 12]) -> reassembly::Config {
        let idle_timeout = nanoseconds(self.idle_timeout);

        reassembly::Config {
            gap_hold: nanoseconds(self.gap_hold),
            gap_timeout: nanoseconds(self.gap_timeout),
            pickup_hold: nanoseconds(self.pickup_hold),
            rst_hold: nanoseconds(self.rst_hold),
            handshake_timeout: nanoseconds(self.handshake_timeout).min(idle_timeout),
            fin_timeout: nanoseconds(self.fin_timeout).min(idle_timeout),
            idle_timeout,
            linger: nanoseconds(self.linger),
            clock_step: nanoseconds(self.clock_step),
            update_interval: nanoseconds(self.update_interval),
            max_connections: self.max_connections.div_ceil(shards),
            max_linger: self.max_linger.div_ceil(shards),
            max_stream_queue: u32::try_from(self.max_stream_queue).unwrap_or(u32::MAX),
            max_total_queue: self.max_total_queue / u64::from(shards),
            max_stream_chunks: self.max_stream_chunks,
            require_handshake: self.require_handshake,
            strict_fsm: self.strict_fsm,
            strict_options: self.strict_options,
            interface_key: self.interface_key,
            vlan_key: self.vlan_key,
            overlap: match self.overlap {
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

    /// Completes the output of one of `shards` sinks.
    pub fn output(&self, args: &OutputArgs, shards: u32, output: Output) -> Output {
        Output {
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
            buffer: usize::try_from(self.write_buffer).unwrap_or(usize::MAX),
            write_age: nanoseconds(self.write_age),
            max_open_files: (self.max_open_files as usize).div_ceil(shards as usize),
            shards,
            ..output
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn parse_host(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().context("not an address (try 192.0.2.1 or 2001:db8::1; names are not looked up)")
}

fn parse_net(text: &str) -> anyhow::Result<IpNet> {
    let net: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().context("not a network (try 10.0.0.0/8 or 2001:db8::/32)")?,
    };
    if net.addr() != net.network() {
        bail!("bits of the address are set outside the prefix (try {})", net.trunc());
    }
    Ok(net)
}

fn parse_tunnel(text: &str) -> anyhow::Result<Tunnels> {
    if text == "all" {
        return Ok(Tunnels::ALL);
    }
    let named = Tunnels::NAMES.iter().find(|(name, _)| *name == text).map(|&(_, tunnel)| tunnel);
    named.context("not a tunnel (try vxlan,gre, or all)")
}

fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    humantime::parse_duration(text).context("not a time (try 500ms, 30s, 5min or 2h)")
}

/// Bytes, with K, M or G for powers of 1024.
fn parse_size(text: &str) -> anyhow::Result<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => bail!("not a size (try 4096, 64K, 64M or 1G)"),
    };
    let number: u64 = digits.parse().context("not a size (try 4096, 64K, 64M or 1G)")?;
    number.checked_mul(1 << shift).filter(|&size| size <= 1 << 40).context("more than 1024G")
}

/// The kernel wants a power of two of pages, and refuses a record that is larger than the ring, even an empty one: with
/// less than 256 KiB no full IP packet would ever get through (`lo`, merged frames).
fn parse_ring_size(text: &str) -> anyhow::Result<u32> {
    let size = parse_size(text)?;
    let valid = u32::try_from(size).ok().filter(|size| size.is_power_of_two() && (1 << 18..=1 << 30).contains(size));
    valid.context("not a power of two from 256K to 1G (try 64M)")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096").unwrap(), 4096);
        assert_eq!(parse_size("64k").unwrap(), 65_536);
        assert_eq!(parse_size("2GiB").unwrap(), 2 << 30);
        for bad in ["", "M", "12X", "-1", "1.5G", "99999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nets() {
        assert_eq!(parse_net("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_net("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        let error = parse_net("10.1.0.0/8").unwrap_err().to_string();
        assert_eq!(error, "bits of the address are set outside the prefix (try 10.0.0.0/8)");
        assert!(parse_net("10.0.0.0/33").is_err());
    }

    #[test]
    fn ring_sizes() {
        assert_eq!(parse_ring_size("64M").unwrap(), 64 << 20);
        for bad in ["1000", "48M", "128K", "2G", "0"] {
            assert!(parse_ring_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_values_than_fit_are_refused() {
        let args = (0..17).flat_map(|port| ["--port".to_owned(), (port + 1).to_string()]);
        let words = ["xdpflow", "replay", "x", "-o", "y"].map(str::to_owned).into_iter().chain(args);
        let Command::Replay(replay) = Cli::parse_from(words).command else { panic!() };
        assert_eq!(
            replay.filter.build().unwrap_err().to_string(),
            "--port was given 17 times: at most 16 fit into the filter"
        );
    }
}
