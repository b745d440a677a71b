mod checksums;
mod fragments;
mod tunnels;

use agent_common::frame::LinkType;
use etherparse::{LinkExtSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};

use super::*;
use crate::segment::{Flags, SeqNum};

const CLIENT: [u8; 4] = [10, 9, 0, 1];
const SERVER: [u8; 4] = [10, 9, 0, 2];
const CLIENT6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SERVER6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const PAYLOAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A TCP header without checksum, then `payload`. `options` must be a multiple of four octets long.
fn tcp(flags: Flags, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let offset = (5 + options.len() / 4) as u8;
    let mut segment = Vec::new();
    segment.extend(51_244_u16.to_be_bytes());
    segment.extend(8_080_u16.to_be_bytes());
    segment.extend(0xffff_fff0_u32.to_be_bytes());
    segment.extend(77_u32.to_be_bytes());
    segment.extend([offset << 4, flags.0, 0x20, 0x00, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let [l0, l1] = len.to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    [&[0x45, 0, l0, l1, 0, 0, f0, f1, 64, protocol, 0, 0][..], &CLIENT, &SERVER, payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, l0, l1, next, 64][..], &CLIENT6, &SERVER6, payload].concat()
}

fn plain4() -> Vec<u8> {
    ipv4(6, 0x4000, &tcp(Flags::ACK, &[], PAYLOAD))
}

fn plain6() -> Vec<u8> {
    ipv6(6, &tcp(Flags::ACK, &[], PAYLOAD))
}

/// Addresses, then `ether_type` and what follows it.
fn ethernet(ether_type: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], ether_type, rest].concat()
}

fn frame(link_type: LinkType, bytes: &[u8]) -> Frame<'_> {
    Frame {
        timestamp: Timestamp(1_700_000_000_123_456_789),
        len: bytes.len() as u32,
        bytes,
        link_type,
        origin: Origin { interface: 3, ..Origin::default() },
        flow: None,
    }
}

fn decoder() -> Decoder {
    Decoder::new(Config::default())
}

/// Decodes one of the packets above behind `link`.
#[track_caller]
fn check_link(link_type: LinkType, header: &[u8], packet: &[u8], vlan: Option<u16>) {
    let bytes = [header, packet].concat();
    let mut decoder = decoder();
    let decoded = decoder.decode(&frame(link_type, &bytes)).expect("a segment");
    let segment = decoded.segment;
    let (src, dst) = if packet[0] >> 4 == 4 {
        (Endpoint::v4(CLIENT, 51_244), Endpoint::v4(SERVER, 8_080))
    } else {
        (Endpoint::new(CLIENT6.into(), 51_244), Endpoint::new(SERVER6.into(), 8_080))
    };
    assert_eq!((segment.src, segment.dst), (src, dst));
    assert_eq!((segment.seq, segment.ack), (SeqNum(0xffff_fff0), SeqNum(77)));
    assert_eq!((segment.flags, segment.window, segment.window_scale), (Flags::ACK, 0x2000, None));
    assert_eq!((segment.payload, segment.missing, decoded.badlen), (PAYLOAD, 0, false));
    assert_eq!(segment.timestamp, Timestamp(1_700_000_000_123_456_789));
    assert_eq!(segment.origin, Origin { interface: 3, vlan, ..Origin::default() });
}

#[test]
fn link_types() {
    let sll = |ether_type: [u8; 2]| [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &ether_type].concat();
    let sll2 = |ether_type: [u8; 2]| [&ether_type[..], &[0; 18]].concat();
    let nflog_le = [2, 0, 0, 5, 8, 0, 1, 0, 8, 0, 0, 0, 5, 0, 10, 0, 0, 0, 0, 0, 62, 0, 9, 0];
    let nflog_be = [2, 0, 0, 5, 0, 8, 0, 1, 8, 0, 0, 0, 0, 5, 0, 10, 0, 0, 0, 0, 0, 62, 0, 9];
    let v4: [(u16, &[u8]); 22] = [
        (0, &[2, 0, 0, 0]),
        (0, &[0, 0, 0, 2]),
        (1, &ethernet(&[0x08, 0x00], &[])),
        (9, &[0xff, 0x03, 0x00, 0x21]),
        (9, &[0xff, 0x03, 0x21]),
        (9, &[0x00, 0x21]),
        (9, &[0x21]),
        (9, &[0x0f, 0x00, 0x08, 0x00]),
        (12, &[]),
        (14, &[]),
        (50, &[0xff, 0x03, 0x00, 0x21]),
        (51, &[0x11, 0, 0, 7, 0, 60, 0x00, 0x21]),
        (101, &[]),
        (104, &[0x0f, 0x00, 0x08, 0x00]),
        (104, &[0x8f, 0x00, 0x08, 0x00]),
        (108, &[0, 0, 0, 2]),
        (113, &sll([0x08, 0x00])),
        (228, &[]),
        (239, &nflog_le),
        (239, &nflog_be),
        (276, &sll2([0x08, 0x00])),
        (1, &ethernet(&[0, 66, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00], &[])),
    ];
    for (link_type, header) in v4 {
        check_link(LinkType(link_type), header, &plain4(), None);
    }
    let v6: [(u16, &[u8]); 17] = [
        (0, &[10, 0, 0, 0]),
        (0, &[24, 0, 0, 0]),
        (0, &[0, 0, 0, 28]),
        (0, &[30, 0, 0, 0]),
        (1, &ethernet(&[0x86, 0xdd], &[])),
        (9, &[0xff, 0x03, 0x00, 0x57]),
        (9, &[0x57]),
        (12, &[]),
        (14, &[]),
        (51, &[0x11, 0, 0, 7, 0, 80, 0x00, 0x57]),
        (101, &[]),
        (104, &[0x0f, 0x00, 0x86, 0xdd]),
        (108, &[0, 0, 0, 24]),
        (113, &sll([0x86, 0xdd])),
        (229, &[]),
        (276, &sll2([0x86, 0xdd])),
        (1, &ethernet(&[0, 86, 0xaa, 0xaa, 3, 0, 0, 0xf8, 0x86, 0xdd], &[])),
    ];
    for (link_type, header) in v6 {
        check_link(LinkType(link_type), header, &plain6(), None);
    }
    let met: Vec<u16> =
        (0..=u16::MAX).filter(|&number| v4.iter().chain(&v6).any(|(link_type, _)| *link_type == number)).collect();
    let supported: Vec<u16> = (0..=u16::MAX).filter(|&number| supported(LinkType(number))).collect();
    assert_eq!(supported, met);
}

#[test]
fn vlans_and_other_layers() {
    let cases: [(&[u8], Option<u16>); 14] = [
        (&[0x81, 0x00, 0x00, 0x2a, 0x08, 0x00], Some(42)),
        // Priority 7 and drop eligible are not part of the id.
        (&[0x81, 0x00, 0xf0, 0x2a, 0x08, 0x00], Some(42)),
        (&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x2a, 0x08, 0x00], Some(7)),
        (&[0x91, 0x00, 0x00, 0x08, 0x91, 0x00, 0x00, 0x09, 0x81, 0x00, 0x00, 0x2a, 0x08, 0x00], Some(8)),
        (&[0x81, 0x00, 0x00, 0x2a, 0x00, 0x42, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00], Some(42)),
        (&[0x89, 0x09, 1, 1, 0, 1, 0, 9, 0x08, 0x00], None),
        (&[0x81, 0x00, 0x00, 0x2a, 0x89, 0x09, 1, 1, 0, 1, 0, 9, 0x08, 0x00], Some(42)),
        (&[0x88, 0x64, 0x11, 0, 0, 7, 0, 60, 0x00, 0x21], None),
        (&[0x81, 0x00, 0x00, 0x2a, 0x88, 0x64, 0x11, 0, 0, 7, 0, 60, 0x21], Some(42)),
        (&[0x88, 0x47, 0, 1, 0x01, 64], None),
        (&[0x88, 0x48, 0, 1, 0x00, 64, 0, 2, 0x00, 64, 0, 3, 0x01, 64], None),
        // Pseudowires, with a control word and without.
        (&[0x88, 0x47, 0, 1, 0x01, 64, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00], None),
        (&[0x88, 0x47, 0, 1, 0x01, 64, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0x00, 0, 5, 0x08, 0x00], Some(5)),
        (&[0x88, 0x64, 0x11, 0, 0, 7, 0, 64, 0x02, 0x81, 0, 1, 0x01, 64], None),
    ];
    for (layers, vlan) in cases {
        check_link(LinkType::ETHERNET, &ethernet(layers, &[]), &plain4(), vlan);
    }
    let bytes = ethernet(&[0x81, 0x00, 0x00, 0x2a, 0x08, 0x00], &plain4());
    let mut taken_out = frame(LinkType::ETHERNET, &bytes);
    taken_out.origin.vlan = Some(7);
    let outermost = decoder().decode(&taken_out).expect("a segment").segment.origin.vlan;
    assert_eq!(outermost, Some(7), "the tag that the kernel had taken out was outside");

    let tags = ethernet(&[0x81, 0x00, 0x00, 0x2a].repeat(1000), &[]);
    assert_eq!(decoder().decode(&frame(LinkType::ETHERNET, &tags)).unwrap_err(), Reject::Malformed);
}

#[track_caller]
fn check_reject(bytes: &[u8], reject: Reject) {
    let ether_type: [u8; 2] = if bytes[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let bytes = ethernet(&ether_type, bytes);
    assert_eq!(decoder().decode(&frame(LinkType::ETHERNET, &bytes)).unwrap_err(), reject);
}

#[test]
fn not_tcp() {
    check_reject(&ipv4(17, 0, &[0; 8]), Reject::NotTcp);
    check_reject(&ipv4(4, 0, &plain4()), Reject::NotTcp);
    check_reject(&ipv6(58, &[0; 8]), Reject::NotTcp);
    check_reject(&ipv6(59, &[]), Reject::NotTcp);
    check_reject(&ipv6(0, &[17, 0, 1, 4, 0, 0, 0, 0]), Reject::NotTcp);
    for bytes in [
        ethernet(&[0x08, 0x06], &[0; 28]),
        ethernet(&[0x88, 0x63], &[0; 28]),
        ethernet(&[0x88, 0x64, 0x11, 0xa7], &[0; 28]),
        ethernet(&[0x88, 0x64, 0x11, 0x00, 0, 1, 0, 9, 0xc0, 0x21], &[0; 28]),
        ethernet(&[0x00, 0x26, 0x42, 0x42, 0x03], &[0; 35]),
        ethernet(&[0x00, 0x26, 0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00], &[0; 35]),
    ] {
        assert_eq!(decoder().decode(&frame(LinkType::ETHERNET, &bytes)).unwrap_err(), Reject::NotTcp);
    }
    assert_eq!(decoder().decode(&frame(LinkType::NULL, &[7, 0, 0, 0, 0x45])).unwrap_err(), Reject::NotTcp);
    assert_eq!(decoder().decode(&frame(LinkType(127), &plain4())).unwrap_err(), Reject::NotTcp);
}

#[test]
fn fragments_and_what_is_none() {
    let segment = tcp(Flags::ACK, &[], PAYLOAD);
    // IPv4: don't fragment and the reserved bit do not make one; more fragments, or an offset, do.
    for whole in [0x0000, 0x4000, 0x8000] {
        check_link(LinkType::RAW, &[], &ipv4(6, whole, &segment), None);
    }
    let aligned = &segment[..32];
    for part in [0x2000, 0x2001, 0x0001, 0x1f00] {
        check_reject(&ipv4(6, part, aligned), Reject::Fragment);
        check_reject(&ipv4(51, part, aligned), Reject::Fragment);
        check_reject(&ipv4(17, part, aligned), Reject::NotTcp);
    }
    let header = |next: u8, field: u16| [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9]].concat();
    check_link(LinkType::RAW, &[], &ipv6(44, &[header(6, 0), segment.clone()].concat()), None);
    for part in [0x0001, 0x0008, 0x0009, 0xf000] {
        check_reject(&ipv6(44, &[&header(6, part), aligned].concat()), Reject::Fragment);
        // Destination options: TCP may come behind them.
        check_reject(&ipv6(44, &[&header(60, part), aligned].concat()), Reject::Fragment);
        check_reject(&ipv6(44, &[&header(17, part), aligned].concat()), Reject::NotTcp);
    }
}

#[test]
fn extension_headers() {
    let segment = tcp(Flags::ACK, &[], PAYLOAD);
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let routing = |next: u8| [&[next, 2, 0, 1, 0, 0, 0, 0][..], &[9; 16]].concat();
    let auth = |next: u8| [&[next, 4, 0, 0][..], &[7; 20]].concat();
    for (first, headers) in [
        (0, options(6).to_vec()),
        (60, options(6).to_vec()),
        (43, routing(6)),
        (135, options(6).to_vec()),
        (139, options(6).to_vec()),
        (140, options(6).to_vec()),
        (51, auth(6)),
        (0, [&options(60)[..], &options(43), &routing(51), &auth(60), &options(6)].concat()),
    ] {
        let packet = ipv6(first, &[headers.clone(), segment.clone()].concat());
        check_link(LinkType::RAW, &[], &packet, None);
        for end in 40..40 + headers.len() {
            let cut = Frame { len: packet.len() as u32, ..frame(LinkType::RAW, &packet[..end]) };
            assert_eq!(decoder().decode(&cut).unwrap_err(), Reject::Malformed, "cut in the headers");
        }
    }
    check_link(LinkType::RAW, &[], &ipv4(51, 0, &[auth(6), segment].concat()), None);
}

/// Behind a longer chain than it follows the kernel sees no ports, and takes the addresses alone.
#[test]
fn chains_that_the_kernel_does_not_follow() {
    use agent_common::head::{Parsed, parse};
    for count in 1..=12 {
        let options = (1..=count).flat_map(|number| [if number < count { 60 } else { 6 }, 0, 1, 4, 0, 0, 0, 0]);
        let content: Vec<u8> = options.chain(tcp(Flags::ACK, &[], PAYLOAD)).collect();
        let packet = ipv6(60, &content);
        let Parsed::Tcp(head) = parse(&packet[..], LinkType::RAW) else { panic!("{count}: not matched") };
        let mut decoder = decoder();
        let decoded = decoder.decode(&frame(LinkType::RAW, &packet)).expect("a segment");
        assert_eq!(decoded.unwrapped, head.fragment, "{count}");
        let ends = |head: &agent_common::head::Head| (head.src, head.dst, head.src_port, head.dst_port);
        assert_eq!(ends(&decoded.segment.head()) == ends(&head), !head.fragment, "{count}");
    }
}

#[test]
fn ipv4_options() {
    let segment = tcp(Flags::ACK, &[], PAYLOAD);
    let mut packet = ipv4(6, 0, &[&[1, 1, 1, 0][..], &segment].concat());
    packet[0] = 0x46;
    check_link(LinkType::RAW, &[], &packet, None);
    packet[0] = 0x44;
    check_reject(&packet, Reject::Malformed);
}

/// The payload's length, what is missing of it, and `badlen`; of a raw IP packet of which `len` octets were on the wire.
#[track_caller]
fn check_len(packet: &[u8], len: usize, expected: Result<(usize, u32, bool), Reject>) {
    let frame = Frame { len: len as u32, ..frame(LinkType::RAW, packet) };
    let actual = decoder().decode(&frame).map(|d| (d.segment.payload.len(), d.segment.missing, d.badlen));
    assert_eq!(actual, expected);
}

#[test]
fn lengths() {
    const LEN: usize = PAYLOAD.len();
    let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let segment = tcp(Flags::ACK, &options, PAYLOAD);
    for (packet, ip_len) in [(ipv4(6, 0, &segment), 20), (ipv6(6, &segment), 40)] {
        let whole = packet.len();
        check_len(&packet, whole, Ok((LEN, 0, false)));
        // A length on the wire below what was captured is nonsense.
        check_len(&packet, 0, Ok((LEN, 0, false)));

        // Padding, whole or cut.
        let padded = [&packet[..], &[0xee; 9]].concat();
        check_len(&padded, padded.len(), Ok((LEN, 0, false)));
        check_len(&packet, padded.len(), Ok((LEN, 0, false)));

        // The snaplen cuts the payload, then the options, then what a segment needs.
        for end in 0..whole {
            let cut = &packet[..end];
            let expected = match end.checked_sub(ip_len) {
                Some(tcp) if tcp >= 32 => Ok((tcp - 32, (LEN + 32 - tcp) as u32, false)),
                Some(16..) => Ok((0, LEN as u32, false)),
                _ => Err(Reject::Malformed),
            };
            check_len(cut, whole, expected);
            check_len(cut, whole + 9, expected);
            // The same, and the header lies: there was no more.
            let lie = match end.checked_sub(ip_len) {
                Some(tcp) if tcp >= 16 => Ok((tcp.saturating_sub(32), 0, true)),
                _ => Err(Reject::Malformed),
            };
            check_len(cut, end, lie);
        }

        // Offload leaves the length to the hardware: the length on the wire.
        let mut offloaded = packet.clone();
        let field = if ip_len == 20 { 2..4 } else { 4..6 };
        offloaded[field.clone()].fill(0);
        check_len(&offloaded, whole, Ok((LEN, 0, false)));
        check_len(&offloaded, whole + 100_000, Ok((LEN, 100_000, false)));
        check_len(&offloaded[..whole - 4], whole, Ok((LEN - 4, 4, false)));
        // No frame is that long: only what is there is believed.
        check_len(&offloaded, 600_000, Ok((LEN, 0, true)));
        check_len(&offloaded, u32::MAX as usize, Ok((LEN, 0, true)));

        // Too short for the headers that follow.
        let mut short = packet.clone();
        for len in 1..=50_u16 {
            short[field.clone()].copy_from_slice(&len.to_be_bytes());
            let rest = usize::from(len).checked_sub(if ip_len == 20 { 52 } else { 32 });
            let expected = rest.map(|rest| (rest, 0, false)).ok_or(Reject::Malformed);
            check_len(&short, whole, expected);
        }

        // A data offset inside the fixed header, or beyond the packet.
        for words in 0..16 {
            let mut lying = packet.clone();
            lying[ip_len + 12] = words << 4;
            let expected = match usize::from(words) * 4 {
                ..20 => Err(Reject::Malformed),
                len => segment.len().checked_sub(len).map(|rest| (rest, 0, false)).ok_or(Reject::Malformed),
            };
            check_len(&lying, whole, expected);
        }
    }
    // A jumbogram: more than 64 KiB, said in an option of the hop-by-hop header.
    let payload = vec![0x5a; 100_000];
    let mut jumbo = ipv6(0, &[&[6, 0, 0xc2, 4, 0, 1, 0x86, 0xbc][..], &tcp(Flags::ACK, &[], &payload)].concat());
    jumbo[4..6].fill(0);
    check_len(&jumbo, jumbo.len(), Ok((100_000, 0, false)));
}

#[test]
fn options_of_a_syn() {
    let cases: [(&[u8], Option<u8>, Option<u16>); 15] = [
        (&[], None, None),
        (&[3, 3, 7, 1], Some(7), None),
        (&[3, 3, 0, 1], Some(0), None),
        // RFC 7323 section 2.3.
        (&[3, 3, 15, 1], Some(14), None),
        (&[2, 4, 5, 180, 1, 3, 3, 8], Some(8), Some(1_460)),
        (&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 9], Some(9), Some(1_460)),
        // Fast Open, then Multipath TCP, then an option nobody knows.
        (&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 30, 4, 0, 1, 253, 3, 0, 3, 3, 6, 2, 4, 2, 24], Some(6), Some(536)),
        // Of two the first counts; of the wrong length none does.
        (&[3, 3, 1, 3, 3, 2, 2, 4, 0, 1, 2, 4, 0, 2, 1, 1], Some(1), Some(1)),
        (&[2, 3, 9, 2, 4, 0, 0, 1], None, Some(0)),
        (&[0, 3, 3, 7], None, None),
        (&[3, 2, 3, 3], None, None),
        (&[3, 4, 7, 1], None, None),
        (&[253, 0, 3, 3, 7, 1, 1, 1], None, None),
        (&[253, 40, 3, 3, 7, 1, 1, 1], None, None),
        (&[1, 1, 3, 3], None, None),
    ];
    for (options, scale, mss) in cases {
        for (flags, expected) in [
            (Flags::SYN, (scale, mss)),
            (Flags::SYN | Flags::ACK, (scale, mss)),
            (Flags::ACK, (None, None)),
            (Flags::FIN, (None, None)),
        ] {
            let packet = ipv4(6, 0, &tcp(flags, options, &[3, 3, 3, 3]));
            let mut decoder = decoder();
            let segment = decoder.decode(&frame(LinkType::RAW, &packet)).expect("a segment").segment;
            assert_eq!(((segment.window_scale, segment.mss), segment.flags), (expected, flags), "{options:?}");
            assert_eq!(segment.payload, [3, 3, 3, 3]);
        }
    }
}

#[test]
fn identification() {
    let mut packet = plain4();
    packet[4..6].copy_from_slice(&[0xbe, 0xef]);
    assert_eq!(decoder().decode(&frame(LinkType::RAW, &packet)).expect("a segment").segment.ip_id, Some(0xbeef));
    assert_eq!(decoder().decode(&frame(LinkType::RAW, &plain6())).expect("a segment").segment.ip_id, None);
}

#[test]
fn names() {
    for (number, name) in
        [(1, "1 (ETHERNET)"), (127, "127 (IEEE802_11_RADIOTAP)"), (149, "149 (USER2)"), (9_999, "9999")]
    {
        assert_eq!(Name(LinkType(number)).to_string(), name);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn octets<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// An Ethernet frame as etherparse builds it, and what must come out of it.
fn build(random: &mut Random) -> (Vec<u8>, Built) {
    let vlan = [None, None, Some(random.below(0x1000) as u16)][random.below(3)];
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (src_port, dst_port) = (random.next() as u16, random.next() as u16);
    let (seq, ack, window) = (random.next() as u32, random.next() as u32, random.next() as u16);
    let syn = random.below(2) == 0;
    let shift = [None, Some(random.below(15) as u8)][random.below(2)];
    let payload: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
    let mut options = vec![TcpOptionElement::MaximumSegmentSize(1_460), TcpOptionElement::Noop];
    options.extend(shift.map(TcpOptionElement::WindowScale));
    options.push(TcpOptionElement::Timestamp(1, 2));
    let (src, dst, ip) = if random.below(2) == 0 {
        let (src, dst) = (random.octets::<4>(), random.octets::<4>());
        let header = match vlan {
            Some(id) => link.single_vlan(id.try_into().unwrap()).ipv4(src, dst, 64),
            None => link.ipv4(src, dst, 64),
        };
        (Endpoint::v4(src, src_port), Endpoint::v4(dst, dst_port), header)
    } else {
        // Not 2000::/3 alone, but never ::ffff:0:0/96, which would print as IPv4.
        let (mut src, mut dst) = (random.octets::<16>(), random.octets::<16>());
        (src[0], dst[0]) = (0xfd, 0xfd);
        let header = match vlan {
            Some(id) => link.single_vlan(id.try_into().unwrap()).ipv6(src, dst, 64),
            None => link.ipv6(src, dst, 64),
        };
        (Endpoint::new(src.into(), src_port), Endpoint::new(dst.into(), dst_port), header)
    };
    let mut tcp = ip.tcp(src_port, dst_port, seq, window).ack(ack).options(&options).unwrap();
    if syn {
        tcp = tcp.syn();
    }
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, &payload).unwrap();
    (bytes, Built { src, dst, seq, ack, window, shift: shift.filter(|_| syn), vlan, payload })
}

struct Built {
    src: Endpoint,
    dst: Endpoint,
    seq: u32,
    ack: u32,
    window: u16,
    shift: Option<u8>,
    vlan: Option<u16>,
    payload: Vec<u8>,
}

/// Intact frames decode to what etherparse was told to build. Mutated ones never panic, stay inside the frame, and where
/// etherparse's strict parser finds a TCP segment, it is the same one.
#[test]
fn mutated_frames() {
    const SEED: u64 = 0x005e_edf0_0dca_fe01;
    let mut random = Random(SEED);
    let (mut agreed, mut rejected) = (0_u32, 0_u32);
    let mut decoder = decoder();
    for round in 0..20_000 {
        let (bytes, built) = build(&mut random);
        let decoded = decoder.decode(&frame(LinkType::ETHERNET, &bytes)).expect("an intact frame");
        let segment = decoded.segment;
        assert_eq!((segment.src, segment.dst), (built.src, built.dst), "seed {SEED:#x} round {round}");
        assert_eq!((segment.seq, segment.ack), (SeqNum(built.seq), SeqNum(built.ack)));
        assert_eq!((segment.window, segment.window_scale), (built.window, built.shift));
        assert_eq!((segment.payload, segment.missing, decoded.badlen), (&built.payload[..], 0, false));
        assert_eq!(segment.origin.vlan, built.vlan);

        for _ in 0..100 {
            let mut mutated = bytes.clone();
            for _ in 0..=random.below(3) {
                // Headers are what matters: most hits go there.
                let reach = if random.below(8) == 0 { mutated.len() } else { 80.min(mutated.len()) };
                let at = random.below(reach);
                mutated[at] = [0, 1, 6, 0x45, 0x60, 0x81, 0xff, random.next() as u8][random.below(8)];
            }
            if random.below(4) == 0 {
                mutated.truncate(random.below(mutated.len() + 1));
            }
            let len = match random.below(16) {
                0 => random.next() as u32,
                1 => bytes.len() as u32,
                _ => mutated.len() as u32,
            };
            let link_type = if random.below(8) == 0 { LinkType(random.below(300) as u16) } else { LinkType::ETHERNET };
            let frame = Frame { len, ..frame(link_type, &mutated) };
            let decoded = decoder.decode(&frame);
            match decoded {
                Ok(decoded) => {
                    let segment = decoded.segment;
                    let wire = mutated.len().max(len as usize);
                    assert!(segment.payload.len() + segment.missing as usize <= wire, "seed {SEED:#x} round {round}");
                }
                Err(_) => rejected += 1,
            }
            if link_type == LinkType::ETHERNET
                && len as usize <= mutated.len()
                && let Ok(SlicedPacket { transport: Some(TransportSlice::Tcp(tcp)), link_exts, .. }) =
                    SlicedPacket::from_ethernet(&mutated)
                // etherparse looks into MACsec, which is not a layer here.
                && link_exts.iter().all(|layer| matches!(layer, LinkExtSlice::Vlan(_)))
            {
                let segment = decoded.expect("etherparse finds TCP").segment;
                assert_eq!((segment.src.port, segment.dst.port), (tcp.source_port(), tcp.destination_port()));
                assert_eq!(
                    (segment.seq, segment.ack),
                    (SeqNum(tcp.sequence_number()), SeqNum(tcp.acknowledgment_number()))
                );
                assert_eq!(segment.payload, tcp.payload(), "seed {SEED:#x} round {round}: {mutated:02x?}");
                agreed += 1;
            }
        }
    }
    assert!(agreed > 500_000 && rejected > 100_000, "{agreed} {rejected}");
}
