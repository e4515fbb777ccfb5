//! The examples and conformance files of the specification itself, if they are there.
//!
//! The environment variable `CDEVENTS_SPEC_DIR` names a folder with checkouts of `cdevents/spec` by version: `v0.3.0`,
//! `v0.4.1`, `v0.5.1` and `main`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::samples::{effect, name};
use super::{Settings, kind, read_value};

/// The types whose official example has another effect than the sample: the examples passed.
const PASSED: &[&str] = &["testcaserun.finished"];

#[expect(clippy::disallowed_methods, reason = "the specification is not a part of this repository")]
fn files() -> Vec<PathBuf> {
    let Ok(root) = std::env::var("CDEVENTS_SPEC_DIR") else { return Vec::new() };
    let versions = ["v0.3.0", "v0.4.1", "v0.5.1", "main"].map(|version| Path::new(&root).join(version));
    let folders =
        versions.iter().flat_map(|it| ["examples", "conformance", "custom"].map(|folder| it.join(folder)));
    let files = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.retain(|file| {
        file.extension().is_some_and(|it| it == "json") && !file.ends_with("custom/schema.json")
    });
    files.sort();
    files
}

#[test]
#[expect(clippy::print_stderr, reason = "says that the test had nothing to read")]
fn every_official_example_has_the_effect_of_its_type() {
    let files = files();
    if files.is_empty() {
        eprintln!("not checked: CDEVENTS_SPEC_DIR names no folder with the specification");
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        let message: Value = serde_json::from_str(&text).expect("JSON");
        let native = read_value(&message, &Settings::default())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = name(&message);
        let expected = if PASSED.contains(&name.as_str()) { "validation.passed" } else { effect(&name) };
        assert_eq!(kind(&native), expected, "{}", file.display());
    }
}

#[test]
fn every_official_example_is_rejected_with_a_member_too_many_or_too_few() {
    for file in files() {
        let text = fs::read_to_string(&file).expect("a file");
        let message: Value = serde_json::from_str(&text).expect("JSON");
        for (at, member) in [
            ("/context", "id"),
            ("/context", "source"),
            ("/context", "type"),
            ("/context", "timestamp"),
            ("/subject", "id"),
            ("/subject", "content"),
        ] {
            for change in [None, Some(json!(null)), Some(json!(""))] {
                let mut message = message.clone();
                let object = message.pointer_mut(at).and_then(Value::as_object_mut).expect(at);
                match change {
                    None => object.remove(member),
                    Some(value) => object.insert(member.to_owned(), value),
                };
                let error = read_value(&message, &Settings::default()).expect_err("a fault");
                assert_eq!(error.pointer, format!("{at}/{member}"), "{}", file.display());
            }
        }
        for at in ["", "/context", "/subject"] {
            let mut message = message.clone();
            let object = message.pointer_mut(at).and_then(Value::as_object_mut).expect("an object");
            object.insert("extra".to_owned(), json!(1));
            assert!(read_value(&message, &Settings::default()).is_err(), "{}", file.display());
        }
    }
}
