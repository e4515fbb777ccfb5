//! The effect of each event type of CDEvents in the ledger.

use super::message::Message;
use super::native::{Data, Native};
use super::place::{SUBJECT_AT, stated_environment};
use super::settings::Settings;
use super::{activity, approval, artifact, incident, service, testing};
use crate::translation::NotUnderstood;

/// Translates a message. A type without an effect is an activity.
pub(super) fn translate(message: &Message, settings: &Settings) -> Result<Native, NotUnderstood> {
    let effect = if message.is_standard { effect(message, settings)? } else { None };
    Ok(effect.unwrap_or_else(|| activity::reported(message, settings)))
}

fn effect(message: &Message, settings: &Settings) -> Result<Option<Native>, NotUnderstood> {
    match message.name.as_str() {
        // A rollback is a report of what runs now.
        "service.deployed" | "service.upgraded" | "service.rolledback" => {
            service::deployed(message, settings).map(Some)
        }
        "service.removed" => service::removed(message, settings).map(Some),
        "service.published" => service::published(message, settings),
        "environment.deleted" => retired(message, settings).map(Some),
        "artifact.packaged" => artifact::packaged(message),
        "testsuiterun.started" | "testcaserun.started" => testing::started(message, settings),
        "testsuiterun.finished" | "testcaserun.finished" => testing::finished(message, settings),
        "approval.closed" => approval::closed(message, settings),
        "incident.detected" | "incident.reported" => incident::opened(message, settings).map(Some),
        "incident.resolved" => incident::resolved(message, settings).map(Some),
        _ => Ok(None),
    }
}

/// Translates the deletion of an environment. Its id names it, as in other events; its name is for people.
fn retired(message: &Message, settings: &Settings) -> Result<Native, NotUnderstood> {
    let environment = stated_environment(&settings.names, &message.subject_id, SUBJECT_AT)?;
    let data = Data::default()
        .put("environment", environment.as_str())
        .actor(message.custom.actor())
        .reason(message.custom.text("reason").ok().flatten().as_deref())
        .links(&[], message);
    Ok(Native { kind: "environment.retired", subject: Some(environment.to_string()), data })
}
