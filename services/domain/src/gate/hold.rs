//! Holds: a release that was rolled back is not deployed again by accident.
//!
//! Held is what agrees with the release that the rollback left, in every part in which that differs from the one it restored.

use chrono::{DateTime, Utc};

use super::{Answer, Finding, Rule};
use crate::{Position, Release, ShortText};

/// A rollback that holds a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The rollback.
    pub rollback_id: ShortText,
    /// The position of its request.
    pub position: Position,
}

/// One lane's step of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRelease {
    /// The rollback.
    pub rollback_id: ShortText,
    /// The position of its request.
    pub requested: Position,
    /// Whether it was ever started.
    pub started: bool,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// The position of its end, if it has ended.
    pub ended: Option<Position>,
    /// Whether a person requested it.
    pub by_person: bool,
    /// The release that the lane ran before: when the rollback was started; until then, when it was requested.
    pub from: Option<Release>,
    /// The release that the lane runs after.
    pub to: Option<Release>,
}

/// A deploy to the lane, or to one of its slots, that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SucceededDeploy {
    /// The position of its report.
    pub position: Position,
    /// When it occurred.
    pub occurred_at: DateTime<Utc>,
    /// Whether the lane already had a change with a later moment as it was recorded.
    pub late: bool,
    /// The rollback that it is a step of.
    pub rollback_id: Option<ShortText>,
    /// The release.
    pub release: Release,
}

/// Whether a release is held in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldState<'a> {
    /// No rollback holds it.
    Free,
    /// A rollback holds it.
    Held(Hold),
    /// A rollback would hold it, and a person approved it since.
    Released {
        /// The hold.
        hold: Hold,
        /// The grant.
        by: &'a Answer,
    },
}

impl LeftRelease {
    /// The release that it left and the one that it restored, if it holds anything.
    fn leaves(&self) -> Option<(&Release, Option<&Release>)> {
        let is_in_force = self.started && !self.cancelled;
        self.from.as_ref().filter(|_| is_in_force).map(|left| (left, self.to.as_ref()))
    }

    fn holds(&self, release: &Release) -> bool {
        self.leaves().is_some_and(|(left, restored)| is_held(release, left, restored))
    }

    /// A person went back to the release on purpose.
    fn brings(&self, release: &Release) -> bool {
        let is_in_force = self.by_person && self.started && !self.cancelled;
        let is_it = |to: &Release| release.matches(to) || to.matches(release);
        is_in_force && self.to.as_ref().is_some_and(is_it)
    }

    /// A deploy after the rollback shows that the lane has moved on: to a release that is neither held nor the one restored. No step of any
    /// rollback does: what was taken back before stays held.
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
    // Where the release is the restored one in all those parts, it is not held though it agrees with what the other left unsaid.
    let is_restored = parts.iter().all(|part| release.has_same(*part, restored));
    !is_restored && release.agrees_in(&parts, left)
}

/// Decides whether a release is held in a lane. `grants` are those by people, in force, that cover the release in this lane.
///
/// A hold ends with a grant after the rollback's request; with a later rollback that a person requested, that was started and that
/// goes to the release; with a deploy after the request, not late and no step of that rollback, of a release that is neither held
/// nor the one restored.
#[must_use]
pub fn hold<'a>(
    release: &Release,
    rollbacks: &[LeftRelease],
    deploys: &[SucceededDeploy],
    grants: &[&'a Answer],
) -> HoldState<'a> {
    let has_ended = |left: &LeftRelease| {
        let mut later = rollbacks.iter().filter(|other| other.requested > left.requested);
        later.any(|other| other.brings(release)) || deploys.iter().any(|deploy| left.is_ended_by(deploy))
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
                "rollback {rollback_id} brought the lane away from this release: another release, or a person's approval, ends the hold"
            );
            Some(Finding::new(Rule::Held, false, detail, Some(*position)))
        }
        HoldState::Released { hold, by } => {
            let detail = format!("{} approved it after rollback {}", by.actor.name, hold.rollback_id);
            let finding = Finding::new(Rule::Held, true, detail, Some(by.position));
            Some(Finding { grants: vec![by.position], ..finding })
        }
    }
}
