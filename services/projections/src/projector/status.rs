//! The state of a projector, as health checks report it.

use ledger_domain::Position;

/// State of this process's projector for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectorStatus {
    /// The projector has not started.
    Starting,
    /// Another process projects.
    Standby,
    /// Builds a generation that is not live yet, and has reached this position.
    Building(Position),
    /// Follows the journal.
    Following,
    /// Retries after a failure that may be transient.
    Waiting(String),
    /// Stopped; does not restart automatically.
    Stopped(StopReason),
}

/// Reason why a projector stopped. All but [`StopReason::Cancelled`] need an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// The service shuts down.
    #[error("the service is shutting down")]
    Cancelled,
    /// The journal is not the one that the projections were built from.
    #[error("the journal is not the one that the projections were built from: {0}")]
    Diverged(String),
    /// A newer version of the program wrote an entry, which this one cannot decode.
    #[error("the entry at position {position} cannot be decoded: {reason}")]
    NewerEntry {
        /// Position of the entry.
        position: Position,
        /// Cause of the failure.
        reason: String,
    },
}
