//! Failures to obtain credentials.

/// Credentials cannot be obtained, or must not be sent. Nothing was sent with them.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct CredentialsError {
    text: String,
    is_temporary: bool,
}

impl CredentialsError {
    /// Creates the error for a failure that stays until a person corrects it.
    pub(crate) fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_temporary: false }
    }

    /// Creates the error for a failure that may end soon, such as an issuer that does not answer.
    pub(crate) fn temporary(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_temporary: true }
    }

    /// Returns true if the same attempt may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.is_temporary
    }
}
