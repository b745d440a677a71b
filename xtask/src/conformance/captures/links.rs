//! What the contract names beside its rows: link types, IP headers and tunnels.

use super::{Capture, Conversation, chat};
use crate::conformance::{link::Link, tunnel::Tunnel};

pub(super) fn captures() -> Vec<Capture> {
    let links = [
        ("Ethernet", Link::Ethernet),
        ("802.1Q", Link::Tagged(&[(0x8100, 42)])),
        ("802.1ad over 802.1Q", Link::Tagged(&[(0x88a8, 7), (0x8100, 42)])),
        ("0x9100 over 802.1Q", Link::Tagged(&[(0x9100, 7), (0x8100, 42)])),
        ("three tags", Link::Tagged(&[(0x8100, 1), (0x8100, 2), (0x8100, 3)])),
        ("802.3 with LLC and SNAP", Link::Snap),
        ("Cisco MetaData", Link::CiscoMetadata),
        ("MPLS", Link::Mpls(1)),
        ("three MPLS labels", Link::Mpls(3)),
        ("Ethernet over MPLS", Link::MplsEthernet),
        ("PPPoE", Link::Pppoe),
        ("Linux cooked", Link::LinuxCooked),
        ("Linux cooked 2", Link::LinuxCooked2),
        ("raw IP, 101", Link::Raw(101)),
        ("raw IP, 12", Link::Raw(12)),
        ("raw IP, 14", Link::Raw(14)),
        ("raw IPv4", Link::RawByFamily),
        ("BSD null", Link::Null),
        ("BSD loop", Link::Loop),
        ("PPP", Link::Ppp),
        ("PPP in HDLC framing", Link::PppHdlc),
        ("PPPoE without Ethernet", Link::PppEther),
        ("Cisco HDLC", Link::CiscoHdlc),
        ("NFLOG", Link::Nflog),
    ];
    let links_v6 = [
        ("raw IPv6", Link::RawByFamily),
        ("BSD null, IPv6", Link::Null),
        ("PPP, IPv6", Link::Ppp),
        ("Linux cooked 2, IPv6", Link::LinuxCooked2),
        ("NFLOG, IPv6", Link::Nflog),
        ("802.1Q, IPv6", Link::Tagged(&[(0x8100, 42)])),
        ("MPLS, IPv6", Link::Mpls(2)),
    ];
    let tunnels: [(&str, &[Tunnel]); 18] = [
        ("VXLAN", &[Tunnel::Vxlan]),
        ("VXLAN-GPE", &[Tunnel::VxlanGpe]),
        ("GENEVE", &[Tunnel::Geneve]),
        ("GRE", &[Tunnel::Gre]),
        ("GRE with checksum, key and sequence number", &[Tunnel::GreKeyed]),
        ("GRE version 1 (PPTP)", &[Tunnel::GrePptp]),
        ("Ethernet over GRE", &[Tunnel::GreEthernet]),
        ("ERSPAN I", &[Tunnel::ErspanI]),
        ("ERSPAN II", &[Tunnel::ErspanII]),
        ("ERSPAN III", &[Tunnel::ErspanIII]),
        ("IPv4 in IPv4", &[Tunnel::Ip]),
        ("IPv4 in IPv6", &[Tunnel::IpInIpv6]),
        ("L2TP", &[Tunnel::L2tp]),
        ("GTP-U", &[Tunnel::Gtp]),
        ("VXLAN in GRE", &[Tunnel::Vxlan, Tunnel::Gre]),
        ("IPv4 in IPv6 in GENEVE", &[Tunnel::IpInIpv6, Tunnel::Geneve]),
        ("GTP-U in VXLAN", &[Tunnel::Gtp, Tunnel::Vxlan]),
        ("GRE in GRE in GRE", &[Tunnel::Gre, Tunnel::Gre, Tunnel::Gre]),
    ];
    let tunnels_v6: [(&str, &[Tunnel]); 4] = [
        ("6in4", &[Tunnel::Ip]),
        ("IPv6 in IPv6", &[Tunnel::IpInIpv6]),
        ("VXLAN, IPv6", &[Tunnel::Vxlan]),
        ("GTP-U, IPv6", &[Tunnel::Gtp]),
    ];
    let mut captures = Vec::new();
    captures.extend(links.map(|(name, link)| Capture::new("L", name, chat(Conversation::new())).link(link)));
    captures.extend(links_v6.map(|(name, link)| Capture::new("L", name, chat(Conversation::v6())).link(link)));
    captures.push(Capture::new("I", "IPv4 with options", chat(Conversation::new().with_extended_headers())));
    captures.push(Capture::new("I", "IPv6 with extension headers", chat(Conversation::v6().with_extended_headers())));
    captures.extend(tunnels.map(|(name, tunnels)| Capture::new("T", name, chat(Conversation::new())).tunnels(tunnels)));
    captures
        .extend(tunnels_v6.map(|(name, tunnels)| Capture::new("T", name, chat(Conversation::v6())).tunnels(tunnels)));
    captures.push(Capture::new("T", "Teredo", chat(Conversation::teredo())).tunnels(&[Tunnel::Teredo]));
    captures
}
