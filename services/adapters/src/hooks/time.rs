//! Times in foreign messages.

use chrono::{DateTime, Datelike as _, Utc};
use ledger_domain::parse_time;

/// The message of the fault of a text that is no time.
pub(super) const SYNTAX: &str =
    "must be a time with its offset, such as 2026-08-01T12:00:00Z or 2026-08-01 14:00:00 +0200";

/// Parses a time. Beside RFC 3339, it accepts a space before the time of day, and an offset after a space, without a
/// colon, or written as `UTC`. Returns `None` for the year 1, with which programs in Go write that there is no time.
///
/// # Errors
/// The text is no time with an offset, or is before 1970.
pub(super) fn parse(text: &str) -> Result<Option<DateTime<Utc>>, String> {
    let text = text.trim();
    if text.starts_with("0001-01-01") {
        return Ok(None);
    }
    let time = match parse_time(text) {
        Ok(time) => time,
        Err(_) => parse_time(&normalize(text).ok_or(SYNTAX)?).map_err(|_| SYNTAX)?,
    };
    if time.year() < 1970 { Err("must be a time from 1970 on".to_owned()) } else { Ok(Some(time)) }
}

/// Returns a time as RFC 3339; `None` if the text has no offset.
fn normalize(text: &str) -> Option<String> {
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    let rest = rest.trim_end();
    let (time, offset) = match rest.strip_suffix("UTC") {
        Some(time) => (time, "Z".to_owned()),
        None => {
            let sign = rest.rfind(['+', '-'])?;
            let digits: String = rest.get(sign + 1..)?.chars().filter(|c| *c != ':').collect();
            if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            (rest.get(..sign)?, format!("{}{}:{}", rest.get(sign..=sign)?, &digits[..2], &digits[2..]))
        }
    };
    Some(format!("{date}T{}{offset}", time.trim_end()))
}

/// Returns a time in the form of native events.
pub(super) fn format(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<String>, String> {
        parse(text).map(|time| time.map(format))
    }

    #[test]
    fn times_are_accepted_in_the_forms_that_senders_use() {
        for (text, time) in [
            ("2021-04-28T19:50:00Z", "2021-04-28T19:50:00Z"),
            ("2021-04-28 21:50:00 +0200", "2021-04-28T19:50:00Z"),
            ("2021-04-28 21:50:00 +02:00", "2021-04-28T19:50:00Z"),
            ("2023-01-10 13:50:02 UTC", "2023-01-10T13:50:02Z"),
            ("2023-01-10 13:50:02.5 UTC", "2023-01-10T13:50:02.500Z"),
            ("2021-02-23T02:41:37.886Z", "2021-02-23T02:41:37.886Z"),
            ("2021-02-23T02:41:37.886-0330", "2021-02-23T06:11:37.886Z"),
        ] {
            assert_eq!(parsed(text), Ok(Some(time.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_or_before_1970_is_a_fault() {
        for text in [
            "2021-04-28 21:50:00",
            "2021-04-28",
            "",
            "now",
            "1969-12-31T23:59:59Z",
            "ä021-04-28 21:50:00 UTC",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_year_one_is_no_time() {
        assert_eq!(parsed("0001-01-01T00:00:00Z"), Ok(None));
    }
}
