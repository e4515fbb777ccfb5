//! The input and the output of the gate.

use chrono::{DateTime, Utc};

use super::finding::Finding;
use super::hold::{RolledBackRelease, SucceededDeploy};
use super::promotion::PromotionEvidence;
use super::vote::DeployVote;
use crate::event::{Actor, Policy};
use crate::plan_issue::{ActiveFreeze, Revocations};
use crate::{Lane, LaneFold, Position, Release, ShortText};

/// A deploy of a release to one lane, with the evidence to decide by.
#[derive(Debug, Clone, Copy)]
pub struct GateInput<'a> {
    /// The lane.
    pub lane: &'a Lane,
    /// The release, [completed](Release::completed) with the artifact that its version has now.
    pub release: &'a Release,
    /// The requester of the deploy; `None` if the request names none.
    pub requester: Option<&'a Actor>,
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The environment's policy.
    pub policy: &'a Policy,
    /// The position of `environment.retired`, if the environment is retired and not declared again.
    pub retired: Option<Position>,
    /// The freezes that are active now.
    pub freezes: &'a [ActiveFreeze],
    /// The rollback under way and the position of its request; `None` if the deploy is a step of it.
    pub rollback: Option<(&'a ShortText, Position)>,
    /// The revocation of the release's artifact; if the artifact is unknown, all revocations of artifacts named like
    /// the service.
    pub revocations: Revocations<'a>,
    /// The rollbacks of the lane.
    pub rollbacks: &'a [RolledBackRelease],
    /// Deploys to the lane: at least those recorded after the first of its rollbacks and grants.
    pub deploys: &'a [SucceededDeploy],
    /// The live release and the slots of the lane; `None` if it is empty.
    pub present: Option<&'a LaneFold>,
    /// The evidence from each environment that the policy promotes from.
    pub promotion: &'a [PromotionEvidence<'a>],
    /// Votes on deploys of the service.
    pub votes: &'a [DeployVote],
}

/// The decision of the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// True if every rule passes in every lane of the question.
    pub allowed: bool,
    /// The findings of the rules.
    pub findings: Vec<Finding>,
}
