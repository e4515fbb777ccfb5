//! Digests in text form: parsing and formatting.

use sha2::{Digest, Sha256};

use crate::ShortText;

/// The digest of a configuration: `sha256:` and 64, or `sha512:` and 128 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConfigDigest(ShortText);

/// The error for a text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64, or sha512: and 128 lower-case hexadecimal digits")]
pub struct DigestError;

impl ConfigDigest {
    /// Parses a digest.
    ///
    /// # Errors
    /// The text is not a digest.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        check_digest(text)?;
        ShortText::parse(text).map(Self).map_err(|_| DigestError)
    }

    /// Returns the digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Checks that a text is a SHA-256 or SHA-512 digest in the form of [`ConfigDigest`].
pub(crate) fn check_digest(text: &str) -> Result<(), DigestError> {
    let digits = match text.split_once(':') {
        Some(("sha256", digits)) if digits.len() == 64 => digits,
        Some(("sha512", digits)) if digits.len() == 128 => digits,
        _ => return Err(DigestError),
    };
    let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    digits.bytes().all(hexadecimal).then_some(()).ok_or(DigestError)
}

/// Finishes a SHA-256 and returns it as `sha256:` and 64 hexadecimal digits.
pub(crate) fn text(hash: Sha256) -> String {
    format!("sha256:{}", hex::encode(hash.finalize()))
}
