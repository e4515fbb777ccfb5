//! The top level of the tree: what is there is decided, and nothing else may be added.

use crate::assert_none;
use crate::tree::root;

/// Files and folders of the top level.
const ENTRIES: [&str; 16] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".config",
    ".gitignore",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "migrations",
    "ops",
    "rustfmt.toml",
    "schemas",
    "services",
    "tests",
];

/// Entries that git ignores, or that are its own.
const IGNORED: [&str; 3] = [".git", ".release-ledger", "target"];

#[test]
fn the_top_level_has_only_what_is_decided() {
    let found = std::fs::read_dir(root()).expect("the tree");
    let names = found.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let others: Vec<String> =
        names.filter(|name| !ENTRIES.contains(&&**name) && !IGNORED.contains(&&**name)).collect();
    assert_none(&others, "Move it into one of the folders, or remove it:");
}
