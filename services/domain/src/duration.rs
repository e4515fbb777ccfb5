//! Durations as people write them: `90d`, `1h`.

use chrono::TimeDelta;

/// Longest duration, in days. The sum with any time of today is a valid time.
const MAX_DAYS: i64 = 36_500;

/// Reason why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not a number with a unit.
    #[error("must be a number with a unit: s, m, h, d or w, such as 90d")]
    Syntax,
    /// The duration is longer than 36,500 days.
    #[error("must be at most {max}d", max = MAX_DAYS)]
    TooLong,
}

/// Parses a number and a unit: `s`, `m`, `h`, `d` (24 hours) or `w`, at most 36,500 days.
///
/// # Errors
/// The text has another form, or the duration is too long.
pub fn parse_duration(text: &str) -> Result<TimeDelta, DurationError> {
    let unit_at = text.len() - text.chars().next_back().map_or(0, char::len_utf8);
    let (number, unit) = text.split_at(unit_at);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Syntax);
    }
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(DurationError::Syntax),
    };
    let total = number.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds));
    let total = total.filter(|total| *total <= MAX_DAYS * 86_400);
    total.map(TimeDelta::seconds).ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, seconds) in [("0s", 0), ("5m", 300), ("1h", 3_600), ("90d", 7_776_000), ("2w", 1_209_600)]
        {
            assert_eq!(parse_duration(text), Ok(TimeDelta::seconds(seconds)), "{text}");
        }
        for text in ["", "d", "1", "1y", "-1d", "+1d", "1.5h", "1 h", "1é", "1H"] {
            assert_eq!(parse_duration(text), Err(DurationError::Syntax), "{text}");
        }
        for text in ["99999999999999999999s", "36501d"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
    }
}
