//! Decisions on requests, made outside the write path and confirmed in it.
//!
//! A decision may read a long history, and nothing may be appended between the state that it read and its event.
//! So it is made in a snapshot while other events are appended. Before its event is appended, the appender confirms
//! that no entry since that snapshot can change the decision; otherwise it is made again. Decision 0021 explains why.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Payload, Plan};
use ledger_domain::{EnvironmentName, Position, ServiceName, TenantName};
use ledger_journal::{AppendError, SharedJournal};
use ledger_projections::{Projections, Snapshot};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::rejection::DecisionError;
use crate::repeats::repeated_outcome;
use crate::request::{DecidedEvent, Request, decide};
use crate::{DECISION_TIMEOUT, RecordError, RecordOutcome, Undecided};

/// Number of decisions that are made at a time for one tenant.
const DECISIONS_AT_ONCE: usize = 6;
/// Number of these that may search for a known-good point. Searches are long: others have slots of their own.
const SEARCHES_AT_ONCE: usize = 3;

/// The event that answers a request, decided in a snapshot.
pub(crate) struct Decision {
    pub(crate) envelope: Envelope,
    /// The position of the snapshot.
    pub(crate) position: Position,
    /// The environments whose later entries may change the decision; `None`: no entry changes it.
    pub(crate) environments: Option<Vec<EnvironmentName>>,
    /// The services whose deploys in any environment may change the decision: a version without an artifact means the
    /// one that was deployed last.
    pub(crate) services: Vec<ServiceName>,
}

/// Makes the decisions of one tenant.
#[derive(Clone)]
pub(crate) struct Decider {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
    clock: fn() -> DateTime<Utc>,
    slots: Arc<Semaphore>,
    searches: Arc<Semaphore>,
}

impl Decider {
    pub(crate) fn new(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        clock: fn() -> DateTime<Utc>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(DECISIONS_AT_ONCE));
        let searches = Arc::new(Semaphore::new(SEARCHES_AT_ONCE));
        Self { tenant, journal, projections, clock, slots, searches }
    }

    /// Decides a request in the state at the journal's head. `Err` is its final outcome: a rejection, the earlier entry
    /// of its identity, or a failure.
    pub(crate) async fn decide(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Decision, RecordOutcome> {
        // A panic while deciding one request must not end the task that records the others.
        let decision = AssertUnwindSafe(self.decide_at_head(request)).catch_unwind();
        let slot_and_decision = async {
            let _search = match request.may_search() {
                true => self.searches.acquire().await.ok(),
                false => None,
            };
            let _slot = self.slots.acquire().await;
            decision.await
        };
        match timeout_at(deadline, slot_and_decision).await {
            Ok(Ok(decided)) => decided.map_err(|error| self.outcome_of(error)),
            Ok(Err(_)) => {
                error!(tenant = %self.tenant, "deciding a request panicked");
                Err(undecided(Undecided::Panicked))
            }
            Err(_) => Err(undecided(Undecided::TimedOut)),
        }
    }

    async fn decide_at_head(&self, request: &Request) -> Result<Decision, FailedDecision> {
        let head = self.head().await.map_err(FailedDecision::Outcome)?;
        self.projections.wait_for(head, DECISION_TIMEOUT).await.map_err(DecisionError::from)?;
        let mut snapshot = self.projections.snapshot().await.map_err(DecisionError::from)?;
        let known = snapshot.find_entry(request.identity().key()).await.map_err(DecisionError::from)?;
        if let Some(known) = known {
            return Err(FailedDecision::Outcome(repeated_outcome(&mut snapshot, request, &known).await?));
        }
        self.decide_in(&mut snapshot, request).await.map_err(FailedDecision::Error)
    }

    /// Returns the position of the journal's head. `Err` is the outcome of a request if the journal is unavailable.
    pub(crate) async fn head(&self) -> Result<Position, RecordOutcome> {
        let head = self.journal.head().await.map_err(|error| AppendError::Unavailable(error.to_string()));
        head.map(|head| head.position).map_err(|error| RecordOutcome::Refused(RecordError::Journal(error)))
    }

    /// Decides a request in the state of a snapshot.
    pub(crate) async fn decide_in(
        &self,
        snapshot: &mut Snapshot,
        request: &Request,
    ) -> Result<Decision, DecisionError> {
        let DecidedEvent { envelope, checked_services } = decide(snapshot, request, (self.clock)()).await?;
        let mut environments = request.environments();
        let of_plan = |plan: &Plan| plan.steps.iter().map(|step| step.service.clone()).collect();
        let services = match &envelope.event().payload {
            Payload::RollbackRequested(requested) => of_plan(&requested.plan),
            Payload::RollbackStarted(start) => {
                let row = snapshot.rollback(&start.rollback.rollback_id).await?;
                if let Some(environments) = &mut environments {
                    environments.extend(row.iter().filter_map(|row| row.request.source.clone()));
                }
                row.map(|row| of_plan(&row.request.plan)).unwrap_or_default()
            }
            // A deploy of one of these in another environment may change to which lanes the check applies.
            Payload::RollbackDeclined(_) => checked_services,
            Payload::DeployStarted(deploy) => vec![deploy.lane.service.clone()],
            _ => Vec::new(),
        };
        Ok(Decision { envelope, position: snapshot.position(), environments, services })
    }

    pub(crate) fn outcome_of(&self, failed: FailedDecision) -> RecordOutcome {
        match failed {
            FailedDecision::Outcome(outcome) => outcome,
            FailedDecision::Error(DecisionError::Rejected(rejection)) => {
                RecordOutcome::Refused(RecordError::Rejected(rejection))
            }
            FailedDecision::Error(DecisionError::SearchTimedOut(environment)) => {
                warn!(tenant = %self.tenant, %environment, "the search for a known-good point timed out");
                undecided(Undecided::SearchTimedOut)
            }
            FailedDecision::Error(DecisionError::Projections(error)) => {
                warn!(error = &error as &dyn std::error::Error, "cannot decide a request");
                undecided(Undecided::ProjectionsUnavailable)
            }
        }
    }
}

/// Reason why there is no decision.
pub(crate) enum FailedDecision {
    /// The outcome of the request is known without one.
    Outcome(RecordOutcome),
    Error(DecisionError),
}

impl From<DecisionError> for FailedDecision {
    fn from(error: DecisionError) -> Self {
        Self::Error(error)
    }
}

pub(crate) const fn undecided(reason: Undecided) -> RecordOutcome {
    RecordOutcome::Refused(RecordError::Undecided(reason))
}
