//! Settings from the environment, which other programs write to as well.

use std::process::{Command, Output};

use crate::PROGRAM;

/// Runs a service for which no NATS is there: it ends as soon as its settings are read.
fn serve(environment: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } = Command::new(PROGRAM)
        .args(["serve", "--journal-url=nats://127.0.0.1:1", "--listen=127.0.0.1:0"])
        .envs(environment.iter().copied())
        .output()
        .expect("the program runs");
    assert!(!status.success());
    let text = String::from_utf8(stderr).expect("UTF-8");
    text.lines().find(|line| line.starts_with("error: ")).expect("one line says why").to_owned()
}

#[test]
fn variables_that_are_no_settings_are_left_alone() {
    let told = serve(&[
        ("RELEASE_LEDGER_DATA_DIR", "/somewhere"),
        ("RELEASE_LEDGER_PORT", "tcp://10.0.0.1:8080"),
        ("RELEASE_LEDGER_SERVICE_HOST", "10.0.0.1"),
    ]);
    assert!(told.contains("no NATS server answers at nats://127.0.0.1:1"), "{told}");
}

#[test]
fn lists_are_separated_by_commas() {
    let told = serve(&[("RELEASE_LEDGER_TENANTS", "acme, glo bex")]);
    assert!(told.contains("' ' is none of them"), "{told}");
    let told = serve(&[("RELEASE_LEDGER_TENANTS", "acme,globex"), ("RELEASE_LEDGER_ROLES", "http")]);
    assert!(told.contains("no NATS server answers"), "{told}");
}

#[test]
fn a_setting_that_is_not_known_is_named() {
    let told = serve(&[("RELEASE_LEDGER_JOURNAL__REPLICA", "3")]);
    assert!(told.contains("replica"), "{told}");
}
