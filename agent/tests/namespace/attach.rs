//! Every way to attach sees the same streams, and leaves nothing behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::capture::{Capture, Outcome, Scratch, xdpflow};
use crate::conversation::{Conversation, short, talk};
use crate::foreign::{self, Foreign};
use crate::link::{Pair, attached};
use crate::namespace::Namespace;
use crate::record::Stream;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("attach::native", || mode("native")),
    Test::new("attach::generic", || mode("generic")),
    Test::new("attach::tc", || mode("tc")),
    Test::new("attach::auto", || mode("auto")),
    Test::new("attach::sender_side", sender_side),
    Test::new("attach::native_shards_1", || shards(1)),
    Test::new("attach::native_shards_2", || shards(2)),
    Test::new("attach::native_shards_5", || shards(5)),
    Test::new("attach::shards_agree", shards_agree),
    Test::new("attach::foreign_program", foreign_program),
    Test::new("attach::driver_without_xdp", driver_without_xdp),
];

/// Many short connections and some long ones, in both families.
fn traffic(pair: &Pair) -> Vec<Conversation> {
    let [v4, v6] = pair.servers();
    let mut said = talk(&pair.client, &v4, &short(150));
    said.extend(talk(&pair.client, &v6, &short(50)));
    said.extend(talk(&pair.client, &v4, &[(24 << 20, 100), (16, 24 << 20)]));
    said.extend(talk(&pair.client, &v6, &[(16 << 20, 16 << 20)]));
    said
}

fn mode(mode: &str) {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, &format!("-i s0 --attach {mode}"));
    let word = if mode == "auto" { "s0" } else { mode };
    assert!(capture.stderr().lines().any(|line| line.starts_with("listening on s0") && line.contains(word)));
    assert!(!attached(&pair.server, "s0").is_empty(), "the check for what is attached sees it");
    let said = traffic(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    pair.assert_untouched();
}

/// The connections are ours: what the other tests receive is sent here.
fn sender_side() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.client, "-i c0 --attach native");
    let said = traffic(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    pair.assert_untouched();
}

fn shards(count: u32) {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, &format!("-i s0 --attach native --shards {count}"));
    let said = traffic(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// The same traffic, captured three times at once.
fn shards_agree() {
    let pair = Pair::new();
    let captures = [1, 2, 5]
        .map(|shards| Capture::start(&pair.server, &format!("-i s0 --attach tc --shards {shards} --names tcpflow")));
    let said = traffic(&pair);
    let outcomes = captures.map(Capture::stop);
    for outcome in &outcomes {
        outcome.assert_success();
        outcome.output.assert_complete(&said);
    }
    let [one, two, five] = outcomes.each_ref().map(described);
    for other in [two, five] {
        let differing: Vec<_> = one.symmetric_difference(&other).collect();
        assert!(differing.is_empty(), "{differing:#?}");
    }
    pair.assert_untouched();
}

/// The message says what to try.
fn driver_without_xdp() {
    let namespace = Namespace::new();
    let stderr = refused(&namespace, "-i lo --attach native");
    assert!(stderr.contains("lo") && stderr.contains("--attach generic"), "{stderr}");
    assert!(attached(&namespace, "lo").is_empty());
}

/// What a capture that cannot attach says, in one line.
fn refused(namespace: &Namespace, args: &str) -> String {
    let scratch = Scratch::new();
    let mut command = xdpflow(&format!("capture {args} -o"));
    command.arg(scratch.path());
    let output = namespace.run(|| command.output()).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    stderr
}

/// Everything in the records that neither the capture chooses nor the order in which its ring got the frames of several
/// processors: whether a segment came before another or behind the last ACK is that ring's own experience.
fn described(outcome: &Outcome) -> BTreeSet<(SocketAddr, SocketAddr, String)> {
    let stream = |s: &Stream| format!("{} {} {:?} {:?} {:?}", s.bytes, s.conflict, s.file, s.gaps, s.missing);
    let records = outcome.output.closed.iter();
    records
        .map(|r| (r.client, r.server, format!("{} {} {} | {}", r.started, r.ended, stream(&r.c2s), stream(&r.s2c))))
        .collect()
}

/// A program that is there is named, stays, and tc works beside it.
fn foreign_program() {
    let pair = Pair::new();
    let foreign = Foreign::attach(&pair.server, "s0");
    let before = attached(&pair.server, "s0");
    for mode in ["native", "generic"] {
        let stderr = refused(&pair.server, &format!("-i s0 --attach {mode}"));
        assert!(stderr.contains(foreign::NAME) && stderr.contains("--attach tc"), "{stderr}");
        assert_eq!(attached(&pair.server, "s0"), before, "{mode}");
    }
    let capture = Capture::start(&pair.server, "-i s0 --attach tc");
    let said = traffic(&pair);
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
    assert_eq!(attached(&pair.server, "s0"), before);
    drop(foreign);
    pair.assert_untouched();
}
