//! Outcome of each event of a request, with its annotations.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use ledger_api_types::{AnnotationsBody, EventResult, EventStatus, RunsAtBody};
use ledger_codec::cloudevents::{Envelope, InvalidEvent};
use ledger_domain::access::Verb;
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, Kind as EventKind, Position, Release};
use ledger_ingest::{RecordError, RecordOutcome};
use ledger_projections::{AsOf, EventFilter, QueryError, Waited};
use tracing::debug;

use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Maximum number of events in a response with annotations.
pub(crate) const MAX_ANNOTATED_EVENTS: usize = 1_000;

/// Time limit of the wait for annotations. The events are durable in any case.
const ANNOTATION_TIMEOUT: Duration = Duration::from_millis(500);

/// Number of entries before the events up to which the projections are waited for: they need longer for more, while
/// another client records many.
const MAX_ENTRIES_BEFORE: u64 = 2_000;

/// Adds annotations to the results of recorded events, unless the projections are too slow.
pub(crate) async fn add_annotations(ledger: &TenantLedger, results: &mut [EventResult]) {
    let recorded = results.iter().filter(|result| result.status.is_recorded());
    let positions: Vec<Position> = recorded.filter_map(|result| result.position.map(Position::new)).collect();
    let Some(last) = positions.iter().copied().max() else { return };
    if results.len() > MAX_ANNOTATED_EVENTS || !ledger.projections.is_short_wait_worthwhile() {
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
            ledger.projections.record_missed_wait(last);
            return;
        }
    };
    for result in results {
        let annotations = result.position.and_then(|position| annotations.remove(&position));
        result.annotations = annotations.unwrap_or_default();
    }
}

async fn annotations(
    ledger: &TenantLedger,
    positions: Vec<Position>,
    last: Position,
) -> Result<HashMap<u64, AnnotationsBody>, ledger_projections::Error> {
    let waited = ledger.projections.wait_for_within(last, MAX_ENTRIES_BEFORE, ANNOTATION_TIMEOUT).await?;
    if !matches!(waited, Waited::Reached) {
        ledger.projections.record_missed_wait(last);
        return Ok(HashMap::new());
    }
    let limit = u32::try_from(positions.len()).unwrap_or(u32::MAX);
    let filter = EventFilter { positions, ..EventFilter::default() };
    let (_, rows) = ledger.projections.events(&filter, Position::START, limit).await?;
    let mut annotations = HashMap::with_capacity(rows.len());
    for row in rows {
        let runs_at = match row.kind {
            EventKind::ArtifactRevoked => Some(runs_at(ledger, row.entry.bytes).await?),
            _ => None,
        };
        let body = AnnotationsBody {
            anomalies: Some(row.anomalies),
            new: Some(row.entry.first_of),
            went_live: row.entry.went_live,
            targets: row.entry.targets,
            runs_at,
        };
        annotations.insert(row.entry.position.get(), body);
    }
    Ok(annotations)
}

/// Returns the lanes that run the artifact of a revocation or hold it in a slot, and that the client may read.
async fn runs_at(ledger: &TenantLedger, bytes: Bytes) -> Result<Vec<RunsAtBody>, ledger_projections::Error> {
    let mut found = Vec::new();
    let Ok(envelope) = Envelope::stored(bytes) else { return Ok(found) };
    let Payload::ArtifactRevoked(revoked) = &envelope.event().payload else { return Ok(found) };
    let mut snapshot = ledger.projections.snapshot().await?;
    let lanes = snapshot.lanes_of_artifact(&revoked.artifact).await?;
    let environments: BTreeSet<EnvironmentName> = lanes.into_iter().map(|lane| lane.environment).collect();
    let is_readable =
        |environment: &EnvironmentName| ledger.tenancy().check(Verb::Read, environment, None).is_ok();
    for environment in environments.into_iter().filter(is_readable) {
        let state = match snapshot.state(&environment, AsOf::LATEST).await {
            Ok(state) => state,
            Err(QueryError::Projections(error)) => return Err(error),
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

pub(crate) fn invalid_result(invalid: InvalidEvent) -> EventResult {
    let problem = Some(Problem::from(&invalid).into_body());
    EventResult {
        id: invalid.id,
        source: invalid.source,
        status: EventStatus::Invalid,
        position: None,
        problem,
        quarantine_id: None,
        count: None,
        annotations: AnnotationsBody::default(),
    }
}

/// Returns the result of an event that its sender may not send.
pub(crate) fn denied_result((id, source): (String, String), problem: Problem) -> EventResult {
    EventResult {
        id: Some(id),
        source: Some(source),
        status: EventStatus::Rejected,
        position: None,
        problem: Some(problem.into_body()),
        quarantine_id: None,
        count: None,
        annotations: AnnotationsBody::default(),
    }
}

/// Returns the result of an event that cannot be recorded now.
pub(crate) fn refused_result(problem: Problem) -> EventResult {
    EventResult {
        id: None,
        source: None,
        status: EventStatus::Refused,
        position: None,
        problem: Some(problem.into_body()),
        quarantine_id: None,
        count: None,
        annotations: AnnotationsBody::default(),
    }
}

/// Returns true if an event was appended now, and not earlier.
pub(crate) const fn is_recorded(outcome: &RecordOutcome) -> bool {
    matches!(outcome, RecordOutcome::Recorded(_))
}

pub(crate) fn outcome_result((id, source): (String, String), outcome: &RecordOutcome) -> EventResult {
    let (status, position, problem) = match outcome {
        RecordOutcome::Recorded(position) => (EventStatus::Recorded, Some(*position), None),
        RecordOutcome::Duplicate(position) => (EventStatus::Duplicate, Some(*position), None),
        RecordOutcome::Conflict(position) => {
            let detail =
                format!("the event at position {position} has the same id and source but different content");
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
    EventResult {
        id: Some(id),
        source: Some(source),
        status,
        position: position.map(ledger_domain::Position::get),
        problem: problem.map(Problem::into_body),
        quarantine_id: None,
        count: None,
        annotations: AnnotationsBody::default(),
    }
}

/// Returns the id and source of an event.
pub(crate) fn id_and_source(envelope: &Envelope) -> (String, String) {
    let identity = envelope.identity();
    (identity.id.as_str().to_owned(), identity.source.as_str().to_owned())
}
