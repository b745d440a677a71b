//! Clocks that do what clocks should not.

use crate::{
    account::assert_complete,
    file::SECOND,
    frame::Frame,
    outcome::{Outcome, replay_frames},
    recording::{Conversation, Recording},
};

#[test]
fn nothing_expires_because_the_clock_was_set_forward() {
    assert_step(|at| at + 2 * HOUR);
}

#[test]
fn nothing_expires_because_the_clock_was_set_back() {
    assert_step(|at| at - 2 * HOUR);
}

#[test]
fn a_clock_that_stands_still_is_enough() {
    for at in [0, Recording::get().frames[0].at] {
        let outcome = replay_with_clock(|_, _| at, &[]);
        assert_complete(&outcome, &Recording::get().conversations);
        let starts = outcome.closed.iter().map(|record| &record["start"]);
        assert!(at > 0 || starts.into_iter().all(|start| *start == "1970-01-01T00:00:00.000000000Z"));
    }
}

#[test]
fn a_clock_that_runs_backwards_is_enough() {
    let start = Recording::get().frames[0].at;
    let outcome = replay_with_clock(|_, at| start - (at - start), &[]);
    assert_complete(&outcome, &Recording::get().conversations);
}

/// While most connections are open the clock is set, with timeouts that a step would make run out.
fn assert_step(step: impl Fn(u64) -> u64) {
    let Recording { frames, conversations } = Recording::get();
    let spans = |it: &Conversation, place: usize| {
        let is_ours = |frames: &[Frame]| frames.iter().any(|frame| it.direction(frame).is_some());
        is_ours(&frames[..place]) && is_ours(&frames[place..])
    };
    let open = |place: usize| conversations.iter().filter(|it| spans(it, place)).count();
    let place = (0..frames.len()).step_by(50).max_by_key(|place| open(*place)).unwrap();
    assert!(open(place) >= 4, "only {} connections are open at a time", open(place));
    let clock = |number, at| if number < place { at } else { step(at) };
    let outcome = replay_with_clock(clock, &["--idle-timeout", "1min", "--json"]);
    assert_complete(&outcome, conversations);
    assert_eq!(outcome.summary()["reassembly"]["clock_steps"], 1);
}

/// Replays the recording with the times that `clock` makes of places and times.
fn replay_with_clock(clock: impl Fn(usize, u64) -> u64, args: &[&str]) -> Outcome {
    let frames = Recording::get().frames.iter().enumerate();
    let frames: Vec<_> = frames.map(|(number, frame)| Frame { at: clock(number, frame.at), ..frame.clone() }).collect();
    replay_frames(&frames, args)
}

const HOUR: u64 = 3_600 * SECOND;
