//! Server-sent events: streams entries as the ledger records them.

mod follower;

use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use ledger_domain::{Family, Kind as EventKind, Position};
use ledger_projections::EventFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use self::follower::{Follower, Progress};
use crate::access::{Authorized, ReadEnvironment, ReadHistory};
use crate::conditions::Conditions;
use crate::feed_entry::{Format, Selection};
use crate::parameters::{StrictQuery, parse, parse_optional, parse_position};
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;
use crate::tenant::TenantLedger;

/// Header that keeps nginx from holding back events until its buffer is full.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Query parameters of the event stream.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventStreamQuery {
    /// Only events of this environment.
    environment: Option<String>,
    /// Only events of this service.
    service: Option<String>,
    /// Only events of these types, separated by commas: `deploy.succeeded`, the full CloudEvents type, or a family
    /// (`deploy`), which stands for all its types.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Only events whose type ends in one of these words, separated by commas: `succeeded`, `failed`.
    status: Option<String>,
    /// Only events of this target.
    target: Option<String>,
    /// Only events of the actor with this name, by the sender or only claimed.
    actor: Option<String>,
    /// Only events that name a commit that begins with these characters, in either case. A commit that was recorded
    /// shortened, by 7 digits or more, is found by the whole one.
    commit: Option<String>,
    /// Only events that name this artifact: a package URL, an OCI reference by digest, or a digest.
    artifact: Option<String>,
    /// Only events with this `correlationid`, such as those of one run of a pipeline.
    correlation: Option<String>,
    /// Only events with this `causationid`: those that the event with this id led to.
    causation: Option<String>,
    /// Send entries after this position; by default, entries recorded from now on. The header `Last-Event-ID` takes
    /// precedence.
    after: Option<String>,
    /// Format of the data: `ledger`, the default, is the entry as in the history; `cdevents` is the event as a CDEvent.
    format: Option<String>,
    #[param(ignore)]
    since: Option<String>,
    #[param(ignore)]
    until: Option<String>,
    #[param(ignore)]
    source: Option<String>,
    #[param(ignore)]
    id: Option<String>,
}

impl EventStreamQuery {
    /// Rejects `since`, `until`, `source` and `id`, which `GET /v1/events` has: a stream sends entries as they are
    /// recorded, so these select nothing useful.
    fn reject_list_conditions(&self) -> Result<(), Problem> {
        let given =
            [("since", &self.since), ("until", &self.until), ("source", &self.source), ("id", &self.id)];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => {
                let detail = "is not supported by a stream; use after, or query GET /v1/events";
                Err(Problem::parameter(name, detail))
            }
            None => Ok(()),
        }
    }
}

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

/// Follow events
///
/// Sends every entry that meets all given conditions, as the ledger records it: the event name is the event type
/// (`deploy.succeeded`), the id is the position, the data is the entry. A connection receives each entry once, by
/// position. A client that reconnects with `Last-Event-ID` misses no entry. The event `position` has no entry: all
/// entries up to its id, which is also its data (`{"position": 4711}`), have been sent. It is the first event of a
/// stream, and follows at least every 15 seconds if the position has changed. If the service ends the stream, the last
/// event is `end`, with the reason as `detail` and without an id.
#[utoipa::path(
    get,
    path = "/events/stream",
    operation_id = "followEvents",
    tag = "events",
    params(
        EventStreamQuery,
        ("Last-Event-ID" = Option<String>, Header,
            description = "Position of the last event that the client received"),
    ),
    responses(
        (status = 200, description = "Entries", body = String, content_type = "text/event-stream"),
        ProblemResponses,
    )
)]
pub(crate) async fn follow_events(
    ledger: Authorized<ReadHistory>,
    StrictQuery(query): StrictQuery<EventStreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query.reject_list_conditions()?;
    let conditions = Conditions {
        environment: query.environment.as_deref(),
        service: query.service.as_deref(),
        kinds: query.kind.as_deref(),
        status: query.status.as_deref(),
        target: query.target.as_deref(),
        actor: query.actor.as_deref(),
        commit: query.commit.as_deref(),
        artifact: query.artifact.as_deref(),
        correlation: query.correlation.as_deref(),
        causation: query.causation.as_deref(),
    };
    let format = parse_optional("format", query.format.as_deref(), parse_format)?.unwrap_or_default();
    let selection = Selection { filter: conditions.filter()?, only_first: false, format };
    let after = start(query.after.as_deref(), &headers)?;
    follow(ledger.into_ledger(), selection, Progress::Event, after).await
}

/// Follow rollbacks
///
/// Sends every rollback entry as the ledger records it: the event name is the event type (`rollback.requested`), the
/// id is the position, the data is the entry. A client that reconnects with `Last-Event-ID` misses no entry. If the
/// service ends the stream, the last event is `end`, with the reason. `GET /v1/events/stream` sends all events.
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
        ProblemResponses,
    )
)]
pub(crate) async fn follow_rollbacks(
    ledger: Authorized<ReadEnvironment>,
    StrictQuery(query): StrictQuery<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let conditions = Conditions { environment: query.environment.as_deref(), ..Conditions::default() };
    let kinds = EventKind::ALL.iter().copied().filter(|kind| kind.family() == Family::Rollback);
    let filter = EventFilter { kinds: kinds.collect(), ..conditions.filter()? };
    let selection = Selection { filter, only_first: true, format: Format::Ledger };
    let after = start(query.after.as_deref(), &headers)?;
    follow(ledger.into_ledger(), selection, Progress::Id, after).await
}

fn parse_format(text: &str) -> Result<Format, &'static str> {
    match text {
        "ledger" => Ok(Format::Ledger),
        "cdevents" => Ok(Format::CdEvents),
        _ => Err("must be ledger or cdevents"),
    }
}

/// Returns the position after which a client wants the entries, if it states one.
fn start(after: Option<&str>, headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    match last {
        Some(last) => Ok(Some(parse("Last-Event-ID", last, parse_position)?)),
        None => parse_optional("after", after, parse_position),
    }
}

/// Returns the stream of the entries after a position, by default from now on.
async fn follow(
    ledger: TenantLedger,
    selection: Selection,
    progress: Progress,
    after: Option<Position>,
) -> Result<Response, Problem> {
    let projected = ledger.projections.checkpoint().await?.position;
    if let Some(after) = after.filter(|after| *after > projected) {
        let head = ledger.journal.head().await?.position;
        if after > head {
            let detail = format!("cannot follow after position {after}: the ledger ends at {head}");
            return Err(Problem::new(Kind::PositionAhead, detail));
        }
    }
    let after = after.unwrap_or(projected);
    let feed = ledger.entry_feeds().subscribe(&ledger.projections, ledger.tenancy().principal())?;
    let lane = (selection.filter.environment.as_ref(), selection.filter.service.as_ref());
    ledger.record_stream(lane, after, projected).await?;
    let follower = Follower::new(ledger, feed, selection, progress, after);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (ACCEL_BUFFERING, "no"),
    ];
    Ok((headers, follower.into_body()).into_response())
}
