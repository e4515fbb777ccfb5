//! Files that are numbered and never renumbered: migrations and decisions.

use std::path::PathBuf;

use crate::assert_none;
use crate::tree::{files, read, relative, root};

/// Returns the files of a folder, which must not be empty.
fn numbered(folder: &str) -> Vec<PathBuf> {
    let files = files(&root().join(folder));
    assert!(!files.is_empty(), "{folder} has files");
    files
}

/// Returns a message for each name that is not `NNNN`, a separator, words and an ending, numbered from 0001.
fn misnamed(files: &[PathBuf], separator: char, ending: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, number) in files.iter().zip(1..) {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        let start = format!("{number:04}{separator}");
        let words = name.strip_prefix(&start).and_then(|words| words.strip_suffix(ending));
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !words.is_some_and(|words| words.split(separator).all(is_word)) {
            violations.push(format!("{} should be {start}some{separator}words{ending}", relative(path)));
        }
    }
    violations
}

#[test]
fn migrations_are_numbered_without_gaps() {
    for folder in ["migrations/registry", "migrations/projections"] {
        assert_none(
            &misnamed(&numbered(folder), '_', ".sql"),
            "Rename the migration: next free number, lower-case words.",
        );
    }
}

#[test]
fn decisions_are_numbered_without_gaps() {
    assert_none(
        &misnamed(&numbered("services/decisions"), '-', ".md"),
        "Rename the decision: next free number, lower-case words.",
    );
}

#[test]
fn decisions_start_with_their_status() {
    let mut violations = numbered("services/decisions");
    violations.retain(|path| !read(path).lines().take(3).any(|line| line.starts_with("Status: ")));
    let violations: Vec<_> = violations.iter().map(|path| relative(path)).collect();
    assert_none(
        &violations,
        "Write `Status: ` (accepted, or superseded by NNNN) in one of the first three lines of the decision.",
    );
}
