//! CDEvents, of the specification's versions 0.3.0, 0.4.1, 0.5.1 and the draft of 0.6, in and out.
//!
//! In: [`read`] for bare CDEvents, [`read_structured`], [`read_binary`] and [`read_batch`] for CDEvents inside
//! CloudEvents. An event is checked against the specification that it names (`catalog`, `schema`), without fetching
//! anything, and has one effect (`effects`); an event without an effect is an `activity.reported`. The native event has
//! the identity and the time of the CDEvent's context: it is the same in every mode and for every redelivery.
//!
//! Out: [`write()`] for every event of the ledger, in a type of the specification or a custom one. A written event can
//! be read back: a report as the same event, a command as an activity. If the settings map one of its names to another
//! name, only the members of the specification are read.
//!
//! # Keys of `customData`
//!
//! | key | read for | meaning |
//! | --- | --- | --- |
//! | `service`, `target` | services, tests, approvals | the service, if the subject does not name it; the target |
//! | `slot` | services | the slot; a published service with a slot is a switch of traffic |
//! | `version`, `commit`, `configDigest` | services, tests, approvals, builds | the release |
//! | `deploymentId` | services, tests | the deployment |
//! | `environment`, `rollbackId` | approvals | what is approved |
//! | `severity` | incidents | the severity |
//! | `actor`, `reason` | all | a name or `{"type": …, "name": …}`; free text |
//!
//! A key that is `null` is absent. A blank `service`, `target`, `slot`, `version`, `environment` or `rollbackId` is the
//! form of a variable that is not set: the event is not understood.

mod activity;
mod approval;
mod artifact;
mod catalog;
mod cloudevents;
mod custom_data;
mod effects;
mod incident;
mod json;
mod links;
mod message;
mod native;
mod own;
mod place;
mod release;
mod schema;
mod service;
mod settings;
mod testing;
mod write;

use serde_json::Value;

use crate::translation::{NotUnderstood, Translation};
use message::Message;

pub use settings::Settings;
pub use write::write;

/// Reads a bare CDEvent.
///
/// # Errors
/// The message does not follow its specification, or names something that the ledger has no name for.
pub fn read(message: &[u8], settings: &Settings) -> Result<Translation, NotUnderstood> {
    translate(&Message::parse(&json::parse_object(message)?)?, settings)
}

/// Reads a CDEvent inside a CloudEvent in structured mode. Attributes of the envelope that the CDEvent has, too, must
/// agree with it.
///
/// # Errors
/// As for [`read`]; or the envelope is invalid or contradicts the CDEvent.
pub fn read_structured(json: &[u8], settings: &Settings) -> Result<Translation, NotUnderstood> {
    translate(&cloudevents::structured(&json::parse_object(json)?)?, settings)
}

/// Reads a CDEvent inside a CloudEvent in binary mode: attributes by name (without the protocol's `ce-`, decoded; the
/// `Content-Type` is `datacontenttype`), and data. The result is that of the same event in structured mode.
///
/// # Errors
/// As for [`read_structured`].
pub fn read_binary<'a>(
    attributes: impl IntoIterator<Item = (&'a str, String)>,
    data: &[u8],
    settings: &Settings,
) -> Result<Translation, NotUnderstood> {
    translate(&cloudevents::binary(attributes, data)?, settings)
}

/// Reads a batch: a JSON array of at most `limit` CloudEvents. Each is read independently.
///
/// # Errors
/// The message is not a JSON array, or has more than `limit` events. The pointer of an event's own error starts with
/// its place in the array.
pub fn read_batch(
    json: &[u8],
    limit: usize,
    settings: &Settings,
) -> Result<Vec<Result<Translation, NotUnderstood>>, NotUnderstood> {
    let events = match json::parse(json)? {
        Value::Array(events) if events.len() <= limit => events,
        Value::Array(events) => {
            let detail = format!("has {} events; the maximum is {limit}", events.len());
            return Err(NotUnderstood::new("", detail));
        }
        other => {
            let detail = format!("must be an array, not {}", json::type_phrase(&other));
            return Err(NotUnderstood::new("", detail));
        }
    };
    let one = |event: &Value| {
        let Value::Object(event) = event else {
            return Err(NotUnderstood::new(
                "",
                format!("must be an object, not {}", json::type_phrase(event)),
            ));
        };
        json::check_secrets(Value::Object(event.clone()).to_string().as_bytes())?;
        translate(&cloudevents::structured(event)?, settings)
    };
    let placed = |(index, event)| {
        one(event).map_err(|error| NotUnderstood { pointer: format!("/{index}{}", error.pointer), ..error })
    };
    Ok(events.iter().enumerate().map(placed).collect())
}

/// Returns true if the ledger reads events of this type with the functions of this module.
#[must_use]
pub fn is_cdevent(event_type: &str) -> bool {
    event_type.starts_with("dev.cdevents.") || event_type.starts_with("dev.cdeventsx.")
}

fn translate(message: &Message, settings: &Settings) -> Result<Translation, NotUnderstood> {
    let event = match own::read(message, &settings.names)? {
        Some(event) => event,
        None => native::check(effects::translate(message, settings)?.event(message))?,
    };
    Ok(Translation::Events(vec![event]))
}

#[cfg(test)]
mod tests;
