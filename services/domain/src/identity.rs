//! Event identity: the CloudEvents attributes `source` and `id`.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{ShortText, TextError};

/// The emitter of an event: a URI-reference, 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source(ShortText);

/// The emitter's id for an event, unique within its source: 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventId(ShortText);

macro_rules! short_texts {
    ($($name:ident),+) => {$(
        impl $name {
            /// Parses a new value.
            ///
            /// # Errors
            /// The text breaks a rule of [`ShortText`], which the error names.
            pub fn parse(text: &str) -> Result<Self, TextError> {
                ShortText::parse(text).map(Self)
            }

            /// Parses a stored value: see [`ShortText::stored`].
            ///
            /// # Errors
            /// The text breaks a rule of [`ShortText`], which the error names.
            pub fn stored(text: &str) -> Result<Self, TextError> {
                ShortText::stored(text).map(Self)
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }
    )+};
}
short_texts!(Source, EventId);

/// The permanent identity of an event. However often an event is sent, it has one effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The emitter.
    pub source: Source,
    /// The emitter's id for the event.
    pub id: EventId,
}

impl Identity {
    /// Returns the identity as a fixed-size key: the first 16 bytes of SHA-256 over the source's length in bytes
    /// (big-endian, 64 bits), the source and the id, marked as an RFC 9562 version 8 UUID.
    #[must_use]
    pub fn key(&self) -> IdentityKey {
        let (source, id) = (self.source.as_str(), self.id.as_str());
        let hash = Sha256::new()
            .chain_update((source.len() as u64).to_be_bytes())
            .chain_update(source)
            .chain_update(id)
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        IdentityKey(Uuid::new_v8(bytes))
    }
}

/// An [`Identity`] as 16 bytes, for indexes and for the stream's duplicate window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey(pub Uuid);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: &str, id: &str) -> IdentityKey {
        Identity { source: Source::parse(source).expect("a source"), id: EventId::parse(id).expect("an id") }
            .key()
    }

    #[test]
    fn the_key_of_an_identity_never_changes() {
        assert_eq!(
            key("https://ci.example/jobs/1", "run-4711").0.to_string(),
            "6d0e4e10-4d03-8c0a-b6d5-b97ddffe0dfa"
        );
    }

    #[test]
    fn new_identifiers_reject_invisible_characters_and_stored_ones_keep_them() {
        assert_eq!(EventId::parse("run\u{200b}-1"), Err(TextError::Format('\u{200b}')));
        assert_eq!(Source::parse("\u{202e}ci"), Err(TextError::Format('\u{202e}')));
        assert_eq!(EventId::stored("run\u{200b}-1").as_ref().map(EventId::as_str), Ok("run\u{200b}-1"));
        assert_eq!(Source::stored("\u{202e}ci").as_ref().map(Source::as_str), Ok("\u{202e}ci"));
    }

    #[test]
    fn the_key_depends_on_the_boundary_between_source_and_id() {
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
