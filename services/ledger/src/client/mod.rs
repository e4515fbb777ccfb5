//! The commands that talk to a running service over its HTTP API.
//!
//! Owns what they say and how they are answered on a terminal. Invariants: the answer goes to stdout
//! and everything else to stderr; with `--json` stdout has JSON and nothing else; an event that was
//! not recorded makes the command fail.

mod answer;
mod backtest;
mod chunk;
mod connection;
mod delivery;
mod demo;
mod diff;
mod emit;
mod history;
mod import;
mod output;
mod position;
mod problem;
mod progress;
mod query;
mod state;
mod table;

pub use backtest::Backtest;
pub use connection::{Client, Connection, Error};
pub use delivery::Delivered;
pub use demo::{Demo, play};
pub use diff::Diff;
pub use emit::Emit;
pub use history::History;
pub use import::{Import, ImportReleases};
pub use position::ShowPosition;
pub use problem::Problem;
pub use state::State;
