//! Frames that the tap lost: what they carried is named, and nothing else suffers.

use crate::{
    account::{Gaps, Seen, assert_complete, assert_fine, record},
    file::SECOND,
    frame::{FIN, Frame, SYN},
    outcome::replay_frames,
    random::Random,
    recording::Recording,
};

const GAPS: [(&str, Gaps); 3] = [("hole", Gaps::Kept), ("zero", Gaps::Kept), ("skip", Gaps::Skipped)];

#[test]
fn whatever_is_lost_is_in_a_gap_and_every_other_octet_in_its_place() {
    for (seed, one_in) in [(1, 50), (2, 10), (3, 10), (4, 3), (5, 2)] {
        let mut random = Random::new(seed);
        assert_lost(&format!("seed {seed}"), |frame| frame.tcp().flags & SYN == 0 && random.below(one_in) == 0);
    }
}

#[test]
fn the_first_octets_of_streams_may_be_lost() {
    let recording = Recording::get();
    assert_lost("first", |frame| {
        let conversation = recording.conversations.iter().find(|it| it.direction(frame).is_some()).unwrap();
        let (tcp, direction) = (frame.tcp(), conversation.direction(frame).unwrap());
        !tcp.payload.is_empty() && tcp.seq == conversation.said[direction].first
    });
}

#[test]
fn the_last_octets_of_streams_may_be_lost_with_their_fins_and_without() {
    let recording = Recording::get();
    let is_last = |frame: &Frame| {
        let conversation = recording.conversations.iter().find(|it| it.direction(frame).is_some()).unwrap();
        let (tcp, said) = (frame.tcp(), &conversation.said[conversation.direction(frame).unwrap()]);
        let end = tcp.seq.wrapping_add(tcp.payload.len() as u32);
        !tcp.payload.is_empty() && end == said.first.wrapping_add(said.octets.len() as u32)
    };
    assert_lost("last", is_last);
    assert_lost("last and FIN", |frame| is_last(frame) || frame.tcp().flags & FIN != 0);
}

#[test]
fn one_direction_may_be_lost_altogether() {
    let recording = Recording::get();
    for lost in [0, 1] {
        let frames: Vec<_> = recording
            .frames
            .iter()
            .filter(|frame| !recording.conversations.iter().any(|it| it.direction(frame) == Some(lost)))
            .cloned()
            .collect();
        let outcome = replay_frames(&frames, &[]);
        assert_fine(&outcome);
        for conversation in &recording.conversations {
            let said = &conversation.said[1 - lost].octets;
            let (src, dst) = conversation.ends(1 - lost);
            let ends = format!("-{}.{}-{}.{}", src.ip(), src.port(), dst.ip(), dst.port());
            let found: Vec<_> = outcome.files.iter().filter(|(name, _)| name.ends_with(&ends)).collect();
            match found[..] {
                [(_, content)] => assert!(content == said, "{ends}: other octets"),
                [] => assert!(said.is_empty(), "{ends}: no file"),
                _ => panic!("{ends}: {} files", found.len()),
            }
        }
    }
}

#[test]
fn connections_whose_handshake_was_lost_are_whole() {
    let recording = Recording::get();
    let frames: Vec<_> = recording.frames.iter().filter(|frame| frame.tcp().flags & SYN == 0).cloned().collect();
    let outcome = replay_frames(&frames, &[]);
    assert_fine(&outcome);
    let spoken = |it: &&crate::recording::Conversation| it.said.iter().any(|said| !said.octets.is_empty());
    let spoken: Vec<_> = recording.conversations.iter().filter(spoken).cloned().collect();
    assert!(spoken.len() > 40, "{} conversations", spoken.len());
    assert_eq!(Seen::whole(&frames).assert_accounted(&outcome, &spoken, Gaps::Kept), 0);
    for conversation in &spoken {
        assert_eq!(record(&outcome, conversation)["started"], "midstream");
    }
    let refused = replay_frames(&frames, &["--require-handshake"]);
    assert_fine(&refused);
    assert_eq!((refused.closed.len(), refused.files.len()), (0, 0));
}

#[test]
fn what_comes_after_its_gap_was_declared_fills_it() {
    // A gap is held for a second of capture time; these come three seconds late, and traffic goes on until then.
    let recording = Recording::get();
    let mut random = Random::new(7);
    let (mut late, mut frames): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for frame in &recording.frames {
        let slow = Frame { at: slow(frame.at), ..frame.clone() };
        if !frame.tcp().payload.is_empty() && random.below(20) == 0 { late.push(slow) } else { frames.push(slow) }
    }
    assert!(late.len() > 10);
    for mut frame in late {
        frame.at += 3 * SECOND;
        let place = frames.partition_point(|other| other.at <= frame.at);
        frames.insert(place, frame);
    }
    let mut conversations = recording.conversations.clone();
    conversations.iter_mut().for_each(|it| it.start = slow(it.start));
    for gaps in ["hole", "zero"] {
        let outcome = replay_frames(&frames, &["--gaps", gaps, "--json"]);
        assert_complete(&outcome, &conversations);
        let filled = outcome.summary()["reassembly"]["gaps_filled"].as_u64().unwrap();
        assert!(filled > 10_000, "only {filled} octets came after their gap");
    }
}

/// Twenty seconds instead of 25 milliseconds.
fn slow(at: u64) -> u64 {
    let start = Recording::get().frames[0].at;
    start + (at - start) * 800
}

/// Removes the frames that `is_lost` names.
fn assert_lost(what: &str, mut is_lost: impl FnMut(&Frame) -> bool) {
    let recording = Recording::get();
    let left: Vec<_> = recording.frames.iter().filter(|frame| !is_lost(frame)).cloned().collect();
    let payload = |frames: &[Frame]| frames.iter().map(|frame| frame.tcp().payload.len()).sum::<usize>();
    assert!(payload(&left) < payload(&recording.frames), "{what}: nothing was lost");
    for (gaps, kept) in GAPS {
        let outcome = replay_frames(&left, &["--gaps", gaps]);
        assert_fine(&outcome);
        assert!(Seen::whole(&left).assert_accounted(&outcome, &recording.conversations, kept) > 0, "{what}");
        assert_eq!(outcome.closed.len(), recording.conversations.len(), "{what}");
    }
}
