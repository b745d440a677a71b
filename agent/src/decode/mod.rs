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

use agent_common::{head::EXTENSIONS_MAX, tunnel::Tunnels};
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
    /// It was in a tunnel, in fragments, or behind more extension headers than the kernel follows: the endpoints are not
    /// those that the kernel saw.
    pub unwrapped: bool,
    /// Where the innermost IP header begins, and where the TCP header does, as far as they were captured. Of a datagram
    /// in fragments it is the IP header of the last one.
    pub ip: &'a [u8],
    pub tcp: &'a [u8],
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
        let layer = Layer::first(frame.link_type).ok_or(Reject::NotTcp)?;
        let mut packet = Packet::default();
        let (layer, rest, vlan) = link::strip(layer, Rest::of(frame), frame.origin.vlan)?;
        let (layer, rest) = ip::header(layer, rest, &mut packet)?;
        // Nearly always. Up to here all is inlined: a result that goes through memory costs more than what made it.
        if let Layer::Tcp = layer {
            return finish(self.config, frame, &packet, rest, vlan);
        }
        let (config, mut vlan) = (self.config, vlan);
        let (rest, unwrapped) = self.look_inside(frame, layer, rest, &mut packet, &mut vlan)?;
        let mut decoded = finish(config, frame, &packet, rest, vlan)?;
        if unwrapped {
            // The kernel speaks of what was outside.
            decoded.segment.flow = None;
        }
        Ok(Decoded { unwrapped, ..decoded })
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

    /// From behind an IP header to TCP, through whatever lies between; and whether that was more than headers.
    #[cold]
    fn look_inside<'a>(
        &'a mut self,
        frame: &Frame<'a>,
        mut layer: Layer,
        mut rest: Rest<'a>,
        packet: &mut Packet<'a>,
        vlan: &mut Option<u16>,
    ) -> Result<(Rest<'a>, bool), Reject> {
        let Self { config: Config { tunnels, .. }, fragments, begun, wholes } = self;
        let mut wholes = wholes.iter_mut();
        let (mut unwrapped, mut extensions) = (false, 0);
        for _ in 0..LAYERS_MAX {
            match layer {
                Layer::Tcp => return Ok((rest, unwrapped)),
                Layer::Protocol(number) => {
                    (layer, rest) = ip::protocol(number, rest, packet, *tunnels)?;
                    extensions += 1;
                    unwrapped |= extensions > EXTENSIONS_MAX;
                }
                Layer::Fragment => {
                    if !ip::may_hold_tcp(packet.part.next, *tunnels) {
                        return Err(Reject::NotTcp);
                    }
                    if !packet.has_sure_end() {
                        return Err(Reject::Malformed);
                    }
                    *begun = if packet.part.offset == 0 && packet.part.next == ip_number::TCP {
                        let first = finish(Config::default(), frame, packet, rest, *vlan);
                        first.ok().map(|first| Segment { payload: &[], flow: None, ..first.segment })
                    } else {
                        None
                    };
                    let place = wholes.next().ok_or(Reject::Malformed)?;
                    let Whole { next, bytes, wire } =
                        fragments.insert(frame.timestamp, packet.key(), packet.part, rest)?;
                    *place = bytes;
                    (layer, rest) = (Layer::Protocol(next), Rest { bytes: place, wire });
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
                | Layer::EtherIp => (layer, rest) = tunnel::enter(layer, rest, *tunnels)?,
                _ => {
                    (layer, rest, *vlan) = link::strip(layer, rest, *vlan)?;
                    (layer, rest) = ip::header(layer, rest, packet)?;
                    unwrapped = true;
                }
            }
        }
        Err(Reject::Malformed)
    }
}

/// Between which ends the segment in a frame is, and where it was seen, if all that takes is a look at its headers.
#[inline]
pub fn ends(frame: &Frame<'_>) -> Option<(Endpoint, Endpoint, Origin)> {
    let mut packet = Packet::default();
    let (layer, rest, vlan) = link::strip(Layer::first(frame.link_type)?, Rest::of(frame), frame.origin.vlan).ok()?;
    let (Layer::Tcp, rest) = ip::header(layer, rest, &mut packet).ok()? else { return None };
    let [s0, s1, d0, d1] = rest.array(0).ok()?;
    let (src, dst) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let (src, dst) = (Endpoint { address: packet.src, port: src }, Endpoint { address: packet.dst, port: dst });
    Some((src, dst, Origin { vlan, ..frame.origin }))
}

#[inline(always)]
fn finish<'a>(
    config: Config,
    frame: &Frame<'a>,
    packet: &Packet<'a>,
    rest: Rest<'a>,
    vlan: Option<u16>,
) -> Result<Decoded<'a>, Reject> {
    let tcp = tcp::Header::read(rest)?;
    // A length that lies may even have cost the last options; ports, flags and sequence number are worth having.
    if tcp.len > rest.wire && !packet.badlen {
        return Err(Reject::Malformed);
    }
    let payload = rest.bytes.get(tcp.len..).unwrap_or_default();
    let missing = rest.wire.saturating_sub(tcp.len + payload.len());
    let verify = config.verify_checksum && !frame.origin.checksum_partial;
    Ok(Decoded {
        segment: Segment {
            timestamp: frame.timestamp,
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
            origin: Origin { vlan, ..frame.origin },
            flow: frame.flow,
        },
        badlen: packet.badlen,
        bad_checksum: verify && checksum::is_bad(packet, rest),
        unwrapped: false,
        ip: packet.header,
        tcp: rest.bytes,
    })
}

/// Most layers behind the first IP header of a frame. Each tunnel takes three or four, and of real frames two tunnels are
/// rare.
const LAYERS_MAX: usize = 32;

/// Datagrams in fragments that may be inside each other: those that a tunnel's ends made, and those inside the tunnel.
const NESTED_MAX: usize = 3;
