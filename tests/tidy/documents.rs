//! What README.md and ARCHITECTURE.md speak of is there.

use crate::refuse;
use crate::tree::{read, root};

const DOCUMENTS: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

/// Where a path may begin: the root, or among the services, as ARCHITECTURE.md does.
const BASES: [&str; 2] = ["", "services"];

/// Made by running something: not there in a fresh clone.
const MADE: [&str; 1] = ["target"];

/// What is before the slash of a media type.
const MEDIA: [&str; 3] = ["application", "text", "image"];

#[test]
fn documents_speak_of_files_that_exist() {
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        for (line, path) in mentioned(&read(&root().join(document))) {
            if !BASES.iter().any(|base| root().join(base).join(&path).exists()) {
                wrong.push(format!("{document}:{line}: {path}"));
            }
        }
    }
    refuse(
        &wrong,
        "The document names a file that is not there: correct it (paths begin at the root, or below services/).",
    );
}

/// The paths that the text mentions, each with its line: in `code`, and in blocks where they begin with
/// a folder of ours.
fn mentioned(text: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut in_block = false;
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let ours = text.split_whitespace().filter_map(path).filter(|path| begins_in_the_root(path));
            paths.extend(ours.map(|path| (line, path.to_owned())));
        } else {
            let code = text.split('`').skip(1).step_by(2);
            let first_words = code.filter_map(|code| code.split_whitespace().next());
            paths.extend(first_words.filter_map(path).map(|path| (line, path.to_owned())));
        }
    }
    paths
}

/// The word, if it is a path inside of the project.
fn path(word: &str) -> Option<&str> {
    let word = word.strip_prefix("./").unwrap_or(word).trim_end_matches(['/', ',', ':', ';', '.']);
    let (top, _) = word.split_once('/')?;
    let is_plain =
        word.chars().all(|character| character.is_ascii_alphanumeric() || "._-/".contains(character));
    let is_elsewhere = top.is_empty() || top == ".." || MADE.contains(&top) || MEDIA.contains(&top);
    (is_plain && !is_elsewhere).then_some(word)
}

fn begins_in_the_root(path: &str) -> bool {
    path.split('/').next().is_some_and(|top| root().join(top).is_dir())
}

#[test]
fn a_path_is_told_from_what_only_has_a_slash() {
    let text = "Run `ops/test --fast`; `domain/src/` is pure.\nNot `GET /v1/events`, `application/json`, `and`.\n\
                ```sh\nops/quickstart --stay # either/or\n```\n";
    let found = [(1, "ops/test"), (1, "domain/src"), (4, "ops/quickstart")];
    assert_eq!(mentioned(text), found.map(|(line, path)| (line, path.to_owned())));
}
