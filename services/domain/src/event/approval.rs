//! A gate's human part.

use crate::{EnvironmentName, Lane, Line, Release};

/// A person's answer to a question of the gate; who it was is the event's actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What it answers.
    pub subject: ApprovalSubject,
}

/// What an approval is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalSubject {
    /// A rollback of an environment.
    Rollback {
        /// The environment.
        environment: EnvironmentName,
        /// The rollback.
        rollback_id: Line,
    },
    /// A deploy of a release to a lane.
    Deploy {
        /// The lane.
        lane: Lane,
        /// The release.
        release: Release,
    },
}
