//! Secrets of the sessions of browsers.
//!
//! A secret has 256 random bits, and its text is their base64url without padding. Only its SHA-256 is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// Number of bytes of a secret.
const BYTES: usize = 32;

/// Secret of a session. Its `Debug` output does not contain it.
#[derive(Debug, Clone)]
pub struct SessionSecret(SecretString);

impl SessionSecret {
    /// Creates a random secret.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        random_text().map(|text| Self(SecretString::from(text)))
    }

    /// Parses the text of a secret; `None` if it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_random_text(text).then(|| Self(SecretString::from(text.to_owned())))
    }

    /// Returns the SHA-256 of the text.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose_secret().as_bytes()).into()
    }

    /// Returns the text, which is the whole secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Returns 256 random bits in base64url.
pub(crate) fn random_text() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns true if a text has the form of those of [`random_text`].
pub(crate) fn is_random_text(text: &str) -> bool {
    // The length first: the text of a stranger may be long.
    text.len() == BYTES.div_ceil(3) * 4 - 1
        && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_one_text_and_each_is_different() {
        let (one, other) =
            (SessionSecret::generate().expect("random"), SessionSecret::generate().expect("random"));

        let parsed = SessionSecret::parse(one.expose()).expect("a secret");

        assert_eq!((parsed.expose(), parsed.hash()), (one.expose(), one.hash()));
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn another_text_is_no_secret() {
        let good = "A".repeat(43);
        assert!(SessionSecret::parse(&good).is_some());
        let (short, long, padded) = ("A".repeat(42), "A".repeat(44), format!("{}=", "A".repeat(42)));
        // The last digit of 256 bits has two bits that must be zero.
        let other_bits = format!("{}B", "A".repeat(42));
        for wrong in ["", &short, &long, &padded, &other_bits, &"A+".repeat(22)[..43], &"é".repeat(22)[..42]]
        {
            assert!(SessionSecret::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn no_output_for_developers_contains_a_secret() {
        let secret = SessionSecret::generate().expect("random");
        assert!(!format!("{secret:?}").contains(secret.expose()));
    }
}
