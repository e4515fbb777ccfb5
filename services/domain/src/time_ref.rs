//! Times as people write them: RFC 3339, to the minute, a day, a word, or a time ago.
//!
//! Invariant: the only parser of these forms. A day begins at 00:00 UTC. The current time is an argument, and what was
//! parsed is in whole microseconds within the years 0 to 9999.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, TimeDelta, Utc};

use crate::duration::{DurationError, parse_duration};
use crate::{TimeError, parse_time};

/// Words that are times.
pub(crate) const TIME_WORDS: [&str; 3] = ["now", "today", "yesterday"];

/// Reason why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeRefError {
    /// The text has none of the forms.
    #[error(
        "must be a time such as 2026-03-01T12:00Z, a date (00:00 UTC), today, yesterday, now, or a time ago such as 24h"
    )]
    Syntax,
    /// The text has a time of day without a time zone.
    #[error("has no time zone: add Z for UTC, or an offset such as +02:00")]
    NoZone,
    /// The text is a date that no calendar has.
    #[error("is not a date of the calendar")]
    NoSuchDate,
    /// The text is a time ago that is too long.
    #[error("is too long ago: {0}")]
    Ago(DurationError),
    /// The text is an RFC 3339 time that is invalid.
    #[error(transparent)]
    Time(TimeError),
}

/// Parses a time: RFC 3339, RFC 3339 without seconds, a date, `now`, `today`, `yesterday`, or a duration before `now`,
/// such as `2h`.
///
/// # Errors
/// The text has none of these forms, or the time is out of range.
pub fn parse_time_ref(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimeRefError> {
    match parse_duration(text) {
        Ok(ago) => shifted(now, -ago),
        Err(error @ DurationError::TooLong) => Err(TimeRefError::Ago(error)),
        Err(DurationError::Syntax) => parse_calendar_time(text, now),
    }
}

/// Parses a time as [`parse_time_ref`] does, except for durations.
///
/// # Errors
/// The text has none of these forms, or the time is out of range.
pub fn parse_calendar_time(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimeRefError> {
    match text {
        "now" => return shifted(now, TimeDelta::zero()),
        "today" => return midnight(now.date_naive()),
        "yesterday" => {
            let yesterday = now.date_naive().checked_sub_days(Days::new(1));
            return midnight(yesterday.ok_or(TimeRefError::Time(TimeError::Year))?);
        }
        _ => {}
    }
    match parse_time(text) {
        Ok(time) => return Ok(time),
        Err(error @ (TimeError::LeapSecond | TimeError::Year)) => return Err(TimeRefError::Time(error)),
        Err(TimeError::Syntax) => {}
    }
    // Other forms of a year would be taken for another one, and chrono accepts spaces.
    if !begins_with_date(text) {
        return Err(TimeRefError::Syntax);
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return midnight(date);
    }
    let time = match text.strip_suffix(['Z', 'z']) {
        Some(text) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").ok().map(|time| time.and_utc()),
        None => DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z").ok().map(|time| time.to_utc()),
    };
    time.map_or_else(|| Err(reason(text)), in_range)
}

/// Returns true if a text has the shape of a time, valid or not, or is a word or a duration.
pub(crate) fn looks_like_time(text: &str) -> bool {
    let is_duration = !matches!(parse_duration(text), Err(DurationError::Syntax));
    TIME_WORDS.contains(&text) || is_duration || begins_with_date(text)
}

/// Returns true for a date, alone or before a `T`.
fn begins_with_date(text: &str) -> bool {
    has_date(text.split_once(['T', 't']).map_or(text, |(date, _)| date))
}

/// Returns true for a year of four digits, and a month and a day of one or two.
fn has_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let has_lengths = matches!(parts.as_slice(), [year, month, day]
        if year.len() == 4 && month.len() <= 2 && day.len() <= 2);
    has_lengths && parts.into_iter().all(is_number)
}

/// Returns what is wrong with a text that begins with a year.
fn reason(text: &str) -> TimeRefError {
    let is_local = |form| NaiveDateTime::parse_from_str(text, form).is_ok();
    if is_local("%Y-%m-%dT%H:%M") || is_local("%Y-%m-%dT%H:%M:%S%.f") {
        TimeRefError::NoZone
    } else if has_date(text) {
        TimeRefError::NoSuchDate
    } else {
        TimeRefError::Syntax
    }
}

fn midnight(date: NaiveDate) -> Result<DateTime<Utc>, TimeRefError> {
    date.and_hms_opt(0, 0, 0).map_or(Err(TimeRefError::Syntax), |time| in_range(time.and_utc()))
}

fn shifted(now: DateTime<Utc>, by: TimeDelta) -> Result<DateTime<Utc>, TimeRefError> {
    let time =
        now.checked_add_signed(by).and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros()));
    time.map_or(Err(TimeRefError::Time(TimeError::Year)), in_range)
}

fn in_range(time: DateTime<Utc>) -> Result<DateTime<Utc>, TimeRefError> {
    if (0..=9999).contains(&time.year()) { Ok(time) } else { Err(TimeRefError::Time(TimeError::Year)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, TimeRefError> {
        let now = parse_time("2026-03-02T12:30:00.123456Z").expect("a time") + TimeDelta::nanoseconds(789);
        parse_time_ref(text, now).map(|time| time.to_rfc3339())
    }

    #[test]
    fn each_form_is_a_time_in_utc_and_in_whole_microseconds() {
        for (text, time) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00"),
            ("2026-03-01T12:00:00.5+02:00", "2026-03-01T10:00:00.500+00:00"),
            ("2026-03-01T12:00Z", "2026-03-01T12:00:00+00:00"),
            ("2026-03-01T12:00z", "2026-03-01T12:00:00+00:00"),
            ("2026-03-01T00:30+02:00", "2026-02-28T22:30:00+00:00"),
            ("2026-03-01T23:30-05:00", "2026-03-02T04:30:00+00:00"),
            ("2026-03-01", "2026-03-01T00:00:00+00:00"),
            ("2024-02-29", "2024-02-29T00:00:00+00:00"),
            ("2026-03-31", "2026-03-31T00:00:00+00:00"),
            ("now", "2026-03-02T12:30:00.123456+00:00"),
            ("today", "2026-03-02T00:00:00+00:00"),
            ("yesterday", "2026-03-01T00:00:00+00:00"),
            ("0s", "2026-03-02T12:30:00.123456+00:00"),
            ("90s", "2026-03-02T12:28:30.123456+00:00"),
            ("2h", "2026-03-02T10:30:00.123456+00:00"),
            ("1w", "2026-02-23T12:30:00.123456+00:00"),
        ] {
            assert_eq!(parsed(text), Ok(time.to_owned()), "{text}");
            assert!(looks_like_time(text), "{text}");
        }
    }

    #[test]
    fn an_invalid_time_is_rejected_with_a_reason() {
        for text in ["", "tomorrow", "Yesterday", "2h30m", "-2h", "1.5h", "99999-01-01", "20260301", "12:00Z"]
        {
            assert_eq!(parsed(text), Err(TimeRefError::Syntax), "{text}");
        }
        for text in ["2026-03-01T12:00", "2026-03-01T12:00:00", "2026-03-01T12:00:00.25"] {
            assert_eq!(parsed(text), Err(TimeRefError::NoZone), "{text}");
        }
        for text in ["2026-13-01", "2026-02-30", "2026-00-10"] {
            assert_eq!(parsed(text), Err(TimeRefError::NoSuchDate), "{text}");
            assert!(looks_like_time(text), "{text}");
        }
        assert_eq!(parsed("36501d"), Err(TimeRefError::Ago(DurationError::TooLong)));
        assert_eq!(parsed("2026-03-01T12:00:60Z"), Err(TimeRefError::Time(TimeError::LeapSecond)));
        for text in ["9999-12-31T23:59:59-00:01", "9999-12-31T23:59-00:01", "0000-01-01T00:00+00:01"] {
            assert_eq!(parsed(text), Err(TimeRefError::Time(TimeError::Year)), "{text}");
        }
    }

    #[test]
    fn the_form_that_a_time_is_written_in_is_the_same_time() {
        for text in ["yesterday", "2h", "2026-03-01", "2026-03-01T12:00+02:00", "now"] {
            let time = parsed(text).expect("a time");
            assert_eq!(parsed(&time), Ok(time.clone()), "{text}");
        }
    }
}
