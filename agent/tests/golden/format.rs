//! The same frames in other kinds of files.

use crate::{
    account::assert_complete,
    file::{ETHERNET, Order, Pcap, SECOND, Section},
    frame::Frame,
    outcome::{Folder, replay},
    output::replay_recording,
    recording::Recording,
};

#[test]
fn every_kind_of_pcap_file_gives_the_same_output() {
    let recording = Recording::get();
    for (order, nanoseconds) in [(Order::Little, true), (Order::Big, false), (Order::Big, true)] {
        let file = Pcap { order, nanoseconds, link_type: ETHERNET }.write(&recording.frames);
        assert_same_output(&file, &format!("{order:?}, nanoseconds: {nanoseconds}"));
    }
}

#[test]
fn pcapng_of_either_byte_order_and_any_resolution_gives_the_same_output() {
    for order in [Order::Little, Order::Big] {
        // With ten digits, the ticks need all 64 bits.
        for resolution in [6, 9, 10] {
            let file = section(order, resolution, &Recording::get().frames);
            assert_same_output(&file, &format!("{order:?}, 10^-{resolution}"));
        }
    }
}

#[test]
fn a_pcapng_file_of_several_sections_gives_the_same_output() {
    let frames = &Recording::get().frames;
    let (first, second) = frames.split_at(frames.len() / 3);
    let (second, third) = second.split_at(frames.len() / 3);
    let sections = [section(Order::Little, 6, first), section(Order::Big, 9, second), section(Order::Little, 9, third)];
    assert_same_output(&sections.concat(), "three sections");
}

#[test]
fn files_one_after_the_other_are_as_one() {
    let frames = &Recording::get().frames;
    let (first, second) = frames.split_at(frames.len() / 2);
    let folder = Folder::new();
    let big = Pcap { order: Order::Big, ..Pcap::PLAIN };
    let files = [
        folder.file("first.pcap", &Pcap::PLAIN.write(first)),
        folder.file("empty.pcap", &big.write(&[])),
        folder.file("second.pcapng", &section(Order::Big, 9, second)),
    ];
    let whole = replay_recording(&[]);
    for shards in ["1", "5"] {
        let outcome = Folder::new().replay(&files, &["--shards", shards]);
        assert_complete(&outcome, &Recording::get().conversations);
        assert_eq!(outcome.essence(), whole.essence(), "{shards} shards");
    }
}

/// `file` has the frames of the recording.
fn assert_same_output(file: &[u8], what: &str) {
    let outcome = replay(file, &[]);
    assert_complete(&outcome, &Recording::get().conversations);
    assert_eq!(outcome.essence(), replay_recording(&[]).essence(), "{what}");
}

/// Frames among blocks that say nothing about frames.
fn section(order: Order, resolution: u8, frames: &[Frame]) -> Vec<u8> {
    const NAME_RESOLUTION: u32 = 4;
    const STATISTICS: u32 = 5;
    const CUSTOM: u32 = 0x0bad;
    let mut section = Section::new(order, resolution, &[ETHERNET]);
    section.block(NAME_RESOLUTION, &[0; 4]);
    for (number, frame) in frames.iter().enumerate() {
        let ticks = u128::from(frame.at) * 10_u128.pow(resolution.into()) / u128::from(SECOND);
        section.frame(0, ticks.try_into().unwrap(), &frame.bytes);
        if number % 100 == 7 {
            section.block(CUSTOM, &frame.bytes[..number % 50]);
        }
    }
    section.block(STATISTICS, &[0; 12]);
    section.finish()
}
