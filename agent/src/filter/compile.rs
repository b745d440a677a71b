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
    let segment = compiler.place(expression, ACCEPT, REFUSE);
    let fragment = compiler.place(&expression.weakened(Test::is_known_of_fragments), ACCEPT, REFUSE);
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
        asks_headers: asks(filter::Test::HEADER),
        ..filter::Filter::EVERYTHING
    };
    graph.nodes[..nodes.len()].copy_from_slice(&nodes);
    Ok(Filter { graph, sets: Arc::new(Sets::new(sets.iter().map(|set| set.nets.as_slice()))) })
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
    /// Places `expression` in front of `yes` and `no`, and returns where it begins.
    fn place(&mut self, expression: &Expression, yes: u8, no: u8) -> u8 {
        match expression {
            _ if yes == no => yes,
            Expression::Test(test) => self.place_test(test, yes, no),
            Expression::Not(inner) => self.place(inner, no, yes),
            Expression::And(all) => all.iter().rev().fold(yes, |yes, inner| self.place(inner, yes, no)),
            Expression::Or(any) => any.iter().rev().fold(no, |no, inner| self.place(inner, yes, no)),
        }
    }

    fn place_test(&mut self, test: &Test, yes: u8, no: u8) -> u8 {
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
                    Some(test) => self.place_test(&test, found, no),
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

#[cfg(test)]
mod tests {
    use agent_common::head::{Client, Head};

    use super::{super::parse, *};
    use crate::segment::Endpoint;

    fn compiled(text: &str, tunnels: Tunnels) -> Filter {
        compile(&parse(text).unwrap(), 0, tunnels).unwrap()
    }

    fn head(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Head {
        let address = |text: &str| Endpoint::new(text.parse().unwrap(), 0).address;
        Head { src: address(src), dst: address(dst), src_port, dst_port, ..Head::default() }
    }

    #[test]
    fn an_address_or_a_port_at_either_end() {
        let web = head("10.0.0.1", 51244, "192.0.2.7", 443);
        let back = Head { src: web.dst, dst: web.src, src_port: web.dst_port, dst_port: web.src_port, ..web };
        for (text, expected) in [
            ("", true),
            ("port 443", true),
            ("port 51244", true),
            ("port 80 or portrange 400-500", true),
            ("portrange 80-442", false),
            ("host 192.0.2.7", true),
            ("host 192.0.2.8 or 10.0.0.1", true),
            ("host 192.0.2.8 or 10.0.0.2", false),
            ("host 10.0.0.1 and port 80", false),
            ("host 10.0.0.1 and net 192.0.2.0/24 and port 443", true),
            ("host 10.0.0.1 and net 192.0.3.0/24 and port 443", false),
            ("net 0.0.0.0/0", true),
            ("net ::/0", false),
            ("net ::fffe:0:0/95", false),
            ("net ::ffff:10.0.0.0/104", true),
            ("net 10.0.0.0/31", true),
            ("net 10.0.0.2/31", false),
        ] {
            let filter = compiled(text, Tunnels::NONE);
            assert_eq!(filter.accepts(&web, Client::Unknown), expected, "{text}");
            assert_eq!(filter.accepts(&back, Client::Unknown), expected, "{text}, the other direction");
        }
    }

    #[test]
    fn ipv4_and_ipv6_do_not_match_each_other() {
        let v6 = head("2001:db8::1", 1, "2001:db8:5::1", 2);
        for (text, expected) in [
            ("net 0.0.0.0/0", false),
            ("net ::/0", true),
            ("net 2001:db8:5::/48", true),
            ("net 2001:db8:6::/48", false),
            ("ip", false),
            ("ip6", true),
        ] {
            assert_eq!(compiled(text, Tunnels::NONE).accepts(&v6, Client::Unknown), expected, "{text}");
        }
    }

    #[test]
    fn a_fragment_is_judged_by_its_addresses_alone() {
        let fragment = Head { fragment: true, ..head("10.0.0.1", 0, "10.0.0.2", 0) };
        for (text, expected) in [
            ("host 10.0.0.2 and port 443", true),
            ("host 10.0.0.3 and port 443", false),
            ("not (host 10.0.0.2 and port 443)", true),
            ("not (host 10.0.0.2 or port 443)", false),
            ("host 10.0.0.2 and not port 443", true),
            ("host 10.0.0.3 or tcp[13] & 2 = 0", true),
            ("host 10.0.0.3 or sample 1/4294967295", true),
        ] {
            assert_eq!(compiled(text, Tunnels::NONE).accepts(&fragment, Client::Unknown), expected, "{text}");
        }
    }

    #[test]
    fn a_tunnel_is_judged_by_its_kind_alone() {
        let vxlan = Head { tunnels: Tunnels::VXLAN, ..head("10.0.0.1", 0, "10.0.0.2", 0) };
        let unknown = Head { fragment: true, tunnels: Tunnels::ALL, ..vxlan };
        for (tunnels, is_wanted, unknown_is_wanted) in [
            (Tunnels::NONE, false, false),
            (Tunnels::GRE, false, true),
            (Tunnels::VXLAN, true, true),
            (Tunnels::ALL, true, true),
        ] {
            let elsewhere = compiled("host 192.0.2.1 and port 443", tunnels);
            assert_eq!(elsewhere.accepts(&vxlan, Client::Unknown), is_wanted);
            assert_eq!(elsewhere.accepts(&unknown, Client::Unknown), unknown_is_wanted);
            let here = compiled("host 10.0.0.1", tunnels);
            assert_eq!(here.accepts(&vxlan, Client::Unknown), is_wanted, "no tunnel is taken for what it is not");
            assert!(here.accepts(&unknown, Client::Unknown));
        }
    }

    #[test]
    fn many_nets_are_one_question_and_too_many_questions_are_refused() {
        let list = |word: &str, count: u32| {
            let values = (0..count).map(|n| format!("{word} {}", if word == "port" { n } else { 10 << 24 | n }));
            let values = values.map(|value| match value.strip_prefix("net ") {
                Some(number) => format!("net {}", std::net::Ipv4Addr::from(number.parse::<u32>().unwrap())),
                None => value,
            });
            values.collect::<Vec<_>>().join(" or ")
        };
        let nets = compiled(&list("net", 50_000), Tunnels::NONE);
        assert_eq!((nets.graph.asks_sets, nets.sets.len()), (1, 50_001), "and the one that holds no IPv4");
        let accepts = |address: &str| nets.accepts(&head("192.0.2.1", 1, address, 2), Client::Unknown);
        assert_eq!(["10.0.0.0", "10.0.195.79", "10.0.195.80"].map(accepts), [true, true, false]);

        assert!(compile(&parse(&list("port", 128)).unwrap(), 0, Tunnels::NONE).is_ok());
        let error = compile(&parse(&list("port", 129)).unwrap(), 0, Tunnels::NONE).unwrap_err();
        assert!(error.to_string().starts_with("the filter has too many terms: 129 of at most 128"), "{error}");
    }

    #[test]
    fn a_sample_has_both_directions_of_its_part_of_the_connections() {
        let filter = compiled("sample 1/16", Tunnels::NONE);
        let mut sampled = 0;
        for port in 0..32_000 {
            let there = head("10.0.0.1", port, "2001:db8::1", 443);
            let back = Head { src: there.dst, dst: there.src, src_port: 443, dst_port: port, ..there };
            let [there, back] = [there, back].map(|head| filter.accepts(&head, Client::Unknown));
            assert_eq!(there, back);
            sampled += u32::from(there);
        }
        assert!((1_700..2_300).contains(&sampled), "{sampled}");
    }
}
