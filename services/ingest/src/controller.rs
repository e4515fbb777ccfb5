//! The rollback controller: follows the failed checks of a tenant and records a response to each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::Payload;
use ledger_domain::rollback::DeclineReason;
use ledger_domain::{EnvironmentName, IdentityKey, Position, TenantName};
use ledger_projections::{AsOf, Projections, Purpose, QueryError};
use metrics::counter;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::automatic::{CONTROLLER_NAME, FailedCheck, PointSearchUse, failed_lanes, triggered_rule};
use crate::request::Request;
use crate::{DECISION_TIMEOUT, Ingest, RecordError, RecordOutcome, Rejection, Undecided};

/// Number of failed checks that are read at a time.
const PAGE_SIZE: u32 = 100;
/// Number of environments whose checks are answered at a time.
const ENVIRONMENTS_AT_ONCE: usize = 8;
/// Number of attempts to answer a check that cannot be decided. After the last one, the controller declines.
const MAX_ATTEMPTS: u32 = 3;
/// Delay before a retry after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Interval at which a controller polls for failed checks when no projector of its process notifies it.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Interval at which it polls when one does: another process may have projected since this one last looked.
const NOTIFIED_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Rollback controller of one tenant: follows the failed checks in the projections and responds to each.
pub struct Controller {
    tenant: TenantName,
    projections: Projections,
    ingest: Ingest,
    /// Number of failed attempts to answer a check that could not be decided, by the identity of the answer.
    attempts: Mutex<HashMap<IdentityKey, u32>>,
    /// Checks of the current page that get no response, by the identity that it would have. A failure of another check
    /// of the page must not decide them again: what runs may have changed.
    without_response: Mutex<HashSet<IdentityKey>>,
}

impl Controller {
    /// Creates a controller that follows a tenant's projections and records its events through `ingest`.
    #[must_use]
    pub fn new(tenant: TenantName, projections: &Projections, ingest: Ingest) -> Self {
        // Queries of clients must not delay the response to a failed check.
        let projections = projections.for_purpose(Purpose::Recording);
        Self { tenant, projections, ingest, attempts: Mutex::default(), without_response: Mutex::default() }
    }

    /// Responds to failed checks until the token is cancelled.
    pub async fn run(self, cancelled: CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            never = self.follow() => match never {},
        }
    }

    async fn follow(&self) -> std::convert::Infallible {
        loop {
            let applied = self.projections.failed_checks_applied();
            let delay = match self.process_page().await {
                Ok(true) => continue,
                // Another component reports projections that are being rebuilt.
                Ok(false) | Err(ControllerError::Projections(ledger_projections::Error::NotReady(_))) => {
                    self.poll_interval()
                }
                Err(error) => {
                    warn!(tenant = %self.tenant, error = %error, "rollback controller failed; retrying");
                    RETRY_DELAY
                }
            };
            // Only failed checks need a response, and few entries are one.
            self.projections.wait_for_failed_check(applied, delay).await;
        }
    }

    fn poll_interval(&self) -> Duration {
        if self.projections.is_following() { NOTIFIED_POLL_INTERVAL } else { POLL_INTERVAL }
    }

    /// Responds to the next page of failed checks. Returns true if there may be more. Environments are independent: one
    /// that cannot be answered delays no other. After a failure, the page is read again; the checks that have their
    /// response are skipped then.
    async fn process_page(&self) -> Result<bool, ControllerError> {
        // Diverged projections describe a history that no longer exists, or another ledger's.
        if self.projections.divergence().is_some() {
            return Ok(false);
        }
        let checkpoint = self.projections.follower_checkpoint(CONTROLLER_NAME).await?;
        let checks = self.projections.failed_checks(checkpoint.position, PAGE_SIZE).await?;
        let Some(last) = checks.last().map(|(position, _)| *position) else { return Ok(false) };
        let mut by_environment: BTreeMap<EnvironmentName, Vec<FailedCheck>> = BTreeMap::new();
        for (position, envelope) in checks {
            for check in self.triggering_checks(position, &envelope).await? {
                by_environment.entry(check.environment.clone()).or_default().push(check);
            }
        }
        let responses = by_environment.into_values().map(|checks| async {
            for check in checks {
                self.respond(check).await?;
            }
            Ok(())
        });
        let results: Vec<Result<(), ControllerError>> =
            stream::iter(responses).buffer_unordered(ENVIRONMENTS_AT_ONCE).collect().await;
        results.into_iter().collect::<Result<(), _>>()?;
        let may_be_more = self.projections.advance_follower(CONTROLLER_NAME, checkpoint, last).await?;
        self.without_response().clear();
        Ok(may_be_more)
    }

    /// Returns the failed check once for each environment that it may affect, if the environment's policy at the
    /// position of the check enables automatic rollback for it. What runs there is read when the response is decided.
    async fn triggering_checks(
        &self,
        position: Position,
        envelope: &Envelope,
    ) -> Result<Vec<FailedCheck>, ControllerError> {
        let Payload::ValidationFailed(validation) = &envelope.event().payload else { return Ok(Vec::new()) };
        let environments = match envelope.event().payload.environment() {
            Some(environment) => vec![environment.clone()],
            // The check is of an artifact: consider every environment.
            None => self.projections.environments().await?.1.into_iter().map(|row| row.name).collect(),
        };
        let mut snapshot = self.projections.snapshot().await?;
        let mut triggering = Vec::new();
        for environment in environments {
            let in_force = snapshot.policy(&environment, position).await?;
            if triggered_rule(&in_force.policy, &validation.check).is_none() {
                continue;
            }
            triggering.extend(FailedCheck::of(environment, position, envelope));
        }
        Ok(triggering)
    }

    /// Returns true if the check is of an artifact and its failure is not the latest result for anything that runs now:
    /// the condition of [`Rejection::NotRunning`], for a check that cannot be decided. Returns false if that cannot be
    /// read in time at the journal's head: then a person has to decide.
    async fn is_of_artifact_not_running(&self, check: &FailedCheck) -> bool {
        if !check.is_of_artifact() {
            return false;
        }
        let read = AssertUnwindSafe(self.runs_nothing_failed(check)).catch_unwind();
        matches!(timeout(DECISION_TIMEOUT, read).await, Ok(Ok(Ok(true))))
    }

    /// Returns true if the projections are at the journal's head and nothing that runs has the check's failure as its
    /// latest result.
    async fn runs_nothing_failed(&self, check: &FailedCheck) -> Result<bool, ControllerError> {
        let Ok(head) = self.ingest.decider.head().await else { return Ok(false) };
        let mut snapshot = self.projections.snapshot().await?;
        if snapshot.position() < head {
            return Ok(false);
        }
        let composition = snapshot.state(&check.environment, AsOf::LATEST).await?.composition();
        Ok(failed_lanes(&mut snapshot, check, &composition).await?.is_none())
    }

    fn without_response(&self) -> MutexGuard<'_, HashSet<IdentityKey>> {
        self.without_response.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<IdentityKey, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failed attempt to answer a check; returns the number of attempts.
    fn count_attempt(&self, key: IdentityKey) -> u32 {
        let mut attempts = self.attempts();
        let attempts = attempts.entry(key).or_default();
        *attempts += 1;
        *attempts
    }

    async fn respond(&self, check: FailedCheck) -> Result<(), ControllerError> {
        let (tenant, environment, cause) =
            (self.tenant.to_string(), check.environment.to_string(), check.position);
        let key = check.identity().key();
        let has_none = self.without_response().contains(&key);
        if has_none || !self.projections.find_entries(&[key]).await?.is_empty() {
            return Ok(());
        }
        let check = Box::new(check);
        let request = Request::Failed(check.clone(), PointSearchUse::Allowed);
        let mut outcome = self.ingest.request(request).await;
        if outcome == RecordOutcome::Refused(RecordError::Undecided(Undecided::SearchTimedOut)) {
            // A retry would search as long again.
            let request = Request::Failed(check.clone(), PointSearchUse::TimedOut);
            outcome = self.ingest.request(request).await;
        }
        let is_undecided = matches!(
            outcome,
            RecordOutcome::Refused(RecordError::Undecided(Undecided::TimedOut | Undecided::Panicked))
        );
        if is_undecided && self.count_attempt(key) >= MAX_ATTEMPTS {
            if self.is_of_artifact_not_running(&check).await {
                self.attempts().remove(&key);
                self.without_response().insert(key);
                return Ok(());
            }
            // A person has to decide.
            let reason = DeclineReason::Undecided { attempts: MAX_ATTEMPTS };
            outcome = self.ingest.request(Request::Decline(check, reason)).await;
        }
        if !matches!(outcome, RecordOutcome::Refused(RecordError::Undecided(_))) {
            self.attempts().remove(&key);
        }
        match outcome {
            RecordOutcome::Recorded(position) => {
                info!(tenant, environment, %cause, %position, "recorded the response to a failed check");
                counter!("ledger_rollback_controller_answers_total", "tenant" => tenant).increment(1);
                Ok(())
            }
            // Another controller was first; its decision may differ, since it was made at another time.
            RecordOutcome::Duplicate(_) | RecordOutcome::Conflict(_) => Ok(()),
            RecordOutcome::Refused(RecordError::Rejected(rejection))
                if matches!(*rejection, Rejection::NotRunning { .. }) =>
            {
                self.without_response().insert(key);
                Ok(())
            }
            // A retry would be rejected again, and must not delay the other checks.
            RecordOutcome::Refused(RecordError::Rejected(rejection)) => {
                warn!(tenant, environment, %cause, reason = %rejection, "cannot respond to a failed check");
                self.without_response().insert(key);
                Ok(())
            }
            RecordOutcome::Refused(error) => Err(ControllerError::Record(error)),
        }
    }
}

/// Temporary failure of the controller.
#[derive(Debug, thiserror::Error)]
enum ControllerError {
    #[error(transparent)]
    Projections(#[from] ledger_projections::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Record(RecordError),
}
