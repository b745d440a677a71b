//! Client and server, from what was seen of the handshake.

use agent::{
    decode::{self, Decoder},
    filter,
    judge::Judge,
    reassembly::NoFlows,
};

use crate::{
    meaning::{compile, frame},
    packet::Packet,
};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A segment from one port to another, between two addresses.
fn segment(src: (u8, u16), dst: (u8, u16), flags: u8) -> Vec<u8> {
    let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    segment.extend([0; 8]);
    segment.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
    let [src, dst] = [src.0, dst.0].map(|last| [10, 0, 0, last].into());
    Packet { tags: Vec::new(), src, dst, ttl: 64, tos: 0, segment }.frame()
}

fn judged(expression: &str, frames: &[Vec<u8>]) -> Vec<bool> {
    let mut judge = Judge::new(compile(&filter::parse(expression).unwrap()));
    let mut decoder = Decoder::new(decode::Config::default());
    frames.iter().map(|bytes| judge.accepts(&decoder.decode(&frame(bytes)).unwrap(), &mut NoFlows)).collect()
}

#[test]
fn the_handshake_tells_client_and_server_apart_for_as_long_as_the_connection_lasts() {
    let (client, server) = ((1, 40_000), (2, 443));
    let there = |flags| segment(client, server, flags);
    let back = |flags| segment(server, client, flags);
    let with_syn = [there(SYN), back(SYN | ACK), there(ACK), back(ACK)];
    let with_syn_ack_alone = [back(SYN | ACK), there(ACK), back(ACK)];
    let under_way = [there(ACK), back(ACK)];
    for (expression, known, unknown) in [
        ("server port 443", true, true),
        ("client port 443", false, true),
        ("client host 10.0.0.1", true, true),
        ("client host 10.0.0.2", false, true),
        ("client host 10.0.0.3", false, false),
        ("server net 10.0.0.2/31", true, true),
        ("not server port 443", false, true),
        ("not client port 443", true, true),
        // One assignment has to suffice for all of it.
        ("client host 10.0.0.1 and client port 443", false, false),
        ("client host 10.0.0.2 and client port 443", false, true),
        ("client and server net 10.0.0.0/8", true, true),
    ] {
        assert_eq!(judged(expression, &with_syn), [known; 4], "{expression}");
        assert_eq!(judged(expression, &with_syn_ack_alone), [known; 3], "{expression}");
        assert_eq!(judged(expression, &under_way), [unknown; 2], "{expression}");
    }
}

#[test]
fn a_connection_that_is_refused_is_remembered_and_endpoints_may_change_their_roles() {
    let (a, b) = ((1, 40_000), (2, 443));
    let frames = [
        segment(b, a, ACK),
        segment(a, b, SYN),
        segment(b, a, ACK),
        // Now the other way round.
        segment(b, a, SYN),
        segment(a, b, ACK),
    ];
    assert_eq!(judged("client port 443", &frames), [true, false, false, true, true]);
    assert_eq!(judged("server port 443", &frames), [true, true, true, false, false]);
}
