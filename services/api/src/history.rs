//! History: the entries of the ledger, and its position.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_api_types::{EntryBody, EventsBody, PositionBody};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::access::Verb;
use ledger_domain::{EventId, Identity, Position, Source};
use ledger_ingest::UnknownLane;
use ledger_projections::{EventDetails, EventFilter, EventRow, ForeignEntry, PAGE_BYTES, PageStart};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::access::{Authorized, ReadHistory, ReadSome};
use crate::conditional::{entity_tag, names_tag};
use crate::conditions::Conditions;
use crate::entry::{cdevent, entry_body};
use crate::foreign::CDEVENTS_MEDIA_TYPE;
use crate::parameters::{
    StrictQuery, WaitQuery, parse, parse_optional, parse_position, wait_for_position, with_position,
};
use crate::point_parameters::parse_moment;
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;
use crate::request_stats::Shown;
use crate::tenant::TenantLedger;

/// Query parameters of the history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events of this environment.
    environment: Option<String>,
    /// Only events of this service.
    service: Option<String>,
    /// Only events of these types, separated by commas: `deploy.succeeded`, the full CloudEvents type, or `deploy` for all
    /// types of a family.
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
    /// Only events that occurred at this time or later, in the forms of times of the parameter `at` of the state. Further
    /// pages take the member `since` of the first one: a time ago moves on.
    since: Option<String>,
    /// Only events that occurred before this time, in the same forms.
    until: Option<String>,
    /// Only events with this CloudEvents source; requires `id`.
    source: Option<String>,
    /// Only events with this CloudEvents id; requires `source`.
    id: Option<String>,
    /// Only events with this `correlationid`, such as those of one run of a pipeline.
    correlation: Option<String>,
    /// Only events with this `causationid`: those that the event with this id led to.
    causation: Option<String>,
    /// Only entries after this position, by default 0.
    after: Option<String>,
    /// Only entries before this position; requires `order=desc`.
    before: Option<String>,
    /// Order by position: `asc` (the default) or `desc`.
    order: Option<String>,
    /// Page size: 1 to 1000, by default 100.
    limit: Option<String>,
    /// Wait until the projections have applied this position.
    wait_for: Option<String>,
    /// Time to wait for `wait_for`, in milliseconds: at most 30000, by default 5000.
    wait_ms: Option<String>,
}

impl EventsQuery {
    fn filter(&self, now: DateTime<Utc>) -> Result<EventFilter, Problem> {
        let identity = match (&self.source, &self.id) {
            (Some(source), Some(id)) => Some(Identity {
                source: parse("source", source, Source::parse)?,
                id: parse("id", id, EventId::parse)?,
            }),
            (None, None) => None,
            (Some(_), None) => return Err(Problem::parameter("id", "is required with source")),
            (None, Some(_)) => return Err(Problem::parameter("source", "is required with id")),
        };
        let conditions = Conditions {
            environment: self.environment.as_deref(),
            service: self.service.as_deref(),
            kinds: self.kind.as_deref(),
            status: self.status.as_deref(),
            target: self.target.as_deref(),
            actor: self.actor.as_deref(),
            commit: self.commit.as_deref(),
            artifact: self.artifact.as_deref(),
            correlation: self.correlation.as_deref(),
            causation: self.causation.as_deref(),
        };
        let filter = conditions.filter()?;
        let details = EventDetails {
            since: parse_moment("since", self.since.as_deref(), now)?,
            until: parse_moment("until", self.until.as_deref(), now)?,
            ..filter.details
        };
        Ok(EventFilter { identity: identity.map(|identity| identity.key()), details, ..filter })
    }

    fn start(&self) -> Result<PageStart, Problem> {
        let after = parse_optional("after", self.after.as_deref(), parse_position)?;
        let after = after.unwrap_or(Position::START);
        let before = parse_optional("before", self.before.as_deref(), parse_position)?;
        match (self.order.as_deref(), before) {
            (Some("desc"), before) => Ok(PageStart::Before(before, after)),
            (None | Some("asc"), None) => Ok(PageStart::After(after)),
            (None | Some("asc"), Some(_)) => Err(Problem::parameter("before", "requires order=desc")),
            (Some(_), _) => Err(Problem::parameter("order", "must be asc or desc")),
        }
    }
}

/// List events
///
/// Lists the history by position, in either order. An entry must match all given conditions. With `order=desc`, pass
/// `next` as `before`. A page also ends after 8 MiB of events:
/// more pages follow if, and only if, `next` is present. With `Accept: application/cdevents+json`, the page is an array of
/// CDEvents, and the header `Ledger-Next` has what `next` would. Positions without an event are left out: lost entries, and
/// foreign ones, which something else than a ledger wrote to the stream. The event of a position says which it is.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "listEvents",
    tag = "events",
    params(EventsQuery),
    responses(
        // Generators take the first type of an answer: one in CDEvents stands in the description.
        (status = 200, description = "Page of the history", body = EventsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_events(
    ledger: Authorized<ReadHistory>,
    StrictQuery(query): StrictQuery<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = query.filter(ledger.now())?;
    let start = query.start()?;
    let limit = parse_optional("limit", query.limit.as_deref(), |text| match text.parse::<u32>() {
        Ok(limit @ 1..=1000) => Ok(limit),
        _ => Err("must be a whole number from 1 to 1000"),
    })?
    .unwrap_or(100);
    wait_for_position(&ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    if let (Some(environment), Some(service)) = (&filter.environment, &filter.service) {
        let lanes = ledger.projections.snapshot().await?.all_lanes(environment).await?;
        // A check or an approval may name a service before its first deploy.
        let (_, named) = ledger.projections.recorded_entries(&filter, Position::START, 1).await?;
        if named.is_empty() {
            UnknownLane::check(environment, &lanes, Some(service), None)?;
        }
    }
    let (projected, rows) = ledger.projections.event_page(&filter, start, limit).await?;
    let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
    let full = rows.len() == limit as usize || bytes >= PAGE_BYTES;
    let next = rows.last().filter(|_| full).map(|row| row.position.get());
    let lane = (filter.environment.as_ref(), filter.service.as_ref());
    ledger.record_answer(lane, Shown::at(rows.iter().map(|row| row.position))).await?;
    if accepts_cdevents(&headers) {
        return cdevents_page(projected, &rows, next);
    }
    let events = rows.into_iter().map(entry_body).collect::<Result<_, _>>()?;
    let EventDetails { since, until, .. } = filter.details;
    Ok(with_position(projected, Json(EventsBody { position: projected.get(), since, until, events, next })))
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
/// Returns the entry at a position. Its event never changes; what the ledger notes about it may, such as its correction. With `Accept: application/cdevents+json`, it is a CDEvent of the
/// specification 0.5.1; a kind of event without a counterpart there is a custom one. The problem `lost-entry` or `foreign-entry` says why a
/// position has no event.
#[utoipa::path(
    get,
    path = "/events/{position}",
    operation_id = "getEvent",
    tag = "events",
    params(
        EntryPath,
        WaitQuery,
        ("If-None-Match" = Option<String>, Header, description = "Entity tags of the entry that the client has"),
    ),
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
    ledger: Authorized<ReadSome>,
    Path(path): Path<EntryPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (projected, row) = readable_entry(&ledger, &path, &query).await?;
    if accepts_cdevents(&headers) {
        let body =
            serde_json::to_vec(&cdevent(&row)?).map_err(|error| Problem::new(Kind::Internal, error))?;
        let headers = [(header::CONTENT_TYPE, CDEVENTS), (header::VARY, HeaderValue::from_static("accept"))];
        return Ok(with_position(projected, (headers, body)));
    }
    let body = serde_json::to_vec(&entry_body(row)?).map_err(|error| Problem::new(Kind::Internal, error))?;
    let tag =
        HeaderValue::from_str(&entity_tag(&body)).map_err(|error| Problem::new(Kind::Internal, error))?;
    let not_modified = names_tag(&headers, header::IF_NONE_MATCH, tag.to_str().unwrap_or_default());
    // The event never changes, but what the ledger notes about it does, such as its correction.
    let cache_headers = [
        (header::VARY, HeaderValue::from_static("accept")),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    if not_modified {
        return Ok((StatusCode::NOT_MODIFIED, cache_headers).into_response());
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok(with_position(projected, (cache_headers, json, body)))
}

/// Get the original message
///
/// Returns the message of another tool from which the event at a position was translated, byte for byte as it arrived.
#[utoipa::path(
    get,
    path = "/events/{position}/original",
    operation_id = "getOriginal",
    tag = "events",
    params(EntryPath, WaitQuery),
    responses(
        (status = 200, description = "Message", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", description = "Invalid request, unknown position, or an event without a message",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error, or temporarily unavailable",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_original(
    ledger: Authorized<ReadSome>,
    Path(path): Path<EntryPath>,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<Response, Problem> {
    let (projected, row) = readable_entry(&ledger, &path, &query).await?;
    let origin = Envelope::stored(row.bytes.clone()).ok().and_then(|envelope| envelope.origin());
    let without = |detail: String| Problem::new(Kind::NoOriginal, detail);
    let Some(origin) = origin else {
        return Err(without(format!(
            "the event at position {} was sent in the ledger's format",
            row.position
        )));
    };
    let Some(bytes) = origin.bytes else {
        let detail = format!(
            "this entry does not keep the message: it is too long, or another event of the message keeps it, or its \
             events concern several environments or services; its SHA-256 is {}",
            origin.sha256
        );
        return Err(without(detail));
    };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
    Ok(with_position(projected, (headers, bytes)))
}

const CDEVENTS: HeaderValue = HeaderValue::from_static(CDEVENTS_MEDIA_TYPE);

/// Cursor of the next page, where the body has no place for it.
const LEDGER_NEXT: HeaderName = HeaderName::from_static("ledger-next");

/// Returns true if the client asks for CDEvents.
fn accepts_cdevents(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(CDEVENTS_MEDIA_TYPE));
        is_it && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn cdevents_page(projected: Position, rows: &[EventRow], next: Option<u64>) -> Result<Response, Problem> {
    let events = rows.iter().map(cdevent).collect::<Result<Vec<_>, _>>()?;
    let body = serde_json::to_vec(&events).map_err(|error| Problem::new(Kind::Internal, error))?;
    let headers = [(header::CONTENT_TYPE, CDEVENTS), (header::VARY, HeaderValue::from_static("accept"))];
    let mut response = with_position(projected, (headers, body));
    if let Some(next) = next {
        response.headers_mut().insert(LEDGER_NEXT, HeaderValue::from(next));
    }
    Ok(response)
}

/// Returns the entry of a path that the client may read, with the position of the projections.
async fn readable_entry(
    ledger: &TenantLedger,
    path: &EntryPath,
    query: &WaitQuery,
) -> Result<(Position, EventRow), Problem> {
    let wanted = parse("position", &path.position, parse_position)?;
    wait_for_position(ledger, query.wait_for.as_deref(), query.wait_ms.as_deref()).await?;
    let filter = EventFilter { positions: vec![wanted], ..EventFilter::default() };
    let (projected, rows) = ledger.projections.events(&filter, Position::START, 1).await?;
    let Some(row) = rows.into_iter().next() else {
        if ledger.projections.is_gap(wanted).await? {
            return Err(Problem::new(
                Kind::LostEntry,
                format!("the stream has lost the entry at position {wanted}"),
            ));
        }
        if let Some(foreign) = ledger.projections.foreign_entry(wanted).await? {
            return Err(foreign_entry(&foreign));
        }
        return Err(unknown_position(wanted, projected));
    };
    // An entry that the client may not read looks like one that does not exist.
    check_readable(ledger, &row).map_err(|_| unknown_position(wanted, projected))?;
    ledger.record_answer((None, None), Shown::at([row.position])).await?;
    Ok((projected, row))
}

fn unknown_position(wanted: Position, projected: Position) -> Problem {
    let detail = format!("no entry at position {wanted}; the projections are at {projected}");
    Problem::new(Kind::UnknownPosition, detail)
}

/// Checks that the client may read an entry.
fn check_readable(ledger: &TenantLedger, row: &EventRow) -> Result<(), Problem> {
    match Envelope::stored(row.bytes.clone()) {
        Ok(envelope) => ledger.tenancy().check_event(Some(Verb::Read), &envelope.event().payload),
        // An event of a newer program, of which this one does not know what it concerns.
        Err(_) => ledger.tenancy().check_all(Verb::Read),
    }
}

/// Returns the problem of an entry that is no event of a ledger. It states what the entry's leaf covers.
fn foreign_entry(foreign: &ForeignEntry) -> Problem {
    let ForeignEntry { position, recorded_at, reason, leaf_hash } = foreign;
    let recorded_at = recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let detail = format!(
        "the entry at position {position}, recorded at {recorded_at}, is no event of a ledger ({reason}) and has no \
         effect; its leaf hash is {leaf_hash}"
    );
    Problem::new(Kind::ForeignEntry, detail)
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
        ProblemResponses,
    )
)]
pub(crate) async fn get_position(
    ledger: Authorized<ReadSome>,
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
