//! Which point in the past a question means.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::Position;

/// A point that a question is about, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    /// `latest`: all that is known.
    Latest,
    /// `4711`: the entries up to this position.
    Position(Position),
    /// `2026-08-01T12:00:00Z`: what occurred up to then.
    Time(DateTime<Utc>),
    /// `-3`: before the last three changes of the environment's composition.
    ChangesAgo(u64),
}

/// Why a text is no anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither `latest`, a position, an RFC 3339 time (with `+` written as %2B in a URL) nor -N for N changes ago"
)]
pub struct PointInTimeError(String);

impl PointInTime {
    /// Parses an anchor.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, PointInTimeError> {
        let wrong = || PointInTimeError(text.chars().take(64).collect());
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Positions are stored as 64-bit signed numbers.
        let number =
            |text: &str| text.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong);
        if text == "latest" {
            Ok(Self::Latest)
        } else if digits(text) {
            number(text).map(Position::new).map(Self::Position)
        } else if let Some(changes) = text.strip_prefix('-').filter(|rest| digits(rest)) {
            number(changes).map(Self::ChangesAgo)
        } else {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
            // A leap second is the second after it, as in an event's time.
            DateTime::from_timestamp_micros(time.timestamp_micros()).map(Self::Time).ok_or_else(wrong)
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
    fn an_anchor_reads_back_what_it_shows() {
        for text in ["latest", "0", "4711", "-3", "2026-08-01T12:00:00Z", "2026-08-01T12:00:00.250Z"] {
            assert_eq!(PointInTime::parse(text).map(|anchor| anchor.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_anchor_is_refused() {
        for text in ["", "-", "--1", "+1", "1.5", "yesterday", "2026-08-01", "99999999999999999999"] {
            assert!(PointInTime::parse(text).is_err(), "{text}");
        }
    }
}
