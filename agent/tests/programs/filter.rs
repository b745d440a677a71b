//! The kernel's verdict about single segments: every kind of question, sets of nets, and the same answers as the agent's.

use std::sync::Arc;

use agent::{
    filter::{End, Expression, Filter, Layer, Set, Test, compile},
    kernel::{Kernel, Options, Ring},
};
use agent_common::{
    filter::NODES_MAX,
    frame::LinkType,
    head::{Parsed, parse},
    shard::ShardKey,
    tunnel::Tunnels,
};
use etherparse::PacketBuilder;
use ipnet::IpNet;

use crate::{bed::*, random::Random};

#[test]
fn every_question_has_its_answer() {
    let Some((mut kernel, mut rings)) = load("every_question_has_its_answer", Filter::everything()) else { return };
    let v4 = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1234, 80, 10);
    let v6 = tcp6("fd00:1::5", "2001:db8::1", 443, 5, 10);
    let vlan = tagged(&v4, 1);
    let net = |end, net: &str| Test::Net(end, net.parse().unwrap());
    let octets = |layer, offset, width, mask, low, high| Test::Header { layer, offset, width, mask, low, high };
    // Which of the three frames are wanted.
    let table = [
        (net(End::Source, "10.0.0.1/32"), [true, false, true]),
        (net(End::Source, "10.0.0.2/32"), [false, false, false]),
        (net(End::Destination, "10.0.0.2/31"), [true, false, true]),
        (net(End::Either, "2001:db8::/32"), [false, true, false]),
        (net(End::Either, "::/0"), [false, true, false]),
        (net(End::Either, "0.0.0.0/0"), [true, false, true]),
        (net(End::Client, "10.0.0.0/8"), [true, false, true]),
        (Test::Ports(End::Source, 443, 1234), [true, true, true]),
        (Test::Ports(End::Destination, 80, 80), [true, false, true]),
        (Test::Ports(End::Destination, 81, 65535), [false, false, false]),
        (Test::Ports(End::Either, 0, 5), [false, true, false]),
        // Either end may be the server.
        (Test::Ports(End::Server, 443, 443), [false, true, false]),
        (Test::Ipv4, [true, false, true]),
        (Test::Ipv6, [false, true, false]),
        (Test::Vlan(None), [false, false, true]),
        (Test::Vlan(Some(5)), [false, false, true]),
        (Test::Vlan(Some(6)), [false, false, false]),
        // The TTL, the hop limit, a port, and the window of etherparse's segments.
        (octets(Layer::Ip, 8, 1, 0xff, 64, 64), [true, false, true]),
        (octets(Layer::Ip6, 7, 1, 0xff, 64, 64), [false, true, false]),
        (octets(Layer::Tcp, 2, 2, 0xffff, 80, 80), [true, false, true]),
        (octets(Layer::Tcp, 2, 4, 0xffff_0000, 0, 0x0005_0000), [false, true, false]),
        (octets(Layer::Tcp, 13, 1, 0x02, 0x02, 0x02), [false, false, false]),
        (Test::Sample(1), [true, true, true]),
    ];
    for (test, wanted) in table {
        for (expression, wanted) in [
            (Expression::Test(test.clone()), wanted),
            (Expression::Not(Box::new(Expression::Test(test.clone()))), wanted.map(|wanted| !wanted)),
        ] {
            // What nobody knows passes, and so does its opposite.
            if matches!(
                (&expression, &test),
                (Expression::Not(_), Test::Net(End::Client, _) | Test::Ports(End::Server, ..))
            ) {
                continue;
            }
            kernel.set_filter(&compile(&expression, 0, Tunnels::NONE).unwrap()).unwrap();
            for program in ETHERNET {
                for (frame, wanted) in [&v4, &v6, &vlan].into_iter().zip(wanted) {
                    assert_eq!(run(&mut kernel, program, frame), passing(program));
                    assert_eq!(records(&mut rings).len(), usize::from(wanted), "{program} {expression:?} {frame:02x?}");
                }
            }
        }
    }
}

#[test]
fn a_filter_of_as_many_questions_as_there_can_be_is_walked_to_its_end() {
    let name = "a_filter_of_as_many_questions_as_there_can_be_is_walked_to_its_end";
    let Some((mut kernel, mut rings)) = load(name, Filter::everything()) else { return };
    let last = NODES_MAX as u16;
    // While nobody knows who the client is, the walk has to be taken twice.
    for end in [End::Destination, End::Client] {
        let any = Expression::Or((1..=last).map(|port| Expression::Test(Test::Ports(end, port, port))).collect());
        kernel.set_filter(&compile(&any, 0, Tunnels::NONE).unwrap()).unwrap();
        for program in ETHERNET {
            for (port, wanted) in [(1, true), (16, true), (17, true), (last, true), (last + 1, false)] {
                run(&mut kernel, program, &tcp([10, 0, 0, 1], [10, 0, 0, 2], 40_000, port, 10));
                assert_eq!(records(&mut rings).len(), usize::from(wanted), "{program} {end:?} {port}");
            }
        }
    }
}

#[test]
fn ten_thousand_nets_are_a_question_and_can_be_replaced() {
    let name = "ten_thousand_nets_are_a_question_and_can_be_replaced";
    // Every second /24 of 10.0.0.0/8 up to 10.78.32.0, with an exception that is in another set.
    let many: Vec<IpNet> = (0..10_000_u32).map(|i| v4_net(0x0a00_0000 + i * 512, 24)).collect();
    let set = |name: &str, nets: &[IpNet]| Arc::new(Set { name: name.to_owned(), nets: nets.to_vec() });
    let listed = |end| Expression::Test(Test::Set(end, set("many", &many)));
    let except = Expression::Test(Test::Set(End::Either, set("except", &["10.0.2.7/32".parse().unwrap()])));
    let filter = |end| {
        let all = Expression::And(vec![listed(end), Expression::Not(Box::new(except.clone()))]);
        compile(&all, 0, Tunnels::NONE).unwrap()
    };
    let Some((mut kernel, mut rings)) = load(name, filter(End::Source)) else { return };
    let frame = |third, last| tcp([10, 0, third, last], [192, 0, 2, 1], 1234, 80, 10);
    for (end, reversed) in [(End::Source, false), (End::Destination, true), (End::Either, false), (End::Either, true)] {
        kernel.set_filter(&filter(end)).unwrap();
        for program in ETHERNET {
            for (third, last, wanted) in [(0, 1, true), (1, 1, false), (2, 7, false), (2, 8, true), (254, 1, true)] {
                let mut frame = frame(third, last);
                if reversed {
                    frame[26..34].rotate_left(4);
                }
                run(&mut kernel, program, &frame);
                assert_eq!(records(&mut rings).len(), usize::from(wanted), "{program} {end:?} 10.0.{third}.{last}");
            }
            // The other end alone.
            let mut other = frame(0, 1);
            if !reversed {
                other[26..34].rotate_left(4);
            }
            run(&mut kernel, program, &other);
            assert_eq!(records(&mut rings).len(), usize::from(end == End::Either), "{program} {end:?}");
        }
    }
}

#[test]
fn a_sample_is_the_same_connections_for_everyone() {
    let filter = compile(&Expression::Test(Test::Sample(4)), 0, Tunnels::NONE).unwrap();
    let Some((mut kernel, mut rings)) = load("a_sample_is_the_same_connections_for_everyone", filter) else { return };
    let mut kept = 0;
    for port in 0..400 {
        let there = tcp([10, 0, 0, 1], [10, 0, 0, 2], 1000 + port, 80, 10);
        let back = tcp([10, 0, 0, 2], [10, 0, 0, 1], 80, 1000 + port, 10);
        let wanted = ShardKey::SAMPLE.hash(&head(&there, "xdpflow_xdp")) <= u32::MAX / 4;
        run(&mut kernel, "xdpflow_xdp", &there);
        run(&mut kernel, "xdpflow_tx", &back);
        assert_eq!(records(&mut rings).len(), if wanted { 2 } else { 0 }, "{port}");
        kept += u32::from(wanted);
    }
    assert!((70..130).contains(&kept), "{kept} of 400");
}

#[test]
fn kernel_and_agent_give_the_same_verdicts() {
    let name = "kernel_and_agent_give_the_same_verdicts";
    let options = Options { shards: 1, ring_size: 1 << 20, ..options(Filter::everything()) };
    let Some((mut kernel, mut rings)) = load_with(name, &options) else { return };
    let mut random = Random(0x5eed);
    let (mut verdicts, mut accepted) = (0, 0);
    for _ in 0..FILTERS {
        let expression = random.expression(3);
        let tunnels = if random.one_in(4) { Tunnels::ALL } else { Tunnels::NONE };
        let Ok(filter) = compile(&expression, 0, tunnels) else { continue };
        kernel.set_filter(&filter).unwrap();
        let frames: Vec<_> = (0..FRAMES).map(|_| random.frame()).collect();
        for program in ["xdpflow_xdp", "xdpflow_rx"] {
            let wanted = verdict_of_the_kernel(&mut kernel, &mut rings, program, &frames);
            for (frame, wanted) in frames.iter().zip(wanted) {
                let expected = match parse(&frame[..], LinkType::ETHERNET) {
                    Parsed::Tcp(head) => filter.accepts(&head, head.client()),
                    Parsed::Other | Parsed::Malformed => false,
                };
                assert_eq!(wanted, expected, "{program} {expression:?} {frame:02x?}");
                verdicts += 1;
                accepted += u32::from(wanted);
            }
        }
    }
    assert!(verdicts > 5_000, "{verdicts}");
    assert!((verdicts / 10..verdicts * 9 / 10).contains(&accepted), "{accepted} of {verdicts}");
}

const FILTERS: usize = 150;
const FRAMES: usize = 24;

/// Which of the frames, no two of which are the same, arrive.
fn verdict_of_the_kernel(kernel: &mut Kernel, rings: &mut [Ring], program: &str, frames: &[Vec<u8>]) -> Vec<bool> {
    for frame in frames {
        run(kernel, program, frame);
    }
    let arrived: Vec<_> = records(rings).into_iter().map(|(_, bytes)| bytes).collect();
    frames.iter().map(|frame| arrived.contains(frame)).collect()
}

fn v4_net(address: u32, prefix: u8) -> IpNet {
    ipnet::Ipv4Net::new(address.into(), prefix).unwrap().trunc().into()
}

/// What there is to judge, and by what.
impl Random {
    fn expression(&mut self, depth: u32) -> Expression {
        let inner = |random: &mut Self| {
            (0..random.below(4)).map(|_| random.expression(depth.saturating_sub(1))).collect::<Vec<_>>()
        };
        match self.below(if depth == 0 { 1 } else { 4 }) {
            0 => Expression::Test(self.test()),
            1 => Expression::Not(Box::new(self.expression(depth - 1))),
            2 => Expression::And(inner(self)),
            _ => Expression::Or(inner(self)),
        }
    }

    fn test(&mut self) -> Test {
        let end = self.pick(&[End::Source, End::Destination, End::Either, End::Client, End::Server]);
        match self.below(9) {
            0 | 1 => Test::Net(end, self.net()),
            2 | 3 => {
                let (low, high) = (self.pick(&PORTS), self.pick(&PORTS));
                Test::Ports(end, low.min(high), low.max(high))
            }
            4 => {
                let nets = (0..self.below(40)).map(|_| self.net()).collect();
                Test::Set(end, Arc::new(Set { name: String::new(), nets }))
            }
            5 => self.pick(&[Test::Ipv4, Test::Ipv6]),
            6 => Test::Vlan(self.pick(&[None, Some(5), Some(6)])),
            7 => Test::Sample(1 + self.below(3) as u32),
            _ => {
                let layer = self.pick(&[Layer::Ip, Layer::Ip6, Layer::Tcp]);
                let width = self.pick(&[1, 2, 4]);
                let (a, b) = (self.next() as u32, self.next() as u32);
                let octets = u32::MAX >> (32 - 8 * u32::from(width));
                let (low, high) = ((a & octets).min(b & octets), (a & octets).max(b & octets));
                let offset = self.below(20 / usize::from(width)) as u8 * width;
                Test::Header { layer, offset, width, mask: self.next() as u32 | 0x0f0f_0f0f, low, high }
            }
        }
    }

    fn net(&mut self) -> IpNet {
        if self.one_in(2) {
            let prefix = self.pick(&[0, 8, 24, 31, 32]);
            v4_net(u32::from_be_bytes(self.v4()), prefix)
        } else {
            let prefix = self.pick(&[0, 16, 64, 96, 104, 128]);
            ipnet::Ipv6Net::new(self.v6().into(), prefix).unwrap().trunc().into()
        }
    }

    fn v4(&mut self) -> [u8; 4] {
        [10, 0, self.below(2) as u8, self.below(3) as u8]
    }

    /// Some of them are mapped IPv4 addresses.
    fn v6(&mut self) -> [u8; 16] {
        let mut address = [0; 16];
        address[15] = self.below(3) as u8;
        match self.below(3) {
            0 => address[..2].copy_from_slice(&[0xfd, 0]),
            1 => address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]),
            _ => {
                let v4 = self.v4();
                address[10..].copy_from_slice(&[0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]);
            }
        }
        address
    }

    fn frame(&mut self) -> Vec<u8> {
        let (src, dst) = (self.pick(&PORTS), self.pick(&PORTS));
        let mut tcp = etherparse::TcpHeader::new(src, dst, self.next() as u32, self.next() as u16);
        (tcp.syn, tcp.ack, tcp.fin) = (self.one_in(3), self.one_in(2), self.one_in(8));
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let mut frame = Vec::new();
        let payload = self.next().to_be_bytes();
        if self.one_in(2) {
            builder.ipv4(self.v4(), self.v4(), 64).tcp_header(tcp).write(&mut frame, &payload).unwrap();
            if self.one_in(6) {
                frame[20] = 0x20;
            }
        } else {
            builder.ipv6(self.v6(), self.v6(), 64).tcp_header(tcp).write(&mut frame, &payload).unwrap();
        }
        match self.below(10) {
            0 => frame[23] = 17,
            1 => {
                let at = 14 + self.below(frame.len() - 14);
                frame[at] = self.next() as u8;
            }
            _ => {}
        }
        tagged(&frame, self.below(3))
    }
}

const PORTS: [u16; 4] = [0, 80, 443, 65535];
