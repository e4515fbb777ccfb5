//! Postgres read models: the ledger, folded. One file a view, with its rows, its fold and its
//! questions.
//!
//! Invariants: SQL stands nowhere but in this crate; a batch's rows and the position are written in
//! one transaction; an answer is read in one statement, so it is true for the position it carries.

mod copy;
mod database;
mod environments;
mod events;
mod hindrances;
mod key;
mod lanes;
mod marks;
mod observations;
mod points;
mod policies;
mod projection;
mod projector;
mod rollbacks;
mod snapshot;
mod tree;
mod verdicts;

pub use database::{Error, Settings, Views};
pub use environments::EnvironmentRow;
pub use events::{EventFilter, EventRow, Known};
pub use lanes::{AskError, EnvironmentState, LaneState, When};
pub use marks::Marks;
pub use points::{Believed, Point, Walk};
pub use policies::PolicyInForce;
pub use projection::{Standing, Waited};
pub use projector::{Projector, Status, Stopped};
pub use rollbacks::{Report, RollbackFilter, RollbackRow};
pub use snapshot::Snapshot;
pub use verdicts::Ran;

/// Every SQL statement of the crate with its place: a test prepares them all.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    [
        copy::STATEMENTS,
        environments::STATEMENTS,
        events::STATEMENTS,
        hindrances::STATEMENTS,
        lanes::STATEMENTS,
        marks::STATEMENTS,
        observations::STATEMENTS,
        points::STATEMENTS,
        policies::STATEMENTS,
        projection::STATEMENTS,
        rollbacks::STATEMENTS,
        snapshot::STATEMENTS,
        tree::STATEMENTS,
        verdicts::STATEMENTS,
    ]
    .concat()
}
