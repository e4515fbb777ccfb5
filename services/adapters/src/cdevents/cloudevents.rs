//! CDEvents inside CloudEvents: the attributes, and their agreement with the context.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger_domain::parse_time;
use serde_json::{Map, Value};

use super::json::{self, member, type_phrase};
use super::message::Message;
use crate::translation::NotUnderstood;
use crate::uri;

/// The place of the CDEvent in a structured message.
const DATA_AT: &str = "/data";

/// Reads a CDEvent in a CloudEvent in structured mode.
pub(super) fn structured(event: &Map<String, Value>) -> Result<Message, NotUnderstood> {
    check_attributes(event)?;
    let decoded;
    let data = match (event.get("data"), event.get("data_base64")) {
        (Some(_), Some(_)) => return Err(invalid("data_base64", "must not be combined with data")),
        (None, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(text).map_err(|error| invalid("data_base64", error.to_string()))?;
            let parsed = json::check_secrets(&bytes).and_then(|()| json::parse(&bytes));
            decoded = parsed.map_err(|error| below("/data_base64", error))?;
            &decoded
        }
        (None, Some(other)) => return Err(wrong_type("data_base64", other)),
        (Some(data), None) => data,
        (None, None) => return Err(invalid("data", "is required: the CDEvent")),
    };
    let Value::Object(data) = data else {
        return Err(NotUnderstood::new(DATA_AT, format!("must be an object, not {}", type_phrase(data))));
    };
    let message = Message::parse(data).map_err(|error| below(DATA_AT, error))?;
    check_agreement(event, &message, Form::Structured)?;
    Ok(message)
}

/// Reads a CDEvent in a CloudEvent in binary mode: attributes by name, and the CDEvent.
pub(super) fn binary<'a>(
    attributes: impl IntoIterator<Item = (&'a str, String)>,
    data: &[u8],
) -> Result<Message, NotUnderstood> {
    let mut event = Map::new();
    for (name, value) in attributes {
        if event.insert(name.to_owned(), Value::String(value)).is_some() {
            return Err(invalid(name, "occurs twice"));
        }
    }
    check_attributes(&event)?;
    let data = json::parse_object(data).map_err(|error| below(DATA_AT, error))?;
    let message = Message::parse(&data).map_err(|error| below(DATA_AT, error))?;
    check_agreement(&event, &message, Form::Binary)?;
    Ok(message)
}

/// Returns a fault with its place below another.
fn below(at: &str, error: NotUnderstood) -> NotUnderstood {
    NotUnderstood { pointer: format!("{at}{}", error.pointer), ..error }
}

fn invalid(name: &str, detail: impl Into<String>) -> NotUnderstood {
    NotUnderstood::new(member("", name), detail)
}

fn wrong_type(name: &str, value: &Value) -> NotUnderstood {
    invalid(name, format!("must be a string, not {}", type_phrase(value)))
}

/// Returns the text of an attribute. An attribute that is `null` is unset.
fn attribute<'e>(event: &'e Map<String, Value>, name: &str) -> Result<Option<&'e str>, NotUnderstood> {
    match event.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(name, other)),
    }
}

fn check_attributes(event: &Map<String, Value>) -> Result<(), NotUnderstood> {
    for name in ["specversion", "id", "source", "type"] {
        if attribute(event, name)?.is_none() {
            return Err(invalid(name, "is required: an attribute of CloudEvents"));
        }
    }
    if attribute(event, "specversion")? != Some("1.0") {
        return Err(invalid("specversion", "must be 1.0: the version of CloudEvents"));
    }
    match attribute(event, "datacontenttype")? {
        Some(media_type) if !is_json(media_type) => {
            Err(invalid("datacontenttype", "must be application/json"))
        }
        _ => Ok(()),
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Checks that each attribute of the envelope is equal to that of the context. Otherwise two readers, of which one reads
/// the envelope and the other the context, take the event for two different ones.
fn check_agreement(event: &Map<String, Value>, message: &Message, form: Form) -> Result<(), NotUnderstood> {
    let differs = |name: &str, other: &str| invalid(name, format!("must be equal to {other} of the CDEvent"));
    let agrees = |attribute: &str, value: &str| attribute == value || form.is_decoded(attribute, value);
    if !attribute(event, "id")?.is_some_and(|id| agrees(id, &message.id)) {
        return Err(differs("id", "context.id"));
    }
    let is_source =
        |source: &str| uri::encode(source) == message.source || form.is_decoded(source, &message.source);
    if !attribute(event, "source")?.is_some_and(is_source) {
        return Err(differs("source", "context.source"));
    }
    if attribute(event, "type")? != Some(message.full_type.as_str()) {
        return Err(differs("type", "context.type"));
    }
    if attribute(event, "subject")?.is_some_and(|subject| !agrees(subject, &message.subject_id)) {
        return Err(differs("subject", "subject.id"));
    }
    match attribute(event, "time")?.map(parse_time) {
        Some(Err(error)) => Err(invalid("time", error.to_string())),
        Some(Ok(time)) if time != message.occurred_at => Err(differs("time", "context.timestamp")),
        _ => Ok(()),
    }
}

/// Form of a CloudEvent.
#[derive(Clone, Copy)]
enum Form {
    Structured,
    /// Attributes are headers, which the service has percent-decoded.
    Binary,
}

impl Form {
    /// Returns true if an attribute is what decoding makes of a value of the CDEvent. Some senders, such as
    /// cdviz-collector, write a value that contains `%2F` into a header without encoding it once more. The identity is
    /// that of the context in any case.
    fn is_decoded(self, attribute: &str, value: &str) -> bool {
        matches!(self, Self::Binary) && uri::decode(value).is_some_and(|decoded| decoded == attribute)
    }
}
