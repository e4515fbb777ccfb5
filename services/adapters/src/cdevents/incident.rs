//! Incidents: opened when detected or reported, and resolved.

use ledger_domain::{LaneRef, ShortText};

use super::message::Message;
use super::native::{Data, Native};
use super::place::{ENVIRONMENT_AT, SUBJECT_AT, lane_data, stated_environment, stated_service, target};
use super::settings::Settings;
use crate::text::line;
use crate::translation::NotUnderstood;

/// Translates the detection or the report of an incident.
pub(super) fn opened(message: &Message, settings: &Settings) -> Result<Native, NotUnderstood> {
    let description = message.text(&["description"]);
    let title = description.and_then(|text| line(text.lines().find(|line| !line.trim().is_empty())?));
    let severity = message.custom.text("severity").ok().flatten();
    incident("incident.opened", message, settings, |data| {
        data.optional("title", title).optional("severity", severity.as_deref().and_then(line))
    })
}

/// Translates the resolution of an incident.
pub(super) fn resolved(message: &Message, settings: &Settings) -> Result<Native, NotUnderstood> {
    incident("incident.resolved", message, settings, |data| data)
}

fn incident(
    kind: &'static str,
    message: &Message,
    settings: &Settings,
    with: impl FnOnce(Data) -> Data,
) -> Result<Native, NotUnderstood> {
    let id = ShortText::parse_identifier(&message.subject_id)
        .map_err(|error| NotUnderstood::new(SUBJECT_AT, error.to_string()))?;
    let names = &settings.names;
    let environment = message.text(&["environment", "id"]).unwrap_or_default();
    let environment = stated_environment(names, environment, ENVIRONMENT_AT)?;
    let (subject, data) = match message.text(&["service", "id"]) {
        None => (environment.to_string(), Data::default().put("environment", environment.as_str())),
        Some(service) => {
            let service = stated_service(names, service, "/subject/content/service/id")?;
            let lane = LaneRef { environment, service, target: target(names, &message.custom)? };
            (lane.to_string(), lane_data(&lane))
        }
    };
    let own_reason = message.custom.text("reason").ok().flatten();
    let data = with(data.put("incident_id", id.as_str()))
        .actor(message.custom.actor())
        .reason(own_reason.as_deref().or_else(|| message.text(&["description"])))
        .links(&[("ticket", message.text(&["ticketURI"]))], message);
    Ok(Native { kind, subject: Some(subject), data })
}
