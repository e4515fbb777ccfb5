//! Times as text: RFC 3339, in whole microseconds, the precision of Postgres.

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};

/// Reason why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text is not an RFC 3339 time.
    #[error("must be an RFC 3339 time, such as 2026-08-01T12:00:00Z")]
    Syntax,
    /// Second 60 at a time that cannot have a leap second.
    #[error("has second 60, which exists only at 23:59:60 UTC on the last day of a month")]
    LeapSecond,
    /// The time, in UTC, is not within the years 0 to 9999.
    #[error("must be within the years 0 to 9999 in UTC")]
    Year,
}

/// Parses a new RFC 3339 time, truncated to whole microseconds. Maps a leap second to the second after it, as Postgres
/// does.
///
/// # Errors
/// The text is not an RFC 3339 time, has a leap second where none can be, or is beyond the year 9999 in UTC.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, TimeError> {
    let time = parse_stored_time(text)?;
    if has_leap_second(text) && !(time.day() == 1 && time.num_seconds_from_midnight() == 0) {
        return Err(TimeError::LeapSecond);
    }
    if (0..=9999).contains(&time.year()) { Ok(time) } else { Err(TimeError::Year) }
}

/// Parses a stored time: as [`parse_time`], with second 60 in any minute, which was not always rejected.
///
/// # Errors
/// The text is not an RFC 3339 time.
pub fn parse_stored_time(text: &str) -> Result<DateTime<Utc>, TimeError> {
    // chrono also accepts a space instead of the T, and a minus sign that is not ASCII.
    if !text.is_ascii() || !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return Err(TimeError::Syntax);
    }
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::Syntax)?;
    DateTime::from_timestamp_micros(time.timestamp_micros()).ok_or(TimeError::Syntax)
}

/// Returns true if the seconds of an RFC 3339 time are 60.
fn has_leap_second(text: &str) -> bool {
    text.get(17..19) == Some("60")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, TimeError> {
        parse_time(text).map(|time| time.to_rfc3339())
    }

    #[test]
    fn a_time_is_truncated_to_whole_microseconds_of_utc() {
        assert_eq!(
            parsed("2026-08-01T14:00:00.1234567+02:00"),
            Ok("2026-08-01T12:00:00.123456+00:00".into())
        );
        for text in ["2026-08-01 14:00:00Z", "2026-08-01T14:00:00", "2026-08-01T14:00:00\u{2212}02:00", ""] {
            assert_eq!(parsed(text), Err(TimeError::Syntax), "{text}");
        }
    }

    #[test]
    fn a_leap_second_ends_a_month_of_utc() {
        for (text, next) in [
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
            ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00+00:00"),
            ("2015-07-01T05:29:60+05:30", "2015-07-01T00:00:00+00:00"),
        ] {
            assert_eq!(parsed(text), Ok(next.into()), "{text}");
        }
        for text in [
            "2026-08-01T12:00:60Z",
            "2026-06-30T23:58:60Z",
            "2026-06-29T23:59:60Z",
            "2026-06-30T23:59:60+02:00",
        ] {
            assert_eq!(parsed(text), Err(TimeError::LeapSecond), "{text}");
            assert!(parse_stored_time(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_time_is_within_the_years_that_rfc_3339_can_write() {
        assert_eq!(parsed("9999-12-31T23:59:59-00:01"), Err(TimeError::Year));
        assert_eq!(parsed("0000-01-01T00:00:00+00:01"), Err(TimeError::Year));
        assert!(parsed("9999-12-31T23:59:59Z").is_ok());
    }
}
