//! Settings from environment variables, among variables of other programs.

use std::process::{Command, Output};

use crate::PROGRAM;

/// Runs a service without a NATS server: it exits after it has read its settings. Returns the error line.
fn serve(environment: &[(&str, &str)]) -> String {
    let Output { status, stderr, .. } = Command::new(PROGRAM)
        .args([
            "serve",
            "--journal-url=nats://127.0.0.1:1",
            "--listen=127.0.0.1:0",
            "--access-authentication=off",
        ])
        .envs(environment.iter().copied())
        .output()
        .expect("the program runs");
    assert!(!status.success());
    let text = String::from_utf8(stderr).expect("UTF-8");
    text.lines().find(|line| line.starts_with("error: ")).expect("an error line").to_owned()
}

#[test]
fn unrelated_environment_variables_are_ignored() {
    let error = serve(&[
        ("RELEASE_LEDGER_DATA_DIR", "/somewhere"),
        ("RELEASE_LEDGER_PORT", "tcp://10.0.0.1:8080"),
        ("RELEASE_LEDGER_SERVICE_HOST", "10.0.0.1"),
    ]);
    assert!(error.contains("no NATS server answers at nats://127.0.0.1:1"), "{error}");
}

#[test]
fn lists_are_separated_by_commas() {
    let error = serve(&[("RELEASE_LEDGER_TENANTS", "acme, glo bex")]);
    assert!(error.contains("' ' is not allowed here"), "{error}");
    let error = serve(&[("RELEASE_LEDGER_TENANTS", "acme,globex"), ("RELEASE_LEDGER_ROLES", "http")]);
    assert!(error.contains("no NATS server answers"), "{error}");
}

#[test]
fn an_unknown_setting_is_named_with_the_right_one() {
    let error = serve(&[("RELEASE_LEDGER_JOURNAL__REPLICA", "3")]);
    assert!(error.starts_with("error: unknown setting journal.replica in "), "{error}");
    assert!(error.ends_with("; did you mean journal.replicas?"), "{error}");
    let error = serve(&[("RELEASE_LEDGER_JOURNAL_REPLICAS", "3")]);
    assert!(error.ends_with("did you mean RELEASE_LEDGER_JOURNAL__REPLICAS?"), "{error}");
}
