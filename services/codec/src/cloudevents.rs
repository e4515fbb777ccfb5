//! CloudEvents 1.0 in JSON: the ledger's native format, and the form in which entries are stored.
//!
//! The attributes `id`, `source`, `type` and `time` are required, `data` is the JSON object of `schemas/events/`, and
//! other attributes are preserved. An event's bytes are produced once, here, as RFC 8785 canonical JSON, and never
//! re-encoded.
//!
//! New events are parsed strictly: [`Envelope::parse`], [`Envelope::from_parts`]. A stored
//! entry is parsed by the rules under which it was recorded: [`Envelope::stored`]. [`StoredEntry::parse`] tells apart
//! what is no event of this program: an event of a newer one, or a foreign entry.

mod admission;
mod attributes;
mod batch;
mod data;
mod encode;
mod error;
mod fields;
mod header;
mod origin;
mod principal;
mod stored;
mod uri;
mod versions;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use ledger_domain::event::{Policy, Sender};
use ledger_domain::{Event, Identity, Kind, Principal, ShortText};

use crate::ijson::{Json, Object};
use crate::secrets::{self, SecretKind};

pub use batch::BatchError;
pub use error::{InvalidEvent, MAX_EVENT_BYTES, Reason};
pub use header::{HeaderError, decode_header};
pub use origin::{Origin, StoredOrigin};
pub use stored::{ForeignReason, StoredEntry};

/// Start of the names of attributes that only the service writes.
const RESERVED_PREFIX: &str = "ledger";

/// Attribute of an event whose message states no time: its `time` is that of the message's arrival, and no part of its
/// content. So the message, delivered again, is a duplicate. No client may send it; see [`Envelope::translated`].
pub const TIME_OF_ARRIVAL: &str = "ledgertimeofarrival";

/// Bytes of an event that are kept free for its authenticated sender when it gets an origin.
const SENDER_BYTES: usize = 8 * 1024;

/// An event with its identity and the bytes that are stored permanently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    identity: Identity,
    occurred_at: DateTime<Utc>,
    event: Event,
    bytes: Bytes,
    /// The bytes without the attributes that the service added; `None` if there are none.
    content: Option<Bytes>,
    correlation: Option<Box<str>>,
    causation: Option<Box<str>>,
}

impl Envelope {
    /// Parses a new event in structured mode and produces its canonical bytes.
    ///
    /// An attribute that is `null` is unset. `datacontenttype` becomes `application/json` if it is left out or has
    /// parameters. The same event therefore has the same bytes in binary mode, and is deduplicated there.
    ///
    /// # Errors
    /// Returns the first fault and its place.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidEvent> {
        Self::new(attributes::normalize(parse_new_object(json)?))
    }

    /// Parses a new event that a translation made of another tool's message, as [`Envelope::parse`] does. Only such an event
    /// may have the attribute [`TIME_OF_ARRIVAL`].
    ///
    /// # Errors
    /// Returns the first fault and its place.
    pub fn translated(json: &[u8]) -> Result<Self, InvalidEvent> {
        let object = parse_new_object(json)?;
        if object.get(TIME_OF_ARRIVAL).is_none() {
            return Self::new(attributes::normalize(object));
        }
        let plain = Self::new(attributes::normalize(attributes::without(object, TIME_OF_ARRIVAL)))?;
        let object = parse_object(&plain.bytes).map_err(|reason| invalid(&Object::default(), reason))?;
        let mut members = object.into_members();
        members.push((TIME_OF_ARRIVAL.into(), Json::Bool(true)));
        let object = Object::from_members(members).unwrap_or_default();
        let bytes = check_size(object.canonical()).map_err(|reason| invalid(&object, reason))?;
        let content = content(object);
        Ok(Self { content, bytes, ..plain })
    }

    /// Parses a stored entry by the rules under which it was recorded, and keeps its bytes unchanged.
    ///
    /// # Errors
    /// Returns the first fault and its place.
    pub fn stored(bytes: Bytes) -> Result<Self, InvalidEvent> {
        let object = parse_object(&bytes)?;
        let (identity, occurred_at, event) =
            decode(&object, |_, _, _| Ok(())).map_err(|reason| invalid(&object, reason))?;
        let [correlation, causation] = relations(&object);
        Ok(Self { identity, occurred_at, event, correlation, causation, content: content(object), bytes })
    }

    /// Adds the authenticated sender. It is the actor of the event from here on; see [`Principal::actor`].
    ///
    /// # Errors
    /// The event with its sender is too large.
    pub fn sent_by(self, principal: &Principal) -> Result<Self, InvalidEvent> {
        let object = parse_object(&self.bytes).map_err(|reason| invalid(&Object::default(), reason))?;
        let mut members = object.into_members();
        members.push((principal::ATTRIBUTE.into(), Json::String(principal::encode(principal).into())));
        let object = Object::from_members(members).unwrap_or_default();
        let bytes = check_size(object.canonical()).map_err(|reason| invalid(&object, reason))?;
        let mut event = self.event;
        set_sender(&mut event, principal.clone());
        Ok(Self { content: self.content.or(Some(self.bytes)), event, bytes, ..self })
    }

    /// Adds the message of another tool from which the event was translated. It is kept if the event does not become too
    /// large with it, and its digest in any case.
    ///
    /// # Errors
    /// The event is too large even so.
    pub fn translated_from(self, origin: &Origin) -> Result<Self, InvalidEvent> {
        let object = parse_object(&self.bytes).map_err(|reason| invalid(&Object::default(), reason))?;
        let limit = MAX_EVENT_BYTES - SENDER_BYTES;
        let object = origin::add(object, origin, self.bytes.len(), limit);
        let bytes = check_size(object.canonical()).map_err(|reason| invalid(&object, reason))?;
        Ok(Self { content: self.content.or(Some(self.bytes)), bytes, ..self })
    }

    /// Returns the message of another tool from which the event was translated; `None` if it was sent in the ledger's
    /// own format.
    #[must_use]
    pub fn origin(&self) -> Option<StoredOrigin> {
        origin::of(&parse_object(&self.bytes).ok()?)
    }

    /// Parses a new event in binary mode: attributes by name (without the protocol's `ce-`; the `Content-Type` is
    /// `datacontenttype`), and data. The bytes are those of the same event in structured mode: see
    /// [`Envelope::parse`].
    ///
    /// # Errors
    /// Returns the first fault and its place.
    pub fn from_parts<'a>(
        attributes: impl IntoIterator<Item = (&'a str, String)>,
        data: &[u8],
    ) -> Result<Self, InvalidEvent> {
        let mut members: Vec<_> =
            attributes.into_iter().map(|(name, value)| (name.into(), Json::String(value.into()))).collect();
        let identity = Object::from_members(members.clone()).map_err(Reason::from)?;
        let data = Json::parse(data).map_err(|error| invalid(&identity, unparsable(data, error.into())))?;
        members.push(("data".into(), data));
        Self::new(attributes::normalize(Object::from_members(members).map_err(Reason::from)?))
    }

    /// Splits a JSON array of at most `limit` events into the bytes of each. Each can then be parsed, and accepted or
    /// rejected, independently.
    ///
    /// # Errors
    /// The body is not a JSON array, or has more than `limit` events.
    pub fn split_batch(json: &Bytes, limit: usize) -> Result<impl Iterator<Item = Bytes>, BatchError> {
        let events = batch::split(json, limit)?;
        Ok(events.into_iter().map(|event| json.slice_ref(event.get().as_bytes())))
    }

    /// Creates the envelope of an event that the ledger itself produces. Truncates its time to whole microseconds.
    ///
    /// # Errors
    /// The event is too large.
    pub fn compose(
        identity: Identity,
        occurred_at: DateTime<Utc>,
        event: Event,
    ) -> Result<Self, InvalidEvent> {
        // The precision of parsed events and of Postgres.
        let occurred_at = occurred_at.trunc_subsecs(6);
        let object = encode::event(&identity, occurred_at, &event);
        let bytes = check_size(object.canonical())?;
        let content = content(object);
        Ok(Self { identity, occurred_at, event, bytes, content, correlation: None, causation: None })
    }

    fn new(object: Object<'_>) -> Result<Self, InvalidEvent> {
        admission::check_secrets(&object).map_err(|reason| invalid(&object, reason))?;
        let (identity, occurred_at, event) =
            decode(&object, admission::check_event).map_err(|reason| invalid(&object, reason))?;
        let bytes = check_size(object.canonical()).map_err(|reason| invalid(&object, reason))?;
        let [correlation, causation] = relations(&object);
        Ok(Self { identity, occurred_at, event, bytes, content: None, correlation, causation })
    }

    /// Returns the source and the id, which together identify the event.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the time at which the event occurred, by the emitter's clock, in whole microseconds.
    #[must_use]
    pub const fn occurred_at(&self) -> DateTime<Utc> {
        self.occurred_at
    }

    /// Returns the event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// Returns what the event has in common with others that belong together, such as those of one run of a pipeline: the
    /// attribute `correlationid`, of the CloudEvents extension of that name.
    #[must_use]
    pub fn correlation(&self) -> Option<&str> {
        self.correlation.as_deref()
    }

    /// Returns the id of the event that led to this one: the attribute `causationid`, of the CloudEvents extension of that
    /// name.
    #[must_use]
    pub fn causation(&self) -> Option<&str> {
        self.causation.as_deref()
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the canonical bytes without the attributes that the service added: what the client sent.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        self.content.as_ref().unwrap_or(&self.bytes)
    }

    /// Returns the content without `datacontenttype`.
    ///
    /// Older versions stored an event without the attribute if it was sent without it or in binary mode. Such an event,
    /// sent again, is a duplicate of the entry with this content.
    #[must_use]
    pub fn content_without_content_type(&self) -> Bytes {
        match parse_object(self.content()) {
            Ok(object) => attributes::without(object, "datacontenttype").canonical().into(),
            Err(_) => self.content().clone(),
        }
    }
}

/// Returns the content of a stored entry: its bytes without the attributes that the service added, and without a time of
/// arrival. Two events of an identity are the same if they have the same content, from any sender and in any format.
#[must_use]
pub fn content_of(bytes: &Bytes) -> Bytes {
    match parse_object(bytes) {
        Ok(object) => content(object).unwrap_or_else(|| bytes.clone()),
        Err(_) => bytes.clone(),
    }
}

/// Returns the bytes of an event without the attributes that the service added, of which a time of arrival is one; `None`
/// if there are none.
fn content(object: Object<'_>) -> Option<Bytes> {
    let is_added = |name: &str| name.starts_with(RESERVED_PREFIX);
    if !object.entries().any(|(name, _)| is_added(name)) {
        return None;
    }
    let has_own_time = object.get(TIME_OF_ARRIVAL).is_none();
    let mut members = object.into_members();
    members.retain(|(name, _)| !is_added(name) && (has_own_time || name != "time"));
    Some(Object::from_members(members).unwrap_or_default().canonical().into())
}

/// Returns the attributes `correlationid` and `causationid`, each if it is a text that can be asked for.
fn relations(object: &Object<'_>) -> [Option<Box<str>>; 2] {
    ["correlationid", "causationid"].map(|name| match object.get(name) {
        Some(Json::String(text)) => ShortText::stored(text).is_ok().then(|| text.as_ref().into()),
        _ => None,
    })
}

fn set_sender(event: &mut Event, principal: Principal) {
    let claimed_actor = event.actor.take();
    event.actor = Some(principal.actor(claimed_actor.as_ref()));
    event.sender = Some(Box::new(Sender { principal, claimed_actor }));
}

/// Decodes the parts of an event; `check` validates all its attributes, and its data, upcast to the latest version.
fn decode(
    object: &Object<'_>,
    check: impl FnOnce(Kind, &Object<'_>, &Json<'_>) -> Result<(), Reason>,
) -> Result<(Identity, DateTime<Utc>, Event), Reason> {
    let attributes = attributes::parse(object)?;
    let data = versions::upcast(attributes.kind, attributes.version, attributes.data);
    let mut event = data::event(attributes.kind, &data)?;
    check(attributes.kind, object, &data)?;
    if let Some(Json::String(text)) = object.get(principal::ATTRIBUTE) {
        set_sender(&mut event, principal::decode(text)?);
    }
    Ok((attributes.identity, attributes.occurred_at, event))
}

/// Returns a policy as JSON, in its form in the data of `environment.declared`.
#[must_use]
pub fn policy_json(policy: &Policy) -> Vec<u8> {
    encode::policy_bytes(policy)
}

/// Parses a new policy in its form in the data of `environment.declared`.
///
/// # Errors
/// Returns the first fault and its place.
pub fn parse_policy(json: &[u8]) -> Result<Policy, Reason> {
    let json = Json::parse(json)?;
    let policy = data::root_policy(&json)?;
    admission::check_policy(&json)?;
    Ok(policy)
}

/// Checks that no string and no member's name in the JSON of a request is a well-known secret, as in a new event.
///
/// # Errors
/// Returns the place and the kind of the first secret.
pub fn check_secrets(json: &[u8]) -> Result<(), Reason> {
    match Json::parse(json) {
        Ok(Json::Object(object)) => admission::check_secrets(&object),
        // Another parser may accept it.
        _ => match secret_in(json) {
            Some(kind) => Err(Reason::value("", admission::secret_detail(kind))),
            None => Ok(()),
        },
    }
}

fn parse_new_object(json: &[u8]) -> Result<Object<'_>, Reason> {
    parse_object(json).map_err(|reason| unparsable(json, reason))
}

/// Returns the reason for which new JSON cannot be parsed, without quoting it if it contains a secret.
fn unparsable(json: &[u8], reason: Reason) -> Reason {
    match (&reason, secret_in(json)) {
        (Reason::NotIJson(_), Some(kind)) => Reason::value("", admission::secret_detail(kind)),
        _ => reason,
    }
}

fn secret_in(json: &[u8]) -> Option<SecretKind> {
    secrets::find(&String::from_utf8_lossy(json))
}

fn parse_object(json: &[u8]) -> Result<Object<'_>, Reason> {
    if json.len() > MAX_EVENT_BYTES * 4 {
        return Err(Reason::TooLarge(json.len()));
    }
    match Json::parse(json)? {
        Json::Object(object) => Ok(object),
        other => Err(Reason::value("", format!("an event must be an object, not {}", other.type_phrase()))),
    }
}

fn check_size(bytes: Vec<u8>) -> Result<Bytes, Reason> {
    if bytes.len() > MAX_EVENT_BYTES { Err(Reason::TooLarge(bytes.len())) } else { Ok(bytes.into()) }
}

fn invalid(object: &Object<'_>, reason: Reason) -> InvalidEvent {
    let text = |name| match object.get(name) {
        // A rejection is answered and may be logged: it repeats no secret.
        Some(Json::String(text)) if secrets::find(text).is_none() => Some(text.chars().take(512).collect()),
        _ => None,
    };
    InvalidEvent { id: text("id"), source: text("source"), reason }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
