//! The recording as it is: files, names, records, summary.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
};

use crate::{
    account::{Gaps, NAMES, Seen, assert_complete, assert_fine, path, record, start},
    outcome::{Folder, Outcome},
    recording::Recording,
};

pub(crate) fn replay_recording(args: &[&str]) -> Outcome {
    Folder::new().replay(&[Recording::path()], args)
}

#[test]
fn every_stream_is_what_its_endpoint_sent() {
    let recording = Recording::get();
    let outcome = replay_recording(&[]);
    assert_complete(&outcome, &recording.conversations);
    for conversation in &recording.conversations {
        let record = record(&outcome, conversation);
        assert_eq!(record["start"], start(conversation), "{record}");
        // A pcap file does not say.
        assert_eq!((record["interface"].is_null(), record["vlan"].is_null()), (true, true), "{record}");
    }
}

#[test]
fn the_number_of_shards_changes_nothing() {
    let one = replay_recording(&[]);
    for shards in ["2", "5"] {
        let outcome = replay_recording(&["--shards", shards]);
        assert_complete(&outcome, &Recording::get().conversations);
        assert_eq!(one.essence(), outcome.essence(), "{shards} shards");
        let of = |record: &serde_json::Value| record["id"].as_str().unwrap().split_once('-').unwrap().0.to_owned();
        let used: BTreeSet<_> = outcome.closed.iter().map(of).collect();
        assert_eq!(used.len().to_string(), shards, "some had nothing to do: {used:?}");
    }
}

#[test]
fn without_gaps_all_ways_to_write_them_are_the_same() {
    for gaps in ["hole", "skip", "zero", "mark"] {
        assert_complete(&replay_recording(&["--gaps", gaps]), &Recording::get().conversations);
    }
}

#[test]
fn names_have_time_and_both_ends() {
    let outcome = replay_recording(&["--names", "time"]);
    assert_named(&outcome, |conversation| [0, 1].map(|direction| path(conversation, direction)));
}

#[test]
fn names_of_tcpflow_have_both_ends() {
    let end = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{a:03}.{b:03}.{c:03}.{d:03}.{:05}", end.port())
        }
        IpAddr::V6(ip) => format!("{ip}.{:05}", end.port()),
    };
    assert_named(&replay_recording(&["--names", "tcpflow"]), |conversation| {
        let (client, server) = (end(conversation.client), end(conversation.server));
        [format!("{client}-{server}"), format!("{server}-{client}")]
    });
}

fn assert_named(outcome: &Outcome, name: impl Fn(&crate::recording::Conversation) -> [String; 2]) {
    let conversations = &Recording::get().conversations;
    assert_complete(outcome, conversations);
    let mut expected = BTreeMap::new();
    for conversation in conversations {
        let named = name(conversation).into_iter().zip(&conversation.said);
        expected.extend(named.filter(|(_, said)| !said.octets.is_empty()).map(|(name, said)| (name, &said.octets)));
    }
    assert!(
        outcome.files.iter().eq(expected.iter().map(|(name, octets)| (name, *octets))),
        "{:?}",
        outcome.files.keys()
    );
}

#[test]
fn what_the_snaplen_cuts_off_is_a_gap_of_that_cause() {
    let recording = Recording::get();
    for (snaplen, gaps, kept) in [(200, "hole", Gaps::Kept), (1_000, "skip", Gaps::Skipped), (90, "zero", Gaps::Kept)] {
        let outcome = replay_recording(&["--snaplen", &snaplen.to_string(), "--gaps", gaps]);
        assert_fine(&outcome);
        let seen = Seen { frames: &recording.frames, snaplen };
        let missing = seen.assert_accounted(&outcome, &recording.conversations, kept);
        assert!(missing > 100_000, "only {missing} octets were cut off");
        for conversation in &recording.conversations {
            let record = record(&outcome, conversation);
            for (name, said) in NAMES.iter().zip(&conversation.said) {
                // Of the last segment it is cut off behind the last octet that was seen.
                let stream = &record[name];
                let (within, behind) = (&stream["gap_totals"], &stream["trailing_gap"]);
                assert!(within.as_object().unwrap().keys().all(|cause| cause == "snaplen"), "{record}");
                assert!(behind.is_null() || behind["cause"] == "snaplen", "{record}");
                let octets = [&stream["bytes"], &within["snaplen"], &behind["len"]].map(|it| it.as_u64().unwrap_or(0));
                assert_eq!(octets.iter().sum::<u64>(), said.octets.len() as u64, "{record}");
            }
        }
    }
}

#[test]
fn the_summary_as_json_balances() {
    let conversations = &Recording::get().conversations;
    for shards in ["1", "5"] {
        let outcome = replay_recording(&["--json", "--shards", shards]);
        assert_complete(&outcome, conversations);
        assert_eq!(outcome.stderr, "");
        let summary = outcome.summary();
        let octets: usize = conversations.iter().flat_map(|it| &it.said).map(|said| said.octets.len()).sum();
        let frames = Recording::get().frames.len();
        let figures = [
            ("/source/files/frames", frames),
            ("/frames/read", frames),
            ("/frames/payload", octets),
            ("/reassembly/delivered", octets),
            ("/reassembly/gaps", 0),
            ("/reassembly/opened", conversations.len()),
            ("/sink/written", octets),
            ("/sink/files", outcome.files.len()),
        ];
        for (figure, expected) in figures {
            assert_eq!(summary.pointer(figure), Some(&expected.into()), "{figure} of {summary}");
        }
        assert_eq!(summary["balances"], true);
        let ledgers = summary["ledgers"].as_array().unwrap();
        assert!(ledgers.iter().any(|it| it["ledger"] == "frames") && ledgers.iter().any(|it| it["ledger"] == "bytes"));
        for ledger in ledgers {
            let sum: u64 = ledger["right"].as_array().unwrap().iter().map(|term| term[1].as_u64().unwrap()).sum();
            assert_eq!(ledger["left"][1], sum, "{ledger}");
        }
    }
}

#[test]
fn a_second_run_into_the_same_directory_loses_nothing_of_the_first() {
    let conversations = &Recording::get().conversations;
    for names in ["time", "tcpflow"] {
        let folder = Folder::new();
        let [first, both] = [0, 1].map(|_| folder.replay(&[Recording::path()], &["--names", names]));
        assert_complete(&first, conversations);
        assert_fine(&both);
        assert_eq!(both.closed.len(), 2 * conversations.len());
        assert_eq!(both.files.len(), 2 * first.files.len());
        assert!(first.files.iter().all(|(name, content)| both.files.get(name) == Some(content)), "changed files");
        // The second run on its own: its records lead to files that only it has.
        let mut second = both;
        second.closed.retain(|record| record["run"] != first.closed[0]["run"]);
        second.files.retain(|name, _| !first.files.contains_key(name));
        assert_complete(&second, conversations);
    }
}

#[test]
fn an_output_directory_that_cannot_be_made_is_one_line() {
    let folder = Folder::new();
    fs::write(folder.path().join("out"), "in the way").unwrap();
    let outcome = folder.replay(&[Recording::path()], &[]);
    assert_eq!(outcome.status, 1);
    assert_eq!((outcome.stderr.lines().count(), outcome.stdout.as_str()), (1, ""), "{}", outcome.stderr);
    let out = folder.path().join("out");
    assert!(
        outcome.stderr.starts_with("xdpflow: ") && outcome.stderr.contains(out.to_str().unwrap()),
        "{}",
        outcome.stderr
    );
    assert_eq!(fs::read_to_string(out).unwrap(), "in the way");
}
