//! Errors with their causes, as text.

use std::error::Error;

/// Returns the error and its causes, separated by colons. The text may have several lines: see
/// [`escape_line`](crate::escape_line).
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connection refused")]
    struct Refused;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot send the request")]
    struct Unsent(#[source] Refused);

    #[test]
    fn an_error_is_followed_by_its_causes() {
        assert_eq!(error_chain(&Refused), "connection refused");
        assert_eq!(error_chain(&Unsent(Refused)), "cannot send the request: connection refused");
    }
}
