//! Changes of access: events of the tenant `_admin`.
//!
//! Invariant: the identity of a change is derived from what it changes, so that the ledger records it once, however often
//! the client sends it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, SubsecRound as _, Utc};
use ledger_api_types::{EventResult, EventsBody};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Actor, Event, Payload};
use ledger_domain::{EventId, Identity, LongText, Source, TenantName};
use serde::Deserialize;
use serde_json::json;

use super::address::AddressError;
use super::connection::{Client, Error, ServiceFlags};
use super::credentials::Surroundings;
use super::output::print_json_or_text;
use super::query::{head, read, with_param};
use super::retry::retry;
use super::{actor, identity};
use crate::{clock, environment};

/// Flags of every change.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ChangeArgs {
    /// The actor, if the service does not authenticate its clients: a person's name, or TYPE:NAME [default: the user who
    /// runs the command]
    #[arg(long, value_name = "NAME|TYPE:NAME", value_parser = actor::parse)]
    by: Option<Actor>,
    /// Time limit for sending the change again while the service is unavailable
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_for: u64,
    #[command(flatten)]
    service: ServiceFlags,
}

impl ChangeArgs {
    /// Creates the client of the tenant `_admin`; returns the tenant of the context as well.
    pub(super) fn client(&self, surroundings: &Surroundings) -> Result<(Client, TenantName), AddressError> {
        let mut of_context = TenantName::default();
        let choose = |tenant| {
            of_context = tenant;
            TenantName::admin()
        };
        let (client, _) = self.service.clone().client(choose, surroundings)?;
        Ok((client, of_context))
    }

    /// Records a change; returns its position.
    ///
    /// # Errors
    /// The service rejects the change, or does not answer.
    pub(super) async fn record(
        &self,
        client: &Client,
        id: &str,
        payload: Payload,
        reason: Option<LongText>,
    ) -> anyhow::Result<u64> {
        let user = || actor::parse(&format!("person:{}", environment::user()?)).ok();
        let actor = self.by.clone().or_else(user);
        let event = compose(id, clock::now(), payload, actor, reason)?;
        record(client, &event, Duration::from_secs(self.retry_for)).await
    }
}

/// Composes a change.
pub(super) fn compose(
    id: &str,
    at: DateTime<Utc>,
    payload: Payload,
    actor: Option<Actor>,
    reason: Option<LongText>,
) -> anyhow::Result<Envelope> {
    let identity = Identity { source: Source::parse(identity::SOURCE)?, id: EventId::parse(id)? };
    let event = Event { payload, actor, sender: None, reason, links: Vec::new(), corrects: None };
    Ok(Envelope::compose(identity, at.trunc_subsecs(6), event)?)
}

/// Records a change, and sends it again while the service is unavailable; returns its position.
///
/// # Errors
/// The service rejects the change, or does not answer.
pub(super) async fn record(client: &Client, event: &Envelope, retry_for: Duration) -> anyhow::Result<u64> {
    let may_be_recorded = &AtomicBool::new(false);
    let send = move || async move {
        let sent = client.record_one(event.bytes().clone()).await;
        if let Err(error) = &sent
            && error.is_temporary()
            && !matches!(error, Error::Unreachable { .. } | Error::Credentials(_))
        {
            may_be_recorded.store(true, Ordering::Relaxed);
        }
        let result: Result<EventResult, _> = serde_json::from_slice(&sent?);
        result.map_err(|error| client.invalid_response(error.to_string()))
    };
    match retry(retry_for, send).await {
        Ok(result) => result.position.context("the change has no position"),
        Err(error) if !may_be_recorded.load(Ordering::Relaxed) => Err(error.into()),
        // The service checks a change before it looks for a duplicate: the first attempt may have been recorded.
        Err(error) => match find(client, event).await {
            Ok(Some(position)) => Ok(position),
            Ok(None) if !error.is_temporary() => Err(error.into()),
            _ => Err(anyhow::Error::from(error).context(Unknown)),
        },
    }
}

/// Prints a change of a named item: `{"KIND":"NAME","position":N}`, or a sentence.
pub(super) fn print_change(
    json: bool,
    (kind, name): (&str, &str),
    position: u64,
    text: &str,
) -> anyhow::Result<()> {
    let text = match json {
        true => json!({kind: name, "position": position}).to_string(),
        false => format!("{text} (position {position})"),
    };
    Ok(print_json_or_text(json, &text)?)
}

/// The answer to a change was lost.
#[derive(Debug, thiserror::Error)]
#[error("the change may or may not be recorded")]
pub(super) struct Unknown;

/// Time of an event.
#[derive(Debug, Deserialize)]
struct EventTime {
    time: DateTime<Utc>,
}

/// Returns the position of a change, if the tenant has it.
async fn find(client: &Client, event: &Envelope) -> anyhow::Result<Option<u64>> {
    let Identity { source, id } = event.identity();
    let url = with_param(client.url(&["events"]), "source", Some(source.as_str()));
    let url = with_param(with_param(url, "id", Some(id.as_str())), "wait_for", Some(head(client).await?));
    let body: EventsBody<EventTime> = read(&client.get(url).await?)?;
    let is_ours = |time: DateTime<Utc>| time == event.occurred_at();
    Ok(body.events.iter().find(|entry| is_ours(entry.event.time)).map(|entry| entry.position))
}
