//! Plans for the current state of an environment, with their inputs and issues.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use ledger_domain::event::{Action, Actor, Payload, Plan, Rollback, RollbackRequest};
use ledger_domain::known_good::Status;
use ledger_domain::plan_issue::{PlanContext, PlanIssue, Revocations, Severity, issues};
use ledger_domain::{
    Composition, ConfigDigest, EnvironmentName, EventRef, LaneFilter, LaneFold, Lanes, PointInTime, PointRef,
    PointSelector, Position, Removals, ServiceName, ShortText, TargetName, near_point_word, nearest,
    shown_removed,
};
use ledger_projections::{AsKnownAt, AsOf, Point, PolicyInForce, QueryError, Snapshot, compute};

/// Request for a plan that brings an environment to a release point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// The environment.
    pub environment: EnvironmentName,
    /// The release point to bring it to.
    pub to: PointRef,
    /// The lanes to bring there.
    pub scope: LaneFilter,
}

impl PlanRequest {
    /// Returns the environment of the point, if it is another one.
    #[must_use]
    pub fn source(&self) -> Option<&EnvironmentName> {
        self.to.environment.as_ref().filter(|source| **source != self.environment)
    }
}

/// Error: a service or target has never been in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLane {
    /// The environment.
    pub environment: EnvironmentName,
    /// The unknown service, or the service that has no such target.
    pub service: Option<ServiceName>,
    /// The unknown target.
    pub target: Option<TargetName>,
    /// The known services or targets, sorted.
    pub known: Vec<String>,
}

impl fmt::Display for UnknownLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_SHOWN: usize = 20;
        let environment = &self.environment;
        match (&self.service, &self.target) {
            (Some(service), Some(target)) => {
                write!(f, "service {service} has never been at target {target} of {environment}")?;
            }
            (Some(service), None) => write!(f, "service {service} has never been in {environment}")?,
            (None, Some(target)) => write!(f, "target {target} has never been in {environment}")?,
            (None, None) => write!(f, "{environment} has never had a lane")?,
        }
        let unknown = self.target.as_ref().map(TargetName::as_str);
        let unknown = unknown.or_else(|| self.service.as_ref().map(ServiceName::as_str));
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        if let Some(near) = unknown.and_then(|unknown| nearest(unknown, &known)) {
            write!(f, "; did you mean {near}?")?;
        }
        let shown = self.known.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        match (self.known.len(), self.known.len().saturating_sub(MAX_SHOWN)) {
            (0, _) => Ok(()),
            (_, 0) => write!(f, " (known: {shown})"),
            (_, more) => write!(f, " (known: {shown} and {more} more)"),
        }
    }
}

impl std::error::Error for UnknownLane {}

impl UnknownLane {
    /// Checks that a service, a target, or a service at a target has ever been in an environment.
    ///
    /// # Errors
    /// The service or target has never been in it.
    pub fn check(
        environment: &EnvironmentName,
        lanes: &[(ServiceName, TargetName)],
        service: Option<&ServiceName>,
        target: Option<&TargetName>,
    ) -> Result<(), Self> {
        let of_service = |lane: &&(ServiceName, TargetName)| service.is_none_or(|service| lane.0 == *service);
        let unknown =
            |service: Option<&ServiceName>, target: Option<&TargetName>, known: BTreeSet<&str>| Self {
                environment: environment.clone(),
                service: service.cloned(),
                target: target.cloned(),
                known: known.into_iter().map(str::to_owned).collect(),
            };
        if !lanes.iter().any(|lane| of_service(&lane)) && service.is_some() {
            let known = lanes.iter().map(|(service, _)| service.as_str()).collect();
            return Err(unknown(service, None, known));
        }
        let Some(target) = target else { return Ok(()) };
        if lanes.iter().filter(of_service).any(|(_, known)| known == target) {
            return Ok(());
        }
        let known = lanes.iter().filter(of_service).map(|(_, target)| target.as_str()).collect();
        Err(unknown(service, Some(target), known))
    }
}

/// A plan with its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The request for the plan.
    pub request: PlanRequest,
    /// The position of the snapshot in which the plan was made.
    pub position: Position,
    /// The position of the environment's last change. While it is unchanged, the initial state of the plan is valid.
    /// The policy and the meaning of `last-known-good` can still change; the plan's digest detects that.
    pub environment_position: Position,
    /// The position of the requested point.
    pub to: Position,
    /// The time that selected the point, if a time did.
    pub at: Option<DateTime<Utc>>,
    /// The point, with its status. `None` if the environment did not exist at the position.
    pub point: Option<Point>,
    /// The policy in force.
    pub policy: PolicyInForce,
    /// The steps.
    pub plan: Plan,
    /// The composition of the environment after the plan is carried out.
    pub result: Composition,
    /// The issues of the plan, with their severities.
    pub issues: Vec<(PlanIssue, Severity)>,
}

impl Planned {
    /// Returns the issues that block a request of the plan.
    pub fn blockers(&self, force: bool) -> impl Iterator<Item = &PlanIssue> {
        let blocking = self.issues.iter().filter(move |(_, severity)| !severity.permits(force));
        blocking.map(|(issue, _)| issue)
    }

    /// Converts the plan into the payload that requests its rollback.
    pub(crate) fn into_rollback_request(
        self,
        rollback_id: ShortText,
        initiated_by: Actor,
        force: bool,
        cause: Option<Position>,
    ) -> Payload {
        let source = self.request.source().cloned();
        let PlanRequest { environment, scope, .. } = self.request;
        Payload::RollbackRequested(RollbackRequest {
            rollback: Rollback { environment, rollback_id },
            to: self.to,
            at: self.at,
            source,
            scope,
            plan_digest: ConfigDigest::parse(&self.plan.digest()).expect("a plan's digest is valid"),
            plan: self.plan,
            initiated_by,
            automatic: cause.is_some(),
            force,
            policy: self.policy.declared,
            cause,
        })
    }
}

/// Reason why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The environment or position does not exist, or the query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The environment has no known-good point.
    #[error("{0} has no known-good point")]
    NoKnownGoodPoint(EnvironmentName),
    /// The environment has no point with this name.
    #[error("{0} has no point named {1}{near}", near = meant_word(.1))]
    UnknownName(EnvironmentName, ShortText),
    /// A service or target to which the plan is restricted has never been in the environment.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
}

/// Returns `; did you mean WORD?` for a name that is near a word for a point or a time; otherwise nothing.
fn meant_word(name: &ShortText) -> String {
    near_point_word(name.as_str()).map(|word| format!("; did you mean {word}?")).unwrap_or_default()
}

impl From<ledger_projections::Error> for PlanError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Query(QueryError::Projections(error))
    }
}

/// Makes the plan for a request in the state of the snapshot.
///
/// # Errors
/// The point, a service or a target does not exist, or the database does not answer.
pub async fn plan(
    snapshot: &mut Snapshot,
    request: &PlanRequest,
    now: DateTime<Utc>,
) -> Result<Planned, PlanError> {
    let inputs = PlanInputs::read(snapshot, request, now).await?;
    let point_environment = request.source().unwrap_or(&request.environment);
    if !snapshot.knows(point_environment).await? {
        return Err(QueryError::UnknownEnvironment(point_environment.clone()).into());
    }
    check_scope(snapshot, request).await?;
    let as_known_at = AsKnownAt { known_at: None, now };
    let resolved = resolve(snapshot, point_environment, &request.to.point, as_known_at).await?;
    inputs.plan_to(snapshot, resolved, RemovalRule::All).await
}

/// Checks that the services and targets to which a plan is restricted have ever been in the environment, or in the
/// environment of the point.
async fn check_scope(snapshot: &mut Snapshot, request: &PlanRequest) -> Result<(), PlanError> {
    let LaneFilter { services, targets } = &request.scope;
    if services.is_empty() && targets.is_empty() {
        return Ok(());
    }
    let mut known = snapshot.all_lanes(&request.environment).await?;
    if let Some(source) = request.source() {
        known.extend(snapshot.all_lanes(source).await?);
    }
    for service in services {
        UnknownLane::check(&request.environment, &known, Some(service), None)?;
    }
    for target in targets {
        UnknownLane::check(&request.environment, &known, None, Some(target))?;
    }
    Ok(())
}

/// Selects the lanes that a plan removes, of those that do not exist at the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovalRule {
    /// All of them: a person requested the plan.
    All,
    /// Only those that the state at the point shows as removed.
    Shown,
}

/// Inputs that all plans of an environment share.
pub(crate) struct PlanInputs {
    request: PlanRequest,
    position: Position,
    current: Lanes,
    /// Position of the last change of the composition. It also covers changes that left no trace in any lane, as a
    /// retirement.
    last_change: Position,
    /// Position of the environment's retirement, if it is retired.
    retired: Option<Position>,
    policy: PolicyInForce,
    now: DateTime<Utc>,
    irreversible: Vec<ledger_domain::plan_issue::IrreversibleDeploy>,
    open: Vec<ledger_domain::plan_issue::OpenDeploy>,
    freezes: Vec<ledger_domain::plan_issue::ActiveFreeze>,
}

impl PlanInputs {
    pub(crate) async fn read(
        snapshot: &mut Snapshot,
        request: &PlanRequest,
        now: DateTime<Utc>,
    ) -> Result<Self, PlanError> {
        let environment = &request.environment;
        let position = snapshot.position();
        Ok(Self {
            current: current_lanes(snapshot, environment, request.source().is_some()).await?,
            last_change: match snapshot.changes_ago(environment, 0, position).await {
                Ok(last_change) => last_change,
                Err(QueryError::UnknownEnvironment(_)) => Position::START,
                Err(error) => return Err(error.into()),
            },
            retired: snapshot.retirements(environment, position).await?.last().retired_by(),
            policy: snapshot.policy(environment, position).await?,
            irreversible: snapshot.irreversible(environment).await?,
            open: snapshot.open_deploys(environment).await?,
            freezes: snapshot.freezes(environment, now).await?,
            request: request.clone(),
            position,
            now,
        })
    }

    /// Makes the plan to a point.
    pub(crate) async fn plan_to(
        &self,
        snapshot: &mut Snapshot,
        resolved: Resolved,
        removals: RemovalRule,
    ) -> Result<Planned, PlanError> {
        let Self { request, position, current, last_change, retired, policy, .. } = self;
        // A position between two points belongs to the earlier one.
        let wanted =
            resolved.point.as_ref().map_or_else(Composition::default, |point| point.composition.clone());
        let plan = self.steps_to(snapshot, &resolved, &wanted, removals).await?;
        let Resolved { position: to, at, point } = resolved;
        let releases = plan.steps.iter().filter_map(|step| Some((&step.service, step.to.as_ref()?)));
        let releases: Vec<_> = releases.collect();
        let (revoked, version_artifacts) =
            snapshot.revoked_releases(&request.environment, &releases, self.now).await?;
        let last_ran = self.last_ran(snapshot, &plan).await?;
        let status = point.as_ref().map(|point| point.judgement.status);
        let context = PlanContext {
            source: request.source(),
            retired: *retired,
            last_ran,
            began: point.as_ref().map(|point| &point.since),
            status: status.filter(|status| *status != Status::Empty),
            policy: &policy.policy,
            irreversible: &self.irreversible,
            open: &self.open,
            revocations: Revocations { revoked: &revoked, version_artifacts: Some(&version_artifacts) },
            freezes: &self.freezes,
        };
        let issues = issues(&plan, &context).into_iter().map(|issue| {
            let severity = issue.severity(&policy.policy);
            (issue, severity)
        });
        let issues = issues.collect();
        Ok(Planned {
            position: *position,
            environment_position: current
                .values()
                .filter_map(LaneFold::position)
                .chain([*last_change])
                .max()
                .unwrap_or_default(),
            to,
            at,
            result: composition_after(current, &wanted, &plan),
            point,
            policy: policy.clone(),
            plan,
            issues,
            request: request.clone(),
        })
    }

    /// Makes the steps to a composition, which the environment of the request ran at a point.
    async fn steps_to(
        &self,
        snapshot: &mut Snapshot,
        point: &Resolved,
        wanted: &Composition,
        removals: RemovalRule,
    ) -> Result<Plan, PlanError> {
        let Self { request, position, current, policy, .. } = self;
        let make = |removals| {
            compute(current.len(), || {
                Plan::make(*position, current, wanted, &request.scope, &policy.policy, removals)
            })
        };
        let plan = make(Removals::All);
        let removes_any = plan.steps.iter().any(|step| step.action == Action::Remove);
        if removals == RemovalRule::All || !removes_any {
            return Ok(plan);
        }
        let environment = request.source().unwrap_or(&request.environment);
        let as_of = match point.at {
            Some(time) => AsOf::Time { time, known_at: None },
            None => AsOf::Position(point.position),
        };
        let shown = shown_removed(&snapshot.state(environment, as_of).await?.into_lanes());
        Ok(make(Removals::Shown(&shown)))
    }

    /// Returns when each lane of a plan last ran the release that the plan brings there. Empty unless the point is of
    /// another environment: otherwise the lanes ran the releases at the point.
    async fn last_ran(
        &self,
        snapshot: &mut Snapshot,
        plan: &Plan,
    ) -> Result<BTreeMap<(ServiceName, TargetName), EventRef>, PlanError> {
        let mut last_ran = BTreeMap::new();
        if self.request.source().is_none() {
            return Ok(last_ran);
        }
        for step in &plan.steps {
            let Some(wanted) = &step.to else { continue };
            let (environment, lane) =
                (&self.request.environment, (step.service.clone(), step.target.clone()));
            if let Some(since) = snapshot.last_ran(environment, &lane.0, &lane.1, wanted).await? {
                last_ran.insert(lane, since);
            }
        }
        Ok(last_ran)
    }
}

/// Returns the current lanes of an environment. With `may_be_new`, an environment that no event has named has none;
/// otherwise it is an error.
pub(crate) async fn current_lanes(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    may_be_new: bool,
) -> Result<Lanes, QueryError> {
    match snapshot.state(environment, AsOf::LATEST).await {
        Ok(state) => Ok(state.into_lanes()),
        Err(QueryError::UnknownEnvironment(_)) if may_be_new => Ok(Lanes::new()),
        Err(error) => Err(error),
    }
}

/// The release point that a selector resolves to.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The position. If a time selects the point: the position of the last entry that shaped its composition.
    pub position: Position,
    /// The time that selects the point, if a time does.
    pub at: Option<DateTime<Utc>>,
    /// The point; `None` if the environment did not exist at the position.
    pub point: Option<Point>,
}

/// Resolves a point selector as known at a position.
///
/// # Errors
/// The point does not exist, or the database does not answer.
pub async fn resolve(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    selector: &PointSelector,
    as_known_at: AsKnownAt,
) -> Result<Resolved, PlanError> {
    let known_at = as_known_at.known_at.unwrap_or(snapshot.position());
    let position = match selector {
        PointSelector::LastKnownGood => {
            return match snapshot.last_known_good(environment, known_at, as_known_at).await? {
                Some(point) => Ok(Resolved { position: point.since.position, at: None, point: Some(point) }),
                None => Err(PlanError::NoKnownGoodPoint(environment.clone())),
            };
        }
        PointSelector::Named(name) => {
            let marks = snapshot.marks(environment, known_at).await?;
            let named = marks.named(name);
            named.ok_or_else(|| PlanError::UnknownName(environment.clone(), name.clone()))?
        }
        PointSelector::Change(number) => snapshot.change(environment, *number, known_at).await?,
        PointSelector::At(PointInTime::Latest) => known_at,
        PointSelector::At(PointInTime::Position(position)) => *position,
        PointSelector::At(PointInTime::Time(time)) => {
            let point = snapshot.point_at(environment, *time, as_known_at).await?;
            let position = point.as_ref().map_or(Position::START, |point| point.since.position);
            return Ok(Resolved { position, at: Some(*time), point });
        }
        PointSelector::At(PointInTime::ChangesAgo(ago)) => {
            snapshot.changes_ago(environment, *ago, known_at).await?
        }
    };
    let point = snapshot.point(environment, position, as_known_at).await?;
    Ok(Resolved { position, at: None, point })
}

/// Returns the composition after a plan is carried out.
fn composition_after(current: &Lanes, wanted: &Composition, plan: &Plan) -> Composition {
    let changed: BTreeSet<_> = plan.steps.iter().map(|step| (&step.service, &step.target)).collect();
    let kept = current.iter().filter(|((service, target), _)| !changed.contains(&(service, target)));
    let kept = kept.filter_map(|(lane, fold)| Some((lane.clone(), fold.live()?.to_owned())));
    let added = wanted.lanes().filter(|(service, target, _)| changed.contains(&(service, target)));
    let added = added.map(|(service, target, live)| ((service.clone(), target.clone()), live.clone()));
    kept.chain(added).collect()
}
