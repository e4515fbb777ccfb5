//! End-to-end tests with real servers and the program as a process. Each promise of the design has a test that is named
//! after it.

mod address;
mod approved_deploy;
mod archive;
mod backtest;
mod bad_input;
mod bounds;
mod browser;
mod cluster;
mod demo;
mod documents;
mod emitters;
mod everyday;
mod execute;
mod generated_clients;
mod gitops;
mod history;
mod imports;
mod kafka;
mod killed_imports;
mod live;
mod mistakes;
mod nats;
mod nats_users;
mod nginx;
mod older_copy;
mod outages;
mod output;
mod ownership;
mod pages;
mod poison;
mod postgres_roles;
mod promises;
mod quarantine;
mod queries;
mod query_plans;
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
mod subscriptions;
mod tenants;
mod tls;
mod up;
mod varied;
mod verbs;
mod wrapped_deploy;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");
/// The same program with the next schema version of the projections.
const NEXT_PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-next-schema");
