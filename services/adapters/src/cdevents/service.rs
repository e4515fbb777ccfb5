//! Events about services: deploys, removals, and the publication of a slot.

use ledger_domain::{ShortText, SlotName};

use super::message::Message;
use super::native::{Data, Native};
use super::place::{lane, lane_data};
use super::release::release;
use super::settings::Settings;
use crate::translation::NotUnderstood;

/// Translates the report that a service runs a release.
pub(super) fn deployed(message: &Message, settings: &Settings) -> Result<Native, NotUnderstood> {
    let release = release(message.text(&["artifactId"]), "/subject/content/artifactId", &message.custom)?;
    change("deploy.succeeded", message, settings, |data| data.put("release", release))
}

/// Translates the report that a service, or a slot of it, was removed.
pub(super) fn removed(message: &Message, settings: &Settings) -> Result<Native, NotUnderstood> {
    change("deploy.removed", message, settings, |data| data)
}

/// Translates the report that a service can be reached: in a slot, it is the switch of traffic to that slot. Returns
/// `None` if no slot is named.
pub(super) fn published(message: &Message, settings: &Settings) -> Result<Option<Native>, NotUnderstood> {
    if message.custom.scope("slot")?.is_none() {
        return Ok(None);
    }
    change("traffic.switched", message, settings, |data| data).map(Some)
}

fn change(
    kind: &'static str,
    message: &Message,
    settings: &Settings,
    with: impl FnOnce(Data) -> Data,
) -> Result<Native, NotUnderstood> {
    let custom = &message.custom;
    let lane = lane(message, &settings.names)?;
    let slot = custom.parsed_scope("slot", SlotName::parse)?;
    let deployment = custom.line("deploymentId")?;
    let data = lane_data(&lane)
        .optional("slot", slot.as_ref().map(SlotName::as_str))
        .optional("deployment", deployment.as_ref().map(ShortText::as_str));
    let data = with(data)
        .actor(custom.actor())
        .reason(custom.text("reason").ok().flatten().as_deref())
        .links(&[], message);
    Ok(Native { kind, subject: Some(lane.to_string()), data })
}
