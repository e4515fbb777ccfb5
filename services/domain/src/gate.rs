//! The gate: decides, rule by rule and with the evidence, whether a release may be deployed to a lane.
//!
//! A rule without the evidence that it needs fails and reports it; nothing passes by default. A question without a
//! target covers every lane of the service and passes only if each lane passes.
//!
//! Decision 0015, section 6, is the specification.

mod approvals;
mod finding;
mod hold;
mod input;
mod promotion;
mod vote;

use crate::plan_issue::{ActiveFreeze, RevokedArtifact};
use crate::{Position, ShortText};

pub use approvals::approved_by_others;
pub use finding::{Finding, Rule};
pub use hold::{Hold, HoldState, RolledBackRelease, SucceededDeploy, hold};
pub use input::{Decision, GateInput};
#[cfg(test)]
pub(crate) use promotion::judge_release;
pub use promotion::{
    CompositionEvidence, PromotionEvidence, PromotionResult, ReleaseJudgement, TargetEvidence,
    best_by_target, counts_as_requested,
};
pub use vote::{ApprovalVote, DeployVote};

/// Decides for the lanes of a question. Without a lane, nothing is allowed.
#[must_use]
pub fn decide(lanes: &[GateInput<'_>]) -> Decision {
    let mut findings: Vec<Finding> = Vec::new();
    for lane in lanes {
        for finding in lane_findings(lane) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings.sort_by(|one, other| (one.rule, &one.target).cmp(&(other.rule, &other.target)));
    Decision { allowed: !findings.is_empty() && findings.iter().all(|finding| finding.passes), findings }
}

/// Returns the findings of the rules for one lane, in a fixed order.
fn lane_findings(input: &GateInput<'_>) -> Vec<Finding> {
    let target = &input.lane.target;
    let mut findings = Vec::new();
    if let Some(position) = input.retired {
        let environment = &input.lane.environment;
        let detail = format!("{environment} is retired; declare it again before deploying");
        findings.push(Finding::new(Rule::Retired, false, detail, Some(position)));
    }
    findings.push(freeze(input.freezes));
    findings.extend(input.rollback.map(rollback));
    findings.extend(revoked(input));
    let latest = approvals::latest_votes(input);
    let grants: Vec<_> = latest.iter().filter_map(approvals::LatestVote::valid_grant).collect();
    let held = hold(input.release, input.rollbacks, input.deploys, &grants);
    findings.extend(hold::finding(&held).map(|finding| finding.at(target)));
    findings.extend(promotion::findings(input.policy, input.promotion));
    if input.policy.approvals > 0 {
        findings.push(approvals::finding(&latest, input.policy.approvals, input.requester).at(target));
    }
    findings
}

fn freeze(freezes: &[ActiveFreeze]) -> Finding {
    match freezes.first() {
        Some(freeze) => Finding::new(Rule::Freeze, false, freeze.to_string(), Some(freeze.position)),
        None => Finding::new(Rule::Freeze, true, "no freeze is active".into(), None),
    }
}

fn rollback((rollback_id, position): (&ShortText, Position)) -> Finding {
    Finding::new(Rule::Rollback, false, format!("rollback {rollback_id} is under way"), Some(position))
}

fn revoked(input: &GateInput<'_>) -> Option<Finding> {
    let service = &input.lane.service;
    let state = |revoked: &RevokedArtifact| if revoked.deleted { "deleted" } else { "revoked" };
    if let Some(revoked) = input.revocations.of(service, input.release) {
        let detail = format!("{} is {}", revoked.artifact.as_str(), state(revoked));
        return Some(Finding::new(Rule::Revoked, false, detail, Some(revoked.position)));
    }
    let revoked = input.revocations.named(service, input.release)?;
    let detail = format!(
        "the artifact of {} is unknown, and {} is {}; state the artifact",
        input.release.version,
        revoked.artifact.as_str(),
        state(revoked),
    );
    Some(Finding::unknown(Rule::Revoked, detail, Some(revoked.position)))
}

#[cfg(test)]
mod tests;
