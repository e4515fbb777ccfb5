//! Files that are numbered and never renumbered: migrations and decisions.

use std::path::PathBuf;

use crate::refuse;
use crate::tree::{files, read, root, shown};

/// The files of a folder, which is not empty.
fn numbered(folder: &str) -> Vec<PathBuf> {
    let files = files(&root().join(folder));
    assert!(!files.is_empty(), "there is something in {folder}");
    files
}

/// What is wrong with the names: `NNNN`, a separator, words, and an ending, from 0001 on.
fn misnamed(files: &[PathBuf], separator: char, ending: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, number) in files.iter().zip(1..) {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        let start = format!("{number:04}{separator}");
        let words = name.strip_prefix(&start).and_then(|words| words.strip_suffix(ending));
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if !words.is_some_and(|words| words.split(separator).all(is_word)) {
            wrong.push(format!("{} should be {start}some{separator}words{ending}", shown(path)));
        }
    }
    wrong
}

#[test]
fn migrations_are_numbered_without_holes() {
    for folder in ["migrations/registry", "migrations/projections"] {
        refuse(
            &misnamed(&numbered(folder), '_', ".sql"),
            "Give the migration the next free number and words in lower case.",
        );
    }
}

#[test]
fn decisions_are_numbered_without_holes() {
    refuse(
        &misnamed(&numbered("services/decisions"), '-', ".md"),
        "Give the decision the next free number and words in lower case.",
    );
}

#[test]
fn decisions_begin_with_their_status() {
    let mut wrong = numbered("services/decisions");
    wrong.retain(|path| !read(path).lines().take(3).any(|line| line.starts_with("Status: ")));
    let wrong: Vec<_> = wrong.iter().map(|path| shown(path)).collect();
    refuse(&wrong, "Say `Status: ` (accepted, or superseded by NNNN) in the decision's first three lines.");
}
