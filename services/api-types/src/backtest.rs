//! Backtests of policies.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::gate::FindingBody;
use crate::point::CountsBody;

/// Candidate policy, and the part of the history to test it against.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
    /// Environment of the deploys to evaluate.
    pub environment: String,
    /// Policy, as in `environment.declared`.
    #[schema(value_type = Object)]
    pub policy: Box<RawValue>,
    /// Evaluate only deploys after this position; earlier entries serve as evidence.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u64,
    /// Read the history only up to this position, also to find later failures; by default all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Maximum length of each list of deploys, earliest first: 0 to 1000, by default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Evaluate also deploys that name a rollback without being steps of one that was started before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown_rollbacks: bool,
}

/// Result of a backtest.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BacktestBody {
    /// Environment name.
    pub environment: String,
    /// Position up to which the backtest read the history.
    pub position: u64,
    /// Number of evaluated deploys: those that succeeded and were not steps of a rollback, as far as `unknown_rollbacks`
    /// does not ask for them.
    pub deploys: u64,
    /// Number of deploys that the policy would have allowed.
    pub allowed: u64,
    /// Number of deploys that the policy would have stopped.
    pub stopped: u64,
    /// Number of deploys that the policy would have stopped and that failed later.
    pub caught: u64,
    /// Number of deploys that the policy would have stopped and that did not fail.
    pub false_alarms: u64,
    /// Number of deploys that the policy would have allowed and that failed later.
    pub missed: u64,
    /// First deploys that the policy would have stopped. For more, pass the last position as `after`.
    pub stopped_deploys: Vec<EvaluatedDeployBody>,
    /// First deploys that the policy would have allowed and that failed later.
    pub missed_deploys: Vec<EvaluatedDeployBody>,
}

/// Deploy as evaluated by the candidate policy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EvaluatedDeployBody {
    /// Position of the deploy.
    pub position: u64,
    /// Time at which it occurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = DateTime<Utc>, required = true)]
    pub occurred_at: Option<DateTime<Utc>>,
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Version.
    pub version: String,
    /// Findings of the rules that stopped it, with the evidence known at that time.
    pub findings: Vec<FindingBody>,
    /// Evidence of a later failure, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailureEvidenceBody>,
}

/// Evidence that a deploy failed later.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FailureEvidenceBody {
    /// Check with a last result of failed for the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Id of the rollback that replaces the release in its lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_id: Option<String>,
    /// Position of the evidence.
    pub position: u64,
    /// Case counts of the check, if its result has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsBody>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(position: &u64) -> bool {
    *position == 0
}
