//! The filter of a capture that runs is shown and changed, and nothing else changes with it.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::capture::{Capture, Outcome, Scratch, xdpflow};
use crate::conversation::{Conversation, short, talk, talk_during};
use crate::deadline::{eventually, timed};
use crate::link::{Pair, attached, server_v4, server_v6};
use crate::namespace::Namespace;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("control::set_and_show", set_and_show),
    Test::new("control::errors_change_nothing", errors_change_nothing),
    Test::new("control::change_under_load", change_under_load),
    Test::new("control::change_at_xdp", change_at_xdp),
    Test::new("control::what_is_no_request", what_is_no_request),
    Test::new("control::clients_that_hang", clients_that_hang),
    Test::new("control::whose_socket", whose_socket),
    Test::new("control::only_one", only_one).alone(),
    Test::new("control::hangup_without_files", hangup_without_files),
    Test::new("control::hangup_reads_files", hangup_reads_files),
    Test::new("control::hangup_after_set", hangup_after_set),
    Test::new("control::hangup_on_a_pipe", hangup_on_a_pipe),
];

/// What was set is what is captured, and every record says by which filter it came.
fn set_and_show() {
    let pair = Pair::new();
    let servers = [pair.serve(server_v4(0)), pair.serve(server_v4(0)), pair.serve(server_v6(0))];
    let [first, second, third] = &servers;
    let control = Control::new();
    let capture = control.start(&pair.server, &format!("-i s0 --snaplen 9000 --port {}", first.address.port()));
    let mode = fs::symlink_metadata(&control.path).unwrap();
    assert!(mode.file_type().is_socket());
    assert_eq!(mode.permissions().mode() & 0o7777, 0o600);

    let port = first.address.port().to_string();
    let status = control.status();
    for (field, value) in [
        ("v", json!(1)),
        ("generation", json!(1)),
        ("changes", json!(0)),
        ("words", json!(["--port", port])),
        ("interfaces", json!(["s0"])),
        ("snaplen", json!(9000)),
        ("comparisons", json!(1)),
        ("sets", json!(0)),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!(status["directory"], json!(std::env::current_dir().unwrap()));
    assert_eq!(status["counters"]["ring_full"], json!(0));

    let mut wanted = talk(&pair.client, first, &short(10));
    talk(&pair.client, second, &short(10));
    assert!(control.set(&format!("--port {}", second.address.port())).starts_with("generation 2: "));
    talk(&pair.client, first, &short(10));
    wanted.extend(talk(&pair.client, second, &short(10)));
    assert!(control.set(&format!("--net ::/0 --port {}", third.address.port())).starts_with("generation 3: "));
    wanted.extend(talk(&pair.client, third, &short(10)));

    let status = control.status();
    assert_eq!((&status["generation"], &status["changes"]), (&json!(3), &json!(2)));
    let [all, third_alone] = ["counters", "counters_of_generation"].map(|of| status[of]["matched"].as_u64().unwrap());
    assert!(third_alone > 20 && all > third_alone + 40, "{status}");
    let shown = control.run("show").0;
    assert!(shown.contains("--net ::/0") && shown.contains("generation  3, changed 2 times"), "{shown}");
    assert!(shown.contains("of generation 3: "), "{shown}");

    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.count("/filter_changes"), 2);
    outcome.output.assert_complete(&wanted);
    for (generation, server) in (1..).zip(&servers) {
        for record in outcome.output.closed.iter().filter(|record| record.server == server.address) {
            assert_eq!(record.generation, generation, "{record:#?}");
        }
    }
    assert!(!control.path.exists());
}

/// Whoever finds the error, the old filter stays.
fn errors_change_nothing() {
    let pair = Pair::new();
    let control = Control::new();
    let server = pair.serve(server_v4(0));
    let capture = control.start(&pair.server, &format!("-i s0 --port {}", server.address.port()));
    let before = control.status();
    for (args, code, culprit) in [
        ("--port 0", 2, "0"),
        ("--net 10.0.0.1/8", 2, "10.0.0.0/8"),
        ("--decap all", 2, "--decap is fixed when a capture starts"),
        ("--snaplen 100", 2, "--snaplen is fixed when a capture starts"),
        ("-o out", 2, "-o"),
    ] {
        let (status, stderr) = control.refused(&format!("set {args}"));
        assert!(status == Some(code) && stderr.contains(culprit), "{args}: {stderr}");
    }
    // What the client lets through by mistake the capture refuses.
    for (words, culprit) in [
        (json!(["--port", "0"]), "--port"),
        (json!(["--snaplen", "100"]), "--snaplen"),
        (json!(["--decap", "all"]), "--decap"),
        (json!(["--output", "/"]), "--output"),
    ] {
        let request = json!({ "v": 1, "do": "set", "words": words, "directory": "/" });
        let answer = control.say(request.to_string().as_bytes());
        assert!(answer["error"].as_str().unwrap().contains(culprit), "{answer}");
    }
    let mut after = control.status();
    for counters in ["counters", "counters_of_generation"] {
        after[counters] = before[counters].clone();
    }
    assert_eq!(before, after);
    let said = talk(&pair.client, &server, &short(10));
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.count("/filter_changes"), 0);
    outcome.output.assert_complete(&said);
}

/// Connections that every filter wants lose nothing; nothing that one filter let through is refused by another one.
fn change_under_load() {
    changes("tc", 2);
}

fn change_at_xdp() {
    changes("native", 1);
}

fn changes(attach: &str, shards: u32) {
    let pair = Pair::new();
    let [kept, other] = [pair.serve(server_v4(0)), pair.serve(server_v4(0))];
    let [kept_port, other_port] = [&kept, &other].map(|server| server.address.port());
    let control = Control::new();
    let args = format!("-i s0 --attach {attach} --shards {shards} --port {kept_port} --idle-timeout 2s");
    let capture = control.start(&pair.server, &args);
    let before = hooks(&pair.server, "s0");
    let filters = [
        format!("--port {kept_port} --port {other_port}"),
        format!("--port {kept_port}"),
        "ip and src or dst net 10.9.0.0/24".to_owned(),
        format!("--host 10.9.0.2 --port {kept_port}"),
        String::new(),
        format!("--port {kept_port} --net 10.9.0.2/31"),
    ];
    let ((changes, _), said) = talk_during(&pair.client, &kept, LOAD, || {
        talk_during(&pair.client, &other, LOAD, || {
            let sets = filters.iter().cycle().take(60).map(|flags| control.set(flags));
            sets.count()
        })
    });
    let status = control.status();
    assert_eq!(status["generation"], json!(changes + 1));
    assert_eq!(hooks(&pair.server, "s0"), before, "nothing was attached anew");
    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.count("/filter_changes"), changes as u64);
    assert_eq!(outcome.count("/frames/filtered"), 0);
    assert_eq!(outcome.count("/source/kernel/ring_full"), 0);
    assert_all(&outcome, &said);
    let generations = outcome.output.closed.iter().map(|record| record.generation);
    assert!(generations.max() > Some(10), "connections opened while the filter changed");
    assert!(outcome.output.closed.iter().any(|record| record.server == other.address), "the other port was captured");
    pair.assert_untouched();
}

const LOAD: &[(usize, usize)] = &[(300_000, 2_000_000), (16, 100), (2_000_000, 16), (5_000, 5_000)];

/// Every one of these, whole; what else there is does not matter.
fn assert_all(outcome: &Outcome, said: &[Conversation]) {
    assert!(!said.is_empty());
    for said in said {
        let record = outcome.output.finished(said.client, said.server);
        outcome.output.assert_said(record, said);
    }
}

/// Each is answered with what is wrong with it, and the capture goes on.
fn what_is_no_request() {
    let pair = Pair::new();
    let control = Control::new();
    let capture = control.start(&pair.server, "-i s0");
    let deep = "[".repeat(10_000);
    for (request, error) in [
        ("", "not a line of JSON"),
        ("\n", "not a line of JSON"),
        ("show\n", "not a line of JSON"),
        ("{\"v\":1,\"do\":\"show\"", "not a line of JSON"),
        ("{\"v\":1,\"do\":\"stop\"}\n", "unknown variant"),
        ("{\"v\":1,\"do\":\"set\"}\n", "missing field"),
        ("{\"v\":1,\"do\":\"set\",\"words\":[1],\"directory\":\"/\"}\n", "invalid type"),
        ("{\"v\":7,\"do\":\"show\"}\n", "version 7"),
        (deep.as_str(), "not a line of JSON"),
        (" ".repeat(1 << 20).as_str(), "longer than 65536 octets"),
    ] {
        let answer = control.say(request.as_bytes());
        assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
    }
    // Octets that are no text, and a client that does not wait for its answer.
    assert!(control.say(b"\xff\xfe\x00{}\n")["error"].is_string());
    (0..100).for_each(|_| control.connect().write_all(b"{\"v\":1,\"do\":\"show\"}\n").unwrap());
    assert_eq!(control.status()["generation"], json!(1));
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(10));
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// They keep others waiting when they are as many as are served, and not for long. The frames never wait.
fn clients_that_hang() {
    let pair = Pair::new();
    let server = pair.serve(server_v4(0));
    let control = Control::new();
    let capture = control.start(&pair.server, "-i s0");
    let few: Vec<_> = (0..4).map(|_| control.connect()).collect();
    let (_, time) = timed(|| control.status());
    assert!(time < Duration::from_secs(5), "{time:?}");
    let many: Vec<_> = (0..10).map(|_| control.connect()).collect();
    many.iter().for_each(|mut stream| stream.write_all(b"{").unwrap());
    let said = talk(&pair.client, &server, &short(20));
    assert_eq!(control.status()["generation"], json!(1));
    // Those that still hang do not keep the capture from its end.
    let (outcome, time) = timed(|| capture.stop());
    assert!(time < Duration::from_secs(5), "{time:?}");
    drop((few, many));
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// A dead agent's is replaced, a living one's is not, and what is no socket stays.
fn whose_socket() {
    let pair = Pair::new();
    let control = Control::new();
    let fails = |word: &str| {
        let scratch = Scratch::new();
        let mut command = xdpflow("capture -i s0 --control");
        command.arg(&control.path).arg("-o").arg(scratch.path());
        let Output { status, stderr, .. } = pair.server.run(|| command.output()).unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
    };
    fs::write(&control.path, "mine").unwrap();
    fails("something else is there");
    assert_eq!(fs::read(&control.path).unwrap(), b"mine");
    fs::remove_file(&control.path).unwrap();

    let capture = control.start(&pair.server, "-i s0");
    fails("another agent listens there");
    assert_eq!(control.status()["generation"], json!(1), "it still listens");
    capture.signal(Signal::SIGKILL);
    drop(capture);
    assert!(control.path.exists());
    let (code, stderr) = control.refused("show");
    assert!(code == Some(1) && stderr.contains("none runs there"), "{stderr}");

    let capture = control.start(&pair.server, "-i s0 --port 7");
    assert_eq!(control.status()["words"], json!(["--port", "7"]));
    capture.signal(Signal::SIGTERM);
    capture.wait().assert_success();
    assert!(!control.path.exists());
    pair.assert_untouched();
}

/// Who does not say which capture means the only one.
fn only_one() {
    let pair = Pair::new();
    let folder = Path::new("/run/xdpflow");
    let none = refused(xdpflow("filter show").output().unwrap());
    assert!(none.0 == Some(1) && none.1.contains("no capture runs"), "{}", none.1);

    let first = Capture::start(&pair.server, "-i s0 --attach tc --port 1");
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o7777, 0o700);
    let told = |args: &str| answer(xdpflow(args).output().unwrap());
    assert!(told("filter show").contains("--port 1"));
    assert!(told("filter set --port 2").starts_with("generation 2"));

    let second = Capture::start(&pair.client, "-i c0 --attach tc --port 3");
    let (code, stderr) = refused(xdpflow("filter set --port 4").output().unwrap());
    assert!(code == Some(1) && stderr.contains("2 captures run"), "{stderr}");
    assert!(stderr.contains("(s0)") && stderr.contains("(c0)") && stderr.contains("/run/xdpflow/"), "{stderr}");
    first.signal(Signal::SIGKILL);
    drop(first);
    assert!(told("filter show").contains("--port 3"), "the dead one's is none");
    second.stop().assert_success();

    // The next one that starts sweeps, and removes what is its own.
    let third = Capture::start(&pair.server, "-i s0");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    third.stop().assert_success();
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);

    // Where others could look in, there is no socket; the capture does without.
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let open = Capture::start(&pair.server, "-i s0");
    assert!(open.stderr().contains("the filter cannot be changed while this runs"), "{}", open.stderr());
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(5));
    let outcome = open.stop();
    fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

fn hangup_without_files() {
    let pair = Pair::new();
    let capture = Capture::start(&pair.server, "-i s0 --net 10.9.0.0/24");
    let server = pair.serve(server_v4(0));
    let mut said = talk(&pair.client, &server, &short(5));
    capture.signal(Signal::SIGHUP);
    told(&capture, "nothing to read again");
    said.extend(talk(&pair.client, &server, &short(5)));
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// What the files say now is what is captured, unless it is nothing.
fn hangup_reads_files() {
    let pair = Pair::new();
    let [v4, v6] = pair.servers();
    let control = Control::new();
    let nets = control.path.with_file_name("nets");
    fs::write(&nets, "# the server\n10.9.0.2\n").unwrap();
    let capture = control.start(&pair.server, &format!("-i s0 --nets-file {}", nets.display()));
    let mut wanted = talk(&pair.client, &v4, &short(5));
    talk(&pair.client, &v6, &short(5));

    let many: String = (0..9_999).map(|n| format!("10.200.{}.{}\n", n / 256, n % 256)).collect();
    fs::write(&nets, many + "fd09::/64\n").unwrap();
    capture.signal(Signal::SIGHUP);
    told(&capture, "filter of generation 2: ");
    assert!(capture.stderr().contains("1 set of 10000 nets"), "{}", capture.stderr());
    talk(&pair.client, &v4, &short(5));
    wanted.extend(talk(&pair.client, &v6, &short(5)));

    for (content, error) in [(Some("fd09::/64\n10.9.0.1/8\n"), "nets:2: 10.9.0.1/8"), (None, "no such file")] {
        let _ = fs::remove_file(&nets);
        if let Some(content) = content {
            fs::write(&nets, content).unwrap();
        }
        capture.signal(Signal::SIGHUP);
        told(&capture, error);
        let stderr = capture.stderr();
        let line = stderr.lines().find(|line| line.contains(error)).unwrap();
        assert!(line.starts_with("SIGHUP: the filter stays as it was: "), "{line}");
        wanted.extend(talk(&pair.client, &v6, &short(5)));
    }
    assert_eq!(control.status()["generation"], json!(2));

    let outcome = capture.stop();
    outcome.assert_success();
    assert_eq!(outcome.count("/filter_changes"), 1);
    outcome.output.assert_complete(&wanted);
}

/// Relative to where the filter was typed, not to where the capture was started.
fn hangup_after_set() {
    let pair = Pair::new();
    let [v4, v6] = pair.servers();
    let control = Control::new();
    let capture = control.start(&pair.server, "-i s0 --port 1");
    let folder = control.path.parent().unwrap();
    fs::write(folder.join("nets"), "10.9.0.0/24\n").unwrap();
    let set = xdpflow("filter set --nets-file nets --control control").current_dir(folder).output().unwrap();
    assert!(answer(set).starts_with("generation 2: "));
    let mut wanted = talk(&pair.client, &v4, &short(5));
    talk(&pair.client, &v6, &short(5));
    fs::write(folder.join("nets"), "fd09::/64\n").unwrap();
    capture.signal(Signal::SIGHUP);
    told(&capture, "filter of generation 3: ");
    wanted.extend(talk(&pair.client, &v6, &short(5)));
    let outcome = capture.stop();
    outcome.assert_success();
    outcome.output.assert_complete(&wanted);
}

/// A pipe that nobody writes to keeps neither the capture nor its end.
fn hangup_on_a_pipe() {
    let pair = Pair::new();
    let control = Control::new();
    let nets = control.path.with_file_name("nets");
    fs::write(&nets, "10.9.0.0/24\n").unwrap();
    let capture = control.start(&pair.server, &format!("-i s0 --nets-file {}", nets.display()));
    fs::remove_file(&nets).unwrap();
    assert!(Command::new("mkfifo").arg(&nets).status().unwrap().success());
    capture.signal(Signal::SIGHUP);
    let said = talk(&pair.client, &pair.serve(server_v4(0)), &short(10));
    assert_eq!(control.status()["generation"], json!(1));
    eventually("a line", Duration::from_secs(15), || capture.stderr().contains("took longer than 10s"));
    let (outcome, time) = timed(|| capture.stop());
    assert!(time < Duration::from_secs(5), "{time:?}");
    outcome.assert_success();
    outcome.output.assert_complete(&said);
}

/// Waits for a line.
fn told(capture: &Capture, words: &str) {
    eventually(words, Duration::from_secs(10), || capture.stderr().contains(words));
}

/// A control socket, away from the output.
struct Control {
    path: PathBuf,
    _scratch: Scratch,
}

impl Control {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self { path: scratch.path().join("control"), _scratch: scratch }
    }

    fn start(&self, namespace: &Namespace, args: &str) -> Capture {
        Capture::start(namespace, &format!("{args} --control {}", self.path.display()))
    }

    /// `xdpflow filter ARGS` for this capture: standard output and the status.
    fn run(&self, args: &str) -> (String, Option<i32>, String) {
        let mut command = xdpflow(&format!("filter {args}"));
        let Output { status, stdout, stderr } = command.arg("--control").arg(&self.path).output().unwrap();
        (String::from_utf8(stdout).unwrap(), status.code(), String::from_utf8(stderr).unwrap())
    }

    /// Sets a filter; what the command says of it.
    fn set(&self, flags: &str) -> String {
        let (stdout, code, stderr) = self.run(&format!("set {flags}"));
        assert_eq!(code, Some(0), "{flags}: {stderr}");
        stdout
    }

    fn status(&self) -> Value {
        let (stdout, code, stderr) = self.run("show --json");
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    fn refused(&self, args: &str) -> (Option<i32>, String) {
        let (stdout, code, stderr) = self.run(args);
        assert_eq!(stdout, "", "{args}");
        (code, stderr)
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).unwrap()
    }

    /// The answer to these octets, behind which nothing comes.
    fn say(&self, octets: &[u8]) -> Value {
        let mut stream = self.connect();
        // Of what is too long only a part is read.
        let _ = stream.write_all(octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with('\n') && answer.lines().count() == 1, "{answer:?}");
        serde_json::from_str(&answer).unwrap()
    }
}

fn answer(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The status and the only line of a command that is refused.
fn refused(output: Output) -> (Option<i32>, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    (output.status.code(), stderr)
}

/// What hangs on an interface, by number: with a revision that every attachment and every detachment moves.
fn hooks(namespace: &Namespace, interface: &str) -> (Vec<String>, Vec<(u64, Vec<u32>)>) {
    let tcx = namespace.run(|| {
        [TcAttachType::Ingress, TcAttachType::Egress].map(|side| {
            let (revision, programs) = SchedClassifier::query_tcx(interface, side).unwrap();
            (revision, programs.iter().map(aya::programs::ProgramInfo::id).collect())
        })
    });
    (attached(namespace, interface), tcx.into())
}
