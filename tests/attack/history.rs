//! Long histories, written by many bodies of lines.

use ledger_tests::{Client, event};
use serde_json::{Value, json};

/// Number of events in a body.
const BODY_EVENTS: u64 = 20_000;

/// Returns a time: one second after another for each number.
pub(crate) fn time(number: u64) -> String {
    let (days, seconds) = (number / 86_400, number % 86_400);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("2026-0{}-{:02}T{hours:02}:{minutes:02}:{:02}Z", 1 + days / 28, 1 + days % 28, seconds % 60)
}

/// Declares a policy.
pub(crate) async fn declare(client: &Client, environment: &str, policy: Value) {
    let data = json!({"environment": environment, "policy": policy});
    let declared = event(&format!("{environment}-policy"), "environment.declared", &time(0), data);
    client.record_and_wait(&declared).await;
}

/// Records `changes` deploys, each of another release, to some services of an environment by turns.
pub(crate) async fn deploy_many(client: &Client, environment: &str, services: u64, changes: u64) {
    let mut first = 0;
    while first < changes {
        let last = changes.min(first + BODY_EVENTS);
        let line = |number: u64| {
            let service = format!("service-{}", number % services);
            let release = json!({"version": format!("v{number}")});
            let data = json!({"environment": environment, "service": service, "release": release});
            event(&format!("{environment}-{number}"), "deploy.succeeded", &time(number), data).to_string()
        };
        client.record_all(&(first..last).map(line).collect::<Vec<_>>()).await;
        first = last;
    }
}
