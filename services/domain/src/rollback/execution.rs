//! Execution of a rollback: the checks before its start, before each step, and for its success.
//!
//! The checks use the present lanes, not those of the request, which may have changed since.

use std::collections::BTreeSet;
use std::fmt;

use crate::event::{Action, Plan, Step};
use crate::plan_issue::Revocations;
use crate::{Artifact, LaneFold, Lanes, Position, Release, ServiceName, SlotName, TargetName};

use super::difference;

/// Reason why a rollback cannot start, or a step cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartProblem {
    /// The lane no longer runs what its step starts from. The requester may acknowledge this.
    LaneChanged {
        /// The service.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The release that the step starts from.
        planned: Option<Release>,
        /// The release that the lane runs.
        runs: Option<Release>,
    },
    /// The slot that traffic would be switched to no longer holds the release.
    SlotGone {
        /// The service.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The slot.
        slot: Option<SlotName>,
    },
    /// The artifact of the step is revoked.
    ArtifactRevoked {
        /// The service.
        service: ServiceName,
        /// The target.
        target: TargetName,
        /// The artifact, as the revocation spells it.
        artifact: Artifact,
        /// The position of the revocation.
        position: Position,
    },
}

impl StartProblem {
    /// Returns the kind of the problem, as the API names it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LaneChanged { .. } => "lane_changed",
            Self::SlotGone { .. } => "slot_gone",
            Self::ArtifactRevoked { .. } => "artifact_revoked",
        }
    }

    /// Returns the lane.
    #[must_use]
    pub const fn lane(&self) -> (&ServiceName, &TargetName) {
        match self {
            Self::LaneChanged { service, target, .. }
            | Self::SlotGone { service, target, .. }
            | Self::ArtifactRevoked { service, target, .. } => (service, target),
        }
    }
}

impl fmt::Display for StartProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LaneChanged { service, target, planned, runs } => {
                f.write_str(&difference(service, target, planned.as_ref(), runs.as_ref()))
            }
            Self::SlotGone { service, target, slot: Some(slot) } => {
                write!(f, "slot {slot} of {service} at {target} no longer holds the release")
            }
            Self::SlotGone { service, target, slot: None } => {
                write!(f, "the step of {service} at {target} names no slot to switch to")
            }
            Self::ArtifactRevoked { service, target, artifact, position } => {
                let artifact = artifact.as_str();
                write!(f, "{artifact} of {service} at {target} is revoked (position {position})")
            }
        }
    }
}

/// Returns the problems that prevent the start of a plan now. A changed lane in `acknowledge` is no problem.
#[must_use]
pub fn start(
    plan: &Plan,
    present: &Lanes,
    revocations: Revocations<'_>,
    acknowledge: &BTreeSet<(ServiceName, TargetName)>,
) -> Vec<StartProblem> {
    let of_step = |step: &Step| {
        let lane = (step.service.clone(), step.target.clone());
        let changed = if acknowledge.contains(&lane) { None } else { lane_changed(step, present) };
        changed.into_iter().chain(step_claim(step, present, revocations)).collect::<Vec<_>>()
    };
    plan.steps.iter().flat_map(of_step).collect()
}

/// Returns the problems that prevent a step now: a slot that no longer holds the release, a revoked artifact.
#[must_use]
pub fn step_claim(step: &Step, present: &Lanes, revocations: Revocations<'_>) -> Vec<StartProblem> {
    let (service, target) = (step.service.clone(), step.target.clone());
    let mut problems = Vec::new();
    if step.action == Action::Switch && !slot_holds(step, present) {
        let (service, target) = (service.clone(), target.clone());
        problems.push(StartProblem::SlotGone { service, target, slot: step.slot.clone() });
    }
    let revoked = step.to.as_ref().and_then(|release| revocations.of(&step.service, release));
    problems.extend(revoked.map(|revoked| StartProblem::ArtifactRevoked {
        service,
        target,
        artifact: revoked.artifact.clone(),
        position: revoked.position,
    }));
    problems
}

fn lane<'l>(present: &'l Lanes, service: &ServiceName, target: &TargetName) -> Option<&'l LaneFold> {
    present.get(&(service.clone(), target.clone()))
}

fn running<'l>(present: &'l Lanes, service: &ServiceName, target: &TargetName) -> Option<&'l Release> {
    Some(lane(present, service, target)?.live()?.release)
}

/// Returns true if the lane runs a release that matches the wanted one, or nothing if none is wanted.
fn satisfies(wanted: Option<&Release>, runs: Option<&Release>) -> bool {
    match (wanted, runs) {
        (Some(wanted), Some(runs)) => wanted.matches(runs),
        (None, None) => true,
        _ => false,
    }
}

fn lane_changed(step: &Step, present: &Lanes) -> Option<StartProblem> {
    let Step { service, target, from, .. } = step;
    let runs = running(present, service, target);
    (!satisfies(from.as_ref(), runs)).then(|| StartProblem::LaneChanged {
        service: service.clone(),
        target: target.clone(),
        planned: from.clone(),
        runs: runs.cloned(),
    })
}

fn slot_holds(step: &Step, present: &Lanes) -> bool {
    let (Some(fold), Some(slot)) = (lane(present, &step.service, &step.target), &step.slot) else {
        return false;
    };
    let holds = fold.idle().into_iter().chain(fold.live()).find(|held| held.slot == Some(slot));
    match (holds, &step.to) {
        (Some(held), Some(wanted)) => wanted.matches(held.release),
        _ => false,
    }
}

/// Describes each lane of a plan that does not run what its step ends with. If there are none, the rollback has
/// succeeded.
#[must_use]
pub fn differing(plan: &Plan, present: &Lanes) -> Vec<String> {
    let differs = plan.steps.iter().filter_map(|Step { service, target, to, .. }| {
        let runs = running(present, service, target);
        (!satisfies(to.as_ref(), runs)).then(|| difference(service, target, to.as_ref(), runs))
    });
    differs.collect()
}
