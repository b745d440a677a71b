//! A capture in several files.

use std::path::PathBuf;

use crate::{
    account::assert_complete,
    compressed::{gzip, zstd},
    file::{ETHERNET, Order, Pcap, Section},
    frame::Frame,
    outcome::Folder,
    output::replay_recording,
    recording::Recording,
};

#[test]
fn files_of_a_rotated_capture_are_as_one_in_any_order() {
    let frames = &Recording::get().frames;
    let third = frames.len() / 3;
    let folder = Folder::new();
    let files = [
        folder.file("first.pcap", &gzip(&Pcap::PLAIN.write(&frames[..third]))),
        folder.file("second.pcapng", &nanoseconds(&frames[third..2 * third])),
        folder.file("third.pcap", &zstd(&Pcap { order: Order::Big, ..Pcap::PLAIN }.write(&frames[2 * third..]))),
        folder.file("empty.pcap", &Pcap::PLAIN.write(&[])),
    ];
    let whole = replay_recording(&[]);
    for [a, b, c] in (0..64).map(|number| [number / 16, number / 4 % 4, number % 4]) {
        if a != b && b != c && c != a {
            let order = [a, b, c, 6 - a - b - c].map(|number| files[number].clone());
            let outcome = Folder::new().replay(&order, &["--shards", if a < b { "1" } else { "3" }]);
            assert_complete(&outcome, &Recording::get().conversations);
            assert_eq!(outcome.essence(), whole.essence(), "{order:?}");
        }
    }
}

#[test]
fn captures_of_the_two_directions_are_as_one() {
    // As two mirror ports or the two fibres of a tap give them.
    let recording = Recording::get();
    let directions = [0, 1].map(|direction| {
        let is_of = |frame: &&Frame| recording.conversations.iter().any(|it| it.direction(frame) == Some(direction));
        recording.frames.iter().filter(is_of).cloned().collect::<Vec<_>>()
    });
    let [there, back] = directions.map(|frames| Pcap::PLAIN.write(&frames));
    let folder = Folder::new();
    let files = [folder.file("there.pcap", &there), folder.file("back.pcap", &back)];
    for shards in ["1", "3"] {
        assert_same(&files, &["--shards", shards]);
    }
}

#[test]
fn hundreds_of_files_are_as_one() {
    let frames = &Recording::get().frames;
    let folder = Folder::new();
    let mut files: Vec<_> = (0..)
        .zip(frames.chunks(2))
        .map(|(number, frames)| folder.file(&format!("{number}.pcap"), &Pcap::PLAIN.write(frames)))
        .collect();
    assert!(files.len() > 300);
    // Neither in the order of time nor against it.
    files.sort_by_key(|file| file.file_name().map(|name| name.to_str().unwrap().chars().rev().collect::<String>()));
    assert_same(&files, &[]);
}

/// `files` have the frames of the recording.
fn assert_same(files: &[PathBuf], args: &[&str]) {
    let outcome = Folder::new().replay(files, args);
    assert_complete(&outcome, &Recording::get().conversations);
    assert_eq!(outcome.essence(), replay_recording(&[]).essence(), "{files:?}");
}

fn nanoseconds(frames: &[Frame]) -> Vec<u8> {
    let mut section = Section::new(Order::Big, 9, &[ETHERNET]);
    frames.iter().for_each(|frame| section.frame(0, frame.at, &frame.bytes));
    section.finish()
}
