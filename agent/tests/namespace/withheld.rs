//! What the kernel counts and does not copy makes no difference to what is written.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};

use crate::capture::{Capture, Outcome};
use crate::chance::Crowd;
use crate::conversation::noise;
use crate::handmade::Handmade;
use crate::link::{Pair, server_v4, server_v6};
use crate::packet::PacketSocket;
use crate::recording::Recording;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("withheld::acks_of_sockets", acks_of_sockets),
    Test::new("withheld::acks_of_made_frames", acks_of_made_frames),
    Test::new("withheld::cutoff_of_made_frames", cutoff_of_made_frames),
    Test::new("withheld::cutoff_of_what_was_given_up", cutoff_of_what_was_given_up),
];

/// Two captures of the same interface, of which one copies everything.
fn acks_of_sockets() {
    let pair = Pair::new();
    let [copied, withheld] = ["copy", "withhold"]
        .map(|acks| Capture::start(&pair.server, &format!("-i s0 --attach tc --acks {acks} --idle-timeout 2s")));
    thread::scope(|scope| {
        for address in [IpAddr::from(server_v4(0)), server_v6(0).into()] {
            for order in 0..3 {
                let pair = &pair;
                scope.spawn(move || {
                    let listener = pair.server.run(|| TcpListener::bind((address, 0))).unwrap();
                    let kinds = KINDS.iter().cycle().skip(order * 5).take(KINDS.len() * 6);
                    let open: Vec<_> = kinds.map(|kind| meet(pair, &listener, *kind)).collect();
                    stuck(pair, &listener);
                    // What was left open falls silent.
                    sleep(Duration::from_millis(3_300));
                    drop(open);
                });
            }
        }
    });
    // Nobody listens: a SYN, and a RST.
    for port in 1..20 {
        pair.client.run(|| TcpStream::connect((server_v4(0), port))).unwrap_err();
    }
    let [copied, withheld] = stop([copied, withheld]);
    copied.assert_success();
    withheld.assert_success();
    assert_eq!(copied.count("/source/kernel/withheld_acks"), 0);
    assert!(withheld.count("/source/kernel/withheld_acks") > 1_000);
    for ended in ["fin", "rst", "idle"] {
        assert!(copied.output.closed.iter().any(|record| record.ended == ended), "{ended}");
    }
    assert!(copied.output.closed.len() > 300);
    copied.output.assert_alike(&withheld.output, &[]);
}

/// Connections that lose segments, say things twice, in the wrong order, or never end, and timers that run out meanwhile.
fn acks_of_made_frames() {
    let pair = Pair::new();
    let [copied, withheld] = ["copy", "withhold"]
        .map(|acks| Capture::start(&pair.server, &format!("-i s0 --attach tc --acks {acks} {TIMEOUTS} {IDLE}")));
    crowd(&pair, 1, false);
    let [copied, withheld] = stop([copied, withheld]);
    copied.assert_success();
    withheld.assert_success();
    assert!(withheld.count("/source/kernel/withheld_acks") > 300);
    assert!(copied.output.closed.len() > 400);
    for cause in ["not-captured", "timeout", "close"] {
        let has = |record: &&crate::record::Record| record.c2s.missing.contains_key(cause);
        assert!(copied.output.closed.iter().any(|record| has(&record)), "{cause}");
    }
    copied.output.assert_alike(&withheld.output, &[]);
}

/// The kernel cuts off, or the agent does, who has seen it all: in a replay of what tcpdump has recorded.
fn cutoff_of_made_frames() {
    const CASES: [&str; 4] = ["", "--cutoff 700", "--cutoff 3001", "--headers-only"];
    let pair = Pair::new();
    let recording = Recording::start(&pair.server, "s0");
    let captures = CASES.map(|flags| Capture::start(&pair.server, &format!("-i s0 --attach tc {flags} {TIMEOUTS}")));
    crowd(&pair, 2, true);
    let captures = stop(captures);
    let (file, _scratch) = recording.stop();
    for (live, flags) in captures.iter().zip(CASES) {
        live.assert_success();
        assert!(flags.is_empty() || live.count("/source/kernel/withheld_cutoff") > 0);
        let replayed = Capture::replay(&format!("{} {flags} {TIMEOUTS}", file.display()));
        replayed.assert_success();
        live.output.assert_alike(&replayed.output, &["interface", "filter"]);
    }
}

/// What goes on behind its cut-off when its record is closed has another record, as in a replay.
fn cutoff_of_what_was_given_up() {
    const FLAGS: &str = "--cutoff 1000 --idle-timeout 1s";
    let pair = Pair::new();
    let recording = Recording::start(&pair.server, "s0");
    let capture = Capture::start(&pair.server, &format!("-i s0 --attach tc {FLAGS}"));
    let listener = pair.server.run(|| TcpListener::bind((server_v4(0), 0))).unwrap();
    let client = pair.client.run(|| TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    let (server, _) = listener.accept().unwrap();
    say(&client, &server, 5_000);
    sleep(Duration::from_millis(2_500));
    say(&client, &server, 3_000);
    say(&server, &client, 2_000);
    close(client, server);
    let live = capture.stop();
    live.assert_success();
    assert_eq!(live.count("/source/kernel/flows_evicted"), 0);
    let [first, then] = &live.output.closed[..] else { panic!("{:#?}", live.output.closed) };
    assert_eq!((&*first.ended, &*then.ended), ("idle", "fin"));
    assert_eq!((first.c2s.bytes, then.c2s.bytes, then.s2c.bytes), (1_000, 1_000, 1_000));
    let (file, _scratch) = recording.stop();
    let replayed = Capture::replay(&format!("{} {FLAGS}", file.display()));
    replayed.assert_success();
    live.output.assert_alike(&replayed.output, &["interface", "filter"]);
}

/// All at once, so that time runs out in none of them.
fn stop<const N: usize>(captures: [Capture; N]) -> [Outcome; N] {
    captures.iter().for_each(|capture| capture.signal(Signal::SIGINT));
    captures.map(Capture::wait)
}

/// Far from the pauses of a crowd, on either side.
const TIMEOUTS: &str = "--gap-hold 150ms --gap-timeout 350ms --pickup-hold 50ms --rst-hold 150ms";
const IDLE: &str = "--idle-timeout 1s --fin-timeout 1s --handshake-timeout 1s";

/// Several hundred connections, with pauses in which timers run out.
fn crowd(pair: &Pair, seed: u64, orderly: bool) {
    let wire = PacketSocket::open(&pair.client, "c0");
    let mut crowd = Crowd::begin(&wire, seed, 400, orderly);
    for _ in 0..5 {
        (0..3).for_each(|_| crowd.step());
        sleep(Duration::from_millis(600));
    }
    // All are idle by then. In a replay time passes with frames alone.
    sleep(Duration::from_millis(700));
    Handmade::open(&wire);
    sleep(Duration::from_millis(100));
}

/// What becomes of a connection; its ends, as long as they are to stay open.
type Kind = fn(TcpStream, TcpStream) -> Option<[TcpStream; 2]>;

const KINDS: &[Kind] = &[
    |client, server| {
        say(&client, &server, 3_000);
        say(&server, &client, 70_000);
        close(client, server)
    },
    |client, server| {
        say(&server, &client, 200_000);
        say(&client, &server, 10);
        close(server, client)
    },
    // Both at once, more or less.
    |client, server| {
        say(&client, &server, 100);
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        None
    },
    |client, server| {
        say(&client, &server, 5_000);
        reset(client);
        drop(server);
        None
    },
    |client, server| {
        say(&server, &client, 5_000);
        reset(server);
        drop(client);
        None
    },
    // Closed before all was read.
    |client, server| {
        (&client).write_all(&noise(2_000)).unwrap();
        (&server).read_exact(&mut [0; 10]).unwrap();
        drop(server);
        drop(client);
        None
    },
    |client, server| {
        say(&client, &server, 5_000);
        Some([client, server])
    },
    |client, server| Some([client, server]),
    // Nothing at all, and one side alone.
    |client, server| close(client, server),
    |client, server| {
        say(&server, &client, 40_000);
        close(server, client)
    },
    // Half closed.
    |client, server| {
        say(&client, &server, 400);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        say(&server, &client, 100_000);
        close(server, client)
    },
    // In small pieces, with pauses for delayed acknowledgments.
    |client, server| {
        for _ in 0..3 {
            say(&client, &server, 7);
            sleep(Duration::from_millis(45));
        }
        close(server, client)
    },
];

fn meet(pair: &Pair, listener: &TcpListener, kind: Kind) -> Option<[TcpStream; 2]> {
    let client = pair.client.run(|| TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    kind(client, server)
}

/// The server does not read until its window has been closed for a while.
fn stuck(pair: &Pair, listener: &TcpListener) {
    set_socket_recv_buffer_size(listener, 8 << 10).unwrap();
    let client = pair.client.run(|| TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    let (server, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (&client).write_all(&noise(100_000)).unwrap());
        sleep(Duration::from_millis(800));
        (&server).read_exact(&mut [0; 100_000]).unwrap();
    });
    close(client, server);
}

fn say(mut from: &TcpStream, mut to: &TcpStream, octets: usize) {
    thread::scope(|scope| {
        scope.spawn(move || from.write_all(&noise(octets)).unwrap());
        to.read_exact(&mut vec![0; octets]).unwrap();
    });
}

fn close(first: TcpStream, then: TcpStream) -> Option<[TcpStream; 2]> {
    first.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&then).read(&mut [0]).unwrap(), 0);
    drop(then);
    assert_eq!((&first).read(&mut [0]).unwrap(), 0);
    None
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}
