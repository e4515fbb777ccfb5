//! The decision on an automatic rollback after a failed check.
//!
//! The response to a failed check is an event: a rollback request, or the reason why there is none. Its identity
//! is derived from the check, so that replays, restarts and several controllers produce one response.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Actor, AutomaticRollback, Declined, Event, Payload, Policy, Validation, ValidationSubject,
};
use ledger_domain::known_good::{CheckResults, Status};
use ledger_domain::rollback::{
    ConcernedLanes, DeclineReason, KnownGoodPoint, PointSearch, Search, check_limits,
};
use ledger_domain::{
    Composition, EnvironmentName, EventId, Identity, IdentityKey, Lanes, LongText, PointRef, PointSelector,
    Position, ServiceName, ShortText, TargetName,
};
use ledger_projections::{
    AsKnownAt, AsOf, KnownGoodSearch, LaneRelease, Point, PolicyInForce, QueryError, SEARCH_TIMEOUT, Snapshot,
};

use crate::planning::{PlanInputs, PlanRequest, RemovalRule, Resolved};
use crate::rejection::{DecisionError, Rejection};
use crate::source;

/// Name of the controller, as a follower of the projections and as an actor.
pub(crate) const CONTROLLER_NAME: &str = "rollback-controller";
/// Number of release points that are read at a time.
const POINT_PAGE_SIZE: i64 = 16;
/// Maximum age of a point in seconds: 100 years. A policy may allow any age; the clamp avoids an overflow.
const MAX_AGE_SECONDS: u64 = 100 * 365 * 24 * 3_600;
/// Maximum length in characters of a reason that the controller records.
const MAX_REASON_CHARS: usize = 1_000;

/// A failed check in an environment with a policy that enables automatic rollback for it.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedCheck {
    pub(crate) environment: EnvironmentName,
    pub(crate) position: Position,
    /// Identity key of the check's event.
    pub(crate) key: IdentityKey,
    pub(crate) validation: Validation,
}

/// Use of the search for a known-good point in the decision on a failed check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointSearchUse {
    /// The decision may search.
    Allowed,
    /// An earlier search timed out. The decision is made again, since what runs may have changed during the search;
    /// where it would search, it declines.
    TimedOut,
}

impl FailedCheck {
    /// Returns the failed check that an entry reports, as it concerns an environment; `None` if the entry reports none.
    #[must_use]
    pub fn of(environment: EnvironmentName, position: Position, envelope: &Envelope) -> Option<Self> {
        let Payload::ValidationFailed(validation) = &envelope.event().payload else { return None };
        // No decision reads the evidence, and one check may concern many environments.
        let validation = Validation { evidence: Vec::new(), ..validation.clone() };
        let key = envelope.identity().key();
        Some(Self { environment, position, key, validation })
    }

    /// Returns true if the check examined an artifact, and not a lane or an environment.
    pub(crate) const fn is_of_artifact(&self) -> bool {
        matches!(self.validation.subject, ValidationSubject::Artifact(_))
    }

    /// Returns true if the check may be of what a lane of a service runs, rather than of an environment as a whole.
    pub(crate) fn may_be_of_service(&self, service: &ServiceName) -> bool {
        match &self.validation.subject {
            ValidationSubject::Lane { lane, .. } => lane.service == *service,
            ValidationSubject::Artifact(_) => true,
            ValidationSubject::Environment(_) => false,
        }
    }

    /// Returns the identity of the response.
    pub(crate) fn identity(&self) -> Identity {
        let id = format!("{}/{}", self.key.0, self.environment);
        Identity {
            source: source("urn:release-ledger:rollback-controller"),
            id: EventId::parse(&id).expect("a UUID and a name form a valid id"),
        }
    }

    /// Describes the failure: the check, with its case counts if the report states any.
    fn failure(&self) -> String {
        let Validation { check, counts, .. } = &self.validation;
        match counts {
            Some(counts) => format!("{check} failed ({counts})"),
            None => format!("{check} failed"),
        }
    }

    fn rollback_id(&self) -> ShortText {
        let text = format!("auto-{}-{}", self.environment, self.position);
        ShortText::parse(&text).expect("a name and a number form a valid id")
    }
}

fn controller_actor() -> Actor {
    let text = |text| ShortText::parse(text).expect("a constant is valid");
    Actor { kind: text("workload"), name: text(CONTROLLER_NAME) }
}

/// The event that responds to a failed check.
pub(crate) struct CheckResponse {
    pub(crate) event: Event,
    /// Services of the check that run a release without its artifact in the environment. A deploy of one of them elsewhere
    /// may change which artifact its version means, and so to which lanes the check applies.
    pub(crate) services: Vec<ServiceName>,
}

/// Returns the response to a failed check in the state of a snapshot, or [`Rejection::NotRunning`] if the check gets
/// none.
pub(crate) async fn decide_failed_check(
    snapshot: &mut Snapshot,
    check: &FailedCheck,
    point_search: PointSearchUse,
    now: DateTime<Utc>,
) -> Result<CheckResponse, DecisionError> {
    let PolicyInForce { declared, policy } = snapshot.policy(&check.environment, snapshot.position()).await?;
    let running = Running::read(snapshot, &check.environment).await?;
    let event = match find_response(snapshot, check, &policy, &running, point_search, now).await? {
        Response::Rollback { request, skipped } => {
            let failure = check.failure();
            let reason = match skipped.is_empty() {
                true => failure,
                false => format!("{failure}; skipped {}", skipped.join("; ")),
            };
            controller_event(*request, &reason)
        }
        Response::Decline(reason) => declined_event(check, declared, &reason.to_string()),
    };
    Ok(CheckResponse { event, services: running.services_without_artifact(check) })
}

/// Returns the event that records why no rollback is requested.
pub(crate) fn declined_event(check: &FailedCheck, policy: Option<Position>, reason: &str) -> Event {
    let environment = check.environment.clone();
    let declined = Declined { environment, cause: check.position, policy };
    controller_event(
        Payload::RollbackDeclined(declined),
        &format!("{}; no rollback: {reason}", check.failure()),
    )
}

fn controller_event(payload: Payload, reason: &str) -> Event {
    let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
    let reason = LongText::parse(&reason).expect("a truncated reason is valid");
    Event {
        payload,
        actor: Some(controller_actor()),
        sender: None,
        reason: Some(reason),
        links: Vec::new(),
        corrects: None,
    }
}

/// Returns the policy's rule for automatic rollback, if the check triggers it.
pub(crate) fn triggered_rule<'p>(policy: &'p Policy, check: &ShortText) -> Option<&'p AutomaticRollback> {
    let required = &policy.required_validations;
    policy.automatic_rollback.as_ref().filter(|rule| rule.is_triggered_by(check, required))
}

/// Composition and lanes of the environment of a check.
struct Running {
    composition: Composition,
    lanes: Lanes,
}

impl Running {
    async fn read(snapshot: &mut Snapshot, environment: &EnvironmentName) -> Result<Self, DecisionError> {
        let state = snapshot.state(environment, AsOf::LATEST).await?;
        Ok(Self { composition: state.composition(), lanes: state.into_lanes() })
    }

    /// Returns the services that a check may be of and that run a release that does not state its artifact, sorted.
    fn services_without_artifact(&self, check: &FailedCheck) -> Vec<ServiceName> {
        let lanes = self
            .composition
            .lanes()
            .filter(|(service, _, live)| check.may_be_of_service(service) && live.release.artifact.is_none());
        let services: BTreeSet<ServiceName> = lanes.map(|(service, ..)| service.clone()).collect();
        services.into_iter().collect()
    }
}

/// The response to a failed check.
enum Response {
    /// A rollback request, with descriptions of the points that the search skipped.
    Rollback { request: Box<Payload>, skipped: Vec<String> },
    /// No rollback.
    Decline(DeclineReason),
}

async fn find_response(
    snapshot: &mut Snapshot,
    check: &FailedCheck,
    policy: &Policy,
    running: &Running,
    point_search: PointSearchUse,
    now: DateTime<Utc>,
) -> Result<Response, DecisionError> {
    let environment = &check.environment;
    let failed = failed_lanes(snapshot, check, &running.composition).await?;
    // A check of an artifact names no environment: where the artifact does not run, it gets no response.
    if failed.is_none() && check.is_of_artifact() {
        let (cause, environment) = (check.position, environment.clone());
        return Err(Rejection::NotRunning { cause, environment }.into());
    }
    let Some(rule) = triggered_rule(policy, &check.validation.check) else {
        return Ok(Response::Decline(DeclineReason::NotWanted));
    };
    let Some(failed) = failed else { return Ok(Response::Decline(DeclineReason::NotRunning)) };
    if let Some(reason) = reason_not_to_search(snapshot, check, rule, now).await? {
        return Ok(Response::Decline(reason));
    }
    let Some(concerned) = ConcernedLanes::of(rule.scope, &check.validation.subject, policy, &failed) else {
        return Ok(Response::Decline(DeclineReason::NotRunning));
    };
    if point_search == PointSearchUse::TimedOut {
        return Ok(Response::Decline(DeclineReason::SearchTimedOut(SEARCH_TIMEOUT.as_secs())));
    }
    let request = PlanRequest {
        environment: environment.clone(),
        to: PointRef { environment: None, point: PointSelector::LastKnownGood },
        scope: concerned.filter(),
    };
    let inputs = PlanInputs::read(snapshot, &request, now).await?;
    let mut search = PointSearch::new(rule, &running.lanes, now);
    let as_known_at = AsKnownAt { known_at: None, now };
    let Some(points) = snapshot.points(environment, snapshot.position(), as_known_at).await? else {
        return Ok(Response::Decline(search.exhausted()));
    };
    let mut points = KnownGoodSearch::new(environment.clone(), points);
    let end = SearchEnd::read(snapshot, environment, rule, now).await?;
    while let Some(point) = points.next(snapshot, POINT_PAGE_SIZE, end.first_change).await? {
        let last_stood_at = point.until.unwrap_or(now);
        if end.is_reached(&point, last_stood_at) {
            break;
        }
        if point.judgement.status != Status::KnownGood {
            continue;
        }
        let position = point.since.position;
        let resolved = Resolved { position, at: None, point: Some(point) };
        let planned = inputs.plan_to(snapshot, resolved, RemovalRule::Shown).await?;
        if let Err(reason) = concerned.check(&planned.plan) {
            return Ok(Response::Decline(reason));
        }
        let candidate =
            KnownGoodPoint { position, last_stood_at, plan: &planned.plan, issues: &planned.issues };
        match search.consider(&candidate) {
            Err(reason) => return Ok(Response::Decline(reason)),
            Ok(Search::PassOver) => {}
            Ok(Search::Take) => {
                let skipped = search.passed_over().iter().map(ToString::to_string).collect();
                let (rollback_id, cause) = (check.rollback_id(), Some(check.position));
                let request = planned.into_rollback_request(rollback_id, controller_actor(), false, cause);
                return Ok(Response::Rollback { request: Box::new(request), skipped });
            }
        }
    }
    Ok(Response::Decline(search.exhausted()))
}

/// Returns the reason to decline a rollback that depends neither on what the check speaks of nor on any point.
async fn reason_not_to_search(
    snapshot: &mut Snapshot,
    check: &FailedCheck,
    rule: &AutomaticRollback,
    now: DateTime<Utc>,
) -> Result<Option<DeclineReason>, DecisionError> {
    if let Some((rollback_id, _)) = snapshot.active_rollback(&check.environment).await? {
        return Ok(Some(DeclineReason::UnderWay(rollback_id)));
    }
    if let Some(existing) = snapshot.rollback(&check.rollback_id()).await? {
        let rollback_id = existing.request.rollback.rollback_id;
        return Ok(Some(DeclineReason::Blocked(format!("rollback {rollback_id} already exists"))));
    }
    let past = snapshot.automatic_past(&check.environment, now).await?;
    Ok(check_limits(rule, &past, now).err())
}

/// The end of the search among an environment's points, latest first.
struct SearchEnd {
    /// Earliest time at which a point may have ended.
    oldest: DateTime<Utc>,
    /// Number of the first composition change after that time. Points before this change ended even earlier. `None`:
    /// only the last point may be young enough.
    first_change: Option<u64>,
    /// Time of the environment's last retirement. Releases that ran before it were removed intentionally.
    retired: Option<DateTime<Utc>>,
}

impl SearchEnd {
    async fn read(
        snapshot: &mut Snapshot,
        environment: &EnvironmentName,
        rule: &AutomaticRollback,
        now: DateTime<Utc>,
    ) -> Result<Self, DecisionError> {
        let max_age = TimeDelta::seconds(rule.at_most_age_seconds.min(MAX_AGE_SECONDS).cast_signed());
        let oldest = now - max_age;
        let first_change = snapshot.first_change_after(environment, oldest).await?;
        let retirements = snapshot.retirements(environment, snapshot.position()).await?;
        Ok(Self { oldest, first_change, retired: retirements.last_retired() })
    }

    /// Returns true if neither this point nor an earlier one can be taken. A known-good point that is too old does not
    /// end the search: it is the reason to decline.
    fn is_reached(&self, point: &Point, last_stood_at: DateTime<Utc>) -> bool {
        if self.retired.is_some_and(|retired| point.since.occurred_at < retired) {
            return true;
        }
        let is_before_first_change =
            self.first_change.is_none_or(|first| point.number.is_none_or(|number| number < first));
        point.judgement.status != Status::KnownGood && is_before_first_change && last_stood_at < self.oldest
    }
}

/// Returns the lanes in which the failure is the latest result of its check for what runs there now; for a check of the
/// environment, all lanes, if it is that for the composition. Returns `None` if the failure is not the latest result for
/// anything that runs. `composition` is what runs there now.
pub(crate) async fn failed_lanes(
    snapshot: &mut Snapshot,
    check: &FailedCheck,
    composition: &Composition,
) -> Result<Option<BTreeSet<(ServiceName, TargetName)>>, QueryError> {
    let FailedCheck { environment, validation, position, .. } = check;
    let known_at = snapshot.position();
    if matches!(validation.subject, ValidationSubject::Environment(_)) {
        let id = composition.id();
        let results = snapshot.composition_verdicts(environment, &[id], known_at).await?;
        let result = results.get(&id).and_then(|results| results.of(&validation.check));
        let is_latest = result.is_some_and(|result| result.position == *position);
        let all =
            || composition.lanes().map(|(service, target, _)| (service.clone(), target.clone())).collect();
        return Ok(is_latest.then(all));
    }
    let is_subject = |service: &ServiceName, target: &TargetName| match &validation.subject {
        ValidationSubject::Lane { lane, .. } => {
            lane.service == *service && lane.target.as_ref().is_none_or(|named| named == target)
        }
        ValidationSubject::Environment(_) | ValidationSubject::Artifact(_) => true,
    };
    let lanes = composition.lanes().filter(|(service, target, _)| is_subject(service, target));
    let running: Vec<LaneRelease> = lanes
        .map(|(service, target, live)| LaneRelease {
            service: service.clone(),
            target: target.clone(),
            release: live.release.clone(),
        })
        .collect();
    let results = snapshot.verdicts(environment, &running, known_at).await?;
    let is_latest = |results: &CheckResults| {
        results.of(&validation.check).is_some_and(|result| result.position == *position)
    };
    let failed = running.into_iter().zip(&results).filter(|(_, results)| is_latest(results));
    let failed: BTreeSet<_> = failed.map(|(ran, _)| (ran.service, ran.target)).collect();
    Ok(Some(failed).filter(|failed| !failed.is_empty()))
}

#[cfg(test)]
mod tests {
    use ledger_domain::event::Counts;

    use super::*;

    fn failed_check(counts: Option<Counts>) -> FailedCheck {
        let environment = EnvironmentName::parse("production").expect("a name");
        let id = EventId::parse("1").expect("an id");
        FailedCheck {
            position: Position::new(7),
            key: Identity { source: source("ci"), id }.key(),
            validation: Validation {
                check: ShortText::parse("smoke").expect("a name"),
                subject: ValidationSubject::Environment(environment.clone()),
                run: None,
                evidence: Vec::new(),
                counts,
            },
            environment,
        }
    }

    fn reason_to_decline(counts: Option<Counts>) -> String {
        let event = declined_event(&failed_check(counts), None, "the environment would run nothing");
        event.reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_declined_rollback_names_the_failed_check_with_its_counts() {
        assert_eq!(
            reason_to_decline(Some(Counts { passed: 11, failed: 2, skipped: 0 })),
            "smoke failed (11 cases passed, 2 failed, 0 skipped); no rollback: the environment would run nothing"
        );
        assert_eq!(reason_to_decline(None), "smoke failed; no rollback: the environment would run nothing");
    }
}
