//! Server-sent events: streams rollback entries as the ledger records them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use ledger_domain::{EnvironmentName, Position};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadEnvironment};
use crate::answers::CountedBytes;
use crate::budget::Exhausted;
use crate::parameters::{StrictQuery, parse, parse_optional, parse_position};
use crate::problem::{Kind, Problem};
use crate::rollback_feed::{FeedEntry, Page, Subscription, page};
use crate::tenant::TenantLedger;

/// Interval of comments while there is nothing to send. Without them, the service and the proxies before it would not
/// notice that a client is gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// Pause after the projections could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(200);

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
/// id is the position, the data is the entry. A client that reconnects with `Last-Event-ID` misses no entry. If the
/// service ends the stream of a client that reads too slowly, the last event is `end`, with the reason.
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
    ledger: Authorized<ReadEnvironment>,
    StrictQuery(query): StrictQuery<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let environment = parse_optional("environment", query.environment.as_deref(), EnvironmentName::parse)?;
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let after = match last {
        Some(last) => Some(parse("Last-Event-ID", last, parse_position)?),
        None => parse_optional("after", query.after.as_deref(), parse_position)?,
    };
    let projected = ledger.projections.checkpoint().await?.position;
    if let Some(after) = after.filter(|after| *after > projected) {
        let head = ledger.journal.head().await?.position;
        if after > head {
            let detail = format!("cannot follow after position {after}: the ledger ends at {head}");
            return Err(Problem::new(Kind::PositionAhead, detail));
        }
    }
    let subscription = ledger.rollback_feeds().subscribe(&ledger.projections)?;
    let shutdown = ledger.shutdown();
    let follower = Follower {
        ledger: ledger.into_ledger(),
        subscription,
        environment,
        after: after.unwrap_or(projected),
    };
    let events = follower.events().take_until(shutdown.cancelled_owned()).map(Ok::<_, Infallible>);
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// A client that follows rollbacks.
struct Follower {
    ledger: TenantLedger,
    subscription: Subscription,
    environment: Option<EnvironmentName>,
    /// Position up to which the client has all entries.
    after: Position,
}

/// What a follower does next.
enum Step {
    /// It reads the entries up to the position at which it can join the feed.
    CatchUp(Follower),
    /// It sends entries of the feed.
    Live(Follower, Receiver<FeedEntry>),
    /// The stream ends.
    End,
}

impl Follower {
    /// Returns the events for the client: first those before the feed, then those of the feed.
    fn events(self) -> BoxStream<'static, Bytes> {
        let steps = stream::unfold(Step::CatchUp(self), |step| async move {
            match step {
                Step::CatchUp(follower) => Some(follower.catch_up().await),
                Step::Live(follower, entries) => Some(follower.live(entries).await),
                Step::End => None,
            }
        });
        steps.flat_map(stream::iter).boxed()
    }

    /// Joins the feed if the client has all entries before it, or reads a page of those.
    async fn catch_up(mut self) -> (Vec<Bytes>, Step) {
        let (entries, from) = self.subscription.entries().await;
        if self.after >= from {
            return (Vec::new(), Step::Live(self, entries));
        }
        drop(entries);
        if self.ledger.tenancy().check_reads(self.environment.as_ref()).is_err() {
            return (vec![end("the client may not read it any more")], Step::End);
        }
        match page(&self.ledger.projections, self.environment.as_ref(), self.after).await {
            Ok(page) => {
                self.after = page.position;
                if page.is_last && self.after < from {
                    // The tables lost their last entries in a crash, and the projector is about to apply them again.
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                match self.counted(page) {
                    Ok(events) => (events, Step::CatchUp(self)),
                    Err(_) => (vec![end("all unread answers take too much memory")], Step::End),
                }
            }
            Err(_) => {
                tokio::time::sleep(RETRY_DELAY).await;
                (Vec::new(), Step::CatchUp(self))
            }
        }
    }

    /// Returns the events of a page. They count as an answer until the client has taken them.
    fn counted(&self, page: Page) -> Result<Vec<Bytes>, Exhausted> {
        let mut share = self.ledger.answer_share();
        self.ledger.tenancy().activity().add_reads(page.entries.len());
        share.resize(page.entries.iter().map(|entry| entry.event.len()).sum())?;
        let share = Arc::new(share);
        let events = page.entries.into_iter();
        Ok(events.map(|entry| CountedBytes::attach(entry.event, Arc::clone(&share))).collect())
    }

    /// Waits for the next entry of the feed.
    async fn live(mut self, mut entries: Receiver<FeedEntry>) -> (Vec<Bytes>, Step) {
        let next = next_event(&mut entries, &mut self.after, self.environment.as_ref()).await;
        // The client may have lost the right to read since it began.
        if self.ledger.tenancy().check_reads(self.environment.as_ref()).is_err() {
            return (vec![end("the client may not read it any more")], Step::End);
        }
        match next {
            Next::Event(event) => {
                self.ledger.tenancy().activity().add_reads(usize::from(!is_comment(&event)));
                (vec![event], Step::Live(self, entries))
            }
            Next::Nothing => (Vec::new(), Step::Live(self, entries)),
            Next::TooSlow => (vec![end("the client reads too slowly")], Step::End),
            Next::Closed => (Vec::new(), Step::End),
        }
    }
}

/// Returns true for what keeps the connection alive.
fn is_comment(event: &[u8]) -> bool {
    event.starts_with(b":")
}

/// What comes next on a stream.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Event(Bytes),
    /// An entry that the client has, or does not want.
    Nothing,
    /// Entries were dropped, because the client did not take those before them.
    TooSlow,
    /// The feed has ended.
    Closed,
}

/// Waits for the next entry of the feed after `after`, which then is its position.
async fn next_event(
    entries: &mut Receiver<FeedEntry>,
    after: &mut Position,
    environment: Option<&EnvironmentName>,
) -> Next {
    match timeout(KEEP_ALIVE_INTERVAL, entries.recv()).await {
        Err(_) => Next::Event(KEEP_ALIVE),
        Ok(Err(RecvError::Closed)) => Next::Closed,
        Ok(Err(RecvError::Lagged(_))) => Next::TooSlow,
        // The client received it before it joined the feed.
        Ok(Ok(entry)) if entry.position <= *after => Next::Nothing,
        Ok(Ok(entry)) => {
            *after = entry.position;
            let is_wanted = environment.is_none() || entry.environment.as_ref() == environment;
            if is_wanted { Next::Event(entry.event) } else { Next::Nothing }
        }
    }
}

/// Returns the last event of a stream that the service ends early.
fn end(reason: &str) -> Bytes {
    let data = serde_json::json!({ "detail": format!("{reason}; reconnect with Last-Event-ID") });
    format!("event: end\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    fn environment(name: &str) -> EnvironmentName {
        EnvironmentName::parse(name).expect("a name")
    }

    fn entry(position: u64, name: &str) -> FeedEntry {
        let event = Bytes::from(position.to_string());
        FeedEntry { position: Position::new(position), environment: Some(environment(name)), event }
    }

    #[tokio::test]
    async fn a_client_receives_the_entries_of_its_environment_that_it_does_not_have() {
        let (sender, mut entries) = broadcast::channel(8);
        for entry in [entry(3, "a"), entry(4, "a"), entry(5, "b"), entry(6, "a")] {
            sender.send(entry).expect("a receiver");
        }
        let mut after = Position::new(3);
        let mut next = async || next_event(&mut entries, &mut after, Some(&environment("a"))).await;

        assert_eq!(next().await, Next::Nothing);
        assert_eq!(next().await, Next::Event(Bytes::from("4")));
        assert_eq!(next().await, Next::Nothing);
        assert_eq!(next().await, Next::Event(Bytes::from("6")));
    }

    #[tokio::test]
    async fn the_stream_of_a_client_that_lost_entries_ends() {
        let (sender, mut entries) = broadcast::channel(2);
        for position in 1..=4 {
            sender.send(entry(position, "a")).expect("a receiver");
        }

        let next = next_event(&mut entries, &mut Position::new(0), None).await;

        assert_eq!(next, Next::TooSlow);
    }

    #[test]
    fn the_last_event_says_why_and_leaves_the_last_id() {
        let event = end("the client reads too slowly");

        let text = String::from_utf8_lossy(&event);
        assert_eq!(
            text,
            "event: end\ndata: {\"detail\":\"the client reads too slowly; reconnect with Last-Event-ID\"}\n\n"
        );
    }
}
