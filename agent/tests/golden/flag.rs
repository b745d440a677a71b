//! What each flag of reassembly and output changes, shown by a few frames written by hand.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    account::assert_fine,
    file::{ETHERNET, Order, Pcap, Section},
    frame::Frame,
    outcome::{Folder, Outcome, replay, replay_frames},
    script::{C, S, opened},
    tunnel::fragments,
};

#[test]
fn gaps_are_a_hole_zeros_nothing_or_a_line() {
    // Three octets are acknowledged, and never captured or three seconds late.
    let late = opened(
        1,
        0,
        &[
            (10, C.data(0, "abc")),
            (11, C.data(6, "ghi\n")),
            (12, S.ack(10)),
            (3_000, C.data(3, "def")),
            (3_001, C.data(10, "jkl")),
        ],
    );
    let mut never = late.clone();
    never.remove(6);
    for (gaps, without, with) in [
        ("hole", "abc\0\0\0ghi\njkl", "abcdefghi\njkl"),
        ("zero", "abc\0\0\0ghi\njkl", "abcdefghi\njkl"),
        ("skip", "abcghi\njkl", "abcghi\njkl"),
        ("mark", "abc\n<<gap 3>>\nghi\njkl", "abc\n<<gap 3>>\nghi\njkl"),
    ] {
        let outcome = told(&never, &["--gaps", gaps]);
        assert_eq!(texts(&outcome), [without], "{gaps}");
        let missing = json!([{ "offset": 3, "len": 3, "cause": "not-captured" }]);
        assert_eq!((&outcome.closed[0]["c2s"]["gaps"], &outcome.summary()["missing"]), (&missing, &json!(3)), "{gaps}");

        let outcome = told(&late, &["--gaps", gaps]);
        assert_eq!(texts(&outcome), [with], "{gaps}");
        let (missing, late, filled) = match gaps {
            "hole" | "zero" => (json!([]), 0, 3),
            _ => (json!([{ "offset": 3, "len": 3, "cause": "not-captured", "late": 3 }]), 3, 0),
        };
        let stream = &outcome.closed[0]["c2s"];
        assert_eq!((&stream["gaps"], &stream["late"], &stream["bytes"]), (&missing, &json!(late), &json!(10 + filled)));
        assert_eq!((stat(&outcome, "late"), stat(&outcome, "gaps_filled")), (late, filled), "{gaps}");
    }
}

#[test]
fn a_segment_whose_fragments_were_lost_is_a_gap_of_that_cause() {
    let mut frames = opened(1, 0, &[(10, C.data(0, "twelve bytes")), (11, C.data(12, "behind")), (12, S.ack(18))]);
    // A TCP header and four octets; the other eight are lost.
    let pieces = fragments(&frames[3], 7, 24);
    assert_eq!(pieces.len(), 2);
    frames[3] = pieces[0].clone();
    let outcome = told(&frames, &[]);
    assert_eq!(outcome.closed[0]["c2s"]["gaps"], json!([{ "offset": 0, "len": 12, "cause": "fragment" }]));
    assert_eq!(outcome.summary()["fragments"]["unfinished"], 1);
}

#[test]
fn past_a_limit_of_file_size_a_stream_stops_and_nothing_else_does() {
    const MOST: usize = 8_192;
    let text: &str = "0123456789".repeat(1_400).leak();
    let segments: Vec<_> = (0..10).map(|at| C.data(1_400 * at, &text[..1_400])).collect();
    let segments: Vec<_> = (10..).zip(segments).chain([(30, S.data(0, "short")), (31, S.ack(14_000))]).collect();
    let capture = Pcap::PLAIN.write(&opened(1, 0, &segments));
    for shards in ["1", "2"] {
        let folder = Folder::new();
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--fsize={MOST}")).arg(env!("CARGO_BIN_EXE_xdpflow"));
        let child = folder.start_as(limited, &[folder.file("capture", &capture)], &["--shards", shards, "--json"]);
        let outcome = folder.outcome(child.wait_with_output().unwrap());
        let record = &outcome.closed[0];
        let missing = json!({ "offset": MOST, "len": text.len() - MOST, "cause": "write-error" });
        assert_eq!((&record["c2s"]["gaps"], &record["s2c"]["gaps"]), (&json!([missing]), &json!([])), "{record}");
        assert_eq!(outcome.files[record["c2s"]["file"].as_str().unwrap()], text.as_bytes()[..MOST]);
        assert_eq!(outcome.summary()["sink"]["write_error"], text.len() - MOST);
    }
}

#[test]
fn of_two_copies_behind_a_hole_one_stays() {
    let frames = opened(1, 0, &[(10, C.data(3, "def")), (11, C.data(3, "dEF")), (12, C.data(0, "abc"))]);
    for (args, text) in [(&[][..], "abcdef"), (&["--overlap", "first"], "abcdef"), (&["--overlap", "last"], "abcdEF")] {
        let outcome = told(&frames, args);
        assert_eq!(texts(&outcome), [text], "{args:?}");
        assert_eq!(outcome.closed[0]["c2s"]["conflict"], 2);
    }
}

#[test]
fn interfaces_and_vlans_keep_connections_apart_on_request() {
    let [one, other] = ["one", "two"].map(|text| opened(1, 0, &[(10, C.data(0, text))]));
    let tagged = |frame: &Frame, vlan| {
        let bytes = [&frame.bytes[..12], &[0x81, 0, 0, vlan], &frame.bytes[12..]].concat();
        Frame { at: frame.at, bytes }
    };
    let mut interfaces = Section::new(Order::Little, 9, &[ETHERNET, ETHERNET]);
    let mut vlans = Vec::new();
    for (one, other) in one.iter().zip(&other) {
        interfaces.frame(0, one.at, &one.bytes);
        interfaces.frame(1, other.at, &other.bytes);
        vlans.extend([tagged(one, 1), tagged(other, 2)]);
    }
    let (interfaces, vlans) = (interfaces.finish(), Pcap::PLAIN.write(&vlans));
    for (file, key, of_no_use) in
        [(interfaces, "--interface-key", "--vlan-key"), (vlans, "--vlan-key", "--interface-key")]
    {
        for shards in ["1", "3"] {
            let shards = ["--shards", shards];
            assert_eq!(texts(&replay(&file, &[&shards[..], &[key]].concat())), ["one", "two"], "{key}");
            assert_eq!(texts(&replay(&file, &[&shards[..], &[of_no_use]].concat())), ["one"], "{of_no_use}");
            assert_eq!(texts(&replay(&file, &shards)), ["one"]);
        }
    }
    // Each of several files is an interface.
    let folder = Folder::new();
    let files = [("a", &one), ("b", &other)].map(|(name, frames)| folder.file(name, &Pcap::PLAIN.write(frames)));
    assert_eq!(texts(&folder.replay(&files, &["--interface-key"])), ["one", "two"]);
}

#[test]
fn strict_checks_refuse_and_count() {
    let early = vec![C.syn().at(0), C.data(0, "early").at(1), S.syn().at(2), C.data(0, "hello").at(3)];
    let long = vec![
        C.syn().mss(1_460).at(0),
        S.syn().mss(4).at(1),
        C.data(0, "four").at(2),
        C.data(4, "longer").at(3),
        C.data(4, "end").at(4),
    ];
    let fsm = ("--strict-fsm", "refused_fsm", "1 segments that do not fit the state of their connection, refused");
    let options = ("--strict-options", "refused_options", "1 segments beyond MSS or window, refused");
    for (frames, (flag, counter, line), lax, strict, refused) in
        [(early, fsm, "early", "hello", 5), (long, options, "fourlonger", "fourend", 6)]
    {
        let outcome = told(&frames, &[]);
        assert_eq!((texts(&outcome), stat(&outcome, "strict")), (vec![lax.to_owned()], 0));
        let outcome = told(&frames, &[flag]);
        assert_eq!((texts(&outcome), stat(&outcome, "strict")), (vec![strict.to_owned()], refused));
        assert_eq!(stat(&outcome, counter), 1);
        assert_said(&replay_frames(&frames, &[flag]), line);
    }
}

#[test]
fn urgent_segments_and_frames_captured_twice_are_counted() {
    let twice = [(10, C.data(0, "ab").id(5)), (11, C.data(0, "ab").id(5)), (12, C.data(2, "!").urgent())];
    let frames = opened(1, 0, &twice);
    let outcome = told(&frames, &[]);
    assert_eq!(texts(&outcome), ["ab!"]);
    let stream = &outcome.closed[0]["c2s"];
    assert_eq!((&stream["urgent"], &stream["retransmitted"]), (&json!(1), &json!(0)), "{stream}");
    assert_eq!(["urgent", "duplicate_frames", "duplicate"].map(|name| stat(&outcome, name)), [1, 1, 2]);
    let outcome = replay_frames(&frames, &[]);
    assert_said(&outcome, "1 segments with urgent data, kept in line");
    assert_said(&outcome, "1 frames captured twice");
}

#[test]
fn holes_are_waited_for_as_long_as_their_timeouts_say() {
    let heard = [(12, S.ack(9)), (500, C.ack(0)), (501, C.data(3, "def"))];
    let unheard = [(10_000, C.ack(0)), (10_001, C.data(3, "def"))];
    for (more, flag, timeout, cause) in
        [(&heard[..], "--gap-hold", "200ms", "not-captured"), (&unheard, "--gap-timeout", "5s", "timeout")]
    {
        let frames = opened(1, 0, &[&[(10, C.data(0, "abc")), (11, C.data(6, "ghi"))], more].concat());
        assert_eq!(texts(&told(&frames, &["--gaps", "skip"])), ["abcdefghi"], "{flag}");
        let outcome = told(&frames, &["--gaps", "skip", flag, timeout]);
        assert_eq!(texts(&outcome), ["abcghi"], "{flag}");
        assert_eq!(outcome.closed[0]["c2s"]["gap_totals"], json!({ cause: 3 }));
    }
}

#[test]
fn silent_connections_are_closed_as_their_timeouts_say() {
    // Another connection lets time pass.
    let other = opened(2, 50_000, &[]);
    for (frames, flag) in [
        (opened(1, 0, &[(10, C.data(0, "abc"))]), "--idle-timeout"),
        (vec![C.syn().at(0)], "--handshake-timeout"),
        (opened(1, 0, &[(10, C.fin(0))]), "--fin-timeout"),
    ] {
        let frames = [&frames[..], &other].concat();
        let idle = |args| told(&frames, args).closed.iter().filter(|record| record["ended"] == "idle").count();
        assert_eq!((idle(&[]), idle(&[flag, "30s"])), (0, 1), "{flag}");
    }
}

#[test]
fn a_connection_that_goes_on_after_it_was_closed_names_the_one_before() {
    let frames = opened(1, 0, &[(10, C.data(0, "abc")), (60_000, C.data(3, "def"))]);
    assert_eq!(texts(&told(&frames, &[])), ["abcdef"]);
    let outcome = told(&frames, &["--idle-timeout", "30s"]);
    assert_eq!(texts(&outcome), ["abc", "def"]);
    let [first, second] = &outcome.closed[..] else { panic!("{:?}", outcome.closed) };
    assert_eq!((&first["ended"], &second["started"]), (&json!("idle"), &json!("midstream")));
    assert_eq!((&first["continues"], &second["continues"]), (&Value::Null, &first["id"]));
}

#[test]
fn what_comes_after_the_end_is_absorbed_as_long_as_it_lingers() {
    let over = [
        (10, C.data(0, "abc")),
        (11, S.ack(3)),
        (12, C.fin(3)),
        (13, S.fin(0).acks(4)),
        (14, C.data(4, "").acks(1)),
        (30_000, C.data(0, "abc").acks(1)),
    ];
    let frames = opened(1, 0, &over);
    let outcome = told(&frames, &[]);
    assert_eq!((texts(&outcome), stat(&outcome, "after_close")), (vec!["abc".to_owned()], 3));
    assert_eq!(outcome.closed[0]["ended"], "fin");
    assert_eq!(texts(&told(&frames, &["--linger", "10s"])), ["abc", "abc"]);
}

#[test]
fn an_earlier_segment_is_waited_for_where_a_connection_is_picked_up() {
    let frames = [C.data(3, "def").at(0), C.ack(0).at(50), C.data(0, "abc").at(51), C.data(6, "ghi").at(52)];
    assert_eq!(texts(&told(&frames, &[])), ["abcdefghi"]);
    let outcome = told(&frames, &["--pickup-hold", "10ms"]);
    assert_eq!((texts(&outcome), stat(&outcome, "below_start")), (vec!["defghi".to_owned()], 3));
}

#[test]
fn a_reset_may_turn_out_to_have_been_ignored_as_long_as_it_is_held() {
    let ignored = [(10, C.data(0, "abc")), (11, S.ack(3)), (12, C.rst(3)), (500, C.data(3, "def")), (501, S.ack(6))];
    let frames = opened(1, 0, &ignored);
    let outcome = told(&frames, &[]);
    assert_eq!((texts(&outcome), stat(&outcome, "reopened")), (vec!["abcdef".to_owned()], 1));
    let outcome = told(&frames, &["--rst-hold", "100ms"]);
    assert_eq!((texts(&outcome), stat(&outcome, "after_close")), (vec!["abc".to_owned()], 3));
    assert_eq!(outcome.closed[0]["ended"], "rst");
}

#[test]
fn a_step_of_the_clock_is_no_silence() {
    const HALF_AN_HOUR: u64 = 1_800_000;
    let frames = opened(1, 0, &[(10, C.data(0, "abc")), (HALF_AN_HOUR, C.data(3, "def"))]);
    let idle = ["--idle-timeout", "20min"];
    assert_eq!(texts(&told(&frames, &idle)), ["abc", "def"]);
    let outcome = told(&frames, &[&idle[..], &["--clock-step", "10min"]].concat());
    assert_eq!((texts(&outcome), stat(&outcome, "clock_steps")), (vec!["abcdef".to_owned()], 1));
}

#[test]
fn a_connection_that_changes_is_recorded_while_it_is_open() {
    // Something is said every second, until the sixth.
    let more: Vec<_> = (0..=6).map(|n| (u64::from(n) * 1_000 + 10, C.data(n, "x"))).collect();
    let frames = opened(1, 0, &more);
    // That it was opened is a note, too.
    for (args, notes) in [(&[][..], 1), (&["--update-interval", "2900ms"], 3)] {
        assert_eq!(told(&frames, args).summary()["sink"]["notes"], notes, "{args:?}");
    }
}

#[test]
fn octets_that_are_old_go_to_files_that_grow_of_which_so_many_are_open() {
    let talk = |port, start| {
        let more: Vec<_> = (0..5).map(|n| (start + 1_000 * u64::from(n) + 10, C.data(n, "x"))).collect();
        opened(port, start, &more)
    };
    let mut frames = [talk(1, 0), talk(2, 500)].concat();
    frames.sort_by_key(|frame| frame.at);
    let figures = |args: &[&str]| {
        let outcome = told(&frames, args);
        assert_eq!(texts(&outcome), ["xxxxx", "xxxxx"]);
        ["early_age", "files_grown", "files_evicted"].map(|name| outcome.summary()["sink"][name].as_u64().unwrap())
    };
    assert_eq!(figures(&[]), [0, 0, 0]);
    let [old, grown, evicted] = figures(&["--write-age", "200ms"]);
    assert!(old >= 2 && (grown, evicted) == (2, 0), "{old} {grown} {evicted}");
    let [_, _, evicted] = figures(&["--write-age", "200ms", "--max-open-files", "1"]);
    assert!(evicted >= 2, "{evicted}");
}

#[test]
fn a_replay_waits_for_room_in_a_small_write_buffer() {
    const TEXT: &str = include_str!("../../../LICENSE-APACHE");
    // All stay open, and none is long enough for a file of its own before the end.
    let frames: Vec<_> = (1..=150).flat_map(|port| opened(port, 0, &[(10, C.data(0, TEXT))])).collect();
    let figures = |args: &[&str]| {
        let outcome = told(&frames, args);
        assert!(texts(&outcome) == vec![TEXT; 150]);
        ["buffer_high", "early_pool"].map(|name| outcome.summary()["sink"][name].as_u64().unwrap())
    };
    let [high, early] = figures(&[]);
    assert!(high > 3 << 19 && early == 0, "{high} {early}");
    let [high, early] = figures(&["--write-buffer", "1M"]);
    assert!(high <= 1 << 20 && early > 0, "{high} {early}");
}

#[test]
fn queues_give_way_at_their_limits() {
    // Each piece counts as 128 octets.
    let pieces = |port| opened(port, 0, &[(10, C.data(1, "b")), (11, C.data(3, "d")), (12, C.data(5, "f"))]);
    let (one, two) = (pieces(1), [pieces(1), pieces(2)].concat());
    let stream = "limit_stream_queue";
    for (flag, value, frames, counter, line) in [
        ("--max-stream-chunks", "2", &one, stream, "1 times a stream's queue was full"),
        ("--max-stream-queue", "300", &one, stream, "1 times a stream's queue was full"),
        ("--max-total-queue", "700", &two, "limit_total_queue", "1 times the queues of all streams were full"),
    ] {
        let limited = |args| {
            let outcome = told(frames, args);
            let first = json!({ "offset": 0, "len": 1, "cause": "limit" });
            let limited = outcome.closed.iter().filter(|record| record["c2s"]["gaps"][0] == first).count();
            // The octets are the same, whatever the holes before them are called.
            assert_eq!(texts(&outcome), vec!["\0b\0d\0f"; outcome.closed.len()]);
            (limited, stat(&outcome, counter))
        };
        assert_eq!((limited(&[]), limited(&[flag, value])), ((0, 0), (1, 1)), "{flag}");
        assert_said(&replay_frames(frames, &[flag, value]), line);
    }
}

#[test]
fn what_lies_behind_the_cutoff_is_counted_and_not_kept() {
    let talk = [
        (10, C.data(0, "get it")),
        (11, S.data(0, "as much")),
        (12, S.data(7, " as there is")),
        (13, C.fin(6).acks(19)),
        (14, S.fin(19).acks(7)),
    ];
    let frames = opened(1, 0, &talk);
    let cases = [
        (&["--cutoff", "9"][..], Some("get it"), None, Some("as much a"), 10),
        (&["--cutoff", "6"], Some("get it"), None, Some("as muc"), 13),
        (&["--cutoff", "1K"], Some("get it"), None, Some("as much as there is"), 0),
        (&["--cutoff", "0"], None, Some(6), None, 19),
        (&["--headers-only"], None, Some(6), None, 19),
    ];
    for (args, up, up_missing, down, down_missing) in cases {
        for shards in ["1", "2"] {
            let outcome = told(&frames, &[args, &["--shards", shards]].concat());
            let record = &outcome.closed[0];
            assert_eq!(record["ended"], "fin", "{args:?}");
            for (stream, text, missing) in [("c2s", up, up_missing), ("s2c", down, Some(down_missing))] {
                let (stream, kept) = (&record[stream], text.map_or(0, str::len));
                let file = stream["file"].as_str().map(|file| outcome.files[file].as_slice());
                assert_eq!(file, text.map(str::as_bytes), "{args:?}");
                assert_eq!((&stream["bytes"], &stream["gaps"]), (&json!(kept), &json!([])), "{args:?}");
                let gap = missing
                    .filter(|missing| *missing > 0)
                    .map_or(Value::Null, |missing| json!({ "offset": kept, "len": missing, "cause": "cutoff" }));
                assert_eq!(stream["trailing_gap"], gap, "{args:?}");
            }
            let missing = up_missing.unwrap_or(0) + down_missing;
            assert_eq!((outcome.summary()["missing"].as_u64(), stat(&outcome, "cutoff")), (Some(missing), missing));
        }
    }
    assert_said(&replay_frames(&frames, &["--cutoff", "9"]), "10 of them behind the cut-off");
    assert_said(&replay_frames(&frames, &["--cutoff", "9"]), "10 bytes captured behind the cut-off, not kept");
}

#[test]
fn connections_give_way_at_their_limits() {
    let over = |port, at| {
        let over = [(at + 10, C.fin(0)), (at + 11, S.fin(0).acks(1)), (at + 12, C.data(1, "").acks(1))];
        opened(port, at, &over)
    };
    let open = [opened(1, 0, &[(10, C.data(0, "one"))]), opened(2, 20, &[(30, C.data(0, "two"))])].concat();
    let closed = [over(1, 0), over(2, 100), over(3, 200)].concat();
    for (flag, frames, counter, count, line) in [
        ("--max-connections", open, "limit_connections", 1, "1 connections evicted: the table was full"),
        ("--max-linger", closed, "limit_linger", 2, "2 closed connections forgotten early"),
    ] {
        assert_eq!(stat(&told(&frames, &[]), counter), 0, "{flag}");
        let outcome = told(&frames, &[flag, "1"]);
        let evicted = outcome.closed.iter().filter(|record| record["ended"] == "evicted").count();
        assert_eq!((stat(&outcome, counter), evicted), (count, usize::from(flag == "--max-connections")), "{flag}");
        assert_said(&replay_frames(&frames, &[flag, "1"]), line);
    }
}

/// Replays frames, with the summary in JSON.
fn told(frames: &[Frame], args: &[&str]) -> Outcome {
    let outcome = replay_frames(frames, &[args, &["--json"]].concat());
    assert_fine(&outcome);
    outcome
}

/// What clients said, in the order of the alphabet.
fn texts(outcome: &Outcome) -> Vec<String> {
    assert_fine(outcome);
    let files = outcome.closed.iter().filter_map(|record| record["c2s"]["file"].as_str());
    let mut texts: Vec<_> = files.map(|file| String::from_utf8(outcome.files[file].clone()).unwrap()).collect();
    texts.sort();
    texts
}

/// A figure of reassembly in the summary.
fn stat(outcome: &Outcome, name: &str) -> u64 {
    outcome.summary()["reassembly"][name].as_u64().unwrap()
}

/// The summary has this line.
fn assert_said(outcome: &Outcome, line: &str) {
    assert_fine(outcome);
    assert!(outcome.stderr.lines().any(|it| it.trim_start() == line), "{line}: {}", outcome.stderr);
}
