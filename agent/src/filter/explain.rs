//! `xdpflow filter explain`: what a filter means in plain words, what of it runs in the kernel, and what it makes of a
//! capture file or of a connection.

use std::{fmt, io::Write, net::SocketAddr, path::PathBuf};

use agent_common::{
    filter::{self as graph, NODES_MAX},
    frame::LinkType,
    head::{Client, Head, Parsed, parse},
    tunnel::Tunnels,
};
use anyhow::Context as _;

use super::{CONTROL_BITS, End, Expression, Filter, Layer, Test};
use crate::{
    decode::{self, Decoder, Reject},
    judge::Judge,
    pcap::Merge,
    reassembly::NoFlows,
    segment::Endpoint,
};

/// What is asked about a filter.
#[derive(Debug)]
pub struct Explain<'a> {
    pub expression: &'a Expression,
    /// The same, compiled.
    pub filter: &'a Filter,
    /// Capture files to try it on.
    pub files: &'a [PathBuf],
    /// Whether each of their frames gets a line.
    pub verbose: bool,
    pub connection: Option<Connection>,
}

/// Both ends of a connection, the client first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection(pub SocketAddr, pub SocketAddr);

/// What a filter makes of a connection, of which nothing is known but its ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Yes,
    /// It depends on the headers of each frame.
    Depends,
    No,
}

impl Explain<'_> {
    /// Answers on `out`. False when it was asked about a connection, and nothing of that matches.
    ///
    /// # Errors
    ///
    /// When a capture file cannot be read, or `out` not be written.
    pub fn run(&self, out: &mut impl Write) -> anyhow::Result<bool> {
        write!(out, "{}\n{}", Words(self.expression), InKernel(self))?;
        if let Some(connection) = self.connection {
            let verdicts = self.judge(connection)?;
            let [there, back] = verdicts.map(|verdict| match verdict {
                Verdict::Yes => "matches",
                Verdict::Depends => "depends on the headers of each frame",
                Verdict::No => "does not match",
            });
            let Connection(client, server) = connection;
            writeln!(out, "\n{client} > {server}: {there}\n{server} > {client}: {back}")?;
            if verdicts == [Verdict::No; 2] {
                return Ok(false);
            }
        }
        if !self.files.is_empty() {
            self.read(out)?;
        }
        Ok(true)
    }

    /// What becomes of a connection's segments: those of the client, and those of the server.
    pub fn judge(&self, Connection(client, server): Connection) -> anyhow::Result<[Verdict; 2]> {
        let known = Test::is_about_endpoints;
        let compiled = |expression| super::compile(&expression, 0, Tunnels::NONE);
        let may = compiled(self.expression.weakened(known))?;
        let must = compiled(self.expression.strengthened(known))?;
        let (client, server) = (Endpoint::from(client), Endpoint::from(server));
        let judge = |src: Endpoint, dst: Endpoint, role| {
            let ends = Head { src: src.address, dst: dst.address, ..Head::default() };
            let head = Head { src_port: src.port, dst_port: dst.port, ..ends };
            match (must.accepts(&head, role), may.accepts(&head, role)) {
                (true, _) => Verdict::Yes,
                (_, true) => Verdict::Depends,
                _ => Verdict::No,
            }
        };
        Ok([judge(client, server, Client::Source), judge(server, client, Client::Destination)])
    }

    fn read(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let merge = Merge::open(self.files, 1)?.pop();
        let mut merge = merge.context("open the capture files")?;
        let tunnels = self.filter.graph.tunnels;
        let mut decoder = Decoder::new(decode::Config { tunnels, ..decode::Config::default() });
        let mut judge = Judge::new(self.filter.clone());
        let (mut frames, mut segments, mut matching, mut copied) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut live = true;
        writeln!(out)?;
        while let Some(frame) = merge.next() {
            frames += 1;
            live &= matches!(frame.link_type, LinkType::ETHERNET | LinkType::RAW | LinkType::IPV4 | LinkType::IPV6);
            if let Parsed::Tcp(head) = parse(frame.bytes, frame.link_type) {
                copied += u64::from(self.filter.accepts(&head, head.client()));
            }
            let said = match decoder.decode(&frame) {
                Ok(decoded) => {
                    let matches = judge.accepts(&decoded, &mut NoFlows);
                    segments += 1;
                    matching += u64::from(matches);
                    if self.verbose {
                        let segment = &decoded.segment;
                        let verdict = if matches { "matches" } else { "does not match" };
                        writeln!(out, "{frames:>8} {verdict}: {} > {}", segment.src, segment.dst)?;
                    }
                    continue;
                }
                Err(Reject::Fragment) => "a fragment",
                Err(Reject::NotTcp) => "not TCP",
                Err(Reject::Malformed) => "malformed",
            };
            if self.verbose {
                writeln!(out, "{frames:>8} {said}")?;
            }
        }
        writeln!(out, "{frames} frames, of which {segments} complete a TCP segment: {matching} match")?;
        if live {
            writeln!(out, "the kernel would copy {copied}")?;
        }
        match merge.into_errors().into_iter().next() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Connection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let ends = text.split_once('>').map(|(client, server)| (client.trim().trim_end_matches('-'), server));
        let ends = ends.or_else(|| text.trim().split_once(char::is_whitespace));
        let end = |text: &str| text.trim().parse().ok();
        let ends = ends.and_then(|(client, server)| Some(Self(end(client)?, end(server)?)));
        ends.context(
            "not a connection (try '10.0.0.1:51244 > 192.0.2.7:443' or '[2001:db8::1]:51244 > [2001:db8::2]:443')",
        )
    }
}

/// An expression in plain words, a line for each part, those inside of another one indented.
pub struct Words<'a>(pub &'a Expression);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expression::And(all) if all.is_empty() => writeln!(f, "every TCP segment matches"),
            Expression::Or(any) if any.is_empty() => writeln!(f, "no segment matches"),
            expression => {
                writeln!(f, "a segment matches when")?;
                tell(f, expression, 1, "")
            }
        }
    }
}

fn tell(f: &mut fmt::Formatter<'_>, expression: &Expression, depth: usize, before: &str) -> fmt::Result {
    let indent = "  ".repeat(depth);
    let (what, list) = match expression {
        Expression::Test(test) => return writeln!(f, "{indent}{before}{test}"),
        Expression::Not(inner) if let Some(bits) = any_bit(inner) => {
            return writeln!(f, "{indent}{before}of the TCP flags any of these is set: {}", Bits(bits));
        }
        Expression::Not(inner) if before.is_empty() => return tell(f, inner, depth, "not: "),
        Expression::Not(inner) => {
            writeln!(f, "{indent}{before}")?;
            return tell(f, inner, depth + 1, "not: ");
        }
        Expression::And(list) | Expression::Or(list) if let [only] = &list[..] => return tell(f, only, depth, before),
        Expression::And(list) if list.is_empty() => ("always", list),
        Expression::Or(list) if list.is_empty() => ("never", list),
        Expression::And(list) => ("all of these hold", list),
        Expression::Or(list) => ("any of these holds", list),
    };
    writeln!(f, "{indent}{before}{what}")?;
    let (shown, rest) = list.split_at(list.len().min(SHOWN_MAX));
    shown.iter().try_for_each(|inner| tell(f, inner, depth + 1, ""))?;
    if rest.is_empty() { Ok(()) } else { writeln!(f, "{indent}  and {} more", rest.len()) }
}

/// Parts of a list that are shown; a longer one is rarely read.
const SHOWN_MAX: usize = 64;

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(end, net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "{} is {}", Whose("address", *end), net.addr())
            }
            Self::Net(end, net) => write!(f, "{} is in {net}", Whose("address", *end)),
            Self::Ports(end, low, high) if low == high => write!(f, "{} is {low}", Whose("port", *end)),
            Self::Ports(end, low, high) => write!(f, "{} is from {low} to {high}", Whose("port", *end)),
            Self::Set(end, set) => {
                write!(
                    f,
                    "{} is in one of the {} nets of {}",
                    Whose("address", *end),
                    set.nets.len(),
                    set.name.escape_debug()
                )
            }
            Self::Ipv4 => f.write_str("it is IPv4"),
            Self::Ipv6 => f.write_str("it is IPv6"),
            Self::Vlan(None) => f.write_str("it has a VLAN tag"),
            Self::Vlan(Some(id)) => write!(f, "the id of its outermost VLAN tag is {id}"),
            Self::Sample(of) => write!(f, "its connection is in the sample of 1 in {of}"),
            Self::Header { layer: Layer::Tcp, offset: 13, width: 1, mask, low, high } if low == high => {
                let (set, clear) = (Bits(*low), Bits(mask & !low));
                match (set.0, clear.0) {
                    (_, 0) => write!(f, "of the TCP flags these are set: {set}"),
                    (0, _) => write!(f, "of the TCP flags none of these is set: {clear}"),
                    _ => write!(f, "of the TCP flags these are set: {set}; and none of these: {clear}"),
                }
            }
            Self::Header { layer, offset, width, mask, low, high } => {
                let layer = match layer {
                    Layer::Ip => "ip",
                    Layer::Ip6 => "ip6",
                    Layer::Tcp => "tcp",
                };
                write!(f, "{layer}[{offset}")?;
                if *width != 1 {
                    write!(f, ":{width}")?;
                }
                f.write_str("]")?;
                if *mask != u32::MAX >> (32 - 8 * u32::from(*width)) {
                    write!(f, " & {mask:#x}")?;
                }
                if low == high { write!(f, " is {low:#x}") } else { write!(f, " is from {low:#x} to {high:#x}") }
            }
        }
    }
}

/// The TCP flags of which none is set where `expression` holds, if it says no more than that.
fn any_bit(expression: &Expression) -> Option<u32> {
    match expression {
        Expression::Test(Test::Header { layer: Layer::Tcp, offset: 13, width: 1, mask, low: 0, high: 0 }) => {
            Some(*mask)
        }
        _ => None,
    }
}

/// Names of TCP flags.
struct Bits(u32);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = (0..).zip(CONTROL_BITS).filter(|(bit, _)| self.0 >> bit & 1 == 1);
        f.write_str(&names.map(|(_, name)| name).collect::<Vec<_>>().join(", "))
    }
}

/// `the port at either end`.
struct Whose(&'static str, End);

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, end) = self;
        match end {
            End::Source => write!(f, "the sender's {what}"),
            End::Destination => write!(f, "the receiver's {what}"),
            End::Either => write!(f, "the {what} at either end"),
            End::Client => write!(f, "the client's {what}"),
            End::Server => write!(f, "the server's {what}"),
        }
    }
}

/// What of a filter runs in the kernel.
struct InKernel<'a>(&'a Explain<'a>);

impl fmt::Display for InKernel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explain { expression, filter: Filter { graph, sets }, .. } = self.0;
        writeln!(f, "in the kernel, for each frame")?;
        let (questions, most) = (reached(graph), longest(graph));
        writeln!(
            f,
            "  questions: {questions} (of {NODES_MAX} that there can be); asked of one segment: {most} at most"
        )?;
        if graph.asks_sets != 0 {
            writeln!(f, "  both addresses are looked up among {} nets", sets.len())?;
        }
        if graph.asks_client != 0 {
            writeln!(f, "  who the client is, is known from SYN and SYN-ACK, and then from the record of the flow;")?;
            writeln!(f, "  while it is not, either end may be: the walk is done for both")?;
        }
        if graph.snaplen != 0 {
            writeln!(f, "  the first {} octets of a frame are copied", graph.snaplen)?;
        }
        if graph.tunnels != Tunnels::NONE {
            writeln!(f, "  what may be one of the tunnels is copied, and the agent judges what is inside")?;
        }
        let weakened = expression.weakened(Test::is_known_of_fragments);
        if weakened == **expression {
            return writeln!(f, "  fragments of IP are judged alike");
        }
        match &weakened {
            Expression::And(all) if all.is_empty() => writeln!(f, "  fragments of IP are all copied,")?,
            Expression::Or(any) if any.is_empty() => writeln!(f, "  fragments of IP are not copied,")?,
            weakened => {
                writeln!(f, "  a fragment of IP, of which only addresses and tags are known, is copied when")?;
                tell(f, weakened, 2, "")?;
            }
        }
        writeln!(f, "  and the agent judges what it was a part of")
    }
}

/// Questions that a segment can come to.
fn reached(graph: &graph::Filter) -> usize {
    let mut reached = [false; NODES_MAX];
    let mut todo = vec![graph.segment];
    while let Some(at) = todo.pop() {
        if let Some(reached) = reached.get_mut(usize::from(at))
            && !*reached
        {
            *reached = true;
            todo.extend([graph.nodes[usize::from(at)].yes, graph.nodes[usize::from(at)].no]);
        }
    }
    reached.iter().filter(|reached| **reached).count()
}

/// Questions on the longest way. A node leads to nodes that were placed before it.
fn longest(graph: &graph::Filter) -> usize {
    let mut lengths = [0; NODES_MAX];
    for at in 0..NODES_MAX {
        let node = &graph.nodes[at];
        let behind = |next: u8| lengths.get(usize::from(next)).copied().unwrap_or(0);
        lengths[at] = 1 + behind(node.yes).max(behind(node.no));
    }
    lengths.get(usize::from(graph.segment)).copied().unwrap_or(0)
}
