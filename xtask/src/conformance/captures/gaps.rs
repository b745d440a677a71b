//! Rows 6 to 8, 21, 24 and 25: what is missing, late or not to be believed, and when it is given up.

use super::{Capture, Conversation, Side::*, bare, open};

pub(super) fn captures() -> Vec<Capture> {
    vec![
        Capture::new(
            "6",
            "an ACK that overtakes its data",
            open(|it| {
                it.client(0..100).late(50);
                it.ack(Server);
                it.server(0..100);
                it.wait_seconds(1);
                it.client(100..200);
                it.close();
            }),
        ),
        Capture::new(
            "6",
            "data half a second behind its ACK and its successors",
            open(|it| {
                it.client(0..100);
                it.client(100..200).late(500);
                it.client(200..300);
                it.ack(Server);
                it.client(300..400);
                it.ack(Server);
                it.wait_seconds(1);
                it.close();
            }),
        ),
        Capture::new(
            "6",
            "acknowledged and never captured",
            open(|it| {
                it.client(0..100);
                it.unseen(Client, 100..200);
                it.client(200..300);
                it.ack(Server);
                it.wait_seconds(3);
                it.client(300..400);
                it.ack(Server);
                it.close();
            }),
        )
        .cause("not-captured"),
        Capture::new(
            "6",
            "the first octets were never captured",
            open(|it| {
                it.unseen(Server, 0..100);
                it.server(100..300);
                it.ack(Client);
                it.wait_seconds(3);
                it.server(300..400);
                it.close();
            }),
        )
        .cause("not-captured"),
        Capture::new(
            "6",
            "many holes",
            open(|it| {
                for n in 0..50 {
                    it.client(n * 200..n * 200 + 100);
                    it.unseen(Client, n * 200 + 100..n * 200 + 200);
                }
                it.client(10_000..10_100);
                it.ack(Server);
                it.wait_seconds(3);
                it.close();
            }),
        )
        .cause("not-captured"),
        Capture::new(
            "6",
            "a copy five seconds after the gap was certain",
            open(|it| {
                it.client(0..100);
                it.unseen(Client, 100..200);
                it.client(200..300);
                it.ack(Server);
                it.wait_seconds(5);
                it.client(300..400);
                it.client(100..200);
                it.client(400..500);
                it.close();
            }),
        ),
        Capture::new(
            "6",
            "the end was acknowledged and never captured",
            open(|it| {
                it.client(0..100);
                it.unseen(Client, 100..250);
                it.ack(Server);
                it.server(0..100);
                it.close();
                it.trailing(Client, 150, "not-captured");
            }),
        ),
        Capture::new(
            "7",
            "asked for again and again, and sent after a minute",
            open(|it| {
                it.client(0..100);
                for n in 2..10 {
                    it.client(n * 100..n * 100 + 100);
                    it.ack(Server);
                }
                it.wait_seconds(60);
                it.client(100..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "7",
            "sent after twenty seconds without an ACK",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.wait_seconds(20);
                it.client(100..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "7",
            "never sent before the capture ends",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.ack(Server);
            }),
        )
        .cause("close"),
        Capture::new(
            "8",
            "the client alone",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.ack(Client).ack(0);
                it.client(0..100);
                it.client(100..200);
                it.client(200..200).fin();
            }),
        ),
        Capture::new(
            "8",
            "the server alone",
            bare(Conversation::new(), |it| {
                it.syn(Server).ack(0);
                it.server(100..200).ack(50);
                it.server(0..100).ack(50);
                it.server(200..200).fin();
            }),
        ),
        Capture::new(
            "8",
            "one direction with a hole",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.client(0..100);
                it.client(200..300);
                it.wait_seconds(40);
                it.client(300..400);
                it.client(400..400).fin();
            }),
        )
        .cause("timeout"),
        Capture::new(
            "21",
            "forged, 2.5 GiB ahead",
            open(|it| {
                it.client(0..100);
                it.client(5 << 29..(5 << 29) + 100).forged();
                it.client(100..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "21",
            "forged, 512 MiB ahead, and the stream goes on for a while",
            open(|it| {
                it.client(0..100);
                it.client(1 << 29..(1 << 29) + 100).forged();
                for n in 1..100 {
                    it.client(n * 100..n * 100 + 100);
                    it.ack(Server);
                    it.wait_seconds(1);
                }
                it.close();
            }),
        ),
        Capture::new(
            "21",
            "forged many times, at different places",
            open(|it| {
                it.client(0..100);
                for n in 1..20 {
                    it.server(n * 150_000_000..n * 150_000_000 + 50).forged();
                    it.server(n * 100 - 100..n * 100);
                }
                it.close();
            }),
        ),
        Capture::new(
            "21",
            "64 MiB that the peer has and the capture has not",
            open(|it| {
                it.client(0..100);
                it.unseen(Client, 100..64 << 20);
                it.client(64 << 20..(64 << 20) + 100);
                it.ack(Server);
                it.wait_seconds(3);
                it.client((64 << 20) + 100..(64 << 20) + 200);
                it.ack(Server);
                it.close();
            }),
        )
        .flags(&["--gaps", "skip"])
        .cause("not-captured"),
        Capture::new(
            "21",
            "512 MiB were not captured, then a segment of which the peer says that it expects it",
            far_ahead(|it| {
                it.client(FAR..FAR + 700);
                it.server(0..0).ack(FAR);
            }),
        )
        .flags(&["--gaps", "skip"])
        .cause("not-captured"),
        Capture::new(
            "21",
            "512 MiB were not captured, then the peer's ACK and the segment that it expects",
            far_ahead(|it| {
                it.server(0..0).ack(FAR);
                it.client(FAR..FAR + 700);
            }),
        )
        .flags(&["--gaps", "skip"])
        .cause("not-captured"),
        Capture::new(
            "21",
            "512 MiB were not captured, then a segment and an ACK for more",
            far_ahead(|it| {
                it.client(FAR..FAR + 700);
                it.unseen(Client, FAR + 700..FAR + 1400);
                it.ack(Server);
                it.client(FAR + 1400..FAR + 2100);
            }),
        )
        .flags(&["--gaps", "skip"])
        .cause("not-captured"),
        Capture::new("21", "5 GiB of which only a few segments were captured", mostly_unseen())
            .flags(&["--gaps", "skip"])
            .cause("not-captured"),
        Capture::new(
            "24",
            "five megabytes behind a hole",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.client(0..100);
                for n in 1..3800 {
                    it.client(n * 1400..n * 1400 + 1400);
                }
                it.client(3800 * 1400..3800 * 1400).fin();
            }),
        )
        .cause("limit"),
        Capture::new(
            "24",
            "five thousand segments behind a hole",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.client(0..10);
                for n in 2..5002 {
                    it.client(n * 10..n * 10 + 10);
                }
                it.client(50_020..50_020).fin();
            }),
        )
        .cause("limit"),
        Capture::new(
            "25",
            "back by a day",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.clock_step(-86_400);
                it.client(100..200);
                it.ack(Server);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "25",
            "ahead by a day",
            open(|it| {
                it.client(0..100);
                it.client(200..300);
                it.clock_step(86_400);
                it.client(100..200);
                it.ack(Server);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "25",
            "stamps that go back a little all the time",
            open(|it| {
                for n in 0..20 {
                    it.client(n * 100..n * 100 + 100);
                    it.clock_step_milliseconds(if n % 2 == 0 { -7 } else { 7 });
                }
                it.ack(Server);
                it.close();
            }),
        ),
    ]
}

/// The client sends 512 MiB that are not in the capture.
fn far_ahead(say: impl FnOnce(&mut Conversation)) -> Conversation {
    open(|it| {
        it.client(0..1000);
        it.ack(Server);
        it.unseen(Client, 1000..FAR);
        it.wait_seconds(5);
        say(it);
        it.wait_seconds(3);
        it.ack(Server);
        it.close();
    })
}

const FAR: u64 = 1 << 29;

/// The peer acknowledges all of it, now just before a captured segment and now just behind it. No two of them are 2 GiB
/// apart, so their places are certain (RFC 9293 3.4).
fn mostly_unseen() -> Conversation {
    let jumps = [
        (380_000_000, false),
        (400_000, true),
        (1_900_000_000, true),
        (45_000_000, false),
        (1_900_000_000, true),
        (370_000_000, true),
        (700_000_000, true),
    ];
    open(|it| {
        it.client(0..1000);
        it.ack(Server);
        let mut next = 1000;
        for (jump, acknowledged_first) in jumps {
            it.unseen(Client, next..next + jump);
            it.wait_seconds(3);
            next += jump;
            if acknowledged_first {
                it.ack(Server);
                it.client(next..next + 700);
            } else {
                it.client(next..next + 700);
                it.server(0..0).ack(next);
            }
            next += 700;
        }
        it.ack(Server);
        it.wait_seconds(3);
        it.close();
    })
}
