//! Parts of API tokens that are stored: the id, and the hash of the secret.

use std::fmt;

/// Number of digits of an id.
const ID_DIGITS: usize = 16;

/// Identifier of a token: 16 lower-case hexadecimal digits. It is not secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Box<str>);

/// A text is not the id or the hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokenPart {
    /// The id has another form.
    #[error("the id of a token has {ID_DIGITS} lower-case hexadecimal digits")]
    Id,
    /// The hash has another form.
    #[error("the hash of a token is sha256: and 64 lower-case hexadecimal digits")]
    Hash,
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl TokenId {
    /// Number of bytes that an id encodes.
    pub const BYTES: usize = ID_DIGITS / 2;

    /// Parses an id.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidTokenPart> {
        if text.len() == ID_DIGITS && is_hex(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTokenPart::Id)
        }
    }

    /// Returns the id that encodes these bytes.
    #[must_use]
    pub fn of_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(hex::encode(bytes).into())
    }

    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a token, displayed as `sha256:<64 digits>`.
///
/// The time of `==` depends on the first difference. To check a secret, compare the bytes in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Creates a hash from its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses a hash.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidTokenPart> {
        let digits = text.strip_prefix("sha256:").filter(|digits| is_hex(digits));
        let mut hash = [0; 32];
        let decoded = digits.map(|digits| hex::decode_to_slice(digits, &mut hash));
        if decoded == Some(Ok(())) { Ok(Self(hash)) } else { Err(InvalidTokenPart::Hash) }
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_hashes_parse_from_their_own_text_only() {
        let id = TokenId::of_bytes([0xab; 8]);
        assert_eq!(TokenId::parse(id.as_str()), Ok(id));
        for wrong in ["", "ABCDEF0123456789", "00112233aabbccd", "00112233aabbccddd", "00112233aabbccdg"] {
            assert_eq!(TokenId::parse(wrong), Err(InvalidTokenPart::Id), "{wrong}");
        }
        let hash = SecretHash::new([7; 32]);
        assert_eq!(SecretHash::parse(&hash.to_string()), Ok(hash));
        for wrong in ["", "sha256:", "sha256:00", &format!("md5:{}", "0".repeat(64)), &"0".repeat(64)] {
            assert_eq!(SecretHash::parse(wrong), Err(InvalidTokenPart::Hash), "{wrong}");
        }
    }
}
