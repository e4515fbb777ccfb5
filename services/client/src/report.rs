//! Events that commands tell of by themselves, one at a time.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, SubsecRound as _, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Actor, Event, Payload};
use ledger_domain::{EventId, Identity, LongText, Source};

use super::answer::EventResult;
use super::connection::{Client, Error};
use super::patience::retry;
use crate::{clock, identity};

/// An event of our own with an id that no other has, as of now.
pub(super) fn composed(
    payload: Payload,
    actor: &Actor,
    reason: Option<LongText>,
) -> anyhow::Result<Envelope> {
    identified(identity::SOURCE, &identity::new_id(), clock::now(), payload, actor, reason)
}

/// An event of our own. The same arguments make the same event.
pub(super) fn identified(
    source: &str,
    id: &str,
    occurred_at: DateTime<Utc>,
    payload: Payload,
    actor: &Actor,
    reason: Option<LongText>,
) -> anyhow::Result<Envelope> {
    let identity = Identity { source: Source::parse(source)?, id: EventId::parse(id)? };
    let event = Event { payload, actor: Some(actor.clone()), reason, links: Vec::new(), corrects: None };
    Ok(Envelope::compose(identity, occurred_at.trunc_subsecs(6), event)?)
}

/// Records an event; answers what became of it. While the service does not take it, it is sent again:
/// identity makes that safe.
pub(super) async fn record(
    client: &Client,
    event: &Envelope,
    retry_for: Duration,
) -> Result<EventResult, Error> {
    retry(retry_for, move || once(client, event)).await
}

async fn once(client: &Client, event: &Envelope) -> Result<EventResult, Error> {
    let body = client.record_one(event.bytes().clone()).await?;
    let garbled =
        |error: serde_json::Error| Error::Garbled { url: client.ledger().clone(), detail: error.to_string() };
    serde_json::from_slice(&body).map_err(garbled)
}

/// Records an event once and for all; answers its position.
pub(super) async fn tell(
    client: &Client,
    payload: Payload,
    actor: &Actor,
    reason: Option<LongText>,
) -> anyhow::Result<u64> {
    let result = once(client, &composed(payload, actor, reason)?).await?;
    result.position.with_context(|| format!("no position: {result}"))
}
