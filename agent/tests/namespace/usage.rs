//! What a person types, and is told.

use std::process::{Command, Output};

use crate::capture::{Scratch, xdpflow};
use crate::link::Pair;
use crate::namespace::Namespace;
use crate::runner::Test;

pub(crate) const TESTS: &[Test] = &[
    Test::new("usage::wrong_flags", wrong_flags).without_root(),
    Test::new("usage::help_teaches", help_teaches).without_root(),
    Test::new("usage::unknown_interface", unknown_interface),
    Test::new("usage::output_in_the_way", output_in_the_way),
    Test::new("usage::not_root", not_root),
    Test::new("usage::interfaces", interfaces),
];

/// Arguments, and what the message must name.
const WRONG: &[(&str, &str)] = &[
    ("capture -o /nonexistent/out", "--interface"),
    ("capture -i lo", "--output"),
    ("capture -i lo -o /nonexistent/out --net 10.0.0.0/33", "10.0.0.0/33"),
    ("capture -i lo -o /nonexistent/out --net 10.0.0.1/24x", "10.0.0.1/24x"),
    ("capture -i lo -o /nonexistent/out --host example", "example"),
    ("capture -i lo -o /nonexistent/out --port 65536", "65536"),
    ("capture -i lo -o /nonexistent/out --direction up", "up"),
    ("capture -i lo -o /nonexistent/out --attach magic", "magic"),
    ("capture -i lo -o /nonexistent/out --shards 0", "0"),
    ("capture -i lo -o /nonexistent/out --ring-size 12Q", "12Q"),
    ("capture -i lo -o /nonexistent/out --gap-timeout soon", "soon"),
    ("frobnicate", "frobnicate"),
];

/// Exit code 2, and a message that names the culprit.
fn wrong_flags() {
    for (args, culprit) in WRONG {
        let (code, stderr) = told(xdpflow(args));
        assert_eq!(code, Some(2), "{args}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(culprit), "{args}: {stderr}");
    }
}

fn help_teaches() {
    for args in ["--help", "capture --help", "replay --help"] {
        let output = xdpflow(args).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args}");
        assert!(stdout.contains("Examples:") && stdout.contains("xdpflow "), "{args}: {stdout}");
    }
}

fn unknown_interface() {
    let namespace = Namespace::new();
    let scratch = Scratch::new();
    let mut command = xdpflow("capture -i lo -i nosuch0 -o");
    command.arg(scratch.path().join("out"));
    let (code, stderr) = namespace.run(|| told(command));
    assert_eq!(code, Some(1), "{stderr}");
    assert_one_line(&stderr, "nosuch0");
}

/// A file where the folder should be.
fn output_in_the_way() {
    let namespace = Namespace::new();
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let mut command = xdpflow("capture -i lo -o");
    command.arg(&file);
    let (code, stderr) = namespace.run(|| told(command));
    assert_eq!(code, Some(1), "{stderr}");
    assert_one_line(&stderr, "file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

fn not_root() {
    let namespace = Namespace::new();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]);
    // Its output folder would be one that anybody may write to.
    let folder = std::env::temp_dir().join(format!("namespace-nobody-{}", std::process::id()));
    command.arg(env!("CARGO_BIN_EXE_xdpflow")).args(["capture", "-i", "lo", "-o"]).arg(&folder);
    let (code, stderr) = namespace.run(|| told(command));
    let _ = std::fs::remove_dir_all(&folder);
    assert_eq!(code, Some(1), "{stderr}");
    assert_one_line(&stderr, "sudo");
}

/// The table names every interface here with what matters for a capture.
fn interfaces() {
    let pair = Pair::with("mtu 1400");
    pair.link(1, "");
    let output = pair.server.output("env", [env!("CARGO_BIN_EXE_xdpflow"), "interfaces"]);
    for words in [["s0", "1400", "10.9.0.2", "fd09::2", "veth"], ["s1", "1500", "10.9.1.2", "fd09:0:0:1::2", "veth"]] {
        assert!(words.iter().all(|word| output.contains(word)), "{words:?} in {output}");
    }
    assert!(output.contains("lo"), "{output}");
}

/// Exit code and stderr of a command that is expected to end by itself.
fn told(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn assert_one_line(stderr: &str, word: &str) {
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    assert!(stderr.contains(word), "{stderr}");
}
