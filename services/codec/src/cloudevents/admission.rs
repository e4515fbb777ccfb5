//! The rules that apply to new events only.
//!
//! Stored entries are always parsed by the rules under which they were recorded: those of `data`. Rules that were added
//! later are enforced here, before an event is recorded, so that such a rule never makes a stored entry unreadable.
//!
//! A new event may refer to recorded values: the event that it corrects, the releases of a rollback's plan, and the
//! release that a rollback step deploys. The rules of stored entries apply to these, so that an environment can still
//! be rolled back to a release that was recorded under them.

use ledger_domain::event::Policy;
use ledger_domain::{Artifact, EventId, Kind, ShortText, Source, is_noncharacter, parse_time};

use super::RESERVED_PREFIX;
use super::error::Reason;
use super::fields::Pointer;
use super::uri::{is_uri, is_uri_reference};
use crate::ijson::{Json, Object};
use crate::secrets::{self, SecretKind};

/// Checks that no string and no member's name in a new event or request is a well-known secret: an entry is permanent,
/// and many can read it. This is the first check, so that no other error repeats the secret.
pub(super) fn check_secrets(json: &Object<'_>) -> Result<(), Reason> {
    check_secrets_of(json, Pointer::Root)
}

fn check_secrets_of(object: &Object<'_>, at: Pointer<'_>) -> Result<(), Reason> {
    object.entries().try_for_each(|(name, value)| match secrets::find_in_name(name) {
        // The pointer to the member would contain its name.
        Some(kind) => Err(secret_at(at, kind)),
        None => check_secrets_in(value, Pointer::Member(&at, name)),
    })
}

fn check_secrets_in(value: &Json<'_>, at: Pointer<'_>) -> Result<(), Reason> {
    match value {
        Json::String(text) => secrets::find(text).map_or(Ok(()), |kind| Err(secret_at(at, kind))),
        Json::Array(items) => {
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| check_secrets_in(item, Pointer::Item(&at, index)))
        }
        Json::Object(object) => check_secrets_of(object, at),
        Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Float(_) => Ok(()),
    }
}

fn secret_at(at: Pointer<'_>, kind: SecretKind) -> Reason {
    Reason::value(at.to_string(), secret_detail(kind))
}

/// Returns the fault of a value with a secret. It does not contain the secret.
pub(super) fn secret_detail(kind: SecretKind) -> String {
    format!(
        "contains {kind}; entries are permanent: send it again without the secret, and revoke a valid one"
    )
}

/// Checks a new event that has been parsed: its attributes, and its data, upcast to the latest version.
pub(super) fn check_event(kind: Kind, attributes: &Object<'_>, data: &Json<'_>) -> Result<(), Reason> {
    for (name, value) in attributes.entries().filter(|(name, _)| *name != "data") {
        check_attribute(name, value).map_err(|detail| Reason::value(format!("/{name}"), detail))?;
    }
    let Json::Object(data) = data else { return Ok(()) };
    let is_step = data.get("rollback_id").is_some();
    let is_checked = |name: &str| match name {
        // Free text may contain format characters.
        "reason" => false,
        // References to recorded values.
        "corrects" | "plan" => false,
        "release" => !is_step,
        _ => true,
    };
    if let Some(policy) = data.get("policy") {
        check_lists(policy, Pointer::Member(&Pointer::Data, "policy"))?;
    }
    let mut members = data.entries().filter(|(name, _)| is_checked(name));
    members.try_for_each(|(name, value)| match value {
        Json::String(text) if introduces(kind) == Some(name) => check_identifier(kind, text, name),
        _ => check_member(name, value, Pointer::Data),
    })
}

/// Checks an attribute by the type system of CloudEvents 1.0.2, sections 3 and 3.1, except for the rules of stored
/// events, which hold already. Returns the fault of its value.
fn check_attribute(name: &str, value: &Json<'_>) -> Result<(), String> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err("is an attribute that only the ledger writes; use another name".to_owned());
    }
    let text = match value {
        Json::Integer(number) if i32::try_from(*number).is_err() => {
            return Err("must be an integer from -2147483648 to 2147483647; write it as a string".to_owned());
        }
        Json::String(text) => text,
        _ if name == "dataschema" => return Err("must be a string".to_owned()),
        _ => return Ok(()),
    };
    match name {
        "id" => EventId::parse(text).map(drop).map_err(|error| error.to_string())?,
        "source" => Source::parse(text).map(drop).map_err(|error| error.to_string())?,
        "time" => parse_time(text).map(drop).map_err(|error| error.to_string())?,
        _ => {}
    }
    if let Some(c) = text.chars().find(|c| c.is_control() || is_noncharacter(*c)) {
        return Err(format!("contains the character U+{:04X}, which no attribute may contain", u32::from(c)));
    }
    match name {
        "source" if !is_uri_reference(text) => {
            Err("must be a URI reference; percent-encode other characters, such as a space as %20".to_owned())
        }
        "dataschema" if !is_uri(text) => Err("must be a URI".to_owned()),
        _ => Ok(()),
    }
}

/// Returns the member with which an event of this kind introduces an identifier. Other events refer to it, and may
/// refer to one that was recorded before a rule rejected it.
const fn introduces(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::RollbackRequested => Some("rollback_id"),
        Kind::FreezeStarted => Some("freeze_id"),
        Kind::IncidentOpened => Some("incident_id"),
        Kind::ReleasePointMarked => Some("name"),
        Kind::GrantAdded | Kind::GrantRemoved => Some("grant"),
        Kind::ValidationStarted | Kind::ValidationPassed | Kind::ValidationFailed => Some("check"),
        _ => None,
    }
}

fn check_identifier(kind: Kind, text: &str, name: &str) -> Result<(), Reason> {
    let at = || Pointer::Member(&Pointer::Data, name).to_string();
    if kind == Kind::ReleasePointMarked {
        return ShortText::parse_point_name(text).map(drop).map_err(|error| Reason::value(at(), error));
    }
    ShortText::parse_identifier(text).map(drop).map_err(|error| Reason::value(at(), error))
}

/// Checks a new policy that has been parsed.
pub(super) fn check_policy(policy: &Json<'_>) -> Result<(), Reason> {
    check_lists(policy, Pointer::Root)?;
    check_strings(policy, Pointer::Root)
}

/// Checks the lengths of the lists in a policy whose names are looked up for every lane.
fn check_lists(policy: &Json<'_>, at: Pointer<'_>) -> Result<(), Reason> {
    let Json::Object(members) = policy else { return Ok(()) };
    for (name, member) in members.entries() {
        match (name, member) {
            ("required_validations", list) => check_length(list, Pointer::Member(&at, name))?,
            ("automatic_rollback" | "promotion", Json::Object(parts)) => {
                let at = Pointer::Member(&at, name);
                let mut lists = parts.entries().filter(|(name, _)| matches!(*name, "checks" | "from"));
                lists.try_for_each(|(name, list)| check_length(list, Pointer::Member(&at, name)))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_length(list: &Json<'_>, at: Pointer<'_>) -> Result<(), Reason> {
    match list {
        Json::Array(names) if names.len() > Policy::MAX_NAMES => {
            let detail = format!("must have at most {} names, not {}", Policy::MAX_NAMES, names.len());
            Err(Reason::value(at.to_string(), detail))
        }
        _ => Ok(()),
    }
}

/// Checks all strings in a value as short texts. An event's `reason`, the only free text, is not passed here.
fn check_strings(value: &Json<'_>, at: Pointer<'_>) -> Result<(), Reason> {
    match value {
        Json::String(text) => {
            ShortText::parse(text).map(drop).map_err(|error| Reason::value(at.to_string(), error))
        }
        Json::Array(items) => {
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| check_strings(item, Pointer::Item(&at, index)))
        }
        Json::Object(object) => object.entries().try_for_each(|(name, value)| check_member(name, value, at)),
        Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Float(_) => Ok(()),
    }
}

fn check_member(name: &str, value: &Json<'_>, parent: Pointer<'_>) -> Result<(), Reason> {
    let at = Pointer::Member(&parent, name);
    match (name, value) {
        ("artifact", Json::String(text)) => {
            Artifact::parse(text).map(drop).map_err(|error| Reason::value(at.to_string(), error))
        }
        ("at" | "committed_at" | "expires_at" | "previous_until" | "until", Json::String(text)) => {
            parse_time(text).map(drop).map_err(|error| Reason::value(at.to_string(), error))
        }
        _ => check_strings(value, at),
    }
}
