//! Roles: processes that share the work, and their behaviour when the stream or the database changes under them.

use futures::channel::mpsc;
use ledger_tests::{Client, Servers, Service, create_stream, delete_stream, deploy, digests, jetstream};
use reqwest::{Body, Method};
use serde_json::Value;

use crate::{PROGRAM, varied};

const SUBJECT: &str = "ledger.default.production.web.deploy.succeeded";

#[tokio::test]
async fn one_process_accepts_events_and_another_projects_them() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let projector = Service::start(PROGRAM, &servers, &["--only=projector"]).await;

    http.client().record_and_wait(&web("1")).await;

    assert_eq!(http.client().positions().await, (1, 1));
    let no_api = projector.client().get("/v1/position").await;
    assert_eq!((no_api.status, no_api.problem()), (404, "path-not-found"));
    let metrics = projector.client().text("/metrics").await;
    assert!(metrics.contains("ledger_projections_position{tenant=\"default\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_produce_the_same_tables_as_one_even_if_one_is_killed() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let one = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let mut other = Service::start(PROGRAM, &servers, &["--only=projector"]).await;
    let client = http.client();
    let history = varied::history(6_000);

    for (number, part) in history.chunks(200).enumerate() {
        let response = client.post("/v1/events", "application/x-ndjson", part.join("\n")).await;
        assert_eq!(response.status, 201, "{}", response.text);
        if number == 12 {
            other.kill().await;
        }
    }
    client.wait_for_projections(history.len() as u64).await;

    let projected = digests(&servers.postgres_url(), "default").await;
    let database = servers.fresh_database("alone").await;
    let alone = Service::start(
        PROGRAM,
        &servers,
        &["--only=http,projector", &format!("--projections-url={database}")],
    )
    .await;
    alone.client().wait_for_projections(history.len() as u64).await;
    assert_eq!(projected, digests(&database, "default").await);
    assert_eq!(projected["events"].0 as usize, history.len());
    assert_eq!(one.client().get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_service_answers_accepted_requests() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let (mut sender, body) = mpsc::channel::<Result<String, std::io::Error>>(0);
    let bulk = client.request(Method::POST, "/v1/events").header("content-type", "application/x-ndjson");
    let bulk = tokio::spawn(Client::send(bulk.body(Body::wrap_stream(body))));
    let mut send = async |from: u32| {
        let lines: String = (from..from + 1_000).map(|n| format!("{}\n", web(&n.to_string()))).collect();
        futures::SinkExt::send(&mut sender, Ok(lines)).await.expect("the service reads");
    };

    send(0).await;
    client.wait_for_head(500).await;
    service.send_sigterm();
    send(1_000).await;
    drop(sender);
    let response = bulk.await.expect("a task");
    let succeeded = service.exits_successfully().await;

    assert_eq!(response.status, 201);
    let lines = response.lines();
    assert_eq!(lines.len(), 2_000);
    assert!(lines.iter().all(|line| line["status"] == "recorded"));
    assert!(succeeded);
    service.restart().await;
    assert_eq!(client.positions().await.1, 2_000);
}

#[tokio::test]
async fn a_stalled_upload_does_not_prevent_shutdown() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let (mut body, stalled) = mpsc::unbounded();
    body.start_send(Ok::<_, std::io::Error>("\n")).expect("started");
    let upload = client.request(Method::POST, "/v1/events").header("content-type", "application/x-ndjson");
    let upload = tokio::spawn(upload.body(Body::wrap_stream(stalled)).send());
    client.record_and_wait(&web("1")).await;

    service.send_sigterm();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(29), service.exits_successfully()).await;

    assert_eq!(ended, Ok(true), "shutdown is faster than the time that supervisors wait for");
    upload.abort();
}

#[tokio::test]
async fn a_recreated_stream_stops_the_projector_and_changes_nothing() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    for id in ["1", "2", "3"] {
        client.record_and_wait(&web(id)).await;
    }
    let before = digests(&servers.postgres_url(), "default").await;

    let config = delete_stream(&servers).await;
    create_stream(&servers, config).await;
    for id in ["4", "5", "6", "7", "8"] {
        publish(&jetstream(&servers).await, web(id).to_string()).await;
    }
    let alarm = client.wait_until_not_ready("the journal is not the one").await;
    let rejected = client.record(&web("9")).await;
    assert_eq!((rejected.status, rejected.problem()), (503, "journal-diverged"));
    service.kill().await;
    let again = Service::start_alive(PROGRAM, &servers, &[]).await;
    let alarm_again = again.client().wait_until_not_ready("the journal is not the one").await;

    for alarm in [alarm, alarm_again] {
        assert!(alarm.contains("default: projector: "), "{alarm}");
    }
    assert_eq!(digests(&servers.postgres_url(), "default").await, before);
    let state = again.client().get("/v1/environments/production/state").await.ok();
    assert_eq!(state["position"], 3);
}

#[tokio::test]
async fn an_entry_of_a_newer_version_stops_only_its_own_tenant() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default,acme"]).await;
    let client = service.client();
    client.record_and_wait(&web("1")).await;

    let mut newer = web("2");
    newer["type"] = "io.releaseledger.deploy.succeeded.v2".into();
    publish(&jetstream(&servers).await, newer.to_string()).await;
    let alarm = client.wait_until_not_ready("position 2").await;
    let later = client.record(&web("3")).await;
    let acme =
        client.post("/v1/tenants/acme/events", "application/cloudevents+json", web("1").to_string()).await;
    let state = client.get("/v1/tenants/acme/environments/production/state?wait_for=1&wait_ms=30000").await;

    assert!(alarm.contains("default: projector: "), "{alarm}");
    assert!(!alarm.contains("acme"), "{alarm}");
    assert_eq!((later.status, &later.body["position"]), (201, &3.into()));
    assert_eq!(client.positions().await, (1, 3));
    assert_eq!(client.get("/v1/environments/production/state").await.status, 200);
    assert_eq!((acme.status, state.status), (201, 200));
}

#[tokio::test]
async fn transactions_lost_in_a_crash_of_postgres_are_projected_again_without_a_new_event() {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();

    for crash in 1..=2 {
        client.record_and_wait(&web(&crash.to_string())).await;
        servers.kill_postgres().await;
        servers.start_postgres().await;
        let state = "/v1/environments/production/state";
        let response = client.get(&format!("{state}?wait_for={crash}&wait_ms=30000")).await;

        assert_eq!((response.status, response.ledger_position), (200, Some(crash)), "{}", response.text);
        assert_eq!(response.body["lanes"][0]["since"]["position"], crash);
    }
}

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", &format!("v{id}"))
}

/// Publishes directly to the stream, bypassing the service.
async fn publish(jetstream: &async_nats::jetstream::Context, payload: String) {
    let published = jetstream.publish(SUBJECT, payload.into()).await.expect("published");
    published.await.expect("stored");
}
