//! Identifiers that clients choose freely: the ids of rollbacks and freezes, and the names of checks and points.
//!
//! Names of environments, services, targets, slots and tenants follow the stricter rules of [`crate::ServiceName`].

use crate::{ShortText, TextError};

/// Identifiers that the API could not find again: URLs drop the segments `.` and `..`, and `stream` is a path of its
/// own beside the ids of rollbacks.
pub const RESERVED_IDENTIFIERS: &[&str] = &[".", "..", "stream"];

/// Reason why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// The text is not a [`ShortText`].
    #[error(transparent)]
    Text(#[from] TextError),
    /// The API could not find the identifier again.
    #[error("is reserved: no URL can name {0}; choose another")]
    Reserved(String),
}

impl ShortText {
    /// Parses a new identifier: a text that is not one of [`RESERVED_IDENTIFIERS`].
    ///
    /// # Errors
    /// The text breaks a rule, which the error names.
    pub fn parse_identifier(text: &str) -> Result<Self, IdentifierError> {
        let parsed = Self::parse(text)?;
        if RESERVED_IDENTIFIERS.contains(&text) {
            return Err(IdentifierError::Reserved(text.to_owned()));
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_that_no_url_can_name_is_rejected() {
        for reserved in ["stream", ".", ".."] {
            assert_eq!(
                ShortText::parse_identifier(reserved),
                Err(IdentifierError::Reserved(reserved.to_owned()))
            );
        }
        for allowed in ["r-1", "ci / e2e", "...", "streams", "Stream", "%2e", "a?b#c"] {
            assert_eq!(ShortText::parse_identifier(allowed).as_ref().map(ShortText::as_str), Ok(allowed));
        }
        let error = ShortText::parse_identifier("r\r").expect_err("a control character");
        assert_eq!(error.to_string(), TextError::Control('\r').to_string());
    }
}
