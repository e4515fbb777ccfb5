//! Once: an event's identity has one effect, regardless of retries, restarts and direct publishing.

use std::collections::BTreeSet;

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures::StreamExt as _;
use futures::future::join_all;
use ledger_devstack::nats::User;
use ledger_tests::{Client, Proxy, Response, STREAM, Servers, Service, deploy, jetstream, nats_client};
use serde_json::Value;

use crate::PROGRAM;

/// Number of concurrent requests with the same event.
const REQUESTS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn once() {
    let mut servers = Servers::start().await;
    let mut one = Service::start(PROGRAM, &servers, &[]).await;
    let mut other = Service::start(PROGRAM, &servers, &[]).await;
    let event = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");

    let clients: Vec<_> = (0..REQUESTS).map(|n| [&one, &other][n % 2].client()).collect();
    let responses = join_all(clients.iter().map(|client| client.record(&event))).await;
    one.kill().await;
    one.restart().await;
    let after_restart = one.client().record(&event).await;
    servers.kill_nats().await;
    servers.start_nats().await;
    other.kill().await;
    other.restart().await;
    let after_all_restarts = other.client().record(&event).await;

    assert_eq!(responses.iter().filter(|response| response.body["status"] == "recorded").count(), 1);
    for response in responses.iter().chain([&after_restart, &after_all_restarts]) {
        assert_eq!((response.status, &response.body["position"]), (201, &1.into()), "{}", response.text);
    }
    assert_eq!(other.client().positions().await.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_bulk_requests_with_the_same_events_record_each_once() {
    let servers = Servers::start().await;
    let one = Service::start(PROGRAM, &servers, &[]).await;
    let other = Service::start(PROGRAM, &servers, &[]).await;
    let events: Vec<_> = (0..400)
        .map(|n| deploy(&n.to_string(), "2026-08-01T10:00:00Z", "production", "web", "v1").to_string())
        .collect();
    let body = events.join("\n");

    let clients: Vec<_> = (0..6).map(|n| [&one, &other][n % 2].client()).collect();
    let sent = clients.iter().map(|client| client.post("/v1/events", "application/x-ndjson", body.clone()));
    let responses = join_all(sent).await;

    let positions = |response: &Response| -> Vec<_> {
        response.lines().iter().map(|line| line["position"].as_u64().expect("a position")).collect()
    };
    let first = positions(&responses[0]);
    assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), (1..=400).collect());
    for response in &responses {
        assert_eq!(response.status, 201);
        assert_eq!(positions(response), first);
    }
    let recorded = responses.iter().flat_map(Response::lines).filter(|line| line["status"] == "recorded");
    assert_eq!(recorded.count(), 400);
    assert_eq!(one.client().positions().await.1, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_response_was_lost_is_recorded_once_when_sent_again() {
    let servers = Servers::start().await;
    let proxy = Proxy::start(servers.nats_port()).await;
    let through_proxy = format!("--journal-url={}", servers.nats_url_through(&proxy));
    let mut service = Service::start(PROGRAM, &servers, &[&through_proxy, "--only=http"]).await;
    let event = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");

    proxy.drop_responses();
    let client = service.client();
    let pending = tokio::spawn({
        let event = event.clone();
        async move { Client::try_send(record_request(&client, &event)).await }
    });
    wait_for_entry(&servers, 1).await;
    service.kill().await;
    pending.await.expect("a task").expect_err("the service was killed before it could respond");
    let direct = Service::start(PROGRAM, &servers, &[]).await;
    let again = direct.client().record(&event).await.ok();

    assert_eq!(again["status"], "duplicate");
    assert_eq!(again["position"], 1);
    assert_eq!(direct.client().positions().await.1, 1);
}

#[tokio::test]
async fn a_repeated_identity_published_directly_is_marked_and_has_no_effect() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let v1 = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    let v2 = deploy("2", "2026-08-01T11:00:00Z", "production", "web", "v2");
    let other_content = deploy("1", "2026-08-01T12:00:00Z", "production", "web", "v3");
    client.record_and_wait(&v1).await;
    client.record_and_wait(&v2).await;
    let query = async || {
        let environments = client.get("/v1/environments").await.ok();
        let state = client.get("/v1/environments/production/state").await.ok();
        (environments["environments"].clone(), state["digest"].clone(), state["lanes"].clone())
    };
    let before = query().await;

    publish(&servers, &v1).await;
    publish(&servers, &other_content).await;
    client.wait_for_projections(4).await;

    assert_eq!(query().await, before);
    for (position, repeats) in [(1, None), (2, None), (3, Some(1)), (4, Some(1))] {
        let entry = client.get(&format!("/v1/events/{position}")).await.ok();
        assert_eq!(entry["repeats"].as_u64(), repeats, "{entry}");
    }
    let found = client.get("/v1/events?source=urn:release-ledger:test&id=1").await.ok();
    assert_eq!(found["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["events"][0]["position"], 1);
    let duplicate = client.record(&v1).await.ok();
    assert_eq!((&duplicate["status"], &duplicate["position"]), (&"duplicate".into(), &1.into()));
}

fn record_request(client: &Client, event: &Value) -> reqwest::RequestBuilder {
    let request = client.request(reqwest::Method::POST, "/v1/events");
    request.header("content-type", "application/cloudevents+json").body(event.to_string())
}

/// Waits until the stream has an entry at a position.
async fn wait_for_entry(servers: &Servers, position: u64) {
    let reader = async_nats::jetstream::new(nats_client(&servers.nats_url_of(User::Reader)).await);
    let stream = reader.get_stream(STREAM).await.expect("the stream");
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: position };
    let filter_subject = "ledger.default.>".to_owned();
    let config = OrderedConfig {
        name: Some("once".into()),
        deliver_policy,
        filter_subject,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config);
    let mut messages = consumer.await.expect("a consumer").messages().await.expect("messages");
    messages.next().await.expect("a message").expect("an entry");
}

/// Publishes an event directly to the stream, bypassing the service and without its identity.
async fn publish(servers: &Servers, event: &Value) {
    let subject = "ledger.default.production.web.deploy.succeeded";
    let jetstream = jetstream(servers).await;
    let published = jetstream.publish(subject, event.to_string().into()).await.expect("published");
    published.await.expect("the entry is recorded");
}
