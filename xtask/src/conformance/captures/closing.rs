//! Rows 9 to 12, 23 and 26: how connections end, what comes after that, and who may use their endpoints then.

use super::{Capture, Conversation, Side::*, bare, open};

pub(super) fn captures() -> Vec<Capture> {
    vec![
        Capture::new(
            "9",
            "an empty FIN before the last segment",
            open(|it| {
                it.client(0..100);
                it.client(200..200).fin();
                it.client(100..200);
                it.ack(Server).fin();
                it.ack(Client);
                it.ended("fin");
            }),
        ),
        Capture::new(
            "9",
            "a FIN with data before the last but one segment",
            open(|it| {
                it.client(0..100);
                it.client(200..300).fin();
                it.client(100..200);
                it.ack(Server).fin();
                it.ack(Client);
                it.ended("fin");
            }),
        ),
        Capture::of("9", "an empty FIN out of order, then the endpoints are used again", early_fin()),
        Capture::new(
            "9",
            "half closed by the client",
            open(|it| {
                it.client(0..100).fin();
                for n in 0..20 {
                    it.server(n * 1000..n * 1000 + 1000);
                    it.ack(Client);
                }
                it.ack(Server).fin();
                it.ack(Client);
                it.ended("fin");
            }),
        ),
        Capture::new(
            "9",
            "both at once, and sent again",
            open(|it| {
                it.client(0..100);
                it.server(0..100);
                it.client(100..100).fin();
                it.server(100..100).fin();
                it.client(100..100).fin();
                it.server(100..100).fin();
                it.ack(Client);
                it.ack(Server);
                it.ended("fin");
            }),
        ),
        Capture::new(
            "10",
            "forged, far from the window",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.client(1 << 30..1 << 30).rst().void();
                it.server(1 << 29..1 << 29).rst().void();
                it.client(100..200);
                it.server(0..100);
                it.close();
                it.ended("fin");
            }),
        ),
        Capture::new(
            "10",
            "with queued octets",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.client(200..300);
                it.ack(Server);
                it.server(0..0).rst();
                it.ended("rst");
            }),
        )
        .cause("close"),
        Capture::new(
            "10",
            "with a reason in it",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.server(0..0).rst().text(b"connection refused by policy");
                it.ended("rst");
            }),
        ),
        Capture::new(
            "10",
            "in the window, and the receiver goes on",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.client(100..100).rst().void();
                it.client(100..200);
                it.ack(Server);
                it.server(0..100);
                it.ack(Client);
                it.close();
                it.ended("fin");
            }),
        ),
        Capture::new(
            "10",
            "in the window, and both go on half a minute later",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.client(100..100).rst().void();
                it.wait_seconds(30);
                it.client(100..200);
                it.ack(Server);
                it.server(0..100);
                it.ack(Client);
                it.close();
                it.ended("fin");
            }),
        )
        .flags(&["--rst-hold", "60s"]),
        Capture::of("10", "in answer to a SYN, then the port is open", refused()),
        Capture::of("11", "at once after both FINs", used_again(1, Conversation::close)),
        Capture::of(
            "11",
            "at once after an RST",
            used_again(1, |it| {
                it.ack(Client).rst();
            }),
        ),
        Capture::of("11", "three times", used_again(3, Conversation::close)),
        Capture::of("11", "three hundred times", used_again(300, Conversation::close)),
        Capture::of("11", "while the capture has the old one open", used_again(1, |_| ())),
        Capture::new(
            "11",
            "forged, in the middle",
            open(|it| {
                it.client(0..100);
                it.client(1 << 29..1 << 29).syn().without_ack().void();
                it.client(100..200);
                it.ack(Server);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "11",
            "the same one again, late",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.client(0..0).syn().without_ack();
                it.client(100..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "12",
            "a retransmission five seconds later",
            open(|it| {
                it.client(0..100);
                it.server(0..100);
                it.close();
                it.wait_seconds(5);
                it.client(0..100);
                it.server(0..100);
            }),
        ),
        Capture::new(
            "12",
            "FINs and their ACKs again",
            open(|it| {
                it.client(0..100);
                it.close();
                it.wait_seconds(1);
                it.client(100..100).fin();
                it.server(0..0).fin();
                it.ack(Client);
                it.ack(Server);
            }),
        ),
        Capture::new(
            "12",
            "data with the FIN again",
            open(|it| {
                it.server(0..100).fin();
                it.client(0..100).fin();
                it.ack(Server);
                it.ack(Client);
                it.wait_seconds(2);
                it.client(0..100).fin();
                it.server(0..100).fin();
            }),
        ),
        Capture::new(
            "12",
            "data that the other side had not expected, after an RST",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.server(0..0).rst();
                it.wait_seconds(3);
                it.client(0..100);
                it.client(0..100);
                it.ended("rst");
            }),
        ),
        Capture::new(
            "23",
            "an ACK",
            bare(Conversation::midstream(0, 0), |it| {
                it.ack(Client);
                it.ack(Server);
                it.opens_nothing();
            }),
        ),
        Capture::new(
            "23",
            "an RST, also with a reason in it",
            bare(Conversation::midstream(0, 0), |it| {
                it.client(0..0).rst();
                it.wait_seconds(1);
                it.client(0..0).rst().text(b"no such connection");
                it.opens_nothing();
            }),
        ),
        Capture::new(
            "26",
            "59 minutes, three times",
            open(|it| {
                for n in 0..4 {
                    it.client(n * 100..n * 100 + 100);
                    it.server(n * 100..n * 100 + 100);
                    it.ack(Client);
                    it.wait_seconds(59 * 60);
                }
            }),
        ),
        Capture::new(
            "26",
            "four minutes while half closed",
            open(|it| {
                it.client(0..100).fin();
                it.ack(Server);
                it.wait_seconds(240);
                it.server(0..100);
                it.ack(Client);
                it.ack(Server).fin();
                it.ack(Client);
                it.ended("fin");
            }),
        ),
        Capture::new(
            "26",
            "half a minute before the SYN-ACK",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.wait_seconds(30);
                it.syn(Server);
                it.client(0..100);
                it.server(0..100);
                it.close();
            }),
        ),
    ]
}

/// The same endpoints, so many times again; `end` is how each of them ends.
fn used_again(times: usize, end: impl Fn(&mut Conversation)) -> Vec<Conversation> {
    let mut all: Vec<Conversation> = Vec::new();
    for _ in 0..=times {
        let mut it = all.last().map_or_else(Conversation::new, Conversation::again);
        it.handshake();
        it.client(0..100);
        it.server(0..200);
        it.ack(Client);
        end(&mut it);
        all.push(it);
    }
    all
}

fn early_fin() -> Vec<Conversation> {
    used_again(1, |it| {
        it.client(200..200).fin();
        it.client(100..200);
        it.ack(Server).fin();
        it.ack(Client);
    })
}

fn refused() -> Vec<Conversation> {
    let first = bare(Conversation::new(), |it| {
        it.syn(Client);
        it.server(0..0).rst();
        it.wait_seconds(1);
    });
    let second = bare(Conversation::again(&first), |it| {
        it.handshake();
        it.client(0..100);
        it.server(0..100);
        it.close();
    });
    vec![first, second]
}
