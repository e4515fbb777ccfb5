//! Events as domain values, one file per family.

mod access;
mod activity;
mod approval;
mod artifact;
mod deploy;
mod environment;
mod freeze;
mod incident;
mod plan;
mod policy;
mod release_point;
mod rollback;
mod subscription;
mod validation;

pub use access::{TokenCreation, TokenRotation};
pub use activity::Activity;
pub use approval::{Approval, ApprovalSubject};
pub use artifact::{Built, Reinstated, Revoked};
pub use deploy::{Deploy, Ending, Removal, Switch};
pub use environment::{Observation, Observed};
pub use freeze::Freeze;
pub use incident::{Incident, IncidentOpening};
pub use plan::{Action, Plan, Step};
pub use policy::{AutomaticRollback, AutomaticScope, Enforcement, Policy, Promotion, PromotionTargets};
pub use release_point::{Mark, MarkedStatus};
pub use rollback::{Declined, ReleasePointId, Rollback, RollbackRequest, RollbackStart};
pub use subscription::{
    Subscription, SubscriptionDisabling, SubscriptionFilter, WebhookUrl, WebhookUrlError,
};
pub use validation::{Counts, Evidence, Validation, ValidationSubject};

use chrono::TimeDelta;

use crate::access::{Grant, GrantId, TokenId};
use crate::{
    Artifact, Effect, EnvironmentName, Family, Identity, Kind, LaneRef, LongText, Principal, Release,
    ServiceName, ShortText, SubscriptionName, TargetName, TenantName, Track,
};

/// Maximum by which an event's `occurred_at` may be ahead of the service's clock.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// An event: its payload, its actor and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The payload: the event's type and its data.
    pub payload: Payload,
    /// The person or workload that caused the event: the authenticated sender, or what the event states if the sender
    /// was not authenticated.
    pub actor: Option<Actor>,
    /// The authenticated sender; `None` if the service did not authenticate it.
    pub sender: Option<Box<Sender>>,
    /// The reason, as free text.
    pub reason: Option<LongText>,
    /// Links to further information.
    pub links: Vec<Link>,
    /// The event that this one replaces, from this event's position on.
    pub corrects: Option<Identity>,
}

/// The authenticated sender of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The sender.
    pub principal: Principal,
    /// The actor that the event states.
    pub claimed_actor: Option<Actor>,
}

/// The person or workload that caused an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `person`, `workload`, or another type that the emitter chooses.
    pub kind: ShortText,
    /// The actor's name.
    pub name: ShortText,
}

impl Actor {
    /// Returns true if the actor is of the type `workload`.
    #[must_use]
    pub fn is_workload(&self) -> bool {
        self.kind.as_str() == "workload"
    }
}

/// A link to further information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Type of the linked resource: `pipeline`, `commit`, `ticket`.
    pub rel: ShortText,
    /// A URI.
    pub href: ShortText,
}

/// The type and the data of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// An artifact was built.
    ArtifactBuilt(Built),
    /// An artifact was revoked: it must not be used any more.
    ArtifactRevoked(Revoked),
    /// A revocation was withdrawn.
    ArtifactReinstated(Reinstated),
    /// A deploy started.
    DeployStarted(Deploy),
    /// A deploy succeeded: the lane, or one of its slots, holds the release.
    DeploySucceeded(Deploy),
    /// A deploy failed.
    DeployFailed(Deploy),
    /// The lane, or one of its slots, was emptied.
    DeployRemoved(Removal),
    /// Traffic was switched to another slot of the lane (blue-green cut-over).
    TrafficSwitched(Switch),
    /// A check started.
    ValidationStarted(Validation),
    /// A check passed.
    ValidationPassed(Validation),
    /// A check failed.
    ValidationFailed(Validation),
    /// A rollback of an environment to a release point was requested.
    RollbackRequested(RollbackRequest),
    /// The execution of a rollback started.
    RollbackStarted(RollbackStart),
    /// A rollback succeeded: the lanes of its plan run what it ends with.
    RollbackSucceeded(Rollback),
    /// A rollback failed: some lane of its plan may not run what it ends with.
    RollbackFailed(Rollback),
    /// A rollback was cancelled.
    RollbackCancelled(Rollback),
    /// The rollback controller declined to request a rollback.
    RollbackDeclined(Declined),
    /// A person marked a release point as known good or bad.
    ReleasePointMarked(Mark),
    /// A person revoked the marks on a release point.
    ReleasePointRevoked(ReleasePointId),
    /// An environment was declared, with its policy.
    EnvironmentDeclared(EnvironmentName, Policy),
    /// An observer reported what an environment really runs.
    EnvironmentObserved(Observation),
    /// An environment was retired.
    EnvironmentRetired(EnvironmentName),
    /// A person approved a rollback or a deploy.
    ApprovalGranted(Approval),
    /// A person rejected a rollback or a deploy.
    ApprovalRejected(Approval),
    /// A freeze started: deploys are not allowed until it ends.
    FreezeStarted(Freeze),
    /// A freeze was lifted.
    FreezeLifted(Freeze),
    /// An incident was opened: something is wrong in an environment.
    IncidentOpened(IncidentOpening),
    /// An incident was resolved.
    IncidentResolved(Incident),
    /// Something happened on the way of a release, without effect on lanes, checks or rollbacks.
    ActivityReported(Box<Activity>),
    /// A subscription was created, or its settings were replaced.
    SubscriptionCreated(Box<Subscription>),
    /// A subscription was removed.
    SubscriptionRemoved(SubscriptionName),
    /// The service gave up the deliveries of a subscription.
    SubscriptionDisabled(SubscriptionDisabling),
    /// An API token was created.
    TokenCreated(TokenCreation),
    /// The secret of an API token was replaced.
    TokenRotated(TokenRotation),
    /// An API token was revoked.
    TokenRevoked(TokenId),
    /// A grant was added.
    GrantAdded(Box<Grant>),
    /// A grant was removed.
    GrantRemoved(GrantId),
    /// A tenant was created.
    TenantCreated(TenantName),
    /// A tenant was retired.
    TenantRetired(TenantName),
}

impl Payload {
    /// Returns true for a command, which is decided against the state at the head. All other events are reports.
    #[must_use]
    pub fn is_command(&self) -> bool {
        match self {
            Self::EnvironmentDeclared(..) | Self::ArtifactReinstated(_) => true,
            // The start of a rollback step claims the step.
            Self::DeployStarted(deploy) => deploy.rollback_id.is_some(),
            _ => matches!(
                self.kind().family(),
                Family::Rollback
                    | Family::ReleasePoint
                    | Family::Approval
                    | Family::Freeze
                    | Family::Subscription
            ),
        }
    }

    /// Returns true for an event about access, which only the tenant `_admin` records.
    #[must_use]
    pub const fn is_about_access(&self) -> bool {
        matches!(self.kind().family(), Family::Token | Family::Grant | Family::Tenant)
    }

    /// Returns the kind of the event.
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
            Self::IncidentOpened(_) => Kind::IncidentOpened,
            Self::IncidentResolved(_) => Kind::IncidentResolved,
            Self::ActivityReported(_) => Kind::ActivityReported,
            Self::SubscriptionCreated(_) => Kind::SubscriptionCreated,
            Self::SubscriptionRemoved(_) => Kind::SubscriptionRemoved,
            Self::SubscriptionDisabled(_) => Kind::SubscriptionDisabled,
            Self::TokenCreated(_) => Kind::TokenCreated,
            Self::TokenRotated(_) => Kind::TokenRotated,
            Self::TokenRevoked(_) => Kind::TokenRevoked,
            Self::GrantAdded(_) => Kind::GrantAdded,
            Self::GrantRemoved(_) => Kind::GrantRemoved,
            Self::TenantCreated(_) => Kind::TenantCreated,
            Self::TenantRetired(_) => Kind::TenantRetired,
        }
    }

    /// Returns true for an event that tells about an environment without being about what runs there. It does not make
    /// an environment known: an alert with a misspelt name does not add one.
    #[must_use]
    pub const fn is_remark(&self) -> bool {
        matches!(self.kind().family(), Family::Incident | Family::Activity)
    }

    /// Returns the lane, if the event concerns one.
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

    /// Returns the environment; `None` for events about an artifact.
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
            Self::IncidentOpened(o) => Some(&o.incident.environment),
            Self::IncidentResolved(i) => Some(&i.environment),
            Self::ActivityReported(a) => a.environment.as_ref(),
            _ => None,
        }
    }

    /// Returns the service, if the event concerns one.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::IncidentOpened(opening) => opening.incident.service.as_ref(),
            Self::IncidentResolved(incident) => incident.service.as_ref(),
            Self::ActivityReported(activity) => activity.service.as_ref(),
            _ => self.lane().map(|lane| &lane.service),
        }
    }

    /// Returns the target, if the event names one.
    #[must_use]
    pub fn target(&self) -> Option<&TargetName> {
        match self {
            Self::IncidentOpened(opening) => opening.incident.target.as_ref(),
            Self::IncidentResolved(incident) => incident.target.as_ref(),
            Self::ActivityReported(activity) => activity.target.as_ref(),
            _ => self.lane().and_then(|lane| lane.target.as_ref()),
        }
    }

    /// Returns the release that the event names, if it names one.
    #[must_use]
    pub const fn release(&self) -> Option<&Release> {
        match self {
            Self::DeployStarted(d) | Self::DeploySucceeded(d) | Self::DeployFailed(d) => Some(&d.release),
            Self::ValidationStarted(v) | Self::ValidationPassed(v) | Self::ValidationFailed(v) => {
                match &v.subject {
                    ValidationSubject::Lane { release, .. } => release.as_ref(),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Returns the commit that the event names, if it names one.
    #[must_use]
    pub fn commit(&self) -> Option<&ShortText> {
        match self {
            Self::ArtifactBuilt(built) => built.commit.as_ref(),
            _ => self.release().and_then(|release| release.commit.as_ref()),
        }
    }

    /// Returns the artifact that the event names, if it names one.
    #[must_use]
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::ArtifactBuilt(built) => Some(&built.artifact),
            Self::ArtifactRevoked(revoked) => Some(&revoked.artifact),
            Self::ArtifactReinstated(reinstated) => Some(&reinstated.artifact),
            Self::ValidationStarted(v) | Self::ValidationPassed(v) | Self::ValidationFailed(v) => {
                match &v.subject {
                    ValidationSubject::Artifact(artifact) => Some(artifact),
                    _ => self.release().and_then(|release| release.artifact.as_ref()),
                }
            }
            _ => self.release().and_then(|release| release.artifact.as_ref()),
        }
    }

    /// Returns the rollback that the event is a step of, if it names one.
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

    /// Returns the emitter's name for the run that changed a lane, if the event names one.
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

    /// Returns the change that the event makes to a lane, if any: the lane, the track, and the effect on it.
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
