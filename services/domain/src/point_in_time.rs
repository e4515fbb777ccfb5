//! Points in time that a query refers to.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::Position;
use crate::time_ref::{TimeRefError, parse_time_ref};

/// The point in time of a query, in its text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    /// `latest`: all known entries.
    Latest,
    /// `4711`: all entries up to this position.
    Position(Position),
    /// `2026-08-01T12:00:00Z`, `yesterday`, `2h`: all events that occurred up to this time.
    Time(DateTime<Utc>),
    /// `-3`: the state before the last three changes of the environment's composition.
    ChangesAgo(u64),
}

/// The error for a text that is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointInTimeError {
    /// The text has none of the forms.
    #[error(
        "invalid point {0:?}: use `latest`, a position, -N for N changes ago, a time such as 2026-03-01T12:00Z \
         (write `+` as %2B in a URL), a date, today, yesterday, or a time ago such as 2h"
    )]
    Syntax(String),
    /// The text is a time that is invalid.
    #[error("invalid point {0:?}: it {1}")]
    Time(String, TimeRefError),
}

impl PointInTime {
    /// Parses `latest`, a position, `-N`, or a time in one of the forms of [`parse_time_ref`]: a time ago is before
    /// `now`. A number without a unit is a position, also if it could be a year or a date.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str, now: DateTime<Utc>) -> Result<Self, PointInTimeError> {
        let shown = || text.chars().take(64).collect();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Positions are stored as 64-bit signed numbers.
        let number = |text: &str| text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok());
        let invalid = || PointInTimeError::Syntax(shown());
        if text == "latest" {
            Ok(Self::Latest)
        } else if is_number(text) {
            number(text).map(Position::new).map(Self::Position).ok_or_else(invalid)
        } else if let Some(changes) = text.strip_prefix('-').filter(|rest| is_number(rest)) {
            number(changes).map(Self::ChangesAgo).ok_or_else(invalid)
        } else {
            parse_time_ref(text, now).map(Self::Time).map_err(|error| match error {
                TimeRefError::Syntax => invalid(),
                error => PointInTimeError::Time(shown(), error),
            })
        }
    }
}

impl fmt::Display for PointInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Position(position) => position.fmt(f),
            Self::Time(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            Self::ChangesAgo(changes) => write!(f, "-{changes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        let now = "2026-03-02T12:30:00Z".parse().expect("a time");
        PointInTime::parse(text, now).map(|point| point.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn parsing_a_displayed_point_in_time_gives_it_back() {
        for text in ["latest", "0", "4711", "-3", "2026-08-01T12:00:00Z", "2026-08-01T12:00:00.250Z"] {
            assert_eq!(parsed(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn times_become_absolute_and_a_number_without_a_unit_is_a_position() {
        for (text, point) in [
            ("2026-08-01", "2026-08-01T00:00:00Z"),
            ("yesterday", "2026-03-01T00:00:00Z"),
            ("2h", "2026-03-02T10:30:00Z"),
            ("2026", "2026"),
            ("20260801", "20260801"),
            ("0042", "42"),
        ] {
            assert_eq!(parsed(text), Ok(point.to_owned()), "{text}");
        }
    }

    #[test]
    fn another_text_is_an_error_that_names_the_forms_or_the_fault() {
        for text in
            ["", "-", "--1", "+1", "1.5", "-2h", "tomorrow", "99999999999999999999", "-99999999999999999999"]
        {
            let error = parsed(text).expect_err(text);
            assert!(
                error.starts_with("invalid point \"") && error.contains("use `latest`"),
                "{text}: {error}"
            );
        }
        for (text, fault) in [
            ("2026-08-01T12:00", "it has no time zone"),
            ("2026-02-30", "it is not a date of the calendar"),
            ("99999d", "it is too long ago: must be at most 36500d"),
            ("2026-08-01T12:00:60Z", "it has second 60"),
            ("9999-12-31T23:59:59-01:00", "it must be within the years 0 to 9999"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.starts_with("invalid point \"") && error.contains(fault), "{text}: {error}");
        }
    }

    #[test]
    fn a_time_is_within_the_years_of_rfc_3339_in_utc() {
        assert!(parsed("9999-12-31T23:59:59+00:00").is_ok());
        for text in ["9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z", "0000-01-01T00:00:00+00:01"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
