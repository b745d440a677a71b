//! Rows 1 to 5: where the octets of a stream belong.

use super::{Capture, Conversation, Side::*, begun, open};

pub(super) fn captures() -> Vec<Capture> {
    let mut captures = vec![
        Capture::new(
            "1",
            "one segment after the other",
            open(|it| {
                for n in 0..20 {
                    it.client(n * 100..n * 100 + 100);
                }
                it.ack(Server);
                it.server(0..1400);
                it.close();
            }),
        ),
        Capture::new(
            "1",
            "questions and answers",
            open(|it| {
                for n in 0..20 {
                    it.client(n * 10..n * 10 + 10);
                    it.server(n * 1000..n * 1000 + 1000);
                }
                it.close();
            }),
        ),
        Capture::new(
            "1",
            "over IPv6",
            begun(Conversation::v6(), |it| {
                it.client(0..100);
                it.server(0..1400);
                it.close();
            }),
        ),
        Capture::new(
            "1",
            "octet by octet",
            open(|it| {
                for n in 0..50 {
                    it.client(n..n + 1);
                    it.ack(Server);
                }
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "an ISN of 0xffffffff",
            begun(Conversation::new().isns(u32::MAX, u32::MAX), |it| {
                it.client(0..100);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "an ISN of 0xffffffff, and what follows it out of order",
            begun(Conversation::new().isns(u32::MAX, u32::MAX - 1), |it| {
                it.client(10..20);
                it.client(0..10);
                it.server(10..20);
                it.server(0..10);
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "a wrap between two segments",
            begun(wrapping(), |it| {
                it.client(0..99);
                it.client(99..200);
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "a wrap within a segment that is sent again",
            begun(wrapping(), |it| {
                it.client(0..50);
                it.client(50..150);
                it.client(50..150);
                it.client(150..200);
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "a retransmission from before the wrap that extends behind it",
            begun(wrapping(), |it| {
                it.client(0..80);
                it.client(80..95);
                it.client(80..130);
                it.client(130..200);
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "a hole over the wrap that is filled",
            begun(wrapping(), |it| {
                it.client(0..50);
                it.client(150..200);
                it.client(200..300);
                it.client(50..150);
                it.close();
            }),
        ),
        Capture::new(
            "2",
            "a hole over the wrap that stays",
            begun(wrapping(), |it| {
                it.client(0..50);
                it.unseen(Client, 50..150);
                it.client(150..300);
                it.ack(Server);
                it.wait_seconds(5);
                it.client(300..400);
                it.close();
            }),
        )
        .cause("not-captured"),
        Capture::new("2", "a stream of more than 4 GiB", more_than_4_gib()).flags(&["--gaps", "skip"]).cause("snaplen"),
        Capture::new(
            "3",
            "two segments swapped",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.client(100..200);
                it.server(100..200);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "3",
            "backwards",
            open(|it| {
                for n in (0..20).rev() {
                    it.client(n * 100..n * 100 + 100);
                }
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "3",
            "every other segment first",
            open(|it| {
                for n in (1..20).step_by(2).chain((0..20).step_by(2)) {
                    it.server(n * 1000..n * 1000 + 1000);
                }
                it.close();
            }),
        ),
        Capture::new(
            "3",
            "the SYN behind the first data",
            open(|it| {
                it.client(0..100);
                it.server(0..100);
                it.close();
                it.segment(0).late(4);
            }),
        ),
        Capture::new(
            "3",
            "the SYN-ACK before the SYN",
            open(|it| {
                it.client(0..100);
                it.server(0..100);
                it.close();
                it.segment(0).late_by_microseconds(1500);
            }),
        ),
        Capture::new(
            "3",
            "the SYN-ACK behind the server's data",
            open(|it| {
                it.client(0..100);
                it.server(0..100);
                it.server(100..200);
                it.close();
                it.segment(1).late_by_microseconds(3500);
            }),
        ),
        Capture::new(
            "4",
            "sent again in full",
            open(|it| {
                it.client(0..100);
                it.client(100..200);
                it.client(0..100);
                it.client(100..200);
                it.client(200..300);
                it.close();
            }),
        ),
        Capture::new(
            "4",
            "sent again, and some more",
            open(|it| {
                it.client(0..100);
                it.client(100..150);
                it.client(100..250);
                it.client(50..300);
                it.close();
            }),
        ),
        Capture::new(
            "4",
            "sent again in segments of another size",
            open(|it| {
                for n in 0..10 {
                    it.client(n * 100..n * 100 + 100);
                }
                for n in 0..5 {
                    it.client(n * 210..n * 210 + 210);
                }
                it.close();
            }),
        ),
        Capture::new(
            "4",
            "sent again with other octets",
            open(|it| {
                it.client(0..100);
                it.client(0..100).forged();
                it.client(100..200);
                it.close();
            }),
        ),
        Capture::new(
            "5",
            "a queued segment again, with other octets",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.client(200..300).forged();
                it.client(100..200);
                it.close();
            }),
        ),
        Capture::new(
            "5",
            "a segment over several that are queued",
            open(|it| {
                it.client(200..250);
                it.client(300..350);
                it.client(400..450);
                it.client(150..500);
                it.client(0..150);
                it.close();
            }),
        ),
        Capture::new(
            "5",
            "segments that overlap by halves",
            open(|it| {
                for n in (0..10).rev() {
                    it.client(n * 100..n * 100 + 200);
                }
                it.close();
            }),
        ),
        Capture::new(
            "5",
            "the filling of a hole that reaches into what is queued",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.client(50..260);
                it.client(300..400);
                it.close();
            }),
        ),
        Capture::new(
            "5",
            "a later copy, when it is the later one that is asked for",
            open(|it| {
                it.client(0..100);
                it.client(200..300).forged();
                it.client(200..300);
                it.client(100..200);
                it.close();
            }),
        )
        .flags(&["--overlap", "last"]),
    ];
    for (name, count) in [
        ("100 segments behind one hole", 100),
        ("1,000 segments behind one hole", 1000),
        ("3,000 segments behind one hole", 3000),
    ] {
        captures.push(Capture::new(
            "3",
            name,
            open(|it| {
                for n in 1..=count {
                    it.client(n * 100..n * 100 + 100);
                }
                it.client(0..100);
                it.ack(Server);
                it.close();
            }),
        ));
    }
    captures
}

/// The hundredth octet has the sequence number 0.
fn wrapping() -> Conversation {
    Conversation::new().isns(u32::MAX - 99, 77)
}

/// 66,200 segments of 65,000 octets, of which the capture has 40.
fn more_than_4_gib() -> Conversation {
    open(|it| {
        for n in 0..66_200 {
            it.client(n * 65_000..(n + 1) * 65_000).cut(40);
            if n % 64 == 63 {
                it.ack(Server);
            }
        }
        it.client(66_200 * 65_000..66_200 * 65_000 + 40);
        it.close();
    })
}
