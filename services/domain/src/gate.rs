//! The gate: whether a release may be deployed to a lane, rule by rule, each with its evidence.
//!
//! A rule that lacks its evidence fails and says so; nothing passes by default. A question without a target is asked of every
//! lane of the service, and passes only if each lane would.
//!
//! Decision 0015, section 6, is the specification.

mod approvals;
mod hold;
mod promotion;

use chrono::{DateTime, Utc};

use crate::event::{Actor, Policy};
use crate::plan_issue::{ActiveFreeze, Revocations, RevokedArtifact};
use crate::{Lane, LaneFold, Position, Release, ShortText, TargetName};

pub use approvals::{Answer, DeployAnswer, approved_by_others};
pub use hold::{Hold, HoldState, LeftRelease, SucceededDeploy, hold};
pub use promotion::{
    CompositionEvidence, PromotionEvidence, PromotionResult, ReleaseJudgement, TargetEvidence, judge_release,
};

/// A rule of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Nothing is deployed to an environment that was retired and not declared again.
    Retired,
    /// No deploys while the environment is frozen.
    Freeze,
    /// No deploys of others while a rollback is under way.
    Rollback,
    /// An artifact that must never be used again is not deployed.
    Revoked,
    /// A release that was rolled back is held, until another one was deployed or a person approves it.
    Held,
    /// What is deployed was known good in the environments that the policy names.
    Promotion,
    /// As many people as the policy says have approved, the requester not among them.
    Approvals,
}

impl Rule {
    /// The rule as one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Freeze => "freeze",
            Self::Rollback => "rollback",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::Promotion => "promotion",
            Self::Approvals => "approvals",
        }
    }
}

/// The answer of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The target that it is about; `None`: the answer is the same for every lane of the service.
    pub target: Option<TargetName>,
    /// Whether the rule lets the deploy pass.
    pub passes: bool,
    /// Whether the ledger lacks what the rule decides by. The deploy does not pass then.
    pub unknown: bool,
    /// Why, in words.
    pub detail: String,
    /// The position of the evidence that decided, where there is one.
    pub position: Option<Position>,
    /// The positions of the grants that let the deploy pass.
    pub grants: Vec<Position>,
}

impl Finding {
    const fn new(rule: Rule, passes: bool, detail: String, position: Option<Position>) -> Self {
        Self { rule, target: None, passes, unknown: false, detail, position, grants: Vec::new() }
    }

    fn unknown(rule: Rule, detail: String, position: Option<Position>) -> Self {
        Self { unknown: true, ..Self::new(rule, false, detail, position) }
    }

    fn at(self, target: &TargetName) -> Self {
        Self { target: Some(target.clone()), ..self }
    }
}

/// What the gate is asked, and by what it decides: one lane.
#[derive(Debug, Clone, Copy)]
pub struct GateInput<'a> {
    /// The lane.
    pub lane: &'a Lane,
    /// The release, [completed](Release::completed) with the artifact that its version means now.
    pub release: &'a Release,
    /// Who wants to deploy; `None`: not named.
    pub requester: Option<&'a Actor>,
    /// The time of the question.
    pub now: DateTime<Utc>,
    /// The environment's policy.
    pub policy: &'a Policy,
    /// The position of `environment.retired`, if the environment is retired and not declared again.
    pub retired: Option<Position>,
    /// Freezes that hold now.
    pub freezes: &'a [ActiveFreeze],
    /// A rollback that is under way, and of which the deploy is no step; with the position of its request.
    pub rollback: Option<(&'a ShortText, Position)>,
    /// Artifacts that must not be used: that of the release; where none is known, all that are named as the service is.
    pub revocations: Revocations<'a>,
    /// The rollbacks of the lane.
    pub rollbacks: &'a [LeftRelease],
    /// Deploys of the lane, at least those that were recorded after the first of its rollbacks and grants.
    pub deploys: &'a [SucceededDeploy],
    /// What the lane runs and holds; `None`: nothing.
    pub present: Option<&'a LaneFold>,
    /// The evidence for each environment that the policy promotes from.
    pub promotion: &'a [PromotionEvidence<'a>],
    /// Answers to deploys of the service.
    pub answers: &'a [DeployAnswer],
}

/// The gate's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether every rule lets the deploy pass, in every lane that was asked about.
    pub allowed: bool,
    /// The answer of each rule.
    pub findings: Vec<Finding>,
}

/// Decides for the lanes of a question. Without a lane nothing is allowed.
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

/// The answers of the rules for one lane, in a fixed order.
fn lane_findings(input: &GateInput<'_>) -> Vec<Finding> {
    let target = &input.lane.target;
    let mut findings = Vec::new();
    if let Some(position) = input.retired {
        let environment = &input.lane.environment;
        let detail = format!("{environment} is retired; declare it to deploy there again");
        findings.push(Finding::new(Rule::Retired, false, detail, Some(position)));
    }
    findings.push(freeze(input.freezes));
    findings.extend(input.rollback.map(rollback));
    findings.extend(revoked(input));
    let counted = approvals::counted(input);
    let grants: Vec<_> = counted.iter().filter_map(approvals::Counted::in_force).collect();
    let held = hold(input.release, input.rollbacks, input.deploys, &grants);
    findings.extend(hold::finding(&held).map(|finding| finding.at(target)));
    findings.extend(promotion::findings(input.policy, input.promotion));
    if input.policy.approvals > 0 {
        findings.push(approvals::finding(&counted, input.policy.approvals, input.requester).at(target));
    }
    findings
}

fn freeze(freezes: &[ActiveFreeze]) -> Finding {
    match freezes.first() {
        Some(freeze) => Finding::new(Rule::Freeze, false, freeze.to_string(), Some(freeze.position)),
        None => Finding::new(Rule::Freeze, true, "no freeze holds".into(), None),
    }
}

fn rollback((rollback_id, position): (&ShortText, Position)) -> Finding {
    Finding::new(Rule::Rollback, false, format!("rollback {rollback_id} is under way"), Some(position))
}

fn revoked(input: &GateInput<'_>) -> Option<Finding> {
    let service = &input.lane.service;
    let what = |revoked: &RevokedArtifact| if revoked.deleted { "deleted" } else { "revoked" };
    if let Some(revoked) = input.revocations.of(service, input.release) {
        let detail = format!("{} is {}", revoked.artifact.as_str(), what(revoked));
        return Some(Finding::new(Rule::Revoked, false, detail, Some(revoked.position)));
    }
    let revoked = input.revocations.named(service, input.release)?;
    let detail = format!(
        "no artifact is known of {}, and {} is {}; state the artifact",
        input.release.version,
        revoked.artifact.as_str(),
        what(revoked),
    );
    Some(Finding::unknown(Rule::Revoked, detail, Some(revoked.position)))
}

#[cfg(test)]
mod tests;
