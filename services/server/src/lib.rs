//! The program `release-ledger`: configuration, wiring, roles, shutdown and command line.

#[cfg(all(feature = "server", target_os = "linux", target_env = "gnu"))]
mod allocator;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod archive;
mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
mod descriptors;
#[cfg(feature = "server")]
pub mod hook;
#[cfg(feature = "server")]
mod kafka;
#[cfg(feature = "server")]
pub mod metric_catalog;
#[cfg(feature = "server")]
mod nats;
#[cfg(feature = "server")]
pub mod projections;
#[cfg(feature = "server")]
mod reload;
#[cfg(feature = "server")]
pub mod restore;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
mod start_error;
#[cfg(feature = "server")]
mod stream_settings;
#[cfg(feature = "server")]
mod tenants;
#[cfg(feature = "server")]
pub mod up;

pub use cli::{run, run_with};
pub use ledger_client::clock;
