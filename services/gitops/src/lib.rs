//! The history of a GitOps repository as events of the ledger.
//!
//! A GitOps repository states in its files what is to run. [`History`] walks the first-parent history of a local
//! repository from its oldest commit to its newest, reads the files that [`Rule`]s name, and yields each change of a
//! lane's release as a [`Change`], which [`Change::event`] turns into an event in the ledger's native format.
//!
//! Invariants: a change is the difference between the states of a lane after a commit and after its first parent, so
//! that a merge counts once, with all that it brings. A file that cannot be read never removes anything: its lanes keep
//! what they ran. The same history yields the same events, whichever commit an import begins after. The repository is
//! only read, without configuration or environment of the user.

mod change;
mod document;
mod error;
mod extract;
mod field;
mod history;
mod lanes;
mod pattern;
mod pin;
mod problem;
mod repository;
mod rule;
mod source;
mod tree;

pub use change::{Author, Change, CommitPart};
pub use document::Format;
pub use error::Error;
pub use field::{FieldError, FieldPath};
pub use history::{CommitReport, History, Options};
pub use lanes::LaneKey;
pub use pattern::{PathPattern, PatternError};
pub use pin::{Pin, ValueForm};
pub use problem::{Consequence, Problem};
pub use repository::Repository;
pub use rule::{Extraction, Rule};
