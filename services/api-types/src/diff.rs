//! Differences between two states.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lane::LaneBody;

/// One side of a comparison.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SideBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that this side reflects.
    pub position: u64,
    /// Requested point.
    pub at: String,
    /// SHA-256 over the composition.
    #[serde(default)]
    #[schema(required)]
    pub digest: String,
}

/// Difference between two compositions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DiffBody {
    /// First side.
    pub from: SideBody,
    /// Second side.
    pub to: SideBody,
    /// Lanes that differ, by service and target.
    pub differences: Vec<DifferenceBody>,
}

/// Difference in one lane.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DifferenceBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
    /// Kind of the difference.
    #[schema(value_type = LaneChange)]
    pub change: String,
    /// Lane on the first side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<LaneBody>,
    /// Lane on the second side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<LaneBody>,
}

/// Kind of a difference in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum LaneChange {
    /// The lane runs a release on the second side only.
    Added,
    /// The lane runs a release on the first side only.
    Removed,
    /// The lane runs different releases.
    Changed,
}

impl LaneChange {
    /// Returns the word in a body.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}
