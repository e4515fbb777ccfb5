//! Approvals and rejections by people.

use chrono::{DateTime, Utc};

use crate::{EnvironmentName, LaneRef, Release, ShortText};

/// An approval or a rejection. The person who gave it is the event's actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The rollback or deploy that is approved or rejected.
    pub subject: ApprovalSubject,
    /// Time at which an approval expires; `None`: it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The subject of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalSubject {
    /// A rollback of an environment.
    Rollback {
        /// The environment.
        environment: EnvironmentName,
        /// The rollback.
        rollback_id: ShortText,
    },
    /// A deploy of a release to a lane.
    Deploy {
        /// The lane; without a target, it stands for every lane of the service.
        lane: LaneRef,
        /// The release.
        release: Release,
    },
}
