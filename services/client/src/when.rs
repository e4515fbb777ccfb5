//! Times in the future as arguments: RFC 3339, to the minute, a day, or a duration from now.

use chrono::{DateTime, Utc};
use ledger_domain::{parse_calendar_time, parse_duration};

use super::clock;

/// Parses a time in the future: a time, a date, or a duration from now such as `2h`.
pub(super) fn parse_future(text: &str) -> Result<DateTime<Utc>, String> {
    future(text, clock::now())
}

fn future(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let time = match parse_duration(text) {
        Ok(duration) => now.checked_add_signed(duration),
        Err(_) => parse_calendar_time(text, now).ok(),
    };
    match time {
        Some(time) if time > now => Ok(time),
        Some(_) => Err("must be in the future".to_owned()),
        None => Err("must be a time such as 2026-12-27T06:00Z, a date (00:00 UTC), or a duration such as 2h"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use ledger_domain::parse_time;

    use super::*;

    #[test]
    fn a_future_time_is_a_time_a_day_or_a_duration() {
        let now = parse_time("2026-08-01T12:00:00Z").expect("a time");
        let parsed = |text| future(text, now).map(|time| time.to_rfc3339());
        for (text, time) in [
            ("2h", "2026-08-01T14:00:00+00:00"),
            ("2026-08-02T00:00:00+02:00", "2026-08-01T22:00:00+00:00"),
            ("2026-08-02T06:00Z", "2026-08-02T06:00:00+00:00"),
            ("2026-08-02", "2026-08-02T00:00:00+00:00"),
        ] {
            assert_eq!(parsed(text), Ok(time.to_owned()), "{text}");
        }
        for text in ["0s", "2026-08-01T12:00:00Z", "2020-01-01T00:00:00Z", "today", "now"] {
            assert_eq!(parsed(text), Err("must be in the future".to_owned()), "{text}");
        }
        for text in ["", "tomorrow", "2h30m", "99999-01-01", "2026-08-02T00:00:00"] {
            assert!(parsed(text).expect_err(text).starts_with("must be a time"), "{text}");
        }
    }
}
