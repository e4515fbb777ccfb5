//! Messages of other tools: translated to events, which are recorded together with the message, or quarantined.
//! `recording` records them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ledger_adapters::cdevents;
use ledger_adapters::hooks::{self, Request};
use ledger_adapters::translation::{NativeEvent, NotUnderstood, Translation};
use ledger_codec::cloudevents::{Envelope, InvalidEvent, MAX_EVENT_BYTES, Origin, Reason, check_secrets};
use ledger_codec::secrets;
use ledger_domain::{Principal, ShortText};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::App;
use crate::tenant::TenantLedger;

/// Maximum number of events of a message.
const MAX_EVENTS: usize = 1_000;

/// Media type of a CDEvent without a CloudEvent around it.
pub(crate) const CDEVENTS_MEDIA_TYPE: &str = "application/cdevents+json";

/// Way by which a message arrived, which decides how it is translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MessageSource {
    /// The webhook with this name.
    Hook(String),
    /// The endpoint of events, as a CDEvent.
    CdEvents,
    /// A broker, in a form that the endpoint of events accepts, too.
    Events,
}

impl MessageSource {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "cdevents" => Some(Self::CdEvents),
            "events" => Some(Self::Events),
            _ => text.strip_prefix("hook:").map(|name| Self::Hook(name.to_owned())),
        }
    }
}

impl fmt::Display for MessageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(name) => write!(f, "hook:{name}"),
            Self::CdEvents => f.write_str("cdevents"),
            Self::Events => f.write_str("events"),
        }
    }
}

/// A message of another tool, from an authenticated sender.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) source: MessageSource,
    /// Headers that the translation reads, by name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Message {
    pub(crate) fn request(&self) -> Request<'_> {
        Request::new(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())), &self.body)
    }

    /// Translates a message of a webhook with the present settings.
    pub(crate) fn translate_hook(
        &self,
        name: &str,
        ledger: &TenantLedger,
    ) -> Result<Translation, NotUnderstood> {
        match ledger.app().hooks.get(name) {
            Some(hook) if hook.tenant == ledger.tenancy().tenant => {
                hooks::translate(&hook.webhook, &self.request(), ledger.now())
            }
            _ => Err(NotUnderstood::new(
                "",
                format!("the service has no webhook {name} for this tenant any more"),
            )),
        }
    }

    pub(crate) fn translate_cdevent(
        &self,
        settings: &cdevents::Settings,
    ) -> Result<Translation, NotUnderstood> {
        let content_type = self.headers.get("content-type").map_or("", String::as_str);
        if content_type == CDEVENTS_MEDIA_TYPE {
            return cdevents::read(&self.body, settings);
        }
        if !self.headers.contains_key("ce-type") {
            return cdevents::read_structured(&self.body, settings);
        }
        let attributes = self.headers.iter().filter_map(|(name, value)| match name.strip_prefix("ce-") {
            Some(attribute) => Some((attribute, value.clone())),
            None => (name == "content-type").then(|| ("datacontenttype", value.clone())),
        });
        cdevents::read_binary(attributes, &self.body, settings)
    }

    /// Returns the events of the message in their stored form, with the message.
    ///
    /// The first event keeps the bytes of the message, if all events concern the same part of the ledger: who may read one
    /// of them may then read what the message says of the others. The other events have its digest.
    pub(crate) fn envelopes(&self, events: &[NativeEvent]) -> Result<Vec<Envelope>, NotUnderstood> {
        self.with_origin(events, true)
    }

    /// Returns the events of a message of which a part is not understood. They have its digest, and not its bytes: that
    /// part may concern another part of the ledger.
    pub(crate) fn envelopes_of_part(&self, events: &[NativeEvent]) -> Result<Vec<Envelope>, NotUnderstood> {
        self.with_origin(events, false)
    }

    fn with_origin(&self, events: &[NativeEvent], keeps_bytes: bool) -> Result<Vec<Envelope>, NotUnderstood> {
        if events.len() > MAX_EVENTS {
            let detail = format!("the message means {} events; the maximum is {MAX_EVENTS}", events.len());
            return Err(NotUnderstood::new("", detail));
        }
        let not_valid = |error: &dyn fmt::Display| {
            NotUnderstood::new("", format!("the event that the message means is not valid: {error}"))
        };
        let format = match self.headers.get("x-github-event") {
            Some(event) => format!("{}/{event}", self.source),
            None => self.source.to_string(),
        };
        let format = ShortText::parse(&format).map_err(|error| not_valid(&error))?;
        let parse = |event: &NativeEvent| {
            let json = serde_json::to_vec(&event.0).map_err(|error| not_valid(&error))?;
            Envelope::translated(&json).map_err(|error| not_valid(&error))
        };
        let parsed = events.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let part = |envelope: &Envelope| {
            let payload = &envelope.event().payload;
            (payload.environment().cloned(), payload.service().cloned())
        };
        let is_one_part = keeps_bytes && parsed.windows(2).all(|pair| part(&pair[0]) == part(&pair[1]));
        let full = Origin::new(format, &self.body);
        let digest = full.without_bytes();
        let with_origin = |(index, envelope): (usize, Envelope)| {
            let origin = if index == 0 && is_one_part { &full } else { &digest };
            envelope.translated_from(origin).map_err(|error| not_valid(&error))
        };
        parsed.into_iter().enumerate().map(with_origin).collect()
    }
}

/// Reason why an event of a request cannot be recorded.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It is no valid event of the ledger.
    Invalid(InvalidEvent),
    /// It is a CDEvent that cannot be understood.
    NotUnderstood(Box<(Message, NotUnderstood)>),
}

impl From<InvalidEvent> for Unusable {
    fn from(invalid: InvalidEvent) -> Self {
        Self::Invalid(invalid)
    }
}

/// Parses an event in structured mode: one of the ledger's own, or a CDEvent.
pub(crate) fn parse_structured(app: &App, json: &Bytes) -> Result<Envelope, Unusable> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    match Envelope::parse(json) {
        Err(InvalidEvent { reason: Reason::UnknownType(_), .. })
            if serde_json::from_slice::<Typed>(json)
                .is_ok_and(|event| cdevents::is_cdevent(&event.r#type)) =>
        {
            cdevent(app, BTreeMap::new(), json)
        }
        parsed => Ok(parsed?),
    }
}

/// Parses an event in binary mode, with its attributes: one of the ledger's own, or a CDEvent.
pub(crate) fn parse_binary(
    app: &App,
    attributes: &[(String, String)],
    data: &Bytes,
) -> Result<Envelope, Unusable> {
    let names: BTreeSet<&String> = attributes.iter().map(|(name, _)| name).collect();
    let is_cdevent = attributes.iter().any(|(name, value)| name == "type" && cdevents::is_cdevent(value));
    // A repeated attribute is rejected below.
    if is_cdevent && names.len() == attributes.len() {
        let header = |(name, value): &(String, String)| match name.as_str() {
            "datacontenttype" => ("content-type".to_owned(), value.clone()),
            _ => (format!("ce-{name}"), value.clone()),
        };
        return cdevent(app, attributes.iter().map(header).collect(), data);
    }
    let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.clone()));
    Ok(Envelope::from_parts(attributes, data)?)
}

/// Parses a CDEvent without a CloudEvent around it.
pub(crate) fn parse_bare(app: &App, json: &Bytes) -> Result<Envelope, Unusable> {
    cdevent(app, BTreeMap::from([("content-type".to_owned(), CDEVENTS_MEDIA_TYPE.to_owned())]), json)
}

/// Returns true for a JSON object that is a CDEvent without a CloudEvent around it.
pub(crate) fn is_bare_cdevent(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Context {
        r#type: String,
    }
    #[derive(Deserialize)]
    struct Bare {
        specversion: Option<IgnoredAny>,
        context: Context,
    }
    let is_cdevent = |bare: Bare| bare.specversion.is_none() && cdevents::is_cdevent(&bare.context.r#type);
    is_object(json) && serde_json::from_slice::<Bare>(json).is_ok_and(is_cdevent)
}

/// Returns true if JSON can be an object only: serde also reads an array as the members of a struct.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// Returns true for a JSON object that has the member that every CloudEvent in structured mode has.
pub(crate) fn is_cloudevent(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        specversion: Option<IgnoredAny>,
    }
    is_object(json)
        && serde_json::from_slice::<Versioned>(json).is_ok_and(|event| event.specversion.is_some())
}

/// Checks that a message contains no secret: it would be rejected, and must not be quarantined.
pub(crate) fn check_message_secrets(
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<(), InvalidEvent> {
    check_secrets(body).map_err(InvalidEvent::from)?;
    let is_secret = |text: &String| secrets::find(text).is_some();
    let in_headers = headers.iter().any(|(name, value)| is_secret(name) || is_secret(value));
    if in_headers || in_base64(body).is_some() {
        let detail = "the message contains a secret in an attribute or in data_base64".to_owned();
        return Err(InvalidEvent::from(Reason::Value { pointer: String::new(), detail }));
    }
    Ok(())
}

/// Returns the secret in the Base64 data of a CloudEvent, if there is one.
fn in_base64(body: &[u8]) -> Option<secrets::SecretKind> {
    #[derive(Deserialize)]
    struct Encoded {
        data_base64: String,
    }
    let Encoded { data_base64 } = serde_json::from_slice(body).ok()?;
    secrets::find(&String::from_utf8_lossy(&STANDARD.decode(data_base64).ok()?))
}

fn cdevent(app: &App, headers: BTreeMap<String, String>, body: &Bytes) -> Result<Envelope, Unusable> {
    if body.len() > MAX_EVENT_BYTES * 4 {
        return Err(InvalidEvent::from(Reason::TooLarge(body.len())).into());
    }
    check_message_secrets(&headers, body)?;
    let message = Message { source: MessageSource::CdEvents, headers, body: body.clone() };
    let one = |translation| match translation {
        Translation::Events(events) => {
            let mut envelopes = message.envelopes(&events)?;
            envelopes.pop().ok_or_else(|| NotUnderstood::new("", "means no event"))
        }
        Translation::Ignored(reason) => Err(NotUnderstood::new("", reason)),
        Translation::Partial(part) => Err(part.fault),
    };
    let translated = message.translate_cdevent(&app.cdevents).and_then(one);
    translated.map_err(|error| Unusable::NotUnderstood(Box::new((message, error))))
}

/// Returns the principal of a webhook: a workload, which the shared secret authenticates.
pub(crate) fn hook_principal(name: &str) -> Option<Arc<Principal>> {
    Some(Arc::new(Principal {
        kind: ledger_domain::PrincipalKind::Workload,
        issuer: ShortText::parse(Principal::HOOKS).ok()?,
        subject: ShortText::parse(name).ok()?,
        name: ShortText::parse(&format!("hook-{name}")).ok()?,
        claims: BTreeMap::new(),
    }))
}
