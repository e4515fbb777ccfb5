//! Permissions of the NATS users: `ops/nats/users.conf` on a real server allows what each user needs, and no more.

use std::fs;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use ledger_devstack::nats::User;
use ledger_tests::{STREAM, Servers, Service, Story, deploy, jetstream_as_operator};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::PROGRAM;

/// Upper bound of the wait for an error: the server rejects a message immediately.
const ERROR_LIMIT: Duration = Duration::from_secs(10);

fn deploys(count: usize) -> Vec<String> {
    let time = "2026-08-01T10:00:00Z";
    (1..=count).map(|n| deploy(&n.to_string(), time, "production", "web", "v1").to_string()).collect()
}

/// Connects as a user; returns the client and the errors that the server reports to it.
async fn client_with_errors(url: &str) -> (Client, mpsc::UnboundedReceiver<String>) {
    let address: ServerAddr = url.parse().expect("an address");
    let (user, password) = (address.username().expect("a user"), address.password().expect("a password"));
    let (sender, errors) = mpsc::unbounded_channel();
    let client = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        .custom_inbox_prefix("_INBOX_LEDGER")
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                // The test may have dropped the receiver.
                let _ = sender.send(error.to_string());
            }
            async {}
        })
        .connect(address)
        .await;
    (client.expect("connected"), errors)
}

/// Returns requests that would change or delete stored entries.
fn harmful() -> Vec<(String, Value)> {
    let stream = |verb: &str| format!("$JS.API.STREAM.{verb}.{STREAM}");
    vec![
        (stream("DELETE"), json!({})),
        (stream("PURGE"), json!({})),
        (
            stream("UPDATE"),
            json!({"name": STREAM, "subjects": ["ledger.default.>"], "max_msgs": 1, "discard": "old"}),
        ),
        (stream("MSG.DELETE"), json!({"seq": 1})),
        (stream("SNAPSHOT"), json!({"deliver_subject": "_INBOX_LEDGER.snapshot"})),
        (stream("RESTORE"), json!({"config": {"name": STREAM, "subjects": ["ledger.default.>"]}})),
        (stream("PEER.REMOVE"), json!({"peer": "a"})),
        (stream("LEADER.STEPDOWN"), json!({})),
    ]
}

async fn assert_rejected(url: &str, subject: &str, payload: &Value) {
    let (client, mut errors) = client_with_errors(url).await;
    let inbox = client.new_inbox();
    let mut responses = client.subscribe(inbox.clone()).await.expect("the user may subscribe to its inbox");
    client.publish_with_reply(subject.to_owned(), inbox, payload.to_string().into()).await.expect("sent");

    let error = tokio::time::timeout(ERROR_LIMIT, errors.recv()).await.expect("an error").expect("a client");

    assert!(error.contains("Permissions Violation for Publish"), "{subject}: {error}");
    assert!(error.contains(subject), "{subject}: {error}");
    // The server processes messages in order: a response would have arrived before the flush returns.
    client.flush().await.expect("flushed");
    let response = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut responses));
    assert!(response.is_none(), "{subject}: {response:?}");
}

/// Returns the permission violations in the server's log.
fn violations(servers: &Servers) -> Vec<String> {
    let log = fs::read_to_string(servers.folder().join("nats/nats.log")).expect("a log");
    log.lines().filter(|line| line.contains("Violation")).map(str::to_owned).collect()
}

async fn state(operator: &Context) -> (Config, u64, u64) {
    let stream = operator.get_stream(STREAM).await.expect("the stream");
    let info = stream.cached_info();
    (info.config.clone(), info.state.messages, info.state.last_sequence)
}

#[tokio::test]
async fn the_service_has_the_permissions_that_it_needs() {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
    let client = service.client();
    let story = Story::on(&client);

    client.record_all(&deploys(300)).await;
    let before = violations(&servers);
    servers.kill_nats().await;
    servers.start_nats().await;
    while client.record(&deploy("a", "2026-08-01T10:00:00Z", "production", "a", "v1")).await.status != 201 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let request = json!({
        "to": "-1",
        "rollback_id": "first",
        "reason": "Customers see errors.",
        "initiated_by": {"type": "person", "name": "mia"},
    });
    story.request(request).await.ok();
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;

    assert_eq!(before, [""; 0]);
    assert_eq!(violations(&servers), [""; 0]);
}

#[tokio::test]
async fn neither_service_nor_reader_can_change_or_delete_stored_entries() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&deploys(50)).await;
    let operator = jetstream_as_operator(&servers).await;
    let before = state(&operator).await;

    for user in [User::Ledger, User::Reader] {
        for (subject, payload) in harmful() {
            assert_rejected(&servers.nats_url_of(user), &subject, &payload).await;
        }
    }
    let reader = servers.nats_url_of(User::Reader);
    assert_rejected(&reader, "ledger.default.production.web.deploy.succeeded", &json!({})).await;
    assert_rejected(&reader, "$JS.API.STREAM.CREATE.LEDGER_other", &json!({"name": "LEDGER_other"})).await;
    let by_operator = servers.nats_url_of(User::Operator);
    assert_rejected(&by_operator, "ledger.default.production.web.deploy.succeeded", &json!({})).await;

    assert_eq!(state(&operator).await, before);
    service.client().record_and_wait(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;
}

#[tokio::test]
async fn a_projector_needs_only_the_permissions_of_a_reader() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let reader = format!("--journal-url={}", servers.nats_url_of(User::Reader));
    let projector = Service::start(PROGRAM, &servers, &["--only=projector", &reader]).await;

    http.client().record_all(&deploys(100)).await;

    let metrics = projector.client().text("/metrics").await;
    assert!(metrics.contains("ledger_stream_fits{tenant=\"default\"} 1"), "{metrics}");
    assert_eq!(violations(&servers), [""; 0]);
}

/// A server delivers to the subject of any push consumer without checking the permissions of the user who created it.
#[tokio::test]
async fn the_server_does_not_write_into_a_ledger_for_a_reader() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default,acme"]).await;
    service.client().record_all(&deploys(50)).await;
    let reader = jetstream::new(client_with_errors(&servers.nats_url_of(User::Reader)).await.0);
    let deliver = |stream: &str, subject: &str| {
        let config = json!({
            "stream_name": stream,
            "config": {
                "name": "thief", "deliver_subject": subject, "deliver_policy": "all", "ack_policy": "none",
            },
        });
        let (reader, request) = (reader.clone(), format!("CONSUMER.CREATE.{stream}.thief"));
        async move { reader.request::<_, _, Value>(request, &config).await }
    };

    let own = deliver(STREAM, "ledger.default.production.web.deploy.succeeded").await;
    let other = deliver(STREAM, "ledger.acme.production.web.deploy.succeeded").await;
    service.client().record_and_wait(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;

    assert_eq!(own.expect("a response")["error"]["err_code"], 10_081, "the consumer would form a cycle");
    // This consumer is created, but the server never delivers to it.
    assert!(other.expect("a response")["error"].is_null());
    let acme = jetstream_as_operator(&servers).await.get_stream("LEDGER_acme").await.expect("a stream");
    assert_eq!(acme.cached_info().state.messages, 0);
}

#[tokio::test]
async fn stream_settings_changed_by_an_operator_are_reported_by_a_metric() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let operator = jetstream_as_operator(&servers).await;
    let good = state(&operator).await.0;
    let fits =
        async || service.client().text("/metrics").await.contains("ledger_stream_fits{tenant=\"default\"} 1");

    let at_first = fits().await;
    operator
        .update_stream(Config { max_messages: 1_000_000, ..good.clone() })
        .await
        .expect("the operator may");
    let with_a_limit = fits().await;
    operator.update_stream(good).await.expect("the operator may");

    assert!(at_first);
    assert!(!with_a_limit);
    assert!(fits().await);
}
