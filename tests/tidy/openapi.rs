//! The HTTP contract, written down: what the handlers say of themselves.

use std::fs;

use crate::tree::root;

#[test]
fn the_written_api_is_that_of_the_handlers() {
    let path = root().join("schemas/http/openapi.json");
    let document = ledger_api::document();
    let real = serde_json::to_string_pretty(&document).expect("the document is JSON") + "\n";
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder is there");
        fs::write(&path, &real).expect("the document is written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let line = written.lines().zip(real.lines()).position(|(written, real)| written != real);
    assert!(
        written == real,
        "schemas/http/openapi.json is not what the handlers say, from line {} on. If the API is meant to \
         change: `UPDATE=1 cargo test -p ledger-tests --test tidy`, and read the difference as its users will.",
        line.unwrap_or(written.lines().count().min(real.lines().count())) + 1
    );
}
