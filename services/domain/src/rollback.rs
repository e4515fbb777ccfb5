//! Rollbacks: which step of one may follow which, when it starts and succeeds, and when one is requested automatically.
//!
//! Decision 0015, section 5, is the specification.

mod automatic;
mod execution;

use chrono::{DateTime, Utc};

use crate::event::{Actor, RollbackRequest};
use crate::gate::{Answer, approved_by_others};
use crate::{EnvironmentName, LaneFilter, LongText, Position, Release, ServiceName, ShortText, TargetName};

pub use automatic::{
    AutomaticPast, DeclineReason, KnownGoodPoint, PassedOver, PointSearch, Search, check_bounds,
    check_limits, concerned_lanes,
};
pub use execution::{StartProblem, differing, start, step_claim};

/// Where a rollback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was asked for, and nothing is done yet.
    Requested,
    /// It is being carried out.
    Started,
    /// The environment runs what was wanted.
    Succeeded,
    /// The environment does not run what was wanted.
    Failed,
    /// It was called off.
    Cancelled,
}

impl Phase {
    /// The phase as one word.
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

    /// The phase with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Requested, Self::Started, Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|phase| phase.name() == name)
    }

    /// Whether another rollback of the environment has to wait for this one.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Requested | Self::Started)
    }
}

/// What a next step of a rollback is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackState<'a> {
    /// Where it is.
    pub phase: Phase,
    /// Who asked for it.
    pub initiated_by: &'a Actor,
    /// How many other people must approve.
    pub approvals: u32,
    /// What people answered.
    pub answers: &'a [Answer],
}

/// Why a step of a rollback's life is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// It has ended.
    #[error("the rollback has {} already", .0.name())]
    Ended(Phase),
    /// It was started before.
    #[error("the rollback is started already")]
    StartedAlready,
    /// It must be started first.
    #[error("the rollback is not started")]
    NotStarted,
    /// It needs approvals.
    #[error("the rollback has {granted} of {wanted} approvals")]
    NotApproved {
        /// How many there are.
        granted: usize,
        /// How many there must be.
        wanted: u32,
    },
    /// Somebody rejected it.
    #[error("the rollback was rejected (position {0})")]
    Rejected(Position),
    /// People do not approve what they asked for themselves.
    #[error("{0} asked for the rollback, and does not approve it")]
    SelfApproval(ShortText),
    /// The actor is no person.
    #[error("{0} is not of the type person, and only people approve")]
    NotAPerson(ShortText),
    /// The environment does not run what was wanted.
    #[error("the environment does not run what the rollback wanted: {}", list(.0))]
    Differs(Vec<String>),
}

fn list(lanes: &[String]) -> String {
    let shown = lanes.iter().take(10).cloned().collect::<Vec<_>>().join("; ");
    match lanes.len().checked_sub(10) {
        Some(more) if more > 0 => format!("{shown}; and {more} more"),
        _ => shown,
    }
}

impl RollbackState<'_> {
    /// How many more approvals it needs before it may start; an error if it may never.
    ///
    /// # Errors
    /// Somebody rejected it.
    pub fn approvals_lacking(&self) -> Result<usize, TransitionError> {
        let (granted, rejected) = approved_by_others(self.answers, self.initiated_by);
        match rejected {
            Some(position) => Err(TransitionError::Rejected(position)),
            None => Ok((self.approvals as usize).saturating_sub(granted)),
        }
    }

    /// Whether its execution may begin.
    ///
    /// # Errors
    /// Says why not.
    pub fn start(&self) -> Result<(), TransitionError> {
        self.must_be_active()?;
        if self.phase == Phase::Started {
            return Err(TransitionError::StartedAlready);
        }
        match self.approvals_lacking()? {
            0 => Ok(()),
            lacking => {
                let granted = (self.approvals as usize).saturating_sub(lacking);
                Err(TransitionError::NotApproved { granted, wanted: self.approvals })
            }
        }
    }

    /// Whether it may be said to have succeeded: `differing` are the lanes that do not run what was wanted.
    ///
    /// # Errors
    /// Says why not.
    pub fn succeed(&self, differing: Vec<String>) -> Result<(), TransitionError> {
        self.must_be_active()?;
        if self.phase != Phase::Started {
            return Err(TransitionError::NotStarted);
        }
        if differing.is_empty() { Ok(()) } else { Err(TransitionError::Differs(differing)) }
    }

    /// Whether it may be said to have failed.
    ///
    /// # Errors
    /// Says why not.
    pub fn fail(&self) -> Result<(), TransitionError> {
        self.must_be_active()?;
        if self.phase == Phase::Started { Ok(()) } else { Err(TransitionError::NotStarted) }
    }

    /// Whether it may be called off.
    ///
    /// # Errors
    /// Says why not.
    pub fn cancel(&self) -> Result<(), TransitionError> {
        self.must_be_active()
    }

    /// Whether a person may answer it.
    ///
    /// # Errors
    /// Says why not.
    pub fn answer(&self, actor: &Actor) -> Result<(), TransitionError> {
        self.must_be_active()?;
        if self.phase == Phase::Started {
            return Err(TransitionError::StartedAlready);
        }
        if !actor.is_person() {
            return Err(TransitionError::NotAPerson(actor.name.clone()));
        }
        if actor.is_same_person(self.initiated_by) {
            return Err(TransitionError::SelfApproval(actor.name.clone()));
        }
        Ok(())
    }

    fn must_be_active(&self) -> Result<(), TransitionError> {
        if self.phase.is_active() { Ok(()) } else { Err(TransitionError::Ended(self.phase)) }
    }
}

/// What somebody wanted who requested a rollback. Two requests of one `rollback_id` that want the same are one request; the plan is
/// not compared: it may have been made later.
#[derive(Debug, Clone, Copy)]
pub struct RequestedWish<'a> {
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The position of the point, as resolved when it was first requested.
    pub to: Position,
    /// The time that named the point, if one did.
    pub at: Option<DateTime<Utc>>,
    /// The environment whose point it is, if it is another one's.
    pub source: Option<&'a EnvironmentName>,
    /// The lanes that it is about.
    pub scope: &'a LaneFilter,
    /// Whether to pass what may be passed by force.
    pub force: bool,
    /// Who asks.
    pub requester: &'a Actor,
    /// Why.
    pub reason: Option<&'a LongText>,
}

impl<'a> RequestedWish<'a> {
    /// The wish of a recorded request.
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

    /// Returns true if both want the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let requester = self.requester == other.requester || self.requester.is_same_person(other.requester);
        requester
            && self.environment == other.environment
            && (self.to, self.at, self.source) == (other.to, other.at, other.source)
            && self.scope == other.scope
            && self.force == other.force
            && self.reason == other.reason
    }
}

/// How a lane differs from what a rollback wanted, in words.
#[must_use]
pub fn difference(
    service: &ServiceName,
    target: &TargetName,
    wanted: Option<&Release>,
    runs: Option<&Release>,
) -> String {
    let word = |release: Option<&Release>| match release {
        Some(release) => release.version.to_string(),
        None => "nothing".to_owned(),
    };
    match (wanted, runs) {
        (Some(wanted), Some(runs)) if wanted.version == runs.version => {
            format!(
                "{service} at {target} runs {wanted} with another artifact, configuration or infrastructure"
            )
        }
        _ => format!("{service} at {target} runs {} instead of {}", word(runs), word(wanted)),
    }
}

#[cfg(test)]
mod tests;
