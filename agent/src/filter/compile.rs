//! From an expression to the graph that is walked for every frame.

use std::{collections::HashMap, sync::Arc};

use agent_common::{
    filter::{self, ACCEPT, Ends, NODES_MAX, Net, Node, REFUSE, SETS_MAX},
    head::TCP_WORD,
    tunnel::Tunnels,
};
use anyhow::ensure;
use ipnet::IpNet;

use super::{End, Expression, Filter, Layer, Set, Sets, Test};

/// Compiles `expression` for frames of which `snaplen` octets are kept (0: all), and `tunnels` are looked into.
///
/// # Errors
///
/// When the expression has more questions than the kernel has room for.
pub fn compile(expression: &Expression, snaplen: u32, tunnels: Tunnels) -> anyhow::Result<Filter> {
    let mut compiler = Compiler::default();
    let expression = &gather(expression.clone());
    let segment = compiler.place(expression, ACCEPT, REFUSE, true, What::Segment);
    let fragment = compiler.place(expression, ACCEPT, REFUSE, true, What::Fragment);
    let Compiler { nodes, sets, .. } = compiler;
    ensure!(
        nodes.len() <= NODES_MAX,
        "the filter has too many terms: {} of at most {NODES_MAX} (many hosts or nets can come from a file, with --nets-file)",
        nodes.len()
    );
    ensure!(sets.len() <= SETS_MAX, "the filter names {} sets of nets: at most {SETS_MAX} fit", sets.len());

    let asks = |test| u8::from(nodes.iter().any(|node| node.test == test));
    let about_client = |node: &Node| node.ends == Ends::CLIENT || node.ends == Ends::SERVER;
    let mut graph = filter::Filter {
        snaplen,
        tunnels,
        segment,
        fragment,
        asks_client: u8::from(nodes.iter().any(about_client)),
        asks_sets: asks(filter::Test::SET),
        asks_sample: asks(filter::Test::SAMPLE),
        ..filter::Filter::EVERYTHING
    };
    graph.nodes[..nodes.len()].copy_from_slice(&nodes);
    Ok(Filter { graph, sets: Arc::new(Sets::new(sets.iter().map(|set| set.nets.as_slice()))) })
}

/// What the graph is walked for.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Segment,
    /// Only what is about addresses and tags is known; the rest has to let it through.
    Fragment,
}

/// Nodes are placed from the end of the expression to its beginning, so each knows where its answers lead.
#[derive(Default)]
struct Compiler {
    nodes: Vec<Node>,
    /// The same node is needed once only.
    known: HashMap<Node, u8>,
    sets: Vec<Arc<Set>>,
}

impl Compiler {
    /// Places `expression` in front of `yes` and `no`, and returns where it begins. `positive` is false inside of an odd
    /// number of negations.
    fn place(&mut self, expression: &Expression, yes: u8, no: u8, positive: bool, what: What) -> u8 {
        match expression {
            Expression::Test(test) => self.place_test(test, yes, no, positive, what),
            Expression::Not(inner) => self.place(inner, no, yes, !positive, what),
            Expression::And(all) => all.iter().rev().fold(yes, |yes, inner| self.place(inner, yes, no, positive, what)),
            Expression::Or(any) => any.iter().rev().fold(no, |no, inner| self.place(inner, yes, no, positive, what)),
        }
    }

    fn place_test(&mut self, test: &Test, yes: u8, no: u8, positive: bool, what: What) -> u8 {
        let is_known = matches!(test, Test::Net(..) | Test::Set(..) | Test::Ipv4 | Test::Ipv6 | Test::Vlan(_));
        if what == What::Fragment && !is_known {
            return if positive { yes } else { no };
        }
        let node = |test, operands| Node { test, yes, no, operands, ..Node::default() };
        match *test {
            Test::Net(end, net) => self.add(Node { ends: ends(end), ..node(filter::Test::NET, operands(net)) }),
            Test::Ports(end, low, high) => {
                let operands = [low.into(), high.into(), 0, 0];
                self.add(Node { ends: ends(end), ..node(filter::Test::PORT, operands) })
            }
            Test::Set(end, ref set) => {
                let operands = [1 << self.number(set), 0, 0, 0];
                self.add(Node { ends: ends(end), ..node(filter::Test::SET, operands) })
            }
            Test::Ipv4 => self.add(Node { ends: Ends::SOURCE, ..node(filter::Test::NET, operands(every_ipv4())) }),
            Test::Ipv6 => {
                let node = Node { yes: no, no: yes, ..node(filter::Test::NET, operands(every_ipv4())) };
                self.add(Node { ends: Ends::SOURCE, ..node })
            }
            Test::Vlan(id) => {
                let (low, high) = id.map_or((0, u16::MAX), |id| (id, id));
                self.add(node(filter::Test::VLAN, [low.into(), high.into(), 0, 0]))
            }
            Test::Header { layer, offset, width, mask, low, high } => {
                let (first, of_version) = match layer {
                    Layer::Ip => (0, Some(Test::Ipv4)),
                    Layer::Ip6 => (0, Some(Test::Ipv6)),
                    Layer::Tcp => (TCP_WORD as u32, None),
                };
                let word = first + u32::from(offset) / 4;
                let shift = 64 - 8 * u32::from(offset % 4 + width);
                let octets = u32::MAX >> (32 - 8 * u32::from(width));
                let operands = [mask & octets, low, high].map(|value| u64::from(value) << shift);
                let [mask, low, high] = operands;
                let node = node(filter::Test::HEADER, [mask, low, high, 0]);
                let found = self.add(Node { word, ..node });
                match of_version {
                    Some(test) => self.place_test(&test, found, no, positive, what),
                    None => found,
                }
            }
            Test::Sample(of) => {
                let most = u64::from(u32::MAX) / u64::from(of.max(1));
                self.add(node(filter::Test::SAMPLE, [most, 0, 0, 0]))
            }
        }
    }

    /// Of more nodes than there is room for only the number counts.
    fn add(&mut self, node: Node) -> u8 {
        let nodes = &mut self.nodes;
        *self.known.entry(node).or_insert_with(|| {
            nodes.push(node);
            u8::try_from(nodes.len() - 1).unwrap_or(REFUSE).min(REFUSE)
        })
    }

    fn number(&mut self, set: &Arc<Set>) -> u32 {
        let known = self.sets.iter().position(|known| known == set);
        let number = known.unwrap_or_else(|| {
            self.sets.push(Arc::clone(set));
            self.sets.len() - 1
        });
        number as u32 % SETS_MAX as u32
    }
}

/// Alternatives that are many nets become a set, which is one question.
fn gather(expression: Expression) -> Expression {
    let gather_all = |all: Vec<Expression>| all.into_iter().map(gather);
    match expression {
        Expression::Test(_) => expression,
        Expression::Not(inner) => Expression::Not(Box::new(gather(*inner))),
        Expression::And(all) => Expression::And(gather_all(all).collect()),
        Expression::Or(any) => {
            let mut rest: Vec<_> = gather_all(any).collect();
            for end in [End::Source, End::Destination, End::Either, End::Client, End::Server] {
                let is_net = |inner: &Expression| matches!(inner, Expression::Test(Test::Net(of, _)) if *of == end);
                if rest.iter().filter(|inner| is_net(inner)).count() > NETS_AS_NODES {
                    let (nets, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_net);
                    let nets = nets.into_iter().filter_map(|net| match net {
                        Expression::Test(Test::Net(_, net)) => Some(net),
                        _ => None,
                    });
                    let set = Set { name: "the list".to_owned(), nets: nets.collect() };
                    rest = others;
                    rest.push(Expression::Test(Test::Set(end, Arc::new(set))));
                }
            }
            Expression::Or(rest)
        }
    }
}

/// So many comparisons take as long as two lookups in a trie (docs/performance.md).
const NETS_AS_NODES: usize = 32;

fn ends(end: End) -> Ends {
    match end {
        End::Source => Ends::SOURCE,
        End::Destination => Ends::DESTINATION,
        End::Either => Ends::EITHER,
        End::Client => Ends::CLIENT,
        End::Server => Ends::SERVER,
    }
}

fn operands(net: IpNet) -> [u64; 4] {
    let Net { address, mask } = Net::new(net.addr(), net.prefix_len());
    [address[0], address[1], mask[0], mask[1]]
}

fn every_ipv4() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::default())
}
