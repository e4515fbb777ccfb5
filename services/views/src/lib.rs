//! Postgres read models: the ledger, folded. One file a view, with its rows, its fold and its
//! questions.
//!
//! Invariants: SQL stands nowhere but in this crate; a batch's rows and the position are written in
//! one transaction; an answer is read in one statement, so it is true for the position it carries.

mod database;
mod environments;
mod events;
mod lanes;
mod projection;
mod projector;
mod tree;

pub use database::{Error, Settings, Views};
pub use environments::EnvironmentRow;
pub use events::{EventFilter, EventRow, Known};
pub use lanes::{AskError, EnvironmentState, LaneState, When};
pub use projection::{Standing, Waited};
pub use projector::{Projector, Status, Stopped};

/// Every SQL statement of the crate with its place: a test prepares them all.
#[must_use]
pub fn statements() -> Vec<&'static str> {
    [
        environments::STATEMENTS,
        events::STATEMENTS,
        lanes::STATEMENTS,
        projection::STATEMENTS,
        tree::STATEMENTS,
    ]
    .concat()
}
