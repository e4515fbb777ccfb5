//! Outcome of each event of a request, with its annotations.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use ledger_codec::cloudevents::{Envelope, InvalidEvent};
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, Kind as EventKind, Position, Release};
use ledger_ingest::{RecordError, RecordOutcome};
use ledger_projections::{AsOf, EventFilter, QueryError, Waited};
use serde::Serialize;
use tracing::debug;
use utoipa::ToSchema;

use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

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
    pub(crate) problem: Option<Box<Problem>>,
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
    pub(crate) fn invalid(invalid: InvalidEvent) -> Self {
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
