//! Frames in another order, more than once, with other numbers: the streams stay what they were.

use crate::{account::assert_complete, frame::Frame, outcome::replay_frames, random::Random, recording::Recording};

#[test]
fn frames_reordered_within_50_ms_give_the_same_streams() {
    // As fast as it was recorded, that is all of it in any order; a tenth as fast, it is not.
    for (seed, slower) in [(1, 1), (2, 1), (3, 10), (4, 10), (5, 100)] {
        let frames = reordered(&Recording::get().frames, seed, slower);
        assert_complete(&replay_frames(&frames, &[]), &Recording::get().conversations);
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
        let twice = [&recording.frames[..], &recording.frames[..]].concat();
        assert_complete(&replay_frames(&reordered(&twice, seed, 10), &[]), &recording.conversations);
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
        let disordered = reordered(&shifted.frames, 21, 10);
        assert_complete(&replay_frames(&disordered, &[]), &recording.conversations);
    }
}

/// Every frame comes up to 50 ms later than it did, when all is `slower` than it was.
fn reordered(frames: &[Frame], seed: u64, slower: u64) -> Vec<Frame> {
    const DELAY: u64 = 50_000_000;
    let mut random = Random::new(seed);
    let start = frames[0].at;
    let mut frames: Vec<_> = frames
        .iter()
        .map(|frame| Frame { at: start + (frame.at - start) * slower + random.below(DELAY), ..frame.clone() })
        .collect();
    frames.sort_by_key(|frame| frame.at);
    frames
}
