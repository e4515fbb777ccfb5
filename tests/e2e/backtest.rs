//! The command `backtest`.

use ledger_tests::{Servers, Service, deploy, run};
use serde_json::json;

use crate::PROGRAM;

#[tokio::test]
async fn the_command_backtests_a_policy_from_a_file() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    for (hour, environment, version) in
        [(10, "production", "v1"), (11, "staging", "v2"), (12, "production", "v2")]
    {
        let at = format!("2026-08-01T{hour}:00:00Z");
        client.record_and_wait(&deploy(&at, &at, environment, "web", version)).await;
    }
    let file = servers.folder().join("policy.json");
    std::fs::write(&file, r#"{"promotion": {"from": ["staging"]}}"#).expect("the policy is written");
    let (file, url) = (file.to_string_lossy(), format!("--url={}", service.url()));

    let report =
        run(PROGRAM, &["backtest", &file, "--environment=production", "--after=1", &url, "--json"]).await;

    assert_eq!(
        (&report["deploys"], &report["stopped"], &report["allowed"]),
        (&json!(1), &json!(1), &json!(0)),
        "{report}"
    );
    assert_eq!(report["stopped_deploys"][0]["position"], 3, "{report}");
}
