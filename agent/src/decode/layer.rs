//! What a frame is made of, from its first octet to TCP.

use agent_common::frame::LinkType;
use etherparse::IpNumber;

/// What the next octet belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    // Below IP: link.rs.
    Ethernet,
    Vlan,
    CiscoMetadata,
    Llc,
    Sll,
    Sll2,
    Ppp,
    Pppoe,
    CiscoHdlc,
    /// Four octets of address family, in the byte order of the machine that captured.
    Family,
    Nflog,
    Mpls,
    MplsPayload,
    /// IP of the version that its first nibble says.
    Ip,

    // IP: ip.rs.
    Ipv4,
    Ipv6,
    /// Whatever this IP protocol number stands for.
    Protocol(IpNumber),
    /// A part of an IP datagram, whose other fragments are or were in other frames.
    Fragment,

    // What has frames or packets inside: tunnel.rs.
    Udp,
    Vxlan,
    VxlanGpe,
    Geneve,
    Gre,
    Erspan2,
    Erspan3,
    Wccp,
    Nsh,
    L2tp,
    L2tp3,
    Gtp,
    Teredo,
    EtherIp,

    Tcp,
    /// Nothing that leads to TCP.
    Other,
}

impl Layer {
    #[inline]
    pub(super) fn first(link_type: LinkType) -> Option<Self> {
        Some(match link_type {
            LinkType::ETHERNET => Self::Ethernet,
            LinkType::NULL | LinkType::LOOP => Self::Family,
            LinkType::PPP | LinkType(50) => Self::Ppp,
            LinkType(51) => Self::Pppoe,
            // 12 and 14 are what BSDs call raw IP in memory; files have them too.
            LinkType::RAW | LinkType(12 | 14) => Self::Ip,
            LinkType(104) => Self::CiscoHdlc,
            LinkType::LINUX_SLL => Self::Sll,
            LinkType::LINUX_SLL2 => Self::Sll2,
            LinkType::IPV4 => Self::Ipv4,
            LinkType::IPV6 => Self::Ipv6,
            LinkType(239) => Self::Nflog,
            _ => return None,
        })
    }

    #[inline]
    pub(super) fn of_ether_type(number: u16) -> Self {
        match number {
            ether_type::IPV4 => Self::Ipv4,
            ether_type::IPV6 => Self::Ipv6,
            ether_type::VLAN | ether_type::SERVICE_VLAN | ether_type::OLD_SERVICE_VLAN => Self::Vlan,
            ether_type::MPLS | ether_type::MPLS_UPSTREAM => Self::Mpls,
            ether_type::PPPOE_SESSION => Self::Pppoe,
            ether_type::CISCO_METADATA => Self::CiscoMetadata,
            ..ether_type::FIRST => Self::Llc,
            _ => Self::Other,
        }
    }

    /// By address family, of which no system has one above 65,535: that one is byte-swapped. `AF_INET6` differs between
    /// Linux, NetBSD and OpenBSD, FreeBSD, and macOS.
    pub(super) fn family(octets: [u8; 4]) -> Option<Self> {
        let family = u32::from_be_bytes(octets);
        match if family > 0xffff { family.swap_bytes() } else { family } {
            2 => Some(Self::Ipv4),
            10 | 24 | 28 | 30 => Some(Self::Ipv6),
            _ => None,
        }
    }
}

/// Numbers of the IEEE registry.
pub(super) mod ether_type {
    /// Below this it is a length (IEEE 802.3 clause 3.2.6).
    pub(in crate::decode) const FIRST: u16 = 0x0600;
    pub(in crate::decode) const IPV4: u16 = 0x0800;
    pub(in crate::decode) const VLAN: u16 = 0x8100;
    pub(in crate::decode) const IPV6: u16 = 0x86dd;
    pub(in crate::decode) const MPLS: u16 = 0x8847;
    pub(in crate::decode) const MPLS_UPSTREAM: u16 = 0x8848;
    pub(in crate::decode) const PPPOE_SESSION: u16 = 0x8864;
    pub(in crate::decode) const SERVICE_VLAN: u16 = 0x88a8;
    pub(in crate::decode) const CISCO_METADATA: u16 = 0x8909;
    /// Before 802.1ad had a number of its own.
    pub(in crate::decode) const OLD_SERVICE_VLAN: u16 = 0x9100;

    pub(in crate::decode) fn is_likely(number: u16) -> bool {
        matches!(number, IPV4 | IPV6 | VLAN | SERVICE_VLAN | OLD_SERVICE_VLAN | PPPOE_SESSION)
    }
}
