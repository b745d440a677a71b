//! The kernel's parser against the agent's decoder: one octet chooses the link type, the rest is the frame. What the
//! decoder takes for TCP the parser must let through, with the same endpoints.

use agent::{
    decode::decode,
    frame::Frame,
    segment::{Origin, Timestamp},
};
use agent_common::{
    filter::{Head, Parsed, TAGS_MAX, parse},
    frame::LinkType,
};

pub(crate) fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let link_type = LINK_TYPES[usize::from(kind) % LINK_TYPES.len()];
    let parsed = parse(bytes, link_type);
    let frame = Frame { timestamp: Timestamp(1), len: bytes.len() as u32, bytes, link_type, origin: Origin::default() };
    let Ok(decoded) = decode(&frame) else { return };
    let head = decoded.segment.head();
    match parsed {
        Parsed::Tcp(found) if found.fragment => {
            assert_eq!(found, Head { src_port: 0, dst_port: 0, fragment: true, ..head }, "judged by its addresses");
        }
        Parsed::Tcp(found) => assert_eq!(found, head),
        // The decoder is content with 16 octets of a header where the IP length lies; no sender makes such frames.
        Parsed::Malformed if decoded.badlen && decoded.segment.payload.is_empty() => {}
        Parsed::Other | Parsed::Malformed => {
            assert!(link_type == LinkType::ETHERNET && !is_captured(bytes), "{parsed:?}, but there is {head:?}");
        }
    }
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
