//! Postgres read models, projected from the journal. `tables` has one module per read model, with its rows and the
//! queries that need only it; `queries` reads across tables; `projector` applies entries; `generations` builds,
//! switches and drops whole sets of tables.
//!
//! Invariants: no other crate contains SQL, except devstack, which creates its database. One transaction writes the rows
//! of a batch and the position. A response is read from one generation: in one statement, in one snapshot, or in
//! statements that the position of the first one bounds. So it is correct for the position that it carries.

mod bulk_insert;
mod generations;
mod identities;
mod key;
mod long_computation;
mod postgres;
mod projector;
mod queries;
mod recorded;
mod sql;
mod statements;
mod tables;

pub use generations::digest::{RowDifference, TableDigest};
pub use generations::history::HistoryMark;
pub use generations::lease::Lease;
pub use generations::reads::{ReadFilter, ReadRecord, Reader};
pub use generations::rebuild::{GenerationRow, Rebuild, RebuildError, generations};
pub use generations::rebuilder::{Comparison, Origin, Progress};
pub use generations::registry::FollowerCheckpoint;
pub use generations::schema::SchemaDifference;
pub use generations::sessions::SessionRecord;
pub use generations::supervisor::{ProjectionSupervisor, SupervisorConfig};
pub use generations::tenants::SupervisedTenants;
pub use generations::verify::{Difference, Stall, VerifiedRange, VerifyError};
pub use generations::watcher::{GenerationWatcher, WatchedTenants};
pub use generations::webhooks::{DeliveryAttempt, DeliveryState};
pub use long_computation::compute;
pub use postgres::{Error, Projections, Purpose, SchemaVersion, Settings};
pub use projector::checkpoint::{Checkpoint, Waited};
pub use projector::status::{ProjectorStatus, StopReason};
pub use queries::deploy_frequency::{CalendarUnit, DeployCount, DeployFrequencyQuery};
pub use queries::find::{FoundRun, ReleaseLanes, ReleaseQuery};
pub use queries::freezes::{FreezeEvent, FreezeRow};
pub use queries::marks::{Marks, StatedDeployVote};
pub use queries::points::{AsKnownAt, Point, PointCursor};
pub use queries::search::{KnownGoodSearch, SEARCH_TIMEOUT};
pub use queries::snapshot::Snapshot;
pub use sql::expand_includes;
pub use statements::statements;
pub use tables::artifacts::KnownEventTime;
pub use tables::clock_skews::ClockSkew;
pub use tables::environments::EnvironmentRow;
pub use tables::event_details::{EventDetails, EventNames};
pub use tables::events::{
    EntrySummary, EventFilter, EventRow, KnownEntry, PAGE_BYTES, PageStart, RecordedEntry,
};
pub use tables::foreign_entries::ForeignEntry;
pub use tables::lane_releases::LaneRelease;
pub use tables::lanes::{AsOf, EnvironmentState, KnownAtNotAllowed, LaneState, QueryError};
pub use tables::policies::PolicyInForce;
pub use tables::rollbacks::{Report, RollbackFilter, RollbackRow};
pub use tables::subscriptions::{Disabled, SubscriptionRow};
