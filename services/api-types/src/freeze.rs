//! Freezes of environments.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actor::{ActorBody, ActorRequest};

/// Page of freezes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FreezesBody {
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Freezes, the one that started last first.
    pub freezes: Vec<FreezeBody>,
    /// Cursor of the next page: pass it as `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Freeze of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FreezeBody {
    /// Environment name.
    pub environment: String,
    /// Name of the freeze. A later freeze of the environment may have the same name.
    pub freeze_id: String,
    /// True if it is in force now.
    pub active: bool,
    /// Position of the start.
    pub position: u64,
    /// Time of the start.
    pub since: DateTime<Utc>,
    /// Time at which it ends automatically; absent if it ends only when it is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Actor who started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ActorRequest>)]
    pub actor: Option<ActorBody>,
    /// Reason of the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Lift, if it was lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted: Option<FreezeLiftBody>,
}

/// Lift of a freeze.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FreezeLiftBody {
    /// Position of the lift.
    pub position: u64,
    /// Time of the lift.
    pub occurred_at: DateTime<Utc>,
    /// Actor who lifted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ActorRequest>)]
    pub actor: Option<ActorBody>,
    /// Reason of the lift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Freeze that is in force in an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActiveFreezeBody {
    /// Name of the freeze.
    pub freeze_id: String,
    /// Position of the start.
    pub position: u64,
    /// Time at which it ends automatically; absent if it ends only when it is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}
