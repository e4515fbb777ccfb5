//! The attributes of the envelope.

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

pub(super) fn read<'r, 'j>(object: &'r Object<'j>) -> Result<Attributes<'r, 'j>, Reason> {
    let text = |name: &str| match object.get(name) {
        Some(Json::String(text)) => Ok(text.as_ref()),
        Some(other) => Err(at(name, format!("must be a string, not {}", other.noun()))),
        None => Err(at(name, "is required")),
    };
    let id = EventId::parse(text("id")?).map_err(|error| at("id", error))?;
    let source = Source::parse(text("source")?).map_err(|error| at("source", error))?;
    if text("specversion")? != "1.0" {
        return Err(at("specversion", "must be 1.0"));
    }
    let (kind, version) = parse_type(text("type")?)?;
    let occurred_at = time(text("time")?).map_err(|error| at("time", error))?;
    if object.get("datacontenttype").is_some() {
        let media_type = text("datacontenttype")?.split(';').next().unwrap_or_default().trim();
        if media_type != "application/json" {
            return Err(at("datacontenttype", "must be application/json"));
        }
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
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || name.len() > NAME_LIMIT || !name.bytes().all(lower) {
        return Err(at(name, "is not an attribute name: 1 to 40 lower-case letters and digits"));
    }
    match value {
        Json::String(_) | Json::Bool(_) | Json::Integer(_) => Ok(()),
        other => {
            Err(at(name, format!("an attribute is a string, a boolean or an integer, not {}", other.noun())))
        }
    }
}
