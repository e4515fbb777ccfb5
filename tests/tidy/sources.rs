//! Rules for every Rust file.

use crate::assert_none;
use crate::tree::{read, relative, rust_files};

/// Maximum number of lines of a file.
const MAX_LINES: usize = 700;

/// Unfinished or forbidden code, in two halves so that this file does not contain it, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    (concat!("to", "do!"), "implement it, or remove it"),
    (concat!("unimpl", "emented!"), "implement it, or remove it"),
    (concat!("db", "g!"), "remove it, or use tracing"),
    (concat!("#[al", "low("), "#[expect(…, reason = \"…\")], which warns when it is no longer needed"),
    (concat!("#![al", "low("), "#![expect(…, reason = \"…\")], which warns when it is no longer needed"),
    (concat!("#[ig", "nore"), "fix the test, or remove it"),
    (concat!("FIX", "ME"), "fix it, or file an issue"),
    (concat!("XX", "X"), "fix it, or file an issue"),
];

#[test]
fn every_file_starts_with_a_module_doc() {
    let mut violations: Vec<_> = rust_files();
    violations.retain(|path| !read(path).starts_with("//! "));
    let violations: Vec<_> = violations.iter().map(|path| relative(path)).collect();
    assert_none(&violations, "Start the file with `//!`: what it owns, and its invariants.");
}

#[test]
fn no_file_is_too_long() {
    let long = rust_files().into_iter().map(|path| (read(&path).lines().count(), path));
    let violations = long.filter(|(lines, _)| *lines > MAX_LINES);
    let violations: Vec<_> =
        violations.map(|(lines, path)| format!("{}: {lines} lines", relative(&path))).collect();
    assert_none(
        &violations,
        &format!("More than {MAX_LINES} lines: move a type, or the tests, to another file."),
    );
}

#[test]
fn sources_have_no_unfinished_or_forbidden_code() {
    let mut violations = Vec::new();
    for path in rust_files() {
        for (line, text) in read(&path).lines().enumerate() {
            let found = BANNED.iter().filter(|(banned, _)| text.contains(banned));
            violations.extend(
                found.map(|(banned, instead)| {
                    format!("{}:{}: {banned}: {instead}", relative(&path), line + 1)
                }),
            );
        }
    }
    assert_none(&violations, "Remove these:");
}
