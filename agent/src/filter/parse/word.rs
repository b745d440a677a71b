//! The words of pcap-filter(7): those that mean something here, and why the others do not.

/// Whether a word looks like a value.
pub(super) fn is_address(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(':')
}

pub(super) fn is_keyword(text: &str) -> bool {
    KEYWORDS.contains(&text)
}

/// Why a word of pcap-filter(7) cannot be used.
pub(super) fn refusal(word: &str) -> Option<&'static str> {
    REFUSALS.iter().find(|(words, _)| words.split(' ').any(|known| known == word)).map(|&(_, reason)| reason)
}

const KEYWORDS: [&str; 18] = [
    "tcp",
    "ip",
    "ip6",
    "src",
    "dst",
    "client",
    "server",
    "host",
    "net",
    "mask",
    "port",
    "portrange",
    "proto",
    "vlan",
    "sample",
    "and",
    "or",
    "not",
];

const REFUSALS: [(&str, &str); 9] = [
    (
        "udp sctp icmp icmp6 igmp igrp pim ah esp vrrp carp arp rarp atalk aarp decnet iso clnp esis isis es-is is-is stp \
         ipx netbeui lat moprc mopdl l1 l2 iih lsp snp csnp psnp gre",
        TCP_ALONE,
    ),
    (
        "ether link fddi tr wlan ppp slip llc addr1 addr2 addr3 addr4 ra ta type subtype dir",
        "what lies below IP is not looked at, but for VLAN tags (vlan)",
    ),
    ("gateway", "a gateway is known by its Ethernet address, which is not looked at"),
    ("broadcast multicast", "TCP has one receiver"),
    ("len length less greater", "the length of a frame is not looked at"),
    ("inbound outbound", "the direction has a flag (--direction rx or tx)"),
    ("ifname on ifidx ifindex", "interfaces have a flag (--interface)"),
    ("mpls pppoes pppoed geneve vxlan", "whether tunnels are looked into is said by a flag (--decap)"),
    ("protochain", "chains of headers are followed without asking (try proto)"),
];

pub(super) const TCP_ALONE: &str = "xdpflow captures TCP alone";
