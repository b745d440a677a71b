//! Checksums that are right, wrong, or nobody's to judge.

use super::*;

/// One's complement sum of 16-bit words (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let octets = parts.concat();
    let mut sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into())).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Both versions of a packet whose checksum is what `field` makes of the sums of pseudo-header, of that without a length,
/// and of everything.
fn packets(payload: &[u8], field: impl Fn(u16, u16, u16) -> u16) -> [Vec<u8>; 2] {
    let mut segment = tcp(Flags::ACK, &[], payload);
    let len = (segment.len() as u16).to_be_bytes();
    let mut summed = |addresses: &[u8]| {
        segment[16..18].fill(0);
        let (pseudo, without) = (sum(&[addresses, &[0, 6], &len]), sum(&[addresses, &[0, 6]]));
        let whole = sum(&[addresses, &[0, 6], &len, &segment]);
        segment[16..18].copy_from_slice(&field(pseudo, without, whole).to_be_bytes());
        segment.clone()
    };
    let v4 = summed(&[CLIENT, SERVER].concat());
    let v6 = summed(&[CLIENT6, SERVER6].concat());
    [ipv4(6, 0x4000, &v4), ipv6(6, &v6)]
}

fn right(_: u16, _: u16, whole: u16) -> u16 {
    !whole
}

fn wrong(_: u16, _: u16, whole: u16) -> u16 {
    !whole ^ 0x0100
}

#[track_caller]
fn check(frame: &Frame<'_>, expected: bool) {
    let config = Config { verify_checksum: true, tunnels: Tunnels::ALL, ..Config::default() };
    let decoded = Decoder::new(config).decode(frame).expect("a segment").bad_checksum;
    assert_eq!(decoded, expected);
    let unasked = Config { verify_checksum: false, ..config };
    assert!(!Decoder::new(unasked).decode(frame).expect("a segment").bad_checksum);
}

#[test]
fn row_19_right_and_wrong() {
    for payload in [&[][..], b"x", b"xy", PAYLOAD, &[0xff; 1_001]] {
        for packet in packets(payload, right) {
            check(&frame(LinkType::RAW, &packet), false);
            // Each octet counts, but for those of the IP header that may change on the way.
            let addresses = if packet[0] >> 4 == 4 { 12 } else { 8 };
            for at in addresses..packet.len() {
                let mut damaged = packet.clone();
                damaged[at] ^= 0x40;
                // Another data offset is another payload, or no segment.
                let tcp = if packet[0] >> 4 == 4 { 20 } else { 40 };
                if at != tcp + 12 {
                    check(&frame(LinkType::RAW, &damaged), true);
                }
            }
        }
        for packet in packets(payload, wrong) {
            check(&frame(LinkType::RAW, &packet), true);
            // Padding is none of it.
            check(&frame(LinkType::RAW, &[&packet[..], &[7; 5]].concat()), true);
        }
    }
}

#[test]
fn row_19_what_cannot_be_known() {
    for packet in packets(PAYLOAD, wrong) {
        let frame = frame(LinkType::RAW, &packet);
        check(&frame, true);
        // Cut by the snaplen; cut on the wire, which is what a length that lies looks like; marked by the kernel.
        check(&Frame { bytes: &packet[..packet.len() - 1], ..frame }, false);
        check(&Frame { bytes: &packet[..packet.len() - 1], len: packet.len() as u32 - 1, ..frame }, false);
        check(&Frame { origin: Origin { checksum_partial: true, ..frame.origin }, ..frame }, false);
        // The length is left to the hardware.
        let mut offloaded = packet.clone();
        let field = if packet[0] >> 4 == 4 { 2..4 } else { 4..6 };
        offloaded[field].fill(0);
        check(&Frame { bytes: &offloaded, ..frame }, false);
    }
    // So is the rest of the sum, with a length or without, in either form of zero.
    for partial in [|pseudo, _, _| pseudo, |_, without, _| without] as [fn(u16, u16, u16) -> u16; 2] {
        for packet in packets(PAYLOAD, partial) {
            check(&frame(LinkType::RAW, &packet), false);
        }
    }
    // Headers that say that the addresses were others.
    let [v4, v6] = packets(PAYLOAD, wrong);
    let with = |header: &[u8], first: u8| ipv6(first, &[header, &v6[40..]].concat());
    let routing = |left: u8| with(&[&[6, 2, 0, left, 0, 0, 0, 0][..], &[9; 16]].concat(), 43);
    check(&frame(LinkType::RAW, &routing(1)), false);
    check(&frame(LinkType::RAW, &routing(0)), true);
    let home = with(&[&[6, 2, 1, 2, 0, 0, 0xc9, 16][..], &[9; 16]].concat(), 60);
    check(&frame(LinkType::RAW, &home), false);
    check(&frame(LinkType::RAW, &with(&[6, 0, 1, 4, 0, 0, 0, 0], 60)), true);
    for (option, expected) in [(131, false), (137, false), (7, true)] {
        let mut routed = ipv4(6, 0, &[&[option, 7, 4, 10, 0, 0, 9, 0][..], &v4[20..]].concat());
        routed[0] = 0x47;
        check(&frame(LinkType::RAW, &routed), expected);
    }
}

#[test]
fn row_19_in_tunnels_and_fragments() {
    for (kind, expected) in [(right as fn(u16, u16, u16) -> u16, false), (wrong, true)] {
        let [v4, v6] = packets(PAYLOAD, kind);
        check(&frame(LinkType::RAW, &ipv4(4, 0, &v4)), expected);
        check(&frame(LinkType::RAW, &ipv4(41, 0, &v6)), expected);
        let mut decoder = Decoder::new(Config { verify_checksum: true, ..Config::default() });
        let segment = &v4[20..];
        assert!(decoder.decode(&frame(LinkType::RAW, &ipv4(6, 0x2000, &segment[..24]))).is_err());
        let last = ipv4(6, 3, &segment[24..]);
        assert_eq!(decoder.decode(&frame(LinkType::RAW, &last)).expect("a segment").bad_checksum, expected);
    }
}
