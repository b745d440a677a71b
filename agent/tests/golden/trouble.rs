//! A second recording: connections that are refused, aborted, starved or left alone, and frames that were lost and sent
//! again. `cargo run -p agent --example record_troubles` makes it, and says what is in it.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use crate::{
    account::{NAMES, assert_fine},
    file,
    frame::{ACK, Frame, RST, SYN, Tcp, URG},
    outcome::{Folder, Outcome, replay_frames},
};

#[test]
fn the_recording_of_troubles_has_them() {
    let (frames, talks) = (frames(), talks());
    // What was sent is what is on the wire, however often.
    let mut again = 0;
    for (number, talk) in talks.iter().enumerate() {
        let uses = talks[..number].iter().filter(|other| other.is_between(talk.client, talk.server)).count();
        let ours: Vec<_> = frames.iter().map(Frame::tcp).filter(|tcp| talk.is_between(tcp.src, tcp.dst)).collect();
        for (direction, server) in [(0, false), (1, true)] {
            let sent = || ours.iter().filter(move |tcp| (tcp.src == talk.server) == server);
            let Some(syn) = sent().filter(|tcp| tcp.flags & SYN != 0).nth(uses) else { continue };
            let (text, first) = (talk.text(direction), syn.seq.wrapping_add(1));
            let mut seen = vec![0; text.len()];
            for tcp in sent().filter(|tcp| !tcp.payload.is_empty()) {
                // The payload of a SYN is behind it; on endpoints used again, other connections are far away.
                let seq = tcp.seq.wrapping_add(u32::from(tcp.flags & SYN != 0));
                let place = seq.wrapping_sub(first) as usize;
                let Some(range) = text.get(place..place + tcp.payload.len()) else { continue };
                assert_eq!(range, tcp.payload, "{}", talk.what);
                seen[place..place + tcp.payload.len()].iter_mut().for_each(|times| *times += 1);
            }
            assert!(seen.iter().all(|times| *times > 0), "{}: not all on the wire", talk.what);
            again += seen.iter().filter(|times| **times > 1).count();
        }
    }
    assert!(again > 10_000, "only {again} octets were sent again");

    let has = |what: &str, is: &dyn Fn(&Tcp<'_>) -> bool| {
        assert!(frames.iter().any(|frame| is(&frame.tcp())), "no {what}");
    };
    has("abort", &|tcp| tcp.flags & RST != 0);
    has("refusal", &|tcp| tcp.flags & RST != 0 && tcp.seq == 0);
    has("window of zero", &|tcp| tcp.flags & (ACK | RST) == ACK && tcp.window == 0);
    has("urgent data", &|tcp| tcp.flags & URG != 0);
    has("SYN with data", &|tcp| tcp.flags & SYN != 0 && !tcp.payload.is_empty());
    has("keep-alive probe", &|probe| {
        let repeats_the_last_octet_of = |tcp: &Tcp<'_>| {
            let last = tcp.seq.wrapping_add(tcp.payload.len() as u32).wrapping_sub(1);
            (tcp.src, last) == (probe.src, probe.seq) && !tcp.payload.is_empty()
        };
        probe.payload.is_empty() && frames.iter().any(|frame| repeats_the_last_octet_of(&frame.tcp()))
    });
    let syns = frames.iter().map(Frame::tcp).filter(|tcp| tcp.dst.port() == 9_002);
    assert!(syns.filter(|tcp| tcp.flags & SYN != 0).count() > 1, "no SYN was sent again");
}

#[test]
fn connections_in_trouble_are_what_their_endpoints_sent_and_end_as_they_did() {
    for shards in ["1", "2", "5"] {
        for gaps in ["hole", "skip", "zero"] {
            let outcome = Folder::new().replay(&[data("troubles.pcap")], &["--shards", shards, "--gaps", gaps]);
            assert_troubles(&outcome);
        }
    }
}

#[test]
fn connections_in_trouble_seen_twice_are_the_same() {
    let twice: Vec<_> = frames().into_iter().flat_map(|frame| [frame.clone(), frame]).collect();
    assert_troubles(&replay_frames(&twice, &[]));
}

#[test]
fn endpoints_used_again_have_numbered_names_as_tcpflow_has_them() {
    let outcome = Folder::new().replay(&[data("troubles.pcap")], &["--names", "tcpflow"]);
    assert_troubles(&outcome);
    let again: Vec<_> = talks().into_iter().filter(|talk| talk.what == "the same endpoints three times").collect();
    for (talk, number) in again.iter().zip(["", "c1", "c2"]) {
        let name = format!("010.009.000.001.{:05}-010.009.000.002.09011{number}", talk.client.port());
        assert!(outcome.files.get(&name) == Some(&talk.text(0)), "{name}");
    }
    assert_eq!(again.len(), 3);
}

/// A connection of each kind, and nothing else.
fn assert_troubles(outcome: &Outcome) {
    assert_fine(outcome);
    let mut records = outcome.closed.clone();
    records.sort_by_key(|record| record["start"].as_str().unwrap().to_owned());
    let talks = talks();
    assert_eq!(records.len(), talks.len());
    let mut files = 0;
    for (talk, record) in talks.iter().zip(&records) {
        let ends = [("client", talk.client), ("server", talk.server)];
        for (side, end) in ends {
            assert_eq!(record[side]["ip"], end.ip().to_string(), "{}: {record}", talk.what);
            assert!(end.port() == 0 || record[side]["port"] == end.port(), "{}: {record}", talk.what);
        }
        assert_eq!(
            (&record["started"], &record["ended"]),
            (&"handshake".into(), &talk.ended.as_str().into()),
            "{record}"
        );
        for (direction, name) in NAMES.into_iter().enumerate() {
            let (stream, text) = (&record[name], talk.text(direction));
            assert_eq!(
                (&stream["bytes"], &stream["conflict"]),
                (&text.len().into(), &0.into()),
                "{}: {record}",
                talk.what
            );
            assert_eq!(
                (stream["gaps"].as_array().unwrap().len(), stream["trailing_gap"].is_null()),
                (0, true),
                "{record}"
            );
            let content = stream["file"].as_str().map(|file| &outcome.files[file]);
            assert!(content.map_or(text.is_empty(), |content| *content == text), "{}: {record}", talk.what);
            files += usize::from(content.is_some());
        }
    }
    assert_eq!(outcome.files.len(), files, "files of no record");
}

/// A line of the manifest: who talked, how many octets were sent each way, how it ended.
#[derive(Deserialize)]
struct Talk {
    what: String,
    /// Port 0 where nobody was told which.
    client: SocketAddr,
    server: SocketAddr,
    sent: usize,
    answered: usize,
    ended: String,
}

impl Talk {
    /// What one direction says: numbered lines, the last of which may be cut.
    fn text(&self, direction: usize) -> Vec<u8> {
        let len = [self.sent, self.answered][direction];
        let line = |number| format!("{} {} {number:05}\n", self.what, NAMES[direction]).into_bytes();
        (0..).flat_map(line).take(len).collect()
    }

    fn is_between(&self, a: SocketAddr, b: SocketAddr) -> bool {
        [(a, b), (b, a)].contains(&(self.client, self.server))
    }
}

fn talks() -> Vec<Talk> {
    let manifest = fs::read_to_string(data("troubles.jsonl")).unwrap();
    manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn frames() -> Vec<Frame> {
    file::read(&fs::read(data("troubles.pcap")).unwrap())
}

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden", name].iter().collect()
}
