//! One token, and the header that contains it.
//!
//! Invariants: neither `Debug` nor an error contains any part of a token. A token of a ledger is checked by its checksum
//! before it is sent anywhere.

use ledger_access::ApiToken;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::CredentialsError;

/// Maximum length of a token in bytes: common limits for headers are 8 KiB and more.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A token that can be sent.
#[derive(Debug, Clone)]
pub(crate) struct Token(SecretString);

impl Token {
    /// Parses a token; blanks around it do not count. `source` names where it comes from.
    ///
    /// # Errors
    /// The text is no token, or the checksum of a ledger's token is wrong.
    pub(crate) fn parse(text: &str, source: &str) -> Result<Self, CredentialsError> {
        let text = text.trim();
        let invalid =
            |reason: &str| CredentialsError::permanent(format!("invalid token in {source}: {reason}"));
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(invalid(&format!("it has more than {MAX_TOKEN_BYTES} bytes")));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("it must be one word of ASCII characters"));
        }
        if ApiToken::is_like(text) {
            ApiToken::parse(text).map_err(|error| invalid(&error.to_string()))?;
        }
        Ok(Self(SecretString::from(text.to_owned())))
    }

    /// Returns the `Authorization` header with the token.
    pub(crate) fn header(&self) -> Result<HeaderValue, CredentialsError> {
        sensitive(&format!("Bearer {}", self.expose()))
    }

    /// Returns the token.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Returns a header value that `Debug` does not show.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, CredentialsError> {
    let value = HeaderValue::from_str(text);
    let mut value =
        value.map_err(|_| CredentialsError::permanent("credentials contain a control character"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_token_is_rejected_with_its_source_and_without_its_text() {
        let token = ApiToken::generate().expect("random");
        let good = token.expose();
        let damaged = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
        for (text, reason) in [
            (damaged.as_str(), "the checksum of the token is wrong"),
            (&good[..40], "it is not a token of a release ledger"),
            (" \n", "it is empty"),
            ("two words", "one word of ASCII"),
            ("caf\u{e9}", "one word of ASCII"),
            (&"x".repeat(MAX_TOKEN_BYTES + 1), "more than 16384 bytes"),
        ] {
            let error = Token::parse(text, "the test").expect_err("invalid");
            let shown = format!("{error} {error:?}");
            assert!(error.to_string().starts_with("invalid token in the test: "), "{error}");
            assert!(shown.contains(reason) && !shown.contains(&good[20..40]), "{shown}");
            assert!(!error.is_temporary());
        }
    }

    #[test]
    fn a_token_is_sent_as_bearer_and_never_shown() {
        let token = ApiToken::generate().expect("random");
        let parsed = Token::parse(&format!(" {}\n", token.expose()), "the test").expect("a token");
        let header = parsed.header().expect("a header");
        assert_eq!(header.to_str().expect("text"), format!("Bearer {}", token.expose()));
        let shown = format!("{parsed:?} {header:?}");
        assert!(!shown.contains(&token.expose()[20..40]), "{shown}");
        Token::parse("eyJhbGciOiJub25lIn0.e30.", "the test").expect("the token of another issuer");
    }
}
