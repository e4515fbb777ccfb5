//! The events of a rollback, from its request to its end.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Actor, Plan};
use crate::{ConfigDigest, EnvironmentName, LaneFilter, Position, ServiceName, ShortText, TargetName};

/// The identity of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// The environment.
    pub environment: EnvironmentName,
    /// The rollback's id, unique within the ledger.
    pub rollback_id: ShortText,
}

/// The identity of a release point: an environment at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasePointId {
    /// The environment.
    pub environment: EnvironmentName,
    /// The position.
    pub position: Position,
}

/// A request to roll an environment back to a point, with its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackRequest {
    /// The rollback.
    pub rollback: Rollback,
    /// The position of the point; if a time selected it, the position of the last entry that contributes to the point.
    pub to: Position,
    /// The time that selected the point, if one did: the composition at this time, as known at `plan.from`.
    pub at: Option<DateTime<Utc>>,
    /// The environment that the point belongs to, if it is another one.
    pub source: Option<EnvironmentName>,
    /// The lanes to roll back.
    pub scope: LaneFilter,
    /// The plan, made against the state at `plan.from`.
    pub plan: Plan,
    /// SHA-256 digest of the plan.
    pub plan_digest: ConfigDigest,
    /// The requester.
    pub initiated_by: Actor,
    /// True if the rollback controller requested the rollback automatically.
    pub automatic: bool,
    /// True if the request overrides what can be overridden; the event's reason says why.
    pub force: bool,
    /// The position of the policy that applied.
    pub policy: Option<Position>,
    /// The position of the failed check that triggered the rollback.
    pub cause: Option<Position>,
}

/// The controller's decision not to request a rollback after a failed check that could trigger one. The event's reason
/// says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// The environment.
    pub environment: EnvironmentName,
    /// The position of the failed check.
    pub cause: Position,
    /// The position of the policy that applied.
    pub policy: Option<Position>,
}

/// The start of a rollback's execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackStart {
    /// The rollback.
    pub rollback: Rollback,
    /// Lanes to roll back even though they no longer run what the plan starts from.
    pub acknowledge: BTreeSet<(ServiceName, TargetName)>,
}
