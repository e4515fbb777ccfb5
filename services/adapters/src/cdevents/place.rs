//! The environment, the service and the target that an event names.

use ledger_domain::{EnvironmentName, LaneRef, ServiceName, TargetName};

use super::custom_data::{AT as CUSTOM_DATA, CustomData};
use super::json::member;
use super::message::Message;
use super::native::Data;
use crate::names::{Names, UnmappedName};
use crate::translation::NotUnderstood;

/// The place of the id of an environment in a message.
pub(super) const ENVIRONMENT_AT: &str = "/subject/content/environment/id";
/// The place of the id of the subject in a message.
pub(super) const SUBJECT_AT: &str = "/subject/id";

/// Returns the environment of an id that a message states. A default never applies.
pub(super) fn stated_environment(
    names: &Names,
    id: &str,
    at: &str,
) -> Result<EnvironmentName, NotUnderstood> {
    not_blank(id, at)?;
    names.environment(Some(id)).map_err(|error| unmapped(at, &error))
}

/// Returns the service of an id that a message states. A default never applies.
pub(super) fn stated_service(names: &Names, id: &str, at: &str) -> Result<ServiceName, NotUnderstood> {
    not_blank(id, at)?;
    names.service(Some(id)).map_err(|error| unmapped(at, &error))
}

/// Returns the target in `customData`, or the default.
pub(super) fn target(names: &Names, custom: &CustomData) -> Result<Option<TargetName>, NotUnderstood> {
    let id = custom.scope("target")?;
    names.target(id.as_deref()).map_err(|error| unmapped(&member(CUSTOM_DATA, "target"), &error))
}

/// Returns the lane of an event about a service: its environment, or the default one; the subject, or the service in
/// `customData`.
pub(super) fn lane(message: &Message, names: &Names) -> Result<LaneRef, NotUnderstood> {
    let environment = match message.text(&["environment", "id"]) {
        Some(id) => stated_environment(names, id, ENVIRONMENT_AT)?,
        None => names.environment(None).map_err(|error| unmapped("/subject/content/environment", &error))?,
    };
    let service = match message.custom.scope("service")? {
        Some(id) => stated_service(names, &id, &member(CUSTOM_DATA, "service"))?,
        None => stated_service(names, &message.subject_id, SUBJECT_AT)?,
    };
    Ok(LaneRef { environment, service, target: target(names, &message.custom)? })
}

/// Returns the members of the data that name a lane.
pub(super) fn lane_data(lane: &LaneRef) -> Data {
    Data::default()
        .put("environment", lane.environment.as_str())
        .put("service", lane.service.as_str())
        .optional("target", lane.target.as_ref().map(TargetName::as_str))
}

fn not_blank(id: &str, at: &str) -> Result<(), NotUnderstood> {
    if id.trim().is_empty() { Err(NotUnderstood::new(at, "must not be blank")) } else { Ok(()) }
}

fn unmapped(at: &str, error: &UnmappedName) -> NotUnderstood {
    NotUnderstood::new(at, error.to_string())
}
