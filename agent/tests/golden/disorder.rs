//! Frames in another order, more than once, with other numbers: the streams stay what they were.

use crate::{
    account::{assert_complete, assert_file, assert_fine, assert_octets},
    frame::{Frame, SYN},
    outcome::replay_frames,
    random::Random,
    recording::Recording,
};

#[test]
fn frames_reordered_within_50_ms_give_the_same_streams() {
    let recording = Recording::get();
    for (seed, slower) in [(1, 10), (2, 10), (3, 100), (4, 100)] {
        let frames = reordered(&slowed(&recording.frames, slower), seed, |frame| !is_syn(frame));
        assert_complete(&replay_frames(&frames, &[]), &recording.conversations);
    }
    // As fast as it was recorded, that is all of it in any order. A FIN that overtakes more than a window is not believed.
    for seed in 5..9 {
        let frames = reordered(&recording.frames, seed, |frame| !is_syn(frame));
        assert_octets(&replay_frames(&frames, &[]), &recording.conversations);
    }
}

#[test]
fn handshakes_reordered_with_everything_else_give_the_same_streams() {
    let recording = Recording::get();
    for (seed, slower) in [(11, 1), (12, 1), (13, 10), (14, 100)] {
        let frames = reordered(&slowed(&recording.frames, slower), seed, |_| true);
        let outcome = replay_frames(&frames, &["--json"]);
        assert_fine(&outcome);
        for conversation in &recording.conversations {
            assert_file(&outcome, conversation, 0);
            assert_file(&outcome, conversation, 1);
        }
        let stats = &outcome.summary()["reassembly"];
        assert_eq!(
            (&stats["opened"], &stats["gaps"], &stats["gaps_trailing"]),
            (&recording.conversations.len().into(), &0.into(), &0.into()),
            "{stats}"
        );
    }
}

#[test]
fn frames_seen_twice_count_once() {
    let recording = Recording::get();
    let mut twice = Vec::new();
    for frame in &recording.frames {
        twice.extend([frame.clone(), frame.clone()]);
    }
    let outcome = replay_frames(&twice, &["--json"]);
    assert_complete(&outcome, &recording.conversations);
    // Each octet was captured once more than it was delivered.
    let payload: usize = recording.frames.iter().map(|frame| frame.tcp().payload.len()).sum();
    let stats = &outcome.summary()["reassembly"];
    let again = ["duplicate", "after_close"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(again.iter().sum::<u64>(), payload as u64, "{stats}");
}

#[test]
fn frames_seen_twice_in_any_order_count_once() {
    let recording = Recording::get();
    for seed in [11, 12] {
        let mut twice = slowed(&recording.frames, 10);
        // The first copies of handshakes stay in their places.
        twice.extend(reordered(&twice, seed, |_| true));
        let frames = reordered(&twice, seed + 100, |frame| !is_syn(frame));
        assert_complete(&replay_frames(&frames, &[]), &recording.conversations);
    }
}

#[test]
fn sequence_numbers_that_pass_2_to_the_32_change_nothing() {
    let recording = Recording::get();
    // In the middle of each stream, at its first octet, and at its SYN.
    let points: [fn(usize) -> u32; 3] = [|len| len as u32 / 2, |_| 0, |_| 1_u32.wrapping_neg()];
    for (number, point) in points.into_iter().enumerate() {
        let mut shifted = recording.clone();
        for conversation in &mut shifted.conversations {
            let [up, down] = conversation.said.each_ref().map(|said| {
                let wanted = point(said.octets.len()).wrapping_neg();
                wanted.wrapping_sub(said.first)
            });
            for frame in &mut shifted.frames {
                match conversation.direction(frame) {
                    Some(0) => frame.shift(up, down),
                    Some(_) => frame.shift(down, up),
                    None => {}
                }
            }
        }
        let crosses = |frame: &Frame| {
            let tcp = frame.tcp();
            tcp.seq.checked_add(tcp.payload.len() as u32).is_none()
        };
        assert!(number > 0 || shifted.frames.iter().filter(|frame| crosses(frame)).count() > 20);
        assert_complete(&replay_frames(&shifted.frames, &[]), &recording.conversations);
        let disordered = reordered(&slowed(&shifted.frames, 10), 21, |frame| !is_syn(frame));
        assert_complete(&replay_frames(&disordered, &[]), &recording.conversations);
    }
}

/// Time passes more slowly.
pub(crate) fn slowed(frames: &[Frame], times: u64) -> Vec<Frame> {
    let start = frames[0].at;
    frames.iter().map(|frame| Frame { at: start + (frame.at - start) * times, ..frame.clone() }).collect()
}

/// Frames that `may_wait` names come up to 50 ms later than they did.
pub(crate) fn reordered(frames: &[Frame], seed: u64, may_wait: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    const DELAY: u64 = 50_000_000;
    let mut random = Random::new(seed);
    let mut frames = frames.to_vec();
    frames.iter_mut().filter(|frame| may_wait(frame)).for_each(|frame| frame.at += random.below(DELAY));
    frames.sort_by_key(|frame| frame.at);
    frames
}

pub(crate) fn is_syn(frame: &Frame) -> bool {
    frame.tcp().flags & SYN != 0
}
