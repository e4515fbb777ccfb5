//! Secrets that authenticate webhooks: a value that no message and no log can print.

use std::fmt;

/// A secret that a sender and the ledger share.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// Reason why bytes are not accepted as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret must have at least {min} bytes; this one has {length}", min = Secret::MIN_BYTES)]
pub struct SecretError {
    /// Length of the bytes without the line end.
    pub length: usize,
}

impl Secret {
    /// Minimum length in bytes. A shorter secret can be found by trial.
    pub const MIN_BYTES: usize = 16;

    /// Creates a secret from the content of its file. One line end after it is not part of the secret.
    ///
    /// # Errors
    /// The secret is too short.
    pub fn parse(content: &[u8]) -> Result<Self, SecretError> {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.len() < Self::MIN_BYTES {
            return Err(SecretError { length: content.len() });
        }
        Ok(Self(content.into()))
    }

    /// Returns the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_content_of_its_file_without_the_line_end() {
        for content in ["0123456789abcdef", "0123456789abcdef\n", "0123456789abcdef\r\n"] {
            let secret = Secret::parse(content.as_bytes()).expect("long enough");
            assert_eq!(secret.bytes(), b"0123456789abcdef");
        }
        assert_eq!(Secret::parse(b"0123456789abcde\n").err(), Some(SecretError { length: 15 }));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::parse(b"0123456789abcdef").expect("long enough");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
