//! API tokens.
//!
//! A token is `rl_<id>_<secret><checksum>`: 16 hexadecimal digits of the id, 64 of a random secret of 256 bits, and 8 of
//! the CRC-32 (IEEE) of everything before it. The checksum lets clients and scanners of secrets tell a token from a typing
//! error without asking the service. The prefix makes leaked tokens easy to find. Only the SHA-256 of a whole token is
//! stored.

use ledger_domain::access::{SecretHash, TokenId};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Start of every token.
const PREFIX: &str = "rl_";
/// Number of bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Number of digits of a checksum.
const CHECKSUM_DIGITS: usize = 8;
/// Number of characters of a token.
const LENGTH: usize = PREFIX.len() + 2 * TokenId::BYTES + 1 + 2 * SECRET_BYTES + CHECKSUM_DIGITS;

/// A text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It has another form.
    #[error("it is not a token of a release ledger: rl_<id>_<secret>")]
    Form,
    /// Its checksum is wrong.
    #[error("the checksum of the token is wrong: it was not copied completely or correctly")]
    Checksum,
}

/// A token. Its `Debug` output does not contain the secret.
#[derive(Debug, Clone)]
pub struct ApiToken {
    id: TokenId,
    text: SecretString,
}

impl ApiToken {
    /// Creates a token with a random id and a random secret.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut id = [0; TokenId::BYTES];
        getrandom::fill(&mut id)?;
        Self::generate_for(TokenId::of_bytes(id))
    }

    /// Creates another token with the same id and another random secret.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate_for(id: TokenId) -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        let body = format!("{PREFIX}{id}_{}", hex::encode(secret));
        let text = SecretString::from(format!("{body}{}", checksum(&body)));
        Ok(Self { id, text })
    }

    /// Parses a token and checks its form and its checksum.
    ///
    /// # Errors
    /// The text has another form, or its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        if text.len() != LENGTH || !text.is_ascii() {
            return Err(InvalidToken::Form);
        }
        let (body, sum) = text.split_at(LENGTH - CHECKSUM_DIGITS);
        let (id, secret) =
            body.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(InvalidToken::Form)?;
        let is_hex = |digits: &str| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex(secret) || !is_hex(sum) {
            return Err(InvalidToken::Form);
        }
        let id = TokenId::parse(id).map_err(|_| InvalidToken::Form)?;
        if checksum(body) != sum {
            return Err(InvalidToken::Checksum);
        }
        Ok(Self { id, text: SecretString::from(text.to_owned()) })
    }

    /// Returns true if a text starts as the tokens of a ledger do.
    #[must_use]
    pub fn is_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Returns the id.
    #[must_use]
    pub const fn id(&self) -> &TokenId {
        &self.id
    }

    /// Returns the hash of the whole token.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash::new(Sha256::digest(self.text.expose_secret().as_bytes()).into())
    }

    /// Returns true if this is the token with a hash. The time does not depend on the hash.
    #[must_use]
    pub fn has_hash(&self, hash: &SecretHash) -> bool {
        self.hash().bytes().ct_eq(hash.bytes()).into()
    }

    /// Returns the whole token, with its secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_token_parses_and_its_secret_is_not_shown() {
        let token = ApiToken::generate().expect("random");
        let parsed = ApiToken::parse(token.expose()).expect("a token");
        assert_eq!(parsed.id(), token.id());
        assert!(parsed.has_hash(&token.hash()));
        assert!(!format!("{token:?}").contains(&token.expose()[20..]));
        let rotated = ApiToken::generate_for(token.id().clone()).expect("random");
        assert_eq!(rotated.id(), token.id());
        assert!(!rotated.has_hash(&token.hash()));
    }

    #[test]
    fn a_wrong_character_anywhere_is_detected() {
        let token = ApiToken::generate().expect("random");
        for at in 0..LENGTH {
            let mut text = token.expose().to_owned();
            let wrong = if &text[at..=at] == "0" { "1" } else { "0" };
            text.replace_range(at..=at, wrong);
            assert!(ApiToken::parse(&text).is_err(), "{at}");
        }
    }

    #[test]
    fn texts_of_another_form_are_no_tokens() {
        let token = ApiToken::generate().expect("random");
        let text = token.expose();
        for wrong in [
            "",
            "rl_",
            &text[..LENGTH - 1],
            &format!("{text}0"),
            &format!(" {text}"),
            &text.to_uppercase(),
            &text.replacen("rl_", "rl-", 1),
            &"\u{e9}".repeat(LENGTH / 2),
            &"x".repeat(1 << 20),
        ] {
            assert_eq!(ApiToken::parse(wrong).map(|token| token.id), Err(InvalidToken::Form), "{wrong:.40}");
        }
    }
}
