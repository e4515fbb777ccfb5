//! CloudEvents 1.0 in JSON: the ledger's own words, and the form in which entries are stored.
//!
//! The attributes `id`, `source`, `type` and `time` are required, `data` is the JSON object of
//! `schemas/events/`, and other attributes are kept as they are. An event's bytes are made once,
//! here, as RFC 8785 canonical JSON, and never re-made.
//!
//! A new event is read strictly: [`Envelope::parse`], [`Envelope::from_parts`], [`Envelope::parse_batch`]. A stored
//! entry is read by the rules under which it was recorded: [`Envelope::stored`].

mod admission;
mod attributes;
mod batch;
mod data;
mod encode;
mod fields;
mod header;
mod versions;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use ledger_domain::event::Policy;
use ledger_domain::{Event, Identity, Kind};

use crate::ijson::{self, Json, Object};

pub use batch::BatchError;
pub use header::{HeaderError, decode_header};

/// Bytes that an event has at most in canonical form: C2SP tlog-tiles prefixes entries with their
/// length in 16 bits.
pub const EVENT_LIMIT: usize = 65_535;

/// An event with its identity and the bytes that are stored for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    identity: Identity,
    occurred_at: DateTime<Utc>,
    event: Event,
    bytes: Bytes,
}

/// Why something is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Invalid {
    /// The event's id, as far as it could be read.
    pub id: Option<String>,
    /// The event's source, as far as it could be read.
    pub source: Option<String>,
    /// What is wrong.
    #[source]
    pub reason: Reason,
}

/// What is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It is not JSON at all.
    #[error("the event {0}")]
    NotJson(String),
    /// It is JSON that two readers could understand differently, or that nests too deep.
    #[error("the event {0}")]
    NotIJson(String),
    /// It is larger than [`EVENT_LIMIT`].
    #[error("the event has {0} bytes in canonical form, at most {EVENT_LIMIT} are allowed")]
    TooLarge(usize),
    /// No event has this type.
    #[error("{0}")]
    UnknownType(String),
    /// It has a form that was made after this program.
    #[error("{kind} version {version} is newer than this program, which knows version {known}")]
    Newer {
        /// What kind of event it is.
        kind: Kind,
        /// The version of its form.
        version: usize,
        /// The last version that is known.
        known: usize,
    },
    /// A value in it is missing or wrong.
    #[error("{pointer}: {detail}")]
    Value {
        /// Where, as an RFC 6901 JSON pointer.
        pointer: String,
        /// What is wrong there.
        detail: String,
    },
}

impl Reason {
    pub(crate) fn value(pointer: impl Into<String>, detail: impl ToString) -> Self {
        Self::Value { pointer: pointer.into(), detail: detail.to_string() }
    }
}

impl From<ijson::Error> for Reason {
    fn from(error: ijson::Error) -> Self {
        match error {
            ijson::Error::Syntax(_) => Self::NotJson(error.to_string()),
            _ => Self::NotIJson(error.to_string()),
        }
    }
}

impl From<Reason> for Invalid {
    fn from(reason: Reason) -> Self {
        Self { id: None, source: None, reason }
    }
}

impl Envelope {
    /// Reads a new event in structured mode, and makes its canonical bytes.
    ///
    /// An attribute that is `null` is unset. `datacontenttype` becomes `application/json`, whether it was left out
    /// or had parameters, so that the same event has the same bytes in binary mode, and is a duplicate there.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn parse(json: &[u8]) -> Result<Self, Invalid> {
        Self::new(attributes::normal(object(json)?))
    }

    /// Reads a stored entry, whose bytes are kept, by the rules under which it was recorded.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn stored(bytes: Bytes) -> Result<Self, Invalid> {
        let object = object(&bytes)?;
        let (identity, occurred_at, event) =
            read(&object, |_, _| Ok(())).map_err(|reason| invalid(&object, reason))?;
        Ok(Self { identity, occurred_at, event, bytes })
    }

    /// Reads a new event in binary mode: attributes by name (without the protocol's `ce-`, the `Content-Type` as
    /// `datacontenttype`), and data. The bytes are those of the same event in structured mode: see
    /// [`Envelope::parse`].
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub fn from_parts<'a>(
        attributes: impl IntoIterator<Item = (&'a str, String)>,
        data: &[u8],
    ) -> Result<Self, Invalid> {
        let mut members: Vec<_> =
            attributes.into_iter().map(|(name, value)| (name.into(), Json::String(value.into()))).collect();
        let identity = Object::from_members(members.clone()).map_err(Reason::from)?;
        let data = Json::parse(data).map_err(|error| invalid(&identity, error.into()))?;
        members.push(("data".into(), data));
        Self::new(attributes::normal(Object::from_members(members).map_err(Reason::from)?))
    }

    /// Reads a JSON array of events, at most `limit`; each is judged by itself.
    ///
    /// # Errors
    /// The whole is not a JSON array, or has more events.
    pub fn parse_batch(json: &[u8], limit: usize) -> Result<Vec<Result<Self, Invalid>>, BatchError> {
        let events = batch::split(json, limit)?;
        Ok(events.into_iter().map(|event| Self::parse(event.get().as_bytes())).collect())
    }

    /// Makes the envelope of an event of our own. Its time is cut to whole microseconds.
    ///
    /// # Errors
    /// The event is too large.
    pub fn compose(identity: Identity, occurred_at: DateTime<Utc>, event: Event) -> Result<Self, Invalid> {
        // As it is read back, and as Postgres keeps it.
        let occurred_at = occurred_at.trunc_subsecs(6);
        let json = encode::event(&identity, occurred_at, &event);
        let bytes = sized(json.canonical())?;
        Ok(Self { identity, occurred_at, event, bytes })
    }

    fn new(object: Object<'_>) -> Result<Self, Invalid> {
        let (identity, occurred_at, event) =
            read(&object, admission::event).map_err(|reason| invalid(&object, reason))?;
        let bytes = sized(object.canonical()).map_err(|reason| invalid(&object, reason))?;
        Ok(Self { identity, occurred_at, event, bytes })
    }

    /// What makes the event itself.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it happened, by the emitter's clock, in whole microseconds.
    #[must_use]
    pub const fn occurred_at(&self) -> DateTime<Utc> {
        self.occurred_at
    }

    /// What happened.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// The canonical bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the canonical bytes without `datacontenttype`.
    ///
    /// An event that was sent without it, or in binary mode, was stored so before the attribute was always written.
    /// Sent again, it is a duplicate of an entry with these bytes.
    #[must_use]
    pub fn bytes_without_content_type(&self) -> Bytes {
        match object(&self.bytes) {
            Ok(object) => attributes::without_content_type(object).canonical().into(),
            Err(_) => self.bytes.clone(),
        }
    }
}

/// Reads an event's parts; `check` judges its identity and its data in their present form.
fn read(
    object: &Object<'_>,
    check: impl FnOnce(&Identity, &Json<'_>) -> Result<(), Reason>,
) -> Result<(Identity, DateTime<Utc>, Event), Reason> {
    let attributes = attributes::read(object)?;
    let data = versions::present(attributes.kind, attributes.version, attributes.data);
    let event = data::event(attributes.kind, &data)?;
    check(&attributes.identity, &data)?;
    Ok((attributes.identity, attributes.occurred_at, event))
}

/// A policy as it stands in the data of `environment.declared`.
#[must_use]
pub fn policy_json(policy: &Policy) -> Vec<u8> {
    encode::policy_bytes(policy)
}

/// Reads a new policy in the form that it has in the data of `environment.declared`.
///
/// # Errors
/// Says what is wrong, and where.
pub fn parse_policy(json: &[u8]) -> Result<Policy, Reason> {
    let json = Json::parse(json)?;
    let policy = data::whole_policy(&json)?;
    admission::policy(&json)?;
    Ok(policy)
}

fn object(json: &[u8]) -> Result<Object<'_>, Reason> {
    if json.len() > EVENT_LIMIT * 4 {
        return Err(Reason::TooLarge(json.len()));
    }
    match Json::parse(json)? {
        Json::Object(object) => Ok(object),
        other => Err(Reason::value("", format!("an event is an object, not {}", other.noun()))),
    }
}

fn sized(bytes: Vec<u8>) -> Result<Bytes, Reason> {
    if bytes.len() > EVENT_LIMIT { Err(Reason::TooLarge(bytes.len())) } else { Ok(bytes.into()) }
}

fn invalid(object: &Object<'_>, reason: Reason) -> Invalid {
    let text = |name| match object.get(name) {
        Some(Json::String(text)) => Some(text.chars().take(512).collect()),
        _ => None,
    };
    Invalid { id: text("id"), source: text("source"), reason }
}

#[cfg(test)]
mod tests;
