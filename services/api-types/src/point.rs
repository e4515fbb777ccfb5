//! Release points.

use std::fmt;

use chrono::{DateTime, Utc};
use ledger_domain::event::Counts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actor::{ActorBody, ActorRequest};

/// Release point.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PointBody {
    /// Sequence number of the environment's composition change, from 1; absent if a time selected the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Position of the event that made the change.
    pub position: u64,
    /// Time at which that event occurred.
    pub occurred_at: DateTime<Utc>,
    /// CloudEvents id of that event.
    #[serde(default)]
    #[schema(required)]
    pub event_id: String,
    /// Lanes that changed: several if the environment was retired, none if a time selected the point.
    pub changed: Vec<ChangedBody>,
    /// Time of the next change; absent while the point is current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// SHA-256 over the composition.
    pub digest: String,
    /// Number of lanes that ran a release.
    pub lanes: usize,
    /// Status: `empty`, `candidate`, `known_good` or `bad`.
    pub status: String,
    /// Reasons for the status: the first 100.
    #[serde(default)]
    #[schema(required)]
    pub reasons: Vec<ReasonBody>,
    /// Number of all reasons.
    #[serde(default)]
    #[schema(required)]
    pub reason_count: usize,
    /// Mark that a person set on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<MarkBody>,
}

/// Lane that changed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChangedBody {
    /// Service name.
    pub service: String,
    /// Target name.
    pub target: String,
}

/// Reason for a status.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReasonBody {
    /// Kind: `empty`, `failed`, `missing`, `unchecked`, `not_soaked`, `marked` or `passed`.
    #[serde(default)]
    #[schema(required)]
    pub reason: String,
    /// Explanation.
    pub detail: String,
    /// Service concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Target concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Check concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Position of the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Case counts of the check, if its result has any; absent in a plan attached to a result of a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<CountsBody>,
}

/// Case counts of a check.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct CountsBody {
    /// Cases that passed.
    pub passed: u64,
    /// Cases that failed.
    pub failed: u64,
    /// Cases that were skipped.
    pub skipped: u64,
}

impl From<Counts> for CountsBody {
    fn from(Counts { passed, failed, skipped }: Counts) -> Self {
        Self { passed, failed, skipped }
    }
}

impl From<CountsBody> for Counts {
    fn from(CountsBody { passed, failed, skipped }: CountsBody) -> Self {
        Self { passed, failed, skipped }
    }
}

impl fmt::Display for CountsBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Counts::from(*self), f)
    }
}

/// Mark that a person set on a point.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MarkBody {
    /// Position of the mark.
    pub position: u64,
    /// Status that the mark sets.
    pub status: String,
    /// Name that the mark gives the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Person who set the mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ActorRequest>)]
    pub actor: Option<ActorBody>,
    /// Reason that the person gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Release points of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PointsBody {
    /// Environment name.
    #[serde(default)]
    #[schema(required)]
    pub environment: String,
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Points, latest first.
    pub points: Vec<PointBody>,
    /// Cursor of the next page: pass it as `before`. A page with fewer than `limit` points may still have a successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Release point of an environment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PointDetailBody {
    /// Environment name.
    pub environment: String,
    /// Ledger position that the response reflects.
    #[serde(default)]
    #[schema(required)]
    pub position: u64,
    /// Time that selected the point, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// Position of the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<u64>,
    /// Release point.
    pub point: PointBody,
}
