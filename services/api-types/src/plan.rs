//! Plans of rollbacks.

use chrono::{DateTime, Utc};
use ledger_domain::event::Step;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::point::PointBody;
use crate::release::ReleaseBody;

/// Plan of a rollback to a release point.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Position of the environment's last change: pass it as `If-Match`.
    pub environment_position: u64,
    /// Release point that the plan leads to.
    pub to: PlanPointBody,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<u64>,
    /// SHA-256 over the plan's steps.
    pub plan_digest: String,
    /// Steps, by wave.
    pub steps: Vec<StepBody>,
    /// SHA-256 over the composition after the plan is executed.
    pub result_digest: String,
    /// Issues of the plan: the first 100.
    #[serde(default)]
    #[schema(required)]
    pub issues: Vec<PlanIssueBody>,
    /// Number of all issues.
    #[serde(default)]
    #[schema(required)]
    pub issue_count: usize,
    /// True if the rollback can be requested only with `force`, or not at all.
    #[serde(default)]
    #[schema(required)]
    pub blocked: bool,
}

/// Release point that a plan leads to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanPointBody {
    /// Position of the point.
    pub position: u64,
    /// Environment of the point, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Time that selected the point, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// Status of the point.
    pub status: String,
    /// Release point; absent if the environment did not exist at that position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<PointBody>,
}

/// Step of a plan: the change of one lane.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StepBody {
    /// Wave number. Steps of one wave may run in parallel.
    pub wave: u32,
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Action: `redeploy`, `add`, `remove` or `switch`.
    pub action: String,
    /// Slot that the action changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Release of the lane before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<ReleaseBody>,
    /// Release of the lane after the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<ReleaseBody>,
}

/// Issue of a plan.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanIssueBody {
    /// Kind: `already_there`, `artifact_revoked`, `barrier`, `barrier_unfinished`, `barrier_of_dependency`,
    /// `barrier_unplaced`, `environment_retired`, `target_empty`,
    /// `target_bad`, `target_not_known_good`, `freeze` or `deploy_open`.
    pub kind: String,
    /// Severity: `warning`, `overridable` (by `force`), or `fatal`.
    pub severity: String,
    /// Explanation.
    pub detail: String,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

impl From<&Step> for StepBody {
    fn from(step: &Step) -> Self {
        Self {
            wave: step.wave,
            service: step.service.to_string(),
            target: step.target.to_string(),
            action: step.action.name().to_owned(),
            slot: step.slot.as_ref().map(ToString::to_string),
            from: step.from.as_ref().map(ReleaseBody::from),
            to: step.to.as_ref().map(ReleaseBody::from),
        }
    }
}
