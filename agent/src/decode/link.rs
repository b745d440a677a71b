//! What lies below IP, by link type.

use std::fmt;

use agent_common::{frame::LinkType, head::VLAN_ID};

use super::{Layer, Reject, Rest, layer::ether_type};

/// Whether frames of this link type can be decoded.
pub fn supported(link_type: LinkType) -> bool {
    Layer::first(link_type).is_some()
}

/// A link type for people: `127 (IEEE802_11_RADIOTAP)`.
#[derive(Clone, Copy, Debug)]
pub struct Name(pub LinkType);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.0;
        if let 147..=162 = number {
            return write!(f, "{number} (USER{})", number - 147);
        }
        match NAMES.binary_search_by_key(&number, |(number, _)| *number).ok().and_then(|i| NAMES.get(i)) {
            Some((_, name)) => write!(f, "{number} ({name})"),
            None => write!(f, "{number}"),
        }
    }
}

/// Removes everything below IP; also the outermost VLAN id, unless there is one outside of it.
#[inline(always)]
pub(super) fn strip<'a>(
    mut layer: Layer,
    mut rest: Rest<'a>,
    mut vlan: Option<u16>,
) -> Result<(Layer, Rest<'a>, Option<u16>), Reject> {
    for _ in 0..LAYERS_MAX {
        let (next, header_len) = match layer {
            Layer::Ethernet => (Layer::of_ether_type(rest.u16(12)?), 14),
            Layer::Vlan => {
                vlan = vlan.or(Some(rest.u16(0)? & VLAN_ID));
                (Layer::of_ether_type(rest.u16(2)?), 4)
            }
            // Version, length, one option with the security group tag; then the frame's own type.
            Layer::CiscoMetadata => (Layer::of_ether_type(rest.u16(6)?), 8),
            // SNAP in unnumbered information, with the OUI of RFC 1042 or of IEEE 802.1H.
            Layer::Llc => match rest.array(0)? {
                [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x00 | 0xf8, high, low] => {
                    (Layer::of_ether_type(u16::from_be_bytes([high, low])), 8)
                }
                _ => return Err(Reject::NotTcp),
            },
            Layer::Sll => (Layer::of_ether_type(rest.u16(14)?), 16),
            Layer::Sll2 => (Layer::of_ether_type(rest.u16(0)?), 20),
            Layer::CiscoHdlc => (Layer::of_ether_type(rest.u16(2)?), 4),
            Layer::Family => (Layer::family(rest.array(0)?).ok_or(Reject::NotTcp)?, 4),
            Layer::Nflog => {
                rest = nflog(rest)?;
                (Layer::Ip, 0)
            }
            Layer::Ppp => ppp(rest)?,
            // A code other than 0 belongs to discovery (RFC 2516 section 4).
            Layer::Pppoe => match rest.array(0)? {
                [0x11, 0x00] => (Layer::Ppp, 6),
                _ => return Err(Reject::NotTcp),
            },
            Layer::Mpls => {
                let [_, _, bottom, _] = rest.array(0)?;
                (if bottom & 1 == 0 { Layer::Mpls } else { Layer::MplsPayload }, 4)
            }
            // Nothing says what is inside: the first nibble tells IP from a pseudowire. It is 0 in a control word (RFC
            // 4385), but also in many an address of a pseudowire without one, where a type is at its place.
            Layer::MplsPayload => match rest.array(0)? {
                [0x40..0x50] => (Layer::Ipv4, 0),
                [0x60..0x70] => (Layer::Ipv6, 0),
                [0x00..0x10] if !ether_type::is_likely(rest.u16(12)?) => (Layer::Ethernet, 4),
                _ => (Layer::Ethernet, 0),
            },
            Layer::Ip => match rest.array(0)? {
                [0x40..0x50] => (Layer::Ipv4, 0),
                [0x60..0x70] => (Layer::Ipv6, 0),
                _ => return Err(Reject::Malformed),
            },
            Layer::Ipv4 | Layer::Ipv6 => return Ok((layer, rest, vlan)),
            _ => return Err(Reject::NotTcp),
        };
        layer = next;
        rest = rest.skip(header_len)?;
    }
    Err(Reject::Malformed)
}

/// The protocol field is one octet when it is odd (RFC 1661 section 6.5); address and control may be left out. Some
/// routers say PPP and mean Cisco's HDLC, whose two addresses are no PPP protocol.
fn ppp(rest: Rest<'_>) -> Result<(Layer, usize), Reject> {
    if let [0x0f | 0x8f, 0x00, ..] = rest.bytes {
        return Ok((Layer::CiscoHdlc, 0));
    }
    let start = if rest.bytes.starts_with(&[0xff, 0x03]) { 2 } else { 0 };
    let [first] = rest.array(start)?;
    let (protocol, len) = if first & 1 == 1 { (u16::from(first), 1) } else { (rest.u16(start)?, 2) };
    let layer = match protocol {
        0x0021 => Layer::Ipv4,
        0x0057 => Layer::Ipv6,
        0x0281 | 0x0283 => Layer::Mpls,
        _ => return Err(Reject::NotTcp),
    };
    Ok((layer, start + len))
}

/// Finds the packet among the attributes. Their length and type are in the byte order of the machine that captured; no
/// type is above 255, so the octet that is zero tells which.
fn nflog(rest: Rest<'_>) -> Result<Rest<'_>, Reject> {
    const PAYLOAD: u16 = 9;
    let mut rest = rest.skip(4)?;
    loop {
        let [l0, l1, t0, t1] = rest.array(0)?;
        let (len, kind) = if t0 == 0 {
            (u16::from_be_bytes([l0, l1]), u16::from(t1))
        } else {
            (u16::from_le_bytes([l0, l1]), u16::from_le_bytes([t0, t1]))
        };
        let len = usize::from(len);
        if len < 4 {
            return Err(Reject::Malformed);
        }
        if kind == PAYLOAD {
            return rest.truncate(len).skip(4);
        }
        rest = rest.skip(len.next_multiple_of(4))?;
    }
}

/// Most layers below IP. Of real ones a dozen are rare; a frame of nothing but tags ends here.
const LAYERS_MAX: usize = 32;

/// The names of the pcap registry (tcpdump.org/linktypes.html), without `LINKTYPE_`; in order.
const NAMES: [(u16, &str); 69] = [
    (0, "NULL"),
    (1, "ETHERNET"),
    (3, "AX25"),
    (6, "IEEE802_5"),
    (7, "ARCNET_BSD"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (99, "SYMANTEC_FIREWALL"),
    (100, "ATM_RFC1483"),
    (101, "RAW"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (106, "ATM_CLIP"),
    (107, "FRELAY"),
    (108, "LOOP"),
    (109, "ENC"),
    (113, "LINUX_SLL"),
    (114, "LTALK"),
    (117, "PFLOG"),
    (119, "IEEE802_11_PRISM"),
    (122, "IP_OVER_FC"),
    (123, "SUNATM"),
    (127, "IEEE802_11_RADIOTAP"),
    (129, "ARCNET_LINUX"),
    (132, "JUNIPER_ES"),
    (135, "JUNIPER_ATM2"),
    (137, "JUNIPER_ATM1"),
    (138, "APPLE_IP_OVER_IEEE1394"),
    (139, "MTP2_WITH_PHDR"),
    (140, "MTP2"),
    (141, "MTP3"),
    (143, "DOCSIS"),
    (144, "LINUX_IRDA"),
    (163, "IEEE802_11_AVS"),
    (164, "JUNIPER_MONITOR"),
    (166, "PPP_PPPD"),
    (178, "JUNIPER_ETHER"),
    (182, "MFR"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (192, "PPI"),
    (195, "IEEE802_15_4_WITHFCS"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (220, "USB_LINUX_MMAPPED"),
    (227, "CAN_SOCKETCAN"),
    (228, "IPV4"),
    (229, "IPV6"),
    (230, "IEEE802_15_4_NOFCS"),
    (231, "DBUS"),
    (239, "NFLOG"),
    (240, "NETANALYZER"),
    (247, "INFINIBAND"),
    (249, "USBPCAP"),
    (251, "BLUETOOTH_LE_LL"),
    (252, "WIRESHARK_UPPER_PDU"),
    (253, "NETLINK"),
    (255, "BLUETOOTH_BREDR_BB"),
    (258, "PKTAP"),
    (259, "EPON"),
    (272, "NORDIC_BLE"),
    (276, "LINUX_SLL2"),
    (278, "OPENVIZSLA"),
    (281, "DSA_TAG_BRCM"),
    (282, "DSA_TAG_BRCM_PREPEND"),
    (284, "DSA_TAG_DSA"),
    (285, "DSA_TAG_EDSA"),
];
