//! Entries that the program did not write: a foreign one stops nothing, and one of a newer version only the projections
//! of its own tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::jetstream::Context;
use ledger_tests::{Client, Command, Outcome, Response, Servers, Service, deploy, jetstream};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::PROGRAM;

/// Maximum lag of the healthy tenant under load, in entries: the events that arrive while a batch is written.
const MAX_LAG: f64 = 500.0;

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", &format!("v-{id}"))
}

async fn record(client: &Client, tenant: &str, id: &str) -> Response {
    let path = format!("/v1/tenants/{tenant}/events");
    client.post(&path, "application/cloudevents+json", web(id).to_string()).await
}

async fn state(client: &Client, tenant: &str, more: &str) -> Response {
    client.get(&format!("/v1/tenants/{tenant}/environments/production/state{more}")).await
}

/// Publishes directly to the stream, bypassing the service.
async fn publish(jetstream: &Context, tenant: &str, payload: String) {
    let subject = format!("ledger.{tenant}.production.web.deploy.succeeded");
    let published = jetstream.publish(subject, payload.into()).await.expect("published");
    published.await.expect("stored");
}

/// Records events of a tenant until `running` is false; returns the responses.
fn load(client: &Client, running: &Arc<AtomicBool>, tenant: &'static str) -> JoinHandle<Vec<Response>> {
    let (client, running) = (client.clone(), Arc::clone(running));
    tokio::spawn(async move {
        let mut responses = Vec::new();
        for number in 0.. {
            if !running.load(Ordering::Relaxed) {
                break;
            }
            responses.push(record(&client, tenant, &format!("load-{number}")).await);
        }
        responses
    })
}

/// Adds an entry of a newer version to one of two tenants under load, and asserts that only the projections of that
/// tenant stop.
async fn assert_stops_only_its_tenant(entry: String, reason: &str) {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=broken,healthy"]).await;
    let client = service.client();
    for tenant in ["broken", "healthy"] {
        assert_eq!(record(&client, tenant, "first").await.status, 201);
        assert_eq!(state(&client, tenant, "?wait_for=1&wait_ms=30000").await.status, 200);
    }
    publish(&jetstream(&servers).await, "broken", entry).await;
    let alarm = client.wait_until_not_ready("position 2").await;

    let running = Arc::new(AtomicBool::new(true));
    let loads = ["broken", "healthy"].map(|tenant| load(&client, &running, tenant));
    let (mut lags, mut healthy, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..40 {
        lags.push(client.metric("ledger_projections_lag_entries{tenant=\"healthy\"}").await.expect("a lag"));
        // Waits for the current head.
        let head = client.metric("ledger_head_position{tenant=\"healthy\"}").await.expect("a head");
        healthy.push(state(&client, "healthy", &format!("?wait_for={head}&wait_ms=30000")).await);
        broken.push(state(&client, "broken", "").await);
    }
    let beyond = state(&client, "broken", "?wait_for=2&wait_ms=100").await;
    let metrics = client.text("/metrics").await;
    let (ready, ingest) = (client.get("/readyz").await, client.get("/readyz/ingest").await);
    running.store(false, Ordering::Relaxed);
    let mut accepted = Vec::new();
    for load in loads {
        let responses = load.await.expect("a task");
        assert!(responses.iter().all(|response| response.status == 201), "all events are accepted");
        accepted.push(responses.len());
    }
    // All entries after position 1, of which the first one cannot be decoded.
    let lag = (1 + accepted[0]) as f64;
    client.wait_for_metric("ledger_projections_lag_entries{tenant=\"broken\"}", lag).await;

    assert!(alarm.contains("broken: projector: the entry at position 2 cannot be decoded: "), "{alarm}");
    assert!(alarm.contains(reason), "{alarm}");
    assert!(!alarm.contains("healthy: "), "{alarm}");
    assert!(lags.iter().all(|lag| *lag < MAX_LAG), "{lags:?}, of {accepted:?} events");
    for (healthy, broken) in healthy.iter().zip(&broken) {
        assert_eq!(healthy.status, 200, "{}", healthy.text);
        assert_eq!((broken.status, broken.ledger_position), (200, Some(1)), "{}", broken.text);
    }
    assert_eq!((beyond.status, beyond.problem()), (503, "projections-behind"), "{}", beyond.text);
    assert_eq!(beyond.body["position"], 1);
    assert!(metrics.contains("ledger_projector_stopped{tenant=\"broken\"} 1"), "{metrics}");
    assert!(metrics.contains("ledger_projector_stopped{tenant=\"healthy\"} 0"), "{metrics}");
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert_eq!(ingest.status, 200);
}

/// Returns entries that no version of the program writes, each with the reason that the ledger states.
fn foreign_entries() -> [(String, &'static str); 4] {
    let mut of_others = web("y");
    of_others["type"] = "com.example.deployed.v1".into();
    let response = r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404}}"#;
    [
        ("garbage".to_owned(), "not_an_object"),
        (String::new(), "not_an_object"),
        (response.to_owned(), "no_identity"),
        (of_others.to_string(), "no_type"),
    ]
}

#[tokio::test]
async fn foreign_entries_stop_nothing_and_are_named() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default"]).await;
    let client = service.client();
    assert_eq!(record(&client, "default", "first").await.status, 201);
    let publisher = jetstream(&servers).await;
    for (entry, _) in foreign_entries() {
        publish(&publisher, "default", entry).await;
    }

    let last = record(&client, "default", "last").await.ok()["position"].as_u64();
    client.wait_for_projections(6).await;
    let state = state(&client, "default", "").await.ok();
    let history = client.get("/v1/events").await.ok();
    let metrics = client.text("/metrics").await;
    let (ready, position) = (client.get("/readyz").await, client.get("/v1/position").await.ok());
    let verified = verify(&servers).await;

    assert_eq!(last, Some(6));
    assert_eq!(state["lanes"][0]["release"]["version"], "v-last");
    let positions: Vec<_> = history["events"].as_array().expect("events").iter().collect();
    assert_eq!(positions.len(), 2, "{history}");
    for ((_, reason), position) in foreign_entries().iter().zip(2..) {
        let found = client.get(&format!("/v1/events/{position}")).await;
        assert_eq!((found.status, found.problem()), (404, "foreign-entry"), "{}", found.text);
        assert!(found.text.contains(&format!("is no event of a ledger ({reason})")), "{}", found.text);
    }
    assert!(metrics.contains("# HELP ledger_foreign_entries_total "), "{metrics}");
    assert!(metrics.contains("ledger_foreign_entries_total{tenant=\"default\"} 4"), "{metrics}");
    assert_eq!((ready.status, &ready.body["status"]), (200, &"ready".into()), "{}", ready.text);
    assert_eq!(position["position"], 6);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(
        verified.stdout.contains("the rebuilt and the live projections are the same at 6"),
        "{verified:?}"
    );
}

/// Runs `verify` on a test's servers.
async fn verify(servers: &Servers) -> Outcome {
    let journal = format!("--journal-url={}", servers.nats_url());
    let projections = format!("--projections-url={}", servers.postgres_url());
    Command::start(PROGRAM, &["verify", &journal, &projections, "--log-filter=warn"]).outcome().await
}

#[tokio::test]
async fn verify_fails_beside_a_projector_that_has_stopped() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default"]).await;
    let client = service.client();
    assert_eq!(record(&client, "default", "first").await.status, 201);
    client.wait_for_projections(1).await;
    let mut newer = web("newer");
    newer["type"] = "io.releaseledger.deploy.succeeded.v2".into();
    publish(&jetstream(&servers).await, "default", newer.to_string()).await;
    client.wait_until_not_ready("position 2").await;

    let verified = verify(&servers).await;

    assert_eq!(verified.code, Some(1), "{verified:?}");
    let stall = "the stream ends at position 2, but the projections stay at 1: the entry at position 2 cannot be decoded";
    assert!(verified.stderr.contains(stall), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_newer_version_stops_only_the_projections_of_its_tenant() {
    let mut newer = web("newer");
    newer["type"] = "io.releaseledger.deploy.succeeded.v2".into();
    newer["data"]["ring"] = "canary".into();
    let reason = "deploy.succeeded version 2 is not supported, only versions up to 1; upgrade the ledger";
    assert_stops_only_its_tenant(newer.to_string(), reason).await;
}
