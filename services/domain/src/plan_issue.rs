//! Issues of a plan: reasons that block it, and warnings.
//!
//! Decision 0015, section 5, is the specification.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::event::{Enforcement, Plan, Policy, Step};
use crate::known_good::Status;
use crate::{
    Artifact, EnvironmentName, EventRef, EventTime, FreezePeriod, Position, Release, ServiceName, ShortText,
    TargetName,
};

/// An issue of a plan, with the position of its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanIssue {
    /// The plan has no steps.
    AlreadyThere,
    /// The environment is retired by the event at this position. Deploys to it have no effect.
    EnvironmentRetired(Position),
    /// An artifact that the plan would deploy is revoked or deleted.
    ArtifactRevoked {
        /// The service that would run it.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The revoked artifact.
        artifact: Artifact,
        /// True if the artifact was deleted from its registry.
        deleted: bool,
        /// The position of the revocation.
        position: Position,
    },
    /// An irreversible deploy to a lane of the plan ended since the point began.
    Barrier(IrreversibleDeploy),
    /// An irreversible deploy to a lane of the plan was started since the point began, and its end was not reported.
    BarrierUnfinished(IrreversibleDeploy),
    /// A service that the plan's services depend on had an irreversible deploy since the point began.
    BarrierOfDependency(IrreversibleDeploy),
    /// A lane of the plan had an irreversible deploy and never ran the wanted release, which comes from another
    /// environment: it is unknown which of the two is older.
    BarrierUnplaced(IrreversibleDeploy),
    /// A deploy to the environment is under way.
    DeployOpen(OpenDeploy),
    /// Nothing runs at the point, and no person marked it.
    TargetEmpty,
    /// The status of the point is bad.
    TargetBad,
    /// The status of the point is candidate, not known good.
    TargetNotKnownGood,
    /// The environment is frozen.
    Frozen(ActiveFreeze),
}

/// A deploy that was reported as `reversible: false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IrreversibleDeploy {
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: TargetName,
    /// The version.
    pub version: ShortText,
    /// Time of the deploy's end, or of its start if the end was not reported.
    pub occurred_at: DateTime<Utc>,
    /// The position of that report.
    pub position: Position,
    /// The outcome of the deploy.
    pub outcome: DeployOutcome,
}

impl IrreversibleDeploy {
    const fn event_time(&self) -> EventTime {
        EventTime::new(self.occurred_at, self.position)
    }

    fn is_after(&self, began: Option<&EventRef>) -> bool {
        began.is_none_or(|began| self.event_time() > began.event_time())
    }
}

/// The outcome of a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployOutcome {
    /// The deploy succeeded.
    Succeeded,
    /// The deploy failed, possibly after an irreversible change.
    Failed,
    /// The deploy was started, and its end was not reported.
    Unfinished,
}

/// A deploy that was started and has not ended, and after which no other deploy to the lane succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDeploy {
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: TargetName,
    /// The version.
    pub version: ShortText,
    /// The position of the deploy's start.
    pub position: Position,
}

/// A freeze that was started, with the period in which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFreeze {
    /// The name of the freeze.
    pub freeze_id: ShortText,
    /// The position of the freeze's start.
    pub position: Position,
    /// The period in which it holds.
    pub period: FreezePeriod,
}

impl RecordedFreeze {
    /// Returns the freeze, if it holds at a time.
    #[must_use]
    pub fn active_at(&self, time: DateTime<Utc>) -> Option<ActiveFreeze> {
        self.period.holds_at(time).then(|| ActiveFreeze {
            freeze_id: self.freeze_id.clone(),
            until: self.period.until,
            position: self.position,
        })
    }
}

/// A freeze that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFreeze {
    /// The name of the freeze.
    pub freeze_id: ShortText,
    /// Time at which the freeze ends automatically; `None`: it ends only when it is lifted.
    pub until: Option<DateTime<Utc>>,
    /// The position of the freeze's start.
    pub position: Position,
}

/// A revoked artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedArtifact {
    /// The artifact.
    pub artifact: Artifact,
    /// True if the artifact was deleted from its registry.
    pub deleted: bool,
    /// The position of the revocation.
    pub position: Position,
}

/// The revoked artifacts, and the artifacts that versions mean.
#[derive(Debug, Clone, Copy, Default)]
pub struct Revocations<'a> {
    /// Artifacts that are revoked and not reinstated.
    pub revoked: &'a [RevokedArtifact],
    /// The artifact that each version of a service means, for releases that state none.
    pub version_artifacts: Option<&'a BTreeMap<(ServiceName, ShortText), Artifact>>,
}

impl<'a> Revocations<'a> {
    /// Returns the latest revocation of an artifact with the service's name, for a release that states no artifact: the
    /// release may have that artifact.
    #[must_use]
    pub fn named(&self, service: &ServiceName, release: &Release) -> Option<&'a RevokedArtifact> {
        if release.artifact.is_some() {
            return None;
        }
        let has_name_of_service =
            |revoked: &&RevokedArtifact| revoked.artifact.name().as_deref() == Some(service.as_str());
        self.revoked.iter().filter(has_name_of_service).max_by_key(|revoked| revoked.position)
    }

    /// Returns the revocation of the artifact that a release states or its version means, if it is revoked.
    #[must_use]
    pub fn of(&self, service: &ServiceName, release: &Release) -> Option<&'a RevokedArtifact> {
        let of_version = || self.version_artifacts?.get(&(service.clone(), release.version.clone()));
        let artifact = release.artifact.as_ref().or_else(of_version)?;
        self.revoked.iter().find(|revoked| revoked.artifact.is_same(artifact))
    }
}

/// The effect of an issue on a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The issue is reported only.
    Warning,
    /// The plan is blocked unless it is forced, with a reason.
    Overridable,
    /// The plan is blocked.
    Fatal,
}

impl Severity {
    /// Returns true if a plan with an issue of this severity may be requested.
    #[must_use]
    pub const fn permits(self, force: bool) -> bool {
        match self {
            Self::Warning => true,
            Self::Overridable => force,
            Self::Fatal => false,
        }
    }
}

impl PlanIssue {
    /// Returns the kind of the issue, as the API names it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AlreadyThere => "already_there",
            Self::EnvironmentRetired(_) => "environment_retired",
            Self::ArtifactRevoked { .. } => "artifact_revoked",
            Self::Barrier(_) => "barrier",
            Self::BarrierUnfinished(_) => "barrier_unfinished",
            Self::BarrierOfDependency(_) => "barrier_of_dependency",
            Self::BarrierUnplaced(_) => "barrier_unplaced",
            Self::DeployOpen(_) => "deploy_open",
            Self::TargetEmpty => "target_empty",
            Self::TargetBad => "target_bad",
            Self::TargetNotKnownGood => "target_not_known_good",
            Self::Frozen(_) => "freeze",
        }
    }

    /// Returns the position of the evidence, if the issue has one.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        match self {
            Self::AlreadyThere | Self::TargetEmpty | Self::TargetBad | Self::TargetNotKnownGood => None,
            Self::EnvironmentRetired(position) | Self::ArtifactRevoked { position, .. } => Some(*position),
            Self::Barrier(deploy)
            | Self::BarrierUnfinished(deploy)
            | Self::BarrierOfDependency(deploy)
            | Self::BarrierUnplaced(deploy) => Some(deploy.position),
            Self::DeployOpen(deploy) => Some(deploy.position),
            Self::Frozen(freeze) => Some(freeze.position),
        }
    }

    /// Returns the severity of the issue according to a policy.
    #[must_use]
    pub fn severity(&self, policy: &Policy) -> Severity {
        let enforced = |enforcement| match enforcement {
            Enforcement::Block => Severity::Overridable,
            Enforcement::Warn => Severity::Warning,
        };
        match self {
            Self::AlreadyThere | Self::EnvironmentRetired(_) | Self::ArtifactRevoked { .. } => {
                Severity::Fatal
            }
            Self::TargetEmpty | Self::TargetBad => Severity::Overridable,
            Self::TargetNotKnownGood
            | Self::BarrierUnfinished(_)
            | Self::BarrierOfDependency(_)
            | Self::BarrierUnplaced(_)
            | Self::DeployOpen(_) => Severity::Warning,
            Self::Barrier(_) => enforced(policy.barrier),
            Self::Frozen(_) => enforced(policy.freeze),
        }
    }
}

impl std::fmt::Display for PlanIssue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AlreadyThere => f.write_str("the environment already matches the point"),
            Self::EnvironmentRetired(position) => {
                write!(f, "the environment is retired; declare it first (position {position})")
            }
            Self::ArtifactRevoked { service, target, artifact, deleted, position } => {
                let state = if *deleted { "is deleted" } else { "is revoked" };
                write!(f, "{} of {service} at {target} {state} (position {position})", artifact.as_str())
            }
            Self::Barrier(deploy) => write!(f, "{deploy} cannot be undone (position {})", deploy.position),
            Self::BarrierUnfinished(deploy) => {
                let position = deploy.position;
                write!(f, "{deploy} cannot be undone, and its end was not reported (position {position})")
            }
            Self::BarrierOfDependency(deploy) => {
                let position = deploy.position;
                write!(
                    f,
                    "{deploy}, on which the plan's services depend, cannot be undone (position {position})"
                )
            }
            Self::BarrierUnplaced(deploy) => {
                let position = deploy.position;
                write!(
                    f,
                    "{deploy} cannot be undone, and it is unknown whether the wanted release is older: \
                     it never ran in this lane (position {position})"
                )
            }
            Self::DeployOpen(OpenDeploy { service, target, version, position }) => {
                let deploy = format!("a deploy of {version} of {service} to {target}");
                write!(f, "{deploy} is under way (position {position})")
            }
            Self::TargetEmpty => f.write_str("nothing runs at that point"),
            Self::TargetBad => f.write_str("the point is bad"),
            Self::TargetNotKnownGood => f.write_str("the point is not known good"),
            Self::Frozen(freeze) => freeze.fmt(f),
        }
    }
}

impl std::fmt::Display for IrreversibleDeploy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service, target, version, .. } = self;
        let failed = if self.outcome == DeployOutcome::Failed { "failed " } else { "" };
        write!(f, "the {failed}deploy of {version} of {service} to {target}")
    }
}

impl std::fmt::Display for ActiveFreeze {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { freeze_id, until, position } = self;
        match until {
            Some(until) => {
                write!(f, "freeze {freeze_id} holds until {} (position {position})", until.to_rfc3339())
            }
            None => write!(f, "freeze {freeze_id} holds (position {position})"),
        }
    }
}

/// The state of an environment and of the point, against which the issues of a plan are determined.
#[derive(Debug, Clone)]
pub struct PlanContext<'a> {
    /// The environment that the point belongs to, if it is another one.
    pub source: Option<&'a EnvironmentName>,
    /// The position of `environment.retired`, if the environment is retired.
    pub retired: Option<Position>,
    /// For a point of another environment: when each lane of the plan last started to run the release that the plan
    /// deploys.
    pub last_ran: BTreeMap<(ServiceName, TargetName), EventRef>,
    /// The change with which the point began; `None`: the point precedes the first change of the environment.
    pub began: Option<&'a EventRef>,
    /// The status of the point; `None`: nothing runs at the point, and no person marked it.
    pub status: Option<Status>,
    /// The policy of the environment that is rolled back.
    pub policy: &'a Policy,
    /// Irreversible deploys of the environment.
    pub irreversible: &'a [IrreversibleDeploy],
    /// Deploys of the environment that are under way.
    pub open: &'a [OpenDeploy],
    /// Revoked artifacts.
    pub revocations: Revocations<'a>,
    /// Freezes of the environment that hold now.
    pub freezes: &'a [ActiveFreeze],
}

/// Returns all issues of a plan, in a fixed order.
#[must_use]
pub fn issues(plan: &Plan, context: &PlanContext<'_>) -> Vec<PlanIssue> {
    let mut found = Vec::new();
    if plan.steps.is_empty() {
        found.push(PlanIssue::AlreadyThere);
    }
    found.extend(context.retired.map(PlanIssue::EnvironmentRetired));
    for step in &plan.steps {
        let revoked = step.to.as_ref().and_then(|release| context.revocations.of(&step.service, release));
        if let Some(RevokedArtifact { artifact, deleted, position }) = revoked {
            found.push(PlanIssue::ArtifactRevoked {
                service: step.service.clone(),
                target: step.target.clone(),
                artifact: artifact.clone(),
                deleted: *deleted,
                position: *position,
            });
        }
    }
    found.extend(barriers(plan, context));
    match context.status {
        Some(Status::KnownGood) => {}
        Some(Status::Candidate) => found.push(PlanIssue::TargetNotKnownGood),
        Some(Status::Bad) => found.push(PlanIssue::TargetBad),
        None | Some(Status::Empty) => found.push(PlanIssue::TargetEmpty),
    }
    found.extend(context.freezes.iter().cloned().map(PlanIssue::Frozen));
    found.extend(context.open.iter().cloned().map(PlanIssue::DeployOpen));
    found
}

/// Returns the irreversible deploys since the point began; for a point of another environment, since each lane started
/// to run the release of that point.
fn barriers(plan: &Plan, context: &PlanContext<'_>) -> Vec<PlanIssue> {
    if context.source.is_some() {
        return barriers_to_other_environment(plan, context);
    }
    let changed: BTreeSet<_> = plan.steps.iter().map(|step| (&step.service, &step.target)).collect();
    let needed = context.policy.dependencies_of(plan.steps.iter().map(|step| &step.service));
    let mut since: Vec<_> =
        context.irreversible.iter().filter(|deploy| deploy.is_after(context.began)).collect();
    since.sort_by_key(|deploy| deploy.event_time());
    let barrier = |deploy: &IrreversibleDeploy| {
        let is_changed = changed.contains(&(&deploy.service, &deploy.target));
        match deploy.outcome {
            _ if !is_changed && !needed.contains(&deploy.service) => None,
            _ if !is_changed => Some(PlanIssue::BarrierOfDependency(deploy.clone())),
            DeployOutcome::Unfinished => Some(PlanIssue::BarrierUnfinished(deploy.clone())),
            DeployOutcome::Succeeded | DeployOutcome::Failed => Some(PlanIssue::Barrier(deploy.clone())),
        }
    };
    since.into_iter().filter_map(barrier).collect()
}

fn barriers_to_other_environment(plan: &Plan, context: &PlanContext<'_>) -> Vec<PlanIssue> {
    let mut found = Vec::new();
    for deploy in context.irreversible {
        let lane = (deploy.service.clone(), deploy.target.clone());
        let deploys_to_lane =
            |step: &&Step| (&step.service, &step.target) == (&lane.0, &lane.1) && step.to.is_some();
        if !plan.steps.iter().any(|step| deploys_to_lane(&step)) {
            let is_needed = plan.steps.iter().any(|step| {
                let since = context.last_ran.get(&(step.service.clone(), step.target.clone()));
                step.to.is_some()
                    && context.policy.dependencies_of([&step.service]).contains(&deploy.service)
                    && since.is_none_or(|since| deploy.is_after(Some(since)))
            });
            found.extend(is_needed.then(|| PlanIssue::BarrierOfDependency(deploy.clone())));
            continue;
        }
        found.extend(match (context.last_ran.get(&lane), deploy.outcome) {
            (None, _) => Some(PlanIssue::BarrierUnplaced(deploy.clone())),
            (Some(since), _) if !deploy.is_after(Some(since)) => None,
            (Some(_), DeployOutcome::Unfinished) => Some(PlanIssue::BarrierUnfinished(deploy.clone())),
            (Some(_), _) => Some(PlanIssue::Barrier(deploy.clone())),
        });
    }
    found.sort_by_key(PlanIssue::position);
    found
}

#[cfg(test)]
mod tests;
