//! More than there is room for: what is given up is whole connections, and it is said which.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::capture::Capture;
use crate::conversation::{Client, noise, short, talk};
use crate::handmade::{Handmade, SERVER};
use crate::link::{Pair, server_v4};
use crate::packet::PacketSocket;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("overload::sheds_connections", sheds_connections),
    Test::new("overload::full_ring", full_ring).alone(),
    Test::new("overload::flow_table", flow_table),
];

/// The ring is beyond the mark, and never full: every connection that begins meanwhile is shed, all others are whole.
fn sheds_connections() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --attach tc --shards 1 --ring-size 2M --shed-level 25");
    let server = pair.serve(server_v4(0));
    let mut early: Vec<_> = (0..4).map(|_| Client::connect(&pair.client, &server)).collect();
    early.iter_mut().for_each(|client| client.exchange(5_000, 5_000));
    // The agent has seen them.
    sleep(Duration::from_millis(50));
    capture.pause();
    early[0].exchange(16, 700_000);
    let shed = talk(&pair.client, &server, &short(40));
    let mut late: Vec<_> = (0..4).map(|_| Client::connect(&pair.client, &server)).collect();
    late.iter_mut().for_each(|client| client.exchange(20_000, 20_000));
    early.iter_mut().for_each(|client| client.exchange(3_000, 3_000));
    capture.signal(Signal::SIGCONT);
    sleep(Duration::from_millis(200));
    // They go on when there is room, and stay what they are.
    early.iter_mut().chain(&mut late).for_each(|client| client.exchange(50_000, 300_000));
    let whole: Vec<_> = early.into_iter().map(Client::finish).chain(talk(&pair.client, &server, &short(20))).collect();
    let shed: Vec<_> = late.into_iter().map(Client::finish).chain(shed).collect();
    let outcome = capture.stop();
    outcome.assert_success();

    assert_eq!(outcome.count("/source/kernel/ring_full"), 0, "{}", outcome.stderr);
    assert_eq!(outcome.count("/source/kernel/shed_connections"), shed.len() as u64);
    assert!(outcome.count("/source/kernel/shed_frames") > shed.len() as u64);
    assert_eq!(outcome.output.closed.len(), whole.len() + shed.len());
    for said in &whole {
        let record = outcome.output.finished(said.client, said.server);
        outcome.output.assert_said(record, said);
    }
    let mut missing = 0;
    for said in &shed {
        let record = outcome.output.finished(said.client, said.server);
        for (stream, sent) in [(&record.c2s, &said.c2s), (&record.s2c, &said.s2c)] {
            assert_eq!((stream.bytes, &stream.file), (0, &None), "{record:#?}");
            assert_eq!(stream.missing.get("shed").copied().unwrap_or(0), sent.len() as u64, "{record:#?}");
            assert_eq!(stream.missing_total(), sent.len() as u64, "{record:#?}");
            missing += sent.len() as u64;
        }
    }
    assert_eq!(outcome.count("/reassembly/gaps_shed"), missing);
}

/// Nothing fits any more, for a while. What has a record and a file was not shed, what was shed has no file, and the
/// octets that it cost are the same in records and counters.
fn full_ring() {
    let pair = Pair::new();
    let args = "-i s0 --attach tc --shards 1 --ring-size 256K --gap-hold 200ms";
    let capture = Capture::start(&pair.server, args);
    let server = pair.serve(server_v4(0));
    let mut early: Vec<_> = (0..3).map(|_| Client::connect(&pair.client, &server)).collect();
    early.iter_mut().for_each(|client| client.exchange(5_000, 5_000));
    sleep(Duration::from_millis(50));
    capture.pause();
    early.iter_mut().for_each(|client| client.exchange(300_000, 1 << 20));
    // Of these no frame finds room.
    let unseen = talk(&pair.client, &server, &short(30));
    let mut late: Vec<_> = (0..5).map(|_| Client::connect(&pair.client, &server)).collect();
    late.iter_mut().for_each(|client| client.exchange(10_000, 10_000));
    capture.signal(Signal::SIGCONT);
    sleep(Duration::from_millis(300));
    early.iter_mut().chain(&mut late).for_each(|client| client.exchange(5_000, 5_000));
    sleep(Duration::from_millis(500));
    let early: Vec<_> = early.into_iter().map(Client::finish).collect();
    let late: Vec<_> = late.into_iter().map(Client::finish).collect();
    let after = talk(&pair.client, &server, &short(20));
    let outcome = capture.stop();
    outcome.assert_success();

    assert!(outcome.count("/source/kernel/ring_full") > 0);
    assert_eq!(outcome.count("/source/kernel/shed_connections"), (unseen.len() + late.len()) as u64);
    let mut lost = 0;
    for said in &early {
        let record = outcome.output.finished(said.client, said.server);
        for (stream, sent) in [(&record.c2s, &said.c2s), (&record.s2c, &said.s2c)] {
            outcome.output.assert_explained(record, stream, sent);
            let explained = |cause: &&str| ["ring-full", "not-captured"].contains(cause);
            assert!(stream.causes().iter().all(explained), "{record:#?}");
            // A segment that was lost may have been sent again.
            assert!(stream.ring_full >= stream.missing_total(), "{record:#?}");
            lost += stream.ring_full;
        }
    }
    assert!(lost > 1 << 20);
    for said in &late {
        let record = outcome.output.record(said.client, said.server);
        assert_eq!(record.ended, "fin", "{record:#?}");
        for (stream, sent) in [(&record.c2s, &said.c2s), (&record.s2c, &said.s2c)] {
            assert_eq!((stream.bytes, &stream.file), (0, &None), "{record:#?}");
            // As far as it is known where it began.
            assert!(stream.causes().iter().all(|cause| *cause == "shed"), "{record:#?}");
            assert!(stream.missing_total() <= sent.len() as u64, "{record:#?}");
        }
        lost += record.c2s.ring_full + record.s2c.ring_full;
    }
    // Of most of these no frame found room, and the counters alone know of them.
    let others = outcome.output.closed.iter().filter(|record| unseen.iter().any(|said| said.client == record.client));
    let others: Vec<_> = others.collect();
    assert_eq!(outcome.count("/source/kernel/shed_unheard"), (unseen.len() - others.len()) as u64);
    assert!(others.iter().all(|record| record.c2s.file.is_none() && record.s2c.file.is_none()), "{others:#?}");
    assert_eq!(outcome.output.closed.len(), early.len() + late.len() + after.len() + others.len());
    lost += others.iter().map(|record| record.c2s.ring_full + record.s2c.ring_full).sum::<u64>();
    assert_eq!(outcome.count("/reassembly/ring_full"), lost);
    for said in &after {
        let record = outcome.output.record(said.client, said.server);
        outcome.output.assert_said(record, said);
    }
}

/// Five times as many connections as the kernel has room for, all at once. Accounts that it forgets cost nothing but
/// copies.
fn flow_table() {
    const CONNECTIONS: u16 = 5_000;
    const ROOM: u64 = 1_024;
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, &format!("-i s0 --attach tc --max-flows {ROOM}"));
    let before = capture.memory();
    let wire = PacketSocket::open(&pair.client, "c0");
    let [up, down] = [noise(300), noise(700)];
    let client = |n| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 10_000 + n);
    let mut open: Vec<_> = (0..CONNECTIONS).map(|n| Handmade::between(&wire, client(n), SERVER)).collect();
    for half in 0..2 {
        for talk in &mut open {
            talk.client_sends(&up[150 * half..][..150]);
            talk.server_sends(&down[350 * half..][..350]);
            talk.client_acknowledges();
            talk.server_acknowledges();
        }
    }
    open.into_iter().for_each(Handmade::close);
    sleep(Duration::from_millis(100));
    let grown = capture.memory().saturating_sub(before);
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.count("/source/kernel/ring_full"), 0, "{}", outcome.stderr);
    assert!(outcome.count("/source/kernel/flows_evicted") >= u64::from(CONNECTIONS) - ROOM);
    assert!(grown < 64 << 20, "{grown} octets more in use");
    assert_eq!(outcome.output.closed.len(), usize::from(CONNECTIONS));
    let clients: BTreeSet<_> = outcome.output.closed.iter().map(|record| record.client).collect();
    assert_eq!(clients, (0..CONNECTIONS).map(|n| client(n).into()).collect());
    for record in &outcome.output.closed {
        record.assert_finished();
        outcome.output.assert_stream(record, &record.c2s, &up);
        outcome.output.assert_stream(record, &record.s2c, &down);
        // Acknowledgments that were counted in accounts which the kernel forgot are lost.
        assert!((4..=8).contains(&record.c2s.segments) && (4..=6).contains(&record.s2c.segments), "{record:#?}");
    }
}
