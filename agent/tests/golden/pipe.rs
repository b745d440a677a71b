//! Captures that can be read once.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    thread,
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    io::ioctl_fionread,
    process::{Pid, Signal, kill_process},
};

use crate::{
    account::assert_complete,
    compressed::{gzip, zstd},
    damage::assert_cut,
    file::Pcap,
    outcome::{Folder, Outcome, replay_frames},
    output::replay_recording,
    recording::Recording,
};

#[test]
fn standard_input_gives_the_same_output() {
    let file = fs::read(Recording::path()).unwrap();
    for input in [file.clone(), gzip(&file), zstd(&file)] {
        assert_same(&Folder::new().replay_with_input(&input, &["-".into()], &[]));
    }
}

#[test]
fn standard_input_and_a_file_are_as_one() {
    let (first, second) = Recording::get().frames.split_at(Recording::get().frames.len() / 2);
    let folder = Folder::new();
    let files = [PathBuf::from("-"), folder.file("first", &Pcap::PLAIN.write(first))];
    assert_same(&folder.replay_with_input(&Pcap::PLAIN.write(second), &files, &[]));
}

#[test]
fn a_fifo_gives_the_same_output() {
    let folder = Folder::new();
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let file = fs::read(Recording::path()).unwrap();
    let outcome = thread::scope(|scope| {
        let writer = scope.spawn(|| fs::write(&fifo, file));
        let outcome = folder.replay(std::slice::from_ref(&fifo), &[]);
        writer.join().unwrap().unwrap();
        outcome
    });
    assert_same(&outcome);
}

#[test]
fn standard_input_cut_short_gives_all_before_the_cut() {
    let recording = Recording::get();
    let cut = recording.frames.len() / 2;
    let offset = Pcap::offset(&recording.frames, cut);
    let input = &Pcap::PLAIN.write(&recording.frames)[..offset + 7];
    let outcome = Folder::new().replay_with_input(input, &["-".into()], &[]);
    let place = format!("read standard input: record at offset {offset} ends after 7 of 16 octets");
    assert_cut(&outcome, &place, cut);
}

/// As when somebody ends `tcpdump -w - | xdpflow replay -` by Ctrl-C.
#[test]
fn an_interrupt_ends_the_capture_where_it_is_and_loses_nothing_before() {
    let frames = &Recording::get().frames;
    let folder = Folder::new();
    let mut child = folder.start(&["-".into()], &["--json"]);
    let (mut pipe, mut stderr) = (child.stdin.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
    pipe.write_all(&Pcap::PLAIN.write(&frames[..frames.len() / 2])).unwrap();
    while ioctl_fionread(&pipe).unwrap() > 0 {
        thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("xdpflow: interrupted: "), "{line}");
    drop(pipe);
    let outcome = folder.outcome(child.wait_with_output().unwrap());
    assert_eq!(outcome.status, 1);
    assert_eq!(outcome.summary()["balances"], true);

    let read = outcome.summary()["source"]["files"]["frames"].as_u64().unwrap() as usize;
    assert!((1..=frames.len() / 2).contains(&read), "{read} frames were read");
    assert_eq!(outcome.essence(), replay_frames(&frames[..read], &[]).essence());
}

#[test]
fn what_cannot_be_read_so_is_one_line_and_nothing_is_written() {
    let file = fs::read(Recording::path()).unwrap();
    let check = |input: &[u8], files: &[&str], args: &[&str], status, why: &str| {
        let files: Vec<_> = files.iter().map(PathBuf::from).collect();
        let outcome = Folder::new().replay_with_input(input, &files, args);
        assert_eq!((outcome.status, outcome.stderr.lines().count()), (status, 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        assert!(outcome.closed.is_empty() && outcome.files.is_empty());
    };
    check(b"", &["-"], &[], 1, "read standard input: empty");
    check(b"tcpdump: eth7: No such device exists", &["-"], &[], 1, "read standard input: neither");
    check(&file, &["-", "-"], &[], 2, "read standard input: it was named twice");
    check(&file, &["-"], &["--shards", "2"], 2, "read standard input: it can be read once");
    // The other end of the pipe, by another name.
    check(&file, &["/dev/stdin"], &["--shards", "2"], 2, "read /dev/stdin: it can be read once");
}

fn assert_same(outcome: &Outcome) {
    assert_complete(outcome, &Recording::get().conversations);
    assert_eq!(outcome.essence(), replay_recording(&[]).essence());
}
