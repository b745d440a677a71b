//! Files that end too early.

use crate::{
    account::{Gaps, Seen},
    file::{ETHERNET, Order, Pcap, Section},
    outcome::{Folder, Outcome, replay},
    recording::{Conversation, Recording},
};

#[test]
fn a_file_cut_short_gives_all_before_the_cut_and_names_the_place() {
    let recording = Recording::get();
    let whole = Pcap::PLAIN.write(&recording.frames);
    for cut in [recording.frames.len() / 4, recording.frames.len() / 2, recording.frames.len() - 1] {
        let record = Pcap::offset(&recording.frames, cut);
        // In the middle of a record's header, right behind it, and before its last octet.
        let rest = 16 + recording.frames[cut].bytes.len();
        for (has, needs) in [(7, 16), (16, rest), (rest - 1, rest)] {
            let shards = if has == 16 { "2" } else { "1" };
            let outcome = replay(&whole[..record + has], &["--shards", shards]);
            assert_cut(&outcome, &format!("record at offset {record} ends after {has} of {needs} octets"), cut);
        }
    }
}

#[test]
fn a_pcapng_file_cut_short_gives_all_before_the_cut_and_names_the_place() {
    let recording = Recording::get();
    let cut = recording.frames.len() / 2;
    let write = |frames| {
        let mut section = Section::new(Order::Big, 9, &[ETHERNET]);
        recording.frames[..frames].iter().for_each(|frame| section.frame(0, frame.at, &frame.bytes));
        section.finish()
    };
    let (before, with) = (write(cut), write(cut + 1));
    let (block, needs) = (before.len(), with.len() - before.len());
    for (has, needs) in [(5, 8), (needs / 2, needs), (needs - 1, needs)] {
        let outcome = replay(&with[..block + has], &[]);
        assert_cut(&outcome, &format!("block at offset {block} ends after {has} of {needs} octets"), cut);
    }
}

#[test]
fn files_beside_one_that_is_cut_short_are_read_to_the_end() {
    let recording = Recording::get();
    let folder = Folder::new();
    let last = recording.frames.len() - 1;
    let (first, second) = recording.frames.split_at(last);
    let mut file = Pcap::PLAIN.write(second);
    file.pop();
    let files = [folder.file("first", &file), folder.file("second", &Pcap::PLAIN.write(first))];
    for shards in ["1", "3"] {
        let outcome = Folder::new().replay(&files, &["--shards", shards]);
        assert_cut(&outcome, "record at offset 24 ends after", last);
    }
    // Each damaged file has a line of its own, in the order in which the damage is met.
    let files = [folder.file("third", &file), folder.file("fourth", &file[..30]), files[1].clone()];
    let outcome = folder.replay(&files, &[]);
    let [one, other] = outcome.complaints()[..] else { panic!("{}", outcome.stderr) };
    assert!(one.contains("third: record at offset 24 ends after"), "{one}");
    assert!(other.contains("fourth: record at offset 24 ends after 6 of 16 octets"), "{other}");
    assert_eq!(outcome.status, 1);
}

#[test]
fn what_is_no_capture_file_is_one_line_and_nothing_is_written() {
    for (content, why) in [(&b""[..], "neither"), (b"GET / HTTP/1.1\r\n", "neither"), (b"BZh91AY&SY", "bunzip2")] {
        let outcome = replay(content, &[]);
        assert_eq!((outcome.status, outcome.stderr.lines().count()), (1, 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    }
}

/// The run ended with one line that says `what`, and everything in the first `frames` was delivered.
pub(crate) fn assert_cut(outcome: &Outcome, what: &str, frames: usize) {
    let [line] = outcome.complaints()[..] else { panic!("{}", outcome.stderr) };
    assert!(line.contains(what) && line.ends_with("(the file is cut short)"), "{line}, not {what}");
    assert_eq!(outcome.status, 1);
    let recording = Recording::get();
    let frames = &recording.frames[..frames];
    let begun = |it: &&Conversation| frames.iter().any(|frame| it.direction(frame).is_some());
    let begun: Vec<_> = recording.conversations.iter().filter(begun).cloned().collect();
    Seen::whole(frames).assert_accounted(outcome, &begun, Gaps::Kept);
    assert_eq!(outcome.closed.len(), begun.len());
}
