//! Durations as flags: `90d`, `1h`.

use chrono::TimeDelta;

/// Longest duration, in days. The sum with any time of today is a valid time.
const MAX_DAYS: i64 = 36_500;

/// Parses a number and a unit: `s`, `m`, `h`, `d` or `w`.
pub(super) fn parse(text: &str) -> Result<TimeDelta, String> {
    let invalid = || "must be a number with a unit: s, m, h, d or w, such as 90d".to_owned();
    let unit_at = text.len() - text.chars().next_back().map_or(0, char::len_utf8);
    let (number, unit) = text.split_at(unit_at);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(invalid()),
    };
    let total = number.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds));
    match total.filter(|total| *total <= MAX_DAYS * 86_400) {
        Some(total) => Ok(TimeDelta::seconds(total)),
        None => Err(format!("must be at most {MAX_DAYS}d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        for (text, seconds) in [("0s", 0), ("5m", 300), ("1h", 3_600), ("90d", 7_776_000), ("2w", 1_209_600)]
        {
            assert_eq!(parse(text), Ok(TimeDelta::seconds(seconds)), "{text}");
        }
        for text in ["", "d", "1", "1y", "-1d", "1.5h", "1 h", "1é", "99999999999999999999s", "36501d"] {
            parse(text).expect_err(text);
        }
    }
}
