//! Octets that are missing, and what is said about them.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::capture::{Capture, Scratch, xdpflow};
use crate::conversation::{Client, noise, short, talk, talk_during};
use crate::deadline::eventually;
use crate::disk::Disk;
use crate::handmade::{CLIENT, Handmade, SERVER};
use crate::link::{Pair, server_v4};
use crate::packet::PacketSocket;
use crate::record::{Gap, Output};
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("loss::hole_on_a_silent_link", hole_on_a_silent_link),
    Test::new("loss::acknowledged_hole", acknowledged_hole),
    Test::new("loss::planted", planted),
    Test::new("loss::full_disk", full_disk),
    Test::new("loss::limited_files", limited_files),
    Test::new("loss::ring_full", ring_full).alone(),
    Test::new("loss::stalled_disk", stalled_disk).alone(),
];

/// Gap, close and record come by time alone: no frame follows that could bring them.
fn hole_on_a_silent_link() {
    let pair = Pair::new();
    let scratch = Scratch::new();
    let args = "-i s0 --gap-timeout 1s --idle-timeout 2s";
    let capture = Capture::start_into(&pair.server, args, scratch.path());
    let wire = PacketSocket::open(&pair.client, "c0");
    let sent = noise(1_300);
    let mut talk = Handmade::open(&wire);
    talk.client_sends(&sent[..100]);
    talk.client_loses(1_000);
    talk.client_sends(&sent[1_100..]);

    eventually("a record", Duration::from_secs(10), || !Output::read(scratch.path()).closed.is_empty());
    let outcome = capture.stop();
    outcome.assert_success();
    let record = outcome.output.record(CLIENT.into(), SERVER.into());
    assert_eq!((record.started.as_str(), record.ended.as_str()), ("handshake", "idle"), "{record:#?}");
    assert_eq!(record.c2s.gaps, [Gap::new(100, 1_000, "timeout")]);
    assert_eq!((record.c2s.bytes, record.c2s.out_of_order), (300, 1));
    outcome.output.assert_explained(record, &record.c2s, &sent);
}

/// What the peer acknowledges was sent: no need to wait for the timeout.
fn acknowledged_hole() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --gap-hold 200ms");
    let wire = PacketSocket::open(&pair.client, "c0");
    let sent = noise(1_300);
    let mut talk = Handmade::open(&wire);
    talk.client_sends(&sent[..100]);
    talk.client_loses(1_000);
    talk.client_sends(&sent[1_100..]);
    talk.server_acknowledges();
    sleep(Duration::from_millis(500));
    talk.close();
    let outcome = capture.stop();
    outcome.assert_success();
    let record = outcome.output.finished(CLIENT.into(), SERVER.into());
    assert_eq!(record.c2s.gaps, [Gap::new(100, 1_000, "not-captured")]);
    outcome.output.assert_explained(record, &record.c2s, &sent);
}

/// A debug build loses one record on request without counting it; the ledger must notice.
fn planted() {
    let pair = Pair::new();
    let scratch = Scratch::new();
    let mut command = xdpflow("capture -i s0");
    command.env("XDPFLOW_PLANT", "lost-record");
    let capture = Capture::spawn(&pair.server, command, scratch.path()).attached();
    talk(&pair.client, &pair.serve(server_v4(0)), &short(5));
    let outcome = capture.stop();
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("does not balance: frames"), "{}", outcome.stderr);
}

/// The agent sleeps while more passes than the ring holds. Every frame lost is counted, every octet explained.
fn ring_full() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --shards 1 --ring-size 256K --gap-hold 200ms");
    let server = pair.serve(server_v4(0));
    let mut client = Client::connect(&pair.client, &server);
    client.exchange(50_000, 50_000);
    capture.signal(Signal::SIGSTOP);
    client.exchange(4 << 20, 4 << 20);
    capture.signal(Signal::SIGCONT);
    // Room again before the connection goes on, and time for the hold.
    sleep(Duration::from_millis(300));
    client.exchange(50_000, 50_000);
    sleep(Duration::from_millis(500));
    let said = client.finish();
    let outcome = capture.stop();
    outcome.assert_success();
    assert!(outcome.count("/source/kernel/ring_full") > 0);
    assert_eq!(outcome.count("/source/kernel/ring_size"), 256 << 10);
    let level = outcome.count("/source/kernel/ring_level_max");
    assert!((128 << 10..=256 << 10).contains(&level), "{level}");
    let record = outcome.output.finished(said.client, said.server);
    for (stream, sent) in [(&record.c2s, &said.c2s), (&record.s2c, &said.s2c)] {
        let explained = |cause: &&str| ["ring-full", "not-captured"].contains(cause);
        assert!(stream.missing_total() > 1 << 20 && stream.causes().iter().all(explained), "{record:#?}");
        outcome.output.assert_explained(record, stream, sent);
    }
    let blamed = [&record.c2s, &record.s2c].iter().any(|stream| stream.missing.contains_key("ring-full"));
    assert!(blamed, "our own loss is called that: {record:#?}");
}

/// No space is left in the middle of it. Records that find room say so, the others are counted.
fn full_disk() {
    let pair = Pair::new();
    let disk = Disk::new("32M");
    let capture = Capture::start_into(&pair.server, "-i s0 --shards 1", &disk.path().join("out"));
    let server = pair.serve(server_v4(0));
    let said = talk(&pair.client, &server, &[(16, 4 << 20); 16]);
    let outcome = capture.stop();
    outcome.assert_success();
    let records = outcome.output.closed.len();
    assert_eq!(records as u64 + outcome.count("/sink/records_lost"), said.len() as u64);
    assert!(outcome.count("/sink/disk_full") > 0, "{}", outcome.stderr);
    for record in &outcome.output.closed {
        let said = said.iter().find(|said| said.client == record.client).unwrap();
        assert!(record.s2c.causes().iter().all(|cause| *cause == "disk-full"), "{record:#?}");
        outcome.output.assert_explained(record, &record.c2s, &said.c2s);
        outcome.output.assert_explained(record, &record.s2c, &said.s2c);
    }
    pair.assert_untouched();
}

/// A file may not grow as large as its stream: the stream stops there, and nothing else does.
fn limited_files() {
    const MOST: u64 = 1 << 20;
    let pair = Pair::new();
    let scratch = Scratch::new();
    let mut command = Command::new("prlimit");
    command.arg(format!("--fsize={MOST}")).arg(env!("CARGO_BIN_EXE_xdpflow")).args(["capture", "-i", "s0"]);
    let capture = Capture::spawn(&pair.server, command, scratch.path()).attached();
    let server = pair.serve(server_v4(0));
    let said = talk(&pair.client, &server, &[(100, 2 << 20), (100, 1000)]);
    let outcome = capture.stop();
    outcome.assert_success();
    for said in &said {
        let record = outcome.output.record(said.client, said.server);
        outcome.output.assert_explained(record, &record.c2s, &said.c2s);
        outcome.output.assert_explained(record, &record.s2c, &said.s2c);
        let stopped = said.s2c.len() as u64 > MOST;
        assert_eq!(record.s2c.causes(), if stopped { vec!["write-error"] } else { vec![] }, "{record:#?}");
    }
    assert_eq!(outcome.count("/sink/write_error"), (2 << 20) - MOST);
}

/// Five seconds in which every write blocks, at full rate. The ring never notices; streams that were hurt say so.
fn stalled_disk() {
    let pair = Pair::new();
    let disk = Disk::new("16G");
    let out = disk.path().join("out");
    let capture = Capture::start_into(&pair.server, "-i s0", &out);
    let server = pair.serve(server_v4(0));
    let sizes = [(100, 16 << 20), (16 << 20, 100)];
    let ((), said) = talk_during(&pair.client, &server, &sizes, || {
        sleep(Duration::from_millis(500));
        let frozen = disk.freeze();
        sleep(Duration::from_secs(5));
        drop(frozen);
        sleep(Duration::from_millis(500));
    });
    // Once the disk is back, everything is.
    sleep(Duration::from_secs(1));
    let after = talk(&pair.client, &server, &[(1 << 20, 1 << 20)]);
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.count("/source/kernel/ring_full"), 0, "{}", outcome.stderr);

    let mut hurt = 0;
    for said in &said {
        let record = outcome.output.finished(said.client, said.server);
        for (stream, sent) in [(&record.c2s, &said.c2s), (&record.s2c, &said.s2c)] {
            assert!(stream.causes().iter().all(|cause| *cause == "disk-slow"), "{record:#?}");
            outcome.output.assert_explained(record, stream, sent);
            hurt += usize::from(stream.missing_total() > 0);
        }
    }
    assert!(hurt > 0, "the stall was felt: {} connections", said.len());
    let record = outcome.output.record(after[0].client, after[0].server);
    outcome.output.assert_said(record, &after[0]);
    pair.assert_untouched();
}
