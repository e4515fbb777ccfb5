//! Which release point a rollback goes to.

use std::fmt;

use crate::{EnvironmentName, NameError, PointInTime, PointInTimeError, ShortText, TextError};

/// A release point, as people write it: a point, of another environment where that is named before an `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointRef {
    /// The environment whose point it is, where that is another one: `production@…`.
    pub environment: Option<EnvironmentName>,
    /// The point.
    pub point: PointSelector,
}

/// A release point of an environment, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointSelector {
    /// `4711`, `-3`, a time, `latest`.
    At(PointInTime),
    /// `last-known-good`
    LastKnownGood,
    /// `point:before-the-move`: the point that was last marked with this name.
    Named(ShortText),
}

/// Why a text names no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointRefError {
    /// It is none of the forms.
    #[error("{0}; nor is it last-known-good or point:NAME")]
    PointInTime(#[from] PointInTimeError),
    /// What stands before the `@` names no environment.
    #[error("before the @ stands no environment: {0}")]
    Environment(#[from] NameError),
    /// The name of the point is none.
    #[error("the point's name {0}")]
    Name(#[from] TextError),
}

impl PointRef {
    /// Parses `[ENVIRONMENT@]POINT`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PointRefError> {
        // A name of a point may have an @ in it.
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
    /// Parses `latest`, a position, an RFC 3339 time, `-N`, `last-known-good` or `point:NAME`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PointRefError> {
        if text == "last-known-good" {
            return Ok(Self::LastKnownGood);
        }
        match text.strip_prefix("point:") {
            Some(name) => Ok(Self::Named(ShortText::parse(name)?)),
            None => Ok(Self::At(PointInTime::parse(text)?)),
        }
    }
}

impl fmt::Display for PointSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(anchor) => anchor.fmt(f),
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
    fn a_goal_reads_back_what_it_shows() {
        for text in ["latest", "4711", "-3", "last-known-good", "point:a@b", "production@last-known-good"] {
            assert_eq!(PointRef::parse(text).map(|goal| goal.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_goal_says_what_it_could_be() {
        let error = PointRef::parse("last-good").expect_err("no goal").to_string();
        assert!(error.contains("last-known-good") && error.contains("point:NAME"), "{error}");
        assert!(matches!(PointRef::parse("pro duction@latest"), Err(PointRefError::Environment(_))));
        assert!(matches!(PointRef::parse("point:"), Err(PointRefError::Name(_))));
    }
}
