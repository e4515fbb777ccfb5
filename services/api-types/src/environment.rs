//! Environments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::freeze::ActiveFreezeBody;

/// Environments of a ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentsBody {
    /// Ledger position that the response reflects.
    pub position: u64,
    /// Environments, by name.
    pub environments: Vec<EnvironmentBody>,
}

/// An environment of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentBody {
    /// Environment name.
    pub name: String,
    /// Position of the first event that named it.
    pub first_position: u64,
    /// Number of changes of its composition.
    pub changes: u64,
    /// True if it is retired: it has no lanes, and no reports are expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// Freezes in force now, in the order of their starts. Lists show at most 1000 in total.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<ActiveFreezeBody>,
}
