//! Once: an event's identity has one effect, whatever is retried, restarted or forced in.

use std::collections::BTreeSet;

use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures::StreamExt as _;
use futures::future::join_all;
use ledger_devstack::nats::User;
use ledger_tests::{Answer, Client, Proxy, STREAM, Servers, Service, deploy, jetstream, nats_client};
use serde_json::Value;

use crate::PROGRAM;

/// How often a thing is done that must have an effect once.
const TIMES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn once() {
    let mut servers = Servers::start().await;
    let mut one = Service::start(PROGRAM, &servers, &[]).await;
    let mut other = Service::start(PROGRAM, &servers, &[]).await;
    let event = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");

    let at_once: Vec<_> = (0..TIMES).map(|n| [&one, &other][n % 2].client()).collect();
    let answers = join_all(at_once.iter().map(|client| client.record(&event))).await;
    one.kill().await;
    one.start_again().await;
    let after_restart = one.client().record(&event).await;
    servers.kill_nats().await;
    servers.start_nats().await;
    other.kill().await;
    other.start_again().await;
    let after_all_restarts = other.client().record(&event).await;

    assert_eq!(answers.iter().filter(|answer| answer.body["status"] == "recorded").count(), 1);
    for answer in answers.iter().chain([&after_restart, &after_all_restarts]) {
        assert_eq!((answer.status, &answer.body["position"]), (201, &1.into()), "{}", answer.text);
    }
    assert_eq!(other.client().position().await.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_in_bulk_through_two_services_at_once_are_recorded_once() {
    let servers = Servers::start().await;
    let one = Service::start(PROGRAM, &servers, &[]).await;
    let other = Service::start(PROGRAM, &servers, &[]).await;
    let events: Vec<_> = (0..400)
        .map(|n| deploy(&n.to_string(), "2026-08-01T10:00:00Z", "production", "web", "v1").to_string())
        .collect();
    let body = events.join("\n");

    let clients: Vec<_> = (0..6).map(|n| [&one, &other][n % 2].client()).collect();
    let sent = clients.iter().map(|client| client.post("/v1/events", "application/x-ndjson", body.clone()));
    let answers = join_all(sent).await;

    let positions = |answer: &Answer| -> Vec<_> {
        answer.lines().iter().map(|line| line["position"].as_u64().expect("a position")).collect()
    };
    let first = positions(&answers[0]);
    assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), (1..=400).collect());
    for answer in &answers {
        assert_eq!(answer.status, 201);
        assert_eq!(positions(answer), first);
    }
    let recorded = answers.iter().flat_map(Answer::lines).filter(|line| line["status"] == "recorded");
    assert_eq!(recorded.count(), 400);
    assert_eq!(one.client().position().await.1, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_answer_was_lost_is_recorded_once_when_sent_again() {
    let servers = Servers::start().await;
    let proxy = Proxy::start(servers.nats_port()).await;
    let through_proxy = format!("--journal-url={}", servers.nats_url_through(&proxy));
    let mut service = Service::start(PROGRAM, &servers, &[&through_proxy, "--only=http"]).await;
    let event = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");

    proxy.swallow_answers();
    let client = service.client();
    let unanswered = tokio::spawn({
        let event = event.clone();
        async move { Client::try_send(record(&client, &event)).await }
    });
    stored(&servers, 1).await;
    service.kill().await;
    unanswered.await.expect("a task").expect_err("nobody was left to answer");
    let direct = Service::start(PROGRAM, &servers, &[]).await;
    let again = direct.client().record(&event).await.ok();

    assert_eq!(again["status"], "duplicate");
    assert_eq!(again["position"], 1);
    assert_eq!(direct.client().position().await.1, 1);
}

#[tokio::test]
async fn a_repeated_identity_that_is_forced_in_is_marked_and_has_no_effect() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let v1 = deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    let v2 = deploy("2", "2026-08-01T11:00:00Z", "production", "web", "v2");
    let other_content = deploy("1", "2026-08-01T12:00:00Z", "production", "web", "v3");
    client.recorded(&v1).await;
    client.recorded(&v2).await;
    let told = async || {
        let environments = client.get("/v1/environments").await.ok();
        let state = client.get("/v1/environments/production/state").await.ok();
        (environments["environments"].clone(), state["digest"].clone(), state["lanes"].clone())
    };
    let before = told().await;

    force_in(&servers, &v1).await;
    force_in(&servers, &other_content).await;
    client.projections_at(4).await;

    assert_eq!(told().await, before);
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

fn record(client: &Client, event: &Value) -> reqwest::RequestBuilder {
    let request = client.request(reqwest::Method::POST, "/v1/events");
    request.header("content-type", "application/cloudevents+json").body(event.to_string())
}

/// Waits until the stream has stored a position.
async fn stored(servers: &Servers, position: u64) {
    let reader = async_nats::jetstream::new(nats_client(&servers.nats_url_of(User::Reader)).await);
    let stream = reader.get_stream(STREAM).await.expect("the stream");
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: position };
    let consumer = stream.create_consumer(OrderedConfig { deliver_policy, ..OrderedConfig::default() });
    let mut messages = consumer.await.expect("a consumer").messages().await.expect("messages");
    messages.next().await.expect("a message").expect("the entry");
}

/// Publishes an event past the intake, without its identity.
async fn force_in(servers: &Servers, event: &Value) {
    let subject = "ledger.default.production.web.deploy.succeeded";
    let jetstream = jetstream(servers).await;
    let published = jetstream.publish(subject, event.to_string().into()).await.expect("published");
    published.await.expect("stored");
}
