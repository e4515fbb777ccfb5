//! The published OpenAPI document must match the handlers.

use std::fs;

use crate::tree::root;

#[test]
fn the_openapi_document_matches_the_handlers() {
    let path = root().join("schemas/http/openapi.json");
    let document = ledger_api::document();
    let actual = serde_json::to_string_pretty(&document).expect("serialize the document") + "\n";
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("create the folder");
        fs::write(&path, &actual).expect("write the document");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    let line = published.lines().zip(actual.lines()).position(|(published, actual)| published != actual);
    assert!(
        published == actual,
        "schemas/http/openapi.json differs from the handlers, from line {} on. If the API is meant to change, \
         run `UPDATE=1 cargo test -p ledger-tests --test tidy`, and review the difference as a client would.",
        line.unwrap_or(published.lines().count().min(actual.lines().count())) + 1
    );
}
