//! The rules that apply to new events only.
//!
//! Stored entries are always parsed by the rules under which they were recorded: those of `data`. Rules that were added
//! later are enforced here, before an event is recorded, so that such a rule never makes a stored entry unreadable.
//!
//! A new event may refer to recorded values: the event that it corrects, the releases of a rollback's plan, and the
//! release that a rollback step deploys. The rules of stored entries apply to these, so that an environment can still
//! be rolled back to a release that was recorded under them.

use ledger_domain::event::Policy;
use ledger_domain::{Artifact, EventId, Identity, ShortText, Source};

use super::error::Reason;
use super::fields::Pointer;
use crate::ijson::Json;

/// Checks a new event, of which the data has been upcast to the latest version and parsed.
pub(super) fn check_event(identity: &Identity, data: &Json<'_>) -> Result<(), Reason> {
    EventId::parse(identity.id.as_str()).map_err(|error| Reason::value("/id", error))?;
    Source::parse(identity.source.as_str()).map_err(|error| Reason::value("/source", error))?;
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
    members.try_for_each(|(name, value)| check_member(name, value, Pointer::Data))
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
        _ => check_strings(value, at),
    }
}
