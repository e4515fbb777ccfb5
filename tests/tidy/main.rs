//! The rules of the house, each a test whose message says what to do about it.
//!
//! A rule reads the tree and `cargo metadata`, nothing else: no server, no network. It names everything
//! that breaks it at once, and it fails where it finds nothing to judge.

mod arrows;
mod documents;
mod modules;
mod numbered;
mod openapi;
mod powers;
mod promises;
mod sources;
mod tree;
mod workspace;

/// Fails with all that is wrong, and what to do about it.
#[track_caller]
fn refuse(wrong: &[String], remedy: &str) {
    assert!(wrong.is_empty(), "{remedy}\n  {}", wrong.join("\n  "));
}
