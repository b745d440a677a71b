//! Frame bytes to [`Segment`]. The only module that names etherparse.
//!
//! etherparse reads and checks the headers that have a checked form of their own (IPv4, IPv6 and its extensions). Two
//! things are read here: link layers, of which it knows few, and the TCP header, of which it wants all octets, while a
//! capture may end inside the options.

mod link;
#[cfg(test)]
mod tests;

use agent_common::frame::CAPLEN_MAX;
use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    ip_number,
};
pub use link::{Name, supported};

use crate::{
    frame::Frame,
    segment::{Endpoint, Flags, Origin, Segment, SeqNum},
};

/// Finds the TCP segment in `frame`, which borrows its payload from there.
pub fn decode<'a>(frame: &Frame<'a>) -> Result<Decoded<'a>, Reject> {
    let rest = Rest { bytes: frame.bytes, wire: frame.bytes.len().max(frame.len as usize) };
    let (network, rest, vlan) = link::strip(frame.link_type, rest)?;
    let packet = match network {
        link::Network::Ipv4 => ipv4(rest)?,
        link::Network::Ipv6 => ipv6(rest)?,
    };
    let tcp = Header::read(packet.payload)?;
    // A length that lies may even have cost the last options; ports, flags and sequence number are worth having.
    if tcp.len > packet.payload.wire && !packet.badlen {
        return Err(Reject::Malformed);
    }
    let payload = packet.payload.bytes.get(tcp.len..).unwrap_or_default();
    let missing = packet.payload.wire.saturating_sub(tcp.len + payload.len());
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
            origin: Origin { vlan: frame.origin.vlan.or(vlan), ..frame.origin },
        },
        badlen: packet.badlen,
    })
}

/// What [`decode`] makes of a frame with TCP in it.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a> {
    pub segment: Segment<'a>,
    /// The IP header claims more octets than were on the wire: those that are there were taken.
    pub badlen: bool,
}

/// Why a frame has no segment. Each is a term of the frame ledger.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reject {
    NotTcp,
    /// A part of an IP packet that may hold TCP.
    Fragment,
    /// The frame ends before the headers that it announces, or they contradict themselves.
    Malformed,
}

/// What remains of a frame behind the headers read so far.
#[derive(Clone, Copy)]
struct Rest<'a> {
    bytes: &'a [u8],
    /// Octets that were on the wire: at least `bytes.len()`, more when the capture cut the frame.
    wire: usize,
}

impl<'a> Rest<'a> {
    #[inline]
    fn skip(self, octets: usize) -> Result<Self, Reject> {
        let bytes = self.bytes.get(octets..).ok_or(Reject::Malformed)?;
        Ok(Self { bytes, wire: self.wire - octets })
    }

    /// Drops what lies beyond `octets`: padding, and what the layer below appended.
    #[inline]
    fn truncate(self, octets: usize) -> Self {
        let bytes = self.bytes.get(..octets).unwrap_or(self.bytes);
        Self { bytes, wire: self.wire.min(octets) }
    }

    #[inline]
    fn array<const N: usize>(self, offset: usize) -> Result<[u8; N], Reject> {
        self.bytes.get(offset..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Reject::Malformed)
    }

    #[inline]
    fn u16(self, offset: usize) -> Result<u16, Reject> {
        self.array(offset).map(u16::from_be_bytes)
    }
}

/// An IP packet with TCP in it, whole.
struct Packet<'a> {
    src: [u64; 2],
    dst: [u64; 2],
    payload: Rest<'a>,
    /// IPv4's identification.
    id: Option<u16>,
    badlen: bool,
}

#[inline]
fn ipv4(rest: Rest<'_>) -> Result<Packet<'_>, Reject> {
    let header = Ipv4HeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
    let len = usize::from(header.total_len());
    // Segmentation offload leaves 0 to the hardware, and BIG TCP (over 64 KiB) has no other way to say it.
    let (packet, badlen) = if len == 0 { offloaded(rest)? } else { (rest.truncate(len), len > rest.wire) };
    if packet.wire < header.slice().len() {
        return Err(Reject::Malformed);
    }
    let payload = packet.skip(header.slice().len())?;
    let payload = match header.protocol() {
        ip_number::TCP | ip_number::AUTH if header.is_fragmenting_payload() => return Err(Reject::Fragment),
        ip_number::TCP => payload,
        ip_number::AUTH => extensions(ip_number::AUTH, payload)?,
        _ => return Err(Reject::NotTcp),
    };
    let (src, dst) = (Endpoint::v4(header.source(), 0).address, Endpoint::v4(header.destination(), 0).address);
    Ok(Packet { src, dst, payload, id: Some(header.identification()), badlen })
}

#[inline]
fn ipv6(rest: Rest<'_>) -> Result<Packet<'_>, Reject> {
    let header = Ipv6HeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
    let payload = rest.skip(header.slice().len())?;
    let len = usize::from(header.payload_length());
    // 0 is a jumbogram (RFC 2675) or offload; the length on the wire is right for both.
    let (payload, badlen) = if len == 0 { offloaded(payload)? } else { (payload.truncate(len), len > payload.wire) };
    let payload = match header.next_header() {
        ip_number::TCP => payload,
        next => extensions(next, payload)?,
    };
    let (src, dst) = (bytemuck::cast(header.source()), bytemuck::cast(header.destination()));
    Ok(Packet { src, dst, payload, id: None, badlen })
}

/// A packet whose length is the frame's. A frame that claims to be longer than any kernel makes them is not believed:
/// the difference would become a gap.
#[cold]
fn offloaded(rest: Rest<'_>) -> Result<(Rest<'_>, bool), Reject> {
    if rest.wire > CAPLEN_MAX as usize { Err(Reject::Malformed) } else { Ok((rest, false)) }
}

/// Walks extension headers as far as TCP. Header by header, because etherparse's walk ends at Mobility, HIP and Shim6
/// headers, and continues into the data of a later fragment.
fn extensions(mut next: IpNumber, mut rest: Rest<'_>) -> Result<Rest<'_>, Reject> {
    loop {
        let len = match next {
            ip_number::TCP => return Ok(rest),
            ip_number::IPV6_FRAG => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
                next = header.next_header();
                if header.is_fragmenting_payload() {
                    let may_be_tcp = next == ip_number::TCP || next.is_ipv6_ext_header_value();
                    return Err(if may_be_tcp { Reject::Fragment } else { Reject::NotTcp });
                }
                header.slice().len()
            }
            ip_number::AUTH => {
                let header = IpAuthHeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
                next = header.next_header();
                header.slice().len()
            }
            _ if Ipv6RawExtHeaderSlice::header_type_supported(next) => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
                next = header.next_header();
                header.slice().len()
            }
            _ => return Err(Reject::NotTcp),
        };
        rest = rest.skip(len)?;
    }
}

/// What a TCP header says (RFC 9293 section 3.1).
struct Header {
    src_port: u16,
    dst_port: u16,
    seq: SeqNum,
    ack: SeqNum,
    /// Octets, options included.
    len: usize,
    flags: Flags,
    window: u16,
    options: Options,
}

impl Header {
    /// `segment` must hold all that [`Header`] does; checksum, urgent pointer and options may have been cut off.
    #[inline]
    fn read(segment: Rest<'_>) -> Result<Self, Reject> {
        let fixed: [u8; 16] = segment.array(0)?;
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1] = fixed;
        let len = usize::from(offset >> 4) * 4;
        if len < FIXED_LEN {
            return Err(Reject::Malformed);
        }
        let flags = Flags(flags);
        let options = segment.truncate(len).bytes.get(FIXED_LEN..).unwrap_or_default();
        Ok(Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            seq: SeqNum(u32::from_be_bytes([q0, q1, q2, q3])),
            ack: SeqNum(u32::from_be_bytes([a0, a1, a2, a3])),
            len,
            flags,
            window: u16::from_be_bytes([w0, w1]),
            options: if flags.contains(Flags::SYN) { Options::read(options) } else { Options::default() },
        })
    }
}

/// Octets of a TCP header without options.
const FIXED_LEN: usize = 20;

/// What the options of a SYN say, as far as anybody asks.
#[derive(Default)]
struct Options {
    mss: Option<u16>,
    window_scale: Option<u8>,
}

impl Options {
    /// Not by etherparse's iterator, which ends at the first option it does not know: Fast Open, Multipath TCP and MD5 may
    /// all precede these. Of two the first counts.
    fn read(mut octets: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            octets = match *octets {
                [] | [0, ..] => return options,
                [1, ref rest @ ..] => rest,
                [kind, len, ref data @ ..] if len >= 2 => {
                    match (kind, len, data) {
                        (2, 4, [high, low, ..]) => {
                            options.mss = options.mss.or(Some(u16::from_be_bytes([*high, *low])));
                        }
                        (3, 3, [shift, ..]) => {
                            options.window_scale = options.window_scale.or(Some((*shift).min(SHIFT_MAX)));
                        }
                        _ => {}
                    }
                    octets.get(usize::from(len)..).unwrap_or_default()
                }
                _ => return options,
            };
        }
    }
}

/// RFC 7323 section 2.3: a larger shift counts as this one.
const SHIFT_MAX: u8 = 14;
