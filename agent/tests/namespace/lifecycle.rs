//! Connections that live longer than the capture, and captures that die.

use std::io::{Write as _, pipe};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use crate::capture::{Capture, Scratch, xdpflow};
use crate::conversation::{Client, short, talk, talk_during};
use crate::deadline::{eventually, timed};
use crate::link::{Pair, attached, server_v4, server_v6};
use crate::record::Output;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("lifecycle::keep_alive", keep_alive),
    Test::new("lifecycle::interactive", interactive),
    Test::new("lifecycle::open_at_stop", open_at_stop),
    Test::new("lifecycle::open_at_start", open_at_start),
    Test::new("lifecycle::terminated", terminated),
    Test::new("lifecycle::nobody_listens", nobody_listens),
    Test::new("lifecycle::killed_at_start", killed_at_start),
    Test::new("lifecycle::killed_in_traffic", killed_in_traffic),
];

/// Many requests on one connection.
fn keep_alive() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0");
    let server = pair.serve(server_v4(0));
    let mut clients = [(); 5].map(|()| Client::connect(&pair.client, &server));
    for (up, down) in short(40) {
        clients.iter_mut().for_each(|client| client.exchange(up, down));
    }
    let said = clients.map(Client::finish);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// Keystrokes, and pauses in which the stack probes whether the peer is still there.
fn interactive() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0");
    let server = pair.serve(server_v6(0));
    let mut client = Client::connect(&pair.client, &server);
    setsockopt(client.socket(), sockopt::KeepAlive, &true).unwrap();
    setsockopt(client.socket(), sockopt::TcpKeepIdle, &1).unwrap();
    setsockopt(client.socket(), sockopt::TcpKeepInterval, &1).unwrap();
    for pause in [0, 5, 20, 50, 1_200, 2_500, 10] {
        sleep(Duration::from_millis(pause));
        client.exchange(17, 1);
        client.exchange(18, 40);
    }
    let said = client.finish();
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete([&said]);
}

/// What was said until the end is there, and the record says that it was not all.
fn open_at_stop() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0");
    let [v4, v6] = pair.servers();
    let mut clients: Vec<_> = (0..10).map(|i| Client::connect(&pair.client, [&v4, &v6][i % 2])).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.exchange(1_000 + i * 30_000, 2_000 + i * 50_000);
    }
    // The last acknowledgements are on their way.
    sleep(Duration::from_millis(50));
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.output.closed.len(), clients.len());
    for said in clients.iter().map(Client::so_far) {
        let record = outcome.output.record(said.client, said.server);
        assert_eq!((record.started.as_str(), record.ended.as_str()), ("handshake", "finish"), "{record:#?}");
        outcome.output.assert_said(record, &said);
    }
    assert!(outcome.output.stream_files().iter().all(|file| !file.starts_with("open")));
}

/// A connection under way is picked up where it is.
fn open_at_start() {
    let pair = Pair::new();
    let server = pair.serve(server_v4(0));
    let mut client = Client::connect(&pair.client, &server);
    client.exchange(70_000, 90_000);
    let before = client.so_far();
    let capture = Capture::start(&pair.server, "-i s0");
    client.exchange(50_000, 60_000);
    let said = client.finish();
    // The start of what is picked up is held for a moment, in case an earlier segment is still on its way.
    sleep(Duration::from_millis(300));
    let outcome = capture.stop();
    outcome.assert_success();
    let record = outcome.output.record(said.client, said.server);
    assert_eq!((record.started.as_str(), record.ended.as_str()), ("midstream", "fin"), "{record:#?}");
    outcome.output.assert_stream(record, &record.c2s, &said.c2s[before.c2s.len()..]);
    outcome.output.assert_stream(record, &record.s2c, &said.s2c[before.s2c.len()..]);
}

/// SIGTERM is as good as Ctrl-C.
fn terminated() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0");
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(30));
    capture.signal(Signal::SIGTERM);
    let outcome = capture.wait();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    pair.assert_untouched();
}

/// Standard error is a pipe that is full from the start: nothing waits for that.
fn nobody_listens() {
    let pair = Pair::new();
    let scratch = Scratch::new();
    let (unread, mut full) = pipe().unwrap();
    // What a pipe takes (pipe(7)).
    full.write_all(&[b'\n'; 64 << 10]).unwrap();
    let mut command = xdpflow("capture -i s0");
    command.arg("-o").arg(scratch.path()).stderr(full);
    let mut capture = pair.server.run(|| command.spawn()).unwrap();
    eventually("attached", Duration::from_secs(20), || attached(&pair.server, "s0").len() == 2);
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(10));
    kill(Pid::from_raw(capture.id().cast_signed()), Signal::SIGTERM).unwrap();
    let (status, time) = timed(|| capture.wait().unwrap());
    assert!(status.success() && time < Duration::from_secs(15), "{status}, {time:?}");
    Output::read(scratch.path()).assert_complete(&said);
    pair.assert_untouched();
    drop(unread);
}

/// Whatever it was doing, nothing stays attached, and the next one starts.
fn killed_at_start() {
    let pair = Pair::new();
    for mode in ["native", "generic", "tc"] {
        let args = format!("-i s0 --attach {mode}");
        let (capture, start) = timed(|| Capture::start(&pair.server, &args));
        drop(capture);
        let moments = (0..8).map(|sixths| start * sixths / 6);
        for moment in moments.chain([Duration::from_millis(50)]) {
            let scratch = Scratch::new();
            let capture = Capture::spawn(&pair.server, xdpflow(&format!("capture {args}")), scratch.path());
            sleep(moment);
            capture.signal(Signal::SIGKILL);
            drop(capture);
            pair.assert_untouched();
        }
    }
    let capture = Capture::start(&pair.server, "-i s0");
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(10));
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// The traffic does not notice, and the next capture says what the dead one left unfinished.
fn killed_in_traffic() {
    let pair = Pair::new();
    let server = pair.serve(server_v4(0));
    let scratch = Scratch::new();
    let ((), said) = talk_during(&pair.client, &server, &[(8 << 20, 8 << 20)], || {
        for wait in [50, 150, 300] {
            let capture = Capture::start_into(&pair.server, "-i s0 --attach native", scratch.path());
            assert!(!attached(&pair.server, "s0").is_empty());
            sleep(Duration::from_millis(wait));
            capture.signal(Signal::SIGKILL);
            drop(capture);
            pair.assert_untouched();
        }
    });
    assert!(!said.is_empty());
    assert!(std::fs::read_dir(scratch.path().join("open")).unwrap().count() > 0, "streams were cut short");
    let capture = Capture::start_into(&pair.server, "-i s0", scratch.path());
    assert!(capture.stderr().contains("open"), "{}", capture.stderr());
    capture.stop().assert_success();
    pair.assert_untouched();
}
