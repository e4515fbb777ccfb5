//! The demo's time: seconds since its first event, and what they are in the world.
//!
//! Invariant: no time of the demo is after [`end`], however long it is. A demo that would go beyond
//! it is played faster: its days are compressed, not cut.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// Seconds since the demo's first event, on the demo's own days of 24 hours.
pub(super) type Seconds = i64;

pub(super) const MINUTE: Seconds = 60;
pub(super) const HOUR: Seconds = 60 * MINUTE;
pub(super) const DAY: Seconds = 24 * HOUR;

/// Days of 18 months.
pub(super) const NATURAL_DAYS: u64 = 546;

/// Events that a day of the demo has on the average, weekends included, or fewer: then it ends a
/// little before the end. A test holds the demo to it.
const EVENTS_A_DAY: u64 = 30;
/// Days from the beginning to the end.
const DAYS_TO_END: u64 = 663;

fn at_eight(year: i32, month: u32, day: u32) -> DateTime<Utc> {
    let date = NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default();
    let eight = NaiveTime::from_hms_opt(8, 0, 0).unwrap_or_default();
    NaiveDateTime::new(date, eight).and_utc()
}

/// A Monday morning.
pub(super) fn begin() -> DateTime<Utc> {
    at_eight(2025, 1, 6)
}

/// No event is after this.
pub(super) fn end() -> DateTime<Utc> {
    begin() + TimeDelta::days(DAYS_TO_END.cast_signed())
}

pub(super) struct Calendar {
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
    /// A demo's second lasts `faster.0 / faster.1` seconds of the world.
    faster: (u64, u64),
}

impl Calendar {
    /// For a demo of so many events, or of its natural length.
    pub(super) fn of(events: Option<usize>) -> Self {
        let days = events.map_or(NATURAL_DAYS, |events| events as u64 / EVENTS_A_DAY + 1);
        let faster = if days <= DAYS_TO_END { (1, 1) } else { (DAYS_TO_END, days) };
        Self { begin: begin(), end: end(), faster }
    }

    /// Whether a day of the demo is a day of the world.
    pub(super) const fn is_real(&self) -> bool {
        self.faster.0 == self.faster.1
    }

    pub(super) fn time(&self, seconds: Seconds) -> DateTime<Utc> {
        let microseconds =
            i128::from(seconds) * 1_000_000 * i128::from(self.faster.0) / i128::from(self.faster.1);
        let passed = i64::try_from(microseconds).map_or(TimeDelta::MAX, TimeDelta::microseconds);
        self.begin.checked_add_signed(passed).map_or(self.end, |time| time.min(self.end))
    }
}

/// A day of the demo, as its own calendar has it.
#[derive(Clone, Copy)]
pub(super) struct Day {
    /// Counted from 0.
    pub(super) number: u64,
    date: NaiveDate,
}

impl Day {
    pub(super) fn new(number: u64) -> Self {
        // Beyond the last day that can be written, some hundred thousand years on, it stays the same.
        let date = begin().date_naive().checked_add_days(Days::new(number)).unwrap_or(NaiveDate::MAX);
        Self { number, date }
    }

    pub(super) const fn begins(self) -> Seconds {
        self.number.cast_signed() * DAY
    }

    pub(super) const fn is_weekend(self) -> bool {
        self.number % 7 >= 5
    }

    pub(super) fn year(self) -> i32 {
        self.date.year()
    }

    fn month_and_day(self) -> (u32, u32) {
        (self.date.month(), self.date.day())
    }

    pub(super) fn begins_freeze(self) -> bool {
        self.month_and_day() == (12, 20)
    }

    pub(super) fn ends_freeze(self) -> bool {
        self.month_and_day() == (1, 2)
    }

    /// Whether production should not be touched: the days between the years.
    pub(super) fn is_frozen(self) -> bool {
        matches!(self.month_and_day(), (12, 20..) | (1, 1))
    }

    /// Whether dev is tidied up: on the first Saturday of a month.
    pub(super) fn tidies_up(self) -> bool {
        self.number % 7 == 5 && self.date.day() <= 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_last_morning_before_november() {
        assert_eq!(end().to_rfc3339(), "2026-10-31T08:00:00+00:00");
    }

    #[test]
    fn a_long_demo_is_played_faster_and_never_after_the_end() {
        let calendar = Calendar::of(Some(10_000_000));
        assert!(!calendar.is_real());
        assert!(calendar.time(DAY) - calendar.time(0) < TimeDelta::minutes(10));
        assert_eq!(calendar.time(Seconds::MAX), end());
    }
}
