//! A rollback's life.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Actor, Plan};
use crate::{ConfigDigest, EnvironmentName, LaneFilter, Position, ServiceName, ShortText, TargetName};

/// Which rollback of which environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// The environment.
    pub environment: EnvironmentName,
    /// The rollback's name, unique within the ledger.
    pub rollback_id: ShortText,
}

/// An environment at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasePointId {
    /// The environment.
    pub environment: EnvironmentName,
    /// The position.
    pub position: Position,
}

/// A wish to have an environment back at a point, with the plan that it was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackRequest {
    /// Which rollback.
    pub rollback: Rollback,
    /// The release point's position; where a time named the point, that of the last entry that shaped it.
    pub to: Position,
    /// The time that named the point, if one did: the composition is that at this time, as known at `plan.from`.
    pub at: Option<DateTime<Utc>>,
    /// The environment whose point it is, where that is another one.
    pub source: Option<EnvironmentName>,
    /// The lanes that are brought there.
    pub scope: LaneFilter,
    /// The steps, made against the state at `plan.from`.
    pub plan: Plan,
    /// SHA-256 of the plan.
    pub plan_digest: ConfigDigest,
    /// Who asked for it.
    pub initiated_by: Actor,
    /// Whether the rollback controller asked for it by itself.
    pub automatic: bool,
    /// Whether what may be passed by force was passed; the event's reason says why.
    pub force: bool,
    /// The position of the policy that it was judged by.
    pub policy: Option<Position>,
    /// The position of the failed check that it answers.
    pub cause: Option<Position>,
}

/// The rollback controller asked for no rollback though a check failed that could have led to one; the
/// event's reason says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// The environment.
    pub environment: EnvironmentName,
    /// The position of the failed check.
    pub cause: Position,
    /// The position of the policy that it was judged by.
    pub policy: Option<Position>,
}

/// The start of a rollback's execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackStart {
    /// Which rollback.
    pub rollback: Rollback,
    /// Lanes that no longer run what the plan starts from, and are brought to the point all the same.
    pub acknowledge: BTreeSet<(ServiceName, TargetName)>,
}
