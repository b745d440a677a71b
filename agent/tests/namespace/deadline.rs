//! The only reader of time here: how long to be patient.

use std::thread::sleep;
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(patience: Duration) -> Self {
        Self(now() + patience)
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    pub(crate) fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Runs `work` and says how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = now();
    let result = work();
    (result, now() - start)
}

/// Waits until `condition` holds; panics with `what` if it does not within `patience`.
pub(crate) fn eventually(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Deadline::after(patience);
    while !condition() {
        assert!(!deadline.passed(), "not within {patience:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests watch a real process; its clock is not theirs")]
fn now() -> Instant {
    Instant::now()
}
