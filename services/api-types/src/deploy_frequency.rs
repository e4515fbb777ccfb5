//! Deploy frequency: deploys by day, week or month, environment and service.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Numbers of deploys, by the time at which they occurred.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeployFrequencyBody {
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Unit of the periods, in UTC: `day`, `week` or `month`. A week begins on Monday.
    #[serde(default)]
    #[schema(required)]
    pub by: String,
    /// Deploys that occurred at this time or later count.
    pub since: DateTime<Utc>,
    /// Deploys that occurred before this time count; absent: without an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Counts that are not zero, by period, environment and service.
    pub counts: Vec<DeployCountBody>,
    /// True if the client may not read every environment and service: those are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricted: bool,
}

/// Deploys of a service to an environment in a period.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeployCountBody {
    /// First day of the period. Its deploys before `since`, and from `until` on, do not count.
    pub period: NaiveDate,
    /// Environment name.
    pub environment: String,
    /// Service name.
    pub service: String,
    /// Number of deploys that succeeded, one for each target and slot, steps of rollbacks included.
    pub deploys: u64,
    /// Number of deploys that failed.
    pub failed: u64,
    /// Number of deploys that succeeded as steps of rollbacks.
    pub rollback_steps: u64,
}
