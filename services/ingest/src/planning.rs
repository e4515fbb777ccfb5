//! A plan for an environment as it is now, with what it was made from and what stands in its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use ledger_domain::event::{Action, Plan};
use ledger_domain::known_good::Status;
use ledger_domain::plan_issue::{PlanContext, PlanIssue, Revocations, Severity, issues};
use ledger_domain::retirement::Standing;
use ledger_domain::{
    Composition, EnvironmentName, LaneFilter, LaneFold, Lanes, PointInTime, PointRef, PointSelector,
    Position, Removals, ServiceName, TargetName, shown_removed,
};
use ledger_projections::{AsKnownAt, AsOf, Point, PolicyInForce, QueryError, Snapshot};

/// What somebody wants an environment to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// The environment.
    pub environment: EnvironmentName,
    /// The point that it is to be brought to.
    pub to: PointRef,
    /// The lanes that are to be brought there.
    pub scope: LaneFilter,
}

impl PlanRequest {
    /// The environment whose point it is, where that is another one.
    #[must_use]
    pub fn source(&self) -> Option<&EnvironmentName> {
        self.to.environment.as_ref().filter(|source| **source != self.environment)
    }
}

/// A service or a target that never was in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLane {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service, where that is what is not known, or of which the target is not.
    pub service: Option<ServiceName>,
    /// The target, where that is what is not known.
    pub target: Option<TargetName>,
    /// What there is instead, sorted.
    pub known: Vec<String>,
}

impl fmt::Display for UnknownLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let environment = &self.environment;
        match (&self.service, &self.target) {
            (Some(service), Some(target)) => {
                write!(f, "{service} never was at target {target} of {environment}")?;
            }
            (Some(service), None) => write!(f, "service {service} never was in {environment}")?,
            (None, Some(target)) => write!(f, "target {target} never was in {environment}")?,
            (None, None) => write!(f, "{environment} never had a lane")?,
        }
        let shown = self.known.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        match (self.known.len(), self.known.len().saturating_sub(SHOWN)) {
            (0, _) => Ok(()),
            (_, 0) => write!(f, " (known: {shown})"),
            (_, more) => write!(f, " (known: {shown} and {more} more)"),
        }
    }
}

impl std::error::Error for UnknownLane {}

impl UnknownLane {
    /// Checks that a service, a target, or a service at a target was ever in an environment.
    ///
    /// # Errors
    /// It was not.
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
        if lanes.iter().filter(of_service).any(|(_, of)| of == target) {
            return Ok(());
        }
        let known = lanes.iter().filter(of_service).map(|(_, target)| target.as_str()).collect();
        Err(unknown(service, Some(target), known))
    }
}

/// A plan, with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What was wished for.
    pub wish: PlanRequest,
    /// The position that all of it is true for.
    pub position: Position,
    /// The position of the environment's last change. While it stays, so does what the plan begins with; what
    /// `last-known-good` means, and the policy, can change all the same, which the plan's digest shows.
    pub environment_position: Position,
    /// The position that the goal means.
    pub to: Position,
    /// The time that named the point, if one did.
    pub at: Option<DateTime<Utc>>,
    /// The point, with its status. None where the environment had not begun.
    pub point: Option<Point>,
    /// The policy that it was made by.
    pub policy: PolicyInForce,
    /// The steps.
    pub plan: Plan,
    /// What the environment runs when the plan is carried out.
    pub result: Composition,
    /// What stands in the way, and what that does to the plan.
    pub issues: Vec<(PlanIssue, Severity)>,
}

impl Planned {
    /// What keeps it from being asked for.
    pub fn blockers(&self, force: bool) -> impl Iterator<Item = &PlanIssue> {
        let blocking = self.issues.iter().filter(move |(_, severity)| !severity.lets_pass(force));
        blocking.map(|(issue, _)| issue)
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such environment or position.
    #[error(transparent)]
    Ask(#[from] QueryError),
    /// No point of the environment is known good.
    #[error("no point of {0} is known good")]
    NoKnownGoodPoint(EnvironmentName),
    /// No point of the environment has this name.
    #[error("no point of {0} is marked with the name {1}")]
    NoSuchName(EnvironmentName, ledger_domain::ShortText),
    /// A service or a target that the plan is restricted to never was there.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
}

impl From<ledger_projections::Error> for PlanError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Ask(QueryError::Failed(error))
    }
}

/// Makes the plan that a wish comes to, now.
///
/// # Errors
/// There is no such point, service or target, or the database does not answer.
pub async fn plan(
    snapshot: &mut Snapshot,
    wish: &PlanRequest,
    now: DateTime<Utc>,
) -> Result<Planned, PlanError> {
    let circumstances = Circumstances::of(snapshot, wish, now).await?;
    let of = wish.source().unwrap_or(&wish.environment);
    if !snapshot.knows(of).await? {
        return Err(QueryError::UnknownEnvironment(of.clone()).into());
    }
    must_be_known(snapshot, wish).await?;
    let resolved = resolve(snapshot, of, &wish.to.point, AsKnownAt { known_at: None, now }).await?;
    circumstances.plan_to(snapshot, resolved, RemovalRule::All).await
}

/// Services and targets that a plan is restricted to must have been in the environment, or in the one whose point it is.
async fn must_be_known(snapshot: &mut Snapshot, wish: &PlanRequest) -> Result<(), PlanError> {
    let LaneFilter { services, targets } = &wish.scope;
    if services.is_empty() && targets.is_empty() {
        return Ok(());
    }
    let mut known = snapshot.lanes_ever(&wish.environment).await?;
    if let Some(source) = wish.source() {
        known.extend(snapshot.lanes_ever(source).await?);
    }
    for service in services {
        UnknownLane::check(&wish.environment, &known, Some(service), None)?;
    }
    for target in targets {
        UnknownLane::check(&wish.environment, &known, None, Some(target))?;
    }
    Ok(())
}

/// Which lanes that are not at the point a plan removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovalRule {
    /// All of them: a person said so.
    All,
    /// Those that the state at the point shows removed.
    Shown,
}

/// What every plan of an environment is made by.
pub(crate) struct Circumstances {
    pub(crate) wish: PlanRequest,
    pub(crate) position: Position,
    pub(crate) present: Lanes,
    /// The position of the last change of the composition: also of one that left no change in any lane, as a retirement does.
    changed: Position,
    /// The position of the environment's retirement, if it is retired.
    retired: Option<Position>,
    pub(crate) policy: PolicyInForce,
    now: DateTime<Utc>,
    irreversible: Vec<ledger_domain::plan_issue::IrreversibleDeploy>,
    open: Vec<ledger_domain::plan_issue::OpenDeploy>,
    freezes: Vec<ledger_domain::plan_issue::ActiveFreeze>,
}

impl Circumstances {
    pub(crate) async fn of(
        snapshot: &mut Snapshot,
        wish: &PlanRequest,
        now: DateTime<Utc>,
    ) -> Result<Self, PlanError> {
        let environment = &wish.environment;
        let position = snapshot.position();
        Ok(Self {
            present: present(snapshot, environment, wish.source().is_some()).await?,
            changed: match snapshot.changes_ago(environment, 0, position).await {
                Ok(changed) => changed,
                Err(QueryError::UnknownEnvironment(_)) => Position::START,
                Err(error) => return Err(error.into()),
            },
            retired: match snapshot.retirements(environment, position).await?.last() {
                Standing::Retired(position) => Some(position),
                Standing::Open(_) => None,
            },
            policy: snapshot.policy(environment, position).await?,
            irreversible: snapshot.irreversible(environment).await?,
            open: snapshot.open_deploys(environment).await?,
            freezes: snapshot.freezes(environment, now).await?,
            wish: wish.clone(),
            position,
            now,
        })
    }

    /// The plan to a point.
    pub(crate) async fn plan_to(
        &self,
        snapshot: &mut Snapshot,
        resolved: Resolved,
        removals: RemovalRule,
    ) -> Result<Planned, PlanError> {
        let Self { wish, position, present, changed, retired, policy, .. } = self;
        let Resolved { position: to, at, point } = resolved;
        // A position between two points is at the first of them.
        let wanted = point.as_ref().map_or_else(Composition::default, |point| point.composition.clone());
        let make = |removals| Plan::make(*position, present, &wanted, &wish.scope, &policy.policy, removals);
        let mut plan = make(Removals::All);
        if removals == RemovalRule::Shown && plan.steps.iter().any(|step| step.action == Action::Remove) {
            let of = wish.source().unwrap_or(&wish.environment);
            let when = match at {
                Some(time) => AsOf { at: PointInTime::Time(time), known_at: None },
                None => AsOf::position(to),
            };
            let shown = shown_removed(&snapshot.state(of, when).await?.into_lanes());
            plan = make(Removals::Shown(&shown));
        }
        let releases = plan.steps.iter().filter_map(|step| Some((&step.service, step.to.as_ref()?)));
        let releases: Vec<_> = releases.collect();
        let (revoked, meant) = snapshot.revoked_releases(&wish.environment, &releases, self.now).await?;
        let mut last_ran = BTreeMap::new();
        if wish.source().is_some() {
            for step in &plan.steps {
                let Some(wanted) = &step.to else { continue };
                let (environment, lane) = (&wish.environment, (step.service.clone(), step.target.clone()));
                if let Some(since) = snapshot.last_ran(environment, &lane.0, &lane.1, wanted).await? {
                    last_ran.insert(lane, since);
                }
            }
        }
        let status = point.as_ref().map(|point| point.judgement.status);
        let way = PlanContext {
            source: wish.source(),
            retired: *retired,
            last_ran,
            began: point.as_ref().map(|point| &point.since),
            status: status.filter(|status| *status != Status::Empty),
            policy: &policy.policy,
            irreversible: &self.irreversible,
            open: &self.open,
            revocations: Revocations { revoked: &revoked, meant: Some(&meant) },
            freezes: &self.freezes,
        };
        let weighed = issues(&plan, &way).into_iter().map(|issue| {
            let severity = issue.severity(&policy.policy);
            (issue, severity)
        });
        let issues = weighed.collect();
        Ok(Planned {
            position: *position,
            environment_position: present
                .values()
                .filter_map(LaneFold::position)
                .chain([*changed])
                .max()
                .unwrap_or_default(),
            to,
            at,
            result: result(present, &wanted, &plan),
            point,
            policy: policy.clone(),
            plan,
            issues,
            wish: wish.clone(),
        })
    }
}

/// The lanes of an environment as they are. One that no event ever named has none, where it is to be built.
pub(crate) async fn present(
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

/// What the name of a point means.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The position; where a time names the point, that of the last entry that shaped the composition.
    pub position: Position,
    /// The time that names the point, if one does.
    pub at: Option<DateTime<Utc>>,
    /// The point; `None` where the environment had not begun.
    pub point: Option<Point>,
}

/// Finds the point that a name means, by what is known at a position.
///
/// # Errors
/// There is no such point, or the database does not answer.
pub async fn resolve(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    name: &PointSelector,
    believed: AsKnownAt,
) -> Result<Resolved, PlanError> {
    let known_at = believed.known_at.unwrap_or(snapshot.position());
    let position = match name {
        PointSelector::LastKnownGood => {
            return match snapshot.last_known_good(environment, known_at, believed).await? {
                Some(point) => Ok(Resolved { position: point.since.position, at: None, point: Some(point) }),
                None => Err(PlanError::NoKnownGoodPoint(environment.clone())),
            };
        }
        PointSelector::Named(name) => {
            let marks = snapshot.marks(environment, known_at).await?;
            let named = marks.named(name);
            named.ok_or_else(|| PlanError::NoSuchName(environment.clone(), name.clone()))?
        }
        PointSelector::At(PointInTime::Latest) => known_at,
        PointSelector::At(PointInTime::Position(position)) => *position,
        PointSelector::At(PointInTime::Time(time)) => {
            let point = snapshot.point_at(environment, *time, believed).await?;
            let position = point.as_ref().map_or(Position::START, |point| point.since.position);
            return Ok(Resolved { position, at: Some(*time), point });
        }
        PointSelector::At(PointInTime::ChangesAgo(ago)) => {
            snapshot.changes_ago(environment, *ago, known_at).await?
        }
    };
    let point = snapshot.point(environment, position, believed).await?;
    Ok(Resolved { position, at: None, point })
}

/// What runs when a plan is carried out.
fn result(present: &Lanes, wanted: &Composition, plan: &Plan) -> Composition {
    let stepped: BTreeSet<_> = plan.steps.iter().map(|step| (&step.service, &step.target)).collect();
    let stays = present.iter().filter(|((service, target), _)| !stepped.contains(&(service, target)));
    let stays = stays.filter_map(|(lane, fold)| Some((lane.clone(), fold.live()?.to_owned())));
    let comes = wanted.lanes().filter(|(service, target, _)| stepped.contains(&(service, target)));
    let comes = comes.map(|(service, target, live)| ((service.clone(), target.clone()), live.clone()));
    stays.chain(comes).collect()
}
