//! Secrets of one sign-in, in a cookie of the browser until the sign-in ends.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::session_secret::{is_random_text, random_text};

/// Secrets of one sign-in: its state, which ties the answer to the browser; its nonce, which ties the ID token to the
/// request; and the verifier of PKCE (RFC 7636), without which a stolen code is worth nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    state: String,
    nonce: String,
    verifier: String,
}

impl Attempt {
    /// Creates random secrets.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self { state: random_text()?, nonce: random_text()?, verifier: random_text()? })
    }

    /// Parses the text of secrets; `None` if it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| is_random_text(part).then(|| part.to_owned()));
        let attempt = Self { state: parts.next()??, nonce: parts.next()??, verifier: parts.next()?? };
        parts.next().is_none().then_some(attempt)
    }

    /// Returns the text of the secrets: letters, digits, `-`, `_` and two dots.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}.{}.{}", self.state, self.nonce, self.verifier)
    }

    /// Returns true if an answer has the state of this sign-in. The time does not depend on where they differ.
    pub(super) fn has_state(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }

    /// Returns the challenge of the verifier, by the method S256.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempt(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_a_sign_in_differ_and_are_read_from_their_own_text_only() {
        let attempt = Attempt::generate().expect("random");
        let text = attempt.expose();

        assert_eq!(Attempt::parse(&text), Some(attempt.clone()));
        assert!(attempt.state != attempt.nonce && attempt.nonce != attempt.verifier);
        let (one_more, cut) = (format!("{text}."), &text[1..]);
        for wrong in ["", "..", &attempt.state, &one_more, cut] {
            assert_eq!(Attempt::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{attempt:?}").contains(&attempt.state));
    }

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        let attempt = Attempt { state: String::new(), nonce: String::new(), verifier };
        assert_eq!(attempt.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
