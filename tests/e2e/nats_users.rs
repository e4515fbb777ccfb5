//! Each user of NATS may do what it needs, and nothing more: `ops/nats/users.conf`, on a real server.

use std::fs;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use ledger_devstack::nats::User;
use ledger_tests::{STREAM, Servers, Service, deploy, jetstream_of_operator};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::PROGRAM;
use crate::rollback::Story;

/// What is refused is refused at once; what is answered, too.
const SOON: Duration = Duration::from_secs(10);

fn deploys(count: usize) -> Vec<String> {
    let time = "2026-08-01T10:00:00Z";
    (1..=count).map(|n| deploy(&n.to_string(), time, "production", "web", "v1").to_string()).collect()
}

/// A client with the rights of a user, and what its server complains of.
async fn complaining(url: &str) -> (Client, mpsc::UnboundedReceiver<String>) {
    let address: ServerAddr = url.parse().expect("an address");
    let (user, password) = (address.username().expect("a user"), address.password().expect("a password"));
    let (tell, told) = mpsc::unbounded_channel();
    let client = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        .custom_inbox_prefix("_INBOX_LEDGER")
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                // The test may have seen enough.
                let _ = tell.send(error.to_string());
            }
            async {}
        })
        .connect(address)
        .await;
    (client.expect("connected"), told)
}

/// What would change or take away what is stored.
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

async fn assert_refused(url: &str, subject: &str, payload: &Value) {
    let (client, mut told) = complaining(url).await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("it may listen to its inbox");
    client.publish_with_reply(subject.to_owned(), inbox, payload.to_string().into()).await.expect("sent");

    let complaint = tokio::time::timeout(SOON, told.recv()).await.expect("a complaint").expect("a client");

    assert!(complaint.contains("Permissions Violation for Publish"), "{subject}: {complaint}");
    assert!(complaint.contains(subject), "{subject}: {complaint}");
    // The server takes one after the other: what it would have answered is answered by now.
    client.flush().await.expect("flushed");
    let answer = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut answers));
    assert!(answer.is_none(), "{subject}: {answer:?}");
}

/// All that the server has logged of what somebody was not allowed to do.
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
async fn the_service_has_all_that_it_needs() {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
    let client = service.client();
    let story = Story::on(&client);

    client.recorded_all(&deploys(300)).await;
    let before = violations(&servers);
    servers.kill_nats().await;
    servers.start_nats().await;
    while client.record(&deploy("a", "2026-08-01T10:00:00Z", "production", "a", "v1")).await.status != 201 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    story.deployed("web", "v1", 1).await;
    story.deployed("web", "v2", 2).await;
    let wish = json!({
        "to": "-1",
        "rollback_id": "first",
        "reason": "Customers see errors.",
        "initiated_by": {"type": "person", "name": "mia"},
    });
    story.request(wish).await.ok();
    let (_, head) = client.position().await;
    client.projections_at(head).await;

    assert_eq!(before, [""; 0]);
    assert_eq!(violations(&servers), [""; 0]);
}

#[tokio::test]
async fn neither_service_nor_reader_can_change_or_take_away_what_is_stored() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().recorded_all(&deploys(50)).await;
    let operator = jetstream_of_operator(&servers).await;
    let before = state(&operator).await;

    for user in [User::Ledger, User::Reader] {
        for (subject, payload) in harmful() {
            assert_refused(&servers.nats_url_of(user), &subject, &payload).await;
        }
    }
    let reader = servers.nats_url_of(User::Reader);
    assert_refused(&reader, "ledger.default.production.web.deploy.succeeded", &json!({})).await;
    assert_refused(&reader, "$JS.API.STREAM.CREATE.LEDGER_other", &json!({"name": "LEDGER_other"})).await;
    let by_operator = servers.nats_url_of(User::Operator);
    assert_refused(&by_operator, "ledger.default.production.web.deploy.succeeded", &json!({})).await;

    assert_eq!(state(&operator).await, before);
    service.client().recorded(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;
}

#[tokio::test]
async fn a_projector_does_with_the_rights_of_a_reader() {
    let servers = Servers::start().await;
    let http = Service::start(PROGRAM, &servers, &["--only=http"]).await;
    let reader = format!("--journal-url={}", servers.nats_url_of(User::Reader));
    let projector = Service::start(PROGRAM, &servers, &["--only=projector", &reader]).await;

    http.client().recorded_all(&deploys(100)).await;

    let metrics = projector.client().text("/metrics").await;
    assert!(metrics.contains("ledger_stream_fits{tenant=\"default\"} 1"), "{metrics}");
    assert_eq!(violations(&servers), [""; 0]);
}

/// A server writes for whoever makes a consumer that delivers, and asks nobody whether he may write there.
#[tokio::test]
async fn the_server_writes_into_a_ledger_for_nobody() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default,acme"]).await;
    service.client().recorded_all(&deploys(50)).await;
    let reader = jetstream::new(complaining(&servers.nats_url_of(User::Reader)).await.0);
    let deliver = |stream: &str, subject: &str| {
        let config = json!({
            "stream_name": stream,
            "config": {"name": "thief", "deliver_subject": subject, "deliver_policy": "all", "ack_policy": "none"},
        });
        let (reader, request) = (reader.clone(), format!("CONSUMER.CREATE.{stream}.thief"));
        async move { reader.request::<_, _, Value>(request, &config).await }
    };

    let own = deliver(STREAM, "ledger.default.production.web.deploy.succeeded").await;
    let other = deliver(STREAM, "ledger.acme.production.web.deploy.succeeded").await;
    service.client().recorded(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;

    assert_eq!(own.expect("an answer")["error"]["err_code"], 10_081, "it would form a cycle");
    // This one is made, and is never given anything to deliver.
    assert!(other.expect("an answer")["error"].is_null());
    let acme = jetstream_of_operator(&servers).await.get_stream("LEDGER_acme").await.expect("a stream");
    assert_eq!(acme.cached_info().state.messages, 0);
}

#[tokio::test]
async fn settings_that_an_operator_changed_are_told_of_by_a_metric() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let operator = jetstream_of_operator(&servers).await;
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
