//! Kinds of stored entries: an event, an event of a newer program, or foreign.
//!
//! A stream keeps what anything with access to it writes there. An entry that no program of the ledger wrote, or will
//! write, must not stop the readers of the stream. An event of a newer program must: to skip it would be to lose it.
//! So that an older program can tell the two apart, no version changes this: an event is an I-JSON object with a valid
//! `id`, a valid `source`, and a `type` of the form `io.releaseledger.<kind>.v<version>`. A known version may become
//! wider (`schemas/README.md`), so an entry of a known type that cannot be decoded counts as newer too.

use std::fmt;

use bytes::Bytes;
use ledger_domain::{EventId, Source};

use super::error::Reason;
use super::{Envelope, parse_object, versions};
use crate::ijson::{Json, Object};

/// An entry of a stream, as far as this program understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredEntry {
    /// An event of a version that this program knows.
    Event(Box<Envelope>),
    /// An event that a newer program wrote, by its identity and its type, and the reason why this one cannot decode it.
    Newer(Reason),
    /// An entry that no program of the ledger wrote or will write. It has no effect.
    Foreign {
        /// The part that an event of the ledger has and this entry lacks.
        lacks: ForeignReason,
        /// The error of the decoder, for people: its text may change.
        reason: Reason,
    },
}

/// The part of an event of the ledger that a foreign entry lacks. Displayed as a word that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignReason {
    /// `not_an_object`: the entry is not an I-JSON object within the size limit.
    NotAnObject,
    /// `no_identity`: it has no valid `id` and `source`.
    NoIdentity,
    /// `no_type`: it has no `type` of the ledger.
    NoType,
}

impl ForeignReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NotAnObject, Self::NoIdentity, Self::NoType];

    /// Returns the word for the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::NoIdentity => "no_identity",
            Self::NoType => "no_type",
        }
    }
}

impl fmt::Display for ForeignReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StoredEntry {
    /// Classifies the bytes of an entry.
    #[must_use]
    pub fn parse(bytes: Bytes) -> Self {
        let reason = match Envelope::stored(bytes.clone()) {
            Ok(envelope) => return Self::Event(Box::new(envelope)),
            Err(invalid) => invalid.reason,
        };
        let Ok(object) = parse_object(&bytes) else {
            return Self::Foreign { lacks: ForeignReason::NotAnObject, reason };
        };
        let (id, source) = (text(&object, "id"), text(&object, "source"));
        let has_identity = id.is_some_and(|id| EventId::stored(id).is_ok())
            && source.is_some_and(|source| Source::stored(source).is_ok());
        let has_type = text(&object, "type").is_some_and(versions::is_event_type);
        let lacks = match (has_identity, has_type) {
            (true, true) => return Self::Newer(reason),
            (true, false) => ForeignReason::NoType,
            (false, _) => ForeignReason::NoIdentity,
        };
        Self::Foreign { lacks, reason }
    }
}

fn text<'o>(object: &'o Object<'_>, name: &str) -> Option<&'o str> {
    match object.get(name)? {
        Json::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"urn:test","time":"2026-08-01T10:00:00Z",
        "type":"io.releaseledger.deploy.succeeded.v1",
        "data":{"environment":"production","service":"web","release":{"version":"v1"}}}"#;

    fn parse(text: &str) -> StoredEntry {
        StoredEntry::parse(Bytes::from(text.to_owned()))
    }

    /// The event with a part of its text replaced.
    fn with(part: &str, other: &str) -> String {
        assert!(EVENT.contains(part), "{part}");
        EVENT.replace(part, other)
    }

    fn assert_foreign(text: &str, expected: ForeignReason) {
        match parse(text) {
            StoredEntry::Foreign { lacks, .. } => assert_eq!(lacks, expected, "{text}"),
            found => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn an_event_of_a_known_version_is_an_event() {
        assert!(matches!(parse(EVENT), StoredEntry::Event(_)));
    }

    #[test]
    fn what_is_no_json_object_is_foreign() {
        let nested = "[".repeat(40) + &"]".repeat(40);
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(300_000));
        for text in ["", "garbage", "null", "[]", "7", r#"{"a":1,"a":2}"#, &nested, &large] {
            assert_foreign(text, ForeignReason::NotAnObject);
        }
        let not_utf8 = StoredEntry::parse(Bytes::from_static(b"{\"id\":\"\xff\"}"));
        assert!(matches!(not_utf8, StoredEntry::Foreign { lacks: ForeignReason::NotAnObject, .. }));
    }

    #[test]
    fn an_object_without_identity_is_foreign() {
        for text in [
            "{}".to_owned(),
            with(r#""id":"1","#, ""),
            with(r#""id":"1""#, r#""id":1"#),
            with(r#""id":"1""#, r#""id":"""#),
            with(r#""source":"urn:test","#, ""),
            // A newer version of an event has an identity too.
            with(r#""id":"1","#, "").replace("succeeded.v1", "succeeded.v2"),
        ] {
            assert_foreign(&text, ForeignReason::NoIdentity);
        }
    }

    #[test]
    fn an_object_with_another_type_is_foreign() {
        for other in [
            "io.nats.jetstream.api.v1.stream_info_response",
            "io.releaseledger.deploy.succeeded",
            "io.releaseledger.deploy.succeeded.v0",
            "io.releaseledger.deploy.succeeded.v01",
            "io.releaseledger..v1",
            "io.releaseledger.Deploy succeeded.v1",
            "io.releaseledgers.deploy.succeeded.v1",
        ] {
            assert_foreign(&with("io.releaseledger.deploy.succeeded.v1", other), ForeignReason::NoType);
        }
        assert_foreign(&with(r#""io.releaseledger.deploy.succeeded.v1""#, "7"), ForeignReason::NoType);
    }

    #[test]
    fn an_event_of_another_version_or_with_another_form_is_newer() {
        let others = [
            "io.releaseledger.deploy.succeeded.v2",
            "io.releaseledger.deploy.succeeded.v99999999999999999999999",
            "io.releaseledger.ring.widened.v1",
            "io.releaseledger.deploy.rings_widened.v12",
        ];
        let of_other_types = others.map(|other| with("io.releaseledger.deploy.succeeded.v1", other));
        // A version becomes wider by members, words and limits.
        let of_other_forms = [
            with(r#""service":"web","#, r#""service":"web","ring":"canary","#),
            with(r#""service":"web","#, ""),
            with(r#""version":"v1""#, &format!(r#""version":"{}""#, "v".repeat(600))),
            with(r#""specversion":"1.0""#, r#""specversion":"2.0""#),
            with(r#""data""#, r#""payload""#),
        ];
        for text in of_other_types.iter().chain(&of_other_forms) {
            assert!(matches!(parse(text), StoredEntry::Newer(_)), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> =
            ForeignReason::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), ForeignReason::ALL.len());
    }
}
