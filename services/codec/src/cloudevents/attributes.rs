//! The attributes of the envelope.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use ledger_domain::{EventId, Identity, Kind, Source};

use super::Reason;
use super::fields::time;
use super::versions::parse_type;
use crate::ijson::{Json, Object};

pub(super) struct Attributes<'r, 'j> {
    pub(super) identity: Identity,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) kind: Kind,
    /// Of the kind's data.
    pub(super) version: usize,
    pub(super) data: &'r Json<'j>,
}

/// Attributes have at most this many characters (the specification recommends 20).
const NAME_LIMIT: usize = 40;

/// The one media type of data.
const JSON: &str = "application/json";

/// Brings the attributes of a new event to the form in which they are stored, so that an event has the same bytes in
/// both content modes, from every library:
///
/// - An attribute that is `null` is unset (JSON format, section 2.2), and left out. `data` is no attribute.
/// - `datacontenttype` is always written, as `application/json`. Without it, data is JSON too, and a conversion to
///   another mode should write it (JSON format, section 3.1.2): in binary mode it is the `Content-Type` (HTTP
///   binding, section 3.1.1), which cannot be left out. Parameters are dropped: the media type defines none (RFC
///   8259, section 11), and data is read as UTF-8 with or without `charset=utf-8`. Media types have no case.
///
/// Other attributes stay as they are. In binary mode each is a text, since headers have no types: an attribute that
/// is a number in structured mode is other content there.
pub(super) fn normal<'j>(object: Object<'j>) -> Object<'j> {
    const NAME: &str = "datacontenttype";
    let mut members = object.into_members();
    // One with a wrong name stays: `extension` rejects it.
    members.retain(|(name, value)| name == "data" || *value != Json::Null || !is_name(name));
    match members.iter_mut().find(|(name, _)| name == NAME) {
        Some((_, Json::String(text))) if is_json(text) => *text = Cow::Borrowed(JSON),
        Some(_) => {}
        None => members.push((NAME.into(), Json::String(Cow::Borrowed(JSON)))),
    }
    Object::from_members(members).unwrap_or_default()
}

/// The object of an event without the attribute that [`normal`] adds.
pub(super) fn without_content_type(object: Object<'_>) -> Object<'_> {
    let mut members = object.into_members();
    members.retain(|(name, _)| name != "datacontenttype");
    Object::from_members(members).unwrap_or_default()
}

fn is_json(media_type: &str) -> bool {
    media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON)
}

fn is_name(name: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.len() <= NAME_LIMIT && name.bytes().all(lower)
}

pub(super) fn read<'r, 'j>(object: &'r Object<'j>) -> Result<Attributes<'r, 'j>, Reason> {
    let text = |name: &str| match object.get(name) {
        Some(Json::String(text)) => Ok(text.as_ref()),
        Some(other) => Err(at(name, format!("must be a string, not {}", other.noun()))),
        None => Err(at(name, "is required")),
    };
    let id = EventId::stored(text("id")?).map_err(|error| at("id", error))?;
    let source = Source::stored(text("source")?).map_err(|error| at("source", error))?;
    if text("specversion")? != "1.0" {
        return Err(at("specversion", "must be 1.0"));
    }
    let (kind, version) = parse_type(text("type")?)?;
    let occurred_at = time(text("time")?).map_err(|error| at("time", error))?;
    if object.get("datacontenttype").is_some() && !is_json(text("datacontenttype")?) {
        return Err(at("datacontenttype", "must be application/json"));
    }
    if object.get("subject").is_some() && text("subject")?.is_empty() {
        return Err(at("subject", "must not be empty"));
    }
    for (name, value) in object.entries() {
        extension(name, value)?;
    }
    let data = object.get("data").ok_or_else(|| at("data", "is required"))?;
    Ok(Attributes { identity: Identity { source, id }, occurred_at, kind, version, data })
}

fn at(name: &str, detail: impl ToString) -> Reason {
    Reason::value(format!("/{}", name.replace('~', "~0").replace('/', "~1")), detail)
}

fn extension(name: &str, value: &Json<'_>) -> Result<(), Reason> {
    if name == "data" {
        return Ok(());
    }
    if name == "data_base64" {
        return Err(at(name, "is not accepted: data is JSON"));
    }
    if !is_name(name) {
        return Err(at(name, "is not an attribute name: 1 to 40 lower-case letters and digits"));
    }
    match value {
        Json::String(_) | Json::Bool(_) | Json::Integer(_) => Ok(()),
        other => {
            Err(at(name, format!("an attribute is a string, a boolean or an integer, not {}", other.noun())))
        }
    }
}
