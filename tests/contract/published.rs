//! Every example that was ever published stays, as it was, and is read for ever: `schemas/examples.lock`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use ledger_codec::cloudevents::Envelope;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas");

/// A line for each example: its type, and the SHA-256 of its canonical form as published. Each is read like a stored
/// entry, also when the rules for new events become stricter.
fn shown() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in fs::read_dir(format!("{SCHEMAS}/events")).expect("schemas/events") {
        let path = file.expect("a file").path();
        let text = fs::read(&path).expect("a schema");
        let schema: Value = serde_json::from_slice(&text).expect("JSON");
        for example in schema["examples"].as_array().into_iter().flatten() {
            let bytes = serde_json_canonicalizer::to_vec(example).expect("canonical JSON");
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            Envelope::stored(bytes.into())
                .unwrap_or_else(|why| panic!("{}: {}: {why}", path.display(), example["id"]));
            let kind = example["type"].as_str().expect("a type");
            lines.insert(format!("{kind} {digest}"));
        }
    }
    lines
}

#[test]
fn no_example_that_was_published_is_changed_or_lost() {
    let path = PathBuf::from(SCHEMAS).join("examples.lock");
    let locked = || -> BTreeSet<String> {
        fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    let shown = shown();
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        let all: Vec<String> = locked().union(&shown).cloned().collect();
        fs::write(&path, all.join("\n") + "\n").expect("the lock is written");
    }
    let locked = locked();
    let lost: Vec<&String> = locked.difference(&shown).collect();
    assert!(
        lost.is_empty(),
        "published examples are read for ever: put back what was changed or removed: {lost:?}"
    );
    let new: Vec<&String> = shown.difference(&locked).collect();
    assert!(
        new.is_empty(),
        "publish them, for good: `UPDATE=1 cargo test -p ledger-tests --test contract`: {new:?}"
    );
}
