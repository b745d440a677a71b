//! Rows 16 to 18: octets that are no data, are data only once, or are urgent.

use super::{Capture, Conversation, Side::*, bare, open};

pub(super) fn captures() -> Vec<Capture> {
    let keep_alive = |garbage: bool| {
        open(move |it| {
            it.client(0..100);
            it.ack(Server);
            for _ in 0..3 {
                it.wait_seconds(75);
                let probe = it.client(99..100).without_push();
                if garbage {
                    probe.forged();
                }
                it.ack(Server);
            }
            it.client(100..200);
            it.ack(Server);
            it.close();
        })
    };
    vec![
        Capture::new("16", "the last octet again", keep_alive(false)),
        Capture::new("16", "an octet of garbage", keep_alive(true)),
        Capture::new(
            "16",
            "an octet of garbage, behind a retransmission",
            open(|it| {
                it.client(0..100);
                it.client(100..200);
                it.client(0..100);
                it.ack(Server);
                it.wait_seconds(75);
                it.client(199..200).without_push().forged();
                it.ack(Server);
                it.client(200..300);
                it.close();
            }),
        ),
        Capture::new(
            "16",
            "without an octet",
            open(|it| {
                it.client(0..100);
                it.ack(Server);
                it.wait_seconds(75);
                it.client(99..99).void();
                it.ack(Server);
                it.client(100..200);
                it.close();
            }),
        ),
        Capture::new(
            "16",
            "before the first octet of the stream",
            open(|it| {
                it.server(0..10);
                it.ack(Client);
                it.wait_seconds(75);
                it.client(0..0).back(1).text(b"\0");
                it.ack(Server);
                it.client(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "16",
            "the first that is seen of a connection under way",
            bare(Conversation::midstream(100, 300), |it| {
                it.client(99..100).without_push().forged();
                it.ack(Server);
                it.client(100..200);
                it.ack(Server);
                it.server(300..400);
                it.close();
            }),
        ),
        Capture::new(
            "16",
            "from both sides, for an hour",
            open(|it| {
                it.client(0..100);
                it.server(0..100);
                for _ in 0..48 {
                    it.wait_seconds(75);
                    it.client(99..100).without_push().forged();
                    it.ack(Server);
                    it.server(99..100).without_push().forged();
                    it.ack(Client);
                }
                it.close();
            }),
        ),
        Capture::new(
            "17",
            "the same octet until it is taken",
            open(|it| {
                it.client(0..100);
                it.ack(Server).window(0);
                for _ in 0..4 {
                    it.wait_seconds(2);
                    it.client(100..101);
                    it.server(0..0).ack(100).window(0);
                }
                it.server(0..0).ack(100);
                it.client(100..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "17",
            "an octet that is taken at once",
            open(|it| {
                it.client(0..100);
                it.ack(Server).window(0);
                for n in 100..104 {
                    it.wait_seconds(2);
                    it.client(n..n + 1);
                    it.ack(Server).window(0);
                }
                it.ack(Server);
                it.client(104..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "18",
            "in the middle",
            open(|it| {
                it.client(0..100);
                it.client(100..110).urgent();
                it.client(110..200);
                it.ack(Server);
                it.close();
            }),
        ),
        Capture::new(
            "18",
            "an octet alone, out of order",
            open(|it| {
                it.server(0..100);
                it.server(101..200);
                it.server(100..101).urgent();
                it.server(200..201).urgent();
                it.ack(Client);
                it.close();
            }),
        ),
    ]
}
