//! Outcome of each event of a request, with its annotations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::ProblemBody;

/// Outcome of one event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventResult {
    /// Id of the event, if it could be read.
    pub id: Option<String>,
    /// Source of the event, if it could be read.
    pub source: Option<String>,
    /// Status of the event.
    pub status: EventStatus,
    /// Position of the event, or of the event that has its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Reason why it was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<ProblemBody>>,
    /// Id of a quarantined event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine_id: Option<String>,
    /// Number of consecutive events that this result stands for; absent: one. Only events whose id cannot be read, after
    /// the first 500 problems, share a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Annotations; all absent if they are not available in time. The history has them as well.
    #[serde(flatten)]
    pub annotations: AnnotationsBody,
}

/// Annotations of a recorded event.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct AnnotationsBody {
    /// Contradictions with the ledger's earlier state: `late`, `ambiguous_target`, and others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<Vec<String>>,
    /// Kinds of names that this event introduces: `environment`, `service`, `target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Vec<String>>,
    /// Version that its lane runs from here on, if the event changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub went_live: Option<String>,
    /// Candidate targets, if the event names none and the service has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// For a revocation: lanes that run the artifact or hold it in a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_at: Option<Vec<RunsAtBody>>,
}

/// Lane that runs an artifact or holds it in a slot.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunsAtBody {
    /// Environment name.
    #[serde(default)]
    #[schema(required)]
    pub environment: String,
    /// Service name.
    #[serde(default)]
    #[schema(required)]
    pub service: String,
    /// Target name.
    #[serde(default)]
    #[schema(required)]
    pub target: String,
    /// Version.
    #[serde(default)]
    #[schema(required)]
    pub version: String,
    /// True if it receives traffic.
    #[serde(default)]
    #[schema(required)]
    pub live: bool,
}

/// Status of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// It is recorded and durable.
    Recorded,
    /// The same event was recorded before.
    Duplicate,
    /// Another event with the same identity was recorded before.
    Conflict,
    /// It is malformed; resending it unchanged cannot succeed.
    Invalid,
    /// It is a CDEvent that cannot be understood; it is kept in quarantine.
    Quarantined,
    /// The current state of the ledger does not allow it.
    Rejected,
    /// The ledger cannot record it now; resend it later.
    Refused,
}

impl EventStatus {
    /// Returns true if the event is recorded, now or earlier.
    #[must_use]
    pub const fn is_recorded(self) -> bool {
        matches!(self, Self::Recorded | Self::Duplicate)
    }
}
