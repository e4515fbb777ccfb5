//! Rollback by itself: what the controller answers to a failed check, and the follower that asks it.
//!
//! The answer is an event whose identity is derived from the failed check: a rollback's request, or a word
//! why there is none. So replays, restarts and several controllers come to one answer.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Actor, AutomaticRollback, Declined, Event, Payload, Policy, Validation, ValidationSubject,
};
use ledger_domain::known_good::Status;
use ledger_domain::rollback::{
    DeclineReason, KnownGoodPoint, PointSearch, Search, check_limits, concerned_lanes,
};
use ledger_domain::{
    EnvironmentName, EventId, Identity, IdentityKey, Lanes, LongText, PointRef, PointSelector, Position,
    ServiceName, ShortText, TargetName, TenantName,
};
use ledger_projections::{AsKnownAt, AsOf, LaneRelease, PolicyInForce, Projections, QueryError, Snapshot};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::planning::{Circumstances, RemovalRule, Resolved};
use crate::request::{DecisionError, Request, requested, source};
use crate::{Ingest, PlanRequest, RecordError, RecordOutcome};

/// The controller's name, as a follower and as an actor.
const NAME: &str = "rollback-controller";
/// Failed checks that are read at a time.
const PAGE: u32 = 100;
/// How long to wait before a check is looked at again that could not be answered.
const PAUSE: Duration = Duration::from_secs(1);
/// Seconds of a hundred years. A policy may allow any age; times are clamped so that they can be computed.
const CENTURY: u64 = 100 * 365 * 24 * 3_600;
/// How often an idle controller looks for failed checks, where nothing tells it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A check that failed, in an environment whose policy rolls back for it.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedCheck {
    environment: EnvironmentName,
    position: Position,
    key: IdentityKey,
    validation: Validation,
}

impl FailedCheck {
    /// The identity of the answer.
    pub(crate) fn identity(&self) -> Identity {
        let id = format!("{}/{}", self.key.0, self.environment);
        Identity {
            source: source("urn:release-ledger:rollback-controller"),
            id: EventId::parse(&id).expect("a UUID and a name are a line"),
        }
    }

    fn rollback_id(&self) -> ShortText {
        let text = format!("auto-{}-{}", self.environment, self.position);
        ShortText::parse(&text).expect("a name and a number are a line")
    }
}

fn controller() -> Actor {
    let word = |text| ShortText::parse(text).expect("a word of ours is a line");
    Actor { kind: word("workload"), name: word(NAME) }
}

/// The event that answers a failed check, by the ledger as it is.
pub(crate) async fn answer(
    snapshot: &mut Snapshot,
    check: &FailedCheck,
    now: DateTime<Utc>,
) -> Result<Event, DecisionError> {
    let PolicyInForce { declared, policy } = snapshot.policy(&check.environment, snapshot.position()).await?;
    let wanted = rule(&policy, &check.validation.check);
    Ok(match attempt(snapshot, check, &policy, wanted, now).await? {
        Ok((payload, passed_over)) => {
            let check = &check.validation.check;
            said(
                payload,
                &match passed_over.is_empty() {
                    true => format!("{check} failed"),
                    false => format!("{check} failed; passed over {}", passed_over.join("; ")),
                },
            )
        }
        Err(reason) => declined(check, declared, &reason.to_string()),
    })
}

/// The word that no rollback is asked for, and why.
pub(crate) fn declined(check: &FailedCheck, policy: Option<Position>, reason: &str) -> Event {
    let environment = check.environment.clone();
    said(Payload::RollbackDeclined(Declined { environment, cause: check.position, policy }), reason)
}

fn said(payload: Payload, reason: &str) -> Event {
    let reason: String = reason.chars().take(1_000).collect();
    let reason = LongText::parse(&reason).expect("a reason of ours is prose");
    Event { payload, actor: Some(controller()), reason: Some(reason), links: Vec::new(), corrects: None }
}

fn rule<'p>(policy: &'p Policy, check: &ShortText) -> Option<&'p AutomaticRollback> {
    let required = &policy.required_validations;
    policy.automatic_rollback.as_ref().filter(|rule| rule.is_triggered_by(check, required))
}

/// Points of the history that are read at a time.
const POINTS_AT_A_TIME: i64 = 16;

/// The request that answers a failed check, with the points that it passes over; or why there is none.
type Attempted = Result<(Payload, Vec<String>), DeclineReason>;

async fn attempt(
    snapshot: &mut Snapshot,
    check: &FailedCheck,
    policy: &Policy,
    rule: Option<&AutomaticRollback>,
    now: DateTime<Utc>,
) -> Result<Attempted, DecisionError> {
    let environment = &check.environment;
    let Some(rule) = rule else { return Ok(Err(DeclineReason::NotWanted)) };
    if !runs_there(snapshot, check).await? {
        return Ok(Err(DeclineReason::NotRunning));
    }
    if let Some((rollback_id, _)) = snapshot.active_rollback(environment).await? {
        return Ok(Err(DeclineReason::UnderWay(rollback_id)));
    }
    if let Some(taken) = snapshot.rollback(&check.rollback_id()).await? {
        let taken = taken.request.rollback.rollback_id;
        return Ok(Err(DeclineReason::Blocked(format!("there is a rollback {taken} already"))));
    }
    let past = snapshot.automatic_past(environment, now).await?;
    if let Err(reason) = check_limits(rule, &past, now) {
        return Ok(Err(reason));
    }
    let present: Lanes = snapshot.state(environment, AsOf::LATEST).await?.into_lanes();
    let Some(scope) = concerned_lanes(rule.scope, &check.validation.subject, policy, &present) else {
        return Ok(Err(DeclineReason::NotRunning));
    };
    let wish = PlanRequest {
        environment: environment.clone(),
        to: PointRef { environment: None, point: PointSelector::LastKnownGood },
        scope,
    };
    let circumstances = Circumstances::of(snapshot, &wish, now).await?;
    let mut search = PointSearch::new(rule, &present, now);
    let believed = AsKnownAt { known_at: None, now };
    let from = snapshot.position();
    let Some(mut walk) = snapshot.points(environment, from, believed).await? else {
        return Ok(Err(search.exhausted()));
    };
    let oldest = now - TimeDelta::seconds(rule.at_most_age_seconds.min(CENTURY).cast_signed());
    // Points before this change ended even earlier. None: only the last point may be young enough.
    let first = snapshot.first_change_after(environment, oldest).await?;
    let retired = snapshot.retirements(environment, from).await?.last_retired();
    while let Some(point) = walk.next(snapshot, POINTS_AT_A_TIME).await? {
        // What ran before the environment was retired is gone on purpose.
        if retired.is_some_and(|retired| point.since.occurred_at < retired) {
            break;
        }
        let last_stood_at = point.until.unwrap_or(now);
        if point.judgement.status != Status::KnownGood {
            let is_last = first.is_none_or(|first| point.number.is_none_or(|number| number < first));
            if is_last && last_stood_at < oldest {
                break;
            }
            continue;
        }
        let position = point.since.position;
        let resolved = Resolved { position, at: None, point: Some(point) };
        let planned = circumstances.plan_to(snapshot, resolved, RemovalRule::Shown).await?;
        let candidate =
            KnownGoodPoint { position, last_stood_at, plan: &planned.plan, issues: &planned.issues };
        match search.consider(&candidate) {
            Err(reason) => return Ok(Err(reason)),
            Ok(Search::PassOver) => {}
            Ok(Search::Take) => {
                let passed_over = search.passed_over().iter().map(ToString::to_string).collect();
                let cause = Some(check.position);
                let payload = requested(planned, check.rollback_id(), controller(), false, cause);
                return Ok(Ok((payload, passed_over)));
            }
        }
    }
    Ok(Err(search.exhausted()))
}

/// Returns true if the failure is the result of its check for something that runs now: for the composition, or for the release of a
/// lane.
async fn runs_there(snapshot: &mut Snapshot, check: &FailedCheck) -> Result<bool, QueryError> {
    let FailedCheck { environment, validation, position, .. } = check;
    let composition = snapshot.state(environment, AsOf::LATEST).await?.composition();
    let known_at = snapshot.position();
    if matches!(validation.subject, ValidationSubject::Environment(_)) {
        let id = composition.id();
        let results = snapshot.composition_verdicts(environment, &[id], known_at).await?;
        let result = results.get(&id).and_then(|results| results.of(&validation.check));
        return Ok(result.is_some_and(|result| result.position == *position));
    }
    let meant = |service: &ServiceName, target: &TargetName| match &validation.subject {
        ValidationSubject::Lane { lane, .. } => {
            lane.service == *service && lane.target.as_ref().is_none_or(|named| named == target)
        }
        ValidationSubject::Environment(_) | ValidationSubject::Artifact(_) => true,
    };
    let lanes = composition.lanes().filter(|(service, target, _)| meant(service, target));
    let ran: Vec<LaneRelease> = lanes
        .map(|(service, target, live)| LaneRelease {
            service: service.clone(),
            target: target.clone(),
            release: live.release.clone(),
        })
        .collect();
    let results = snapshot.verdicts(environment, &ran, known_at).await?;
    let mut of_check = results.iter().filter_map(|results| results.of(&validation.check));
    Ok(of_check.any(|result| result.position == *position))
}

/// The follower of one tenant.
pub struct Controller {
    tenant: TenantName,
    projections: Projections,
    ingest: Ingest,
}

impl Controller {
    /// A controller that follows a tenant's projections, and brings what it wants through the door.
    #[must_use]
    pub const fn new(tenant: TenantName, projections: Projections, ingest: Ingest) -> Self {
        Self { tenant, projections, ingest }
    }

    /// Answers failed checks until the token is cancelled.
    pub async fn run(self, cancelled: CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            never = self.follow() => match never {},
        }
    }

    async fn follow(&self) -> std::convert::Infallible {
        loop {
            let from = self.projections.projected();
            let pause = match self.page().await {
                Ok(true) => continue,
                // Projections that are being filled are told of elsewhere.
                Ok(false) | Err(Failed::Projections(ledger_projections::Error::NotReady(_))) => LOOK_AGAIN,
                Err(error) => {
                    warn!(tenant = %self.tenant, error = %error, "the rollback controller waits and tries again");
                    PAUSE
                }
            };
            self.projections.moved(from, pause).await;
        }
    }

    /// Answers the next failed checks; says whether there may be more.
    async fn page(&self) -> Result<bool, Failed> {
        // What they tell is of a history that is no more, or of one that is not theirs.
        if self.projections.divergence().is_some() {
            return Ok(false);
        }
        let begun = self.projections.followed(NAME).await?;
        let checks = self.projections.failed_checks(begun.position, PAGE).await?;
        let Some(last) = checks.last().map(|(position, _)| *position) else { return Ok(false) };
        for (position, envelope) in checks {
            for check in self.concerned(position, &envelope).await? {
                self.answer(check).await?;
            }
        }
        Ok(self.projections.follow(NAME, begun, last).await?)
    }

    /// The environments that a failed check concerns, by the policies that held when it was recorded.
    async fn concerned(&self, position: Position, envelope: &Envelope) -> Result<Vec<FailedCheck>, Failed> {
        let Payload::ValidationFailed(validation) = &envelope.event().payload else { return Ok(Vec::new()) };
        let environments = match envelope.event().payload.environment() {
            Some(environment) => vec![environment.clone()],
            // An artifact, wherever it runs.
            None => self.projections.environments().await?.1.into_iter().map(|row| row.name).collect(),
        };
        let mut snapshot = self.projections.snapshot().await?;
        let mut concerned = Vec::new();
        for environment in environments {
            let then = snapshot.policy(&environment, position).await?;
            if rule(&then.policy, &validation.check).is_none() {
                continue;
            }
            let check = FailedCheck {
                environment,
                position,
                key: envelope.identity().key(),
                validation: validation.clone(),
            };
            let everywhere = matches!(validation.subject, ValidationSubject::Artifact(_));
            if !everywhere || runs_there(&mut snapshot, &check).await? {
                concerned.push(check);
            }
        }
        Ok(concerned)
    }

    async fn answer(&self, check: FailedCheck) -> Result<(), Failed> {
        let (tenant, environment, cause) =
            (self.tenant.to_string(), check.environment.to_string(), check.position);
        let key = check.identity().key();
        if !self.projections.known(&[key]).await?.is_empty() {
            return Ok(());
        }
        match self.ingest.request(Request::Failed(Box::new(check))).await {
            RecordOutcome::Recorded(position) => {
                info!(tenant, environment, %cause, %position, "a failed check is answered");
                counter!("ledger_rollback_controller_answers_total", "tenant" => tenant).increment(1);
                Ok(())
            }
            // Another controller was first, and may have judged at another time.
            RecordOutcome::Duplicate(_) | RecordOutcome::Conflict(_) => Ok(()),
            // Asked again it would be refused again, and no other check may wait for that.
            RecordOutcome::Refused(RecordError::Rejected(rejection)) => {
                warn!(tenant, environment, %cause, reason = %rejection, "a failed check cannot be answered");
                Ok(())
            }
            RecordOutcome::Refused(refusal) => Err(Failed::Refused(refusal)),
        }
    }
}

/// Why a check could not be answered now.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Projections(#[from] ledger_projections::Error),
    #[error(transparent)]
    Ask(#[from] QueryError),
    #[error(transparent)]
    Refused(RecordError),
}
