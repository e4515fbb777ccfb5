//! Parsed names. A name is safe to use as a NATS subject token, a URL path segment and a field of a digest: only its
//! dots need escaping, in subjects.

use std::fmt;

/// Reason why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than 63 characters.
    #[error("a name has at most {MAX_LENGTH} characters; this one has {0}")]
    TooLong(usize),
    /// The text contains a character that is not allowed, or not allowed first.
    #[error(
        "a name starts with a letter or digit and contains only letters, digits, '.', '_' and '-'; \
         {0:?} is not allowed here"
    )]
    Character(char),
}

/// Maximum length of a name in ASCII characters: that of a DNS label.
const MAX_LENGTH: usize = 63;

fn parse(text: &str) -> Result<Box<str>, NameError> {
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::Character(first));
    }
    if let Some(invalid) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        return Err(NameError::Character(invalid));
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
            /// The text breaks a rule, which the error names.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                parse(text).map(Self)
            }

            /// Returns the name.
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
    /// The owner of a ledger; `default` if not given.
    TenantName;
    /// An environment that services run in: `production`.
    EnvironmentName;
    /// A service that is released: `search-api`.
    ServiceName;
    /// A part of an environment: a cluster, a region, a site; `default` if not given.
    TargetName;
    /// A slot of a lane: `blue`, `green`, or any other name.
    SlotName;
    /// A subscription: `chat-deploys`.
    SubscriptionName;
    /// A signing secret in the settings of the service: `chat`.
    SecretName;
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

impl TenantName {
    /// Name of the tenant whose ledger records tokens and grants. No other tenant's name starts with `_`.
    pub const ADMIN: &str = "_admin";

    /// Returns the tenant whose ledger records tokens and grants.
    #[must_use]
    pub fn admin() -> Self {
        Self(Self::ADMIN.into())
    }

    /// Returns true for the tenant whose ledger records tokens and grants.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        &*self.0 == Self::ADMIN
    }

    /// Parses the name of a tenant, which may be [`Self::ADMIN`].
    ///
    /// # Errors
    /// The text breaks a rule of [`Self::parse`].
    pub fn parse_any(text: &str) -> Result<Self, NameError> {
        if text == Self::ADMIN { Ok(Self::admin()) } else { Self::parse(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_names_are_accepted() {
        for good in ["production", "eu-west-1", "a", "A.b_c-9", &"x".repeat(63)] {
            assert_eq!(EnvironmentName::parse(good).as_ref().map(EnvironmentName::as_str), Ok(good));
        }
    }

    #[test]
    fn invalid_names_are_rejected_with_the_reason() {
        assert_eq!(ServiceName::parse(""), Err(NameError::Empty));
        assert_eq!(ServiceName::parse("_env"), Err(NameError::Character('_')));
        assert_eq!(ServiceName::parse("a b"), Err(NameError::Character(' ')));
        assert_eq!(ServiceName::parse("a>"), Err(NameError::Character('>')));
        assert_eq!(ServiceName::parse("café"), Err(NameError::Character('é')));
        assert_eq!(ServiceName::parse(&"x".repeat(64)), Err(NameError::TooLong(64)));
    }
}
