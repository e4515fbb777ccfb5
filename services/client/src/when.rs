//! Times as arguments: RFC 3339, or a duration from now.

use chrono::{DateTime, Utc};
use ledger_domain::parse_time;

use super::{clock, duration};

/// Parses a time in the future: RFC 3339, or a duration from now such as `2h`.
pub(super) fn parse_future(text: &str) -> Result<DateTime<Utc>, String> {
    future(text, clock::now())
}

fn future(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let invalid =
        || "must be an RFC 3339 time such as 2026-12-27T06:00:00Z, or a duration such as 2h".to_owned();
    let time = match duration::parse(text) {
        Ok(duration) => now + duration,
        Err(_) => parse_time(text).map_err(|_| invalid())?,
    };
    if time > now { Ok(time) } else { Err("must be in the future".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_time_is_a_time_or_a_duration() {
        let now = parse_time("2026-08-01T12:00:00Z").expect("a time");
        let parsed = |text| future(text, now).map(|time| time.to_rfc3339());
        assert_eq!(parsed("2h"), Ok("2026-08-01T14:00:00+00:00".to_owned()));
        assert_eq!(parsed("2026-08-02T00:00:00+02:00"), Ok("2026-08-01T22:00:00+00:00".to_owned()));
        for text in ["0s", "2026-08-01T12:00:00Z", "2020-01-01T00:00:00Z"] {
            assert_eq!(parsed(text), Err("must be in the future".to_owned()), "{text}");
        }
        for text in ["", "tomorrow", "2h30m", "2026-08-02", "2026-08-02T00:00:00"] {
            assert!(parsed(text).expect_err(text).starts_with("must be an RFC 3339 time"), "{text}");
        }
    }
}
