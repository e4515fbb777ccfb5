//! Composes and records single events on behalf of commands.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, SubsecRound as _, Utc};
use ledger_api_types::EventResult;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Actor, Event, Payload};
use ledger_domain::{EventId, Identity, LongText, Source};

use super::author::Author;
use super::connection::{Client, Error};
use super::event_result::describe;
use super::retry::retry;
use crate::{clock, identity};

/// Composes an event as of now, with a new id.
pub(super) fn compose(payload: Payload, actor: &Actor, reason: Option<LongText>) -> anyhow::Result<Envelope> {
    compose_with_identity(identity::SOURCE, &identity::new_id(), clock::now(), payload, actor, reason)
}

/// Composes an event. The same arguments give the same event.
pub(super) fn compose_with_identity(
    source: &str,
    id: &str,
    occurred_at: DateTime<Utc>,
    payload: Payload,
    actor: &Actor,
    reason: Option<LongText>,
) -> anyhow::Result<Envelope> {
    let identity = Identity { source: Source::parse(source)?, id: EventId::parse(id)? };
    let event = Event {
        payload,
        actor: Some(actor.clone()),
        sender: None,
        reason,
        links: Vec::new(),
        corrects: None,
    };
    Ok(Envelope::compose(identity, occurred_at.trunc_subsecs(6), event)?)
}

/// Records an event and returns the result. Sends it again while the service is unavailable: the identity
/// makes that safe.
pub(super) async fn record_with_retry(
    client: &Client,
    event: &Envelope,
    retry_for: Duration,
) -> Result<EventResult, Error> {
    retry(retry_for, move || record_once(client, event)).await
}

async fn record_once(client: &Client, event: &Envelope) -> Result<EventResult, Error> {
    let body = client.record_one(event.bytes().clone()).await?;
    serde_json::from_slice(&body).map_err(|error| client.invalid_response(error.to_string()))
}

/// Composes and records an event, without retries; returns its position.
pub(super) async fn record_new(
    client: &Client,
    payload: Payload,
    author: &Author,
    reason: Option<LongText>,
) -> anyhow::Result<u64> {
    let result = record_once(client, &compose_by(author, payload, reason)?).await?;
    result.position.with_context(|| format!("the event has no position: {}", describe(&result)))
}

/// Composes an event of an author as of now, with a new id.
fn compose_by(author: &Author, payload: Payload, reason: Option<LongText>) -> anyhow::Result<Envelope> {
    let source = Source::parse(&author.source)?;
    let identity = Identity { source, id: EventId::parse(&identity::new_id())? };
    let event = Event {
        payload,
        actor: Some(author.actor.clone()),
        sender: None,
        reason,
        links: author.links.clone(),
        corrects: None,
    };
    Ok(Envelope::compose(identity, clock::now().trunc_subsecs(6), event)?)
}
