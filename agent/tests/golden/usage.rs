//! What cannot be done is told in one line, and nothing panics.

use std::{
    fs::{self, File},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    outcome::{Folder, replay},
    recording::Recording,
};

#[test]
fn values_that_make_no_sense_are_named_and_exit_with_2() {
    let times = ["", "-1", "NaN", "5", "soon", "1e9", "99999999999999999999y"];
    let sizes = ["", "-1", "NaN", "1.5", "1Q", "1025G", "99999999999999999999"];
    let numbers = ["", "-1", "NaN", "1.5", "0", "4294967296", "4K"];
    for (flags, values) in [
        ("gap-hold gap-timeout idle-timeout handshake-timeout fin-timeout linger pickup-hold rst-hold", times),
        ("clock-step update-interval write-age fragment-timeout", times),
        ("max-stream-queue max-total-queue max-fragments write-buffer", sizes),
        ("max-connections max-stream-chunks max-fragmented max-open-files shards snaplen port", numbers),
        ("src-port exclude-server-port sample tcp-flags", numbers),
        ("vlan exclude-vlan", ["", "-1", "NaN", "1.5", "4096", "+7", "4K"]),
        ("client-net exclude-src-host", ["", "-1", "NaN", "10.0.0", "10.0.0.1/8", "any", "\n"]),
        ("host net decap gaps names overlap", ["", "-1", "NaN", "10.0.0", "10.0.0.1/8", "any", "\n"]),
    ] {
        for (flag, value) in flags.split(' ').flat_map(|flag| values.map(|value| (flag, value))) {
            let outcome = replay(b"", &[&format!("--{flag}={value}")]);
            assert_eq!(outcome.status, 2, "--{flag}={value}: {}", outcome.stderr);
            // Where values have names, an empty one is none.
            let told =
                [format!("invalid value '{value}' for '--{flag} <"), format!("a value is required for '--{flag} <")];
            let error = outcome.stderr.strip_prefix("error: ").unwrap_or_default();
            assert!(told.iter().any(|told| error.starts_with(told.as_str())), "{}", outcome.stderr);
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_one_line_each_whatever_they_are_called() {
    let folder = Folder::new();
    let name = |name: &[u8]| folder.path().join(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())));
    let (lines, other, gone) = (name(b"two\nlines"), name(b"not \xff UTF-8"), name(b"\x1b[2Jgone"));
    let cut = &fs::read(Recording::path()).unwrap()[..30];
    for file in [&lines, &other] {
        fs::write(file, cut).unwrap();
    }
    for (file, status, why) in [
        (&lines, 1, "two\\nlines: record at offset 24 ends after 6 of 16 octets (the file is cut short)"),
        (&other, 1, "not \u{fffd} UTF-8: record at offset 24 ends after 6 of 16 octets (the file is cut short)"),
        (&gone, 1, "\\u{1b}[2Jgone: no such file or directory"),
        (&folder.path().to_owned(), 1, ": is a directory"),
    ] {
        let outcome = folder.replay(std::slice::from_ref(file), &[]);
        let [line] = outcome.complaints()[..] else { panic!("{}", outcome.stderr) };
        assert!(line.starts_with("xdpflow: read ") && line.ends_with(why), "{line}");
        assert_eq!((outcome.status, outcome.closed.len()), (status, 0));
    }
}

#[test]
fn a_summary_that_nobody_reads_is_no_error_and_one_that_is_lost_is() {
    let run = |stdout: Stdio, stderr: Stdio, args: &[&str]| {
        let folder = Folder::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xdpflow"));
        command.arg("replay").arg(Recording::path()).args(args).arg("-o").arg(folder.path().join("out"));
        let output = command.stdout(stdout).stderr(stderr).spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let full = || File::options().write(true).open(Path::new("/dev/full")).unwrap();
    // The end that is read is closed at once.
    let nobody = || Stdio::from(std::io::pipe().unwrap().1);
    assert_eq!(run(nobody(), Stdio::piped(), &["--json"]), (Some(0), String::new()));
    assert_eq!(run(Stdio::null(), nobody(), &[]).0, Some(0));
    assert_eq!(run(Stdio::null(), full().into(), &[]).0, Some(0));
    let told = "xdpflow: write the summary to standard output: no space left on device\n";
    assert_eq!(run(full().into(), Stdio::piped(), &["--json"]), (Some(1), told.to_owned()));
}
