//! What a capture has before the IP header.

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    Ethernet,
    /// With these tags: type and tag control information.
    Tagged(&'static [(u16, u16)]),
    /// IEEE 802.3 with LLC and SNAP (RFC 1042).
    Snap,
    /// 0x8909, which Cisco's TrustSec puts before the type.
    CiscoMetadata,
    /// So many labels (RFC 3032).
    Mpls(u8),
    /// A pseudowire with a control word (RFC 4448): a frame behind a label.
    MplsEthernet,
    /// RFC 2516.
    Pppoe,
    LinuxCooked,
    LinuxCooked2,
    /// LINKTYPE_RAW, or one of the two that some systems call it.
    Raw(u16),
    /// LINKTYPE_IPV4 and LINKTYPE_IPV6.
    RawByFamily,
    /// In the byte order of the machine that captured.
    Null,
    /// In network byte order.
    Loop,
    Ppp,
    PppHdlc,
    PppEther,
    CiscoHdlc,
    Nflog,
}

impl Link {
    /// As the registry numbers it, for packets of IPv6 or IPv4.
    pub(crate) fn number(self, v6: bool) -> u16 {
        match self {
            Self::Ethernet
            | Self::Tagged(_)
            | Self::Snap
            | Self::CiscoMetadata
            | Self::Mpls(_)
            | Self::MplsEthernet
            | Self::Pppoe => 1,
            Self::LinuxCooked => 113,
            Self::LinuxCooked2 => 276,
            Self::Raw(number) => number,
            Self::RawByFamily => 228 + u16::from(v6),
            Self::Null => 0,
            Self::Loop => 108,
            Self::Ppp => 9,
            Self::PppHdlc => 50,
            Self::PppEther => 51,
            Self::CiscoHdlc => 104,
            Self::Nflog => 239,
        }
    }

    pub(crate) fn frame(self, packet: &[u8], from_client: bool) -> Vec<u8> {
        let v6 = packet[0] >> 4 == 6;
        let ether_type: [u8; 2] = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let protocol: [u8; 2] = [0, if v6 { 0x57 } else { 0x21 }];
        let ppp_len = ((packet.len() + 2) as u16).to_be_bytes();
        let addresses: [u8; 12] = match from_client {
            true => [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1],
            false => [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2],
        };
        let header: Vec<u8> = match self {
            Self::Ethernet => [&addresses[..], &ether_type].concat(),
            Self::Tagged(tags) => {
                let tags = tags.iter().flat_map(|(tag, control)| [tag.to_be_bytes(), control.to_be_bytes()].concat());
                addresses.into_iter().chain(tags).chain(ether_type).collect()
            }
            Self::Snap => {
                let len = ((packet.len() + 8) as u16).to_be_bytes();
                [&addresses[..], &len, &[0xaa, 0xaa, 3, 0, 0, 0], &ether_type].concat()
            }
            // Version 1, length 1, one option: a security group tag.
            Self::CiscoMetadata => [&addresses[..], &[0x89, 0x09, 1, 1, 0, 1, 0, 42], &ether_type].concat(),
            Self::Mpls(labels) => {
                let labels = (1..=labels).flat_map(|label| [0, label, u8::from(label == labels), 64]);
                addresses.into_iter().chain([0x88, 0x47]).chain(labels).collect()
            }
            Self::MplsEthernet => [
                &addresses[..],
                &[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 0],
                &[2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1],
                &ether_type,
            ]
            .concat(),
            Self::Pppoe => [&addresses[..], &[0x88, 0x64, 0x11, 0, 0, 42], &ppp_len, &protocol].concat(),
            Self::PppEther => [&[0x11, 0, 0, 42][..], &ppp_len, &protocol].concat(),
            Self::LinuxCooked => {
                let direction = if from_client { 0 } else { 4 };
                [&[0, direction, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &ether_type].concat()
            }
            Self::LinuxCooked2 => {
                let direction = if from_client { 0 } else { 4 };
                [&ether_type[..], &[0, 0, 0, 0, 0, 2, 0, 1, direction, 6, 2, 0, 0, 0, 0, 1, 0, 0]].concat()
            }
            Self::Raw(_) | Self::RawByFamily => Vec::new(),
            Self::Null => vec![if v6 { 30 } else { 2 }, 0, 0, 0],
            Self::Loop => vec![0, 0, 0, if v6 { 30 } else { 2 }],
            Self::Ppp | Self::PppHdlc => [&[0xff, 3][..], &protocol].concat(),
            Self::CiscoHdlc => [&[0x0f, 0][..], &ether_type].concat(),
            Self::Nflog => {
                // Family, version, group; a packet header and the payload, whose lengths are in the machine's byte order.
                let len = ((packet.len() + 4) as u16).to_le_bytes();
                let family = if v6 { 10 } else { 2 };
                [&[family, 0, 0, 7][..], &[8, 0, 1, 0, 0, 0, 1, 0], &len, &[9, 0]].concat()
            }
        };
        [&header[..], packet].concat()
    }
}
