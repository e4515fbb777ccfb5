//! The program `release-ledger`: configuration, wiring, roles, shutdown, command line, local stack.
//!
//! Only this crate reads the environment and the clock.

pub mod app;
pub mod archive;
mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod demo;
mod environment;
mod identity;
pub mod local;
pub mod releases;
pub mod restore;
pub mod serve;
mod stream_settings;
pub mod up;
pub mod views;

pub use cli::{run, run_with};
