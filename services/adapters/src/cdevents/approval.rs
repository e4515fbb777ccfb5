//! Approvals that name in `customData` what they approve: a rollback of an environment, or a deploy of a version to a
//! service.
//!
//! Only a closed approval is an answer. An update may be the first of several decisions, and the approval may still be
//! rejected, cancelled or expire.

use ledger_domain::{LaneRef, ShortText};

use super::custom_data::{AT as CUSTOM_DATA, NamedActor};
use super::json::member;
use super::message::Message;
use super::native::{Data, Native};
use super::place::{lane_data, stated_environment, stated_service, target};
use super::release::release;
use super::settings::Settings;
use crate::translation::NotUnderstood;

/// Translates the end of an approval. Returns `None` if it names nothing in the ledger, ended without an answer, or if
/// the decision of the responder is not its result.
pub(super) fn closed(message: &Message, settings: &Settings) -> Result<Option<Native>, NotUnderstood> {
    let kind = match (message.text(&["status"]), message.text(&["decision"])) {
        (Some("approved"), Some("approved")) => "approval.granted",
        (Some("rejected"), Some("rejected")) => "approval.rejected",
        _ => return Ok(None),
    };
    let Some((subject, data)) = what(message, settings)? else { return Ok(None) };
    let reason = message.custom.text("reason").ok().flatten();
    let links = [
        ("approval", message.text(&["approvalDetailsUrl"])),
        ("resource", message.text(&["resourceTargetUrl"])),
    ];
    let data = data.actor(Some(responder(message)?)).reason(reason.as_deref()).links(&links, message);
    Ok(Some(Native { kind, subject: Some(subject), data }))
}

/// Returns what is approved: the subject and the members of the data that name it.
fn what(message: &Message, settings: &Settings) -> Result<Option<(String, Data)>, NotUnderstood> {
    let (names, custom) = (&settings.names, &message.custom);
    let Some(environment) = custom.scope("environment")? else { return Ok(None) };
    let environment = stated_environment(names, &environment, &member(CUSTOM_DATA, "environment"))?;
    if let Some(rollback) = custom.parsed_scope("rollbackId", ShortText::parse)? {
        let data =
            Data::default().put("environment", environment.as_str()).put("rollback_id", rollback.as_str());
        return Ok(Some((environment.to_string(), data)));
    }
    let (Some(service), Some(_)) = (custom.scope("service")?, custom.scope("version")?) else {
        return Ok(None);
    };
    let service = stated_service(names, &service, &member(CUSTOM_DATA, "service"))?;
    let lane = LaneRef { environment, service, target: target(names, custom)? };
    let release = release(None, &member(CUSTOM_DATA, "version"), custom)?;
    Ok(Some((lane.to_string(), lane_data(&lane).put("release", release))))
}

/// Returns the actor in `customData`, or the responder as a `user`: only an actor that the message calls a person is
/// one, since a responder may be a program.
fn responder(message: &Message) -> Result<NamedActor, NotUnderstood> {
    if let Some(actor) = message.custom.actor() {
        return Ok(actor);
    }
    let name = message.text(&["responder"]).unwrap_or_default();
    let name = ShortText::parse(name)
        .map_err(|error| NotUnderstood::new("/subject/content/responder", error.to_string()))?;
    Ok(NamedActor { kind: "user".to_owned(), name: name.as_str().to_owned() })
}
