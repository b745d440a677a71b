//! IP, and what lies between it and TCP.

use agent_common::{frame::CAPLEN_MAX, tunnel::Tunnels};
use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    ip_number,
};

use super::{
    Layer, Reject, Rest,
    fragments::{Key, Part},
};
use crate::segment::Endpoint;

/// What the innermost IP header says.
#[derive(Clone, Copy, Default)]
pub(super) struct Packet<'a> {
    /// From its first octet on.
    pub(super) header: &'a [u8],
    pub(super) src: [u64; 2],
    pub(super) dst: [u64; 2],
    /// IPv4's identification.
    pub(super) id: Option<u16>,
    /// Which part of the packet this is, if it is a fragment.
    pub(super) part: Part,
    /// Octets of payload that the header claims; 0 when it leaves that open.
    len: usize,
    /// The header claims more octets than were on the wire: those that are there were taken.
    pub(super) badlen: bool,
    /// Addresses and length are those that a TCP checksum was computed from.
    pub(super) is_summed: bool,
}

impl Packet<'_> {
    /// Whether its header and the wire agree on where it ends. A fragment of which they do not cannot be put into place.
    pub(super) fn has_sure_end(&self) -> bool {
        self.len != 0 && !self.badlen
    }

    /// Which datagram the fragment belongs to. IPv6 has no protocol number that all fragments share.
    pub(super) fn key(&self) -> Key {
        let protocol = self.id.map(|_| self.part.next.0);
        Key { src: self.src, dst: self.dst, id: self.part.id, protocol }
    }
}

/// Reads the IP header that a link layer announced into `packet`.
#[inline(always)]
pub(super) fn header<'a>(layer: Layer, rest: Rest<'a>, packet: &mut Packet<'a>) -> Result<(Layer, Rest<'a>), Reject> {
    if let Layer::Ipv4 = layer { ipv4(rest, packet) } else { ipv6(rest, packet) }
}

#[inline(always)]
fn ipv4<'a>(rest: Rest<'a>, packet: &mut Packet<'a>) -> Result<(Layer, Rest<'a>), Reject> {
    let header = Ipv4HeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
    let len = usize::from(header.total_len());
    // Segmentation offload leaves 0 to the hardware, and BIG TCP (over 64 KiB) has no other way to say it.
    let (whole, badlen) = if len == 0 { offloaded(rest) } else { (rest.truncate(len), len > rest.wire) };
    let header_len = header.slice().len();
    if whole.wire < header_len {
        return Err(Reject::Malformed);
    }
    let payload = whole.skip(header_len)?;
    packet.header = rest.bytes;
    packet.src = Endpoint::v4(header.source(), 0).address;
    packet.dst = Endpoint::v4(header.destination(), 0).address;
    packet.id = Some(header.identification());
    packet.len = len;
    packet.badlen = badlen;
    packet.is_summed = len != 0 && (header_len == 20 || !is_source_routed(header.options()));
    let next = header.protocol();
    let layer = match next {
        _ if header.is_fragmenting_payload() => {
            packet.part = Part {
                id: header.identification().into(),
                offset: header.fragments_offset().byte_offset(),
                more: header.more_fragments(),
                before: header_len as u16,
                next,
            };
            Layer::Fragment
        }
        ip_number::TCP => Layer::Tcp,
        // Of the headers that the two versions share, IPv4 has this one.
        ip_number::AUTH => Layer::Protocol(next),
        _ if next.is_ipv6_ext_header_value() => Layer::Other,
        _ => Layer::Protocol(next),
    };
    Ok((layer, payload))
}

#[inline(always)]
fn ipv6<'a>(rest: Rest<'a>, packet: &mut Packet<'a>) -> Result<(Layer, Rest<'a>), Reject> {
    let header = Ipv6HeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
    let payload = rest.skip(header.slice().len())?;
    let len = usize::from(header.payload_length());
    // 0 is a jumbogram (RFC 2675) or offload; the length on the wire is right for both.
    let (payload, badlen) = if len == 0 { offloaded(payload) } else { (payload.truncate(len), len > payload.wire) };
    packet.header = rest.bytes;
    packet.src = bytemuck::cast(header.source());
    packet.dst = bytemuck::cast(header.destination());
    packet.id = None;
    packet.len = len;
    packet.badlen = badlen;
    packet.is_summed = len != 0;
    let layer = match header.next_header() {
        ip_number::TCP => Layer::Tcp,
        next => Layer::Protocol(next),
    };
    Ok((layer, payload))
}

/// What an IP protocol number stands for: the next extension header, or what the packet is about. Header by header,
/// because etherparse's walk ends at Mobility, HIP and Shim6 headers, and continues into the data of a later fragment.
#[cold]
pub(super) fn protocol<'a>(
    number: IpNumber,
    rest: Rest<'a>,
    packet: &mut Packet<'_>,
    tunnels: Tunnels,
) -> Result<(Layer, Rest<'a>), Reject> {
    let (next, header_len) = match number {
        ip_number::IPV6_FRAG => {
            let header = Ipv6FragmentHeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
            let (next, payload) = (header.next_header(), rest.skip(header.slice().len())?);
            // An offset of 0 with nothing to follow is a whole packet (RFC 6946).
            if header.is_fragmenting_payload() {
                packet.part = Part {
                    id: header.identification(),
                    offset: header.fragment_offset().byte_offset(),
                    more: header.more_fragments(),
                    // The largest packet ends 65,535 octets behind the IPv6 header.
                    before: packet.len.saturating_sub(payload.wire + header.slice().len()) as u16,
                    next,
                };
                return Ok((Layer::Fragment, payload));
            }
            (next, header.slice().len())
        }
        ip_number::AUTH => {
            let header = IpAuthHeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
            (header.next_header(), header.slice().len())
        }
        _ if Ipv6RawExtHeaderSlice::header_type_supported(number) => {
            let header = Ipv6RawExtHeaderSlice::from_slice(rest.bytes).map_err(|_| Reject::Malformed)?;
            packet.is_summed &= !moves_addresses(number, header.payload());
            (header.next_header(), header.slice().len())
        }
        _ => return Ok((payload(number, tunnels), rest)),
    };
    Ok((Layer::Protocol(next), rest.skip(header_len)?))
}

/// Whether TCP can be behind the header that a fragmented datagram begins with. Fragments other than the first are asked
/// as well, though RFC 8200 gives their number no meaning: all that there are repeat it, and without it every fragmented
/// UDP datagram would be waited for.
pub(super) fn may_hold_tcp(next: IpNumber, tunnels: Tunnels) -> bool {
    matches!(next, ip_number::IPV6_FRAG | ip_number::AUTH)
        || Ipv6RawExtHeaderSlice::header_type_supported(next)
        || !matches!(payload(next, tunnels), Layer::Other)
}

/// What a packet is about, as far as that is looked into.
fn payload(number: IpNumber, tunnels: Tunnels) -> Layer {
    let (layer, tunnel) = match number {
        ip_number::TCP => return Layer::Tcp,
        ip_number::UDP => (Layer::Udp, Tunnels::OVER_UDP),
        ip_number::IPV4 => (Layer::Ipv4, Tunnels::IPIP),
        ip_number::IPV6 => (Layer::Ipv6, Tunnels::SIX_IN_4),
        ip_number::GRE => (Layer::Gre, Tunnels::GRE),
        ip_number::ETHER_IP => (Layer::EtherIp, Tunnels::ETHERIP),
        IpNumber(115) => (Layer::L2tp3, Tunnels::L2TP),
        ip_number::MPLS_IN_IP => (Layer::Mpls, Tunnels::MPLS),
        _ => return Layer::Other,
    };
    if tunnels.intersects(tunnel) { layer } else { Layer::Other }
}

/// Whether the destination in the header may be only the next one: loose and strict source route (RFC 791 section 3.1).
#[cold]
fn is_source_routed(options: &[u8]) -> bool {
    options.iter().any(|option| matches!(option, 131 | 137))
}

/// Whether an extension header says that the addresses which a checksum is computed from are others than those in the IPv6
/// header: a routing header with segments left (RFC 8200 section 8.1), a Home Address option (RFC 6275 section 6.3).
fn moves_addresses(number: IpNumber, content: &[u8]) -> bool {
    match number {
        ip_number::IPV6_ROUTE => content.get(1) != Some(&0),
        ip_number::IPV6_DEST_OPTIONS => content.contains(&HOME_ADDRESS),
        _ => false,
    }
}

/// A packet whose length is the frame's. A frame that claims to be longer than any kernel makes them is not believed:
/// what was captured is taken, and the difference, which would become a gap, is not.
#[cold]
fn offloaded(rest: Rest<'_>) -> (Rest<'_>, bool) {
    if rest.wire > CAPLEN_MAX as usize { (rest.captured(), true) } else { (rest, false) }
}

const HOME_ADDRESS: u8 = 0xc9;
