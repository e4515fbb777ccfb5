//! Releases that were found by version, commit or artifact.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::release::ReleaseBody;

/// Lanes on which a release ever went live.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FindBody {
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Lanes, by environment, service and target; one for each version on the lane.
    pub runs: Vec<FoundRunBody>,
    /// Cursor of the next page: pass it as `skip`. A page with fewer than `limit` lanes, even without any, may
    /// still have a successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

/// Release on a lane, with the times at which it went live there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FoundRunBody {
    /// Environment name.
    pub environment: String,
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Release, as the change by which it last went live states it; without configuration and infrastructure.
    pub release: ReleaseBody,
    /// Change by which it first went live.
    pub first: MomentBody,
    /// Change by which it last went live.
    pub last: MomentBody,
    /// Change that replaced it since then; absent while it is live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<MomentBody>,
}

/// Time and position of a change.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct MomentBody {
    /// Position of the event that made the change.
    pub position: u64,
    /// Time at which that event occurred.
    pub occurred_at: DateTime<Utc>,
}
