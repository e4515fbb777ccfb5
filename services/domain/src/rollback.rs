//! Rollbacks: their state transitions, their execution, and the decision to request one automatically.
//!
//! Decision 0015, section 5, is the specification.

mod automatic;
mod execution;

use chrono::{DateTime, Utc};

use crate::event::{Actor, RollbackRequest};
use crate::gate::{ApprovalVote, approved_by_others};
use crate::{EnvironmentName, LaneFilter, LongText, Position, Release, ServiceName, ShortText, TargetName};

pub use automatic::{
    AutomaticHistory, ConcernedLanes, DeclineReason, KnownGoodPoint, PassedOver, PointSearch, Search,
    check_bounds, check_limits,
};
pub use execution::{StartProblem, differing, start, step_claim};

/// The phase of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackPhase {
    /// The rollback was requested and has not started.
    Requested,
    /// The rollback is being carried out.
    Started,
    /// The lanes of the plan run what it ends with.
    Succeeded,
    /// The rollback failed: some lane of the plan may not run what it ends with.
    Failed,
    /// The rollback was cancelled.
    Cancelled,
}

impl RollbackPhase {
    /// Returns the name of the phase in the API and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the phase with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Requested, Self::Started, Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|phase| phase.name() == name)
    }

    /// Returns true while the rollback has not ended: no other rollback of the environment can be requested.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Requested | Self::Started)
    }
}

/// The state of a rollback that decides which transitions are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackState<'a> {
    /// The phase.
    pub phase: RollbackPhase,
    /// The requester.
    pub initiated_by: &'a Actor,
    /// Number of people other than the requester who must approve.
    pub approvals: u32,
    /// The approvals and rejections given so far.
    pub votes: &'a [ApprovalVote],
}

/// Reason why a transition of a rollback is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The rollback has ended.
    #[error("the rollback has already ended ({})", .0.name())]
    Ended(RollbackPhase),
    /// The rollback has started.
    #[error("the rollback is already started")]
    StartedAlready,
    /// The rollback has not started.
    #[error("the rollback is not started")]
    NotStarted,
    /// The rollback needs more approvals.
    #[error("the rollback has {granted} of {required} approvals")]
    NotApproved {
        /// Number of approvals given.
        granted: usize,
        /// Number of approvals required.
        required: u32,
    },
    /// A person rejected the rollback.
    #[error("the rollback was rejected (position {0})")]
    Rejected(Position),
    /// The requester cannot approve or reject the rollback.
    #[error("{0} requested the rollback and cannot approve or reject it")]
    SelfApproval(ShortText),
    /// The actor is not a person.
    #[error("only people can approve or reject; {0} is not of the type person")]
    NotAPerson(ShortText),
    /// Some lanes of the plan do not run what it ends with.
    #[error("the environment does not run the planned releases: {}", summary(.0))]
    Differs(Vec<String>),
}

fn summary(lanes: &[String]) -> String {
    const MAX_SHOWN: usize = 10;
    let shown = lanes.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match lanes.len().checked_sub(MAX_SHOWN) {
        Some(more) if more > 0 => format!("{shown}; and {more} more"),
        _ => shown,
    }
}

impl RollbackState<'_> {
    /// Returns the number of approvals that are still missing before the rollback may start.
    ///
    /// # Errors
    /// A person rejected the rollback.
    pub fn approvals_lacking(&self) -> Result<usize, TransitionError> {
        let (granted, rejected) = approved_by_others(self.votes, self.initiated_by);
        match rejected {
            Some(position) => Err(TransitionError::Rejected(position)),
            None => Ok((self.approvals as usize).saturating_sub(granted)),
        }
    }

    /// Checks that the execution may start.
    ///
    /// # Errors
    /// The rollback has started or ended, was rejected, or lacks approvals.
    pub fn start(&self) -> Result<(), TransitionError> {
        self.ensure_requested()?;
        match self.approvals_lacking()? {
            0 => Ok(()),
            lacking => {
                let granted = (self.approvals as usize).saturating_sub(lacking);
                Err(TransitionError::NotApproved { granted, required: self.approvals })
            }
        }
    }

    /// Checks that the rollback may be reported as succeeded. `differing` lists the lanes that do not run what the plan
    /// ends with.
    ///
    /// # Errors
    /// The rollback has not started, has ended, or some lane differs.
    pub fn succeed(&self, differing: Vec<String>) -> Result<(), TransitionError> {
        self.ensure_started()?;
        if differing.is_empty() { Ok(()) } else { Err(TransitionError::Differs(differing)) }
    }

    /// Checks that the rollback may be reported as failed.
    ///
    /// # Errors
    /// The rollback has not started, or has ended.
    pub fn fail(&self) -> Result<(), TransitionError> {
        self.ensure_started()
    }

    /// Checks that the rollback may be cancelled.
    ///
    /// # Errors
    /// The rollback has ended.
    pub fn cancel(&self) -> Result<(), TransitionError> {
        if self.phase.is_active() { Ok(()) } else { Err(TransitionError::Ended(self.phase)) }
    }

    /// Checks that an actor may approve or reject the rollback.
    ///
    /// # Errors
    /// The rollback has started or ended, or the actor is the requester or not a person.
    pub fn answer(&self, actor: &Actor) -> Result<(), TransitionError> {
        self.ensure_requested()?;
        if !actor.is_person() {
            return Err(TransitionError::NotAPerson(actor.name.clone()));
        }
        if actor.is_same_person(self.initiated_by) {
            return Err(TransitionError::SelfApproval(actor.name.clone()));
        }
        Ok(())
    }

    fn ensure_requested(&self) -> Result<(), TransitionError> {
        match self.phase {
            RollbackPhase::Requested => Ok(()),
            RollbackPhase::Started => Err(TransitionError::StartedAlready),
            ended => Err(TransitionError::Ended(ended)),
        }
    }

    fn ensure_started(&self) -> Result<(), TransitionError> {
        match self.phase {
            RollbackPhase::Requested => Err(TransitionError::NotStarted),
            RollbackPhase::Started => Ok(()),
            ended => Err(TransitionError::Ended(ended)),
        }
    }
}

/// The content of a rollback request that decides if two requests with the same `rollback_id` are the same request. The
/// plan is not part of it: a repeated request may have a newer plan.
#[derive(Debug, Clone, Copy)]
pub struct RequestContent<'a> {
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The position of the point, as resolved when the rollback was first requested.
    pub to: Position,
    /// The time that selected the point, if one did.
    pub at: Option<DateTime<Utc>>,
    /// The environment that the point belongs to, if it is another one.
    pub source: Option<&'a EnvironmentName>,
    /// The lanes to roll back.
    pub scope: &'a LaneFilter,
    /// True if the request overrides what can be overridden.
    pub force: bool,
    /// The requester.
    pub requester: &'a Actor,
    /// The reason.
    pub reason: Option<&'a LongText>,
}

impl<'a> RequestContent<'a> {
    /// Returns the content of a recorded request.
    #[must_use]
    pub fn of(request: &'a RollbackRequest, reason: Option<&'a LongText>) -> Self {
        Self {
            environment: &request.rollback.environment,
            to: request.to,
            at: request.at,
            source: request.source.as_ref(),
            scope: &request.scope,
            force: request.force,
            requester: &request.initiated_by,
            reason,
        }
    }

    /// Returns true if both are the same request. Requesters are compared as people, if both are.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_requester =
            self.requester == other.requester || self.requester.is_same_person(other.requester);
        same_requester
            && self.environment == other.environment
            && (self.to, self.at, self.source) == (other.to, other.at, other.source)
            && self.scope == other.scope
            && self.force == other.force
            && self.reason == other.reason
    }
}

/// Describes how a lane differs from what a rollback's plan states.
#[must_use]
pub fn difference(
    service: &ServiceName,
    target: &TargetName,
    wanted: Option<&Release>,
    runs: Option<&Release>,
) -> String {
    let version = |release: Option<&Release>| match release {
        Some(release) => release.version.to_string(),
        None => "nothing".to_owned(),
    };
    match (wanted, runs) {
        (Some(wanted), Some(runs)) if wanted.version == runs.version => {
            format!(
                "{service} at {target} runs {wanted} with another artifact, configuration or infrastructure"
            )
        }
        _ => format!("{service} at {target} runs {} instead of {}", version(runs), version(wanted)),
    }
}

#[cfg(test)]
mod tests;
