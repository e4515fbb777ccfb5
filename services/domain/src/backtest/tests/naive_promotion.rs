//! Naive rules of promotion, for the reference implementation.

use crate::event::Policy;
use crate::gate::{TargetEvidence, judge_release};
use crate::known_good::Status;
use crate::{Artifact, Release};

/// Returns true if a deployed release counts as the requested one. `artifact` is that of its version.
pub(super) fn counts(requested: &Release, deployed: &Release, artifact: Option<&Artifact>) -> bool {
    let has_version = requested.version == deployed.version;
    let Some(wanted) = &requested.artifact else { return has_version };
    if let Some(stated) = &deployed.artifact {
        return stated.is_same(wanted);
    }
    let is_other = artifact.is_some_and(|artifact| !artifact.is_same(wanted));
    has_version && !is_other
}

/// Returns the evidence at each target that no other evidence there exceeds: by a known-good release first, then by the
/// later deploy.
pub(super) fn best_at_each_target(policy: &Policy, all: &[TargetEvidence]) -> Vec<TargetEvidence> {
    let is_good = |evidence: &TargetEvidence| judge_release(policy, evidence).status == Status::KnownGood;
    let exceeds = |one: &TargetEvidence, other: &TargetEvidence| match (is_good(one), is_good(other)) {
        (true, false) => true,
        (false, true) => false,
        _ => one.deployed > other.deployed,
    };
    let is_best = |evidence: &&TargetEvidence| {
        all.iter().all(|other| other.target != evidence.target || !exceeds(other, evidence))
    };
    let mut best: Vec<TargetEvidence> = all.iter().filter(is_best).cloned().collect();
    best.sort_by(|one, other| one.target.cmp(&other.target));
    best
}
