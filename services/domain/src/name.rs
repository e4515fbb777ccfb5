//! Parsed names. A name is a short, safe word: it is a token of a subject, a path segment of a URL,
//! a column of a digest, and it needs no quoting in any of them but for its dots.

use std::fmt;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than a name may be.
    #[error("a name has at most {MAX_LENGTH} characters, this one has {0}")]
    TooLong(usize),
    /// The text has a character that no name has.
    #[error(
        "a name starts with a letter or digit and has only letters, digits, '.', '_' and '-'; {0:?} is none of them here"
    )]
    Character(char),
}

/// Names are at most this many ASCII characters, as DNS labels are.
const MAX_LENGTH: usize = 63;

fn parse(text: &str) -> Result<Box<str>, NameError> {
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::Character(first));
    }
    if let Some(odd) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Err(NameError::Character(odd));
    }
    if text.len() > MAX_LENGTH {
        return Err(NameError::TooLong(text.len()));
    }
    Ok(text.into())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses a name: 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit.
            ///
            /// # Errors
            /// Says which rule the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                parse(text).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    )+};
}

names! {
    /// Whose ledger it is; `default` if nobody says otherwise.
    TenantName;
    /// Where services run: `production`.
    EnvironmentName;
    /// What is released: `search-api`.
    ServiceName;
    /// A place inside an environment: a cluster, a region, a site; `default` if not given.
    TargetName;
    /// `blue` or `green`, or any other name, within a lane.
    SlotName;
}

impl Default for TargetName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl Default for TenantName {
    fn default() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_safe_word() {
        for good in ["production", "eu-west-1", "a", "A.b_c-9", &"x".repeat(63)] {
            assert_eq!(EnvironmentName::parse(good).as_ref().map(EnvironmentName::as_str), Ok(good));
        }
    }

    #[test]
    fn what_is_not_a_name_says_why() {
        assert_eq!(ServiceName::parse(""), Err(NameError::Empty));
        assert_eq!(ServiceName::parse("_env"), Err(NameError::Character('_')));
        assert_eq!(ServiceName::parse("a b"), Err(NameError::Character(' ')));
        assert_eq!(ServiceName::parse("a>"), Err(NameError::Character('>')));
        assert_eq!(ServiceName::parse("café"), Err(NameError::Character('é')));
        assert_eq!(ServiceName::parse(&"x".repeat(64)), Err(NameError::TooLong(64)));
    }
}
