//! The time of the demo: seconds since its first event, and their real times.
//!
//! Invariant: no time of the demo is after [`end`], however long the demo is. The days of a longer demo are
//! compressed, not cut.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// Seconds since the demo's first event; the days of the demo have 24 hours.
pub(super) type Seconds = i64;

pub(super) const MINUTE: Seconds = 60;
pub(super) const HOUR: Seconds = 60 * MINUTE;
pub(super) const DAY: Seconds = 24 * HOUR;

/// Days of the default length, 18 months.
pub(super) const DEFAULT_DAYS: u64 = 546;

/// Average number of events per day of the demo, weekends included, or slightly fewer, so that the demo ends
/// a little before the end. A test checks this.
const EVENTS_PER_DAY: u64 = 30;
/// Days from the beginning to the end.
const DAYS_TO_END: u64 = 663;

fn at_eight(year: i32, month: u32, day: u32) -> DateTime<Utc> {
    let date = NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default();
    let eight = NaiveTime::from_hms_opt(8, 0, 0).unwrap_or_default();
    NaiveDateTime::new(date, eight).and_utc()
}

/// Returns the time of the first event: a Monday morning.
pub(super) fn begin() -> DateTime<Utc> {
    at_eight(2025, 1, 6)
}

/// Returns the latest possible time of an event.
pub(super) fn end() -> DateTime<Utc> {
    begin() + TimeDelta::days(DAYS_TO_END.cast_signed())
}

pub(super) struct Calendar {
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
    /// A second of the demo lasts `time_scale.0 / time_scale.1` real seconds.
    time_scale: (u64, u64),
}

impl Calendar {
    /// Creates the calendar of a demo of this many events, or of the default length.
    pub(super) fn of(events: Option<usize>) -> Self {
        let days = events.map_or(DEFAULT_DAYS, |events| events as u64 / EVENTS_PER_DAY + 1);
        let time_scale = if days <= DAYS_TO_END { (1, 1) } else { (DAYS_TO_END, days) };
        Self { begin: begin(), end: end(), time_scale }
    }

    /// Returns true if a day of the demo lasts a real day.
    pub(super) const fn is_real_time(&self) -> bool {
        self.time_scale.0 == self.time_scale.1
    }

    pub(super) fn time(&self, seconds: Seconds) -> DateTime<Utc> {
        let microseconds =
            i128::from(seconds) * 1_000_000 * i128::from(self.time_scale.0) / i128::from(self.time_scale.1);
        let passed = i64::try_from(microseconds).map_or(TimeDelta::MAX, TimeDelta::microseconds);
        self.begin.checked_add_signed(passed).map_or(self.end, |time| time.min(self.end))
    }
}

/// A day of the demo's own calendar.
#[derive(Clone, Copy)]
pub(super) struct Day {
    /// Counted from 0.
    pub(super) number: u64,
    date: NaiveDate,
}

impl Day {
    pub(super) fn new(number: u64) -> Self {
        // Beyond the last representable date, some hundred thousand years ahead, the date stays the same.
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

    /// Returns true if production is frozen: from 20 December to 1 January.
    pub(super) fn is_frozen(self) -> bool {
        matches!(self.month_and_day(), (12, 20..) | (1, 1))
    }

    /// Returns true on the days on which a service is removed from dev: the first Saturday of a month.
    pub(super) fn is_cleanup_day(self) -> bool {
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
    fn a_long_demo_is_compressed_and_never_exceeds_the_end() {
        let calendar = Calendar::of(Some(10_000_000));
        assert!(!calendar.is_real_time());
        assert!(calendar.time(DAY) - calendar.time(0) < TimeDelta::minutes(10));
        assert_eq!(calendar.time(Seconds::MAX), end());
    }
}
