//! Ingest endpoint: `POST /v1/events`.

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

/// Outcome of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventResult {
    /// Id of the event, if it could be read.
    id: Option<String>,
    /// Source of the event, if it could be read.
    source: Option<String>,
    /// Status of the event.
    pub(crate) status: EventStatus,
    /// Position of the event, or of the event that has its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Reason why it was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Box<Problem>>,
    /// Annotations; absent if they are not available in time. The history has them as well.
    #[serde(flatten)]
    annotations: Option<AnnotationsBody>,
}

/// Annotations of a recorded event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnnotationsBody {
    /// Contradictions with the ledger's earlier state: `late`, `ambiguous_target`, and others.
    anomalies: Vec<String>,
    /// Kinds of names that this event introduces: `environment`, `service`, `target`.
    new: Vec<String>,
    /// Version that its lane runs from here on, if the event changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    went_live: Option<String>,
    /// Candidate targets, if the event names none and the service has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    /// For a revocation: lanes that run the artifact or hold it in a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_at: Option<Vec<RunsAtBody>>,
}

/// Lane that runs an artifact or holds it in a slot.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunsAtBody {
    /// Environment name.
    environment: String,
    /// Service name.
    service: String,
    /// Target name.
    target: String,
    /// Version.
    version: String,
    /// True if it receives traffic.
    live: bool,
}

/// Maximum number of events in a response with annotations.
const MAX_ANNOTATED_EVENTS: usize = 1_000;
/// Time limit of the wait for annotations. The events are durable in any case.
const ANNOTATION_TIMEOUT: Duration = Duration::from_millis(500);

/// Adds annotations to the results of recorded events, unless the projections are too slow.
pub(crate) async fn add_annotations(ledger: &TenantLedger, results: &mut [EventResult]) {
    let recorded = results.iter().filter(|result| result.status.is_recorded());
    let positions: Vec<Position> = recorded.filter_map(|result| result.position.map(Position::new)).collect();
    let Some(last) = positions.iter().copied().max() else { return };
    if results.len() > MAX_ANNOTATED_EVENTS || !ledger.projections.may_come_soon() {
        return;
    }
    let result = tokio::time::timeout(ANNOTATION_TIMEOUT, annotations(ledger, positions, last)).await;
    let mut annotations = match result {
        Ok(Ok(annotations)) => annotations,
        Ok(Err(error)) => {
            debug!(%error, "cannot read annotations; responding without them");
            return;
        }
        Err(_) => {
            ledger.projections.give_up(last);
            return;
        }
    };
    for result in results {
        result.annotations = result.position.and_then(|position| annotations.remove(&position));
    }
}

async fn annotations(
    ledger: &TenantLedger,
    positions: Vec<Position>,
    last: Position,
) -> Result<HashMap<u64, AnnotationsBody>, ledger_projections::Error> {
    if !matches!(ledger.projections.wait_for(last, ANNOTATION_TIMEOUT).await?, Waited::Reached) {
        ledger.projections.give_up(last);
        return Ok(HashMap::new());
    }
    let limit = u32::try_from(positions.len()).unwrap_or(u32::MAX);
    let filter = EventFilter { positions, ..EventFilter::default() };
    let (_, rows) = ledger.projections.events(&filter, Position::START, limit).await?;
    let mut annotations = HashMap::with_capacity(rows.len());
    for row in rows {
        let runs_at = match row.kind {
            EventKind::ArtifactRevoked => Some(runs_at(ledger, row.bytes).await?),
            _ => None,
        };
        let body = AnnotationsBody {
            anomalies: row.anomalies,
            new: row.first_of,
            went_live: row.went_live,
            targets: row.targets,
            runs_at,
        };
        annotations.insert(row.position.get(), body);
    }
    Ok(annotations)
}

/// Returns the lanes that run the artifact of a revocation or hold it in a slot.
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
            let has_artifact = |release: &Release| {
                release.artifact.as_ref().is_some_and(|artifact| artifact.is_same(&revoked.artifact))
            };
            let holders = live.into_iter().chain(idle).filter(|(release, _)| has_artifact(release));
            found.extend(holders.map(|(release, live)| RunsAtBody {
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

/// Returns true if the client asks for responses without annotations: `Prefer: return=minimal` (RFC 7240).
fn prefers_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';'])).map(str::trim);
    preferences.any(|preference| preference.eq_ignore_ascii_case("return=minimal"))
}

/// Status of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventStatus {
    /// It is recorded and durable.
    Recorded,
    /// The same event was recorded before.
    Duplicate,
    /// Another event with the same identity was recorded before.
    Conflict,
    /// It is malformed; resending it unchanged cannot succeed.
    Invalid,
    /// The current state of the ledger does not allow it.
    Rejected,
    /// The ledger cannot record it now; resend it later.
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
            annotations: None,
        }
    }

    pub(crate) fn from_outcome((id, source): (String, String), outcome: &RecordOutcome) -> Self {
        let (status, position, problem) = match outcome {
            RecordOutcome::Recorded(position) => (EventStatus::Recorded, Some(*position), None),
            RecordOutcome::Duplicate(position) => (EventStatus::Duplicate, Some(*position), None),
            RecordOutcome::Conflict(position) => {
                let detail = format!(
                    "the event at position {position} has the same id and source but different content"
                );
                let problem = Problem::new(Kind::IdentityConflict, detail);
                (EventStatus::Conflict, Some(*position), Some(problem))
            }
            RecordOutcome::Refused(error @ RecordError::FromTheFuture { .. }) => {
                (EventStatus::Invalid, None, Some(Problem::from(error)))
            }
            RecordOutcome::Refused(error @ RecordError::Rejected(_)) => {
                (EventStatus::Rejected, None, Some(Problem::from(error)))
            }
            RecordOutcome::Refused(error) => (EventStatus::Refused, None, Some(Problem::from(error))),
        };
        Self {
            id: Some(id),
            source: Some(source),
            status,
            position: position.map(ledger_domain::Position::get),
            problem: problem.map(Box::new),
            annotations: None,
        }
    }
}

/// Returns the id and source of an event.
pub(crate) fn id_and_source(envelope: &Envelope) -> (String, String) {
    let identity = envelope.identity();
    (identity.id.as_str().to_owned(), identity.source.as_str().to_owned())
}

/// Content mode of a request.
enum Mode {
    Structured,
    Binary,
    Batch,
    Lines,
}

fn content_mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let unsupported = |detail: String| Err(Problem::new(Kind::UnsupportedMediaType, detail));
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return unsupported(format!(
            "content encoding {encoding:?} is not supported; send the body unencoded"
        ));
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return unsupported("the request has no Content-Type header".into());
    };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        "application/x-ndjson" => Ok(Mode::Lines),
        "application/json" if headers.contains_key("ce-specversion") => Ok(Mode::Binary),
        _ => unsupported(format!(
            "content type {content_type:?} is not supported; send application/cloudevents+json, \
             application/cloudevents-batch+json, \
             application/x-ndjson, or application/json with the attributes as ce- headers"
        )),
    }
}

/// Record events
///
/// Accepts one CloudEvent in structured or binary mode, a batch, or newline-delimited structured events. Responds only
/// after the events are durable. An event that is resent is recorded only once.
///
/// The response to one event is one object, or a problem. The response to several has one result per event, in order:
/// 201 if all of them are recorded or duplicates, 207 otherwise.
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
        (status = 201, description = "All events are recorded, now or earlier", body = EventResult),
        (status = 207, description = "Some events are not recorded; see each result",
            body = Vec<EventResult>),
        (status = "4XX", description = "Not recorded",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not recorded, or unknown; resend the event",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_events(
    State(app): State<Arc<App>>,
    ledger: TenantLedger,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let annotate = !prefers_minimal(&headers);
    match content_mode(&headers)? {
        Mode::Structured => {
            record_one(&ledger, annotate, Envelope::parse(&read(body, EVENT_LIMIT * 4).await?)).await
        }
        Mode::Binary => {
            let attributes = attributes(&headers)?;
            let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.clone()));
            record_one(
                &ledger,
                annotate,
                Envelope::from_parts(attributes, &read(body, EVENT_LIMIT * 4).await?),
            )
            .await
        }
        Mode::Batch => {
            let bytes = read(body, app.limits.batch_bytes).await?;
            record_batch(&ledger, annotate, &bytes, app.limits.events).await
        }
        Mode::Lines => bulk::record_lines(&ledger, annotate, body, app.limits.events).await,
    }
}

/// Returns the attributes of an event in binary mode (CloudEvents HTTP binding, sections 3.1.1 and 3.1.3): the `ce-`
/// headers, and `Content-Type` as `datacontenttype`, which must not be a `ce-` header as well.
fn attributes(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut attributes = vec![("datacontenttype".to_owned(), content_type.unwrap_or_default().to_owned())];
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix("ce-") else { continue };
        if attribute == "datacontenttype" {
            return Err(Problem::parameter(
                name.as_str(),
                "must be absent in binary mode: Content-Type states it",
            ));
        }
        let value = value.to_str().map_err(|_| {
            Problem::parameter(name.as_str(), "must be ASCII, with other characters percent-encoded")
        })?;
        let value = decode_header(value).map_err(|error| Problem::parameter(name.as_str(), error))?;
        attributes.push((attribute.to_owned(), value));
    }
    Ok(attributes)
}

async fn record_one(
    ledger: &TenantLedger,
    annotate: bool,
    event: Result<Envelope, Invalid>,
) -> Result<Response, Problem> {
    let envelope = event.map_err(|invalid| Problem::from(&invalid))?;
    let id_and_source = id_and_source(&envelope);
    let outcomes = ledger.ingest.record(vec![envelope]).await;
    let outcome = outcomes.first().unwrap_or(&RecordOutcome::Refused(RecordError::Closing));
    let mut result = EventResult::from_outcome(id_and_source, outcome);
    if annotate {
        add_annotations(ledger, std::slice::from_mut(&mut result)).await;
    }
    match result.problem {
        Some(problem) => Err(*problem),
        None => Ok((StatusCode::CREATED, Json(result)).into_response()),
    }
}

async fn record_batch(
    ledger: &TenantLedger,
    annotate: bool,
    bytes: &[u8],
    limit: usize,
) -> Result<Response, Problem> {
    let events = Envelope::parse_batch(bytes, limit).map_err(|error| match error {
        BatchError::NotAnArray(_) => Problem::new(Kind::InvalidJson, error),
        BatchError::TooMany(_) => Problem::new(Kind::TooLarge, error),
    })?;
    let mut results = bulk::record_all(ledger, events).await;
    if annotate {
        add_annotations(ledger, &mut results).await;
    }
    Ok((overall_status(&results)?, Json(results)).into_response())
}

/// Returns the HTTP status of the response to several events. If all of them are refused, the response is a problem, so
/// that clients retry the request.
pub(crate) fn overall_status(results: &[EventResult]) -> Result<StatusCode, Problem> {
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
            let name = HeaderName::try_from(*name).expect("valid header name");
            (name, HeaderValue::from_str(value).expect("valid header value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn parsed_attributes(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, StatusCode> {
        let attributes = attributes(&headers(pairs));
        attributes.map_err(|problem| problem.into_response().status())
    }

    #[test]
    fn binary_mode_reads_content_type_as_an_attribute_and_decodes_header_values_once() {
        let headers = [
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
        assert_eq!(
            parsed_attributes(&headers),
            Ok(attributes.map(|(name, value)| (name.into(), value.into())).to_vec())
        );
    }

    #[test]
    fn invalid_ce_headers_are_rejected() {
        for invalid in [("ce-datacontenttype", "application/json"), ("ce-id", "%ff"), ("ce-id", r#""a"#)] {
            assert_eq!(
                parsed_attributes(&[("Content-Type", "application/json"), invalid]),
                Err(StatusCode::BAD_REQUEST),
                "{invalid:?}"
            );
        }
    }
}
