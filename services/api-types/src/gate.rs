//! Deployment gate.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actor::ActorRequest;
use crate::point::CountsBody;
use crate::release::{ReleaseBody, ReleaseRequest};

/// Intended deploy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GateRequest {
    /// Service name.
    pub service: String,
    /// Target name; by default every target at which the service runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Release to deploy.
    pub release: ReleaseRequest,
    /// Requester of the deploy; their own approval does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<ActorRequest>,
    /// Id of the rollback that the deploy is a step of: that rollback does not block it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_id: Option<String>,
    /// True for the first deploy of the service or to the target. Without it, a service or target that the environment
    /// never had is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new: bool,
}

/// Decision of the gate.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GateBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    pub position: u64,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<u64>,
    /// True if the deploy passes every rule.
    pub allowed: bool,
    /// Release under decision, with the artifact of its version if the request names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ReleaseBody, required = true)]
    pub release: Option<ReleaseBody>,
    /// Position of the entry that links the version to the artifact, if the gate looked it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_known_from: Option<u64>,
    /// Finding of each rule.
    pub findings: Vec<FindingBody>,
}

/// Finding of one rule of the gate.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FindingBody {
    /// Rule: `retired`, `freeze`, `rollback`, `revoked`, `held`, `promotion` or `approvals`.
    pub rule: String,
    /// Target concerned; absent if the finding applies to every lane of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// True if the deploy passes the rule.
    pub passes: bool,
    /// True if the ledger lacks the data that the rule needs; the deploy does not pass then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// Explanation.
    pub detail: String,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Case counts of the check result at `position`, if the finding fails by one and it states any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsBody>,
    /// Positions of the approvals that let the deploy pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<u64>,
}
