//! Notifications of rollbacks for tools: server-sent events, and the stream.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use ledger_devstack::nats::User;
use ledger_tests::{Client, STREAM, Servers, Service, Story, nats_client, text};
use reqwest::Method;
use serde_json::{Value, json};

use crate::PROGRAM;

/// Upper bound of every wait; only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

fn rollback_request(id: &str) -> Value {
    json!({
        "to": "-1",
        "rollback_id": id,
        "reason": "Customers see errors.",
        "initiated_by": {"type": "person", "name": "mia"},
    })
}

/// Reads server-sent events until one has this name, and returns them: ids, names and data.
async fn until(client: &Client, path: &str, last: Option<&str>, name: &str) -> Vec<(String, String, Value)> {
    let mut request = client.request(Method::GET, path);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.expect("a response");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.bytes_stream();
    let mut received = String::new();
    let found = async {
        while let Some(part) = body.next().await {
            received.push_str(std::str::from_utf8(&part.expect("a part")).expect("UTF-8"));
            let events = parse(&received);
            if events.iter().any(|(_, kind, _)| kind == name) {
                return events;
            }
        }
        panic!("the stream ended: {received}");
    };
    tokio::time::timeout(WAIT_LIMIT, found).await.expect("the event arrives")
}

fn parse(text: &str) -> Vec<(String, String, Value)> {
    let complete = text.rsplit_once("\n\n").map_or("", |(complete, _)| complete);
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start().to_owned())
    };
    let events = complete.split("\n\n").filter_map(|event| {
        let data = serde_json::from_str(&field(event, "data:")?).expect("data is JSON");
        Some((field(event, "id:")?, field(event, "event:")?, data))
    });
    events.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_report_rollbacks_and_resume_without_loss() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    let head = story.deploy("web", "v2", 2).await;
    let listening = tokio::spawn({
        let client = client.clone();
        async move {
            until(&client, &format!("/v1/rollbacks/stream?after={head}"), None, "rollback.started").await
        }
    });
    story.request(rollback_request("first")).await.ok();
    story.record("rollback.started", 3, json!({"rollback_id": "first"})).await;
    let received = listening.await.expect("a task");
    story.record("rollback.cancelled", 4, json!({"rollback_id": "first"})).await;

    let last = received[0].0.clone();
    let missed = until(&client, "/v1/rollbacks/stream", Some(&last), "rollback.cancelled").await;

    let names = |events: &[(String, String, Value)]| -> Vec<String> {
        events.iter().map(|(_, name, _)| name.clone()).collect()
    };
    assert_eq!(names(&received), ["rollback.requested", "rollback.started"]);
    assert_eq!(received[0].2["event"]["data"]["rollback_id"], "first");
    assert_eq!(received[0].0, received[0].2["position"].to_string());
    assert_eq!(names(&missed), ["rollback.started", "rollback.cancelled"]);
    // An endless response does not prevent the shutdown of the service.
    let held = client.request(Method::GET, "/v1/rollbacks/stream").send().await.expect("a response");
    assert!(service.terminate().await);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_consumer_receives_exactly_the_recorded_requests() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    story.request(rollback_request("first")).await.ok();
    let rejected = story.request(rollback_request("second")).await;
    let reader = jetstream::new(nats_client(&servers.nats_url_of(User::Reader)).await);
    let stream = reader.get_stream(STREAM).await.expect("the stream");
    let consumer = stream
        .create_consumer(pull::Config {
            name: Some("notifications".into()),
            filter_subject: "ledger.default.*._.rollback.requested".into(),
            ack_policy: AckPolicy::None,
            ..pull::Config::default()
        })
        .await
        .expect("a consumer");

    let mut messages = consumer.fetch().max_messages(10).messages().await.expect("messages");
    let mut requests = Vec::new();
    while let Some(message) = messages.next().await {
        let event: Value = serde_json::from_slice(&message.expect("a message").payload).expect("an event");
        requests.push(text(&event["data"]["rollback_id"]));
    }

    assert_eq!(rejected.status, 409);
    assert_eq!(requests, ["first"]);
}
