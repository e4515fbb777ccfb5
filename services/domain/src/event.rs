//! Events: what happened, as domain values. One file a family.

mod approval;
mod artifact;
mod deploy;
mod environment;
mod freeze;
mod plan;
mod policy;
mod release_point;
mod rollback;
mod validation;

pub use approval::{Approval, ApprovalSubject};
pub use artifact::{Built, Reinstated, Revoked};
pub use deploy::{Deploy, Ending, Removal, Switch};
pub use environment::{Observation, Observed};
pub use freeze::Freeze;
pub use plan::{Action, Plan, Step};
pub use policy::{AutomaticRollback, AutomaticScope, Enforcement, Policy, Promotion, PromotionTargets};
pub use release_point::{Mark, MarkedStatus};
pub use rollback::{Declined, ReleasePointId, Rollback, RollbackRequest, RollbackStart};
pub use validation::{Counts, Evidence, Validation, ValidationSubject};

use chrono::TimeDelta;

use crate::{
    Effect, EnvironmentName, Family, Identity, Kind, LaneRef, LongText, ServiceName, ShortText, Track,
};

/// The most by which the time of an event may exceed the service's own.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What happened, who did it and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub payload: Payload,
    /// Who or what did it.
    pub actor: Option<Actor>,
    /// Why, in a person's words.
    pub reason: Option<LongText>,
    /// Where to read more.
    pub links: Vec<Link>,
    /// The event that this one replaces, from this one's position on.
    pub corrects: Option<Identity>,
}

/// Who or what did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `person`, `workload`, or another word of the emitter's.
    pub kind: ShortText,
    /// The name.
    pub name: ShortText,
}

impl Actor {
    /// Whether it says of itself that it is no person.
    #[must_use]
    pub fn is_workload(&self) -> bool {
        self.kind.as_str() == "workload"
    }
}

/// Where to read more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is behind it: `pipeline`, `commit`, `ticket`.
    pub rel: ShortText,
    /// A URI.
    pub href: ShortText,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A version was built.
    ArtifactBuilt(Built),
    /// A version must never be used again.
    ArtifactRevoked(Revoked),
    /// A revocation is withdrawn.
    ArtifactReinstated(Reinstated),
    /// A deploy began.
    DeployStarted(Deploy),
    /// A release now stands in the lane, or in one of its slots.
    DeploySucceeded(Deploy),
    /// A deploy did not come to its end.
    DeployFailed(Deploy),
    /// Nothing stands in the lane, or in one of its slots, any more.
    DeployRemoved(Removal),
    /// Another slot of the lane is live.
    TrafficSwitched(Switch),
    /// A check began.
    ValidationStarted(Validation),
    /// A check passed.
    ValidationPassed(Validation),
    /// A check failed.
    ValidationFailed(Validation),
    /// Somebody wants an environment back at a point.
    RollbackRequested(RollbackRequest),
    /// A rollback's execution began.
    RollbackStarted(RollbackStart),
    /// The environment is at the point.
    RollbackSucceeded(Rollback),
    /// The environment is not at the point.
    RollbackFailed(Rollback),
    /// The rollback was called off.
    RollbackCancelled(Rollback),
    /// The rollback controller asked for no rollback.
    RollbackDeclined(Declined),
    /// A person calls a point known good, or bad.
    ReleasePointMarked(Mark),
    /// A person takes a mark back.
    ReleasePointRevoked(ReleasePointId),
    /// An environment's policy.
    EnvironmentDeclared(EnvironmentName, Policy),
    /// What was really seen running.
    EnvironmentObserved(Observation),
    /// The environment's end.
    EnvironmentRetired(EnvironmentName),
    /// A person allows it.
    ApprovalGranted(Approval),
    /// A person does not allow it.
    ApprovalRejected(Approval),
    /// No deploys from now on.
    FreezeStarted(Freeze),
    /// Deploys are allowed again.
    FreezeLifted(Freeze),
}

impl Payload {
    /// Returns true for a command, which is decided against the state at the head; every other event is a report.
    #[must_use]
    pub fn is_command(&self) -> bool {
        match self {
            Self::EnvironmentDeclared(..) | Self::ArtifactReinstated(_) => true,
            // The start of a rollback step claims the step.
            Self::DeployStarted(deploy) => deploy.rollback_id.is_some(),
            _ => matches!(
                self.kind().family(),
                Family::Rollback | Family::ReleasePoint | Family::Approval | Family::Freeze
            ),
        }
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ArtifactBuilt(_) => Kind::ArtifactBuilt,
            Self::ArtifactRevoked(_) => Kind::ArtifactRevoked,
            Self::ArtifactReinstated(_) => Kind::ArtifactReinstated,
            Self::DeployStarted(_) => Kind::DeployStarted,
            Self::DeploySucceeded(_) => Kind::DeploySucceeded,
            Self::DeployFailed(_) => Kind::DeployFailed,
            Self::DeployRemoved(_) => Kind::DeployRemoved,
            Self::TrafficSwitched(_) => Kind::TrafficSwitched,
            Self::ValidationStarted(_) => Kind::ValidationStarted,
            Self::ValidationPassed(_) => Kind::ValidationPassed,
            Self::ValidationFailed(_) => Kind::ValidationFailed,
            Self::RollbackRequested(_) => Kind::RollbackRequested,
            Self::RollbackStarted(_) => Kind::RollbackStarted,
            Self::RollbackSucceeded(_) => Kind::RollbackSucceeded,
            Self::RollbackFailed(_) => Kind::RollbackFailed,
            Self::RollbackCancelled(_) => Kind::RollbackCancelled,
            Self::RollbackDeclined(_) => Kind::RollbackDeclined,
            Self::ReleasePointMarked(_) => Kind::ReleasePointMarked,
            Self::ReleasePointRevoked(_) => Kind::ReleasePointRevoked,
            Self::EnvironmentDeclared(..) => Kind::EnvironmentDeclared,
            Self::EnvironmentObserved(_) => Kind::EnvironmentObserved,
            Self::EnvironmentRetired(_) => Kind::EnvironmentRetired,
            Self::ApprovalGranted(_) => Kind::ApprovalGranted,
            Self::ApprovalRejected(_) => Kind::ApprovalRejected,
            Self::FreezeStarted(_) => Kind::FreezeStarted,
            Self::FreezeLifted(_) => Kind::FreezeLifted,
        }
    }

    /// The lane, where the fact is about one.
    #[must_use]
    pub const fn lane(&self) -> Option<&LaneRef> {
        match self {
            Self::DeployStarted(d) | Self::DeploySucceeded(d) | Self::DeployFailed(d) => Some(&d.lane),
            Self::DeployRemoved(r) => Some(&r.lane),
            Self::TrafficSwitched(s) => Some(&s.lane),
            Self::ValidationStarted(v) | Self::ValidationPassed(v) | Self::ValidationFailed(v) => {
                match &v.subject {
                    ValidationSubject::Lane { lane, .. } => Some(lane),
                    ValidationSubject::Environment(_) | ValidationSubject::Artifact(_) => None,
                }
            }
            Self::ApprovalGranted(a) | Self::ApprovalRejected(a) => match &a.subject {
                ApprovalSubject::Deploy { lane, .. } => Some(lane),
                ApprovalSubject::Rollback { .. } => None,
            },
            _ => None,
        }
    }

    /// The environment; an artifact belongs to none.
    #[must_use]
    pub const fn environment(&self) -> Option<&EnvironmentName> {
        if let Some(lane) = self.lane() {
            return Some(&lane.environment);
        }
        match self {
            Self::ValidationStarted(v) | Self::ValidationPassed(v) | Self::ValidationFailed(v) => {
                match &v.subject {
                    ValidationSubject::Environment(environment) => Some(environment),
                    ValidationSubject::Lane { .. } | ValidationSubject::Artifact(_) => None,
                }
            }
            Self::RollbackRequested(r) => Some(&r.rollback.environment),
            Self::RollbackStarted(r) => Some(&r.rollback.environment),
            Self::RollbackSucceeded(r) | Self::RollbackFailed(r) | Self::RollbackCancelled(r) => {
                Some(&r.environment)
            }
            Self::RollbackDeclined(d) => Some(&d.environment),
            Self::ReleasePointMarked(m) => Some(&m.point.environment),
            Self::ReleasePointRevoked(p) => Some(&p.environment),
            Self::EnvironmentObserved(o) => Some(&o.environment),
            Self::EnvironmentDeclared(e, _) | Self::EnvironmentRetired(e) => Some(e),
            Self::ApprovalGranted(a) | Self::ApprovalRejected(a) => match &a.subject {
                ApprovalSubject::Rollback { environment, .. } => Some(environment),
                ApprovalSubject::Deploy { .. } => None,
            },
            Self::FreezeStarted(f) | Self::FreezeLifted(f) => Some(&f.environment),
            _ => None,
        }
    }

    /// The service, where the fact is about one lane.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        self.lane().map(|lane| &lane.service)
    }

    /// The rollback that the fact is a step of, where it tells one.
    #[must_use]
    pub const fn rollback_id(&self) -> Option<&ShortText> {
        match self {
            Self::DeployStarted(d) | Self::DeploySucceeded(d) | Self::DeployFailed(d) => {
                d.rollback_id.as_ref()
            }
            Self::DeployRemoved(r) => r.rollback_id.as_ref(),
            Self::TrafficSwitched(s) => s.rollback_id.as_ref(),
            _ => None,
        }
    }

    /// The emitter's name for the run that changed a lane, where it tells one.
    #[must_use]
    pub const fn deployment(&self) -> Option<&ShortText> {
        match self {
            Self::DeployStarted(d) | Self::DeploySucceeded(d) | Self::DeployFailed(d) => {
                d.deployment.as_ref()
            }
            Self::DeployRemoved(r) => r.deployment.as_ref(),
            Self::TrafficSwitched(s) => s.deployment.as_ref(),
            _ => None,
        }
    }

    /// Returns what the event changes in a lane, if it is of a kind that does: on which track, and to what.
    #[must_use]
    pub fn change(&self) -> Option<(&LaneRef, Track, Effect)> {
        let track = |slot: &Option<crate::SlotName>| slot.clone().map_or(Track::Traffic, Track::Slot);
        match self {
            Self::DeploySucceeded(d) => Some((&d.lane, track(&d.slot), Effect::Deployed(d.release.clone()))),
            Self::DeployRemoved(r) => Some((&r.lane, track(&r.slot), Effect::Removed)),
            Self::TrafficSwitched(s) => Some((&s.lane, Track::Traffic, Effect::SwitchedTo(s.slot.clone()))),
            _ => None,
        }
    }

    /// Returns true if an event of this kind may correct another, and be corrected.
    #[must_use]
    pub const fn is_correctable(&self) -> bool {
        matches!(
            self,
            Self::DeployStarted(_)
                | Self::DeploySucceeded(_)
                | Self::DeployFailed(_)
                | Self::DeployRemoved(_)
                | Self::TrafficSwitched(_)
                | Self::ValidationStarted(_)
                | Self::ValidationPassed(_)
                | Self::ValidationFailed(_)
        )
    }
}
