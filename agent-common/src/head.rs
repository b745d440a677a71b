//! The head of a frame, as the filter judges it: one parser for the kernel, for `replay` and for the tests.

use bytemuck::Pod;

use crate::{frame::LinkType, tunnel::Tunnels};

/// Bounds-checked reads from a frame: the one thing that differs between the kernel and a slice.
pub trait ReadAt {
    /// The `T` at `offset`, unless it does not lie wholly inside the frame.
    fn read_at<T: Pod>(&self, offset: usize) -> Option<T>;

    /// `offset`, which is at most [`NETWORK_OFFSET_MAX`]. The verifier walks the rest of the parser once for every value
    /// of it that it can tell apart; the kernel's reader makes it forget which one this is.
    fn network_offset(&self, offset: usize) -> usize {
        offset
    }
}

impl ReadAt for [u8] {
    #[inline(always)]
    fn read_at<T: Pod>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..)?.get(..size_of::<T>())?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }
}

/// An IP address as it is on the wire, in two words; IPv4 as `::ffff:a.b.c.d`.
pub type Address = [u64; 2];

/// As the key of a trie: IPv4 addresses in the first word, `0:ffff:a.b.c.d::`, so that the kernel compares one word at each
/// of its steps and not both. Nobody has an IPv6 address there (`::/8`, RFC 4291 section 2.4).
#[inline(always)]
pub const fn trie_key([high, low]: Address) -> Address {
    if high == 0 && u64::from_be(low) >> 32 == 0xffff { [low, high] } else { [high, low] }
}

/// What the filter looks at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    pub src: Address,
    pub dst: Address,
    /// Host byte order; 0 in a fragment and in a tunnel.
    pub src_port: u16,
    pub dst_port: u16,
    /// The outermost VLAN id, and [`VLAN_PRESENT`]; 0 without a tag.
    pub vlan: u16,
    pub fragment: bool,
    /// What may be inside, unless it is TCP: whoever looks into one of these wants it, whatever its endpoints.
    pub tunnels: Tunnels,
    /// Where the IP header begins in the frame, and where the payload of TCP does.
    pub network: u16,
    pub payload: u16,
    /// From the wire, in network byte order: the IP header without options in the first ten words, the TCP header without
    /// options in the next five. Zeros where there is none.
    pub headers: [u32; HEADER_WORDS],
}

/// Words of [`Head::headers`]; a power of two, for a mask.
pub const HEADER_WORDS: usize = 16;
/// Its first word of TCP.
pub const TCP_WORD: usize = 10;

/// In [`Head::vlan`]: there is a tag.
pub const VLAN_PRESENT: u16 = 1 << 15;
/// The part of a tag that is its id (IEEE 802.1Q, 9.6).
pub const VLAN_ID: u16 = 0x0fff;

/// Bits of a TCP header's 14th octet.
pub mod control {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

impl Head {
    /// Whether this is the head of a whole segment: no fragment, and no tunnel.
    #[inline(always)]
    pub fn is_segment(&self) -> bool {
        !self.fragment && self.tunnels == Tunnels::NONE
    }

    #[inline(always)]
    pub fn seq(&self) -> u32 {
        u32::from_be(self.headers[TCP_WORD + 1])
    }

    #[inline(always)]
    pub fn ack(&self) -> u32 {
        u32::from_be(self.headers[TCP_WORD + 2])
    }

    /// The control bits; none of a fragment.
    #[inline(always)]
    pub fn control(&self) -> u8 {
        (u32::from_be(self.headers[TCP_WORD + 3]) >> 16) as u8
    }

    #[inline(always)]
    pub fn window(&self) -> u16 {
        u32::from_be(self.headers[TCP_WORD + 3]) as u16
    }

    /// Octets of TCP payload in a frame of `len` octets: as many as IP says, and where it does not say (BIG TCP), all there
    /// are.
    #[inline(always)]
    pub fn payload_len(&self, len: u64) -> u64 {
        self.end().min(len).saturating_sub(u64::from(self.payload))
    }

    /// Where the datagram ends in the frame, as IP says; `u64::MAX` where it does not.
    #[inline(always)]
    pub fn end(&self) -> u64 {
        let network = u64::from(self.network);
        match u32::from_be(self.headers[0]) >> 28 {
            6 => match u32::from_be(self.headers[1]) >> 16 {
                0 => u64::MAX,
                said => network + 40 + u64::from(said),
            },
            _ => match u32::from_be(self.headers[0]) & 0xffff {
                0 => u64::MAX,
                said => network + u64::from(said),
            },
        }
    }

    /// Which end opened the connection, as far as this segment tells: RFC 9293 section 3.5.
    #[inline(always)]
    pub fn client(&self) -> Client {
        match self.control() & (control::SYN | control::ACK) {
            control::SYN => Client::Source,
            SYN_ACK => Client::Destination,
            _ => Client::Unknown,
        }
    }
}

const SYN_ACK: u8 = control::SYN | control::ACK;

/// Which end of a segment opened the connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Client {
    Source,
    Destination,
    /// The handshake was not seen.
    #[default]
    Unknown,
}

/// What [`parse`] makes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// TCP, or a fragment of something that may be, or what may be a tunnel.
    Tcp(Head),
    /// Anything else, ARP and UDP among it.
    Other,
    /// The frame ends before the headers that it announces, or they contradict themselves, or it has more tags than
    /// [`TAGS_MAX`].
    Malformed,
}

/// Reads a frame as far as the TCP header. It may call TCP what is not, but never the other way round: the kernel drops
/// nothing that userspace would want, and userspace decodes again. Link types that no interface has are `Other`.
pub fn parse(frame: &(impl ReadAt + ?Sized), link_type: LinkType) -> Parsed {
    let mut head = Head::default();
    match parse_into(frame, link_type, &mut head) {
        Kind::Tcp => Parsed::Tcp(head),
        Kind::Other => Parsed::Other,
        Kind::Malformed => Parsed::Malformed,
    }
}

/// What [`Parsed`] says, without the head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Kind {
    Tcp,
    Other,
    Malformed,
}

/// As [`parse`], into a head that is [`Head::default`]. It is worth something where the result is [`Kind::Tcp`].
#[inline(always)]
pub fn parse_into(frame: &(impl ReadAt + ?Sized), link_type: LinkType, head: &mut Head) -> Kind {
    let network = match link_type {
        LinkType::ETHERNET => ethernet(frame, &mut head.vlan),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => Some(Some(0)),
        _ => Some(None),
    };
    match network {
        Some(Some(offset)) => internet(frame, frame.network_offset(offset), head).unwrap_or(Kind::Malformed),
        Some(None) => Kind::Other,
        None => Kind::Malformed,
    }
}

/// Most VLAN and MACsec tags before the network header. etherparse stops at 3; 802.1ad means 2.
pub const TAGS_MAX: usize = 4;

/// Where the network header begins at most: behind an Ethernet header and tags of 16 octets. One less than a power of
/// two, for a mask.
pub const NETWORK_OFFSET_MAX: usize = 127;
const _: () = assert!(14 + 16 * TAGS_MAX <= NETWORK_OFFSET_MAX);

/// Most IPv6 extension headers that are followed. The header behind a longer chain is unknown, so such a frame is
/// judged by its addresses, like a fragment.
pub const EXTENSIONS_MAX: usize = 8;

/// Offset of the network header behind an Ethernet header and its tags; `Some(None)` when it is not IP.
#[inline(always)]
fn ethernet(frame: &(impl ReadAt + ?Sized), vlan: &mut u16) -> Option<Option<usize>> {
    let mut offset = 14;
    let mut ethertype = u16::from_be(frame.read_at(offset - 2)?);
    let mut tags = 0;
    loop {
        match ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Some(Some(offset)),
            ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_VLAN_9100 => {
                if *vlan == 0 {
                    *vlan = u16::from_be(frame.read_at(offset)?) & VLAN_ID | VLAN_PRESENT;
                }
                offset += 4;
            }
            ETHERTYPE_MACSEC => {
                let control: u8 = frame.read_at(offset)?;
                if control & (MACSEC_ENCRYPTED | MACSEC_CHANGED) != 0 {
                    return Some(None);
                }
                offset += if control & MACSEC_SCI != 0 { 16 } else { 8 };
            }
            // IEEE 802.3: a length, then LLC. RFC 1042 puts the EtherType into a SNAP header of organisation 0.
            0..=ETHERTYPE_LENGTH_MAX => {
                if frame.read_at(offset) != Some(SNAP) {
                    return Some(None);
                }
                offset += 8;
            }
            _ => return Some(None),
        }
        tags += 1;
        if tags > TAGS_MAX {
            return None;
        }
        ethertype = u16::from_be(frame.read_at(offset - 2)?);
    }
}

/// From the IP header on. The version is the header's own, whatever EtherType led here, as in etherparse.
#[inline(always)]
fn internet(frame: &(impl ReadAt + ?Sized), network: usize, head: &mut Head) -> Option<Kind> {
    head.network = network as u16;
    let mut protocol;
    let mut offset;
    let version: u8 = frame.read_at(network)?;
    match version >> 4 {
        4 => {
            let header_len = usize::from(version & 0x0f) * 4;
            let header: [u32; 5] = frame.read_at(network)?;
            if header_len < 20 {
                return None;
            }
            [head.headers[0], head.headers[1], head.headers[2], head.headers[3], head.headers[4]] = header;
            head.src = mapped(header[3]);
            head.dst = mapped(header[4]);
            protocol = (u32::from_be(header[2]) >> 16) as u8;
            offset = network + header_len;
            // More fragments, or an offset (RFC 791).
            if u32::from_be(header[1]) & 0x3fff != 0 {
                // Nothing behind the options is read, so see that they are all there.
                let _: u8 = frame.read_at(offset - 1)?;
                return Some(fragment(head, protocol));
            }
        }
        6 => {
            let header: [u64; 5] = frame.read_at(network)?;
            let mut i = 0;
            while i < 5 {
                let [first, second] = words(header[i]);
                head.headers[2 * i] = first;
                head.headers[2 * i + 1] = second;
                i += 1;
            }
            head.src = [header[1], header[2]];
            head.dst = [header[3], header[4]];
            protocol = (u64::from_be(header[0]) >> 8) as u8;
            offset = network + 40;
        }
        _ => return None,
    }
    // IPv4 knows only AH of these; following the others there can but over-match.
    let mut i = 0;
    while i < EXTENSIONS_MAX {
        match protocol {
            TCP => {
                let header: [u32; 5] = frame.read_at(offset)?;
                let [.., w0, w1, w2, w3, w4, _] = &mut head.headers;
                [*w0, *w1, *w2, *w3, *w4] = header;
                let ports = u32::from_be(header[0]);
                (head.src_port, head.dst_port) = ((ports >> 16) as u16, ports as u16);
                head.payload = (offset + (u32::from_be(header[3]) >> 28) as usize * 4) as u16;
                return Some(Kind::Tcp);
            }
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                let [next, len]: [u8; 2] = frame.read_at(offset)?;
                protocol = next;
                offset += (usize::from(len) + 1) * 8;
            }
            AUTHENTICATION => {
                let [next, len]: [u8; 2] = frame.read_at(offset)?;
                protocol = next;
                offset += (usize::from(len) + 2) * 4;
            }
            FRAGMENT => {
                let [next, _, high, low]: [u8; 4] = frame.read_at(offset)?;
                // An offset of 0 with nothing to follow is a whole packet (RFC 6946).
                if u16::from_be_bytes([high, low]) & 0xfff9 != 0 {
                    return Some(fragment(head, next));
                }
                protocol = next;
                offset += 8;
            }
            UDP => {
                let Some([s0, s1, d0, d1]) = frame.read_at::<[u8; 4]>(offset) else { return Some(Kind::Other) };
                let (src, dst) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
                return Some(tunnel(head, Tunnels::of_port(src) | Tunnels::of_port(dst)));
            }
            _ => {
                let tunnels = Tunnels::of_protocol(protocol);
                // As with fragments: nothing behind this header is read, so see that it is all there.
                if tunnels != Tunnels::NONE {
                    let _: u8 = frame.read_at(offset - 1)?;
                }
                return Some(tunnel(head, tunnels));
            }
        }
        i += 1;
    }
    Some(fragment(head, protocol))
}

/// A fragment whose first header is `protocol`: TCP or a tunnel may be in it unless that header rules it out.
#[inline(always)]
fn fragment(head: &mut Head, protocol: u8) -> Kind {
    match protocol {
        TCP => {
            head.fragment = true;
            Kind::Tcp
        }
        HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 | AUTHENTICATION | FRAGMENT => {
            head.fragment = true;
            tunnel(head, Tunnels::ALL)
        }
        UDP => tunnel(head, Tunnels::OVER_UDP),
        _ => tunnel(head, Tunnels::of_protocol(protocol)),
    }
}

/// What may be one of `tunnels`. Its ports stay out: what is in one tunnel belongs together, and some tunnels spread it
/// over many ports.
#[inline(always)]
fn tunnel(head: &mut Head, tunnels: Tunnels) -> Kind {
    if tunnels == Tunnels::NONE {
        return Kind::Other;
    }
    head.tunnels = tunnels;
    Kind::Tcp
}

/// `::ffff:a.b.c.d` of an IPv4 address as it was read from the wire.
#[inline(always)]
fn mapped(address: u32) -> Address {
    if cfg!(target_endian = "little") {
        [0, u64::from(address) << 32 | 0xffff_0000]
    } else {
        [0, u64::from(address) | 0xffff << 32]
    }
}

/// The two halves of what was read as one from the wire, in the order of the wire.
#[inline(always)]
fn words(both: u64) -> [u32; 2] {
    if cfg!(target_endian = "little") { [both as u32, (both >> 32) as u32] } else { [(both >> 32) as u32, both as u32] }
}

/// Of the second word, what is the same in all addresses that [`mapped`] makes.
pub(crate) const MAPPED_MASK: u64 = if cfg!(target_endian = "little") { 0xffff_ffff } else { 0xffff_ffff << 32 };

#[inline(always)]
pub(crate) fn is_mapped(address: &Address) -> bool {
    [address[0], address[1] & MAPPED_MASK] == mapped(0)
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_VLAN_9100: u16 = 0x9100;
const ETHERTYPE_MACSEC: u16 = 0x88e5;
/// Below 1536 the field is a length (IEEE 802.3, 3.2.6).
const ETHERTYPE_LENGTH_MAX: u16 = 1535;
/// LLC for SNAP, unnumbered information, organisation 0.
const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];

/// Bits of the SecTAG's first octet (IEEE 802.1AE, 9.5).
const MACSEC_SCI: u8 = 0x20;
const MACSEC_ENCRYPTED: u8 = 0x08;
const MACSEC_CHANGED: u8 = 0x04;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_tunnel() {
        let packet = |protocol: u8, fragment: u16, payload: &[u8]| {
            let mut packet = [0x45, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2].to_vec();
            packet[6..8].copy_from_slice(&fragment.to_be_bytes());
            packet.extend(payload);
            packet
        };
        let udp = |src: u16, dst: u16| [src.to_be_bytes(), dst.to_be_bytes(), [0, 8], [0, 0]].concat();

        for (packet, expected) in [
            (packet(17, 0, &udp(40_000, 4_789)), Some(Tunnels::VXLAN)),
            (packet(17, 0, &udp(2_152, 40_000)), Some(Tunnels::GTP)),
            (packet(17, 0, &udp(6_081, 1_701)), Some(Tunnels::GENEVE | Tunnels::L2TP)),
            (packet(17, 0, &udp(53, 40_000)), None),
            (packet(17, 0, &[0x12]), None),
            (packet(17, 0x2000, &udp(53, 40_000)), Some(Tunnels::OVER_UDP)),
            (packet(17, 0x0010, &[0; 8]), Some(Tunnels::OVER_UDP)),
            (packet(47, 0, &[]), Some(Tunnels::GRE)),
            (packet(47, 0x2000, &[]), Some(Tunnels::GRE)),
            (packet(41, 0, &[]), Some(Tunnels::SIX_IN_4)),
            (packet(1, 0, &[]), None),
            (packet(1, 0x2000, &[]), None),
        ] {
            let found = match parse(&packet[..], LinkType::RAW) {
                Parsed::Tcp(head) => Some(head.tunnels),
                Parsed::Other => None,
                Parsed::Malformed => panic!("{packet:02x?}"),
            };
            assert_eq!(found, expected, "{packet:02x?}");
        }
    }

    #[test]
    fn link_types_without_interfaces_are_other() {
        assert_eq!(parse(&[0x45; 60][..], LinkType::LINUX_SLL), Parsed::Other);
        assert_eq!(parse(&[][..], LinkType::RAW), Parsed::Malformed);
        assert_eq!(parse(&[0x35; 60][..], LinkType::RAW), Parsed::Malformed);
    }

    #[test]
    fn too_many_tags_are_malformed() {
        for (tags, expected) in [(TAGS_MAX, Parsed::Other), (TAGS_MAX + 1, Parsed::Malformed)] {
            let mut frame = vec![0; 12];
            frame.extend([0x81, 0, 0, 1].repeat(tags));
            frame.extend([8, 6, 0, 1]);
            assert_eq!(parse(&frame[..], LinkType::ETHERNET), expected, "{tags} tags");
        }
    }
}
