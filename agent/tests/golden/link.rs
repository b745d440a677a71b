//! The same packets below other headers.

use serde_json::Value;

use crate::{
    account::assert_complete,
    file::{ETHERNET, Order, Pcap, Section},
    frame::Frame,
    outcome::{Outcome, replay},
    output::replay_recording,
    recording::Recording,
};

/// Puts headers in front of a packet, given both Ethernet addresses and the packet's type.
type Wrap = fn(&[u8], [u8; 2], &[u8]) -> Vec<u8>;

#[test]
fn every_link_type_gives_the_same_output() {
    let types: [(&str, u16, Wrap); 11] = [
        ("BSD loopback, little-endian", 0, |_, kind, ip| [&[family(kind), 0, 0, 0], ip].concat()),
        ("BSD loopback, big-endian", 0, |_, kind, ip| [&[0, 0, 0, family(kind)], ip].concat()),
        ("PPP", 9, |_, kind, ip| [&[0xff, 3], ppp(kind).as_slice(), ip].concat()),
        ("raw IP, as BSD has it", 12, |_, _, ip| ip.to_vec()),
        ("raw IP, as OpenBSD has it", 14, |_, _, ip| ip.to_vec()),
        ("raw IP", 101, |_, _, ip| ip.to_vec()),
        ("Cisco HDLC", 104, |_, kind, ip| [&[0x0f, 0], kind.as_slice(), ip].concat()),
        ("OpenBSD loopback", 108, |_, kind, ip| [&[0, 0, 0, family(kind)], ip].concat()),
        ("Linux cooked", 113, |macs, kind, ip| {
            [&[0, 0, 0, 1, 0, 6], &macs[6..], &[0, 0], kind.as_slice(), ip].concat()
        }),
        ("NFLOG", 239, |_, kind, ip| {
            let prefix = [5, 0, 10, 0, b'x', 0, 0, 0];
            let len = (ip.len() as u16 + 4).to_le_bytes();
            [&[if kind == V4 { 2 } else { 10 }, 0, 0, 0], prefix.as_slice(), &len, &[9, 0], ip].concat()
        }),
        ("Linux cooked, version 2", 276, |macs, kind, ip| {
            [kind.as_slice(), &[0, 0, 0, 0, 0, 3, 0, 1, 0, 6], &macs[6..], &[0, 0], ip].concat()
        }),
    ];
    for (name, link_type, wrap) in types {
        assert_same_but_vlan(&replay_wrapped(link_type, wrap), name, Value::Null);
    }
}

#[test]
fn tags_and_labels_are_looked_behind() {
    let inside: [(&str, Wrap, Option<u16>); 6] = [
        ("a VLAN tag", |macs, kind, ip| [macs, &[0x81, 0, 0x60, 42], &kind, ip].concat(), Some(42)),
        ("a priority tag without a VLAN", |macs, kind, ip| [macs, &[0x81, 0, 0xe0, 0], &kind, ip].concat(), Some(0)),
        (
            "two tags, the outer one IEEE 802.1ad",
            |macs, kind, ip| [macs, &[0x88, 0xa8, 0x0f, 0xfe, 0x81, 0, 0, 42], &kind, ip].concat(),
            Some(0xffe),
        ),
        (
            "two tags, the outer one of the old type",
            |macs, kind, ip| [macs, &[0x91, 0, 0, 7, 0x81, 0, 0, 8], &kind, ip].concat(),
            Some(7),
        ),
        ("two MPLS labels", |macs, _, ip| [macs, &[0x88, 0x47, 0, 1, 0x20, 64, 0, 1, 0x31, 64], ip].concat(), None),
        (
            "PPPoE",
            |macs, kind, ip| {
                let len = (ip.len() as u16 + 2).to_be_bytes();
                [macs, &[0x88, 0x64, 0x11, 0, 0, 1], &len, &ppp(kind), ip].concat()
            },
            None,
        ),
    ];
    for (name, wrap, vlan) in inside {
        assert_same_but_vlan(&replay_wrapped(ETHERNET, wrap), name, vlan.map_or(Value::Null, Value::from));
    }
}

#[test]
fn interfaces_of_one_file_may_have_different_link_types() {
    const IPV4: u16 = 228;
    const IPV6: u16 = 229;
    let recording = Recording::get();
    let mut section = Section::new(Order::Big, 9, &[ETHERNET, IPV4, IPV6]);
    for (number, frame) in recording.frames.iter().enumerate() {
        match (number % 3, frame.is_v4()) {
            (0, _) => section.frame(0, frame.at, &frame.bytes),
            (_, true) => section.frame(1, frame.at, frame.packet().1),
            (_, false) => section.frame(2, frame.at, frame.packet().1),
        }
    }
    assert_complete(&replay(&section.finish(), &[]), &recording.conversations);
}

#[test]
fn an_unsupported_link_type_is_named_and_exits_with_2() {
    let frames = &Recording::get().frames[..3];
    for (link_type, name) in [(127, "127 (IEEE802_11_RADIOTAP)"), (147, "147 (USER0)"), (9_999, "9999")] {
        let mut section = Section::new(Order::Little, 9, &[link_type]);
        section.frame(0, frames[0].at, &frames[0].bytes);
        for file in [Pcap { link_type, ..Pcap::PLAIN }.write(frames), section.finish()] {
            let outcome = replay(&file, &[]);
            let [line] = outcome.complaints()[..] else { panic!("{}", outcome.stderr) };
            assert!(line.ends_with(&format!("link type {name} is not supported")), "{line}");
            assert_eq!((outcome.status, outcome.closed.len(), outcome.files.len()), (2, 0, 0));
        }
    }
}

#[test]
fn frames_of_an_unsupported_link_type_among_others_are_left_out_and_exit_with_2() {
    let recording = Recording::get();
    let mut section = Section::new(Order::Little, 9, &[127, ETHERNET]);
    for frame in &recording.frames {
        section.frame(0, frame.at, &frame.bytes);
        section.frame(1, frame.at, &frame.bytes);
    }
    let outcome = replay(&section.finish(), &[]);
    let [line] = outcome.complaints()[..] else { panic!("{}", outcome.stderr) };
    let count = recording.frames.len();
    let why = format!("link type 127 (IEEE802_11_RADIOTAP) is not supported (frames left out: {count})");
    assert!(line.ends_with(&why), "{line}");
    assert_eq!(outcome.status, 2);
    let outcomes = [outcome, replay_recording(&[])].map(|outcome| outcome.files);
    assert_eq!(outcomes[0], outcomes[1]);
}

fn replay_wrapped(link_type: u16, wrap: Wrap) -> Outcome {
    let wrapped: Vec<_> = Recording::get()
        .frames
        .iter()
        .map(|frame| {
            let (kind, packet) = frame.packet();
            Frame { at: frame.at, bytes: wrap(&frame.bytes[..12], kind, packet) }
        })
        .collect();
    replay(&Pcap { link_type, ..Pcap::PLAIN }.write(&wrapped), &[])
}

fn assert_same_but_vlan(outcome: &Outcome, name: &str, vlan: Value) {
    assert_complete(outcome, &Recording::get().conversations);
    let mut expected = replay_recording(&[]);
    expected.closed.iter_mut().for_each(|record| record["vlan"] = vlan.clone());
    assert_eq!(outcome.essence(), expected.essence(), "{name}");
}

/// Address family as BSD numbers it; that of IPv6 as macOS does.
fn family(kind: [u8; 2]) -> u8 {
    if kind == V4 { 2 } else { 30 }
}

/// Protocol number of PPP.
fn ppp(kind: [u8; 2]) -> [u8; 2] {
    if kind == V4 { [0, 0x21] } else { [0, 0x57] }
}

const V4: [u8; 2] = [0x08, 0x00];
