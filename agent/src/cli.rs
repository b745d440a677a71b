//! What the user types, and what it means.

mod control;
pub mod filter;
mod settings;
mod value;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

use self::settings::LIMITS;
use self::value::parse_ring_size;
pub use self::{
    control::{ControlArgs, FilterSet, FilterShow, parse, words},
    filter::FilterCommand,
    settings::{OutputArgs, Settings},
};
use crate::{capture::Withheld, kernel};

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
  xdpflow filter explain 'tcp port 443 and not net 10.0.0.0/8'
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
    /// Say what a filter means; show or replace that of a capture that runs
    #[command(subcommand)]
    Filter(FilterCommand),
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
  xdpflow capture -i eth0 -o out 'tcp port 443 and not net 10.0.0.0/8'

Values of one flag are alternatives; different flags must all hold. `xdpflow filter explain` says what a filter means.
Frames always pass: nothing is dropped, delayed or changed. Ctrl-C detaches, writes what is in memory and prints a
summary; the exit status is 0 when every frame and every byte is accounted for, 1 when not or after an error, 2 when the
command line is wrong.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  xdpflow replay capture.pcap.gz -o out
  xdpflow replay tap-a.pcap tap-b.pcapng --host 2001:db8::7 -o out
                                                       two captures as one, in the order of time
  xdpflow replay capture.pcap --gaps zero --shards 2 -o out
  xdpflow replay capture.pcap -o digest                no files, but a checksum over every byte
  xzcat capture.pcap.xz | xdpflow replay - -o out      from standard input

Files are pcap or pcapng, as they are or compressed with gzip or zstd. Of a damaged file what can be read is delivered.
Values of one flag are alternatives; different flags must all hold. `xdpflow filter explain` says what a filter means.
The exit status is 0 when every frame and every byte is accounted for, 1 when not or after an error, 2 when the command line
is wrong or the link type of a file is not supported.";

#[derive(Args, Debug)]
pub struct Capture {
    /// Interface to capture on; may be repeated
    #[arg(
        short,
        long = "interface",
        value_name = "IFACE",
        required = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub interface: Vec<String>,

    /// Frames received, sent, or both
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = Direction::Both)]
    pub direction: Direction,

    /// Where to hook into the receive path; what is sent always comes from tc
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Attach::Auto)]
    pub attach: Attach,

    /// Threads, each with a ring of its own; at most 64 [default: number of processors, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: Option<u32>,

    /// Memory of each shard's ring: a power of two from 256K to 1G
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_ring_size)]
    pub ring_size: u32,

    /// Segments that only acknowledge: copy them, or count them in the kernel and do without
    ///
    /// What they say is the same in both cases. They are copied in any case with --interface-key, --vlan-key,
    /// --verify-checksum, --strict-fsm and --strict-options, which look at each of them.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Acks::Withhold)]
    pub acks: Acks,

    /// Fill of a ring, in percent, beyond which connections that begin are shed: counted, not copied; 100 for never
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    #[arg(help_heading = LIMITS)]
    pub shed_level: u8,

    /// Connections in the kernel's flow table; beyond it the longest idle one is forgotten
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(help_heading = LIMITS)]
    pub max_flows: u32,

    /// Expression as tcpdump takes it, in one argument or several
    #[arg(value_name = "EXPR")]
    pub expression: Vec<String>,

    /// Socket through which the filter can be changed meanwhile [default: /run/xdpflow/PID.sock]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    #[command(flatten)]
    pub settings: Settings,
}

impl Capture {
    /// What the kernel counts and does not copy. Its accounts are by addresses and ports alone, and see no checksums.
    pub fn withheld(&self) -> Withheld {
        let keyed = self.settings.tells_more_connections_apart();
        let level = u64::from(self.ring_size) * u64::from(self.shed_level) / 100;
        Withheld {
            max_flows: self.max_flows,
            acks: self.acks == Acks::Withhold && !self.settings.looks_at_every_segment(),
            cutoff: self.settings.cutoff().filter(|_| !keyed),
            shed_level: (self.shed_level < 100 && !keyed).then_some(level),
        }
    }
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
    pub settings: Settings,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Direction {
    Rx,
    Tx,
    Both,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Acks {
    Copy,
    Withhold,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Attach {
    /// Native XDP on drivers known to take it well, tc elsewhere and where XDP is refused
    Auto,
    /// XDP in the driver: the cheapest on hardware, costs a virtual device its segmentation offload
    Native,
    /// XDP behind the driver: for any driver, makes every frame linear first
    Generic,
    /// tc ingress: beside another XDP program, or on devices that XDP does not suit
    Tc,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_in_the_readme_and_every_limit_with_its_default() {
        let readme = include_str!("../../README.md");
        let command = Cli::command();
        let mut limits = 0;
        let explain = command.find_subcommand("filter").unwrap().find_subcommand("explain").unwrap();
        let commands = ["capture", "replay"].map(|name| command.find_subcommand(name).unwrap());
        for argument in commands.into_iter().chain([explain]).flat_map(clap::Command::get_arguments) {
            let Some(long) = argument.get_long() else { continue };
            // They have one line for all of them.
            let long = long.strip_prefix("exclude-").unwrap_or(long);
            assert!(readme.contains(&format!("`--{long}")), "--{long}");
            let heading = argument.get_help_heading().unwrap_or_default();
            if heading.starts_with("Timeouts") || heading.starts_with("Limits") {
                let row = readme.lines().find(|line| line.contains(&format!(" | `--{long}`"))).unwrap();
                let default = row.split('|').nth(3).unwrap().replace([',', ' '], "");
                let expected = argument.get_default_values()[0].to_str().unwrap();
                assert!(default.starts_with(expected), "--{long}: {default}, not {expected}");
                limits += 1;
            }
        }
        assert_eq!(limits, 2 * 20 + 2);
    }
}
