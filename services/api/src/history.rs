//! History: the entries of the ledger, and its position.

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

use crate::parameters::{
    StrictQuery, WaitQuery, parse, parse_optional, parse_position, wait_for_position, with_position,
};
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Entry of the ledger.
#[derive(Serialize, ToSchema)]
pub(crate) struct EntryBody {
    /// Position of the entry.
    position: u64,
    /// Time at which the stream stored it.
    recorded_at: DateTime<Utc>,
    /// Leaf hash in the Merkle tree: SHA-256(0x00 ‖ the event's bytes).
    leaf_hash: String,
    /// Position of the earlier entry with the same identity. A repeat has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<u64>,
    /// Contradictions with the ledger's earlier state: `late`, `removed_nothing`, `switched_to_empty_slot`,
    /// `switch_pending`, `during_freeze`, `ambiguous_target`, `straddles_change`, `counts_contradict`,
    /// `environment_retired`, `corrects_nothing`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anomalies: Vec<String>,
    /// Kinds of names that this entry introduces: `environment`, `service`, `target`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    new: Vec<String>,
    /// Version that its lane runs from here on, if the event changed it (by a deploy or a traffic switch).
    #[serde(skip_serializing_if = "Option::is_none")]
    went_live: Option<String>,
    /// Target concerned, even if the event names none and the service has only this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Candidate targets, if the event names none and the service has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    /// If the lane returns to a release that it ran before another one: the position at which that release last went
    /// live.
    #[serde(skip_serializing_if = "Option::is_none")]
    returns_to: Option<u64>,
    /// Position of the event that corrects it: from that position on, this entry has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected_by: Option<u64>,
    /// Milliseconds by which it occurred after it was recorded, a lower bound of the emitter's clock skew.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
    /// The CloudEvent, byte for byte as stored.
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

/// Page of the history.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventsBody {
    /// Ledger position that the response reflects.
    position: u64,
    /// Entries, by position.
    events: Vec<EntryBody>,
    /// Cursor of the next page: pass it as `after`. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Query parameters of the history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events of this environment.
    environment: Option<String>,
    /// Only events of this service.
    service: Option<String>,
    /// Only events of this type: `deploy.succeeded`, or the full CloudEvents type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Only events with this CloudEvents source; requires `id`.
    source: Option<String>,
    /// Only events with this CloudEvents id; requires `source`.
    id: Option<String>,
    /// Only entries after this position, by default 0.
    after: Option<String>,
    /// Page size: 1 to 1000, by default 100.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
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
            (Some(_), None) => return Err(Problem::parameter("id", "is required with source")),
            (None, Some(_)) => return Err(Problem::parameter("source", "is required with id")),
        };
        Ok(EventFilter {
            environment: parse_optional("environment", self.environment.as_deref(), EnvironmentName::parse)?,
            service: parse_optional("service", self.service.as_deref(), ServiceName::parse)?,
            kinds: parse_optional("type", self.kind.as_deref(), |text| {
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
/// Lists the history by position. An entry must match all given conditions. A page also ends after 8 MiB of events:
/// more pages follow if, and only if, `next` is present.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "listEvents",
    tag = "events",
    params(EventsQuery),
    responses(
        (status = 200, description = "Page of the history", body = EventsBody),
        (status = "4XX", description = "Invalid request",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_events(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<EventsQuery>,
) -> Result<Response, Problem> {
    let filter = query.filter()?;
    let after = parse_optional("after", query.after.as_deref(), parse_position)?.unwrap_or(Position::START);
    let limit = parse_optional("limit", query.limit.as_deref(), |text| match text.parse::<u32>() {
        Ok(limit @ 1..=1000) => Ok(limit),
        _ => Err("must be a whole number from 1 to 1000"),
    })?
    .unwrap_or(100);
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    if let (Some(environment), Some(service)) = (&filter.environment, &filter.service) {
        let lanes = ledger.projections.snapshot().await?.all_lanes(environment).await?;
        // A check or an approval may name a service before its first deploy.
        let (_, named) = ledger.projections.events(&filter, Position::START, 1).await?;
        if named.is_empty() {
            UnknownLane::check(environment, &lanes, Some(service), None)?;
        }
    }
    let (projected, rows) = ledger.projections.events(&filter, after, limit).await?;
    let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
    let full = rows.len() == limit as usize || bytes >= PAGE_BYTES;
    let next = rows.last().filter(|_| full).map(|row| row.position.get());
    let events = rows.into_iter().map(EntryBody::of).collect::<Result<_, _>>()?;
    Ok(with_position(projected, Json(EventsBody { position: projected.get(), events, next })))
}

/// Path parameter that names an entry.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EntryPath {
    /// Position of the entry.
    position: String,
}

/// Get one event
///
/// Returns the entry at a position. An entry never changes.
#[utoipa::path(
    get,
    path = "/events/{position}",
    operation_id = "getEvent",
    tag = "events",
    params(EntryPath, WaitQuery),
    responses(
        (status = 200, description = "Entry", body = EntryBody),
        (status = 304, description = "Not modified"),
        (status = "4XX", description = "Invalid request, or unknown position",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_event(
    ledger: TenantLedger,
    Path(path): Path<EntryPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = parse("position", &path.position, parse_position)?;
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let filter = EventFilter { positions: vec![wanted], ..EventFilter::default() };
    let (projected, rows) = ledger.projections.events(&filter, Position::START, 1).await?;
    let Some(row) = rows.into_iter().next() else {
        if ledger.projections.is_gap(wanted).await? {
            return Err(Problem::new(
                Kind::LostEntry,
                format!("the stream has lost the entry at position {wanted}"),
            ));
        }
        let detail = format!("no entry at position {wanted}; the projections are at {projected}");
        return Err(Problem::new(Kind::UnknownPosition, detail));
    };
    let tag = HeaderValue::from_str(&format!("\"{}\"", row.leaf_hash));
    let tag = tag.map_err(|error| Problem::new(Kind::Internal, error))?;
    let not_modified = headers.get(header::IF_NONE_MATCH) == Some(&tag);
    let cache_headers = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
    ];
    if not_modified {
        return Ok((StatusCode::NOT_MODIFIED, cache_headers).into_response());
    }
    Ok(with_position(projected, (cache_headers, Json(EntryBody::of(row)?))))
}

/// Progress of the ledger and of its projections.
#[derive(Serialize, ToSchema)]
pub(crate) struct PositionBody {
    /// Position of the projections: queries reflect it.
    position: u64,
    /// Position of the last entry of the stream.
    head: u64,
    /// Root of the Merkle tree over the entries up to `position`.
    root: String,
}

/// Get the position
///
/// Returns the position of the projections, the head of the stream, and the Merkle root over the projected entries.
#[utoipa::path(
    get,
    path = "/position",
    operation_id = "getPosition",
    tag = "ledger",
    params(WaitQuery),
    responses(
        (status = 200, description = "Position", body = PositionBody),
        (status = "4XX", description = "Invalid request",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_position(
    ledger: TenantLedger,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let checkpoint = ledger.projections.checkpoint().await?;
    // Read after the checkpoint, so that the head is never behind it.
    let head = ledger.journal.head().await?.position;
    let body = PositionBody {
        position: checkpoint.position.get(),
        head: head.get(),
        root: checkpoint.root.to_string(),
    };
    Ok(with_position(checkpoint.position, Json(body)))
}
