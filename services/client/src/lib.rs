//! The commands that talk to a running service over its HTTP API.
//!
//! Owns what they say and how they are answered on a terminal. Invariants: the answer goes to stdout
//! and everything else to stderr; with `--json` stdout has JSON and nothing else; an event that was
//! neither recorded nor kept makes the command fail.

mod actor;
mod answer;
mod backtest;
mod chunk;
mod ci;
pub mod clock;
mod connection;
mod delivery;
mod demo;
mod details;
mod diff;
mod drift;
mod emit;
pub mod environment;
mod execution;
mod gate;
mod history;
mod horizon;
pub mod identity;
mod import;
mod manifest;
mod mark;
mod output;
mod patience;
mod plan;
mod points;
mod policy;
mod position;
mod problem;
mod progress;
mod query;
mod rebuild;
mod release;
mod releases;
mod report;
mod rollback;
mod run;
mod spool;
mod state;
mod stream;
pub mod table;
mod targets;

pub use backtest::Backtest;
pub use connection::{Client, Connection, Error};
pub use delivery::Delivered;
pub use demo::{Demo, NotEmpty, play};
pub use diff::Diff;
pub use drift::Drift;
pub use emit::Emit;
pub use gate::{Gate, GateRefused};
pub use history::History;
pub use horizon::Horizon;
pub use import::{Import, ImportReleases};
pub use manifest::Manifest;
pub use mark::{MarkPoint, UnmarkPoint};
pub use points::{Points, ShowPoint};
pub use policy::Policy;
pub use position::ShowPosition;
pub use problem::Problem;
pub use rebuild::Environment;
pub use rollback::Rollback;
pub use run::Run;
pub use spool::Spool;
pub use state::State;
pub use targets::Targets;
