//! Stories, end to end: real servers, the program as a process. A promise of the design is a test
//! named after it.

mod archive;
mod backtest;
mod bad_input;
mod execute;
mod history;
mod horizon;
mod killed_imports;
mod manifests;
mod plans;
mod promises;
mod questions;
mod real_history;
mod real_rollbacks;
mod roles;
mod rollback;
mod rollback_commands;
mod settings;
mod varied;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");
