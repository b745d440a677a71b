//! The kernel's parser and filter against the agent's decoder: one octet chooses the link type, the rest is the frame. What
//! the decoder takes for TCP, in a tunnel or not, the filter must let through.

use agent::{
    decode::{Config, Decoder},
    filter::{End, Expression, Filter, Test, compile},
    frame::Frame,
    segment::{Endpoint, Origin, Timestamp},
};
use agent_common::{
    frame::LinkType,
    head::{Client, Head, Parsed, TAGS_MAX, parse},
    tunnel::Tunnels,
};
use ipnet::IpNet;

pub(crate) fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let link_type = LINK_TYPES[usize::from(kind) % LINK_TYPES.len()];
    let parsed = parse(bytes, link_type);
    let frame = Frame {
        timestamp: Timestamp(1),
        len: bytes.len() as u32,
        bytes,
        link_type,
        origin: Origin::default(),
        flow: None,
    };
    for tunnels in [Tunnels::NONE, Tunnels::ALL] {
        let mut decoder = Decoder::new(Config { tunnels, ..Config::default() });
        let Ok(decoded) = decoder.decode(&frame) else { continue };
        let head = decoded.segment.head();
        match parsed {
            Parsed::Tcp(found) => {
                assert!(
                    only(&head, tunnels).accepts(&found, Client::Unknown),
                    "{found:?} is not let through, but there is {head:?}"
                );
            }
            // The decoder is content with 16 octets of a header where the IP length lies; no sender makes such frames.
            Parsed::Malformed if decoded.badlen && decoded.segment.payload.is_empty() => {}
            Parsed::Other | Parsed::Malformed => {
                assert!(link_type == LinkType::ETHERNET && !is_captured(bytes), "{parsed:?}, but there is {head:?}");
            }
        }
    }
}

/// A filter for these endpoints and no others.
fn only(head: &Head, tunnels: Tunnels) -> Filter {
    let net = |end, address| Test::Net(end, IpNet::from(Endpoint { address, port: 0 }.ip()));
    let tests = [
        net(End::Source, head.src),
        net(End::Destination, head.dst),
        Test::Ports(End::Source, head.src_port, head.src_port),
        Test::Ports(End::Destination, head.dst_port, head.dst_port),
    ];
    let all = Expression::And(tests.map(Expression::Test).into());
    compile(&all, 0, tunnels).expect("four terms fit")
}

const LINK_TYPES: [LinkType; 4] = [LinkType::ETHERNET, LinkType::RAW, LinkType::IPV4, LinkType::IPV6];

/// Whether the README says that what this Ethernet frame carries is captured live: IP behind a few VLAN tags, or SNAP.
fn is_captured(bytes: &[u8]) -> bool {
    let mut rest = &bytes[12..];
    for _ in 0..=TAGS_MAX {
        match *rest {
            [0x81, 0x00, _, _, ref behind @ ..]
            | [0x88, 0xa8, _, _, ref behind @ ..]
            | [0x91, 0x00, _, _, ref behind @ ..] => rest = behind,
            [0x08, 0x00, ..] | [0x86, 0xdd, ..] => return true,
            [0..6, _, 0xaa, 0xaa, 3, 0, 0, 0, high, low, ..] => {
                return matches!([high, low], [0x08, 0x00] | [0x86, 0xdd]);
            }
            _ => return false,
        }
    }
    false
}
