//! What every Rust file keeps to.

use crate::refuse;
use crate::tree::{read, rust_files, shown};

/// Above this, a file holds more than one thing.
const LINES: usize = 700;

/// What must not stay, and what to do instead. In halves, or this file would be the first to break it.
const BANNED: &[(&str, &str)] = &[
    (concat!("to", "do!"), "write it, or leave it out"),
    (concat!("unimpl", "emented!"), "write it, or leave it out"),
    (concat!("db", "g!"), "remove it, or trace"),
    (concat!("#[al", "low("), "#[expect(…, reason = \"…\")], which tells when it is needed no more"),
    (concat!("#![al", "low("), "#![expect(…, reason = \"…\")], which tells when it is needed no more"),
    (concat!("#[ig", "nore"), "repair the test, or remove it"),
    (concat!("FIX", "ME"), "repair it, or file an issue"),
    (concat!("XX", "X"), "repair it, or file an issue"),
];

#[test]
fn every_file_begins_with_what_it_is() {
    let mut wrong: Vec<_> = rust_files();
    wrong.retain(|path| !read(path).starts_with("//! "));
    let wrong: Vec<_> = wrong.iter().map(|path| shown(path)).collect();
    refuse(&wrong, "Begin the file with `//!`: what it owns, and what always holds.");
}

#[test]
fn no_file_is_longer_than_its_reader_can_bear() {
    let long = rust_files().into_iter().map(|path| (read(&path).lines().count(), path));
    let wrong = long.filter(|(lines, _)| *lines > LINES);
    let wrong: Vec<_> = wrong.map(|(lines, path)| format!("{}: {lines} lines", shown(&path))).collect();
    refuse(&wrong, &format!("More than {LINES} lines: move a noun, or the tests, to a file of their own."));
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        for (line, text) in read(&path).lines().enumerate() {
            let found = BANNED.iter().filter(|(banned, _)| text.contains(banned));
            wrong.extend(
                found.map(|(banned, instead)| format!("{}:{}: {banned}: {instead}", shown(&path), line + 1)),
            );
        }
    }
    refuse(&wrong, "These must not stay:");
}
