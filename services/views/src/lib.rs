//! Postgres read models: the ledger, folded. One file a view, with its rows, its fold and its
//! questions.
//!
//! Invariants: SQL stands nowhere but in this crate; a batch's rows and the position are written in
//! one transaction; an answer is read in one statement, so it is true for the position it carries.

mod artifacts;
mod build;
mod copy;
mod corrections;
mod database;
mod deploys;
mod digest;
mod environments;
mod events;
mod evidence;
mod fold;
mod indexes;
mod keeper;
mod key;
mod lanes;
mod lanes_fold;
mod live;
mod marks;
mod observations;
mod pipeline;
mod points;
mod policies;
mod projection;
mod projector;
mod rebuild;
mod recogniser;
mod registry;
mod retirements;
mod rollbacks;
mod skews;
mod snapshot;
mod stood;
mod tree;
mod verdicts;
mod verify;
mod watcher;

pub use build::{Comparison, LoneRow, Origin, Progress};
pub use database::{Error, Form, Settings, Views};
pub use digest::TableDigest;
pub use environments::EnvironmentRow;
pub use events::{EventFilter, EventRow, Known, PAGE_BYTES};
pub use keeper::{Keeper, Keeping};
pub use lanes::{AskError, EnvironmentState, LaneState, When};
pub use marks::{DeployAnswer, Marks};
pub use points::{Believed, Point, Walk};
pub use policies::PolicyInForce;
pub use projection::{Standing, Waited};
pub use projector::{Status, Stopped};
pub use rebuild::{GenerationRow, Rebuild, RebuildError, generations};
pub use registry::Followed;
pub use rollbacks::{Report, RollbackFilter, RollbackRow};
pub use skews::ClockSkew;
pub use snapshot::Snapshot;
pub use verdicts::Ran;
pub use verify::{Difference, Verified, VerifyError};
pub use watcher::Watcher;

/// Every SQL statement of the crate with its place: a test prepares them all.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    [
        artifacts::STATEMENTS,
        copy::STATEMENTS,
        corrections::STATEMENTS,
        deploys::STATEMENTS,
        digest::STATEMENTS,
        environments::STATEMENTS,
        events::STATEMENTS,
        evidence::STATEMENTS,
        indexes::STATEMENTS,
        lanes::STATEMENTS,
        live::STATEMENTS,
        marks::STATEMENTS,
        observations::STATEMENTS,
        points::STATEMENTS,
        policies::STATEMENTS,
        projection::STATEMENTS,
        rebuild::STATEMENTS,
        registry::STATEMENTS,
        retirements::STATEMENTS,
        rollbacks::STATEMENTS,
        skews::STATEMENTS,
        snapshot::STATEMENTS,
        stood::STATEMENTS,
        tree::STATEMENTS,
        verdicts::STATEMENTS,
        verify::STATEMENTS,
    ]
    .concat()
}
