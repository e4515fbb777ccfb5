//! Words that sources, documents and messages must not use.

use std::path::PathBuf;

use crate::assert_none;
use crate::tree::{files, read, relative, root};

/// A word of the private dialect, in two parts so that this file does not contain it, and its replacement.
const BANNED: &[(&str, &str, &str)] = &[
    ("who", "ever", "the client, the worker, a caller"),
    ("what", "ever", "any, everything"),
    ("no", "body", "no client, no process, no person"),
    ("a", "new", "again, from scratch"),
    ("late", "ly", "recently"),
    ("far", "es", "the health of"),
    ("is ", "told", "is notified, receives"),
    ("tells ", "of", "reports"),
    ("goes ", "on", "continues"),
    ("comes ", "to", "reaches, becomes"),
    ("is there ", "already", "exists"),
    ("as ", "it is", "unchanged, as stored"),
    ("that ", "it is", "name the state"),
    ("by it", "self", "automatically, alone"),
];

/// Extensions of the checked files; files without an extension, such as scripts, are checked as well.
const EXTENSIONS: [&str; 6] = ["rs", "md", "sql", "toml", "json", "conf"];
/// Files in which a word stays: a Unix user, and data that was published or is compared byte for byte.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("services/devstack/src/account.rs", "no", "body"),
    ("services/demo/src/world.rs", "no", "body"),
    ("schemas/events/environment.declared.json", "by it", "self"),
    ("schemas/http/openapi.json", "by it", "self"),
];

/// Folders of the checked files. Some files of the root are checked as well.
const FOLDERS: [&str; 5] = ["services", "schemas", "migrations", "tests", "ops"];

#[test]
fn sources_and_documents_use_plain_words() {
    let mut violations = Vec::new();
    for path in texts() {
        let text = read(&path).to_lowercase();
        for (line, text) in (1..).zip(text.lines()) {
            for (start, end, instead) in BANNED {
                let word = format!("{start}{end}");
                let is_exception = EXCEPTIONS
                    .iter()
                    .any(|(file, first, last)| relative(&path) == *file && (start, end) == (first, last));
                if has_word(text, &word) && !is_exception {
                    violations.push(format!("{}:{line}: {word}: {instead}", relative(&path)));
                }
            }
        }
    }
    assert_none(&violations, "Write it in plain words (a suggestion follows each):");
}

/// Returns the checked files.
fn texts() -> Vec<PathBuf> {
    let mut texts: Vec<_> = FOLDERS.iter().flat_map(|folder| files(&root().join(folder))).collect();
    texts.extend(["README.md", "ARCHITECTURE.md", "Cargo.toml"].map(|name| root().join(name)));
    texts.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_none_or(|extension| EXTENSIONS.contains(&extension))
            && std::fs::read_to_string(path).is_ok()
    });
    assert!(texts.len() > 100, "the project's texts are found");
    texts
}

/// Returns true if a line contains the word, not as a part of another word.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + word.len()..].chars().next())
    })
}

#[test]
fn a_word_is_not_found_inside_another_word() {
    assert!(has_word("a new one.", "a new"));
    assert!(!has_word("a newer one", "a new"));
    assert!(!has_word("renew", "new"));
    assert!(!has_word("new_entries", "new"));
}
