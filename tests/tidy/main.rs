//! Rules for the source tree, each a test whose message says how to fix a violation.
//!
//! A rule reads the tree and `cargo metadata`; it needs no server and no network. It reports all violations at once,
//! and fails if it finds nothing to check.

mod arrows;
mod cycles;
mod dependencies;
mod documents;
mod modules;
mod numbered;
mod openapi;
mod promises;
mod scripts;
mod sources;
mod top_level;
mod tree;
mod words;
mod workspace;

/// Panics with the remedy and all violations, unless there are none.
#[track_caller]
fn assert_none(violations: &[String], remedy: &str) {
    assert!(violations.is_empty(), "{remedy}\n  {}", violations.join("\n  "));
}
