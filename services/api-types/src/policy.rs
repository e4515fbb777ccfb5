//! Policies of environments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Policy of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PolicyBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Position of its declaration; absent if none was declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<u64>,
    /// Policy, as in `environment.declared`; empty if none was declared.
    pub policy: serde_json::Value,
}
