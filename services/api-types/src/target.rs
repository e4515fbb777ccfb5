//! Differences between the targets of an environment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::release::ReleaseBody;

/// Differences between the targets of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TargetsBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    pub position: u64,
    /// Targets at which at least one service runs.
    pub targets: Vec<String>,
    /// Services that do not run the same release at every target.
    pub uneven: Vec<TargetSkewBody>,
}

/// Service that does not run the same release at every target.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TargetSkewBody {
    /// Service name.
    pub service: String,
    /// Its release at each target.
    pub targets: Vec<TargetReleaseBody>,
}

/// Release of a service at one target.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TargetReleaseBody {
    /// Target name.
    pub target: String,
    /// Release; absent if the service does not run there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseBody>,
}
