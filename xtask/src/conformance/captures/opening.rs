//! Rows 13 to 15: where streams begin.

use super::{Capture, Conversation, Side::*, bare, begun, open};

pub(super) fn captures() -> Vec<Capture> {
    vec![
        Capture::new(
            "13",
            "picked up",
            bare(Conversation::midstream(5000, 70_000), |it| {
                it.client(5000..5100);
                it.server(70_000..70_400);
                it.client(5100..5200);
                it.close();
                it.started("midstream");
            }),
        ),
        Capture::new(
            "13",
            "the first two segments swapped",
            bare(Conversation::midstream(5000, 70_000), |it| {
                it.client(5100..5200);
                it.client(5000..5100);
                it.server(70_400..70_800);
                it.server(70_000..70_400);
                it.client(5200..5300);
                it.close();
                it.started("midstream");
            }),
        ),
        Capture::new(
            "13",
            "the first of four last",
            bare(Conversation::midstream(5000, 70_000), |it| {
                it.client(5100..5200);
                it.client(5200..5300);
                it.client(5300..5400);
                it.client(5000..5100);
                it.ack(Server);
                it.client(5400..5500);
                it.close();
            }),
        ),
        Capture::new(
            "13",
            "from the SYN-ACK on, and the client's first segments swapped",
            bare(Conversation::new(), |it| {
                it.syn(Server).ack(0);
                it.ack(Client);
                it.client(100..200);
                it.client(0..100);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "13",
            "over a wrap",
            bare(Conversation::midstream(5000, 70_000).isns(u32::MAX - 5100, u32::MAX - 70_010), |it| {
                it.client(5000..5200);
                it.server(70_000..70_400);
                it.client(5200..5300);
                it.close();
            }),
        ),
        Capture::new(
            "14",
            "Fast Open",
            bare(Conversation::new(), |it| {
                it.client(0..100).syn();
                it.syn(Server);
                it.server(0..200);
                it.client(100..200);
                it.close();
                it.started("handshake");
            }),
        ),
        Capture::new(
            "14",
            "a SYN-ACK with data",
            bare(Conversation::new(), |it| {
                it.client(0..100).syn();
                it.server(0..200).syn();
                it.ack(Client);
                it.client(100..200);
                it.close();
            }),
        ),
        Capture::new(
            "14",
            "Fast Open that the server did not take",
            bare(Conversation::new(), |it| {
                it.client(0..100).syn();
                it.syn(Server).ack(0);
                it.client(0..100);
                it.server(0..200);
                it.close();
            }),
        ),
        Capture::new(
            "14",
            "Fast Open, and the rest before the SYN",
            bare(Conversation::new(), |it| {
                it.client(0..100).syn().late(3);
                it.client(100..200).without_ack();
                it.client(200..300).without_ack();
                it.wait_seconds(1);
                it.syn(Server);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "15",
            "simultaneous",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.syn(Server).without_ack();
                it.syn(Client);
                it.syn(Server);
                it.client(0..100);
                it.server(0..100);
                it.close();
                it.started("handshake");
            }),
        ),
        Capture::new(
            "15",
            "split",
            bare(Conversation::new(), |it| {
                it.syn(Client);
                it.ack(Server).ack(0);
                it.syn(Server).without_ack();
                it.syn(Client);
                it.ack(Server);
                it.client(0..100);
                it.server(0..100);
                it.close();
                it.started("handshake");
            }),
        ),
        Capture::new(
            "15",
            "a SYN-ACK that is sent again behind the data",
            open(|it| {
                it.client(0..100);
                it.server(0..0).syn();
                it.ack(Client);
                it.server(0..100);
                it.close();
            }),
        ),
        Capture::new(
            "15",
            "SYNs that are sent again",
            begun(
                bare(Conversation::new(), |it| {
                    it.syn(Client);
                    it.wait_seconds(1);
                    it.syn(Client);
                    it.wait_seconds(2);
                }),
                |it| {
                    it.client(0..100);
                    it.server(0..100);
                    it.close();
                },
            ),
        ),
    ]
}
