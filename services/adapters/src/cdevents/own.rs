//! Events that the ledger wrote as CDEvents, read back.
//!
//! A report is the same event again, with the same content: in this ledger a duplicate, in another an equal event. A
//! command is not: what was requested, approved or marked in one ledger is only an activity in another.

use ledger_domain::{Event, Kind, LaneRef, Payload, Position, TargetName};
use serde_json::{Map, Value};

use super::json::member;
use super::message::Message;
use super::native::{self, Data, Native};
use super::write::{ATTRIBUTES, CUSTOM_NAME, IN_CONTEXT, LEDGER_KEY, SPEC, write};
use crate::names::{Names, UnmappedName};
use crate::translation::{NativeEvent, NotUnderstood};

/// Returns the native event in a message that the ledger wrote; `None` for every other message, for commands, and where
/// the names of the ledger that wrote it have other names here.
///
/// # Errors
/// The native event is not valid, or is not the one that the rest of the message describes.
pub(super) fn read(message: &Message, names: &Names) -> Result<Option<NativeEvent>, NotUnderstood> {
    let Some(Own { kind, data, attributes }) = embedded(message) else { return Ok(None) };
    let native = Native { kind: kind.name(), subject: None, data: Data(data) };
    let at = |detail: &str| NotUnderstood::new(format!("/customData/{LEDGER_KEY}"), detail);
    let mut read = native.clone().event(message);
    if let Some(attributes) = attributes {
        restore(&mut read, attributes).map_err(|detail| at(&detail))?;
    }
    let parsed = native::parse(&read).map_err(|error| at(&error.detail))?;
    let event = parsed.event();
    if event.payload.is_command() || event.payload.is_about_access() {
        return Ok(None);
    }
    if parsed.occurred_at() != message.occurred_at {
        return Err(at("does not agree with /context/timestamp of the same message"));
    }
    if let Some(pointer) = difference(&write(&parsed, Position::START), message) {
        return Err(at(&format!("does not agree with {pointer} of the same message")));
    }
    if !keeps_names(names, &event.payload) {
        return Ok(None);
    }
    // Earlier versions wrote no attributes.
    let is_complete = attributes.is_some();
    Ok(Some(if is_complete { read } else { Native { subject: subject(event), ..native }.event(message) }))
}

/// Gives an event the attributes that the ledger wrote, and only those beside the ones that follow from the context.
fn restore(event: &mut NativeEvent, attributes: &Map<String, Value>) -> Result<(), String> {
    let in_context = |name: &str| name == "data" || IN_CONTEXT.contains(&name);
    event.0.retain(|name, _| name == "time" || in_context(name));
    for (name, value) in attributes {
        if in_context(name) {
            return Err(format!("must not have {name} in {ATTRIBUTES}"));
        }
        event.0.insert(name.clone(), value.clone());
    }
    Ok(())
}

/// Returns true if every name in an event has the same name in this ledger.
fn keeps_names(names: &Names, payload: &Payload) -> bool {
    let is_kept =
        |mapped: Result<String, UnmappedName>, name: &str| mapped.is_ok_and(|mapped| mapped == name);
    let environment = payload.environment().is_none_or(|name| {
        is_kept(names.environment(Some(name.as_str())).map(|name| name.to_string()), name.as_str())
    });
    let service = payload.service().is_none_or(|name| {
        is_kept(names.service(Some(name.as_str())).map(|name| name.to_string()), name.as_str())
    });
    // A default target applies to a lane without a target.
    let target = payload.service().is_none()
        || names
            .target(payload.target().map(TargetName::as_str))
            .is_ok_and(|mapped| mapped.as_ref() == payload.target());
    // An observation names many services and targets.
    let has_other_names = matches!(payload, Payload::EnvironmentObserved(_))
        && !(names.services.is_empty() && names.targets.is_empty());
    environment && service && target && !has_other_names
}

/// The native event in a message.
struct Own<'m> {
    kind: Kind,
    data: Map<String, Value>,
    /// The attributes that are not in the context; `None` if an earlier version of the ledger wrote the message.
    attributes: Option<&'m Map<String, Value>>,
}

/// Returns the native event, if the message has one.
fn embedded(message: &Message) -> Option<Own<'_>> {
    let own = message.custom.members().get(LEDGER_KEY)?.as_object()?;
    let kind = Kind::parse_type(own.get("type")?.as_str()?).ok()?;
    let is_own = message.spec == SPEC && (message.is_standard || message.name.starts_with(CUSTOM_NAME));
    let data = if message.is_standard { own.get("data")?.as_object()? } else { &message.content };
    let attributes = own.get(ATTRIBUTES).and_then(Value::as_object);
    is_own.then(|| Own { kind, data: data.clone(), attributes })
}

/// Returns the place of the first difference between what the ledger writes for the native event and the message.
///
/// The actor is not compared: the native event has the stated one, and `customData` the authenticated one.
fn difference(written: &Value, message: &Message) -> Option<String> {
    if written.pointer("/context/type").and_then(Value::as_str) != Some(message.full_type.as_str()) {
        return Some("/context/type".to_owned());
    }
    let chain = written.pointer("/context/chainId").and_then(Value::as_str);
    if message.chain_id.as_deref().is_some_and(|found| chain.is_some_and(|chain| chain != found)) {
        return Some("/context/chainId".to_owned());
    }
    if written.get("subject") != Some(&message.subject) {
        return Some("/subject".to_owned());
    }
    let keys = written.get("customData").and_then(Value::as_object)?;
    let found = message.custom.members();
    let mut compared = keys.iter().filter(|(key, _)| !matches!(key.as_str(), "actor" | LEDGER_KEY));
    compared.find(|(key, value)| found.get(*key) != Some(value)).map(|(key, _)| member("/customData", key))
}

fn subject(event: &Event) -> Option<String> {
    let lane = event.payload.lane().map(LaneRef::to_string);
    lane.or_else(|| event.payload.environment().map(ToString::to_string))
}
