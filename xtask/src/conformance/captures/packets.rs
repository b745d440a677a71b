//! Rows 19, 20, 22 and 29: what stands around a segment, and how much of it there is.

use std::{ops::Range, slice};

use super::{Capture, Conversation, Side::*, begun, chat, open};
use crate::conformance::{
    link::Link,
    segment::{Checksum, IpLen},
    tunnel::Tunnel,
};

pub(super) fn captures() -> Vec<Capture> {
    let mut captures = vec![
        Capture::new("19", "wrong, and nobody asked", checksum(Conversation::new(), Checksum::Wrong)),
        Capture::new("19", "a wrong copy before the right one, and asked for", corrupted(Conversation::new()))
            .flags(&["--verify-checksum"]),
        Capture::new("19", "the same over IPv6", corrupted(Conversation::v6())).flags(&["--verify-checksum"]),
        Capture::new("19", "left to the network card", checksum(Conversation::new(), Checksum::Partial))
            .flags(&["--verify-checksum"]),
        Capture::new(
            "19",
            "cut off, so that nobody can know",
            open(|it| {
                it.client(0..100);
                it.client(100..1000).cut(50);
                it.client(1000..1100);
                it.ack(Server);
                it.close();
            }),
        )
        .flags(&["--verify-checksum"])
        .cause("snaplen"),
        Capture::new("20", "padding of zeros", short(Conversation::new())).padding(0),
        Capture::new("20", "padding of something else", short(Conversation::new())).padding(0x55),
        Capture::new("20", "padding over a tag", short(Conversation::new()))
            .padding(0)
            .link(Link::Tagged(&[(0x8100, 42)])),
        Capture::new("20", "four octets behind every frame", chat(Conversation::new())).trailer(4),
        Capture::new("20", "four octets behind every frame, over IPv6", chat(Conversation::v6())).trailer(4),
        Capture::new("20", "an IPv4 length of 0, segments of 3,000 octets", offloaded(Conversation::new(), 3000)),
        Capture::new("20", "an IPv4 length of 0, segments of 200,000 octets", offloaded(Conversation::new(), 200_000)),
        Capture::new("20", "an IPv6 length of 0, segments of 200,000 octets", offloaded(Conversation::v6(), 200_000)),
        Capture::new(
            "20",
            "an IP length of more than there is",
            open(|it| {
                it.client(0..100);
                it.client(100..200).ip_len(IpLen::Beyond(40));
                it.client(200..300);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "20",
            "cut off",
            open(|it| {
                for n in 0..10 {
                    it.client(n * 1000..n * 1000 + 1000).cut(40);
                    it.ack(Server);
                }
                it.client(10_000..10_010);
                it.ack(Server);
                it.close();
            }),
        )
        .cause("snaplen"),
        Capture::new(
            "20",
            "cut off, and the rest is sent again",
            open(|it| {
                it.client(0..1000).cut(400);
                it.client(1000..1100);
                it.client(400..1000);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "20",
            "cut off at the end",
            open(|it| {
                it.client(0..100);
                it.client(100..200).cut(40);
                it.ack(Server);
                it.close();
                it.trailing(Client, 60, "snaplen");
            }),
        ),
        Capture::new("29", "three milliseconds later", chat(Conversation::new())).mirrored(3),
        Capture::new("29", "at once", chat(Conversation::new())).mirrored(0),
        Capture::new("29", "over IPv6, nine milliseconds later", chat(Conversation::v6())).mirrored(9),
    ];
    for (number, version) in [Conversation::new, Conversation::v6].into_iter().enumerate() {
        let name = |names: [&'static str; 2]| names[number];
        captures.extend([
            Capture::new(
                "22",
                name(["IPv4, in order", "IPv6, in order"]),
                fragmented(version(), &[0..80, 80..160, 160..usize::MAX]),
            ),
            Capture::new(
                "22",
                name(["IPv4, backwards", "IPv6, backwards"]),
                fragmented(version(), &[160..usize::MAX, 80..160, 0..80]),
            ),
            Capture::new(
                "22",
                name(["IPv4, the header in pieces", "IPv6, the header in pieces"]),
                fragmented(version(), &[8..16, 0..8, 16..usize::MAX]),
            ),
            Capture::new(
                "22",
                name(["IPv4, one of them twice", "IPv6, one of them twice"]),
                fragmented(version(), &[0..80, 80..160, 80..160, 160..usize::MAX]),
            ),
            Capture::new(
                "22",
                name([
                    "IPv4, one is missing, and the segment is sent again",
                    "IPv6, one is missing, and the segment is sent again",
                ]),
                begun(version(), |it| {
                    it.client(0..100);
                    it.client(100..300).fragment(0..80).fragment(160..usize::MAX).void();
                    it.client(300..400);
                    it.client(100..300);
                    it.ack(Server);
                    it.close();
                }),
            ),
            Capture::new(
                "22",
                name([
                    "IPv4, overlapped by a forged one, and the segment is sent again",
                    "IPv6, overlapped by a forged one, and the segment is sent again",
                ]),
                begun(version(), |it| {
                    it.client(0..100);
                    let forged = it.client(100..300).fragment(0..80).forged_fragment(72..152);
                    forged.fragment(80..160).fragment(160..usize::MAX).void();
                    it.client(300..400);
                    it.wait_seconds(1);
                    it.client(100..300);
                    it.ack(Server);
                    it.close();
                }),
            ),
        ]);
    }
    captures.push(Capture::new(
        "22",
        "IPv6, whole behind a fragment header",
        fragmented(Conversation::v6(), slice::from_ref(&(0..usize::MAX))),
    ));
    captures.push(
        Capture::new("22", "the outer packets of a tunnel", chat(Conversation::new()))
            .tunnels(&[Tunnel::GreFragmented]),
    );
    captures
}

fn checksum(conversation: Conversation, checksum: Checksum) -> Conversation {
    begun(conversation, |it| {
        for n in 0..5 {
            it.client(n * 100..n * 100 + 100).checksum(checksum);
        }
        it.ack(Server);
        it.close();
    })
}

fn corrupted(conversation: Conversation) -> Conversation {
    begun(conversation, |it| {
        it.client(0..100);
        it.client(100..200).forged().checksum(Checksum::Wrong);
        it.client(100..200);
        it.client(200..300);
        it.ack(Server);
        it.close();
    })
}

fn short(conversation: Conversation) -> Conversation {
    begun(conversation, |it| {
        it.client(0..3);
        it.ack(Server);
        it.server(0..1);
        it.server(1..4);
        it.client(3..5);
        it.close();
    })
}

fn offloaded(conversation: Conversation, len: u64) -> Conversation {
    begun(conversation, |it| {
        it.client(0..100);
        for n in 0..3 {
            it.server(n * len..n * len + len).ip_len(IpLen::Zero);
        }
        it.ack(Client);
        it.close();
    })
}

/// Either side sends a segment in parts.
fn fragmented(conversation: Conversation, ranges: &[Range<usize>]) -> Conversation {
    begun(conversation, |it| {
        it.client(0..100);
        for side in [Client, Server] {
            let segment = if side == Client { it.client(100..300) } else { it.server(0..200) };
            for range in ranges {
                segment.fragment(range.clone());
            }
        }
        it.client(300..400);
        it.close();
    })
}
