//! Postgres read models: the ledger, folded. One file a projection, with its rows, its fold and its
//! questions.
//!
//! Invariants: SQL stands nowhere but in this crate; a batch's rows and the position are written in
//! one transaction; an answer is read in one statement, so it is true for the position it carries.

mod generations;
mod key;
mod postgres;
mod projector;
mod queries;
mod tables;

pub use generations::build::{Comparison, RowDifference, Origin, Progress};
pub use generations::digest::TableDigest;
pub use generations::keeper::{ProjectionSupervisor, SupervisorConfig};
pub use generations::rebuild::{GenerationRow, Rebuild, RebuildError, generations};
pub use generations::registry::FollowerCheckpoint;
pub use generations::verify::{Difference, Verified, VerifyError};
pub use generations::watcher::GenerationWatcher;
pub use postgres::{Error, Form, Settings, Projections};
pub use projector::projection::{Standing, Waited};
pub use projector::{Status, Stopped};
pub use queries::marks::{DeployAnswer, Marks};
pub use queries::points::{AsKnownAt, Point, PointCursor};
pub use queries::snapshot::Snapshot;
pub use tables::environments::EnvironmentRow;
pub use tables::events::{EventFilter, EventRow, Known, PAGE_BYTES};
pub use tables::lanes::{QueryError, EnvironmentState, LaneState, AsOf};
pub use tables::policies::PolicyInForce;
pub use tables::rollbacks::{Report, RollbackFilter, RollbackRow};
pub use tables::skews::ClockSkew;
pub use tables::verdicts::LaneRelease;

/// Every SQL statement of the crate with its place: a test prepares them all.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    [
        tables::artifacts::STATEMENTS,
        generations::copy::STATEMENTS,
        tables::corrections::STATEMENTS,
        tables::deploys::STATEMENTS,
        generations::digest::STATEMENTS,
        tables::environments::STATEMENTS,
        tables::events::STATEMENTS,
        queries::evidence::STATEMENTS,
        generations::indexes::STATEMENTS,
        tables::lanes::STATEMENTS,
        tables::live::STATEMENTS,
        queries::marks::STATEMENTS,
        tables::observations::STATEMENTS,
        queries::points::STATEMENTS,
        tables::policies::STATEMENTS,
        projector::projection::STATEMENTS,
        generations::rebuild::STATEMENTS,
        generations::registry::STATEMENTS,
        tables::retirements::STATEMENTS,
        tables::rollbacks::STATEMENTS,
        tables::skews::STATEMENTS,
        queries::snapshot::STATEMENTS,
        queries::stood::STATEMENTS,
        projector::tree::STATEMENTS,
        tables::verdicts::STATEMENTS,
        generations::verify::STATEMENTS,
    ]
    .concat()
}
