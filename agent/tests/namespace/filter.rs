//! Filters let exactly the right connections through.

use std::net::{IpAddr, SocketAddr};

use crate::capture::Capture;
use crate::conversation::{Conversation, Server, noise, short, talk};
use crate::handmade::{CLIENT, Handmade, SERVER};
use crate::link::{Pair, server_v4};
use crate::packet::{HEADERS, PacketSocket};
use crate::record::Gap;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("filter::endpoints", endpoints),
    Test::new("filter::endpoints_at_xdp", endpoints_at_xdp),
    Test::new("filter::received_only", received_only),
    Test::new("filter::sent_only", sent_only),
    Test::new("filter::snaplen_of_made_frames", snaplen_of_made_frames),
    Test::new("filter::snaplen_of_real_traffic", snaplen_of_real_traffic),
];

/// Where the servers are that a filter chooses among.
const SERVERS: [&str; 6] =
    ["10.9.0.2:8080", "10.9.0.2:8081", "10.9.0.3:8080", "[fd09::2]:8080", "[fd09::3]:8080", "[fd09::3]:9090"];

type Wanted = fn(SocketAddr) -> bool;

/// Flags, and the servers they let through.
const CASES: &[(&str, Wanted)] = &[
    ("", |_| true),
    ("--port 8080", |server| server.port() == 8080),
    ("--port 8081 --port 9090", |server| [8081, 9090].contains(&server.port())),
    ("--port 808", |_| false),
    ("--host 10.9.0.3", |server| server.ip() == ip("10.9.0.3")),
    ("--host 10.9.0.3 --host fd09::3", |server| [ip("10.9.0.3"), ip("fd09::3")].contains(&server.ip())),
    ("--host 10.9.0.1", |server| server.is_ipv4()),
    ("--host fd09::1", |server| server.is_ipv6()),
    ("--net 10.9.0.2/31", |server| server.is_ipv4()),
    ("--net 10.9.0.3/32 --net fd09::2/128", |server| [ip("10.9.0.3"), ip("fd09::2")].contains(&server.ip())),
    ("--net 0.0.0.0/0", |server| server.is_ipv4()),
    ("--net ::/0", |server| server.is_ipv6()),
    ("--net fd09::/64 --port 9090", |server| server.port() == 9090),
    ("--host 10.9.0.2 --port 8081", |server| server == "10.9.0.2:8081".parse().unwrap()),
    ("--host 10.9.0.3 --net fd09::/64 --port 8080", |_| false),
];

/// One traffic, many captures at once: tc takes any number of programs.
fn endpoints() {
    let pair = with_second_addresses();
    let captures: Vec<_> = CASES
        .iter()
        .map(|(flags, _)| Capture::start(&pair.server, &format!("-i s0 --attach tc --shards 1 --ring-size 4M {flags}")))
        .collect();
    let said = speak(&pair);
    for (capture, (flags, wanted)) in captures.into_iter().zip(CASES) {
        assert_only(capture, flags, &said, *wanted);
    }
}

/// The same filter where XDP runs it.
fn endpoints_at_xdp() {
    let pair = with_second_addresses();
    for index in [1, 5, 9, 13] {
        let (flags, wanted) = CASES[index];
        let capture = Capture::start(&pair.server, &format!("-i s0 --attach native {flags}"));
        assert_only(capture, flags, &speak(&pair), wanted);
    }
}

fn with_second_addresses() -> Pair {
    let pair = Pair::new();
    pair.server.ip("addr add 10.9.0.3/24 dev s0");
    pair.server.ip("addr add fd09::3/64 dev s0 nodad");
    pair
}

fn speak(pair: &Pair) -> Vec<Conversation> {
    let servers = SERVERS.map(|address| Server::start(&pair.server, address.parse().unwrap()));
    servers.iter().flat_map(|server| talk(&pair.client, server, &short(5))).collect()
}

fn assert_only(capture: Capture, flags: &str, said: &[Conversation], wanted: Wanted) {
    let outcome = capture.stop();
    outcome.assert_success();
    let wanted: Vec<_> = said.iter().filter(|conversation| wanted(conversation.server)).collect();
    assert_eq!(outcome.output.closed.len(), wanted.len(), "connections with {flags:?}");
    outcome.output.assert_complete(wanted);
}

fn received_only() {
    one_direction("rx");
}

fn sent_only() {
    one_direction("tx");
}

/// One side of every connection, and nothing of the other.
fn one_direction(direction: &str) {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, &format!("-i s0 --direction {direction}"));
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(20));
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.output.closed.len(), said.len());
    for said in &said {
        // Whoever is seen is the client where the SYN was not; a SYN-ACK says who is who.
        let record = outcome.output.record(said.client, said.server);
        let (seen, sent, unseen) = match direction {
            "rx" => (&record.c2s, &said.c2s, &record.s2c),
            _ => (&record.s2c, &said.s2c, &record.c2s),
        };
        assert_eq!((seen.bytes, seen.missing_total()), (sent.len() as u64, 0), "{record:#?}");
        assert_eq!(outcome.output.content(seen), *sent, "{record:#?}");
        assert_eq!((unseen.bytes, &unseen.file), (0, &None), "{record:#?}");
    }
}

/// Every gap exactly where the snaplen cut.
fn snaplen_of_made_frames() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, &format!("-i s0 --attach native --snaplen {}", HEADERS + 100));
    let wire = PacketSocket::open(&pair.client, "c0");
    let mut talk = Handmade::open(&wire);
    let sent = noise(2_450);
    for part in [0..1_000, 1_000..1_100, 1_100..1_150, 1_150..2_450] {
        talk.client_sends(&sent[part]);
        talk.server_acknowledges();
    }
    talk.close();
    let outcome = capture.stop();
    outcome.assert_success();
    let record = outcome.output.finished(CLIENT.into(), SERVER.into());
    assert_eq!(record.c2s.gaps, [Gap::new(100, 900, "snaplen"), Gap::new(1_250, 1_200, "snaplen")]);
    assert_eq!(record.c2s.bytes, 100 + 100 + 50 + 100);
    outcome.output.assert_explained(record, &record.c2s, &sent);
}

fn snaplen_of_real_traffic() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --snaplen 200");
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(40));
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.output.closed.len(), said.len());
    for said in &said {
        let record = outcome.output.finished(said.client, said.server);
        for (stream, sent) in [(&record.c2s, &said.c2s), (&record.s2c, &said.s2c)] {
            assert!(stream.causes().iter().all(|cause| *cause == "snaplen"), "{record:#?}");
            outcome.output.assert_explained(record, stream, sent);
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
