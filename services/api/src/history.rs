//! The history: which entries there are, and how far the ledger goes.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use ledger_domain::{EnvironmentName, EventId, Identity, Kind as EventKind, Position, ServiceName, Source};
use ledger_ingest::UnknownLane;
use ledger_projections::{EventFilter, EventRow, PAGE_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::parameters::{StrictQuery, WaitQuery, at, maybe, parse, position, wait};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// An entry of the ledger.
#[derive(Serialize, ToSchema)]
pub(crate) struct EntryBody {
    /// Its place in the ledger.
    position: u64,
    /// When the stream stored it.
    recorded_at: DateTime<Utc>,
    /// SHA-256(0x00 ‖ the event's bytes): its leaf in the Merkle tree.
    leaf_hash: String,
    /// The position of the entry whose identity it repeats: then it has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<u64>,
    /// What contradicts what the ledger knew: `late`, `removed_nothing`, `switched_to_empty_slot`, `switch_pending`,
    /// `during_freeze`, `ambiguous_target`, `straddles_change`, `counts_contradict`, `environment_retired`, `corrects_nothing`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anomalies: Vec<String>,
    /// The names that it was the first to bring: `environment`, `service`, `target`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    new: Vec<String>,
    /// The version that its lane ran from here on, where the event changed that: also by a switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    went_live: Option<String>,
    /// The target that it is about, also where it named none and the service has only this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The targets that it could have meant, where it named none of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    /// Where the lane ran the release that it runs from here on before, and another in between: the position at which that went
    /// live the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    returns_to: Option<u64>,
    /// The position of the event that corrects it: from there on it has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected_by: Option<u64>,
    /// By how many milliseconds it occurred after it was recorded: its emitter's clock is ahead by at least that.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
    /// The CloudEvent, byte for byte as it is stored.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
}

impl EntryBody {
    pub(crate) fn of(row: EventRow) -> Result<Self, Problem> {
        let text = std::str::from_utf8(&row.bytes).ok();
        let event = text.and_then(|text| RawValue::from_string(text.to_owned()).ok());
        let occurred_at = row.occurred_at;
        let ahead = (occurred_at - row.recorded_at).num_milliseconds();
        Ok(Self {
            position: row.position.get(),
            recorded_at: row.recorded_at,
            leaf_hash: row.leaf_hash.to_string(),
            repeats: row.repeats.map(Position::get),
            anomalies: row.anomalies,
            new: row.first_of,
            went_live: row.went_live,
            target: row.target,
            targets: row.targets,
            returns_to: row.returns_to.map(Position::get),
            corrected_by: row.corrected_by.map(Position::get),
            clock_ahead_ms: (ahead > 0).then_some(ahead),
            event: event.ok_or_else(|| {
                Problem::from(ledger_projections::Error::Inconsistent {
                    table: "events",
                    row: row.position.to_string(),
                    detail: "its bytes are not JSON".into(),
                })
            })?,
        })
    }
}

/// A page of the history.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventsBody {
    /// The position that the answer is true for.
    position: u64,
    /// The entries, by position.
    events: Vec<EntryBody>,
    /// Where the next page begins: pass it as `after`. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Of this environment.
    environment: Option<String>,
    /// Of this service.
    service: Option<String>,
    /// Of this type: `deploy.succeeded`, or the whole CloudEvents type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// With this CloudEvents source; goes with `id`.
    source: Option<String>,
    /// With this CloudEvents id; goes with `source`.
    id: Option<String>,
    /// After this position; 0 unless given.
    after: Option<String>,
    /// At most this many: 1 to 1000, 100 unless given.
    limit: Option<String>,
    /// Wait until the projections have this position.
    wait_for: Option<String>,
    /// How long to wait for it, in milliseconds: at most 30000, 5000 unless given.
    wait_ms: Option<String>,
}

impl EventsQuery {
    fn filter(&self) -> Result<EventFilter, Problem> {
        let identity = match (&self.source, &self.id) {
            (Some(source), Some(id)) => Some(Identity {
                source: parse("source", source, Source::parse)?,
                id: parse("id", id, EventId::parse)?,
            }),
            (None, None) => None,
            (Some(_), None) => return Err(Problem::parameter("id", "goes with source: both, or neither")),
            (None, Some(_)) => return Err(Problem::parameter("source", "goes with id: both, or neither")),
        };
        Ok(EventFilter {
            environment: maybe("environment", self.environment.as_deref(), EnvironmentName::parse)?,
            service: maybe("service", self.service.as_deref(), ServiceName::parse)?,
            kinds: maybe("type", self.kind.as_deref(), |text| {
                EventKind::parse_name(text).or_else(|_| EventKind::parse_type(text))
            })?
            .into_iter()
            .collect(),
            identity: identity.map(|identity| identity.key()),
            positions: Vec::new(),
        })
    }
}

/// List events
///
/// The history, by position; all conditions that are given must hold. A page ends after 8 MiB of events, however
/// few they are: `next` tells whether there is more.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "listEvents",
    tag = "events",
    params(EventsQuery),
    responses(
        (status = 200, description = "A page of the history", body = EventsBody),
        (status = "4XX", description = "Not understood", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_events(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<EventsQuery>,
) -> Result<Response, Problem> {
    let filter = query.filter()?;
    let after = maybe("after", query.after.as_deref(), position)?.unwrap_or(Position::START);
    let limit = maybe("limit", query.limit.as_deref(), |text| match text.parse::<u32>() {
        Ok(limit @ 1..=1000) => Ok(limit),
        _ => Err("must be a whole number from 1 to 1000"),
    })?
    .unwrap_or(100);
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    if let (Some(environment), Some(service)) = (&filter.environment, &filter.service) {
        let known = ledger.projections.snapshot().await?.lanes_ever(environment).await?;
        // A check or an approval may name a service before it is deployed.
        let (_, named) = ledger.projections.events(&filter, Position::START, 1).await?;
        if named.is_empty() {
            UnknownLane::check(environment, &known, Some(service), None)?;
        }
    }
    let (projections, rows) = ledger.projections.events(&filter, after, limit).await?;
    let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
    let full = rows.len() == limit as usize || bytes >= PAGE_BYTES;
    let next = rows.last().filter(|_| full).map(|row| row.position.get());
    let events = rows.into_iter().map(EntryBody::of).collect::<Result<_, _>>()?;
    Ok(at(projections, Json(EventsBody { position: projections.get(), events, next })))
}

/// Which entry.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EntryPath {
    /// The entry's position.
    position: String,
}

/// Get one event
///
/// The entry at a position. It never changes.
#[utoipa::path(
    get,
    path = "/events/{position}",
    operation_id = "getEvent",
    tag = "events",
    params(EntryPath, WaitQuery),
    responses(
        (status = 200, description = "The entry", body = EntryBody),
        (status = 304, description = "It has not changed: it never does"),
        (status = "4XX", description = "There is none", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_event(
    ledger: TenantLedger,
    Path(path): Path<EntryPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = parse("position", &path.position, position)?;
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let filter = EventFilter { positions: vec![wanted], ..EventFilter::default() };
    let (projections, rows) = ledger.projections.events(&filter, Position::START, 1).await?;
    let Some(row) = rows.into_iter().next() else {
        if ledger.projections.is_gap(wanted).await? {
            return Err(Problem::new(Kind::LostEntry, format!("the stream has lost the entry at {wanted}")));
        }
        let detail = format!("there is no entry at position {wanted}; the projections are at {projections}");
        return Err(Problem::new(Kind::UnknownPosition, detail));
    };
    let tag = HeaderValue::from_str(&format!("\"{}\"", row.leaf_hash));
    let tag = tag.map_err(|error| Problem::new(Kind::Internal, error))?;
    let fresh = headers.get(header::IF_NONE_MATCH) == Some(&tag);
    let kept = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
    ];
    if fresh {
        return Ok((StatusCode::NOT_MODIFIED, kept).into_response());
    }
    Ok(at(projections, (kept, Json(EntryBody::of(row)?))))
}

/// How far the ledger goes.
#[derive(Serialize, ToSchema)]
pub(crate) struct PositionBody {
    /// The position that questions are answered at.
    position: u64,
    /// The position of the last entry of the stream.
    head: u64,
    /// The root of the Merkle tree over the entries up to `position`.
    root: String,
}

/// Get the position
///
/// How far the ledger goes, how much of it the projections have, and the tree's root over that.
#[utoipa::path(
    get,
    path = "/position",
    operation_id = "getPosition",
    tag = "ledger",
    params(WaitQuery),
    responses(
        (status = 200, description = "The position", body = PositionBody),
        (status = "4XX", description = "Not understood", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_position(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let standing = ledger.projections.checkpoint().await?;
    // Asked after the projections, so that it is never behind them.
    let head = ledger.journal.head().await?.position;
    let body =
        PositionBody { position: standing.position.get(), head: head.get(), root: standing.root.to_string() };
    Ok(at(standing.position, Json(body)))
}
