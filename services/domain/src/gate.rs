//! Whether a release may be deployed to a lane: every rule with its answer and its evidence.

use std::collections::BTreeMap;

use crate::event::{Actor, Policy};
use crate::known_good::Status;
use crate::obstacle::{ActiveFreeze, RevokedArtifact};
use crate::{EnvironmentName, Line, Position};

/// A rule of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// No deploys while the environment is frozen.
    Freeze,
    /// No deploys of others while a rollback is under way.
    Rollback,
    /// An artifact that must never be used again is not deployed.
    Revoked,
    /// A release that was just rolled back is held, until another one was deployed or a person releases it.
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
            Self::Freeze => "freeze",
            Self::Rollback => "rollback",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::Promotion => "promotion",
            Self::Approvals => "approvals",
        }
    }
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// Whether it lets the deploy pass.
    pub passes: bool,
    /// Why, in words.
    pub detail: String,
    /// The position of the evidence, where there is one.
    pub position: Option<Position>,
}

/// A person's answer to a question of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who.
    pub actor: Actor,
    /// What.
    pub granted: bool,
    /// Where it is told.
    pub position: Position,
}

/// A rollback that brought a lane away from a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The rollback.
    pub rollback_id: Line,
    /// Where it was requested.
    pub position: Position,
}

/// Where a release was shown to be good, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proving {
    /// The environment.
    pub environment: EnvironmentName,
    /// What is thought of the release there; `None`: it never ran there.
    pub status: Option<Status>,
    /// The position of the deploy, or of the verdict, that this rests on.
    pub position: Option<Position>,
}

/// What the gate judges by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case<'a> {
    /// The environment's policy.
    pub policy: &'a Policy,
    /// Freezes that hold now.
    pub freezes: &'a [ActiveFreeze],
    /// The rollback that is under way, and the position of its request.
    pub rollback: Option<(&'a Line, Position)>,
    /// The release's artifact, if it was revoked.
    pub revoked: Option<&'a RevokedArtifact>,
    /// The last rollback away from this release, unless another release was deployed since.
    pub hold: Option<&'a Hold>,
    /// How the release fared in each environment that the policy names.
    pub provings: &'a [Proving],
    /// Answers to this deploy, in their order.
    pub answers: &'a [Answer],
    /// Who wants to deploy.
    pub requester: Option<&'a Actor>,
}

/// What every rule that the environment has says, in a fixed order.
#[must_use]
pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = vec![freeze(case)];
    if let Some((rollback, position)) = case.rollback {
        let detail = format!("rollback {rollback} is under way");
        findings.push(Finding { rule: Rule::Rollback, passes: false, detail, position: Some(position) });
    }
    if let Some(revoked) = case.revoked {
        let what = if revoked.deleted { "deleted" } else { "revoked" };
        let detail = format!("{} is {what}", revoked.artifact.as_str());
        let position = Some(revoked.position);
        findings.push(Finding { rule: Rule::Revoked, passes: false, detail, position });
    }
    findings.extend(case.hold.map(|hold| held(hold, case.answers)));
    findings.extend(case.provings.iter().map(promotion));
    if case.policy.approvals > 0 {
        findings.push(approvals(case));
    }
    findings
}

fn freeze(case: &Case<'_>) -> Finding {
    match case.freezes.first() {
        Some(freeze) => Finding {
            rule: Rule::Freeze,
            passes: false,
            detail: freeze.to_string(),
            position: Some(freeze.position),
        },
        None => {
            Finding { rule: Rule::Freeze, passes: true, detail: "no freeze holds".into(), position: None }
        }
    }
}

/// A hold ends when a person, not a workload, has granted the deploy after the rollback.
fn held(hold: &Hold, answers: &[Answer]) -> Finding {
    let released =
        latest(answers).into_values().find(|answer| answer.granted && answer.position > hold.position);
    match released {
        Some(answer) => Finding {
            rule: Rule::Held,
            passes: true,
            detail: format!("{} released it after rollback {}", answer.actor.name, hold.rollback_id),
            position: Some(answer.position),
        },
        None => Finding {
            rule: Rule::Held,
            passes: false,
            detail: format!(
                "rollback {} brought the lane away from this release: a newer version, or a person's approval, ends the hold",
                hold.rollback_id
            ),
            position: Some(hold.position),
        },
    }
}

fn promotion(proving: &Proving) -> Finding {
    let environment = &proving.environment;
    let (passes, detail) = match proving.status {
        Some(Status::KnownGood) => (true, format!("it was known good in {environment}")),
        Some(Status::Bad) => (false, format!("it is bad in {environment}")),
        Some(Status::Candidate | Status::Empty) => (false, format!("it ran in {environment}, and is not known good there")),
        None => (false, format!("it never ran in {environment}")),
    };
    Finding { rule: Rule::Promotion, passes, detail, position: proving.position }
}

fn approvals(case: &Case<'_>) -> Finding {
    let answers = latest(case.answers);
    let requester = case.requester.map(|requester| &requester.name);
    let others = || answers.values().filter(|answer| Some(&answer.actor.name) != requester);
    if let Some(rejected) = others().find(|answer| !answer.granted) {
        return Finding {
            rule: Rule::Approvals,
            passes: false,
            detail: format!("{} rejected it", rejected.actor.name),
            position: Some(rejected.position),
        };
    }
    let granted = others().count();
    let wanted = case.policy.approvals as usize;
    let own = answers.values().any(|answer| Some(&answer.actor.name) == requester);
    Finding {
        rule: Rule::Approvals,
        passes: granted >= wanted,
        detail: format!(
            "{granted} of {wanted} approvals{}",
            if own { "; the requester's own does not count" } else { "" }
        ),
        position: others().map(|answer| answer.position).max(),
    }
}

/// Everybody's last word, by name: nobody is two people for having two kinds of account, and a workload is
/// nobody.
fn latest(answers: &[Answer]) -> BTreeMap<&Line, &Answer> {
    let mut latest: BTreeMap<&Line, &Answer> = BTreeMap::new();
    for answer in answers.iter().filter(|answer| !answer.actor.is_workload()) {
        let kept = latest.entry(&answer.actor.name).or_insert(answer);
        if kept.position < answer.position {
            *kept = answer;
        }
    }
    latest
}

/// How many people other than the requester have approved, and who rejected: everybody's last word.
#[must_use]
pub fn approved_by_others(answers: &[Answer], requester: &Actor) -> (usize, Option<Position>) {
    let answers = latest(answers);
    let others = || answers.values().filter(|answer| answer.actor.name != requester.name);
    let granted = others().filter(|answer| answer.granted).count();
    (granted, others().find(|answer| !answer.granted).map(|answer| answer.position))
}

#[cfg(test)]
mod tests;
