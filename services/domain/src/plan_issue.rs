//! What stands in the way of a plan, and what it warns about.
//!
//! Decision 0015, section 5, is the specification.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::event::{Enforcement, Plan, Policy, Step};
use crate::known_good::Status;
use crate::{Artifact, EnvironmentName, Position, Release, ServiceName, ShortText, Since, TargetName};

/// Something that a plan meets, with the position of its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanIssue {
    /// There is nothing to do.
    AlreadyThere,
    /// The environment is retired, by the event at this position: nothing that is deployed there has an effect.
    EnvironmentRetired(Position),
    /// An artifact that would be deployed must never be used again, or is gone.
    ArtifactRevoked {
        /// The service that would run it.
        service: ServiceName,
        /// Where.
        target: TargetName,
        /// Which.
        artifact: Artifact,
        /// Whether it is gone from its registry.
        deleted: bool,
        /// The position of its revocation.
        position: Position,
    },
    /// A deploy in between, which ended, cannot be undone by deploying the former release.
    Barrier(IrreversibleDeploy),
    /// Such a deploy was started, and its end was not reported.
    BarrierUnfinished(IrreversibleDeploy),
    /// A service that a service of the plan depends on had such a deploy.
    BarrierOfDependency(IrreversibleDeploy),
    /// A lane of the plan had such a deploy, and never ran the release of another environment that it is to run: it is not known whether
    /// that is older.
    BarrierUnplaced(IrreversibleDeploy),
    /// A deploy to the environment is under way.
    DeployOpen(OpenDeploy),
    /// Nothing runs at the point, and no person marked it.
    TargetEmpty,
    /// The point is called, or shown to be, bad.
    TargetBad,
    /// The point is not known good.
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
    /// When it occurred: its end, or its start where its end was not reported.
    pub occurred_at: DateTime<Utc>,
    /// The position of that report.
    pub position: Position,
    /// How it ended.
    pub outcome: DeployOutcome,
}

impl IrreversibleDeploy {
    fn is_after(&self, began: Option<&Since>) -> bool {
        let after = |began: &Since| (self.occurred_at, self.position) > (began.occurred_at, began.position);
        began.is_none_or(after)
    }
}

/// How a deploy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployOutcome {
    /// It succeeded.
    Succeeded,
    /// It failed, after it may have done what cannot be undone.
    Failed,
    /// It was started, and its end was not reported.
    Unfinished,
}

/// A deploy that was started, that has not ended, and after which no other deploy to the lane succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDeploy {
    /// The service.
    pub service: ServiceName,
    /// The target.
    pub target: TargetName,
    /// The version.
    pub version: ShortText,
    /// The position of its start.
    pub position: Position,
}

/// A freeze from its start to its end, by the time at which each occurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeInterval {
    /// The freeze.
    pub freeze: ActiveFreeze,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it was lifted, if it was.
    pub lifted_at: Option<DateTime<Utc>>,
}

impl FreezeInterval {
    /// Returns true if the freeze holds at a time; its end does not belong to it.
    #[must_use]
    pub fn holds_at(&self, time: DateTime<Utc>) -> bool {
        let not_yet = |end: Option<DateTime<Utc>>| end.is_none_or(|end| time < end);
        self.started_at <= time && not_yet(self.freeze.until) && not_yet(self.lifted_at)
    }
}

/// A freeze that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFreeze {
    /// Its name.
    pub freeze_id: ShortText,
    /// When it ends without being lifted, if it does.
    pub until: Option<DateTime<Utc>>,
    /// The position of its start.
    pub position: Position,
}

/// An artifact's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedArtifact {
    /// Which.
    pub artifact: Artifact,
    /// Whether it is gone from its registry.
    pub deleted: bool,
    /// The position of its revocation.
    pub position: Position,
}

/// The artifacts that must not be used, and which artifact a version means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Revocations<'a> {
    /// Artifacts that are revoked, and not reinstated.
    pub revoked: &'a [RevokedArtifact],
    /// The artifact that a version of a service means, for releases that state none.
    pub meant: Option<&'a BTreeMap<(ServiceName, ShortText), Artifact>>,
}

impl<'a> Revocations<'a> {
    /// Returns the last revocation of an artifact that is named as the service is, for a release of which no artifact is known: it may be
    /// this one.
    #[must_use]
    pub fn named(&self, service: &ServiceName, release: &Release) -> Option<&'a RevokedArtifact> {
        if release.artifact.is_some() {
            return None;
        }
        let is_named =
            |revoked: &&RevokedArtifact| revoked.artifact.name().as_deref() == Some(service.as_str());
        self.revoked.iter().filter(is_named).max_by_key(|revoked| revoked.position)
    }

    /// Returns the revocation of a release's artifact.
    #[must_use]
    pub fn of(&self, service: &ServiceName, release: &Release) -> Option<&'a RevokedArtifact> {
        let meant = || self.meant?.get(&(service.clone(), release.version.clone()));
        let artifact = release.artifact.as_ref().or_else(meant)?;
        self.revoked.iter().find(|revoked| revoked.artifact.is_same(artifact))
    }
}

/// What an issue does to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is said, and no more.
    Warning,
    /// The plan is not carried out, unless by force and with a reason.
    Overridable,
    /// The plan is not carried out.
    Fatal,
}

impl Severity {
    /// Whether a plan that meets it may be asked for.
    #[must_use]
    pub const fn lets_pass(self, force: bool) -> bool {
        match self {
            Self::Warning => true,
            Self::Overridable => force,
            Self::Fatal => false,
        }
    }
}

impl PlanIssue {
    /// Its kind as one word.
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

    /// The position of its evidence.
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

    /// What it does to a plan, by a policy.
    #[must_use]
    pub fn severity(&self, policy: &Policy) -> Severity {
        let by = |hindrance| match hindrance {
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
            Self::Barrier(_) => by(policy.barrier),
            Self::Frozen(_) => by(policy.freeze),
        }
    }
}

impl std::fmt::Display for PlanIssue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AlreadyThere => f.write_str("the environment runs this already"),
            Self::EnvironmentRetired(position) => {
                write!(f, "the environment is retired; declare it first (position {position})")
            }
            Self::ArtifactRevoked { service, target, artifact, deleted, position } => {
                let what = if *deleted { "is deleted" } else { "is revoked" };
                write!(f, "{} of {service} at {target} {what} (position {position})", artifact.as_str())
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
                    "{deploy} cannot be undone, and it is not known whether the wanted release is older, since it never ran there (position {position})"
                )
            }
            Self::DeployOpen(OpenDeploy { service, target, version, position }) => {
                write!(f, "a deploy of {version} of {service} to {target} is under way (position {position})")
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

/// The circumstances in which a plan is judged.
#[derive(Debug, Clone)]
pub struct PlanContext<'a> {
    /// The environment whose point it is, where that is another one.
    pub source: Option<&'a EnvironmentName>,
    /// The position of `environment.retired`, if the environment is retired.
    pub retired: Option<Position>,
    /// When each lane of the plan last went over to the release that the plan brings, where that is another environment's.
    pub last_ran: BTreeMap<(ServiceName, TargetName), Since>,
    /// The change with which the point began; `None`: the environment had not begun.
    pub began: Option<&'a Since>,
    /// The status of the point; `None`: nothing runs there, and no person marked it.
    pub status: Option<Status>,
    /// The policy of the environment that is brought there.
    pub policy: &'a Policy,
    /// Deploys of the environment that cannot be undone.
    pub irreversible: &'a [IrreversibleDeploy],
    /// Deploys of the environment that are under way.
    pub open: &'a [OpenDeploy],
    /// Artifacts that must not be used.
    pub revocations: Revocations<'a>,
    /// Freezes of the environment that hold now.
    pub freezes: &'a [ActiveFreeze],
}

/// Returns all that a plan meets, in a fixed order.
#[must_use]
pub fn issues(plan: &Plan, way: &PlanContext<'_>) -> Vec<PlanIssue> {
    let mut met = Vec::new();
    if plan.steps.is_empty() {
        met.push(PlanIssue::AlreadyThere);
    }
    met.extend(way.retired.map(PlanIssue::EnvironmentRetired));
    for step in &plan.steps {
        let revoked = step.to.as_ref().and_then(|release| way.revocations.of(&step.service, release));
        if let Some(RevokedArtifact { artifact, deleted, position }) = revoked {
            met.push(PlanIssue::ArtifactRevoked {
                service: step.service.clone(),
                target: step.target.clone(),
                artifact: artifact.clone(),
                deleted: *deleted,
                position: *position,
            });
        }
    }
    met.extend(barriers(plan, way));
    match way.status {
        Some(Status::KnownGood) => {}
        Some(Status::Candidate) => met.push(PlanIssue::TargetNotKnownGood),
        Some(Status::Bad) => met.push(PlanIssue::TargetBad),
        None | Some(Status::Empty) => met.push(PlanIssue::TargetEmpty),
    }
    met.extend(way.freezes.iter().cloned().map(PlanIssue::Frozen));
    met.extend(way.open.iter().cloned().map(PlanIssue::DeployOpen));
    met
}

/// Irreversible deploys since the point began; of another environment's point, since the lane went over to the release that ran there.
fn barriers(plan: &Plan, way: &PlanContext<'_>) -> Vec<PlanIssue> {
    if way.source.is_some() {
        return barriers_to_another(plan, way);
    }
    let changed: BTreeSet<_> = plan.steps.iter().map(|step| (&step.service, &step.target)).collect();
    let needed = way.policy.dependencies_of(plan.steps.iter().map(|step| &step.service));
    let mut since: Vec<_> = way.irreversible.iter().filter(|deploy| deploy.is_after(way.began)).collect();
    since.sort_by_key(|deploy| (deploy.occurred_at, deploy.position));
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

fn barriers_to_another(plan: &Plan, way: &PlanContext<'_>) -> Vec<PlanIssue> {
    let mut met = Vec::new();
    for deploy in way.irreversible {
        let lane = (deploy.service.clone(), deploy.target.clone());
        let is_brought =
            |step: &&Step| (&step.service, &step.target) == (&lane.0, &lane.1) && step.to.is_some();
        if !plan.steps.iter().any(|step| is_brought(&step)) {
            continue;
        }
        met.extend(match (way.last_ran.get(&lane), deploy.outcome) {
            (None, _) => Some(PlanIssue::BarrierUnplaced(deploy.clone())),
            (Some(since), _) if !deploy.is_after(Some(since)) => None,
            (Some(_), DeployOutcome::Unfinished) => Some(PlanIssue::BarrierUnfinished(deploy.clone())),
            (Some(_), _) => Some(PlanIssue::Barrier(deploy.clone())),
        });
    }
    met.sort_by_key(PlanIssue::position);
    met
}

#[cfg(test)]
mod tests;
