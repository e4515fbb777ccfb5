//! Reasons why a request is rejected or cannot be decided.

use std::sync::Arc;

use ledger_domain::rollback::{RollbackPhase, StartProblem, TransitionError};
use ledger_domain::{
    Artifact, EnvironmentName, Family, Kind, Position, ShortText, Source, SubscriptionName, TenantName,
};
use ledger_projections::QueryError;

use crate::planning::{PlanError, Planned};

/// Reason why a request is rejected. A retry is rejected again unless the ledger has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The environment has changed since the requester read it.
    #[error(
        "the environment is at position {}, but the request expects {expected}; the attached plan is current",
        planned.environment_position
    )]
    EnvironmentMoved {
        /// Position that the request expects.
        expected: Position,
        /// Current plan.
        planned: Arc<Planned>,
    },
    /// The plan differs from the one that the requester has read.
    #[error("the plan has changed; its digest is now {}", planned.plan.digest())]
    PlanChanged {
        /// Current plan.
        planned: Arc<Planned>,
    },
    /// Issues block the plan.
    #[error("the plan is blocked: {}", join_blockers(planned, *force))]
    Blocked {
        /// Blocked plan.
        planned: Arc<Planned>,
        /// True if the request uses force.
        force: bool,
    },
    /// Another rollback of the environment is under way.
    #[error("another rollback of the environment is under way: {rollback_id} (position {position})")]
    UnderWay {
        /// Id of the other rollback.
        rollback_id: ShortText,
        /// Position of its request.
        position: Position,
    },
    /// A rollback with the same id exists, and came from another request.
    #[error("{}", describe_existing(rollback_id, *position, *phase))]
    RollbackExists {
        /// Id of the rollback.
        rollback_id: ShortText,
        /// Position of its request.
        position: Position,
        /// Phase of the existing rollback.
        phase: RollbackPhase,
    },
    /// The environment no longer matches the rollback's plan.
    #[error("the rollback cannot start as planned: {}", join_problems(problems))]
    StartBlocked {
        /// Differences from the plan.
        problems: Vec<StartProblem>,
        /// Current plan to the same point, if there is one.
        planned: Option<Arc<Planned>>,
    },
    /// The start of a rollback has `acknowledge`, and its sender is not a person. Holds the name of the actor.
    #[error(
        "{} is not a person: only a person may start a rollback with acknowledge; omit acknowledge, or let a person \
         start it",
        .0.as_ref().map_or("the sender", ShortText::as_str)
    )]
    AcknowledgeNeedsPerson(Option<ShortText>),
    /// The failed check that triggered the rollback has been corrected.
    #[error("the failed check at position {0}, which triggered the rollback, has been corrected")]
    CauseCorrected(Position),
    /// A failed check of an artifact is not the latest result for anything that runs in the environment. The rollback
    /// controller then records no response; no other client receives this rejection.
    #[error(
        "the failed check at position {cause} is not the latest result for anything that runs in {environment}"
    )]
    NotRunning {
        /// Position of the failed check.
        cause: Position,
        /// The environment.
        environment: EnvironmentName,
    },
    /// A step of the rollback no longer matches its plan.
    #[error("the step is blocked: {}", join_problems(problems))]
    StepBlocked {
        /// Differences from the plan.
        problems: Vec<StartProblem>,
    },
    /// The rollback does not exist.
    #[error("rollback {0} of {1} does not exist")]
    UnknownRollback(ShortText, EnvironmentName),
    /// The rollback's state does not permit this transition.
    #[error(transparent)]
    RollbackState(TransitionError),
    /// The point does not exist.
    #[error("{0}")]
    UnknownPoint(String),
    /// The composition at the position is not marked.
    #[error("the release point at position {0} is not marked")]
    NotMarked(Position),
    /// The artifact to reinstate is not revoked.
    #[error("artifact {} is not revoked", .0.as_str())]
    NotRevoked(Artifact),
    /// The policy is inconsistent, or is not the one that the request names.
    #[error("invalid policy: {0}")]
    Policy(String),
    /// The freeze is already active, is not active, or ends before it starts.
    #[error("{0}")]
    Freeze(String),
    /// The event's source is reserved for the ledger.
    #[error("the source {} is reserved for the ledger", .0.as_str())]
    ReservedSource(Source),
    /// The requester that the event states is not its authenticated sender.
    #[error(
        "the event states that {0} requests the rollback, but {1} sends it; leave initiated_by to the service"
    )]
    NotTheRequester(ShortText, ShortText),
    /// Events of this kind belong to other tenants.
    #[error("events {0} are recorded by {list} only", list = tenants_of(*.0))]
    OtherTenant(Kind),
    /// The event may come only from the rollback controller.
    #[error("only the rollback controller may request an automatic rollback, name its cause, or decline one")]
    NotTheController,
    /// The event may come only from the deliverer of webhooks.
    #[error("only the service itself records that it gave up a subscription; to end it, remove it")]
    NotTheDeliverer,
    /// The subscription does not exist.
    #[error("subscription {0} does not exist")]
    UnknownSubscription(SubscriptionName),
    /// The tenant has as many subscriptions as it may have.
    #[error("the tenant has {0} subscriptions, the most that are possible; remove one first")]
    TooManySubscriptions(usize),
    /// The event would exceed the size limit. Holds the number of steps of its plan.
    #[error("a plan of {0} steps does not fit into one event; restrict it to some services or targets")]
    TooLarge(usize),
}

/// Describes the tenants that record events of a kind.
fn tenants_of(kind: Kind) -> String {
    let is_about_access = matches!(kind.family(), Family::Token | Family::Grant | Family::Tenant);
    if is_about_access { format!("the tenant {}", TenantName::admin()) } else { "other tenants".into() }
}

fn describe_existing(rollback_id: &ShortText, position: Position, phase: RollbackPhase) -> String {
    let state = if phase.is_active() { "is" } else { "has ended:" };
    let phase = phase.name();
    format!("rollback {rollback_id} exists for another request (position {position}); it {state} {phase}")
}

fn join_problems(problems: &[StartProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn join_blockers(planned: &Planned, force: bool) -> String {
    planned.blockers(force).map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reason why a request is rejected or cannot be decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecisionError {
    #[error(transparent)]
    Rejected(Box<Rejection>),
    #[error(transparent)]
    Projections(ledger_projections::Error),
    /// The search for a known-good point took too long.
    #[error("the search for a known-good point of {0} took too long")]
    SearchTimedOut(EnvironmentName),
}

impl From<Rejection> for DecisionError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl From<ledger_projections::Error> for DecisionError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Projections(error)
    }
}

impl From<QueryError> for DecisionError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Projections(error) => Self::Projections(error),
            QueryError::SearchTimedOut { environment, .. } => Self::SearchTimedOut(environment),
            other => Rejection::UnknownPoint(other.to_string()).into(),
        }
    }
}

impl From<PlanError> for DecisionError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Query(error) => error.into(),
            other => Rejection::UnknownPoint(other.to_string()).into(),
        }
    }
}

impl From<TransitionError> for DecisionError {
    fn from(error: TransitionError) -> Self {
        Rejection::RollbackState(error).into()
    }
}
