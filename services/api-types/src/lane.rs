//! Lanes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::entry::EventRefBody;
use crate::release::ReleaseBody;

/// Lane, or idle slot, with its release.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LaneBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Slot, if the lane has slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Release that the lane runs or the slot holds.
    pub release: ReleaseBody,
    /// Event that put the release there.
    pub since: EventRefBody,
}

/// Name of a lane.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LaneNameBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
}
