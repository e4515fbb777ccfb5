//! Server-sent events: tooling learns of rollbacks as they are recorded.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream;
use ledger_domain::{EnvironmentName, Family, Kind as EventKind, Position};
use ledger_projections::{EventFilter, EventRow};
use serde::Deserialize;
use tracing::warn;
use utoipa::IntoParams;

use crate::history::EntryBody;
use crate::parameters::{StrictQuery, maybe, parse, position};
use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// Entries that are read at a time.
const PAGE: u32 = 100;
/// How often the projections are looked at, where nothing tells that they moved.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Which rollbacks, and from where.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Of this environment.
    environment: Option<String>,
    /// What was recorded after this position; what is recorded from now on, unless given. The header
    /// `Last-Event-ID` outranks it.
    after: Option<String>,
}

/// Follow rollbacks
///
/// Every step of every rollback's life as it is recorded: an event named by its type (`rollback.requested`),
/// with its position as id, and the entry as data. A client that comes back with `Last-Event-ID` misses
/// nothing.
#[utoipa::path(
    get,
    path = "/rollbacks/stream",
    operation_id = "followRollbacks",
    tag = "rollback",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The position of the last event that was received"),
    ),
    responses(
        (status = 200, description = "Entries, as they come", body = String, content_type = "text/event-stream"),
        (status = "4XX", description = "Not understood", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn follow_rollbacks(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<StreamQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let environment = maybe("environment", query.environment.as_deref(), EnvironmentName::parse)?;
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let after = match last {
        Some(last) => Some(parse("Last-Event-ID", last, position)?),
        None => maybe("after", query.after.as_deref(), position)?,
    };
    let after = match after {
        Some(after) => after,
        None => ledger.projections.checkpoint().await?.position,
    };
    let ending = ledger.ending();
    let follower = Follower { ledger, environment, after, ready: Vec::new() };
    let events = stream::unfold(follower, |mut follower| async move {
        let row = follower.next().await;
        Some((Ok(event(row)), follower))
    });
    let events = futures::StreamExt::take_until(events, ending.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Follower {
    ledger: TenantLedger,
    environment: Option<EnvironmentName>,
    after: Position,
    /// What is read already, the last first.
    ready: Vec<EventRow>,
}

impl Follower {
    async fn next(&mut self) -> EventRow {
        loop {
            if let Some(row) = self.ready.pop() {
                return row;
            }
            let from = self.ledger.projections.projected();
            match self.read().await {
                Ok(0) => self.ledger.projections.moved(from, LOOK_AGAIN).await,
                Ok(_) => {}
                Err(error) => {
                    warn!(%error, "a follower of rollbacks waits for the projections");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<usize, ledger_projections::Error> {
        let kinds = EventKind::ALL.iter().copied().filter(|kind| kind.family() == Family::Rollback);
        let filter = EventFilter {
            environment: self.environment.clone(),
            kinds: kinds.collect(),
            ..EventFilter::default()
        };
        let (projections, mut rows) = self.ledger.projections.events(&filter, self.after, PAGE).await?;
        self.after = match rows.last() {
            Some(last) => last.position,
            None => self.after.max(projections),
        };
        rows.retain(|row| row.repeats.is_none());
        rows.reverse();
        self.ready = rows;
        Ok(self.ready.len())
    }
}

/// An entry as an event: what cannot be written as one is told as a comment, and does not end the stream.
fn event(row: EventRow) -> Event {
    let position = row.position.to_string();
    let kind = row.kind;
    let written = EntryBody::of(row).ok().and_then(|entry| serde_json::to_string(&entry).ok());
    match written {
        Some(data) => Event::default().id(position).event(kind.name()).data(data),
        None => Event::default().comment(format!("position {position} cannot be shown")),
    }
}
