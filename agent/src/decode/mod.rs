//! Frame bytes to [`Segment`]. The only module that names etherparse.
//!
//! etherparse reads and checks the headers that have a checked form of their own (IPv4, IPv6 and its extensions). The others
//! are read here: link layers, of which it knows few, tunnels, of which it knows none, and the TCP header, of which it
//! wants all octets, while a capture may end inside the options.

mod checksum;
pub mod fragments;
mod ip;
mod layer;
mod link;
mod rest;
mod tcp;
#[cfg(test)]
mod tests;
mod tunnel;

use agent_common::tunnel::Tunnels;
use etherparse::ip_number;
pub use link::{Name, supported};

use self::{
    fragments::{Fragments, Whole},
    ip::Packet,
    layer::Layer,
    rest::Rest,
};
use crate::{
    frame::Frame,
    segment::{Endpoint, Origin, Segment, Timestamp},
};

/// Finds TCP segments in frames. It remembers fragments of IP datagrams, and nothing else.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    fragments: Fragments,
    /// What the last fragment told of the segment that it is the beginning of.
    begun: Option<Segment<'static>>,
    /// The datagrams that the segment at hand was in.
    wholes: [Vec<u8>; NESTED_MAX],
}

/// What a [`Decoder`] looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Tunnels to look into.
    pub tunnels: Tunnels,
    /// Whether to find segments whose checksum is wrong.
    pub verify_checksum: bool,
    pub fragments: fragments::Config,
}

/// What [`Decoder::decode`] makes of a frame with TCP in it.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    pub segment: Segment<'a>,
    /// The IP header claims more octets than were on the wire: those that are there were taken.
    pub badlen: bool,
    /// The checksum was to be verified, and is wrong.
    pub bad_checksum: bool,
    /// It was in a tunnel or in fragments: the endpoints are not those that the kernel saw.
    pub unwrapped: bool,
}

/// Why a frame has no segment. Each is a term of the frame ledger.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reject {
    NotTcp,
    /// A part of an IP datagram that may hold TCP, and that did not complete it.
    Fragment,
    /// The frame ends before the headers that it announces, or they contradict themselves.
    Malformed,
}

impl Decoder {
    pub fn new(config: Config) -> Self {
        Self { config, fragments: Fragments::new(config.fragments), begun: None, wholes: Default::default() }
    }

    /// Finds the TCP segment in `frame`. It borrows its payload from there, or from the decoder when it was in fragments.
    pub fn decode<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Decoded<'a>, Reject> {
        self.fragments.advance(frame.timestamp);
        let Self { config, fragments, begun, wholes } = self;
        let mut wholes = wholes.iter_mut();
        let mut layer = Layer::first(frame.link_type).ok_or(Reject::NotTcp)?;
        let mut rest = Rest::of(frame);
        let mut vlan = frame.origin.vlan;
        let mut packet = Packet::default();
        let mut unwrapped = false;
        for _ in 0..LAYERS_MAX {
            match layer {
                Layer::Ipv4 => (layer, rest) = ip::ipv4(rest, &mut packet)?,
                Layer::Ipv6 => (layer, rest) = ip::ipv6(rest, &mut packet)?,
                Layer::Protocol(number) => {
                    (layer, rest) = ip::protocol(number, rest, &mut packet, config.tunnels)?;
                    unwrapped |= !matches!(layer, Layer::Tcp | Layer::Protocol(_) | Layer::Fragment);
                }
                Layer::Fragment => {
                    if packet.part.offset == 0 && packet.part.next == ip_number::TCP {
                        let first = segment(frame.timestamp, &packet, rest, Origin { vlan, ..frame.origin });
                        *begun = first.ok().map(|first| Segment { payload: &[], ..first });
                    }
                    let place = wholes.next().ok_or(Reject::Malformed)?;
                    (layer, rest) = put_together(fragments, frame.timestamp, &packet, rest, config.tunnels, place)?;
                    unwrapped = true;
                }
                Layer::Udp
                | Layer::Vxlan
                | Layer::VxlanGpe
                | Layer::Geneve
                | Layer::Gre
                | Layer::Erspan2
                | Layer::Erspan3
                | Layer::Wccp
                | Layer::Nsh
                | Layer::L2tp
                | Layer::L2tp3
                | Layer::Gtp
                | Layer::Teredo
                | Layer::EtherIp => (layer, rest) = tunnel::enter(layer, rest, config.tunnels)?,
                _ => (layer, rest) = link::strip(layer, rest, &mut vlan)?,
            }
            if let Layer::Tcp = layer {
                let origin = Origin { vlan, ..frame.origin };
                let segment = segment(frame.timestamp, &packet, rest, origin)?;
                let verify = config.verify_checksum && !origin.checksum_partial;
                let bad_checksum = verify && checksum::is_bad(&packet, rest);
                return Ok(Decoded { segment, badlen: packet.badlen, bad_checksum, unwrapped });
            }
        }
        Err(Reject::Malformed)
    }

    /// After [`Reject::Fragment`]: the segment that the fragment is the beginning of, as far as its header tells.
    pub fn take_begun(&mut self) -> Option<Segment<'static>> {
        self.begun.take()
    }

    /// Lets time pass without a frame. `now` is the time up to which all frames have been decoded.
    pub fn tick(&mut self, now: Timestamp) {
        self.fragments.advance(now);
    }

    /// Octets allocated for fragments.
    pub fn fragments_memory(&self) -> usize {
        self.fragments.memory()
    }

    /// What became of the fragments so far.
    pub fn stats(&self) -> fragments::Stats {
        self.fragments.stats()
    }
}

/// Takes in a fragment; the last one that was missing leads on, into what was put together in `place`.
#[cold]
fn put_together<'a>(
    fragments: &mut Fragments,
    now: Timestamp,
    packet: &Packet,
    rest: Rest<'_>,
    tunnels: Tunnels,
    place: &'a mut Vec<u8>,
) -> Result<(Layer, Rest<'a>), Reject> {
    if !ip::may_hold_tcp(packet.part.next, tunnels) {
        return Err(Reject::NotTcp);
    }
    if !packet.has_sure_end() {
        return Err(Reject::Malformed);
    }
    let Whole { next, bytes, wire } = fragments.insert(now, packet.key(), packet.part, rest)?;
    *place = bytes;
    Ok((Layer::Protocol(next), Rest { bytes: place, wire }))
}

#[inline]
fn segment<'a>(timestamp: Timestamp, packet: &Packet, rest: Rest<'a>, origin: Origin) -> Result<Segment<'a>, Reject> {
    let tcp = tcp::Header::read(rest)?;
    // A length that lies may even have cost the last options; ports, flags and sequence number are worth having.
    if tcp.len > rest.wire && !packet.badlen {
        return Err(Reject::Malformed);
    }
    let payload = rest.bytes.get(tcp.len..).unwrap_or_default();
    let missing = rest.wire.saturating_sub(tcp.len + payload.len());
    Ok(Segment {
        timestamp,
        src: Endpoint { address: packet.src, port: tcp.src_port },
        dst: Endpoint { address: packet.dst, port: tcp.dst_port },
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        window: tcp.window,
        window_scale: tcp.options.window_scale,
        mss: tcp.options.mss,
        ip_id: packet.id,
        payload,
        missing: u32::try_from(missing).map_err(|_| Reject::Malformed)?,
        origin,
    })
}

/// Most layers of a frame, from its first octet to TCP. A tunnel takes five, and of real frames two dozen layers are
/// rare; a frame of nothing but tags ends here.
const LAYERS_MAX: usize = 64;

/// Datagrams in fragments that may be inside each other: those that a tunnel's ends made, and those inside the tunnel.
const NESTED_MAX: usize = 3;
