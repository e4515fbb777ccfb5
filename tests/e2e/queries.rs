//! Queries of a service whose projector is another process, and its health.

use std::collections::BTreeSet;

use ledger_tests::{Servers, Service, deploy};
use serde_json::{Value, json};

use crate::PROGRAM;

fn web() -> Value {
    deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")
}

#[tokio::test]
async fn a_query_waits_for_the_requested_position() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let client = service.client();
    let position = client.record(&web()).await.ok()["position"].clone();
    assert_eq!(position, 1);
    let state = "/v1/environments/production/state?wait_for=1&wait_ms=30000";
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.get(state).await }
    });

    // Another process projects, and does not notify the queried one.
    let _projector = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let response = pending.await.expect("a task");

    assert_eq!((response.status, response.ledger_position), (200, Some(1)));
    assert_eq!(response.body["lanes"][0]["release"]["version"], "v1");
}

#[tokio::test]
async fn the_service_reports_health_and_metrics() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_and_wait(&web()).await;
    client.record(&web()).await.ok();

    client.wait_for_metric("ledger_up{tenant=\"default\",part=\"projections\"}", 1.0).await;
    let (alive, ready) = (client.get("/livez").await, client.get("/readyz").await);
    let metrics = client.get("/metrics").await;

    assert_eq!((alive.status, alive.body), (200, json!({"status": "alive"})));
    assert_eq!((ready.status, ready.body), (200, json!({"status": "ready"})));
    assert!(metrics.content_type.starts_with("text/plain; version=0.0.4"), "{}", metrics.content_type);
    for line in [
        "ledger_head_position{tenant=\"default\"} 1",
        "ledger_projections_position{tenant=\"default\"} 1",
        "ledger_projections_lag_entries{tenant=\"default\"} 0",
        "ledger_up{tenant=\"default\",part=\"journal\"} 1",
        "ledger_up{tenant=\"default\",part=\"projections\"} 1",
        "ledger_events_total{tenant=\"default\",status=\"recorded\"} 1",
        "ledger_events_total{tenant=\"default\",status=\"duplicate\"} 1",
    ] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} in\n{}", metrics.text);
    }
    for start in [
        "ledger_build_info{version=\"",
        "ledger_gaps_total{tenant=\"default\"} 0",
        "ledger_http_requests_total{method=\"POST\",route=\"/v1/events\",status=\"201\"} 2",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_start_time_seconds ",
    ] {
        assert!(metrics.text.lines().any(|found| found.starts_with(start)), "{start} in\n{}", metrics.text);
    }
    let named = |mark: &str| -> BTreeSet<String> {
        let names = metrics.text.lines().filter_map(|line| line.strip_prefix(mark)?.split(' ').next());
        names.map(str::to_owned).collect()
    };
    assert_eq!(named("# HELP "), named("# TYPE "), "every metric says what it means");
}
