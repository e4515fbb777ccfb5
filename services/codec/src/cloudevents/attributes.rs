//! The CloudEvents attributes of an event.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use ledger_domain::{EventId, Identity, Kind, Source};

use super::error::Reason;
use super::fields::time;
use super::versions::parse_type;
use crate::ijson::{Json, Object};

/// The parsed attributes, and the unparsed data.
pub(super) struct Attributes<'r, 'j> {
    pub(super) identity: Identity,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) kind: Kind,
    /// The version of the data.
    pub(super) version: usize,
    pub(super) data: &'r Json<'j>,
}

/// The maximum length of an attribute name in characters (the specification recommends 20).
const NAME_LENGTH_LIMIT: usize = 40;

/// The only media type of data.
const JSON_MEDIA_TYPE: &str = "application/json";

/// Normalizes the attributes of a new event to their stored form. An event then has the same bytes in both content
/// modes and from every library:
///
/// - An attribute that is `null` is unset (JSON format, section 2.2) and left out. `data` is not an attribute.
/// - `datacontenttype` is always written, as `application/json`. Data without it is JSON too, and a conversion to
///   another mode should write it (JSON format, section 3.1.2): in binary mode it is the `Content-Type` (HTTP binding,
///   section 3.1.1), which is mandatory. Parameters are dropped: the media type defines none (RFC 8259, section 11),
///   and data is parsed as UTF-8 with or without `charset=utf-8`. Media types are case-insensitive.
///
/// Other attributes are unchanged. In binary mode each is a string, since headers have no types: an attribute that is a
/// number in structured mode is different content there.
pub(super) fn normalize<'j>(object: Object<'j>) -> Object<'j> {
    const NAME: &str = "datacontenttype";
    let mut members = object.into_members();
    // An invalid name stays: `check_attribute` rejects it.
    members.retain(|(name, value)| name == "data" || *value != Json::Null || !is_name(name));
    match members.iter_mut().find(|(name, _)| name == NAME) {
        Some((_, Json::String(text))) if is_json(text) => *text = Cow::Borrowed(JSON_MEDIA_TYPE),
        Some(_) => {}
        None => members.push((NAME.into(), Json::String(Cow::Borrowed(JSON_MEDIA_TYPE)))),
    }
    Object::from_members(members).unwrap_or_default()
}

/// Returns the object of an event without an attribute.
pub(super) fn without<'j>(object: Object<'j>, attribute: &str) -> Object<'j> {
    let mut members = object.into_members();
    members.retain(|(name, _)| name != attribute);
    Object::from_members(members).unwrap_or_default()
}

fn is_json(media_type: &str) -> bool {
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON_MEDIA_TYPE)
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.len() <= NAME_LENGTH_LIMIT && name.bytes().all(is_allowed)
}

pub(super) fn parse<'r, 'j>(object: &'r Object<'j>) -> Result<Attributes<'r, 'j>, Reason> {
    let text = |name: &str| match object.get(name) {
        Some(Json::String(text)) => Ok(text.as_ref()),
        Some(other) => Err(invalid(name, format!("must be a string, not {}", other.type_phrase()))),
        None => Err(invalid(name, "is required")),
    };
    let id = EventId::stored(text("id")?).map_err(|error| invalid("id", error))?;
    let source = Source::stored(text("source")?).map_err(|error| invalid("source", error))?;
    if text("specversion")? != "1.0" {
        return Err(invalid("specversion", "must be 1.0"));
    }
    let (kind, version) = parse_type(text("type")?)?;
    let occurred_at = time(text("time")?).map_err(|error| invalid("time", error))?;
    if object.get("datacontenttype").is_some() && !is_json(text("datacontenttype")?) {
        return Err(invalid("datacontenttype", "must be application/json"));
    }
    if object.get("subject").is_some() && text("subject")?.is_empty() {
        return Err(invalid("subject", "must not be empty"));
    }
    for (name, value) in object.entries() {
        check_attribute(name, value)?;
    }
    let data = object.get("data").ok_or_else(|| invalid("data", "is required"))?;
    Ok(Attributes { identity: Identity { source, id }, occurred_at, kind, version, data })
}

fn invalid(name: &str, detail: impl ToString) -> Reason {
    Reason::value(format!("/{}", name.replace('~', "~0").replace('/', "~1")), detail)
}

fn check_attribute(name: &str, value: &Json<'_>) -> Result<(), Reason> {
    if name == "data" {
        return Ok(());
    }
    if name == "data_base64" {
        return Err(invalid(name, "is not supported; send JSON in data"));
    }
    if !is_name(name) {
        return Err(invalid(
            name,
            "is not a valid attribute name; use 1 to 40 lower-case letters and digits",
        ));
    }
    match value {
        Json::String(_) | Json::Bool(_) | Json::Integer(_) => Ok(()),
        other => Err(invalid(
            name,
            format!("must be a string, a boolean or an integer, not {}", other.type_phrase()),
        )),
    }
}
