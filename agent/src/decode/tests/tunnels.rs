//! One packet in every tunnel, and what only looks like one.

use super::*;

/// All tunnels are looked into.
fn decoder() -> Decoder {
    Decoder::new(Config { tunnels: Tunnels::ALL, ..Config::default() })
}

/// The ends of the tunnels; those inside are [`CLIENT`] and [`SERVER`].
const OUTER: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 2]);

fn outer4(protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(protocol, 0, content);
    packet[12..16].copy_from_slice(&OUTER.0);
    packet[16..20].copy_from_slice(&OUTER.1);
    packet
}

fn outer6(next: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = ipv6(next, content);
    packet[8..10].copy_from_slice(&[0x20, 0x01]);
    packet[24..26].copy_from_slice(&[0x20, 0x01]);
    packet
}

fn udp(src: u16, dst: u16, content: &[u8]) -> Vec<u8> {
    let len = (8 + content.len() as u16).to_be_bytes();
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &len, &[0, 0], content].concat()
}

/// An inner frame, whose addresses do not begin like IP.
fn inner(ether_type: &[u8], packet: &[u8]) -> Vec<u8> {
    ethernet(ether_type, packet)
}

const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];

/// A tunnel by its name; how a packet of a version gets into it, as the payload of an IP protocol.
type Case = (&'static str, Tunnels, u8, Vec<u8>);

fn concat(header: &[u8], content: &[u8]) -> Vec<u8> {
    [header, content].concat()
}

fn cases(packet: &[u8]) -> Vec<Case> {
    let v4 = packet[0] >> 4 == 4;
    let kind = if v4 { IPV4 } else { IPV6 };
    let ppp: &[u8] = if v4 { &[0x00, 0x21] } else { &[0x00, 0x57] };
    let (service, frame) = (if v4 { 1 } else { 2 }, inner(kind, packet));
    let tagged = inner(&concat(&[0x81, 0x00, 0x00, 0x05], kind), packet);
    let gre = |flags: [u8; 2], kind: &[u8], rest: &[u8], content: &[u8]| [&flags[..], kind, rest, content].concat();
    let over_udp = |port: u16, header: &[u8], content: &[u8]| udp(40_000, port, &concat(header, content));
    let mut cases: Vec<Case> = vec![
        ("VXLAN", Tunnels::VXLAN, 17, over_udp(4_789, &[8, 0, 0, 0, 0, 0, 5, 0], &frame)),
        ("VXLAN on Linux's port", Tunnels::VXLAN, 17, over_udp(8_472, &[8, 0, 0, 0, 0, 0, 5, 0], &frame)),
        ("VXLAN with a group policy", Tunnels::VXLAN, 17, over_udp(4_789, &[0x88, 0, 0, 9, 0, 0, 5, 0], &frame)),
        ("VXLAN, a tag inside", Tunnels::VXLAN, 17, over_udp(4_789, &[8, 0, 0, 0, 0, 0, 5, 0], &tagged)),
        ("VXLAN, back", Tunnels::VXLAN, 17, udp(4_789, 40_000, &concat(&[8, 0, 0, 0, 0, 0, 5, 0], &frame))),
        ("VXLAN-GPE, IP", Tunnels::VXLAN_GPE, 17, over_udp(4_790, &[0x0c, 0, 0, service, 0, 0, 5, 0], packet)),
        ("VXLAN-GPE, Ethernet", Tunnels::VXLAN_GPE, 17, over_udp(4_790, &[0x0c, 0, 0, 3, 0, 0, 5, 0], &frame)),
        ("VXLAN-GPE without P", Tunnels::VXLAN_GPE, 17, over_udp(4_790, &[8, 0, 0, 0, 0, 0, 5, 0], &frame)),
        (
            "VXLAN-GPE, NSH",
            Tunnels::VXLAN_GPE,
            17,
            over_udp(4_790, &[12, 0, 0, 4, 0, 0, 5, 0, 0x0f, 0xc2, 2, service, 0, 0, 1, 255], packet),
        ),
        (
            "VXLAN-GPE, NSH with four words of context",
            Tunnels::VXLAN_GPE,
            17,
            over_udp(4_790, &[&[12, 0, 0, 4, 0, 0, 5, 0, 0x0f, 0xc6, 1, 3][..], &[7; 20]].concat(), &frame),
        ),
        ("Geneve", Tunnels::GENEVE, 17, over_udp(6_081, &[0, 0, 0x65, 0x58, 0, 0, 5, 0], &frame)),
        (
            "Geneve with options",
            Tunnels::GENEVE,
            17,
            over_udp(6_081, &[2, 0x40, 0x65, 0x58, 0, 0, 5, 0, 1, 2, 0x80, 1, 9, 9, 9, 9], &frame),
        ),
        ("Geneve, IP", Tunnels::GENEVE, 17, over_udp(6_081, &[&[0, 0], kind, &[0, 0, 5, 0]].concat(), packet)),
        ("GRE", Tunnels::GRE, 47, gre([0, 0], kind, &[], packet)),
        ("GRE in UDP", Tunnels::GRE, 17, over_udp(4_754, &concat(&[0, 0], kind), packet)),
        ("GRE with a key", Tunnels::GRE, 47, gre([0x20, 0], kind, &[0, 0, 0, 7], packet)),
        ("GRE with a checksum", Tunnels::GRE, 47, gre([0x80, 0], kind, &[1, 2, 0, 0], packet)),
        ("GRE with all three", Tunnels::GRE, 47, gre([0xb0, 0], kind, &[1; 12], packet)),
        (
            "GRE with routing",
            Tunnels::GRE,
            47,
            gre([0x50, 0], kind, &[0, 0, 0, 0, 0, 0, 0, 9, 8, 0, 0, 4, 1, 2, 3, 4, 0, 0, 0, 0], packet),
        ),
        ("GRE, Ethernet", Tunnels::GRE, 47, gre([0, 0], &[0x65, 0x58], &[], &frame)),
        ("NVGRE", Tunnels::GRE, 47, gre([0x20, 0], &[0x65, 0x58], &[0, 0, 5, 1], &tagged)),
        ("GRE, MPLS", Tunnels::GRE, 47, gre([0, 0], &[0x88, 0x47], &[0, 1, 1, 64], packet)),
        ("GRE, PPP", Tunnels::GRE, 47, gre([0, 0], &[0x88, 0x0b], &concat(&[0xff, 3], ppp), packet)),
        ("GRE, NSH", Tunnels::GRE, 47, gre([0, 0], &[0x89, 0x4f], &[0x0f, 0xc2, 2, service, 0, 0, 1, 255], packet)),
        ("GRE, VLAN", Tunnels::GRE, 47, gre([0, 0], &[0x81, 0], &concat(&[0, 5], kind), packet)),
        ("WCCP version 2", Tunnels::GRE, 47, gre([0, 0], &[0x88, 0x3e], &[0, 1, 2, 3], packet)),
        ("ERSPAN I", Tunnels::GRE, 47, gre([0, 0], &[0x88, 0xbe], &[], &frame)),
        (
            "ERSPAN II",
            Tunnels::GRE,
            47,
            gre([0x10, 0], &[0x88, 0xbe], &[0, 0, 0, 1, 0x10, 5, 0, 1, 0, 0, 0, 2], &frame),
        ),
        (
            "ERSPAN III",
            Tunnels::GRE,
            47,
            gre([0x10, 0], &[0x22, 0xeb], &[0, 0, 0, 1, 0x20, 5, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0], &frame),
        ),
        (
            "ERSPAN III with a subheader",
            Tunnels::GRE,
            47,
            gre([0x10, 0], &[0x22, 0xeb], &[&[0, 0, 0, 1, 0x20][..], &[0; 10], &[1], &[0; 8]].concat(), &frame),
        ),
        (
            "ERSPAN III, IP",
            Tunnels::GRE,
            47,
            gre([0x10, 0], &[0x22, 0xeb], &[0, 0, 0, 1, 0x20, 5, 0, 1, 0, 0, 0, 2, 0, 0, 0x08, 0], packet),
        ),
        ("PPTP", Tunnels::GRE, 47, {
            let [l0, l1] = (packet.len() as u16 + 2).to_be_bytes();
            gre([0x30, 0x01], &[0x88, 0x0b], &[&[l0, l1, 0, 7, 0, 0, 0, 1], ppp].concat(), packet)
        }),
        ("PPTP with an acknowledgment", Tunnels::GRE, 47, {
            let [l0, l1] = (packet.len() as u16 + 3).to_be_bytes();
            let rest = [&[l0, l1, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0x03], &ppp[1..]].concat();
            gre([0x30, 0x81], &[0x88, 0x0b], &rest, packet)
        }),
        ("L2TP", Tunnels::L2TP, 17, over_udp(1_701, &concat(&[0, 2, 0, 7, 0, 9, 0xff, 3], ppp), packet)),
        ("L2TP, PPP compressed", Tunnels::L2TP, 17, over_udp(1_701, &concat(&[0, 2, 0, 7, 0, 9], &ppp[1..]), packet)),
        ("L2TP with a length", Tunnels::L2TP, 17, {
            let [l0, l1] = (packet.len() as u16 + 10).to_be_bytes();
            over_udp(1_701, &concat(&[0x40, 2, l0, l1, 0, 7, 0, 9], ppp), packet)
        }),
        ("L2TP with all there is", Tunnels::L2TP, 17, {
            let [l0, l1] = (packet.len() as u16 + 19).to_be_bytes();
            let header = [0x4b, 2, l0, l1, 0, 7, 0, 9, 0, 1, 0, 2, 0, 3, 9, 9, 9];
            over_udp(1_701, &concat(&header, ppp), packet)
        }),
        ("GTP", Tunnels::GTP, 17, over_udp(2_152, &gtp(0x30, &[], packet), packet)),
        ("GTP with a sequence number", Tunnels::GTP, 17, over_udp(2_152, &gtp(0x32, &[0, 1, 0, 0], packet), packet)),
        (
            "GTP with extensions",
            Tunnels::GTP,
            17,
            over_udp(2_152, &gtp(0x36, &[0, 1, 0, 0x85, 1, 0, 5, 0xc0, 2, 0, 0, 0, 0, 0, 0, 0], packet), packet),
        ),
        ("GTP, sequence number and no extension", Tunnels::GTP, 17, {
            // A type of extension is there, and the flag says that it means nothing.
            over_udp(2_152, &gtp(0x32, &[0, 1, 0, 0x85], packet), packet)
        }),
        ("EtherIP", Tunnels::ETHERIP, 97, concat(&[0x30, 0], &frame)),
        ("MPLS in IP", Tunnels::MPLS, 137, concat(&[0, 1, 1, 64], packet)),
        ("MPLS in UDP", Tunnels::MPLS, 17, over_udp(6_635, &[0, 1, 0, 64, 0, 2, 1, 64], packet)),
    ];
    if v4 {
        cases.push(("IP in IP", Tunnels::IPIP, 4, packet.to_vec()));
        cases.push(("WCCP version 1", Tunnels::GRE, 47, gre([0, 0], &[0x88, 0x3e], &[], packet)));
    } else {
        cases.push(("6in4", Tunnels::SIX_IN_4, 41, packet.to_vec()));
    }
    cases
}

/// A GTP-U header with its optional part.
fn gtp(flags: u8, rest: &[u8], packet: &[u8]) -> Vec<u8> {
    let [l0, l1] = ((rest.len() + packet.len()) as u16).to_be_bytes();
    [&[flags, 255, l0, l1, 0, 0, 0, 9], rest].concat()
}

/// The segment of one of the packets that every test sends.
#[track_caller]
fn check(decoder: &mut Decoder, name: &str, packet: &[u8], v4: bool, vlan: Option<u16>) {
    let decoded = match decoder.decode(&frame(LinkType::RAW, packet)) {
        Ok(decoded) => decoded,
        Err(reject) => panic!("{name}: {reject:?}"),
    };
    let client = if v4 { Endpoint::v4(CLIENT, 51_244) } else { Endpoint::new(CLIENT6.into(), 51_244) };
    assert_eq!((decoded.segment.src, decoded.segment.payload), (client, PAYLOAD), "{name}");
    assert_eq!((decoded.segment.missing, decoded.badlen, decoded.unwrapped), (0, false, true), "{name}");
    assert_eq!(decoded.segment.origin.vlan, vlan, "{name}");
}

#[test]
fn every_tunnel_over_both_versions() {
    let mut met = Tunnels::NONE;
    for inside in [plain4(), plain6()] {
        let v4 = inside[0] >> 4 == 4;
        for (name, tunnel, protocol, content) in cases(&inside) {
            met = met | tunnel;
            let vlan = (name.contains("tag") || name.contains("VLAN") || name == "NVGRE").then_some(5);
            for packet in [outer4(protocol, &content), outer6(protocol, &content)] {
                check(&mut decoder(), name, &packet, v4, vlan);
                // Padding outside is none of what is inside.
                check(&mut decoder(), name, &concat(&packet, &[0xee; 7]), v4, vlan);
                // No other tunnel finds it, and this one needs no other.
                let frame = frame(LinkType::RAW, &packet);
                let others = Config { tunnels: Tunnels(Tunnels::ALL.0 & !tunnel.0), ..Config::default() };
                assert_eq!(Decoder::new(others).decode(&frame).unwrap_err(), Reject::NotTcp, "{name}");
                let alone = Config { tunnels: tunnel, ..Config::default() };
                check(&mut Decoder::new(alone), name, &packet, v4, vlan);
            }
        }
    }
    // Teredo's addresses are not those of the others, and has its own test.
    assert_eq!(met | Tunnels::TEREDO, Tunnels::ALL);
}

#[test]
fn teredo() {
    let mut inside = plain6();
    inside[24..28].copy_from_slice(&[0x20, 0x01, 0, 0]);
    let authentication = [&[0, 1, 2, 3, 1, 2, 4, 5, 6][..], &[9; 9]].concat();
    let origin = [0, 0, 0x12, 0x34, 0xf0, 0xff, 0xfe, 0xfd];
    for header in [vec![], origin.to_vec(), authentication.clone(), concat(&authentication, &origin)] {
        for (src, dst) in [(40_000, 3_544), (3_544, 40_000)] {
            let packet = outer4(17, &udp(src, dst, &concat(&header, &inside)));
            check(&mut decoder(), "Teredo", &packet, false, None);
        }
    }
    // Without a Teredo address it is something else.
    let packet = outer4(17, &udp(40_000, 3_544, &plain6()));
    assert_eq!(decoder().decode(&frame(LinkType::RAW, &packet)).unwrap_err(), Reject::NotTcp);
}

/// Nothing says how long the cookie is; an intact IP header does.
#[test]
fn l2tp_version_3() {
    for inside in [plain4(), plain6()] {
        let v4 = inside[0] >> 4 == 4;
        let mut inside = inside;
        if v4 {
            let sum = etherparse::Ipv4HeaderSlice::from_slice(&inside).unwrap().to_header().calc_header_checksum();
            inside[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let kind = if v4 { IPV4 } else { IPV6 };
        let frame_inside = inner(kind, &inside);
        let tagged = inner(&concat(&[0x81, 0x00, 0x00, 0x05], kind), &inside);
        for between in [&[][..], &[1, 2, 3, 4], &[1, 2, 3, 4, 5, 6, 7, 8], &[9; 12]] {
            for (content, vlan) in [(&frame_inside, None), (&tagged, Some(5))] {
                let session = [&[0, 0, 0, 7], between, content].concat();
                check(&mut decoder(), "L2TPv3 over IP", &outer4(115, &session), v4, vlan);
                let over_udp = udp(1_701, 1_701, &concat(&[0, 3, 0, 0], &session));
                check(&mut decoder(), "L2TPv3 over UDP", &outer6(17, &over_udp), v4, vlan);
            }
        }
        // A header that is not intact proves nothing; session 0 is the control connection.
        let mut damaged = concat(&[0, 0, 0, 7], &frame_inside);
        let at = if v4 { 4 + 14 + 10 } else { 4 + 14 + 5 };
        damaged[at] ^= 1;
        let control = concat(&[0, 0, 0, 0], &frame_inside);
        for content in [damaged, control] {
            let packet = outer4(115, &content);
            assert_eq!(decoder().decode(&frame(LinkType::RAW, &packet)).unwrap_err(), Reject::NotTcp);
        }
    }
}

/// Datagrams of other protocols on a tunnel's port, and messages of the tunnels that carry no packet.
#[test]
fn what_is_no_tunnel() {
    let packet = plain4();
    let frame_inside = inner(IPV4, &packet);
    let over_udp = |port: u16, header: &[u8], content: &[u8]| outer4(17, &udp(40_000, port, &concat(header, content)));
    let over_gre = |header: &[u8], content: &[u8]| outer4(47, &concat(header, content));
    for not_a_tunnel in [
        outer4(17, &udp(40_000, 53, &frame_inside)),
        over_udp(4_789, &[0, 0, 0, 0, 0, 0, 5, 0], &frame_inside),
        over_udp(4_789, &[8, 0, 0, 0, 0, 0, 5, 1], &frame_inside),
        over_udp(4_790, &[0x3c, 0, 0, 1, 0, 0, 5, 0], &packet),
        over_udp(4_790, &[0x0c, 0, 0, 9, 0, 0, 5, 0], &packet),
        // Another version, a control packet, something in what is reserved.
        over_udp(6_081, &[0x40, 0, 0x65, 0x58, 0, 0, 5, 0], &frame_inside),
        over_udp(6_081, &[0, 0x80, 0x65, 0x58, 0, 0, 5, 0], &frame_inside),
        over_udp(6_081, &[0, 1, 0x65, 0x58, 0, 0, 5, 0], &frame_inside),
        over_udp(6_081, &[0, 0, 0x65, 0x58, 0, 0, 5, 1], &frame_inside),
        // Version 1 of something else than PPP, version 2, an unknown type.
        over_gre(&[0x30, 1, 8, 0, 0, 0, 0, 7, 0, 0, 0, 1], &packet),
        over_gre(&[0x20, 1, 0x88, 0x0b, 0, 0, 0, 7], &[]),
        over_gre(&[0, 2, 8, 0], &packet),
        over_gre(&[0, 0, 0x12, 0x34], &packet),
        over_gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x30, 0, 0, 0, 0, 0, 0, 0], &frame_inside),
        // A control message; version 1; bits that are reserved; control protocols inside.
        over_udp(1_701, &[0xc8, 2, 0, 12, 0, 7, 0, 9, 0, 1, 0, 2], &[]),
        over_udp(1_701, &[0, 1, 0, 7, 0, 9, 0xff, 3, 0, 0x21], &packet),
        over_udp(1_701, &[0x10, 2, 0, 7, 0, 9, 0xff, 3, 0, 0x21], &packet),
        over_udp(1_701, &[0, 2, 0, 7, 0, 9, 0xff, 3, 0xc0, 0x21], &packet),
        // An echo request, GTP', version 2, a length beyond the datagram, and what is no IP.
        over_udp(2_152, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0], &[]),
        over_udp(2_152, &concat(&[0x20], &gtp(0x30, &[], &packet)[1..]), &packet),
        over_udp(2_152, &concat(&[0x50], &gtp(0x30, &[], &packet)[1..]), &packet),
        over_udp(2_152, &gtp(0x30, &[0; 9], &packet)[..8], &packet),
        over_udp(2_152, &gtp(0x30, &[], &frame_inside), &frame_inside),
        outer4(97, &concat(&[0x40, 0], &frame_inside)),
    ] {
        let decoded = decoder().decode(&frame(LinkType::RAW, &not_a_tunnel)).map(|decoded| decoded.badlen);
        assert_eq!(decoded, Err(Reject::NotTcp), "{not_a_tunnel:02x?}");
    }
}

#[test]
fn tunnels_in_tunnels() {
    let (v4, v6) = (plain4(), plain6());
    let mut cases: Vec<_> = cases(&v4).into_iter().map(|case| (true, case)).collect();
    cases.extend(self::cases(&v6).into_iter().map(|case| (false, case)));
    for (is_v4, (name, _, protocol, content)) in &cases {
        let once = outer4(*protocol, content);
        for (outside, _, protocol, content) in self::cases(&once) {
            let twice = outer6(protocol, &content);
            let decoded = decoder().decode(&frame(LinkType::RAW, &twice)).map(|decoded| decoded.segment.src);
            let client = if *is_v4 { Endpoint::v4(CLIENT, 51_244) } else { Endpoint::new(CLIENT6.into(), 51_244) };
            assert_eq!(decoded, Ok(client), "{name} in {outside}");
        }
    }
    // Some are bounded by nothing but the frame.
    let mut nested = plain4();
    for _ in 0..100 {
        nested = outer4(4, &nested);
    }
    assert_eq!(decoder().decode(&frame(LinkType::RAW, &nested)).unwrap_err(), Reject::Malformed);
}

/// The tag outside is the outermost, and a tag that the kernel had taken out is outside of that.
#[test]
fn the_outermost_tag_counts() {
    let tagged = inner(&[0x81, 0, 0, 5, 0x08, 0x00], &plain4());
    let content = udp(40_000, 4_789, &concat(&[8, 0, 0, 0, 0, 0, 5, 0], &tagged));
    let bytes = ethernet(&[0x81, 0, 0, 9, 0x08, 0x00], &outer4(17, &content));
    let mut frame = frame(LinkType::ETHERNET, &bytes);
    assert_eq!(decoder().decode(&frame).expect("a segment").segment.origin.vlan, Some(9));
    frame.origin.vlan = Some(2);
    assert_eq!(decoder().decode(&frame).expect("a segment").segment.origin.vlan, Some(2));
}

/// What is inside has lengths of its own, and is cut and padded like what is outside.
#[test]
fn lengths_inside() {
    let vxlan = |frame: &[u8]| outer4(17, &udp(40_000, 4_789, &concat(&[8, 0, 0, 0, 0, 0, 5, 0], frame)));
    let check = |packet: &[u8], wire: usize, expected: (usize, u32, bool)| {
        let mut decoder = decoder();
        let decoded = decoder.decode(&Frame { len: wire as u32, ..frame(LinkType::RAW, packet) }).expect("a segment");
        assert_eq!((decoded.segment.payload.len(), decoded.segment.missing, decoded.badlen), expected);
    };
    let len = PAYLOAD.len();
    for (plain, field) in [(plain4(), 2..4), (plain6(), 4..6)] {
        let kind = if plain[0] >> 4 == 4 { IPV4 } else { IPV6 };
        let padded = vxlan(&inner(kind, &concat(&plain, &[0; 11])));
        check(&padded, padded.len(), (len, 0, false));
        let packet = vxlan(&inner(kind, &plain));
        check(&packet[..packet.len() - 5], packet.len(), (len - 5, 5, false));
        check(&packet[..packet.len() - 5], packet.len() + 20, (len - 5, 5, false));
        // The header inside claims more than there is, or the one outside does.
        let mut lying = plain.clone();
        lying[field.start] = 9;
        let packet = vxlan(&inner(kind, &lying));
        check(&packet, packet.len(), (len, 0, true));
        let packet = vxlan(&inner(kind, &plain));
        check(&packet[..packet.len() - 3], packet.len() - 3, (len - 3, 0, true));
        // The length of UDP ends it as well.
        let mut short = packet.clone();
        let udp_len = u16::from_be_bytes([short[24], short[25]]) - 4;
        short[24..26].copy_from_slice(&udp_len.to_be_bytes());
        check(&short, short.len(), (len - 4, 0, true));
        // Offload leaves the lengths to the hardware.
        let mut offloaded = plain.clone();
        offloaded[field.clone()].fill(0);
        let mut packet = vxlan(&inner(kind, &offloaded));
        packet[2..4].fill(0);
        packet[24..26].fill(0);
        check(&packet, packet.len(), (len, 0, false));
    }
}

/// The ends of a tunnel cut what does not fit, and who is inside may have done so before.
#[test]
fn row_22_fragments_outside_and_inside() {
    let pieces = |content: &[u8], id: u8, protocol: u8| -> Vec<Vec<u8>> {
        let cut = content.len() / 2 / 8 * 8;
        let mut first = ipv4(protocol, 0x2000, &content[..cut]);
        let mut second = ipv4(protocol, (cut / 8) as u16, &content[cut..]);
        (first[5], second[5]) = (id, id);
        vec![first, second]
    };
    let segment = tcp(Flags::ACK, &[], PAYLOAD);
    let vxlan = |packet: &[u8]| udp(40_000, 4_789, &concat(&[8, 0, 0, 0, 0, 0, 5, 0], &inner(IPV4, packet)));
    let mut decoder = decoder();
    let mut number = 0;
    let outside: Vec<_> = pieces(&segment, 1, 6)
        .iter()
        .flat_map(|inside| {
            number += 1;
            pieces(&vxlan(inside), 10 + number, 17)
        })
        .collect();
    for held in &outside[..3] {
        assert_eq!(decoder.decode(&frame(LinkType::RAW, held)).unwrap_err(), Reject::Fragment);
    }
    check(&mut decoder, "fragments in fragments", &outside[3], true, None);
    assert_eq!(decoder.stats(), crate::decode::fragments::Stats { joined: 3, ..Default::default() });

    // Without tunnels a part of a datagram of UDP is nothing to wait for.
    let reject = super::decoder().decode(&frame(LinkType::RAW, &outside[0])).unwrap_err();
    assert_eq!(reject, Reject::NotTcp);
}
