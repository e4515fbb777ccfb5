//! Events come in: `POST /v1/events`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ledger_codec::cloudevents::{BatchError, EVENT_LIMIT, Envelope, Invalid, decode_header};
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, Kind as EventKind, Position, Release};
use ledger_ingest::{RecordError, RecordOutcome};
use ledger_projections::{AsOf, EventFilter, QueryError, Waited};
use serde::Serialize;
use tracing::debug;
use utoipa::ToSchema;

use crate::body::read;
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;
use crate::{App, bulk};

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventResult {
    /// The event's id, as far as it could be read.
    id: Option<String>,
    /// The event's source, as far as it could be read.
    source: Option<String>,
    /// What became of it.
    pub(crate) status: EventStatus,
    /// Where it is, or where the event is that has its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Why it was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Box<Problem>>,
    /// What the ledger says of it; absent where it was not looked at yet: the same stands in the history.
    #[serde(flatten)]
    marks: Option<MarksBody>,
}

/// What the ledger says of an event that it recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarksBody {
    /// What contradicts what the ledger knew: `late`, `ambiguous_target`, and others.
    anomalies: Vec<String>,
    /// The names that it was the first to bring: `environment`, `service`, `target`.
    new: Vec<String>,
    /// The version that its lane runs from here on, where the event changed that.
    #[serde(skip_serializing_if = "Option::is_none")]
    went_live: Option<String>,
    /// The targets that it could have meant, where it named none of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    /// Of a revocation: the lanes that run the artifact, or hold it in a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_at: Option<Vec<RunsAtBody>>,
}

/// A lane that runs an artifact, or holds it in a slot.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunsAtBody {
    /// The environment.
    environment: String,
    /// The service.
    service: String,
    /// The target.
    target: String,
    /// The version.
    version: String,
    /// Whether traffic reaches it.
    live: bool,
}

/// A batch of more events is answered without what the ledger says of each.
const MARKED_AT_MOST: usize = 1_000;
/// How long an answer waits for what the ledger says of its events. They are durable whether it comes or not.
const MARKS_TIMEOUT: Duration = Duration::from_millis(500);

/// Adds to the results of recorded events what the ledger says of them, unless that takes too long.
pub(crate) async fn add_marks(ledger: &TenantLedger, results: &mut [EventResult]) {
    let recorded = results.iter().filter(|result| result.status.is_recorded());
    let positions: Vec<Position> = recorded.filter_map(|result| result.position.map(Position::new)).collect();
    let Some(last) = positions.iter().copied().max() else { return };
    if results.len() > MARKED_AT_MOST || !ledger.projections.may_come_soon() {
        return;
    }
    let looked_up = tokio::time::timeout(MARKS_TIMEOUT, marks(ledger, positions, last)).await;
    let mut marks = match looked_up {
        Ok(Ok(marks)) => marks,
        Ok(Err(error)) => {
            debug!(%error, "events are answered without their marks");
            return;
        }
        Err(_) => {
            ledger.projections.give_up(last);
            return;
        }
    };
    for result in results {
        result.marks = result.position.and_then(|position| marks.remove(&position));
    }
}

async fn marks(
    ledger: &TenantLedger,
    positions: Vec<Position>,
    last: Position,
) -> Result<HashMap<u64, MarksBody>, ledger_projections::Error> {
    if !matches!(ledger.projections.wait_for(last, MARKS_TIMEOUT).await?, Waited::Reached) {
        ledger.projections.give_up(last);
        return Ok(HashMap::new());
    }
    let limit = u32::try_from(positions.len()).unwrap_or(u32::MAX);
    let filter = EventFilter { positions, ..EventFilter::default() };
    let (_, rows) = ledger.projections.events(&filter, Position::START, limit).await?;
    let mut marks = HashMap::with_capacity(rows.len());
    for row in rows {
        let runs_at = match row.kind {
            EventKind::ArtifactRevoked => Some(runs_at(ledger, row.bytes).await?),
            _ => None,
        };
        let body = MarksBody {
            anomalies: row.anomalies,
            new: row.first_of,
            went_live: row.went_live,
            targets: row.targets,
            runs_at,
        };
        marks.insert(row.position.get(), body);
    }
    Ok(marks)
}

/// Where the artifact of a revocation runs, or stands in a slot.
async fn runs_at(ledger: &TenantLedger, bytes: Bytes) -> Result<Vec<RunsAtBody>, ledger_projections::Error> {
    let mut found = Vec::new();
    let Ok(envelope) = Envelope::stored(bytes) else { return Ok(found) };
    let Payload::ArtifactRevoked(revoked) = &envelope.event().payload else { return Ok(found) };
    let mut snapshot = ledger.projections.snapshot().await?;
    let lanes = snapshot.lanes_of_artifact(&revoked.artifact).await?;
    let environments: BTreeSet<EnvironmentName> = lanes.into_iter().map(|lane| lane.environment).collect();
    for environment in environments {
        let state = match snapshot.state(&environment, AsOf::LATEST).await {
            Ok(state) => state,
            Err(QueryError::Failed(error)) => return Err(error),
            Err(_) => continue,
        };
        for lane in &state.lanes {
            let live = lane.fold.live().map(|live| (live.release, true));
            let idle = lane.fold.idle().into_iter().map(|idle| (idle.release, false));
            let is_it = |release: &Release| {
                release.artifact.as_ref().is_some_and(|artifact| artifact.is_same(&revoked.artifact))
            };
            let held = live.into_iter().chain(idle).filter(|(release, _)| is_it(release));
            found.extend(held.map(|(release, live)| RunsAtBody {
                environment: environment.to_string(),
                service: lane.service.to_string(),
                target: lane.target.to_string(),
                version: release.version.to_string(),
                live,
            }));
        }
    }
    Ok(found)
}

/// Returns true if the client wants no more than to know that its events are recorded: `Prefer: return=minimal` (RFC 7240).
fn wants_minimum(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    preferences.any(|preference| preference.eq_ignore_ascii_case("return=minimal"))
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventStatus {
    /// It is an entry now, and durable.
    Recorded,
    /// The same event was recorded before.
    Duplicate,
    /// Another event with the same identity was recorded before.
    Conflict,
    /// It is not well-formed, and will never be recorded as it is.
    Invalid,
    /// It asks for something that cannot be as the ledger is.
    Rejected,
    /// The ledger could not take it now; it may be sent again.
    Refused,
}

impl EventStatus {
    pub(crate) const fn is_recorded(self) -> bool {
        matches!(self, Self::Recorded | Self::Duplicate)
    }
}

impl EventResult {
    pub(crate) fn invalid(invalid: Invalid) -> Self {
        let problem = Some(Box::new(Problem::from(&invalid)));
        Self {
            id: invalid.id,
            source: invalid.source,
            status: EventStatus::Invalid,
            position: None,
            problem,
            marks: None,
        }
    }

    pub(crate) fn answered((id, source): (String, String), answer: &RecordOutcome) -> Self {
        let (status, position, problem) = match answer {
            RecordOutcome::Recorded(position) => (EventStatus::Recorded, Some(*position), None),
            RecordOutcome::Duplicate(position) => (EventStatus::Duplicate, Some(*position), None),
            RecordOutcome::Conflict(position) => {
                let detail =
                    format!("the event at position {position} has this id and source, and other content");
                let problem = Problem::new(Kind::IdentityConflict, detail);
                (EventStatus::Conflict, Some(*position), Some(problem))
            }
            RecordOutcome::Refused(refusal @ RecordError::FromTheFuture { .. }) => {
                (EventStatus::Invalid, None, Some(Problem::from(refusal)))
            }
            RecordOutcome::Refused(refusal @ RecordError::Rejected(_)) => {
                (EventStatus::Rejected, None, Some(Problem::from(refusal)))
            }
            RecordOutcome::Refused(refusal) => (EventStatus::Refused, None, Some(Problem::from(refusal))),
        };
        Self {
            id: Some(id),
            source: Some(source),
            status,
            position: position.map(ledger_domain::Position::get),
            problem: problem.map(Box::new),
            marks: None,
        }
    }
}

/// The names by which an event is answered.
pub(crate) fn names(envelope: &Envelope) -> (String, String) {
    let identity = envelope.identity();
    (identity.id.as_str().to_owned(), identity.source.as_str().to_owned())
}

enum Mode {
    Structured,
    Binary,
    Batch,
    Lines,
}

fn mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let refuse = |detail: String| Err(Problem::new(Kind::UnsupportedMediaType, detail));
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return refuse(format!("the content encoding {encoding:?} is not taken"));
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return refuse("the request has no Content-Type".into());
    };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        "application/x-ndjson" => Ok(Mode::Lines),
        "application/json" if headers.contains_key("ce-specversion") => Ok(Mode::Binary),
        _ => refuse(format!(
            "{content_type:?} is not taken: send application/cloudevents+json, application/cloudevents-batch+json, \
             application/x-ndjson, or application/json with the attributes as ce- headers"
        )),
    }
}

/// Record events
///
/// Takes one CloudEvent in structured or binary mode, a batch, or newline-delimited structured events.
/// An answer comes only after the events are durable. Sent again, an event is recorded once.
///
/// One event is answered by one object, or by a problem. Several are answered one by one, in order:
/// 201 when all of them are recorded or duplicates, 207 otherwise.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "postEvents",
    tag = "events",
    request_body(
        description = "CloudEvents of the types in schemas/events",
        content(
            (serde_json::Value = "application/cloudevents+json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
            (String = "application/x-ndjson"),
            (serde_json::Value = "application/json"),
        )
    ),
    responses(
        (status = 201, description = "All are recorded, now or before", body = EventResult),
        (status = 207, description = "Some are not recorded: see each", body = Vec<EventResult>),
        (status = "4XX", description = "Not recorded", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not recorded, or not known to be: send it again",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_events(
    State(app): State<Arc<App>>,
    ledger: TenantLedger,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let marked = !wants_minimum(&headers);
    match mode(&headers)? {
        Mode::Structured => one(&ledger, marked, Envelope::parse(&read(body, EVENT_LIMIT * 4).await?)).await,
        Mode::Binary => {
            let attributes = attributes(&headers)?;
            let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.clone()));
            one(&ledger, marked, Envelope::from_parts(attributes, &read(body, EVENT_LIMIT * 4).await?)).await
        }
        Mode::Batch => {
            let bytes = read(body, app.limits.batch_bytes).await?;
            batch(&ledger, marked, &bytes, app.limits.events).await
        }
        Mode::Lines => bulk::record_lines(&ledger, marked, body, app.limits.events).await,
    }
}

/// The attributes of an event in binary mode (CloudEvents HTTP binding, sections 3.1.1 and 3.1.3): the `ce-` headers,
/// and the `Content-Type` as `datacontenttype`, which must not be in a `ce-` header too.
fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut attributes = vec![("datacontenttype".to_owned(), content_type.unwrap_or_default().to_owned())];
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        if attribute == "datacontenttype" {
            return Err(Problem::parameter(
                name.as_str(),
                "is the Content-Type in binary mode: leave it out",
            ));
        }
        let value = value.to_str().map_err(|_| {
            Problem::parameter(name.as_str(), "must be ASCII, other characters percent-encoded")
        })?;
        let value = decode_header(value).map_err(|error| Problem::parameter(name.as_str(), error))?;
        attributes.push((attribute.to_owned(), value));
    }
    Ok(attributes)
}

async fn one(
    ledger: &TenantLedger,
    marked: bool,
    event: Result<Envelope, Invalid>,
) -> Result<Response, Problem> {
    let envelope = event.map_err(|invalid| Problem::from(&invalid))?;
    let names = names(&envelope);
    let answers = ledger.ingest.record(vec![envelope]).await;
    let answer = answers.first().unwrap_or(&RecordOutcome::Refused(RecordError::Closing));
    let mut result = EventResult::answered(names, answer);
    if marked {
        add_marks(ledger, std::slice::from_mut(&mut result)).await;
    }
    match result.problem {
        Some(problem) => Err(*problem),
        None => Ok((StatusCode::CREATED, Json(result)).into_response()),
    }
}

async fn batch(ledger: &TenantLedger, marked: bool, bytes: &[u8], limit: usize) -> Result<Response, Problem> {
    let events = Envelope::parse_batch(bytes, limit).map_err(|error| match error {
        BatchError::NotAnArray(_) => Problem::new(Kind::InvalidJson, error),
        BatchError::TooMany(_) => Problem::new(Kind::TooLarge, error),
    })?;
    let mut results = bulk::record_all(ledger, events).await;
    if marked {
        add_marks(ledger, &mut results).await;
    }
    Ok((overall(&results)?, Json(results)).into_response())
}

/// The status of an answer to several events. Where the ledger could take none of them, the whole
/// is a problem, so that a client tries again.
pub(crate) fn overall(results: &[EventResult]) -> Result<StatusCode, Problem> {
    if results.iter().all(|result| result.status.is_recorded()) {
        return Ok(StatusCode::CREATED);
    }
    let all_refused = results.iter().all(|result| result.status == EventStatus::Refused);
    match results.first().and_then(|result| result.problem.as_deref()) {
        Some(problem) if all_refused => Err(problem.clone()),
        _ => Ok(StatusCode::MULTI_STATUS),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::try_from(*name).expect("a header's name");
            (name, HeaderValue::from_str(value).expect("a header's value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, StatusCode> {
        let attributes = attributes(&headers(pairs));
        attributes.map_err(|problem| problem.into_response().status())
    }

    #[test]
    fn the_content_type_is_an_attribute_and_header_values_are_decoded_once() {
        let given = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("ce-id", "run%254711"),
            ("CE-Source", r#""urn:a \"b\"%20c""#),
            ("X-Request-Id", "7"),
        ];
        let attributes = [
            ("datacontenttype", "application/json; charset=utf-8"),
            ("id", "run%4711"),
            ("source", r#"urn:a "b" c"#),
        ];
        assert_eq!(read(&given), Ok(attributes.map(|(name, value)| (name.into(), value.into())).to_vec()));
    }

    #[test]
    fn headers_that_are_no_attributes_are_rejected() {
        for odd in [("ce-datacontenttype", "application/json"), ("ce-id", "%ff"), ("ce-id", r#""a"#)] {
            assert_eq!(
                read(&[("Content-Type", "application/json"), odd]),
                Err(StatusCode::BAD_REQUEST),
                "{odd:?}"
            );
        }
    }
}
