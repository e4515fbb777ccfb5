//! Times as arguments: RFC 3339, to the minute, a day, or a duration from now.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, Utc};
use ledger_domain::parse_time;

use super::{clock, duration};

/// Parses a time in the future: a time, a date, or a duration from now such as `2h`.
pub(super) fn parse_future(text: &str) -> Result<DateTime<Utc>, String> {
    future(text, clock::now())
}

fn future(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let time = match duration::parse(text) {
        Ok(duration) => now.checked_add_signed(duration),
        Err(_) => absolute(text, now),
    };
    match time {
        Some(time) if time > now => Ok(time),
        Some(_) => Err("must be in the future".to_owned()),
        None => Err("must be a time such as 2026-12-27T06:00Z, a date (00:00 UTC), or a duration such as 2h"
            .to_owned()),
    }
}

/// Parses a time: RFC 3339, to the minute, a date, `today`, `yesterday` or `now`. A day is its beginning in UTC.
pub(super) fn absolute(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).map(|time| time.and_utc());
    match text {
        "now" => return Some(now),
        "today" => return midnight(now.date_naive()),
        "yesterday" => return midnight(now.date_naive().checked_sub_days(Days::new(1))?),
        _ => {}
    }
    if let Ok(time) = parse_time(text) {
        return Some(time);
    }
    // Other forms of a year would be taken for another one.
    let has_year = text.bytes().take_while(u8::is_ascii_digit).count() == 4;
    if !has_year {
        return None;
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return midnight(date);
    }
    match text.strip_suffix(['Z', 'z']) {
        Some(text) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").ok().map(|time| time.and_utc()),
        None => DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z").ok().map(|time| time.to_utc()),
    }
}

#[cfg(test)]
mod tests {
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
