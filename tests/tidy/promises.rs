//! The promises of the design. Each has an end-to-end test with its name, and a line in the README.

use crate::assert_none;
use crate::tree::{files, is_rust, read, root};

/// Names of the promises. Do not remove one; its test may become stricter.
const PROMISES: &[&str] = &[
    "acknowledged_is_durable",
    "once",
    "projections_are_a_function_of_the_log",
    "a_point_in_the_past_does_not_change",
    "immutable_and_provable",
    "no_silent_rollback",
    "no_planned_downtime",
    "bad_input_is_rejected_without_side_effects",
    "only_who_may_does",
];

#[test]
fn every_promise_has_a_test_with_its_name() {
    let stories = files(&root().join("tests/e2e"));
    let tests: Vec<_> =
        stories.iter().filter(|path| is_rust(path)).flat_map(|path| tests_of(&read(path))).collect();
    let mut violations = PROMISES.to_vec();
    violations.retain(|promise| !tests.iter().any(|test| test == promise));
    let violations: Vec<_> = violations.iter().map(|promise| format!("async fn {promise}()")).collect();
    assert_none(
        &violations,
        "Write the test in tests/e2e, as a #[tokio::test] that demonstrates the promise:",
    );
}

#[test]
fn the_readme_names_the_test_of_every_promise() {
    let readme = read(&root().join("README.md"));
    let mut violations = PROMISES.to_vec();
    violations.retain(|promise| !readme.contains(&format!("`{promise}`")));
    let violations: Vec<_> = violations.iter().map(|promise| format!("`{promise}`")).collect();
    assert_none(&violations, "State the promise in README.md, with the name of its test:");
}

/// Returns the names of the asynchronous tests.
fn tests_of(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(function) = line.strip_prefix("async fn ") {
            let name = function.split('(').next().filter(|_| is_test);
            names.extend(name.map(str::to_owned));
            is_test = false;
        }
    }
    names
}
