//! Postgres read models, projected from the journal. `tables` has one file per read model, with its rows and the
//! queries that need only it; `queries` reads across tables; `projector` applies entries; `generations` builds,
//! switches and drops whole sets of tables.
//!
//! Invariants: no other crate contains SQL. One transaction writes the rows of a batch and the position. An answer is
//! read in one statement or one snapshot, so it is correct for the position it carries.

mod bulk_insert;
mod generations;
mod key;
mod postgres;
mod projector;
mod queries;
mod sql;
mod tables;

pub use generations::digest::{RowDifference, TableDigest};
pub use generations::rebuild::{GenerationRow, Rebuild, RebuildError, generations};
pub use generations::rebuilder::{Comparison, Origin, Progress};
pub use generations::registry::FollowerCheckpoint;
pub use generations::supervisor::{ProjectionSupervisor, SupervisorConfig};
pub use generations::verify::{Difference, VerifiedRange, VerifyError};
pub use generations::watcher::GenerationWatcher;
pub use postgres::{Error, Projections, SchemaVersion, Settings};
pub use projector::checkpoint::{Checkpoint, Waited};
pub use projector::status::{ProjectorStatus, StopReason};
pub use queries::marks::{DeployVote, Marks};
pub use queries::points::{AsKnownAt, Point, PointCursor};
pub use queries::snapshot::Snapshot;
pub use tables::check_results::LaneRelease;
pub use tables::clock_skews::ClockSkew;
pub use tables::environments::EnvironmentRow;
pub use tables::events::{EntryLocation, EventFilter, EventRow, PAGE_BYTES};
pub use tables::lanes::{AsOf, EnvironmentState, KnownAtNotAllowed, LaneState, QueryError};
pub use tables::policies::PolicyInForce;
pub use tables::rollbacks::{Report, RollbackFilter, RollbackRow};
