//! Flags that say which segments are wanted, and the subcommands of `xdpflow filter`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_common::tunnel::Tunnels;
use anyhow::{Context as _, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand, value_parser};
use ipnet::IpNet;

use super::{
    control::{FilterSet, FilterShow, SET_EXAMPLES},
    value::{parse_control_bits, parse_host, parse_net, parse_ports, parse_sample, parse_tunnel, parse_vlan},
};
use crate::{
    error::{Name, Reason},
    filter::{End, Expression, Layer, Set, Test, explain::Connection, parse},
};

#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Say what flags and an expression mean, and try them on capture files or on a connection
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Put another filter in the place of the one that a capture has, while it runs
    #[command(after_help = SET_EXAMPLES)]
    Set(FilterSet),
    /// Show the filter of a capture that runs, since when it has it, and what the kernel has counted
    Show(FilterShow),
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  xdpflow filter explain 'tcp port 443 and not net 10.0.0.0/8'
  xdpflow filter explain --server-port 80,443 --exclude-nets-file ours.txt -r monday.pcap
  xdpflow filter explain 'client net 10.0.0.0/8' --tuple '10.0.0.1:51244 > 192.0.2.7:443'

With --tuple the exit status is 0 when the connection may match, 1 when it does not.";

#[derive(Args, Debug)]
pub struct Explain {
    /// Expression as tcpdump takes it, in one argument or several
    #[arg(value_name = "EXPR")]
    pub words: Vec<String>,

    /// Capture file of which the matching frames are counted; may be repeated
    #[arg(short, long = "read", value_name = "FILE")]
    pub read: Vec<PathBuf>,

    /// Connection that is asked about, such as '10.0.0.1:51244 > 192.0.2.7:443', the client first
    #[arg(long, value_name = "TUPLE")]
    pub tuple: Option<Connection>,

    /// Say of each frame whether it matches
    #[arg(short, long, requires = "read")]
    pub verbose: bool,

    /// Tunnels to look into: all, or names with commas between them
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_tunnel)]
    pub decap: Vec<Tunnels>,

    #[command(flatten)]
    pub filter: FilterArgs,
}

/// The flags that capture, replay and `filter` share.
#[derive(Clone, Debug, Default)]
pub struct FilterArgs {
    /// By flag, those that were given.
    conditions: Vec<Condition>,
    /// Expressions, which must all hold as well.
    expressions: Vec<String>,
    expression_files: Vec<PathBuf>,
    snaplen: Option<u32>,
}

/// One flag with its values.
#[derive(Clone, Debug)]
struct Condition {
    excludes: bool,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Tests(Vec<Test>),
    Files(Vec<PathBuf>, Entry),
}

impl FilterArgs {
    /// What must hold for a segment. Files are read now.
    ///
    /// # Errors
    ///
    /// When an expression or a file says what cannot be understood.
    pub fn expression(&self) -> anyhow::Result<Expression> {
        self.expression_and(&[])
    }

    /// The same, with an expression in so many words that must hold, too.
    ///
    /// # Errors
    ///
    /// As in [`Self::expression`].
    pub fn expression_and(&self, words: &[String]) -> anyhow::Result<Expression> {
        let mut all = Vec::new();
        for Condition { excludes, values } in &self.conditions {
            let any = match values {
                Values::Tests(tests) => Expression::any(tests.iter().cloned()),
                Values::Files(paths, entry) => {
                    let sets: Vec<_> = paths.iter().map(|path| entry.read(path)).collect::<anyhow::Result<_>>()?;
                    Expression::any(sets.into_iter().map(|set| Test::Set(End::Either, Arc::new(set))))
                }
            };
            all.push(if *excludes { !any } else { any });
        }
        for path in &self.expression_files {
            let name = Name(path);
            let text = fs::read_to_string(path).map_err(|error| anyhow!("read {name}: {}", Reason(&error)))?;
            all.push(parse(&without_comments(&text)).with_context(|| name.to_string())?);
        }
        for text in &self.expressions {
            all.push(parse(text)?);
        }
        all.push(parse(&words.join(" "))?);
        all.retain(|expression| *expression != Expression::everything());
        Ok(if let [_] = all[..] { all.remove(0) } else { Expression::And(all) })
    }

    /// The same, with paths that are relative to `directory`.
    pub fn within(mut self, directory: &Path) -> Self {
        for path in self.paths_mut() {
            *path = directory.join(&*path);
        }
        self
    }

    /// Whether a part of it is in files, which may say something else the next time.
    pub fn reads_files(&self) -> bool {
        self.clone().paths_mut().next().is_some()
    }

    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let lists = self.conditions.iter_mut().filter_map(|condition| match &mut condition.values {
            Values::Files(paths, _) => Some(paths),
            Values::Tests(_) => None,
        });
        lists.flatten().chain(&mut self.expression_files)
    }

    /// Octets of a frame that are captured; 0 means all.
    pub fn snaplen(&self) -> u32 {
        self.snaplen.unwrap_or(0)
    }
}

impl Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let files = FILES.iter().flat_map(|file| [(file.name, false, file), (file.exclude, true, file)]);
        let files = files.map(|(name, excludes, file)| {
            let arg = Arg::new(name).value_name("FILE").value_parser(value_parser!(PathBuf));
            described(arg, name, excludes, file.help).hide_short_help(excludes)
        });
        let flags = FLAGS.iter().flat_map(|flag| [(flag.name, false, flag), (flag.exclude, true, flag)]);
        let flags = flags.map(|(name, excludes, flag)| {
            let arg = Arg::new(name).value_name(flag.value).value_delimiter(',');
            let arg = arg.value_parser(move |text: &str| (flag.parse)(text, flag.end));
            // All of them fill a screen: the short help has those that say what an end is in the long one.
            described(arg, name, excludes, flag.help).hide_short_help(excludes || !matches!(flag.end, End::Either))
        });
        let (included, excluded): (Vec<_>, Vec<_>) =
            flags.chain(files).partition(|arg| arg.get_help_heading() == Some(INCLUDED));
        let only = |name, other, help| {
            let arg = Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).conflicts_with(other);
            arg.help_heading(INCLUDED)
        };
        let other = |name, value, help: &'static str| Arg::new(name).long(name).value_name(value).help(help);
        command
            .args(included)
            .arg(only(IPV4_ONLY, IPV6_ONLY, "IPv4 alone"))
            .arg(only(IPV6_ONLY, IPV4_ONLY, "IPv6 alone"))
            .arg(
                other(SAMPLE, "1/N", "One connection in so many; the same ones on every host")
                    .value_parser(parse_sample),
            )
            .arg(
                other(EXPRESSION, "EXPR", "Expression as tcpdump takes it, which must hold as well")
                    .action(ArgAction::Append),
            )
            .arg(
                other(EXPRESSION_FILE, "FILE", "File with such an expression")
                    .short('F')
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf)),
            )
            .arg(
                other(
                    SNAPLEN,
                    "BYTES",
                    "Bytes of each frame that are captured; what is cut off is recorded as missing [default: all]",
                )
                .value_parser(value_parser!(u32).range(1..)),
            )
            .args(excluded)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A flag that may be repeated.
fn described(arg: Arg, name: &'static str, excludes: bool, help: &'static str) -> Arg {
    let arg = arg.long(name).action(ArgAction::Append);
    if excludes {
        arg.help(format!("Not: {help}")).help_heading(EXCLUDED)
    } else {
        arg.help(help).help_heading(INCLUDED)
    }
}

impl FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut conditions = Vec::new();
        for flag in FLAGS {
            for (name, excludes) in [(flag.name, false), (flag.exclude, true)] {
                if let Some(tests) = matches.get_many::<Test>(name) {
                    conditions.push(Condition { excludes, values: Values::Tests(tests.cloned().collect()) });
                }
            }
        }
        for file in FILES {
            for (name, excludes) in [(file.name, false), (file.exclude, true)] {
                if let Some(paths) = matches.get_many::<PathBuf>(name) {
                    conditions
                        .push(Condition { excludes, values: Values::Files(paths.cloned().collect(), file.entry) });
                }
            }
        }
        let sample = matches.get_one::<Test>(SAMPLE).cloned();
        let ipv4 = matches.get_flag(IPV4_ONLY).then_some(Test::Ipv4);
        let ipv6 = matches.get_flag(IPV6_ONLY).then_some(Test::Ipv6);
        for test in [sample, ipv4, ipv6].into_iter().flatten() {
            conditions.push(Condition { excludes: false, values: Values::Tests(vec![test]) });
        }
        Ok(Self {
            conditions,
            expressions: matches.get_many(EXPRESSION).unwrap_or_default().cloned().collect(),
            expression_files: matches.get_many(EXPRESSION_FILE).unwrap_or_default().cloned().collect(),
            snaplen: matches.get_one(SNAPLEN).copied(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A flag whose values are alternatives.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    exclude: &'static str,
    value: &'static str,
    parse: fn(&str, End) -> anyhow::Result<Test>,
    end: End,
    help: &'static str,
}

macro_rules! flags {
    ($($name:literal $value:literal $parse:ident $end:ident $help:literal)*) => {
        &[$(Flag {
            name: $name,
            exclude: concat!("exclude-", $name),
            value: $value,
            parse: $parse,
            end: End::$end,
            help: $help,
        }),*]
    };
}

const FLAGS: &[Flag] = flags! {
    "host"         "ADDR"  host  Either      "Address at either end"
    "net"          "CIDR"  net   Either      "Network at either end, such as 10.0.0.0/8 or 2001:db8::/32"
    "port"         "PORTS" ports Either      "Port at either end: 443, 8000-9000 or 80,443"
    "src-host"     "ADDR"  host  Source      "Address of the sender"
    "src-net"      "CIDR"  net   Source      "Network of the sender"
    "src-port"     "PORTS" ports Source      "Port of the sender"
    "dst-host"     "ADDR"  host  Destination "Address of the receiver"
    "dst-net"      "CIDR"  net   Destination "Network of the receiver"
    "dst-port"     "PORTS" ports Destination "Port of the receiver"
    "client-host"  "ADDR"  host  Client      "Address of the end that opened the connection"
    "client-net"   "CIDR"  net   Client      "Network of the end that opened the connection"
    "client-port"  "PORTS" ports Client      "Port of the end that opened the connection"
    "server-host"  "ADDR"  host  Server      "Address of the end that the connection was opened to"
    "server-net"   "CIDR"  net   Server      "Network of the end that the connection was opened to"
    "server-port"  "PORTS" ports Server      "Port of the end that the connection was opened to"
    "vlan"         "ID"    vlan  Either      "Id of the outermost VLAN tag"
    "tcp-flags"    "BITS"  bits  Either      "TCP flag of the segment: syn, fin, rst, psh, ack, urg; syn+ack for both"
};

/// A flag whose values are files of addresses.
#[derive(Debug)]
struct FileFlag {
    name: &'static str,
    exclude: &'static str,
    entry: Entry,
    help: &'static str,
}

const FILES: &[FileFlag] = &[
    FileFlag {
        name: "hosts-file",
        exclude: "exclude-hosts-file",
        entry: Entry::Host,
        help: "Address at either end, one of those in a file, each on a line of its own",
    },
    FileFlag {
        name: "nets-file",
        exclude: "exclude-nets-file",
        entry: Entry::Net,
        help: "Network at either end, one of those in a file, each on a line of its own",
    },
];

const INCLUDED: &str =
    "Filter (values of one flag are alternatives, in a list or repeated; different flags must all hold)";
const EXCLUDED: &str = "Filter, what is left out in any case";

const IPV4_ONLY: &str = "ipv4-only";
const IPV6_ONLY: &str = "ipv6-only";
const SAMPLE: &str = "sample";
const EXPRESSION: &str = "filter";
const EXPRESSION_FILE: &str = "filter-file";
const SNAPLEN: &str = "snaplen";

fn host(text: &str, end: End) -> anyhow::Result<Test> {
    Ok(Test::Net(end, parse_host(text)?.into()))
}

fn net(text: &str, end: End) -> anyhow::Result<Test> {
    Ok(Test::Net(end, parse_net(text)?))
}

fn ports(text: &str, end: End) -> anyhow::Result<Test> {
    let (low, high) = parse_ports(text)?;
    Ok(Test::Ports(end, low, high))
}

fn vlan(text: &str, _: End) -> anyhow::Result<Test> {
    Ok(Test::Vlan(Some(parse_vlan(text)?)))
}

fn bits(text: &str, _: End) -> anyhow::Result<Test> {
    let bits = parse_control_bits(text)?.into();
    Ok(Test::Header { layer: Layer::Tcp, offset: 13, width: 1, mask: bits, low: bits, high: bits })
}

/// What a line of a file is.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Host,
    Net,
}

impl Entry {
    /// Reads a file of one entry in a line, with comments behind `#` and empty lines.
    fn read(self, path: &Path) -> anyhow::Result<Set> {
        let name = Name(path).to_string();
        let text = fs::read(path).map_err(|error| anyhow!("read {name}: {}", Reason(&error)))?;
        let mut nets: Vec<IpNet> = Vec::new();
        for (number, line) in (1..).zip(text.split(|&octet| octet == b'\n')) {
            let line = String::from_utf8_lossy(line);
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let net = match self {
                Self::Host => parse_host(entry).map(IpNet::from),
                Self::Net => parse_net(entry),
            };
            nets.push(net.with_context(|| format!("{name}:{number}: {}", entry.escape_debug()))?);
            if nets.len() > ENTRIES_MAX {
                bail!("{name}:{number}: the file has more than {ENTRIES_MAX} entries");
            }
        }
        Ok(Set { name, nets })
    }
}

/// So many fit into the kernel's map.
const ENTRIES_MAX: usize = 1_000_000;

/// Blanks in place of what is behind `#`, so that every word stays where it is.
fn without_comments(text: &str) -> String {
    let line = |line: &str| line.split('#').next().unwrap_or_default().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
        words: Vec<String>,
    }

    fn expression(line: &str) -> anyhow::Result<Expression> {
        let Line { filter, words } = Line::try_parse_from(["test"].into_iter().chain(line.split_whitespace()))?;
        filter.expression_and(&words)
    }

    #[test]
    fn values_are_alternatives_flags_must_all_hold_and_exclusions_win() {
        for (line, expected) in [
            ("", ""),
            ("--port 80", "port 80"),
            ("--port 80,443 --port 8000-9000", "port 80 or 443 or portrange 8000-9000"),
            ("--port 80 --host ::1,10.0.0.1", "(host ::1 or 10.0.0.1) and (port 80)"),
            ("--src-port 80 --dst-net 10.0.0.0/8", "(src port 80) and (dst net 10/8)"),
            ("--client-host ::1 --exclude-server-port 22", "(client host ::1) and not (server port 22)"),
            ("--vlan 7,8 --exclude-vlan 9", "(vlan 7 or vlan 8) and not (vlan 9)"),
            ("--ipv4-only", "ip"),
            ("--tcp-flags syn+ack,rst", "tcp[13] & 18 = 18 or tcp[13] & 4 = 4"),
            ("--sample 1/16 tcp port 80 or 443", "sample 1/16 and (port 80 or 443)"),
            ("--port 80 host ::1 or src ::2", "port 80 and (host ::1 or src ::2)"),
            ("--exclude-net 10.0.0.0/8,::/0", "not (net 10/8 or ::/0)"),
        ] {
            let found = simplified(expression(line).unwrap());
            assert_eq!(found, simplified(parse(expected).unwrap()), "{line}");
        }
    }

    /// Without lists of one.
    fn simplified(expression: Expression) -> Expression {
        match expression {
            Expression::And(mut list) | Expression::Or(mut list) if list.len() == 1 => simplified(list.remove(0)),
            Expression::And(list) => Expression::And(list.into_iter().map(simplified).collect()),
            Expression::Or(list) => Expression::Or(list.into_iter().map(simplified).collect()),
            Expression::Not(inner) => !simplified(*inner),
            Expression::Test(_) => expression,
        }
    }

    #[test]
    fn files_have_one_entry_in_a_line() {
        let folder = std::env::temp_dir().join(format!("xdpflow-filter-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let read = |flag: &str, text: &[u8]| {
            let path = folder.join("file");
            fs::write(&path, text).unwrap();
            let path = path.to_str().unwrap();
            expression(&format!("--{flag} {path}")).map_err(|error| format!("{error:#}").replace(path, "FILE"))
        };
        let nets = |text: &[&str]| text.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let text = b"# ours\n10.0.0.0/8\r\n\n  2001:db8::/32 # and this one\n192.0.2.1";
        let expected = nets(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]);
        let Ok(Expression::Or(any)) = read("nets-file", text) else { panic!("no set") };
        let [Expression::Test(Test::Set(End::Either, set))] = &any[..] else { panic!("{any:?}") };
        assert_eq!(set.nets, expected);
        let Ok(Expression::Not(_)) = read("exclude-hosts-file", b"::1\n") else { panic!("no exclusion") };
        for (flag, text, error) in [
            (
                "hosts-file",
                &b"::1\n10.0.0.0/8\n"[..],
                "FILE:2: 10.0.0.0/8: not an address (try 192.0.2.1 or 2001:db8::1; names are not looked up)",
            ),
            (
                "nets-file",
                b"\n\n10.1.0.0/8",
                "FILE:3: 10.1.0.0/8: bits of the address are set outside the prefix (try 10.0.0.0/8)",
            ),
            ("exclude-nets-file", b"\xff", "FILE:1: \u{fffd}: not a network (try 10.0.0.0/8 or 2001:db8::/32)"),
            (
                "filter-file",
                b"port 80 # the web\nand udp",
                "FILE: filter expression: xdpflow captures TCP alone\n  port 80  and udp\n               ^~~",
            ),
        ] {
            let found = read(flag, text).unwrap_err();
            assert!(found.starts_with(error), "{found}, not {error}");
        }
        fs::remove_dir_all(&folder).unwrap();
        let error = format!("{:#}", expression("--nets-file /nowhere/at/all").unwrap_err());
        assert_eq!(error, "read /nowhere/at/all: no such file or directory");
    }
}
