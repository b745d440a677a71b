//! The first octets of each direction, and what is said of the others.

use std::fs::File;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::net::{RecvFlags, recv};

use crate::capture::{Capture, Scratch};
use crate::conversation::{Conversation, noise, short, talk};
use crate::deadline::eventually;
use crate::link::{Pair, server_v6};
use crate::record::{Gap, Output, Record, Stream};
use crate::recording::Recording;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("cutoff::six_gibibytes", six_gibibytes).alone(),
    Test::new("cutoff::native", || of_real_traffic("native")),
    Test::new("cutoff::generic", || of_real_traffic("generic")),
    Test::new("cutoff::tc", || of_real_traffic("tc")),
    Test::new("cutoff::headers_only", headers_only),
    Test::new("cutoff::replay", replay),
];

/// Sequence numbers wrap behind the cut-off, while nothing is copied.
fn six_gibibytes() {
    const MIB: u64 = 1 << 20;
    const UP: u64 = 6 << 30;
    const DOWN: u64 = 3 * MIB + 7;
    let pair = Pair::with("gso_max_size 185000 gro_max_size 185000");
    let scratch = Scratch::new();
    let capture = Capture::start_into(&pair.server, "-i s0 --attach tc --cutoff 1M", scratch.path());
    let listener = pair.server.run(|| TcpListener::bind((server_v6(0), 0))).unwrap();
    let client = pair.client.run(|| TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    let (server, _) = listener.accept().unwrap();
    let [up, down] = [noise(4 * MIB as usize), noise(DOWN as usize)];
    thread::scope(|scope| {
        scope.spawn(|| {
            pour(&client, &up, UP);
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(drain(&server), UP);
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            pour(&server, &down, DOWN);
            server.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(drain(&client), DOWN);
    });
    let ends = [client.local_addr().unwrap(), listener.local_addr().unwrap()];
    drop(client);

    // What is behind the cut-off is waited for by nobody.
    eventually("a record", Duration::from_millis(500), || !Output::read(scratch.path()).closed.is_empty());
    let outcome = capture.stop();
    outcome.assert_success();
    let record = outcome.output.finished(ends[0], ends[1]);
    for (stream, sent, total) in [(&record.c2s, &up, UP), (&record.s2c, &down, DOWN)] {
        assert_eq!(stream.bytes, MIB, "{record:#?}");
        assert_eq!(stream.gaps, [Gap::new(MIB, total - MIB, "cutoff")]);
        assert!(outcome.output.content(stream) == sent[..MIB as usize]);
    }
    assert_eq!(outcome.count("/missing"), UP + DOWN - 2 * MIB);
    let copied = outcome.count("/frames/read");
    assert!(copied < 1_000, "{copied} frames copied");
    assert!(outcome.count("/source/kernel/withheld_cutoff") > UP / 200_000);
}

/// An odd number, which ends in the middle of a segment, and streams that are shorter and longer.
fn of_real_traffic(attach: &str) {
    const CUTOFF: usize = 10_007;
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, &format!("-i s0 --attach {attach} --cutoff {CUTOFF}"));
    let mut said = Vec::new();
    for server in pair.servers() {
        said.extend(talk(&pair.client, &server, &short(30)));
        let edges = [CUTOFF - 1, CUTOFF, CUTOFF + 1].map(|size| (size, size));
        said.extend(talk(&pair.client, &server, &edges));
        said.extend(talk(&pair.client, &server, &[(3 << 20, 2 << 20)]));
    }
    let outcome = capture.stop();
    outcome.assert_success();
    assert!(outcome.count("/source/kernel/withheld_cutoff") > 100);
    assert_cut(&outcome.output, &said, CUTOFF);
}

fn headers_only() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --headers-only");
    let said: Vec<_> = pair.servers().iter().flat_map(|server| talk(&pair.client, server, &short(40))).collect();
    let outcome = capture.stop();
    outcome.assert_success();
    assert_cut(&outcome.output, &said, 0);
    assert!(outcome.output.stream_files().is_empty());
    let payload: usize = said.iter().map(|said| said.c2s.len() + said.s2c.len()).sum();
    assert_eq!(outcome.count("/missing"), payload as u64);
    // The payload of a segment with a FIN is not copied, the segment is.
    assert_eq!(outcome.count("/reassembly/cutoff"), 0);
}

/// What tcpdump has seen of the same traffic says the same.
fn replay() {
    let pair = Pair::new();
    let recording = Recording::start(&pair.server, "s0");
    let flags = ["--cutoff 5000", "--headers-only"];
    let captures = flags.map(|flags| Capture::start(&pair.server, &format!("-i s0 --attach tc {flags}")));
    for server in pair.servers() {
        talk(&pair.client, &server, &short(60));
    }
    let captures = captures.map(Capture::stop);
    let (file, _scratch) = recording.stop();
    for (live, flags) in captures.iter().zip(flags) {
        live.assert_success();
        let replayed = Capture::replay(&format!("{} {flags}", file.display()));
        replayed.assert_success();
        assert_eq!(live.output.closed.len(), 120);
        live.output.assert_alike(&replayed.output, &["interface", "filter"]);
    }
}

fn assert_cut(output: &Output, said: &[Conversation], cutoff: usize) {
    assert_eq!(output.closed.len(), said.len());
    for said in said {
        let record = output.finished(said.client, said.server);
        assert_first(output, record, &record.c2s, &said.c2s, cutoff);
        assert_first(output, record, &record.s2c, &said.s2c, cutoff);
    }
}

/// The first octets, and one gap for the others.
fn assert_first(output: &Output, record: &Record, stream: &Stream, sent: &[u8], cutoff: usize) {
    let (kept, cut) = sent.split_at(cutoff.min(sent.len()));
    let gap = Gap::new(kept.len() as u64, cut.len() as u64, "cutoff");
    assert_eq!(stream.gaps, Vec::from_iter((!cut.is_empty()).then_some(gap)), "{record:#?}");
    assert_eq!(stream.bytes, kept.len() as u64, "{record:#?}");
    assert!(output.content(stream) == kept, "{record:#?}");
}

/// Sends `octets`, again and again the same, without copying them.
fn pour(stream: &TcpStream, octets: &[u8], count: u64) {
    let mut file = File::from(memfd_create("octets", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(octets).unwrap();
    let mut left = count;
    while left > 0 {
        let mut at = (count - left) % octets.len() as u64;
        let want = left.min(octets.len() as u64 - at);
        left -= sendfile(stream, &file, Some(&mut at), want as usize).unwrap() as u64;
    }
}

/// Octets until the end, which nobody looks at.
fn drain(stream: &TcpStream) -> u64 {
    let mut nowhere = vec![0; 8 << 20];
    let mut octets = 0;
    loop {
        match recv(stream, &mut nowhere[..], RecvFlags::TRUNC).unwrap().1 {
            0 => return octets,
            received => octets += received as u64,
        }
    }
}
