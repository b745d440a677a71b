//! The capture clock, and what its time is in wall time. The only place that reads a clock.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};

use crate::segment::Timestamp;

/// `CLOCK_BOOTTIME`: the clock that stamps frames in the kernel, and that goes on while the machine sleeps.
pub fn now() -> Timestamp {
    Timestamp(read(ClockId::Boottime))
}

/// Turns capture time into wall time by a fixed difference, so that a step of the wall clock in the middle of a capture
/// neither reorders nor stretches anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clock {
    /// Wall time less capture time, modulo 2^64.
    offset: u64,
}

impl Clock {
    /// For a capture that starts now.
    pub fn live() -> Self {
        let before = now();
        let wall = read(ClockId::Realtime);
        let boot = before.after(now().since(before) / 2);
        Self { offset: wall.wrapping_sub(boot.0) }
    }

    /// For capture files, whose time is wall time already.
    pub const fn replay() -> Self {
        Self { offset: 0 }
    }

    pub const fn wall(self, timestamp: Timestamp) -> Wall {
        Wall(timestamp.0.wrapping_add(self.offset))
    }
}

/// Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Displays as RFC 3339 with nine decimals.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Wall(pub u64);

impl Wall {
    pub const fn civil(self) -> Civil {
        let (days, second_of_day) = (self.0 / DAY, self.0 % DAY / SECOND);
        let (year, month, day) = date(days);
        Civil {
            year,
            month,
            day,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            nanosecond: self.0 % SECOND,
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, nanosecond } = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanosecond:09}Z")
    }
}

/// A point of wall time on the calendar, in UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Civil {
    pub year: u64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    pub nanosecond: u64,
}

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is negative on a machine whose wall clock is past 1970.
    time.tv_sec.cast_unsigned().wrapping_mul(SECOND).wrapping_add(time.tv_nsec.cast_unsigned())
}

/// Year, month and day of a day since 1970-01-01: Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`. Years begin in March there, which puts the leap day last, and repeat every 400 (146,097 days).
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + (month <= 2) as u64, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339() {
        fn check(nanoseconds: u64, expected: &str) {
            assert_eq!(Wall(nanoseconds).to_string(), expected);
        }
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1, "1970-01-01T00:00:00.000000001Z");
        check(951_782_399 * SECOND, "2000-02-28T23:59:59.000000000Z");
        check(951_782_400 * SECOND, "2000-02-29T00:00:00.000000000Z");
        check(951_868_800 * SECOND, "2000-03-01T00:00:00.000000000Z");
        check(1_795_159_805 * SECOND + 123_456_789, "2026-11-20T07:30:05.123456789Z");
        check(4_107_542_400 * SECOND, "2100-03-01T00:00:00.000000000Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=u64::MAX / DAY {
            assert_eq!(date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn live_time_is_wall_time() {
        let clock = Clock::live();
        let distance = clock.wall(now()).0.abs_diff(read(ClockId::Realtime));
        assert!(distance < SECOND, "{distance} ns");
        assert_eq!(Clock::replay().wall(Timestamp(7)), Wall(7));
    }
}
