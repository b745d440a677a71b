//! Frames of any link type, tunnels included: a few octets choose what kind, how much of it the capture cut off and what
//! is asked of the decoder, the rest is the frame.

use agent::{
    decode::{Config, Decoded, Decoder},
    frame::Frame,
    segment::{Origin, Timestamp},
};
use agent_common::{
    frame::{CAPLEN_MAX, LinkType},
    tunnel::Tunnels,
};

pub(crate) fn run(input: &[u8]) {
    let Some((&[kind, cut, options, tunnels], bytes)) = input.split_first_chunk() else { return };
    let link_type = LinkType(LINK_TYPES[usize::from(kind) % LINK_TYPES.len()]);
    // Up to 255 octets, or as many as a header can claim.
    let cut = if cut == u8::MAX { u32::MAX } else { u32::from(cut) };
    let len = (bytes.len() as u32).saturating_add(cut);
    let frame = |bytes| Frame { timestamp: Timestamp(1), len, bytes, link_type, origin: Origin::default() };
    let config = Config {
        tunnels: if options & 1 == 0 { Tunnels::ALL } else { Tunnels(u32::from(tunnels)) },
        verify_checksum: options & 2 == 0,
        ..Config::default()
    };
    let mut decoder = Decoder::new(config);
    let Ok(decoded) = decoder.decode(&frame(bytes)) else { return };

    let whole = decoded.segment;
    let on_wire = whole.payload.len() as u64 + u64::from(whole.missing);
    assert!(on_wire + HEADERS_MIN as u64 <= u64::from(len), "no more is missing than the frame had");
    if whole.payload.is_empty() {
        return;
    }
    let (within, payload) = (bytes.as_ptr_range(), whole.payload.as_ptr_range());
    assert!(within.start <= payload.start && payload.end <= within.end, "the payload lies in the frame");
    let start = payload.start as usize - within.start as usize;
    assert!(start >= HEADERS_MIN, "the payload lies behind headers");

    // A frame that claims to be longer than any is not believed, so all hangs on how much of it was captured.
    if len > CAPLEN_MAX {
        return;
    }
    // A capture that cuts off more of the payload changes nothing but how much of it is there.
    let kept = start + whole.payload.len() / 2;
    let mut decoder = Decoder::new(config);
    let shorter = decoder.decode(&frame(&bytes[..kept])).expect("all headers are there");
    let part = shorter.segment;
    assert_eq!(part.payload, &whole.payload[..kept - start]);
    assert_eq!(part.payload.len() as u64 + u64::from(part.missing), on_wire);
    assert_eq!(told(&shorter), told(&decoded));
}

/// What the headers say.
fn told(decoded: &Decoded<'_>) -> impl PartialEq + std::fmt::Debug {
    let Decoded { segment, badlen, unwrapped, bad_checksum: _, ip: _, tcp: _ } = *decoded;
    let ends = (segment.src, segment.dst);
    (
        ends,
        segment.seq,
        segment.ack,
        segment.flags,
        segment.window,
        segment.window_scale,
        segment.mss,
        segment.origin,
        badlen,
        unwrapped,
    )
}

/// Raw IPv4, and as much of a TCP header as must be there.
const HEADERS_MIN: usize = 20 + 16;

/// Those that are supported, and one that is not.
const LINK_TYPES: [u16; 17] = [1, 0, 9, 12, 14, 50, 51, 101, 104, 108, 113, 228, 229, 239, 276, 147, 101];
