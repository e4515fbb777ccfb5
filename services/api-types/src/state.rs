//! State of an environment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::entry::EventRefBody;
use crate::lane::LaneBody;

/// State of an environment at some point.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StateBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    pub position: u64,
    /// Requested point: `latest`, a position, or a time.
    pub at: String,
    /// SHA-256 over the composition: environments with equal compositions have equal digests.
    pub digest: String,
    /// Releases that ran, by service and target.
    pub lanes: Vec<LaneBody>,
    /// Releases in slots without traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<LaneBody>,
    /// Traffic switches without effect, latest first: to a slot with no known release yet, or to an empty slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches_without_effect: Vec<SwitchBody>,
    /// Lanes with a hidden report: one that was recorded after the lane's last change but occurred before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_reports: Vec<HiddenReportBody>,
}

/// Traffic switch without effect.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SwitchBody {
    /// Service name.
    #[serde(default)]
    #[schema(required)]
    pub service: String,
    /// Target name.
    #[serde(default)]
    #[schema(required)]
    pub target: String,
    /// Slot that traffic was switched to.
    #[serde(default)]
    #[schema(required)]
    pub slot: String,
    /// The switch event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EventRefBody, required = true)]
    pub since: Option<EventRefBody>,
}

/// Late report, hidden by a change that occurred after it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HiddenReportBody {
    /// Service name.
    #[serde(default)]
    #[schema(required)]
    pub service: String,
    /// Target name.
    #[serde(default)]
    #[schema(required)]
    pub target: String,
    /// Position of the report.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
}
