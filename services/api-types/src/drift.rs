//! Drift between observations and the ledger.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::entry::EventRefBody;
use crate::lane::LaneNameBody;
use crate::release::ReleaseBody;

/// Drift of an environment: lanes in which an observation differs from the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DriftBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    pub position: u64,
    /// Number of lanes with at least one observation.
    pub observed_lanes: usize,
    /// Lanes in which the last observation differs from the ledger.
    pub drift: Vec<DriftLaneBody>,
    /// Lanes that run a release according to the ledger and have no observation.
    #[serde(default)]
    #[schema(required)]
    pub unobserved: Vec<LaneNameBody>,
}

/// Lane with drift.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DriftLaneBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Release according to the ledger; absent if the lane is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<ReleaseBody>,
    /// Observed release; absent if nothing was running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<ReleaseBody>,
    /// Event since which the difference exists.
    pub since: EventRefBody,
    /// Last observation.
    pub last_seen: EventRefBody,
}
