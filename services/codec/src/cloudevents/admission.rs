//! The rules that only new events must keep.
//!
//! Entries are read for ever by the rules under which they were recorded: those of `data`. What a later rule rejects
//! is rejected here, before an event is recorded, so that such a rule never makes a stored entry unreadable.
//!
//! A new event may name what was recorded before: the event that it corrects, the releases of a rollback's plan, and
//! the release that a step of a rollback deploys. Those keep the rules of stored entries, so that an environment can
//! still go back to a release that was recorded under them.

use ledger_domain::{Artifact, EventId, Identity, ShortText, Source};

use super::Reason;
use super::fields::Pointer;
use crate::ijson::Json;

/// Checks a new event whose data, in its present form, has been read.
pub(super) fn event(identity: &Identity, data: &Json<'_>) -> Result<(), Reason> {
    EventId::parse(identity.id.as_str()).map_err(|error| Reason::value("/id", error))?;
    Source::parse(identity.source.as_str()).map_err(|error| Reason::value("/source", error))?;
    let Json::Object(data) = data else { return Ok(()) };
    let is_step = data.get("rollback_id").is_some();
    let is_checked = |name: &str| match name {
        // Prose.
        "reason" => false,
        "corrects" | "plan" => false,
        "release" => !is_step,
        _ => true,
    };
    let mut members = data.entries().filter(|(name, _)| is_checked(name));
    members.try_for_each(|(name, value)| member(name, value, Pointer::Data))
}

/// Checks a new policy that has been read.
pub(super) fn policy(policy: &Json<'_>) -> Result<(), Reason> {
    texts(policy, Pointer::Root)
}

/// Checks all texts in a value but prose, which only an event's `reason` is.
fn texts(value: &Json<'_>, at: Pointer<'_>) -> Result<(), Reason> {
    match value {
        Json::String(text) => {
            ShortText::parse(text).map(drop).map_err(|error| Reason::value(at.to_string(), error))
        }
        Json::Array(items) => {
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| texts(item, Pointer::Item(&at, index)))
        }
        Json::Object(object) => object.entries().try_for_each(|(name, value)| member(name, value, at)),
        Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Float(_) => Ok(()),
    }
}

fn member(name: &str, value: &Json<'_>, parent: Pointer<'_>) -> Result<(), Reason> {
    let at = Pointer::Member(&parent, name);
    match (name, value) {
        ("artifact", Json::String(text)) => {
            Artifact::parse(text).map(drop).map_err(|error| Reason::value(at.to_string(), error))
        }
        _ => texts(value, at),
    }
}
