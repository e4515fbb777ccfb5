//! Entries that this program cannot read: each stops the projections of its own tenant, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::jetstream::Context;
use ledger_tests::{Answer, Client, Servers, Service, deploy, jetstream};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::PROGRAM;

/// Entries that the healthy tenant may be behind under load: what comes in while a batch is written.
const NEAR_ZERO: f64 = 500.0;

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", &format!("v-{id}"))
}

async fn record(client: &Client, tenant: &str, id: &str) -> Answer {
    let path = format!("/v1/tenants/{tenant}/events");
    client.post(&path, "application/cloudevents+json", web(id).to_string()).await
}

async fn state(client: &Client, tenant: &str, more: &str) -> Answer {
    client.get(&format!("/v1/tenants/{tenant}/environments/production/state{more}")).await
}

/// Publishes past the intake.
async fn publish(jetstream: &Context, tenant: &str, payload: String) {
    let subject = format!("ledger.{tenant}.production.web.deploy.succeeded");
    let published = jetstream.publish(subject, payload.into()).await.expect("published");
    published.await.expect("stored");
}

/// Clients of both tenants that bring events until they are told to end; answers what was answered.
fn load(client: &Client, going_on: &Arc<AtomicBool>, tenant: &'static str) -> JoinHandle<Vec<Answer>> {
    let (client, going_on) = (client.clone(), Arc::clone(going_on));
    tokio::spawn(async move {
        let mut answers = Vec::new();
        for number in 0.. {
            if !going_on.load(Ordering::Relaxed) {
                break;
            }
            answers.push(record(&client, tenant, &format!("load-{number}")).await);
        }
        answers
    })
}

/// A tenant's ledger gets an entry that cannot be read, while both are under load.
async fn poisoned(entry: String, reason: &str) {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=sick,well"]).await;
    let client = service.client();
    for tenant in ["sick", "well"] {
        assert_eq!(record(&client, tenant, "first").await.status, 201);
        assert_eq!(state(&client, tenant, "?wait_for=1&wait_ms=30000").await.status, 200);
    }
    publish(&jetstream(&servers).await, "sick", entry).await;
    let alarm = client.not_ready("position 2").await;

    let going_on = Arc::new(AtomicBool::new(true));
    let loads = ["sick", "well"].map(|tenant| load(&client, &going_on, tenant));
    let (mut lags, mut well, mut sick) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..40 {
        lags.push(client.metric("ledger_projections_lag_entries{tenant=\"well\"}").await.expect("a lag"));
        // Answered for the end of the ledger as it is when it is asked.
        let head = client.metric("ledger_head_position{tenant=\"well\"}").await.expect("a head");
        well.push(state(&client, "well", &format!("?wait_for={head}&wait_ms=30000")).await);
        sick.push(state(&client, "sick", "").await);
    }
    let beyond = state(&client, "sick", "?wait_for=2&wait_ms=100").await;
    let metrics = client.text("/metrics").await;
    let sick_lag = client.metric("ledger_projections_lag_entries{tenant=\"sick\"}").await.expect("a lag");
    let (ready, ingest) = (client.get("/readyz").await, client.get("/readyz/ingest").await);
    going_on.store(false, Ordering::Relaxed);
    let mut taken = Vec::new();
    for load in loads {
        let answers = load.await.expect("a task");
        assert!(answers.iter().all(|answer| answer.status == 201), "all are taken in");
        taken.push(answers.len());
    }

    assert!(alarm.contains("sick: projector: the entry at position 2 cannot be decoded: "), "{alarm}");
    assert!(alarm.contains(reason), "{alarm}");
    assert!(!alarm.contains("well: "), "{alarm}");
    assert!(lags.iter().all(|lag| *lag < NEAR_ZERO), "{lags:?}, of {taken:?} events");
    for (well, sick) in well.iter().zip(&sick) {
        assert_eq!(well.status, 200, "{}", well.text);
        assert_eq!((sick.status, sick.ledger_position), (200, Some(1)), "{}", sick.text);
    }
    assert_eq!((beyond.status, beyond.problem()), (503, "projections-behind"), "{}", beyond.text);
    assert_eq!(beyond.body["position"], 1);
    assert!(metrics.contains("ledger_projector_stopped{tenant=\"sick\"} 1"), "{metrics}");
    assert!(metrics.contains("ledger_projector_stopped{tenant=\"well\"} 0"), "{metrics}");
    assert!(sick_lag >= 40.0, "{sick_lag}");
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert_eq!(ingest.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_no_event_stops_the_projections_of_its_tenant_and_hinders_no_other_under_load() {
    poisoned("garbage".to_owned(), "is not JSON").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_newer_program_stops_the_projections_of_its_tenant_and_says_so() {
    let mut newer = web("newer");
    newer["type"] = "io.releaseledger.deploy.succeeded.v2".into();
    newer["data"]["ring"] = "canary".into();
    let reason = "deploy.succeeded version 2 is newer than this program, which knows version 1";
    poisoned(newer.to_string(), reason).await;
}
