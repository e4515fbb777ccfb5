//! The gate's question as the back-test asks it, from evidence that is summed up already.

use super::approvals::{self, Counted};
use super::{ActiveFreeze, Answer, Finding, Hold, HoldState, RevokedArtifact, Rule};
use crate::event::{Actor, Policy};
use crate::known_good::Status;
use crate::{EnvironmentName, Line, Position};

/// The status of a release in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proving {
    /// The environment.
    pub environment: EnvironmentName,
    /// The status of the release there; `None`: it never ran there.
    pub status: Option<Status>,
    /// The position of the deploy, or of the result, that this rests on.
    pub position: Option<Position>,
}

/// What the gate decides by.
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
    /// The status of the release in each environment that the policy names.
    pub provings: &'a [Proving],
    /// Answers to this deploy that cover it.
    pub answers: &'a [Answer],
    /// Who wants to deploy.
    pub requester: Option<&'a Actor>,
}

/// Returns the answer of every rule that the environment has, in a fixed order.
#[must_use]
pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let counted: Vec<Counted<'_>> = approvals::latest(case.answers.iter())
        .into_iter()
        .map(|answer| Counted { answer, ended: None })
        .collect();
    let mut findings = vec![super::freeze(case.freezes)];
    findings.extend(case.rollback.map(super::rollback));
    findings.extend(case.revoked.map(super::revoked));
    findings.extend(case.hold.and_then(|hold| held(hold, &counted)));
    findings.extend(case.provings.iter().map(promotion));
    if case.policy.approvals > 0 {
        findings.push(approvals::finding(&counted, case.policy.approvals, case.requester));
    }
    findings
}

fn held(hold: &Hold, counted: &[Counted<'_>]) -> Option<Finding> {
    let mut grants = counted.iter().filter_map(Counted::in_force);
    let state = match grants.find(|grant| grant.position > hold.position) {
        Some(by) => HoldState::Released { hold: hold.clone(), by },
        None => HoldState::Held(hold.clone()),
    };
    super::hold::finding(&state)
}

fn promotion(proving: &Proving) -> Finding {
    let environment = &proving.environment;
    let (passes, detail) = match proving.status {
        Some(Status::KnownGood) => (true, format!("it was known good in {environment}")),
        Some(Status::Bad) => (false, format!("it is bad in {environment}")),
        Some(Status::Candidate | Status::Empty) => (false, format!("it ran in {environment}, and is not known good there")),
        None => (false, format!("it never ran in {environment}")),
    };
    Finding::new(Rule::Promotion, passes, detail, proving.position)
}
