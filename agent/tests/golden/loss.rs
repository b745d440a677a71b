//! Frames that the tap lost: what they carried is named, and nothing else suffers.

use crate::{
    account::{Gaps, Seen, assert_complete, assert_file, assert_fine, record},
    file::SECOND,
    frame::{FIN, Frame, SYN},
    outcome::replay_frames,
    random::Random,
    recording::{Conversation, Recording},
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
            assert_file(&outcome, conversation, 1 - lost);
        }
    }
}

#[test]
fn connections_whose_handshake_was_lost_are_whole() {
    let recording = Recording::get();
    let frames: Vec<_> = recording.frames.iter().filter(|frame| frame.tcp().flags & SYN == 0).cloned().collect();
    let outcome = replay_frames(&frames, &[]);
    assert_fine(&outcome);
    let spoken = |it: &&Conversation| it.said.iter().any(|said| !said.octets.is_empty());
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
    // A gap that was acknowledged is held for a second. These come a second and a half late, while their sender still
    // has more to say.
    const LATE: u64 = 3 * SECOND / 2;
    let mut recording = Recording::get().clone();
    let first = recording.frames[0].at;
    let slow = |at: u64| first + (at - first) * 4_000;
    recording.frames.iter_mut().for_each(|frame| frame.at = slow(frame.at));
    let speaks_later = |frame: &Frame| {
        let ours = frame.tcp();
        let mut later = recording.frames.iter().filter(|other| other.at > frame.at + LATE).map(Frame::tcp);
        later.any(|tcp| (tcp.src, tcp.dst) == (ours.src, ours.dst) && !tcp.payload.is_empty())
    };
    let mut random = Random::new(7);
    let mut is_late = |frame: &Frame| !frame.tcp().payload.is_empty() && random.below(3) == 0 && speaks_later(frame);
    let (late, mut frames): (Vec<_>, Vec<_>) = recording.frames.iter().cloned().partition(|frame| is_late(frame));
    assert!(late.len() > 10, "only {} frames are late", late.len());
    frames.extend(late.iter().map(|frame| Frame { at: frame.at + LATE, ..frame.clone() }));
    frames.sort_by_key(|frame| frame.at);
    for gaps in ["hole", "zero"] {
        let outcome = replay_frames(&frames, &["--gaps", gaps, "--json"]);
        assert_complete(&outcome, &recording.conversations);
        let filled = outcome.summary()["reassembly"]["gaps_filled"].as_u64().unwrap();
        assert!(filled > 10_000, "only {filled} octets came after their gap");
    }
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
