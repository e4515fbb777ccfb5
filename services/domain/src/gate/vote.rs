//! Votes: grants and rejections of deploys and rollbacks.

use chrono::{DateTime, Utc};

use crate::event::Actor;
use crate::{Lane, LaneRef, Position, Release};

/// A grant or a rejection of a deploy or a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalVote {
    /// The actor that gave it.
    pub actor: Actor,
    /// True for a grant, false for a rejection.
    pub granted: bool,
    /// The position of its event.
    pub position: Position,
}

/// A grant or a rejection of a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployVote {
    /// The vote.
    pub vote: ApprovalVote,
    /// The time at which it was given.
    pub occurred_at: DateTime<Utc>,
    /// The lane that it names; without a target, every lane of the service.
    pub lane: LaneRef,
    /// The release that it names, [completed](Release::completed) with the artifact of the version at the time of the
    /// vote.
    pub release: Release,
    /// The time at which a grant expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

impl DeployVote {
    /// Returns true if the vote applies to a deploy of this release to this lane.
    #[must_use]
    pub fn covers(&self, lane: &Lane, release: &Release) -> bool {
        self.lane.covers(lane) && self.release.matches(release)
    }
}
