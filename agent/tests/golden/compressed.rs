//! Capture files that someone compressed.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use crate::{
    account::assert_complete, damage::assert_cut, file::Pcap, outcome::replay, output::replay_recording,
    recording::Recording,
};

#[test]
fn a_compressed_file_gives_the_same_output_whatever_it_is_called() {
    let recording = Recording::get();
    let whole = replay_recording(&[]);
    let file = Pcap::PLAIN.write(&recording.frames);
    // As pigz, bgzip and pzstd write them: in pieces.
    let (first, second) = file.split_at(file.len() / 3);
    for by in [gzip, zstd] {
        for file in [by(&file), [by(first), by(second)].concat()] {
            for shards in ["1", "3"] {
                let outcome = replay(&file, &["--shards", shards]);
                assert_complete(&outcome, &recording.conversations);
                assert_eq!(outcome.essence(), whole.essence());
            }
        }
    }
}

#[test]
fn a_compressed_file_cut_short_gives_what_can_be_read() {
    let recording = Recording::get();
    let cut = recording.frames.len() / 2;
    let file = Pcap::PLAIN.write(&recording.frames);
    let offset = Pcap::offset(&recording.frames, cut);
    let (first, second) = file.split_at(offset);
    for by in [gzip, zstd] {
        // Of the second piece there are only the first octets.
        let outcome = replay(&[&by(first)[..], &by(second)[..7]].concat(), &[]);
        assert_cut(&outcome, &format!("data ends too early, at offset {offset} of the decompressed data"), cut);
        // The file had been cut short before it was compressed.
        let outcome = replay(&by(&file[..offset + 7]), &[]);
        let place = format!("record at offset {offset} of the decompressed data ends after 7 of 16 octets");
        assert_cut(&outcome, &place, cut);
    }
}

#[test]
fn what_follows_compressed_data_is_named_and_nothing_is_lost() {
    let recording = Recording::get();
    let file = Pcap::PLAIN.write(&recording.frames);
    for by in [gzip, zstd] {
        let outcome = replay(&[by(&file), b"not compressed".to_vec()].concat(), &[]);
        let [line] = outcome.complaints()[..] else { panic!("{}", outcome.stderr) };
        assert!(line.contains(&format!("ends at offset {}", file.len())) && line.ends_with("(ignored)"), "{line}");
        assert_eq!(outcome.status, 1);
        assert_eq!(outcome.essence(), replay_recording(&[]).essence());
    }
}

pub(crate) fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(octets: &[u8]) -> Vec<u8> {
    let mut compressed = vec![0; zstd_safe::compress_bound(octets.len())];
    let len = zstd_safe::compress(&mut compressed[..], octets, 3).unwrap();
    compressed.truncate(len);
    compressed
}
