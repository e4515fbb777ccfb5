//! The commands that talk to a running service over its HTTP API.
//!
//! Owns what they say and how they are answered on a terminal. Invariants: the answer goes to stdout
//! and everything else to stderr; with `--json` stdout has JSON and nothing else; an event that was
//! not recorded makes the command fail.

mod actor;
mod answer;
mod backtest;
mod chunk;
mod connection;
mod delivery;
mod demo;
mod diff;
mod emit;
mod execution;
mod gate;
mod history;
mod import;
mod output;
mod patience;
mod plan;
mod position;
mod problem;
mod progress;
mod query;
mod rebuild;
mod report;
mod rollback;
mod state;
mod stream;
mod table;

pub use backtest::Backtest;
pub use connection::{Client, Connection, Error};
pub use delivery::Delivered;
pub use demo::{Demo, play};
pub use diff::Diff;
pub use emit::Emit;
pub use gate::{Gate, GateRefused};
pub use history::History;
pub use import::{Import, ImportReleases};
pub use position::ShowPosition;
pub use problem::Problem;
pub use rebuild::Environment;
pub use rollback::Rollback;
pub use state::State;
