//! Requests, and their judging against the ledger as it is.
//!
//! A report says what happened, and is recorded. A request asks for something: it is judged at the end of
//! the ledger, and recorded only if nothing came in between; if something did, it is judged again.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Actor, Approval, ApprovalSubject, Event, Freeze, Payload, Policy, ReleasePointId, Rollback,
    RollbackRequest,
};
use ledger_domain::plan_issue::{PlanIssue, Revocations};
use ledger_domain::rollback::{
    Phase, RequestedWish, RollbackState, StartProblem, TransitionError, differing, start, step_claim,
};
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, EventId, Identity, LongText, PointInTime, PointRef,
    PointSelector, Position, ShortText, Source,
};
use ledger_projections::{AsKnownAt, AsOf, QueryError, RollbackRow, Snapshot};

use crate::automatic::{self, FailedCheck};
use crate::planning::{PlanError, PlanRequest, Planned, plan, present, resolve};

/// A wish for a rollback that is not an event yet: its plan is made when it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRollback {
    /// What is wanted.
    pub wish: PlanRequest,
    /// The rollback's name.
    pub rollback_id: ShortText,
    /// Why.
    pub reason: LongText,
    /// Who asks.
    pub initiated_by: Actor,
    /// Whether to pass what may be passed by force.
    pub force: bool,
    /// The environment's position that whoever asks has seen.
    pub seen: Option<Position>,
    /// The digest of the plan that whoever asks has seen.
    pub plan_digest: Option<ConfigDigest>,
}

impl RequestRollback {
    /// Returns true if a rollback that was recorded is what this wish came to: the same environment, scope, reason, force and
    /// requester, and the same point, by what was known when it was requested.
    pub(crate) async fn is_same(
        &self,
        snapshot: &mut Snapshot,
        recorded: &RollbackRow,
    ) -> Result<bool, DecisionError> {
        let request = &recorded.request;
        let recorded_wish = RequestedWish::of(request, recorded.reason.as_ref());
        let wish = RequestedWish {
            environment: &self.wish.environment,
            source: self.wish.source(),
            scope: &self.wish.scope,
            force: self.force,
            requester: &self.initiated_by,
            reason: Some(&self.reason),
            ..recorded_wish
        };
        // The point is resolved only where all else is the same.
        if !wish.is_same(&recorded_wish) {
            return Ok(false);
        }
        let of = self.wish.source().unwrap_or(&self.wish.environment);
        let believed = AsKnownAt { known_at: Some(request.plan.from), now: recorded.requested_at };
        match resolve(snapshot, of, &self.wish.to.point, believed).await {
            Ok(resolved) => {
                Ok(RequestedWish { to: resolved.position, at: resolved.at, ..wish }.is_same(&recorded_wish))
            }
            Err(PlanError::Ask(QueryError::Failed(error))) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }
}

/// What is judged.
#[derive(Debug, Clone)]
pub enum Request {
    /// An event that asks for something.
    Event(Box<Envelope>),
    /// A wish for a rollback.
    Rollback(Box<RequestRollback>),
    /// A failed check, to which the rollback controller answers.
    Failed(Box<FailedCheck>),
}

/// Why a request is refused: asked again, it is refused again, unless the ledger has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The environment has changed since whoever asks looked at it.
    #[error(
        "the environment is at position {}, and {seen} was expected: this is the plan from there",
        planned.environment_position
    )]
    EnvironmentMoved {
        /// The position that was expected.
        seen: Position,
        /// The plan as it is now.
        planned: Arc<Planned>,
    },
    /// The plan is another one than whoever asks has seen.
    #[error("the plan is another one: its digest is {}", planned.plan.digest())]
    PlanChanged {
        /// The plan as it is now.
        planned: Arc<Planned>,
    },
    /// Something stands in the way.
    #[error("the plan is blocked: {}", blockers(planned, *force))]
    Blocked {
        /// The plan.
        planned: Arc<Planned>,
        /// Whether it was to be forced.
        force: bool,
    },
    /// Another rollback of the environment is under way.
    #[error("rollback {rollback_id} of the environment is under way (position {position})")]
    UnderWay {
        /// Which.
        rollback_id: ShortText,
        /// The position of its request.
        position: Position,
    },
    /// There is a rollback of this name already, for something else.
    #[error("{}", exists(rollback_id, *position, *phase))]
    RollbackExists {
        /// Its name.
        rollback_id: ShortText,
        /// The position of its request.
        position: Position,
        /// Where it is.
        phase: Phase,
    },
    /// The environment is no longer as the rollback's plan needs it.
    #[error("the rollback cannot start as it was planned: {}", listed(problems))]
    StartBlocked {
        /// What is different.
        problems: Vec<StartProblem>,
        /// The plan to the same point as it is now, where there is one.
        planned: Option<Arc<Planned>>,
    },
    /// The failed check that the controller answered has been corrected since.
    #[error("the failed check at position {0}, which caused the rollback, was corrected")]
    CauseCorrected(Position),
    /// A step of a rollback must not be carried out as it is planned.
    #[error("the step must not be carried out: {}", listed(problems))]
    StepBlocked {
        /// What is different.
        problems: Vec<StartProblem>,
    },
    /// There is no such rollback.
    #[error("there is no rollback {0} of {1}")]
    NoSuchRollback(ShortText, EnvironmentName),
    /// This step does not follow in the rollback's life.
    #[error(transparent)]
    RollbackState(TransitionError),
    /// There is no such point.
    #[error("{0}")]
    NoSuchPoint(String),
    /// Nothing is marked there.
    #[error("no mark stands on position {0}")]
    NothingMarked(Position),
    /// The artifact that is to be reinstated is not revoked.
    #[error("{} is not revoked", .0.as_str())]
    NotRevoked(Artifact),
    /// The policy contradicts itself.
    #[error("the policy cannot hold: {0}")]
    Policy(String),
    /// The freeze holds already, or does not hold.
    #[error("{0}")]
    Freeze(String),
    /// Only the ledger itself says this.
    #[error("{} is a source of the ledger's own", .0.as_str())]
    OwnSource(Source),
    /// Only the rollback controller asks by itself.
    #[error("only the rollback controller asks for an automatic rollback, or names the check that failed")]
    NotTheController,
    /// The request does not fit into an event: how many steps its plan has.
    #[error(
        "the plan has {0} steps, which do not fit into one event: restrict it to some services or targets"
    )]
    TooLarge(usize),
}

fn exists(rollback_id: &ShortText, position: Position, phase: Phase) -> String {
    let word = if phase.is_active() { "is" } else { "has ended: it is" };
    let phase = phase.name();
    format!(
        "there is a rollback {rollback_id} already, for something else (position {position}); it {word} {phase}"
    )
}

fn listed(problems: &[StartProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn blockers(planned: &Planned, force: bool) -> String {
    planned.blockers(force).map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a request could not be judged, or is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecisionError {
    #[error(transparent)]
    Rejected(Box<Rejection>),
    #[error(transparent)]
    Projections(ledger_projections::Error),
}

impl From<Rejection> for DecisionError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl From<ledger_projections::Error> for DecisionError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Projections(error)
    }
}

impl From<QueryError> for DecisionError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Failed(error) => Self::Projections(error),
            other => Rejection::NoSuchPoint(other.to_string()).into(),
        }
    }
}

impl From<PlanError> for DecisionError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Ask(error) => error.into(),
            other => Rejection::NoSuchPoint(other.to_string()).into(),
        }
    }
}

impl From<TransitionError> for DecisionError {
    fn from(refused: TransitionError) -> Self {
        Rejection::RollbackState(refused).into()
    }
}

impl Request {
    /// What makes the event itself that comes of the request.
    #[must_use]
    pub fn identity(&self) -> Identity {
        match self {
            Self::Event(envelope) => envelope.identity().clone(),
            Self::Rollback(wish) => Identity {
                source: source("urn:release-ledger:api"),
                id: EventId::parse(wish.rollback_id.as_str())
                    .expect("an id is a line, as a rollback's name is"),
            },
            Self::Failed(check) => check.identity(),
        }
    }
}

pub(crate) fn source(urn: &str) -> Source {
    Source::parse(urn).expect("a URN of ours is a source")
}

/// Judges a request by a snapshot of the ledger; answers the event to be recorded.
pub(crate) async fn judge(
    snapshot: &mut Snapshot,
    request: &Request,
    now: DateTime<Utc>,
) -> Result<Envelope, DecisionError> {
    match request {
        Request::Event(envelope) => {
            judge_event(snapshot, envelope, now).await?;
            Ok(envelope.as_ref().clone())
        }
        Request::Rollback(wish) => {
            let event = judge_wish(snapshot, wish, now).await?;
            compose(request.identity(), now, event)
        }
        Request::Failed(check) => {
            let event = automatic::answer(snapshot, check, now).await?;
            compose(request.identity(), now, event).or_else(|unjudged| {
                let declined = automatic::declined(check, None, &unjudged.to_string());
                compose(request.identity(), now, declined)
            })
        }
    }
}

fn compose(identity: Identity, now: DateTime<Utc>, event: Event) -> Result<Envelope, DecisionError> {
    let steps = match &event.payload {
        Payload::RollbackRequested(request) => request.plan.steps.len(),
        _ => 0,
    };
    Envelope::compose(identity, now, event).map_err(|_| Rejection::TooLarge(steps).into())
}

async fn judge_event(
    snapshot: &mut Snapshot,
    envelope: &Envelope,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let event = envelope.event();
    match &event.payload {
        Payload::RollbackRequested(request) => judge_requested(snapshot, request, now).await,
        Payload::RollbackStarted(it) => judge_start(snapshot, it, now).await,
        Payload::DeployStarted(deploy) => judge_step(snapshot, deploy, now).await,
        Payload::RollbackFailed(it) => Ok(RollbackContext::of(snapshot, it, now).await?.life().fail()?),
        Payload::RollbackCancelled(it) => {
            Ok(RollbackContext::of(snapshot, it, now).await?.life().cancel()?)
        }
        Payload::RollbackSucceeded(it) => {
            let living = RollbackContext::of(snapshot, it, now).await?;
            let differing = not_reached(snapshot, &living.row).await?;
            Ok(living.life().succeed(differing)?)
        }
        Payload::ApprovalGranted(approval) | Payload::ApprovalRejected(approval) => {
            judge_answer(snapshot, approval, event.actor.as_ref(), now).await
        }
        Payload::ReleasePointMarked(mark) => judge_mark(snapshot, &mark.point).await,
        Payload::ReleasePointRevoked(point) => {
            let marks = snapshot.marks(&point.environment, snapshot.position()).await?;
            let composition = snapshot.composition_id(&point.environment, point.position).await?;
            if marks.on(composition).is_some() {
                Ok(())
            } else {
                Err(Rejection::NothingMarked(point.position).into())
            }
        }
        Payload::EnvironmentDeclared(environment, policy) => Ok(judge_policy(environment, policy)?),
        Payload::RollbackDeclined(_) => Err(Rejection::NotTheController.into()),
        Payload::ArtifactReinstated(it) if snapshot.revoked([&it.artifact]).await?.is_empty() => {
            Err(Rejection::NotRevoked(it.artifact.clone()).into())
        }
        Payload::FreezeStarted(freeze) => judge_freeze(snapshot, freeze, false, envelope.occurred_at()).await,
        Payload::FreezeLifted(freeze) => judge_freeze(snapshot, freeze, true, envelope.occurred_at()).await,
        _ => Ok(()),
    }
}

/// A rollback that is asked for by a whole event: its plan must be ours.
async fn judge_requested(
    snapshot: &mut Snapshot,
    request: &RollbackRequest,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let Rollback { environment, rollback_id } = &request.rollback;
    if request.automatic || request.cause.is_some() {
        return Err(Rejection::NotTheController.into());
    }
    must_be_free(snapshot, environment, rollback_id).await?;
    let planned = plan(snapshot, &wish_of(request), now).await?;
    let digest = planned.plan.digest();
    let policy = planned.policy.declared;
    if request.policy.is_some() && request.policy != policy {
        let now = policy
            .map_or("none was declared".into(), |position| format!("it is that at position {position}"));
        return Err(
            Rejection::Policy(format!("the request names another than the environment's: {now}")).into()
        );
    }
    let seen = request.plan.from;
    if planned.environment_position > seen {
        return Err(Rejection::EnvironmentMoved { seen, planned: planned.into() }.into());
    }
    if request.plan.digest() != digest || request.plan_digest.as_str() != digest {
        return Err(Rejection::PlanChanged { planned: planned.into() }.into());
    }
    must_not_be_blocked(planned, request.force).map(|_| ()).map_err(Into::into)
}

async fn judge_wish(
    snapshot: &mut Snapshot,
    wish: &RequestRollback,
    now: DateTime<Utc>,
) -> Result<Event, DecisionError> {
    must_be_free(snapshot, &wish.wish.environment, &wish.rollback_id).await?;
    let planned = plan(snapshot, &wish.wish, now).await?;
    if let Some(seen) = wish.seen.filter(|seen| *seen != planned.environment_position) {
        return Err(Rejection::EnvironmentMoved { seen, planned: planned.into() }.into());
    }
    let digest = planned.plan.digest();
    if wish.plan_digest.as_ref().is_some_and(|seen| seen.as_str() != digest) {
        return Err(Rejection::PlanChanged { planned: planned.into() }.into());
    }
    let planned = must_not_be_blocked(planned, wish.force)?;
    Ok(Event {
        payload: requested(planned, wish.rollback_id.clone(), wish.initiated_by.clone(), wish.force, None),
        actor: Some(wish.initiated_by.clone()),
        reason: Some(wish.reason.clone()),
        links: Vec::new(),
        corrects: None,
    })
}

/// The request that a plan comes to.
pub(crate) fn requested(
    planned: Planned,
    rollback_id: ShortText,
    initiated_by: Actor,
    force: bool,
    cause: Option<Position>,
) -> Payload {
    let source = planned.wish.source().cloned();
    let PlanRequest { environment, scope, .. } = planned.wish;
    Payload::RollbackRequested(RollbackRequest {
        rollback: Rollback { environment, rollback_id },
        to: planned.to,
        at: planned.at,
        source,
        scope,
        plan_digest: ConfigDigest::parse(&planned.plan.digest()).expect("a plan's digest is one"),
        plan: planned.plan,
        initiated_by,
        automatic: cause.is_some(),
        force,
        policy: planned.policy.declared,
        cause,
    })
}

/// One rollback an environment, and one of a name.
async fn must_be_free(
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

fn must_not_be_blocked(planned: Planned, force: bool) -> Result<Planned, Rejection> {
    if planned.blockers(force).next().is_some() {
        return Err(Rejection::Blocked { planned: planned.into(), force });
    }
    Ok(planned)
}

/// A rollback with what its next step is judged by.
pub struct RollbackContext {
    /// The rollback.
    pub row: RollbackRow,
    /// How many people other than who asked for it must approve, by the policy that it was judged by.
    pub approvals: u32,
    /// What people answered.
    pub answers: Vec<ledger_domain::gate::Answer>,
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
            None => Err(Rejection::NoSuchRollback(rollback_id.clone(), environment.clone()).into()),
        }
    }

    /// The rollback with what is known of its approvals.
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
        let answers = snapshot.answers_to_rollback(environment, rollback_id, now).await?;
        Ok(Self { approvals: policy.policy.approvals, answers, row })
    }

    /// Its life.
    #[must_use]
    pub fn life(&self) -> RollbackState<'_> {
        RollbackState {
            phase: self.row.phase,
            initiated_by: &self.row.request.initiated_by,
            approvals: self.approvals,
            answers: &self.answers,
        }
    }
}

/// What a request wished for.
fn wish_of(request: &RollbackRequest) -> PlanRequest {
    let anchor = request.at.map_or(PointInTime::Position(request.to), PointInTime::Time);
    PlanRequest {
        environment: request.rollback.environment.clone(),
        to: PointRef { environment: request.source.clone(), point: PointSelector::At(anchor) },
        scope: request.scope.clone(),
    }
}

/// The lanes of a rollback's plan that do not run what their step ends with, in words: now, or when it ended.
///
/// # Errors
/// The database does not answer.
pub async fn not_reached(snapshot: &mut Snapshot, rollback: &RollbackRow) -> Result<Vec<String>, QueryError> {
    let environment = &rollback.request.rollback.environment;
    let lanes = match rollback.ended {
        Some(ended) => snapshot.state(environment, AsOf::position(ended)).await?.into_lanes(),
        None => present(snapshot, environment, true).await?,
    };
    Ok(differing(&rollback.request.plan, &lanes))
}

/// Returns true if a barrier, a freeze or a retirement came in a rollback's way after its request, and its force does not pass it.
fn blocks_since(planned: &Planned, request: &RollbackRequest) -> bool {
    planned.issues.iter().any(|(issue, severity)| {
        let is_such =
            matches!(issue, PlanIssue::Barrier(_) | PlanIssue::Frozen(_) | PlanIssue::EnvironmentRetired(_));
        let is_since = issue.position().is_some_and(|position| position > request.plan.from);
        is_such && is_since && !severity.lets_pass(request.force)
    })
}

async fn judge_start(
    snapshot: &mut Snapshot,
    start_event: &ledger_domain::event::RollbackStart,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let living = RollbackContext::of(snapshot, &start_event.rollback, now).await?;
    living.life().start()?;
    let request = &living.row.request;
    let environment = &request.rollback.environment;
    let lanes = present(snapshot, environment, true).await?;
    let releases: Vec<_> =
        request.plan.steps.iter().filter_map(|step| Some((&step.service, step.to.as_ref()?))).collect();
    let (revoked, meant) = snapshot.revoked_releases(environment, &releases, now).await?;
    let revocations = Revocations { revoked: &revoked, meant: Some(&meant) };
    let problems = start(&request.plan, &lanes, revocations, &start_event.acknowledge);
    if let Some(cause) = request.cause.filter(|_| request.automatic)
        && snapshot.is_corrected(cause).await?
    {
        return Err(Rejection::CauseCorrected(cause).into());
    }
    let planned = match plan(snapshot, &wish_of(request), now).await {
        Ok(planned) => Some(Arc::new(planned)),
        Err(PlanError::Ask(QueryError::Failed(error))) => return Err(error.into()),
        Err(_) => None,
    };
    if !problems.is_empty() {
        return Err(Rejection::StartBlocked { problems, planned }.into());
    }
    // What came in the way since it was requested.
    match planned.filter(|planned| blocks_since(planned, request)) {
        Some(planned) => Err(Rejection::Blocked { planned, force: request.force }.into()),
        None => Ok(()),
    }
}

/// The start of a deploy that is a step of a rollback under way: it is decided again what the step needs. Any other start is a
/// report.
async fn judge_step(
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
        Phase::Started => {}
        Phase::Requested => return Err(TransitionError::NotStarted.into()),
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
    let lanes = present(snapshot, environment, true).await?;
    let releases: Vec<_> = steps.iter().filter_map(|step| Some((&step.service, step.to.as_ref()?))).collect();
    let (revoked, meant) = snapshot.revoked_releases(environment, &releases, now).await?;
    let revocations = Revocations { revoked: &revoked, meant: Some(&meant) };
    // Without a target it claims the step of each target of the service.
    let problems: Vec<_> = steps.into_iter().flat_map(|step| step_claim(step, &lanes, revocations)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Rejection::StepBlocked { problems }.into()) }
}

async fn judge_answer(
    snapshot: &mut Snapshot,
    approval: &Approval,
    actor: Option<&Actor>,
    now: DateTime<Utc>,
) -> Result<(), DecisionError> {
    match (&approval.subject, actor) {
        (ApprovalSubject::Rollback { environment, rollback_id }, Some(actor)) => {
            let rollback = Rollback { environment: environment.clone(), rollback_id: rollback_id.clone() };
            Ok(RollbackContext::of(snapshot, &rollback, now).await?.life().answer(actor)?)
        }
        // Who wants to deploy is known only when the gate is asked.
        (ApprovalSubject::Deploy { .. }, Some(actor)) if !actor.is_person() => {
            Err(TransitionError::NotAPerson(actor.name.clone()).into())
        }
        _ => Ok(()),
    }
}

/// A point can be marked once its environment is known, also one at which nothing ran.
async fn judge_mark(snapshot: &mut Snapshot, point: &ReleasePointId) -> Result<(), DecisionError> {
    let ReleasePointId { environment, position } = point;
    snapshot.state(environment, AsOf::position(*position)).await?;
    Ok(())
}

pub(crate) fn judge_policy(environment: &EnvironmentName, policy: &Policy) -> Result<(), Rejection> {
    if let Some(service) = policy.circular_dependency() {
        return Err(Rejection::Policy(format!("{service} depends on itself")));
    }
    let by_itself = policy.automatic_rollback.as_ref();
    if by_itself.is_some_and(|rule| rule.checks.is_empty()) && policy.required_validations.is_empty() {
        return Err(Rejection::Policy("automatic_rollback names no checks, and none are required".into()));
    }
    if policy.promotion.as_ref().is_some_and(|promotion| promotion.from.contains(environment)) {
        return Err(Rejection::Policy(format!("nothing can be promoted to {environment} from itself")));
    }
    Ok(())
}

async fn judge_freeze(
    snapshot: &mut Snapshot,
    freeze: &Freeze,
    lifts: bool,
    occurred_at: DateTime<Utc>,
) -> Result<(), DecisionError> {
    let Freeze { environment, freeze_id, until } = freeze;
    let holds = snapshot.is_unlifted(environment, freeze_id, occurred_at).await?;
    let wrong = match (lifts, holds) {
        (true, false) => Some(format!("no freeze {freeze_id} of {environment} holds")),
        (false, true) => Some(format!("freeze {freeze_id} of {environment} holds already")),
        (false, false) if until.is_some_and(|until| until <= occurred_at) => {
            Some(format!("freeze {freeze_id} would end before it begins"))
        }
        _ => None,
    };
    wrong.map_or(Ok(()), |wrong| Err(Rejection::Freeze(wrong).into()))
}
