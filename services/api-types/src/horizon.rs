//! Rollback horizon of an environment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::plan::PlanIssueBody;

/// Rollback horizon of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HorizonBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    pub position: u64,
    /// Window in seconds.
    #[serde(default)]
    #[schema(required)]
    pub window_seconds: i64,
    /// Known-good points that were current at any time within the window, latest first; at most 500.
    pub points: Vec<HorizonPointBody>,
    /// True if `points` omits some known-good points. `needed` covers all of them.
    #[serde(default)]
    #[schema(required)]
    pub cut: bool,
    /// Artifacts to retain: those of every point within the window that is not bad, and those that run now. Of a
    /// release that states none: all that releases of its version may have.
    #[serde(default)]
    #[schema(required)]
    pub needed: Vec<RetainedArtifactBody>,
    /// Versions at such points without a known artifact: they cannot be retained by name.
    #[serde(default)]
    #[schema(required)]
    pub without_artifact: Vec<WithoutArtifactBody>,
}

/// Known-good point, with the issues of a rollback to it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HorizonPointBody {
    /// Sequence number of the environment's composition change, from 1.
    pub number: u64,
    /// Position of the event that made the change.
    pub position: u64,
    /// Time at which that event occurred.
    pub occurred_at: DateTime<Utc>,
    /// SHA-256 over the composition.
    #[serde(default)]
    #[schema(required)]
    pub digest: String,
    /// True if a rollback to it can be requested now. True as well for the current point.
    pub possible: bool,
    /// True if a rollback to it can be requested with `force`.
    pub by_force: bool,
    /// Issues of a rollback to it: the first 100.
    #[serde(default)]
    #[schema(required)]
    pub issues: Vec<PlanIssueBody>,
    /// Number of all issues.
    #[serde(default)]
    #[schema(required)]
    pub issue_count: usize,
}

/// Artifact to retain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RetainedArtifactBody {
    /// Artifact, by the first name that the ledger saw.
    pub artifact: String,
    /// All names of the artifact.
    #[serde(default)]
    #[schema(required)]
    pub names: Vec<String>,
    /// Services that run it.
    pub services: Vec<String>,
    /// Number of points within the window that need it; 0 if only the current composition needs it.
    pub points: u64,
}

/// Version without a known artifact.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WithoutArtifactBody {
    /// Service name.
    pub service: String,
    /// Version.
    pub version: String,
}
