//! `schemas/examples.lock`: a published example never changes and stays readable.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use ledger_codec::cloudevents::Envelope;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas");

/// Returns a line for each example: its type and the SHA-256 of its canonical form. Parses each example like a stored
/// entry: this must succeed even if the rules for new events become stricter.
fn examples() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in fs::read_dir(format!("{SCHEMAS}/events")).expect("schemas/events") {
        let path = file.expect("a file").path();
        let text = fs::read(&path).expect("a schema");
        let schema: Value = serde_json::from_slice(&text).expect("JSON");
        for example in schema["examples"].as_array().into_iter().flatten() {
            let bytes = serde_json_canonicalizer::to_vec(example).expect("canonical JSON");
            let digest = hex::encode(Sha256::digest(&bytes));
            Envelope::stored(bytes.into())
                .unwrap_or_else(|why| panic!("{}: {}: {why}", path.display(), example["id"]));
            let kind = example["type"].as_str().expect("a type");
            lines.insert(format!("{kind} {digest}"));
        }
    }
    lines
}

#[test]
fn no_published_example_is_changed_or_removed() {
    let path = PathBuf::from(SCHEMAS).join("examples.lock");
    let locked = || -> BTreeSet<String> {
        fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    let examples = examples();
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        let all: Vec<String> = locked().union(&examples).cloned().collect();
        fs::write(&path, all.join("\n") + "\n").expect("the lock is written");
    }
    let locked = locked();
    let lost: Vec<&String> = locked.difference(&examples).collect();
    assert!(
        lost.is_empty(),
        "published examples must stay readable: restore the changed or removed ones: {lost:?}"
    );
    let new: Vec<&String> = examples.difference(&locked).collect();
    assert!(
        new.is_empty(),
        "publish new examples (this is final): `UPDATE=1 cargo test -p ledger-tests --test contract`: {new:?}"
    );
}
