//! Requests, and the decisions on them in the ledger's current state.
//!
//! A report states what happened, and is always recorded. A request asks for something: it is decided at the
//! head of the journal, and its event is appended only if the head has not moved; otherwise it is decided again.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Actor, Approval, ApprovalSubject, Event, Freeze, Payload, Policy, ReleasePointId, Rollback,
    RollbackRequest, Sender,
};
use ledger_domain::plan_issue::{PlanIssue, Revocations};
use ledger_domain::rollback::{
    DeclineReason, RequestContent, RollbackPhase, RollbackState, TransitionError, differing, start,
    step_claim,
};
use ledger_domain::{
    ConfigDigest, EnvironmentName, EventId, Identity, LongText, PointInTime, PointRef, PointSelector,
    Position, ServiceName, ShortText, SubscriptionName,
};
use ledger_projections::{AsKnownAt, AsOf, QueryError, RollbackRow, Snapshot};

use crate::automatic::{self, CheckResponse, FailedCheck, PointSearchUse};
use crate::planning::{PlanError, PlanRequest, Planned, current_lanes, plan, resolve};
use crate::rejection::{DecisionError, Rejection};
use crate::source;

/// Maximum number of subscriptions of a tenant.
const MAX_SUBSCRIPTIONS: usize = 100;

/// Request for a rollback. Its plan is made when the request is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRollback {
    /// Requested plan.
    pub plan_request: PlanRequest,
    /// Id of the rollback.
    pub rollback_id: ShortText,
    /// Reason of the request.
    pub reason: LongText,
    /// Actor who requests the rollback.
    pub initiated_by: Actor,
    /// The authenticated sender of the request; `None` if the service did not authenticate it.
    pub sender: Option<Box<Sender>>,
    /// True to pass the issues that force may override.
    pub force: bool,
    /// Expected position of the environment's last change, if the requester states one.
    pub expected_position: Option<Position>,
    /// Expected digest of the plan, if the requester states one.
    pub plan_digest: Option<ConfigDigest>,
}

impl RequestRollback {
    /// Returns true if a recorded rollback came from the same request: same environment, scope, reason, force and
    /// requester, and the same point in the state known when the rollback was requested.
    pub(crate) async fn is_same(
        &self,
        snapshot: &mut Snapshot,
        recorded: &RollbackRow,
    ) -> Result<bool, DecisionError> {
        let request = &recorded.request;
        let recorded_request = RequestContent::of(request, recorded.reason.as_ref());
        let own_request = RequestContent {
            environment: &self.plan_request.environment,
            source: self.plan_request.source(),
            scope: &self.plan_request.scope,
            force: self.force,
            requester: &self.initiated_by,
            reason: Some(&self.reason),
            ..recorded_request
        };
        // Resolve the point only if everything else is the same.
        if !own_request.is_same(&recorded_request) {
            return Ok(false);
        }
        let environment = self.plan_request.source().unwrap_or(&self.plan_request.environment);
        let as_known_at = AsKnownAt { known_at: Some(request.plan.from), now: recorded.requested_at };
        match resolve(snapshot, environment, &self.plan_request.to.point, as_known_at).await {
            Ok(resolved) => {
                let own_request = RequestContent { to: resolved.position, at: resolved.at, ..own_request };
                Ok(own_request.is_same(&recorded_request))
            }
            Err(PlanError::Query(QueryError::Projections(error))) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }
}

/// Request that needs a decision.
#[derive(Debug, Clone)]
pub enum Request {
    /// A complete event of a command type.
    Event(Box<Envelope>),
    /// A rollback without a plan.
    Rollback(Box<RequestRollback>),
    /// A failed check, to which the rollback controller responds.
    Failed(Box<FailedCheck>, PointSearchUse),
    /// A failed check, with the reason why the controller declines without a decision.
    Decline(Box<FailedCheck>, DeclineReason),
}

impl Request {
    /// Returns the identity of the event that the request leads to.
    #[must_use]
    pub fn identity(&self) -> Identity {
        match self {
            Self::Event(envelope) => envelope.identity().clone(),
            Self::Rollback(request) => Identity {
                source: source("urn:release-ledger:api"),
                id: EventId::parse(request.rollback_id.as_str()).expect("a rollback id is a valid event id"),
            },
            Self::Failed(check, _) | Self::Decline(check, _) => check.identity(),
        }
    }

    /// Returns true if the decision may search for a known-good point.
    pub(crate) fn may_search(&self) -> bool {
        match self {
            Self::Event(_) | Self::Decline(..) => false,
            Self::Rollback(request) => request.plan_request.to.point == PointSelector::LastKnownGood,
            Self::Failed(_, search) => *search == PointSearchUse::Allowed,
        }
    }

    /// Returns the environments whose entries may change the decision; `None` if no entry changes it. Entries without
    /// an environment may always change it.
    pub(crate) fn environments(&self) -> Option<Vec<EnvironmentName>> {
        let mut environments = Vec::new();
        match self {
            Self::Event(envelope) => {
                let payload = &envelope.event().payload;
                environments.extend(payload.environment().cloned());
                if let Payload::RollbackRequested(request) = payload {
                    environments.extend(request.source.clone());
                }
            }
            Self::Rollback(request) => {
                environments.push(request.plan_request.environment.clone());
                environments.extend(request.plan_request.source().cloned());
            }
            Self::Failed(check, _) => environments.push(check.environment.clone()),
            Self::Decline(..) => return None,
        }
        Some(environments)
    }
}

/// Event that was decided for a request.
pub(crate) struct DecidedEvent {
    pub(crate) envelope: Envelope,
    /// If the request is a failed check, [`CheckResponse::services`]; otherwise empty.
    pub(crate) checked_services: Vec<ServiceName>,
}

/// Decides a request in the state of a snapshot, and returns the event to append.
pub(crate) async fn decide(
    snapshot: &mut Snapshot,
    request: &Request,
    now: DateTime<Utc>,
) -> Result<DecidedEvent, DecisionError> {
    let mut checked_services = Vec::new();
    let envelope = match request {
        Request::Event(envelope) => {
            decide_event(snapshot, envelope, now).await?;
            envelope.as_ref().clone()
        }
        Request::Rollback(rollback) => {
            let event = decide_rollback(snapshot, rollback, now).await?;
            compose(request.identity(), now, event)?
        }
        Request::Failed(check, search) => {
            let CheckResponse { event, services } =
                automatic::decide_failed_check(snapshot, check, *search, now).await?;
            checked_services = services;
            compose(request.identity(), now, event).or_else(|error| {
                let declined = automatic::declined_event(check, None, &error.to_string());
                compose(request.identity(), now, declined)
            })?
        }
        Request::Decline(check, reason) => {
            let policy = snapshot.policy(&check.environment, snapshot.position()).await?;
            let declined = automatic::declined_event(check, policy.declared, &reason.to_string());
            compose(request.identity(), now, declined)?
        }
    };
    Ok(DecidedEvent { envelope, checked_services })
}

fn compose(identity: Identity, now: DateTime<Utc>, event: Event) -> Result<Envelope, DecisionError> {
    let steps = match &event.payload {
        Payload::RollbackRequested(request) => request.plan.steps.len(),
        _ => 0,
    };
    Envelope::compose(identity, now, event).map_err(|_| Rejection::TooLarge(steps).into())
}

async fn decide_event(
    snapshot: &mut Snapshot,
    envelope: &Envelope,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let event = envelope.event();
    match &event.payload {
        Payload::RollbackRequested(request) => decide_requested(snapshot, event, request, now).await,
        Payload::RollbackStarted(start) => decide_start(snapshot, start, event.actor.as_ref(), now).await,
        Payload::DeployStarted(deploy) => decide_step(snapshot, deploy, now).await,
        Payload::RollbackFailed(rollback) => {
            Ok(RollbackContext::of(snapshot, rollback, now).await?.state().fail()?)
        }
        Payload::RollbackCancelled(rollback) => {
            Ok(RollbackContext::of(snapshot, rollback, now).await?.state().cancel()?)
        }
        Payload::RollbackSucceeded(rollback) => {
            let context = RollbackContext::of(snapshot, rollback, now).await?;
            let differing = not_reached(snapshot, &context.row).await?;
            Ok(context.state().succeed(differing)?)
        }
        Payload::ApprovalGranted(approval) | Payload::ApprovalRejected(approval) => {
            decide_approval(snapshot, approval, event.actor.as_ref(), now).await
        }
        Payload::ReleasePointMarked(mark) => decide_mark(snapshot, &mark.point).await,
        Payload::ReleasePointRevoked(point) => {
            let marks = snapshot.marks(&point.environment, snapshot.position()).await?;
            let composition = snapshot.composition_id(&point.environment, point.position).await?;
            if marks.on(composition).is_some() {
                Ok(())
            } else {
                Err(Rejection::NotMarked(point.position).into())
            }
        }
        Payload::EnvironmentDeclared(environment, policy) => Ok(check_policy(environment, policy)?),
        Payload::RollbackDeclined(_) => Err(Rejection::NotTheController.into()),
        Payload::SubscriptionCreated(subscription) => decide_subscription(snapshot, &subscription.name).await,
        Payload::SubscriptionRemoved(name) => decide_removal(snapshot, name).await,
        Payload::SubscriptionDisabled(_) => Err(Rejection::NotTheDeliverer.into()),
        Payload::ArtifactReinstated(reinstated)
            if snapshot.revoked([&reinstated.artifact]).await?.is_empty() =>
        {
            Err(Rejection::NotRevoked(reinstated.artifact.clone()).into())
        }
        Payload::FreezeStarted(freeze) => {
            decide_freeze(snapshot, freeze, false, envelope.occurred_at()).await
        }
        Payload::FreezeLifted(freeze) => decide_freeze(snapshot, freeze, true, envelope.occurred_at()).await,
        // A reinstatement of a revoked artifact, and reports, which are not decided.
        Payload::ArtifactReinstated(_)
        | Payload::ArtifactBuilt(_)
        | Payload::ArtifactRevoked(_)
        | Payload::DeploySucceeded(_)
        | Payload::DeployFailed(_)
        | Payload::DeployRemoved(_)
        | Payload::TrafficSwitched(_)
        | Payload::ValidationStarted(_)
        | Payload::ValidationPassed(_)
        | Payload::ValidationFailed(_)
        | Payload::EnvironmentObserved(_)
        | Payload::EnvironmentRetired(_)
        | Payload::IncidentOpened(_)
        | Payload::IncidentResolved(_)
        | Payload::ActivityReported(_)
        | Payload::TokenCreated(_)
        | Payload::TokenRotated(_)
        | Payload::TokenRevoked(_)
        | Payload::GrantAdded(_)
        | Payload::GrantRemoved(_)
        | Payload::TenantCreated(_)
        | Payload::TenantRetired(_) => Ok(()),
    }
}

/// Checks that a new subscription does not exceed their number.
async fn decide_subscription(snapshot: &mut Snapshot, name: &SubscriptionName) -> Result<(), DecisionError> {
    let subscriptions = snapshot.subscriptions().await?;
    let is_known = subscriptions.iter().any(|row| row.subscription.name == *name);
    if is_known || subscriptions.len() < MAX_SUBSCRIPTIONS {
        return Ok(());
    }
    Err(Rejection::TooManySubscriptions(MAX_SUBSCRIPTIONS).into())
}

/// Checks that the subscription to remove exists.
async fn decide_removal(snapshot: &mut Snapshot, name: &SubscriptionName) -> Result<(), DecisionError> {
    match snapshot.subscription(name).await? {
        Some(_) => Ok(()),
        None => Err(Rejection::UnknownSubscription(name.clone()).into()),
    }
}

/// Checks that an authenticated sender requests a rollback in its own name: who requests it may not approve it. A
/// workload may name the person for whom it works.
fn check_requester(event: &Event, request: &RollbackRequest) -> Result<(), Rejection> {
    let (Some(_), Some(actor)) = (&event.sender, &event.actor) else { return Ok(()) };
    let initiated_by = &request.initiated_by;
    if actor == initiated_by || actor.is_workload() && initiated_by.is_person() {
        return Ok(());
    }
    Err(Rejection::NotTheRequester(initiated_by.name.clone(), actor.name.clone()))
}

/// Decides a rollback that is requested by a complete event: its plan must equal the ledger's own.
async fn decide_requested(
    snapshot: &mut Snapshot,
    event: &Event,
    request: &RollbackRequest,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    check_requester(event, request)?;
    let Rollback { environment, rollback_id } = &request.rollback;
    if request.automatic || request.cause.is_some() {
        return Err(Rejection::NotTheController.into());
    }
    check_no_other_rollback(snapshot, environment, rollback_id).await?;
    let planned = plan(snapshot, &plan_request_of(request), now).await?;
    let digest = planned.plan.digest();
    let declared = planned.policy.declared;
    if let Some(named) = request.policy
        && request.policy != declared
    {
        let declared = declared.map_or("the environment has none".to_owned(), |position| {
            format!("the environment's is at position {position}")
        });
        let reason = format!("the request names the one at position {named}, but {declared}");
        return Err(Rejection::Policy(reason).into());
    }
    let expected = request.plan.from;
    if planned.environment_position > expected {
        return Err(Rejection::EnvironmentMoved { expected, planned: planned.into() }.into());
    }
    if request.plan.digest() != digest || request.plan_digest.as_str() != digest {
        return Err(Rejection::PlanChanged { planned: planned.into() }.into());
    }
    check_not_blocked(planned, request.force).map(|_| ()).map_err(Into::into)
}

async fn decide_rollback(
    snapshot: &mut Snapshot,
    request: &RequestRollback,
    now: DateTime<Utc>,
) -> Result<Event, DecisionError> {
    check_no_other_rollback(snapshot, &request.plan_request.environment, &request.rollback_id).await?;
    let planned = plan(snapshot, &request.plan_request, now).await?;
    let expected = request.expected_position;
    if let Some(expected) = expected.filter(|expected| *expected != planned.environment_position) {
        return Err(Rejection::EnvironmentMoved { expected, planned: planned.into() }.into());
    }
    let digest = planned.plan.digest();
    if request.plan_digest.as_ref().is_some_and(|expected| expected.as_str() != digest) {
        return Err(Rejection::PlanChanged { planned: planned.into() }.into());
    }
    let planned = check_not_blocked(planned, request.force)?;
    let (rollback_id, initiated_by) = (request.rollback_id.clone(), request.initiated_by.clone());
    Ok(Event {
        payload: planned.into_rollback_request(rollback_id, initiated_by, request.force, None),
        actor: Some(request.initiated_by.clone()),
        sender: request.sender.clone(),
        reason: Some(request.reason.clone()),
        links: Vec::new(),
        corrects: None,
    })
}

/// Checks that the id is unused and that no rollback of the environment is active.
async fn check_no_other_rollback(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    rollback_id: &ShortText,
) -> Result<(), DecisionError> {
    if let Some(row) = snapshot.rollback(rollback_id).await? {
        let (rollback_id, position) = (rollback_id.clone(), row.requested);
        return Err(Rejection::RollbackExists { rollback_id, position, phase: row.phase }.into());
    }
    match snapshot.active_rollback(environment).await? {
        Some((rollback_id, position)) => Err(Rejection::UnderWay { rollback_id, position }.into()),
        None => Ok(()),
    }
}

fn check_not_blocked(planned: Planned, force: bool) -> Result<Planned, Rejection> {
    if planned.blockers(force).next().is_some() {
        return Err(Rejection::Blocked { planned: planned.into(), force });
    }
    Ok(planned)
}

/// A rollback with everything that decides its next transition.
pub struct RollbackContext {
    /// The rollback.
    pub row: RollbackRow,
    /// Number of people other than the requester who must approve, by the policy in force at the request.
    pub approvals: u32,
    /// People's approvals and rejections.
    pub votes: Vec<ledger_domain::gate::ApprovalVote>,
}

impl RollbackContext {
    async fn of(
        snapshot: &mut Snapshot,
        rollback: &Rollback,
        now: DateTime<Utc>,
    ) -> Result<Self, DecisionError> {
        let Rollback { environment, rollback_id } = rollback;
        let row = snapshot.rollback(rollback_id).await?;
        match row.filter(|row| row.request.rollback.environment == *environment) {
            Some(row) => Ok(Self::with(snapshot, row, now).await?),
            None => Err(Rejection::UnknownRollback(rollback_id.clone(), environment.clone()).into()),
        }
    }

    /// Reads the approvals of a rollback.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn with(
        snapshot: &mut Snapshot,
        row: RollbackRow,
        now: DateTime<Utc>,
    ) -> Result<Self, ledger_projections::Error> {
        let Rollback { environment, rollback_id } = &row.request.rollback;
        let policy = snapshot.policy(environment, row.requested).await?;
        let votes = snapshot.votes_on_rollback(environment, rollback_id, now).await?;
        Ok(Self { approvals: policy.policy.approvals, votes, row })
    }

    /// Returns the state that decides which transitions of the rollback are allowed.
    #[must_use]
    pub fn state(&self) -> RollbackState<'_> {
        RollbackState {
            phase: self.row.phase,
            initiated_by: &self.row.request.initiated_by,
            approvals: self.approvals,
            votes: &self.votes,
        }
    }
}

/// Returns the plan request that corresponds to a recorded rollback request.
fn plan_request_of(request: &RollbackRequest) -> PlanRequest {
    let point_in_time = request.at.map_or(PointInTime::Position(request.to), PointInTime::Time);
    PlanRequest {
        environment: request.rollback.environment.clone(),
        to: PointRef { environment: request.source.clone(), point: PointSelector::At(point_in_time) },
        scope: request.scope.clone(),
    }
}

/// Describes the lanes that do not run what the rollback's plan ends with: now, or at the rollback's end.
///
/// # Errors
/// The database does not answer.
pub async fn not_reached(snapshot: &mut Snapshot, rollback: &RollbackRow) -> Result<Vec<String>, QueryError> {
    let environment = &rollback.request.rollback.environment;
    let lanes = match rollback.ended {
        Some(ended) => snapshot.state(environment, AsOf::Position(ended)).await?.into_lanes(),
        None => current_lanes(snapshot, environment, true).await?,
    };
    Ok(differing(&rollback.request.plan, &lanes))
}

/// Returns true if a barrier, a freeze or a retirement since a rollback's request blocks it in spite of its force.
fn is_blocked_since_request(planned: &Planned, request: &RollbackRequest) -> bool {
    planned.issues.iter().any(|(issue, severity)| {
        let may_block =
            matches!(issue, PlanIssue::Barrier(_) | PlanIssue::Frozen(_) | PlanIssue::EnvironmentRetired(_));
        let is_since = issue.position().is_some_and(|position| position > request.plan.from);
        may_block && is_since && !severity.permits(request.force)
    })
}

async fn decide_start(
    snapshot: &mut Snapshot,
    start_event: &ledger_domain::event::RollbackStart,
    actor: Option<&Actor>,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    if !start_event.acknowledge.is_empty() && !actor.is_some_and(Actor::is_person) {
        let name = actor.map(|actor| actor.name.clone());
        return Err(Rejection::AcknowledgeNeedsPerson(name).into());
    }
    let context = RollbackContext::of(snapshot, &start_event.rollback, now).await?;
    context.state().start()?;
    let request = &context.row.request;
    let environment = &request.rollback.environment;
    let lanes = current_lanes(snapshot, environment, true).await?;
    let releases: Vec<_> =
        request.plan.steps.iter().filter_map(|step| Some((&step.service, step.to.as_ref()?))).collect();
    let (revoked, version_artifacts) = snapshot.revoked_releases(environment, &releases, now).await?;
    let revocations = Revocations { revoked: &revoked, version_artifacts: Some(&version_artifacts) };
    let problems = start(&request.plan, &lanes, revocations, &start_event.acknowledge);
    if let Some(cause) = request.cause.filter(|_| request.automatic)
        && snapshot.is_corrected(cause).await?
    {
        return Err(Rejection::CauseCorrected(cause).into());
    }
    let planned = match plan(snapshot, &plan_request_of(request), now).await {
        Ok(planned) => Some(Arc::new(planned)),
        Err(PlanError::Query(QueryError::Projections(error))) => return Err(error.into()),
        Err(_) => None,
    };
    if !problems.is_empty() {
        return Err(Rejection::StartBlocked { problems, planned }.into());
    }
    match planned.filter(|planned| is_blocked_since_request(planned, request)) {
        Some(planned) => Err(Rejection::Blocked { planned, force: request.force }.into()),
        None => Ok(()),
    }
}

/// Decides the start of a deploy. If it is a step of an active rollback, the step's preconditions are checked
/// again; any other start is a report.
async fn decide_step(
    snapshot: &mut Snapshot,
    deploy: &ledger_domain::event::Deploy,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let Some(rollback_id) = &deploy.rollback_id else { return Ok(()) };
    let Some(row) = snapshot.rollback(rollback_id).await? else { return Ok(()) };
    let environment = &row.request.rollback.environment;
    if *environment != deploy.lane.environment {
        return Ok(());
    }
    match row.phase {
        RollbackPhase::Started => {}
        RollbackPhase::Requested => return Err(TransitionError::NotStarted.into()),
        ended => return Err(TransitionError::Ended(ended).into()),
    }
    let steps: Vec<_> = row
        .request
        .plan
        .steps
        .iter()
        .filter(|step| {
            step.service == deploy.lane.service
                && deploy.lane.target.as_ref().is_none_or(|target| *target == step.target)
        })
        .collect();
    if steps.is_empty() {
        return Ok(());
    }
    let lanes = current_lanes(snapshot, environment, true).await?;
    let releases: Vec<_> = steps.iter().filter_map(|step| Some((&step.service, step.to.as_ref()?))).collect();
    let (revoked, version_artifacts) = snapshot.revoked_releases(environment, &releases, now).await?;
    let revocations = Revocations { revoked: &revoked, version_artifacts: Some(&version_artifacts) };
    // A deploy without a target claims the step of every target of the service.
    let problems: Vec<_> = steps.into_iter().flat_map(|step| step_claim(step, &lanes, revocations)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Rejection::StepBlocked { problems }.into()) }
}

async fn decide_approval(
    snapshot: &mut Snapshot,
    approval: &Approval,
    actor: Option<&Actor>,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    match (&approval.subject, actor) {
        (ApprovalSubject::Rollback { environment, rollback_id }, Some(actor)) => {
            let rollback = Rollback { environment: environment.clone(), rollback_id: rollback_id.clone() };
            Ok(RollbackContext::of(snapshot, &rollback, now).await?.state().answer(actor)?)
        }
        // The requester of a deploy is known only to the gate, so self-approval cannot be checked here.
        (ApprovalSubject::Deploy { .. }, Some(actor)) if !actor.is_person() => {
            Err(TransitionError::NotAPerson(actor.name.clone()).into())
        }
        _ => Ok(()),
    }
}

/// Decides the mark of a point. Its environment must exist at the position; nothing needs to run there.
async fn decide_mark(snapshot: &mut Snapshot, point: &ReleasePointId) -> Result<(), DecisionError> {
    let ReleasePointId { environment, position } = point;
    snapshot.state(environment, AsOf::Position(*position)).await?;
    Ok(())
}

pub(crate) fn check_policy(environment: &EnvironmentName, policy: &Policy) -> Result<(), Rejection> {
    if let Some(service) = policy.circular_dependency() {
        return Err(Rejection::Policy(format!("{service} depends on itself, directly or through others")));
    }
    let automatic = policy.automatic_rollback.as_ref();
    if automatic.is_some_and(|rule| rule.checks.is_empty()) && policy.required_validations.is_empty() {
        let reason = "automatic_rollback needs checks: name some there or in required_validations";
        return Err(Rejection::Policy(reason.into()));
    }
    if policy.promotion.as_ref().is_some_and(|promotion| promotion.from.contains(environment)) {
        return Err(Rejection::Policy(format!("promotion.from must not name {environment} itself")));
    }
    Ok(())
}

async fn decide_freeze(
    snapshot: &mut Snapshot,
    freeze: &Freeze,
    lifts: bool,
    occurred_at: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let Freeze { environment, freeze_id, until } = freeze;
    let is_active = snapshot.is_unlifted(environment, freeze_id, occurred_at).await?;
    let reason = match (lifts, is_active) {
        (true, false) => Some(format!("freeze {freeze_id} of {environment} is not active")),
        (false, true) => Some(format!("freeze {freeze_id} of {environment} is already active")),
        (false, false) if until.is_some_and(|until| until <= occurred_at) => {
            Some(format!("freeze {freeze_id} must end after it starts"))
        }
        _ => None,
    };
    reason.map_or(Ok(()), |reason| Err(Rejection::Freeze(reason).into()))
}
