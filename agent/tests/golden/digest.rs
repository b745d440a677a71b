//! `--output digest`, held against what its documentation says of every octet.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use crate::{
    account::assert_fine,
    disorder::{is_syn, reordered, slowed},
    file::Pcap,
    frame::Frame,
    outcome::{Folder, Outcome},
    recording::Recording,
    script::{C, S, opened},
};

#[test]
fn it_is_that_of_what_was_said_for_any_number_of_shards() {
    let recording = Recording::get();
    for shards in ["1", "2", "5"] {
        assert_digest(&digested(&recording.frames, &["--shards", shards]), &said(recording, |at| at));
    }
}

#[test]
fn disorder_and_retransmissions_do_not_change_it() {
    let recording = Recording::get();
    for (seed, slower) in [(1, 10), (2, 100)] {
        let mut frames = reordered(&slowed(&recording.frames, slower), seed, |frame| !is_syn(frame));
        let again: Vec<_> = frames.iter().map(|frame| Frame { at: frame.at + 700, ..frame.clone() }).collect();
        frames.extend(again);
        frames.sort_by_key(|frame| frame.at);
        let begin = recording.frames[0].at;
        let expected = said(recording, |at| begin + (at - begin) * slower);
        assert_digest(&digested(&frames, &["--shards", "3"]), &expected);
    }
}

#[test]
fn another_octet_is_another_digest() {
    let recording = Recording::get();
    let mut frames = recording.frames.clone();
    let expected = checksum(&said(recording, |at| at));
    let frame = frames.iter_mut().filter(|frame| !frame.tcp().payload.is_empty()).nth(100).unwrap();
    let at = frame.payload_at();
    frame.bytes[at] ^= 1;
    let outcome = digested(&frames, &[]);
    assert_fine(&outcome);
    assert_ne!(outcome.summary()["sink"]["digest"], expected);
}

#[test]
fn late_octets_count_where_files_have_room_for_them_and_gaps_do_not() {
    // Three octets are acknowledged, and never captured or three seconds late.
    let late = opened(
        1,
        0,
        &[(10, C.data(0, "abc")), (11, C.data(6, "ghi")), (12, S.ack(9)), (3_000, C.data(3, "def")), (3_001, C.ack(0))],
    );
    let mut never = late.clone();
    never.remove(6);
    let tcp = late[0].tcp();
    let stream = |pieces| Said { src: tcp.src, dst: tcp.dst, start: late[0].at, pieces };
    let whole = [stream(vec![(0, b"abcdefghi".to_vec())])];
    let parts = [stream(vec![(0, b"abc".to_vec()), (6, b"ghi".to_vec())])];
    for (frames, gaps, expected) in
        [(&late, "hole", &whole), (&late, "zero", &whole), (&late, "skip", &parts), (&never, "hole", &parts)]
    {
        assert_digest(&digested(frames, &["--gaps", gaps]), expected);
    }
}

#[test]
fn the_summary_has_it_in_one_line() {
    let recording = Recording::get();
    let folder = Folder::new();
    let outcome = folder.replay(&[Recording::path()], &["--output", "digest"]);
    assert_fine(&outcome);
    let said = said(recording, |at| at);
    let octets: usize = said.iter().flat_map(|said| &said.pieces).map(|(_, octets)| octets.len()).sum();
    let line = format!("{octets} bytes delivered, of {} streams with the digest {}", said.len(), checksum(&said));
    assert!(outcome.stderr.lines().any(|it| it.trim_start() == line), "{line}: {}", outcome.stderr);
}

/// One direction of a connection, as pieces of octets and where they begin.
struct Said {
    src: SocketAddr,
    dst: SocketAddr,
    /// Of the connection.
    start: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

fn said(recording: &Recording, time: impl Fn(u64) -> u64) -> Vec<Said> {
    let mut all = Vec::new();
    for conversation in &recording.conversations {
        for (direction, said) in conversation.said.iter().enumerate().filter(|(_, said)| !said.octets.is_empty()) {
            let (src, dst) = conversation.ends(direction);
            all.push(Said { src, dst, start: time(conversation.start), pieces: vec![(0, said.octets.clone())] });
        }
    }
    all
}

/// As the documentation has it, an octet at a time.
fn checksum(said: &[Said]) -> String {
    let mut sum = 0_u64;
    for Said { src, dst, start, pieces } in said {
        let mut key = 0_u64;
        let [from, to] = [src, dst].map(|end| match end.ip() {
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => u128::from(ip),
        });
        let ports = u64::from(src.port()) << 16 | u64::from(dst.port());
        for word in [(from >> 64) as u64, from as u64, (to >> 64) as u64, to as u64, ports, *start] {
            key = (key ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            key ^= key >> 31;
        }
        for (offset, octets) in pieces {
            for (offset, octet) in (*offset..).zip(octets) {
                let factor = key.rotate_left(32).wrapping_add((offset / 4).wrapping_mul(key));
                sum = sum.wrapping_add(((u64::from(*octet) + 1) << (8 * (offset % 4))).wrapping_mul(factor));
            }
        }
    }
    format!("{sum:016x}")
}

fn digested(frames: &[Frame], args: &[&str]) -> Outcome {
    let folder = Folder::new();
    let file = folder.file("capture", &Pcap::PLAIN.write(frames));
    let outcome = folder.replay(&[file], &[&["--output", "digest", "--json"], args].concat());
    assert!(!folder.path().join("out").exists() && outcome.files.is_empty(), "something was written");
    outcome
}

fn assert_digest(outcome: &Outcome, said: &[Said]) {
    assert_fine(outcome);
    let sink = &outcome.summary()["sink"];
    let octets: usize = said.iter().flat_map(|said| &said.pieces).map(|(_, octets)| octets.len()).sum();
    assert_eq!(
        (&sink["digest"], &sink["digested"], &sink["digested_streams"]),
        (&json!(checksum(said)), &json!(octets), &json!(said.len())),
        "{sink}"
    );
}
