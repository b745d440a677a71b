//! Time as the stamps of frames tell it.

use crate::segment::Timestamp;

/// The clock of the frames, less the steps that were too large to be time passing. It never goes back: after a small step
/// backwards it stands still until that is made up for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SteadyClock {
    now: Timestamp,
    /// What the frames said then, if there was one.
    latest: Option<Timestamp>,
}

impl SteadyClock {
    /// Takes the stamp of a frame. Whether it was a step, which is one of more than `step` either way.
    #[inline]
    pub(crate) fn advance(&mut self, time: Timestamp, step: u64) -> bool {
        let Some(latest) = self.latest else {
            // The first time seen is a beginning, not a step.
            (self.now, self.latest) = (time, Some(time));
            return false;
        };
        let passed = time.since(latest);
        let stepped = passed > step || latest.since(time) > step;
        if stepped {
            self.latest = Some(time);
        } else if passed > 0 {
            (self.now, self.latest) = (self.now.after(passed), Some(time));
        }
        stepped
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// When the frames said `time`, unless there was a step since.
    pub(crate) fn when(&self, time: Timestamp) -> Timestamp {
        let latest = self.latest.unwrap_or(time);
        Timestamp(self.now.after(time.since(latest)).0.saturating_sub(latest.since(time)))
    }

    /// What the frames will say at `time`, unless there is a step before.
    pub(crate) fn frames(&self, time: Timestamp) -> Timestamp {
        let latest = self.latest.unwrap_or(self.now);
        if time < self.now {
            Timestamp(latest.0.saturating_sub(self.now.since(time)))
        } else {
            latest.after(time.since(self.now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_stamped_zero_is_a_step_like_any_other() {
        const HOUR: u64 = 3_600_000_000_000;
        let start = Timestamp(1_700_000_000_000_000_000);
        let mut clock = SteadyClock::default();
        assert!(!clock.advance(start, HOUR));
        assert!(clock.advance(Timestamp(0), HOUR));
        assert!(clock.advance(start.after(5), HOUR));
        assert_eq!(clock.now(), start);
        assert!(!clock.advance(start.after(7), HOUR));
        assert_eq!(clock.now(), start.after(2));
        assert_eq!(clock.frames(clock.now()), start.after(7));
        assert_eq!([4, 7, 9].map(|time| clock.when(start.after(time)).since(start)), [0, 2, 4]);
    }
}
