//! Points in time that a query refers to.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{Position, parse_time};

/// The point in time of a query, in its text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    /// `latest`: all known entries.
    Latest,
    /// `4711`: all entries up to this position.
    Position(Position),
    /// `2026-08-01T12:00:00Z`: all events that occurred up to this time.
    Time(DateTime<Utc>),
    /// `-3`: the state before the last three changes of the environment's composition.
    ChangesAgo(u64),
}

/// The error for a text that is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid point {0:?}: use `latest`, a position, an RFC 3339 time (write `+` as %2B in a URL), \
     or -N for N changes ago"
)]
pub struct PointInTimeError(String);

impl PointInTime {
    /// Parses `latest`, a position, an RFC 3339 time or `-N`.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str) -> Result<Self, PointInTimeError> {
        let invalid = || PointInTimeError(text.chars().take(64).collect());
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Positions are stored as 64-bit signed numbers.
        let number =
            |text: &str| text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(invalid);
        if text == "latest" {
            Ok(Self::Latest)
        } else if is_number(text) {
            number(text).map(Position::new).map(Self::Position)
        } else if let Some(changes) = text.strip_prefix('-').filter(|rest| is_number(rest)) {
            number(changes).map(Self::ChangesAgo)
        } else {
            parse_time(text).map(Self::Time).map_err(|_| invalid())
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

    #[test]
    fn parsing_a_displayed_point_in_time_gives_it_back() {
        for text in ["latest", "0", "4711", "-3", "2026-08-01T12:00:00Z", "2026-08-01T12:00:00.250Z"] {
            assert_eq!(PointInTime::parse(text).map(|point| point.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "-",
            "--1",
            "+1",
            "1.5",
            "yesterday",
            "2026-08-01",
            "99999999999999999999",
            "2026-08-01T12:00:60Z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert!(PointInTime::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_within_the_years_of_rfc_3339_in_utc() {
        assert!(PointInTime::parse("9999-12-31T23:59:59+00:00").is_ok());
        for text in ["9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z", "0000-01-01T00:00:00+00:01"] {
            assert!(PointInTime::parse(text).is_err(), "{text}");
        }
    }
}
