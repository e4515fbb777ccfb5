//! References to release points, as users write them.
//!
//! Invariant: the only parser of points, for commands, URLs and requests. The forms are tried in this order, and the
//! first that fits is taken: `ENVIRONMENT@`, `point:NAME`, `last-known-good`, `change:N`, `latest`, a position, `-N`, a
//! time, a name. A new name that would be taken for another form is rejected; `point:NAME` selects any name.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::time_ref::{TIME_WORDS, looks_like_time};
use crate::{
    EnvironmentName, IdentifierError, NameError, PointInTime, PointInTimeError, ShortText, TextError, nearest,
};

/// A reference to a release point, in its text form: a point, optionally preceded by `ENVIRONMENT@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointRef {
    /// The environment that the point belongs to, if it is another one: `production@…`.
    pub environment: Option<EnvironmentName>,
    /// The point within its environment.
    pub point: PointSelector,
}

/// A selector of a release point within an environment, in its text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointSelector {
    /// `4711`, `-3`, a time or `latest`: the composition at that point in time.
    At(PointInTime),
    /// `change:12`: the point after the change of the environment's composition with this number, at least 1.
    Change(u64),
    /// `last-known-good`: the newest known-good point.
    LastKnownGood,
    /// `before-the-move` or `point:before-the-move`: the point last marked with this name.
    Named(ShortText),
}

/// Reason why a text is not a reference to a point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointRefError {
    /// The text has none of the forms.
    #[error("{0}{others}", others = other_forms(.0))]
    PointInTime(#[from] PointInTimeError),
    /// The text before the `@` is not the name of an environment.
    #[error("invalid environment before '@': {0}")]
    Environment(#[from] NameError),
    /// The name of the point is invalid.
    #[error("the point name {0}")]
    Name(#[from] TextError),
}

/// Returns the forms that are not points in time, for a text that has no form at all.
const fn other_forms(error: &PointInTimeError) -> &'static str {
    match error {
        PointInTimeError::Syntax(_) => "; last-known-good, change:N, a name and point:NAME are valid too",
        PointInTimeError::Time(..) => "",
    }
}

/// Reason why a text is not the name of a new point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointNameError {
    /// The text is not an identifier.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// Without `point:`, the name would be taken for another point or a time.
    #[error("would be taken for another point or a time: {0}; choose another name")]
    Ambiguous(String),
}

impl PointRef {
    /// Parses `[ENVIRONMENT@]POINT`; a time ago is before `now`.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str, now: DateTime<Utc>) -> Result<Self, PointRefError> {
        let (environment, point) = split_environment(text);
        Ok(Self {
            environment: environment.map(EnvironmentName::parse).transpose()?,
            point: PointSelector::parse(point, now)?,
        })
    }
}

/// Splits `ENVIRONMENT@POINT`. The name of a point may contain an `@`, after `point:`.
fn split_environment(text: &str) -> (Option<&str>, &str) {
    match text.split_once('@') {
        Some((environment, point)) if !text.starts_with("point:") => (Some(environment), point),
        _ => (None, text),
    }
}

impl PointSelector {
    /// Parses `point:NAME`, `last-known-good`, `change:N`, `latest`, a position, `-N`, a time (a duration is before
    /// `now`), or a name. A name begins with a letter and contains no `:`; any other is written `point:NAME`.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str, now: DateTime<Utc>) -> Result<Self, PointRefError> {
        if let Some(name) = text.strip_prefix("point:") {
            return Ok(Self::Named(ShortText::parse(name)?));
        }
        if text == "last-known-good" {
            return Ok(Self::LastKnownGood);
        }
        if let Some(number) = text.strip_prefix("change:").and_then(parse_number) {
            return Ok(Self::Change(number));
        }
        match PointInTime::parse(text, now) {
            Ok(point) => Ok(Self::At(point)),
            Err(_) if is_plain_name(text) => Ok(Self::Named(ShortText::parse(text)?)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns true if a text can be the name of a point without `point:`.
fn is_plain_name(text: &str) -> bool {
    text.starts_with(char::is_alphabetic) && !text.contains(':')
}

/// Words that select points.
const POINT_WORDS: [&str; 2] = ["latest", "last-known-good"];

impl ShortText {
    /// Parses the name of a new point: an identifier that no command or URL takes for another point or a time. The shape
    /// decides, so that a name cannot become ambiguous: `2026-02-30` and `change:x` are rejected too.
    ///
    /// # Errors
    /// The text breaks a rule, which the error names.
    pub fn parse_point_name(text: &str) -> Result<Self, PointNameError> {
        let name = Self::parse_identifier(text)?;
        let (_, point) = split_environment(text);
        let number = point.strip_prefix('-').unwrap_or(point);
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let has_prefix = point.starts_with("change:") || point.starts_with("point:");
        if POINT_WORDS.contains(&point) || is_number || has_prefix || looks_like_time(point) {
            return Err(PointNameError::Ambiguous(text.to_owned()));
        }
        Ok(name)
    }
}

/// Returns the word for a point or a time that was probably meant by a name that no point has.
#[must_use]
pub fn near_point_word(name: &str) -> Option<&'static str> {
    nearest(&name.to_lowercase(), &[&POINT_WORDS[..], &TIME_WORDS[..]].concat())
}

/// Parses the number of a change: digits, at least 1. Numbers are stored as 64-bit signed numbers.
fn parse_number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|number| is_number && *number > 0);
    number.map(i64::unsigned_abs)
}

impl fmt::Display for PointSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(point) => point.fmt(f),
            Self::Change(number) => write!(f, "change:{number}"),
            Self::LastKnownGood => f.write_str("last-known-good"),
            Self::Named(name) => write!(f, "point:{name}"),
        }
    }
}

impl fmt::Display for PointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.environment {
            Some(environment) => write!(f, "{environment}@{}", self.point),
            None => self.point.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-03-02T12:30:00Z".parse().expect("a time")
    }

    fn parsed(text: &str) -> Result<String, String> {
        PointRef::parse(text, now()).map(|point| point.to_string()).map_err(|error| error.to_string())
    }

    /// Each form, and its absolute one.
    const FORMS: &[(&str, &str)] = &[
        ("latest", "latest"),
        ("4711", "4711"),
        ("0", "0"),
        ("-5", "-5"),
        ("change:12", "change:12"),
        ("last-known-good", "last-known-good"),
        ("before-the-move", "point:before-the-move"),
        ("v2 launch", "point:v2 launch"),
        ("Über", "point:Über"),
        ("point:4711", "point:4711"),
        ("point:yesterday", "point:yesterday"),
        ("2026-03-01", "2026-03-01T00:00:00Z"),
        ("2026-03-01T12:00Z", "2026-03-01T12:00:00Z"),
        ("2026-03-01T12:00+02:00", "2026-03-01T10:00:00Z"),
        ("2026-03-01T12:00:00.250Z", "2026-03-01T12:00:00.250Z"),
        ("now", "2026-03-02T12:30:00Z"),
        ("today", "2026-03-02T00:00:00Z"),
        ("yesterday", "2026-03-01T00:00:00Z"),
        ("2h", "2026-03-02T10:30:00Z"),
        ("1d", "2026-03-01T12:30:00Z"),
    ];

    #[test]
    fn each_form_is_one_point_with_and_without_an_environment() {
        for (text, point) in FORMS {
            assert_eq!(parsed(text), Ok((*point).to_owned()), "{text}");
            let of_staging = parsed(&format!("staging@{text}"));
            assert_eq!(of_staging, Ok(format!("staging@{point}")), "{text}");
        }
    }

    #[test]
    fn parsing_a_displayed_reference_gives_it_back() {
        for (_, point) in FORMS {
            for text in [(*point).to_owned(), format!("production@{point}"), "point:a@b".to_owned()] {
                assert_eq!(parsed(&text), Ok(text.clone()));
            }
        }
    }

    #[test]
    fn an_invalid_reference_is_rejected_with_the_valid_forms() {
        for text in
            ["", "change:", "change:0", "change:+1", "change:99999999999999999999", "3x", "a:b", "staging@"]
        {
            let error = parsed(text).expect_err(text);
            assert!(error.starts_with("invalid point \""), "{text}: {error}");
            assert!(error.contains("last-known-good") && error.contains("point:NAME"), "{text}: {error}");
        }
        for text in ["pro duction@latest", "@latest", "@"] {
            assert!(matches!(PointRef::parse(text, now()), Err(PointRefError::Environment(_))), "{text}");
        }
        assert!(matches!(PointRef::parse("point:", now()), Err(PointRefError::Name(_))));
    }

    #[test]
    fn a_new_name_that_would_be_taken_for_another_point_is_rejected() {
        let other_points = FORMS.iter().filter(|(_, point)| !point.starts_with("point:"));
        let other_points = other_points.map(|(text, _)| *text);
        for text in
            other_points.chain(["point:x", "change:x", "2026-02-30", "36501d", "staging@latest", "-0"])
        {
            let error = ShortText::parse_point_name(text).expect_err(text);
            assert_eq!(error, PointNameError::Ambiguous(text.to_owned()));
        }
        for text in [
            "before-the-move",
            "v2 launch",
            "a@b",
            "1.2.3",
            "2026-03-01 before the move",
            "latest-good",
            "5x",
        ] {
            let name = ShortText::parse_point_name(text).expect(text);
            let is_same = |text: &str| {
                let parsed = PointRef::parse(text, now());
                parsed.is_ok_and(|point| point.point == PointSelector::Named(name.clone()))
            };
            assert!(is_same(&format!("point:{text}")), "{text}");
            // Without point:, it is this name, a name in another environment, or an error.
            let plain = PointRef::parse(text, now()).map(|point| point.point);
            assert!(plain.is_err() || matches!(plain, Ok(PointSelector::Named(_))), "{text}");
        }
        assert!(matches!(ShortText::parse_point_name("stream"), Err(PointNameError::Identifier(_))));
    }

    #[test]
    fn a_name_near_a_word_of_the_grammar_is_taken_for_a_typing_error() {
        assert_eq!(near_point_word("yesteday"), Some("yesterday"));
        assert_eq!(near_point_word("Latest"), Some("latest"));
        assert_eq!(near_point_word("before-the-move"), None);
    }
}
