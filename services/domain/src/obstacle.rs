//! What stands in the way of a plan.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::event::{Hindrance, Plan, Policy};
use crate::known_good::Status;
use crate::{Artifact, EnvironmentName, Line, Position, ServiceName, TargetName};

/// Something that a plan meets, with the position of its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// There is nothing to do.
    AlreadyThere,
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
        /// Where that is told.
        position: Position,
    },
    /// A deploy in between cannot be undone by deploying the former release.
    Barrier(IrreversibleDeploy),
    /// Nothing ran there yet: the plan would remove everything.
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
    /// Of this service.
    pub service: ServiceName,
    /// To this target.
    pub target: TargetName,
    /// Which version.
    pub version: Line,
    /// Where it is told.
    pub position: Position,
}

/// A freeze that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFreeze {
    /// Its name.
    pub freeze_id: Line,
    /// When it ends by itself, if it does.
    pub until: Option<DateTime<Utc>>,
    /// Where it is told.
    pub position: Position,
}

/// An artifact's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedArtifact {
    /// Which.
    pub artifact: Artifact,
    /// Whether it is gone from its registry.
    pub deleted: bool,
    /// Where that is told.
    pub position: Position,
}

/// What an obstacle does to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It is said, and no more.
    Warning,
    /// The plan is not carried out, unless by force and with a reason.
    Blocker,
    /// The plan is not carried out.
    Final,
}

impl Weight {
    /// Whether a plan that meets it may be asked for.
    #[must_use]
    pub const fn lets_pass(self, force: bool) -> bool {
        match self {
            Self::Warning => true,
            Self::Blocker => force,
            Self::Final => false,
        }
    }
}

impl Obstacle {
    /// Its kind as one word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AlreadyThere => "already_there",
            Self::ArtifactRevoked { .. } => "artifact_revoked",
            Self::Barrier(_) => "barrier",
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
            Self::ArtifactRevoked { position, .. } => Some(*position),
            Self::Barrier(deploy) => Some(deploy.position),
            Self::Frozen(freeze) => Some(freeze.position),
        }
    }

    /// What it does to a plan, by a policy.
    #[must_use]
    pub fn weight(&self, policy: &Policy) -> Weight {
        let by = |hindrance| match hindrance {
            Hindrance::Block => Weight::Blocker,
            Hindrance::Warn => Weight::Warning,
        };
        match self {
            Self::AlreadyThere | Self::ArtifactRevoked { .. } => Weight::Final,
            Self::TargetEmpty | Self::TargetBad => Weight::Blocker,
            Self::TargetNotKnownGood => Weight::Warning,
            Self::Barrier(_) => by(policy.barrier),
            Self::Frozen(_) => by(policy.freeze),
        }
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AlreadyThere => f.write_str("the environment runs this already"),
            Self::ArtifactRevoked { service, target, artifact, deleted, position } => {
                let what = if *deleted { "is deleted" } else { "is revoked" };
                write!(f, "{} of {service} at {target} {what} (position {position})", artifact.as_str())
            }
            Self::Barrier(IrreversibleDeploy { service, target, version, position }) => {
                write!(
                    f,
                    "the deploy of {version} of {service} to {target} cannot be undone (position {position})"
                )
            }
            Self::TargetEmpty => f.write_str("nothing ran there at that point"),
            Self::TargetBad => f.write_str("the point is bad"),
            Self::TargetNotKnownGood => f.write_str("the point is not known good"),
            Self::Frozen(freeze) => freeze.fmt(f),
        }
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

/// What a plan is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way<'a> {
    /// The point, in an environment of its own where that is another one.
    pub source: Option<&'a EnvironmentName>,
    /// Its position.
    pub to: Position,
    /// What is thought of it; `None`: nothing ran there.
    pub status: Option<Status>,
    /// Deploys of the environment that cannot be undone.
    pub irreversible: &'a [IrreversibleDeploy],
    /// Artifacts that must not be used.
    pub revoked: &'a [RevokedArtifact],
    /// Freezes of the environment that hold now.
    pub freezes: &'a [ActiveFreeze],
}

/// All that a plan meets, in the order of its steps.
#[must_use]
pub fn obstacles(plan: &Plan, way: &Way<'_>) -> Vec<Obstacle> {
    let mut met = Vec::new();
    if plan.steps.is_empty() {
        met.push(Obstacle::AlreadyThere);
    }
    for step in &plan.steps {
        let artifact = step.to.as_ref().and_then(|release| release.artifact.as_ref());
        let revoked = way.revoked.iter().find(|revoked| Some(&revoked.artifact) == artifact);
        if let Some(RevokedArtifact { artifact, deleted, position }) = revoked {
            met.push(Obstacle::ArtifactRevoked {
                service: step.service.clone(),
                target: step.target.clone(),
                artifact: artifact.clone(),
                deleted: *deleted,
                position: *position,
            });
        }
    }
    // Another environment's point says nothing of what was done here in between.
    if way.source.is_none() {
        let changed: BTreeSet<_> = plan.steps.iter().map(|step| (&step.service, &step.target)).collect();
        let between = way.irreversible.iter().filter(|deploy| {
            deploy.position > way.to && changed.contains(&(&deploy.service, &deploy.target))
        });
        met.extend(between.cloned().map(Obstacle::Barrier));
    }
    match way.status {
        Some(Status::KnownGood) => {}
        Some(Status::Candidate) => met.push(Obstacle::TargetNotKnownGood),
        Some(Status::Bad) => met.push(Obstacle::TargetBad),
        None | Some(Status::Empty) => met.push(Obstacle::TargetEmpty),
    }
    met.extend(way.freezes.iter().cloned().map(Obstacle::Frozen));
    met
}

#[cfg(test)]
mod tests;
