//! Server-sent events: streams rollback entries as the ledger records them.

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

use crate::history::entry_body;
use crate::parameters::{StrictQuery, parse, parse_optional, parse_position};
use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// Entries per read.
const PAGE_SIZE: u32 = 100;
/// Interval of reads while no notification of progress arrives.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Query parameters of the rollback stream.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Send only rollbacks of this environment.
    environment: Option<String>,
    /// Send entries after this position; by default, entries recorded from now on. The header `Last-Event-ID` takes
    /// precedence.
    after: Option<String>,
}

/// Follow rollbacks
///
/// Sends every rollback entry as the ledger records it: the event name is the event type (`rollback.requested`), the
/// id is the position, the data is the entry. A client that reconnects with `Last-Event-ID` misses no entry.
#[utoipa::path(
    get,
    path = "/rollbacks/stream",
    operation_id = "followRollbacks",
    tag = "rollback",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header,
            description = "Position of the last event that the client received"),
    ),
    responses(
        (status = 200, description = "Rollback entries", body = String, content_type = "text/event-stream"),
        (status = "4XX", description = "Invalid request",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn follow_rollbacks(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<StreamQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let environment = parse_optional("environment", query.environment.as_deref(), EnvironmentName::parse)?;
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let after = match last {
        Some(last) => Some(parse("Last-Event-ID", last, parse_position)?),
        None => parse_optional("after", query.after.as_deref(), parse_position)?,
    };
    let after = match after {
        Some(after) => after,
        None => ledger.projections.checkpoint().await?.position,
    };
    let shutdown = ledger.shutdown();
    let follower = Follower { ledger, environment, after, ready: Vec::new() };
    let events = stream::unfold(follower, |mut follower| async move {
        let row = follower.next().await;
        Some((Ok(sse_event(row)), follower))
    });
    let events = futures::StreamExt::take_until(events, shutdown.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Follower {
    ledger: TenantLedger,
    environment: Option<EnvironmentName>,
    after: Position,
    /// Rows that are read but not sent, in descending order of position.
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
                Ok(0) => self.ledger.projections.moved(from, POLL_INTERVAL).await,
                Ok(_) => {}
                Err(error) => {
                    warn!(%error, "rollback stream cannot read the projections; retrying");
                    tokio::time::sleep(POLL_INTERVAL).await;
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
        let (projected, mut rows) = self.ledger.projections.events(&filter, self.after, PAGE_SIZE).await?;
        self.after = match rows.last() {
            Some(last) => last.position,
            None => self.after.max(projected),
        };
        rows.retain(|row| row.repeats.is_none());
        rows.reverse();
        self.ready = rows;
        Ok(self.ready.len())
    }
}

/// Returns an entry as a server-sent event. An entry that cannot be serialized becomes a comment, so that it does not
/// end the stream.
fn sse_event(row: EventRow) -> Event {
    let position = row.position.to_string();
    let kind = row.kind;
    let json = entry_body(row).ok().and_then(|entry| serde_json::to_string(&entry).ok());
    match json {
        Some(data) => Event::default().id(position).event(kind.name()).data(data),
        None => Event::default().comment(format!("cannot serialize the entry at position {position}")),
    }
}
