//! A gate's human part.

use chrono::{DateTime, Utc};

use crate::{EnvironmentName, LaneRef, Release, ShortText};

/// A person's answer to a question of the gate; who it was is the event's actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What it answers.
    pub subject: ApprovalSubject,
    /// When a grant ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What an approval is of.
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
        /// The lane; without a target, every lane of the service.
        lane: LaneRef,
        /// The release.
        release: Release,
    },
}
