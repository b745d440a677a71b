//! The frame parser and the filter: one implementation for the kernel, for `replay` and for the tests.

use core::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use crate::frame::LinkType;

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

/// What the filter looks at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    pub src: Address,
    pub dst: Address,
    /// Host byte order; 0 in a fragment.
    pub src_port: u16,
    pub dst_port: u16,
    pub fragment: bool,
}

/// What [`parse`] makes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// TCP, or a fragment of something that may be.
    Tcp(Head),
    /// Anything else, ARP and UDP among it.
    Other,
    /// The frame ends before the headers that it announces, or they contradict themselves, or it has more tags than
    /// [`TAGS_MAX`].
    Malformed,
}

/// Reads a frame as far as the TCP ports. It may call TCP what is not, but never the other way round: the kernel drops
/// nothing that userspace would want, and userspace decodes again. Link types that no interface has are `Other`.
#[inline(always)]
pub fn parse(frame: &(impl ReadAt + ?Sized), link_type: LinkType) -> Parsed {
    let network = match link_type {
        LinkType::ETHERNET => ethernet(frame),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => Some(Some(0)),
        _ => Some(None),
    };
    match network {
        Some(Some(offset)) => internet(frame, frame.network_offset(offset)).unwrap_or(Parsed::Malformed),
        Some(None) => Parsed::Other,
        None => Parsed::Malformed,
    }
}

/// Most entries of one kind in a [`Filter`].
pub const NETS_MAX: usize = 16;
pub const PORTS_MAX: usize = 16;

/// Most VLAN and MACsec tags before the network header. etherparse stops at 3; 802.1ad means 2.
pub const TAGS_MAX: usize = 4;

/// Where the network header begins at most: behind an Ethernet header and tags of 16 octets. One less than a power of
/// two, for a mask.
pub const NETWORK_OFFSET_MAX: usize = 127;
const _: () = assert!(14 + 16 * TAGS_MAX <= NETWORK_OFFSET_MAX);

/// Most IPv6 extension headers that are followed. The header behind a longer chain is unknown, so such a frame is
/// judged by its addresses, like a fragment.
pub const EXTENSIONS_MAX: usize = 8;

/// Which frames the kernel copies to userspace. Values of one kind are alternatives, kinds must all hold, an empty kind
/// holds always: zero matches every TCP frame. Ports and addresses are matched against either endpoint.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Filter {
    /// Octets of a frame that are copied; 0 means all.
    pub snaplen: u32,
    pub hosts_len: u32,
    pub nets_len: u32,
    pub ports_len: u32,
    pub hosts: [Net; NETS_MAX],
    pub nets: [Net; NETS_MAX],
    pub ports: [PortRange; PORTS_MAX],
}

/// Addresses whose masked bits equal `address`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Net {
    pub address: Address,
    pub mask: Address,
}

/// Ports from `low` to `high`, both included, in host byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct PortRange {
    pub low: u16,
    pub high: u16,
}

impl Filter {
    /// Whether userspace wants what `head` is the head of. A fragment is judged by its addresses alone.
    #[inline(always)]
    pub fn accepts(&self, head: &Head) -> bool {
        any(&self.ports, if head.fragment { 0 } else { self.ports_len }, |range| {
            range.holds(head.src_port) || range.holds(head.dst_port)
        }) && any(&self.hosts, self.hosts_len, |host| host.holds(&head.src) || host.holds(&head.dst))
            && any(&self.nets, self.nets_len, |net| net.holds(&head.src) || net.holds(&head.dst))
    }
}

impl Net {
    /// The addresses that share the first `prefix` bits with `address`; a prefix longer than the address means all of
    /// its bits.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let (octets, prefix) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 96 + u32::from(prefix.min(32))),
            IpAddr::V6(address) => (address.octets(), u32::from(prefix.min(128))),
        };
        let ones = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        let address: Address = bytemuck::cast(octets);
        let mask: Address = bytemuck::cast(ones.to_be_bytes());
        Self { address: [address[0] & mask[0], address[1] & mask[1]], mask }
    }

    #[inline(always)]
    fn holds(&self, address: &Address) -> bool {
        // `::/0` is all of IPv6 and nothing else: a net that leaves bits open which make an address an IPv4 one is an
        // IPv6 net and holds none.
        let open = if is_mapped(address) { MAPPED_MASK & !self.mask[1] } else { 0 };
        ((address[0] ^ self.address[0]) & self.mask[0]) | ((address[1] ^ self.address[1]) & self.mask[1]) | open == 0
    }
}

impl PortRange {
    #[inline(always)]
    fn holds(&self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

#[cfg(feature = "user")]
// SAFETY: `Filter` is `bytemuck::Pod`, which is the stricter of the two.
unsafe impl aya::Pod for Filter {}

/// Whether one of the first `len` entries holds; true when there are none. The loop has a constant bound and an index,
/// not an iterator: that is the shape whose end the verifier sees.
#[inline(always)]
fn any<T, const N: usize>(entries: &[T; N], len: u32, holds: impl Fn(&T) -> bool) -> bool {
    let mut i = 0;
    while i < N {
        if i as u32 >= len {
            return i == 0;
        }
        if holds(&entries[i]) {
            return true;
        }
        i += 1;
    }
    false
}

/// Offset of the network header behind an Ethernet header and its tags; `Some(None)` when it is not IP.
#[inline(always)]
fn ethernet(frame: &(impl ReadAt + ?Sized)) -> Option<Option<usize>> {
    let mut offset = 14;
    let mut ethertype = u16::from_be(frame.read_at(offset - 2)?);
    let mut tags = 0;
    loop {
        match ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Some(Some(offset)),
            ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_VLAN_9100 => offset += 4,
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
fn internet(frame: &(impl ReadAt + ?Sized), network: usize) -> Option<Parsed> {
    let mut head = Head::default();
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
                let header: [u8; 20] = frame.read_at(offset)?;
                head.src_port = u16::from_be_bytes([header[0], header[1]]);
                head.dst_port = u16::from_be_bytes([header[2], header[3]]);
                return Some(Parsed::Tcp(head));
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
            _ => return Some(Parsed::Other),
        }
        i += 1;
    }
    Some(fragment(head, protocol))
}

/// A fragment whose first header is `protocol`: TCP may be in it unless that header rules it out.
#[inline(always)]
fn fragment(head: Head, protocol: u8) -> Parsed {
    match protocol {
        TCP | HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 | AUTHENTICATION | FRAGMENT => {
            Parsed::Tcp(Head { fragment: true, ..head })
        }
        _ => Parsed::Other,
    }
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

/// Of the second word, what is the same in all addresses that [`mapped`] makes.
const MAPPED_MASK: u64 = if cfg!(target_endian = "little") { 0xffff_ffff } else { 0xffff_ffff << 32 };

#[inline(always)]
fn is_mapped(address: &Address) -> bool {
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

    fn head(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Head {
        let address = |text: &str| Net::new(text.parse().unwrap(), 128).address;
        Head { src: address(src), dst: address(dst), src_port, dst_port, fragment: false }
    }

    fn filter(hosts: &[&str], nets: &[(&str, u8)], ports: &[(u16, u16)]) -> Filter {
        let mut filter = Filter {
            hosts_len: hosts.len() as u32,
            nets_len: nets.len() as u32,
            ports_len: ports.len() as u32,
            ..Filter::zeroed()
        };
        for (host, address) in filter.hosts.iter_mut().zip(hosts) {
            *host = Net::new(address.parse().unwrap(), 128);
        }
        for (net, (address, prefix)) in filter.nets.iter_mut().zip(nets) {
            *net = Net::new(address.parse().unwrap(), *prefix);
        }
        for (range, &(low, high)) in filter.ports.iter_mut().zip(ports) {
            *range = PortRange { low, high };
        }
        filter
    }

    #[test]
    fn kinds_must_all_hold_and_values_are_alternatives_at_either_endpoint() {
        let web = head("10.0.0.1", 51244, "192.0.2.7", 443);
        let table = [
            (filter(&[], &[], &[]), true),
            (filter(&[], &[], &[(443, 443)]), true),
            (filter(&[], &[], &[(51244, 51244)]), true),
            (filter(&[], &[], &[(80, 80), (400, 500)]), true),
            (filter(&[], &[], &[(80, 442)]), false),
            (filter(&["192.0.2.7"], &[], &[]), true),
            (filter(&["192.0.2.8", "10.0.0.1"], &[], &[]), true),
            (filter(&["192.0.2.8", "10.0.0.2"], &[], &[]), false),
            (filter(&["10.0.0.1"], &[], &[(80, 80)]), false),
            (filter(&["10.0.0.1"], &[("192.0.2.0", 24)], &[(443, 443)]), true),
            (filter(&["10.0.0.1"], &[("192.0.3.0", 24)], &[(443, 443)]), false),
            (filter(&[], &[("0.0.0.0", 0)], &[]), true),
            (filter(&[], &[("::", 0)], &[]), false),
            (filter(&[], &[("::ffff:0:0", 95)], &[]), false),
            (filter(&[], &[("::ffff:10.0.0.0", 104)], &[]), true),
            (filter(&[], &[("10.0.0.0", 31)], &[]), true),
            (filter(&[], &[("10.0.0.2", 31)], &[]), false),
        ];
        for (i, (filter, expected)) in table.iter().enumerate() {
            assert_eq!(filter.accepts(&web), *expected, "row {i}");
            let back = Head {
                src: web.dst,
                dst: web.src,
                src_port: web.dst_port,
                dst_port: web.src_port,
                fragment: web.fragment,
            };
            assert_eq!(filter.accepts(&back), *expected, "row {i}, the other direction");
        }
    }

    #[test]
    fn ipv4_and_ipv6_do_not_match_each_other() {
        let v6 = head("2001:db8::1", 1, "2001:db8:5::1", 2);
        assert!(!filter(&[], &[("0.0.0.0", 0)], &[]).accepts(&v6));
        assert!(filter(&[], &[("::", 0)], &[]).accepts(&v6));
        assert!(filter(&[], &[("2001:db8:5::", 48)], &[]).accepts(&v6));
        assert!(!filter(&[], &[("2001:db8:6::", 48)], &[]).accepts(&v6));
    }

    #[test]
    fn a_fragment_is_judged_by_its_addresses_alone() {
        let fragment = Head { fragment: true, src_port: 0, dst_port: 0, ..head("10.0.0.1", 0, "10.0.0.2", 0) };
        assert!(filter(&["10.0.0.2"], &[], &[(443, 443)]).accepts(&fragment));
        assert!(!filter(&["10.0.0.3"], &[], &[(443, 443)]).accepts(&fragment));
    }

    #[test]
    fn a_full_list_is_searched_to_its_end() {
        let ports: [(u16, u16); PORTS_MAX] = std::array::from_fn(|i| (i as u16 + 1, i as u16 + 1));
        let sixteen = filter(&[], &[], &ports);
        assert!(sixteen.accepts(&head("::1", 16, "::1", 100)));
        assert!(!sixteen.accepts(&head("::1", 17, "::1", 100)));
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
