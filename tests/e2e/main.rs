//! Stories, end to end: real servers, the program as a process. A promise of the design is a test
//! named after it.

mod archive;
mod backtest;
mod bad_input;
mod cluster;
mod demo;
mod emitters;
mod execute;
mod history;
mod horizon;
mod imports;
mod killed_imports;
mod manifests;
mod nats_users;
mod outages;
mod ownership;
mod plans;
mod poison;
mod promises;
mod questions;
mod real_history;
mod real_rollbacks;
mod rebuild;
mod replica;
mod replicas;
mod roles;
mod rollback;
mod rollback_commands;
mod settings;
mod spool;
mod varied;
mod wrapped_deploy;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");
/// The same, as it would be if its next version gave the projections another form.
const NEXT_PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-of-next-form");
