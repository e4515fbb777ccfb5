//! The program `release-ledger`: configuration, wiring, roles, shutdown and command line.

pub mod app;
pub mod archive;
mod cli;
pub mod config;
mod descriptors;
pub mod hook;
mod kafka;
pub mod metric_catalog;
mod nats;
pub mod projections;
mod reload;
pub mod restore;
pub mod serve;
mod stream_settings;
pub mod up;

pub use cli::{run, run_with};
pub use ledger_client::clock;
