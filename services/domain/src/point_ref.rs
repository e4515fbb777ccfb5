//! References to release points, as users write them.

use std::fmt;

use crate::{EnvironmentName, NameError, PointInTime, PointInTimeError, ShortText, TextError};

/// A reference to a release point, in its text form: a point, preceded by `ENVIRONMENT@` for another environment's.
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
    /// `point:before-the-move`: the point last marked with this name.
    Named(ShortText),
}

/// Reason why a text is not a reference to a point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointRefError {
    /// The text has none of the forms.
    #[error("{0}; last-known-good, change:N and point:NAME are valid too")]
    PointInTime(#[from] PointInTimeError),
    /// The text before the `@` is not the name of an environment.
    #[error("invalid environment before '@': {0}")]
    Environment(#[from] NameError),
    /// The name of the point is invalid.
    #[error("the point name {0}")]
    Name(#[from] TextError),
}

impl PointRef {
    /// Parses `[ENVIRONMENT@]POINT`.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str) -> Result<Self, PointRefError> {
        // The name of a point may contain an @.
        let split = if text.starts_with("point:") { None } else { text.split_once('@') };
        match split {
            Some((environment, point)) => Ok(Self {
                environment: Some(EnvironmentName::parse(environment)?),
                point: PointSelector::parse(point)?,
            }),
            None => Ok(Self { environment: None, point: PointSelector::parse(text)? }),
        }
    }
}

impl PointSelector {
    /// Parses `latest`, a position, an RFC 3339 time, `-N`, `change:N`, `last-known-good` or `point:NAME`.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str) -> Result<Self, PointRefError> {
        if text == "last-known-good" {
            return Ok(Self::LastKnownGood);
        }
        if let Some(number) = text.strip_prefix("change:").and_then(parse_number) {
            return Ok(Self::Change(number));
        }
        match text.strip_prefix("point:") {
            Some(name) => Ok(Self::Named(ShortText::parse(name)?)),
            None => Ok(Self::At(PointInTime::parse(text)?)),
        }
    }
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

    #[test]
    fn parsing_a_displayed_reference_gives_it_back() {
        for text in [
            "latest",
            "4711",
            "-3",
            "change:12",
            "last-known-good",
            "point:a@b",
            "production@last-known-good",
        ] {
            assert_eq!(PointRef::parse(text).map(|point| point.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn an_invalid_reference_is_rejected_with_the_valid_forms() {
        let error = PointRef::parse("last-good").expect_err("it is invalid").to_string();
        assert!(error.contains("last-known-good") && error.contains("point:NAME"), "{error}");
        assert!(matches!(PointRef::parse("pro duction@latest"), Err(PointRefError::Environment(_))));
        assert!(matches!(PointRef::parse("point:"), Err(PointRefError::Name(_))));
        for text in ["change:", "change:0", "change:+1", "change:99999999999999999999"] {
            assert!(matches!(PointRef::parse(text), Err(PointRefError::PointInTime(_))), "{text}");
        }
    }
}
