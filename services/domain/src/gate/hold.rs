//! Holds: prevent an accidental new deploy of a release that was rolled back.
//!
//! A rollback holds the releases that agree with the one it left in every part in which that differs from the one it
//! restored.

use chrono::{DateTime, Utc};

use super::finding::{Finding, Rule};
use super::vote::ApprovalVote;
use crate::{Position, Release, ShortText};

/// A rollback that holds a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The rollback.
    pub rollback_id: ShortText,
    /// The position of its request.
    pub position: Position,
}

/// A rollback's step in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBackRelease {
    /// The rollback.
    pub rollback_id: ShortText,
    /// The position of its request.
    pub requested: Position,
    /// True if it was started.
    pub started: bool,
    /// True if it was cancelled.
    pub cancelled: bool,
    /// The position of its end, if it has ended.
    pub ended: Option<Position>,
    /// True if a person requested it.
    pub by_person: bool,
    /// The release that the lane ran before: at the start of the rollback or, before that, at its request.
    pub from: Option<Release>,
    /// The release that the lane runs afterwards; `None` after a removal.
    pub to: Option<Release>,
}

/// A successful deploy to the lane or to one of its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SucceededDeploy {
    /// The position of its report.
    pub position: Position,
    /// The time at which it occurred.
    pub occurred_at: DateTime<Utc>,
    /// True if the lane already had a change with a later time when the deploy was recorded.
    pub late: bool,
    /// The rollback of which it is a step.
    pub rollback_id: Option<ShortText>,
    /// The release.
    pub release: Release,
}

/// The hold on a release in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldState<'a> {
    /// No rollback holds the release.
    Free,
    /// A rollback holds the release.
    Held(Hold),
    /// A rollback would hold the release, but a person has approved it since.
    Released {
        /// The hold.
        hold: Hold,
        /// The grant.
        by: &'a ApprovalVote,
    },
}

impl RolledBackRelease {
    /// Returns the release that it left and the one that it restored, if it holds any release.
    fn left_and_restored(&self) -> Option<(&Release, Option<&Release>)> {
        let is_in_force = self.started && !self.cancelled;
        self.from.as_ref().filter(|_| is_in_force).map(|left| (left, self.to.as_ref()))
    }

    fn holds(&self, release: &Release) -> bool {
        self.left_and_restored().is_some_and(|(left, restored)| is_held(release, left, restored))
    }

    /// Returns true if a person intentionally rolled back to the release.
    fn returns_to(&self, release: &Release) -> bool {
        let is_in_force = self.by_person && self.started && !self.cancelled;
        is_in_force && self.to.as_ref().is_some_and(|to| to.either_matches(release))
    }

    /// Returns true if a deploy after the rollback ends the hold: one of a release that is neither held nor the
    /// restored one. Steps of rollbacks do not end a hold: a release that an earlier rollback left stays held.
    fn is_ended_by(&self, deploy: &SucceededDeploy) -> bool {
        let is_restored = |release: &Release| self.to.as_ref().is_some_and(|to| !to.contradicts(release));
        self.ended.is_some_and(|ended| deploy.position > ended)
            && !deploy.late
            && deploy.rollback_id.is_none()
            && !self.holds(&deploy.release)
            && !is_restored(&deploy.release)
    }
}

fn is_held(release: &Release, left: &Release, restored: Option<&Release>) -> bool {
    let Some(restored) = restored else { return !release.contradicts(left) };
    let parts = left.differing_parts(restored);
    // A release that equals the restored one in all these parts is not held, even though it agrees with parts that the
    // left release does not state.
    let is_restored = parts.iter().all(|part| release.has_same(*part, restored));
    !is_restored && release.agrees_in(&parts, left)
}

/// Returns the hold on a release in a lane. `grants` are the valid grants by people that cover the release in this
/// lane.
///
/// Three things end a hold: a grant after the rollback's request; a later rollback to the release that a person
/// requested and that was started; a deploy after the rollback's end that is not late, not a step of a rollback, and of
/// a release that is neither held nor the restored one.
#[must_use]
pub fn hold<'a>(
    release: &Release,
    rollbacks: &[RolledBackRelease],
    deploys: &[SucceededDeploy],
    grants: &[&'a ApprovalVote],
) -> HoldState<'a> {
    let has_ended = |left: &RolledBackRelease| {
        let mut later = rollbacks.iter().filter(|other| other.requested > left.requested);
        later.any(|other| other.returns_to(release)) || deploys.iter().any(|deploy| left.is_ended_by(deploy))
    };
    let mut holding: Vec<_> =
        rollbacks.iter().filter(|left| left.holds(release) && !has_ended(left)).collect();
    holding.sort_by_key(|left| left.requested);
    let Some(last) = holding.last() else { return HoldState::Free };
    let hold = Hold { rollback_id: last.rollback_id.clone(), position: last.requested };
    let mut after = grants.iter().filter(|grant| grant.granted && grant.position > last.requested);
    match after.next() {
        Some(by) => HoldState::Released { hold, by },
        None => HoldState::Held(hold),
    }
}

pub(super) fn finding(state: &HoldState<'_>) -> Option<Finding> {
    match state {
        HoldState::Free => None,
        HoldState::Held(Hold { rollback_id, position }) => {
            let detail = format!(
                "rollback {rollback_id} took this release out of the lane; to end the hold, deploy another \
                 release or have a person approve this one"
            );
            Some(Finding::new(Rule::Held, false, detail, Some(*position)))
        }
        HoldState::Released { hold, by } => {
            let detail =
                format!("{} approved the release after rollback {}", by.actor.name, hold.rollback_id);
            let finding = Finding::new(Rule::Held, true, detail, Some(by.position));
            Some(Finding { grants: vec![by.position], ..finding })
        }
    }
}
