//! What a frame is made of, from its first octet to TCP.

use agent_common::frame::LinkType;
use etherparse::IpNumber;

use super::fragments::Part;

/// What the next octet belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    // Below IP: link.rs.
    Ethernet,
    /// Whatever this Ethernet type stands for.
    EtherType(u16),
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
    Fragment(Part),

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
