//! Overview of environments: what each runs, and what needs attention.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::entry::EventRefBody;
use crate::freeze::ActiveFreezeBody;
use crate::release::ReleaseBody;

/// Overview of a ledger's environments.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OverviewBody {
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Environments, by name.
    pub environments: Vec<EnvironmentOverviewBody>,
    /// Cursor of the next page: pass it as `after`. A page with fewer than `limit` environments may still have a
    /// successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// True if the client may not read every environment and service: those are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricted: bool,
}

/// Overview of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentOverviewBody {
    /// Environment name.
    pub name: String,
    /// Status of its latest release point: `empty`, `candidate`, `known_good` or `bad`; absent before the first change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Lanes that run a release, by service and target.
    pub lanes: Vec<LaneOverviewBody>,
    /// Deploys that were started and have not ended.
    #[serde(default)]
    #[schema(required)]
    pub deploying: Vec<OpenDeployBody>,
    /// Lanes that run a release by the last observation, and nothing by the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<ObservedLaneBody>,
    /// Freezes in force now, in the order of their starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<ActiveFreezeBody>,
}

/// Overview of a lane.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LaneOverviewBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Release that it runs.
    pub release: ReleaseBody,
    /// Event that put the release there.
    pub since: EventRefBody,
    /// True if the last observation differs from the ledger.
    #[serde(default)]
    #[schema(required)]
    pub drift: bool,
    /// True if the artifact of the release is revoked.
    #[serde(default)]
    #[schema(required)]
    pub revoked: bool,
}

/// Deploy that was started and has not ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OpenDeployBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Version that is deployed.
    pub version: String,
    /// Position of the start.
    pub position: u64,
}

/// Lane that runs a release by the last observation, and nothing by the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ObservedLaneBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Release that was observed.
    pub release: ReleaseBody,
    /// Event since which the observation differs from the ledger.
    pub since: EventRefBody,
}
