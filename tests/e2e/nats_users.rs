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
    let inbox = match user {
        "publisher" => "_INBOX_publisher",
        // The default of all clients.
        "collector" => "_INBOX",
        _ => "_INBOX_LEDGER",
    };
    let client = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
        .custom_inbox_prefix(inbox)
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

/// Returns a request for each subject of JetStream's API, with a payload. Requests that would destroy something name a
/// stream or a consumer that does not exist.
fn api_requests() -> Vec<(String, String)> {
    let (stream, consumer) = (STREAM, format!("{STREAM}.follower"));
    let snapshot =
        r#"{"deliver_subject": "ledger.acme.production.web.deploy.succeeded", "chunk_size": 1024}"#;
    let with_payload = [
        (format!("STREAM.MSG.GET.{stream}"), r#"{"seq": 1}"#),
        (format!("DIRECT.GET.{stream}"), r#"{"seq": 1, "batch": 10}"#),
        (format!("DIRECT.GET.{stream}.ledger.default.production.web.deploy.succeeded"), ""),
        (format!("CONSUMER.MSG.NEXT.{consumer}"), r#"{"batch": 10, "expires": 100000000}"#),
        (format!("STREAM.SNAPSHOT.{stream}"), snapshot),
        ("STREAM.CREATE.OTHER".to_owned(), r#"{"name": "OTHER", "subjects": ["other"]}"#),
        ("STREAM.UPDATE.OTHER".to_owned(), r#"{"name": "OTHER", "subjects": ["another"]}"#),
    ];
    let without = [
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.INFO.*",
        "STREAM.CREATE.*",
        "STREAM.UPDATE.*",
        "STREAM.PURGE.*",
        "STREAM.DELETE.NONE",
        "STREAM.MSG.DELETE.*",
        "STREAM.RESTORE.NONE",
        "STREAM.PEER.REMOVE.NONE",
        "STREAM.LEADER.STEPDOWN.NONE",
        "CONSUMER.CREATE.*",
        "CONSUMER.CREATE.*.any",
        "CONSUMER.CREATE.*.any.ledger.default.>",
        "CONSUMER.DURABLE.CREATE.*.any",
        "CONSUMER.NAMES.*",
        "CONSUMER.LIST.*",
        "CONSUMER.INFO.*.follower",
        "CONSUMER.DELETE.*.none",
        "CONSUMER.PAUSE.*.none",
        "CONSUMER.UNPIN.*.none",
        "CONSUMER.RESET.*.none",
        "CONSUMER.LEADER.STEPDOWN.*.none",
        "META.LEADER.STEPDOWN",
        "SERVER.REMOVE",
        "ACCOUNT.PURGE.NONE",
        "ACCOUNT.STREAM.MOVE.NONE.*",
        "ACCOUNT.STREAM.CANCEL_MOVE.NONE.*",
    ];
    let with_payload = with_payload.into_iter().map(|(subject, payload)| (subject, payload.to_owned()));
    let without = without.into_iter().map(|subject| (subject.replace('*', stream), String::new()));
    let acknowledged = format!("$JS.ACK.{STREAM}.follower.1.1.1.1795999369025723706.4");
    let mut requests: Vec<_> = with_payload.chain(without).collect();
    requests.iter_mut().for_each(|(subject, _)| subject.insert_str(0, "$JS.API."));
    requests.push((acknowledged, "+NXT".to_owned()));
    requests
}

/// Sends every request of JetStream's API as a user, with subjects of two ledgers as reply subjects. Returns after the
/// server has responded to the last one.
async fn request_with_hostile_replies(servers: &Servers, user: User) {
    let (client, _errors) = client_with_errors(&servers.nats_url_of(user)).await;
    let jetstream = jetstream::new(client.clone());
    let follower = json!({
        "stream_name": STREAM,
        "config": {
            "name": "follower", "deliver_policy": "all", "ack_policy": "explicit", "mem_storage": true,
            "filter_subject": "ledger.default.>",
        },
    });
    let create = format!("CONSUMER.CREATE.{STREAM}.follower.ledger.default.>");
    let created: Value = jetstream.request(create, &follower).await.expect("a response");
    assert!(created["error"].is_null(), "{created}");
    // In the account of readers and operators, the operator receives what the server sends to any subject.
    let witness = client_with_errors(&servers.nats_url_of(User::Operator)).await.0;
    let last = format!("ledger.acme.{user:?}.last.deploy.succeeded");
    let mut responses = witness.subscribe(last.clone()).await.expect("the operator may subscribe");
    witness.flush().await.expect("flushed");

    for (subject, payload) in api_requests() {
        for tenant in ["default", "acme"] {
            let reply = format!("ledger.{tenant}.production.web.deploy.succeeded");
            let sent = client.publish_with_reply(subject.clone(), reply, payload.clone().into()).await;
            sent.expect("sent");
        }
    }
    let info = format!("$JS.API.STREAM.INFO.{STREAM}");
    client.publish_with_reply(info, last, "".into()).await.expect("sent");

    let response = tokio::time::timeout(ERROR_LIMIT, futures::StreamExt::next(&mut responses)).await;
    response.expect("the response stays in the account of the requester").expect("a response");
}

#[tokio::test]
async fn no_response_of_the_server_to_reader_or_operator_becomes_an_entry() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default,acme"]).await;
    service.client().record_all(&deploys(20)).await;
    let operator = jetstream_as_operator(&servers).await;
    let heads = async || {
        let mut heads = Vec::new();
        for stream in [STREAM, "LEDGER_acme"] {
            let stream = operator.get_stream(stream).await.expect("the stream");
            heads.push(stream.cached_info().state.last_sequence);
        }
        heads
    };
    let before = heads().await;

    for user in [User::Reader, User::Operator] {
        request_with_hostile_replies(&servers, user).await;

        assert_eq!(heads().await, before, "{user:?}");
    }

    assert_eq!(before, [20, 0]);
    // A snapshot is sent after some time: the next entry has the next position.
    let next = service.client().record(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;
    assert_eq!(next.ok()["position"], 21);
}

#[tokio::test]
async fn the_service_has_the_permissions_that_it_needs() {
    let mut servers = Servers::start().await;
    let nats = ["--nats-ingest-tenants=default", "--nats-publish-tenants=default"];
    let flags = [&["--journal-request-timeout-ms=1000"][..], &nats].concat();
    let service = Service::start(PROGRAM, &servers, &flags).await;
    let client = service.client();
    wait_for_work_queue(&servers).await;
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
    // The server would send a snapshot to a subject that the request names.
    let snapshot = format!("$JS.API.STREAM.SNAPSHOT.{STREAM}");
    let to_ledger = json!({"deliver_subject": "ledger.default.production.web.deploy.succeeded"});
    assert_rejected(&by_operator, &snapshot, &to_ledger).await;
    assert_rejected(&by_operator, "ledger.default.production.web.deploy.succeeded", &json!({})).await;

    assert_eq!(state(&operator).await, before);
    service.client().record_and_wait(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;
}

/// Waits until the service has created the work queue.
async fn wait_for_work_queue(servers: &Servers) {
    let operator = jetstream_as_operator(servers).await;
    let exists = async {
        while operator.get_stream("INBOX_default").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(ERROR_LIMIT, exists).await.expect("the work queue exists");
}

/// Asserts that a user may not publish to any of the subjects of others, and may not subscribe to any of theirs.
async fn assert_confined(user: &str, subjects: &[&str], subscriptions: &[&str]) {
    for subject in subjects.iter().chain(&[
        "ingest.default.other",
        "ingest.default.other.web",
        "ingest.acme.publisher",
        "ingest.acme.collector",
        "inbox.default.other",
        "inbox.acme.publisher.web",
        "inbox.acme.collector.web",
        "ledger.default.production.web.deploy.succeeded",
        "quarantine.default.0123456789abcdef0123456789abcdef",
        "events.default.production.deploy.succeeded",
        "$JS.API.STREAM.INFO.INBOX_default",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.API.CONSUMER.CREATE.INBOX_default.thief.inbox.default.>",
        "$JS.API.CONSUMER.MSG.NEXT.INBOX_default.ledger",
        "$JS.ACK.INBOX_default.ledger.1.1.1.1795999369025723706.4",
        "_R_.abcdef.ghijkl",
        "_INBOX_LEDGER.abc.def",
    ]) {
        assert_rejected(user, subject, &json!({})).await;
    }
    for subject in subscriptions.iter().chain(&[
        "ingest.>",
        "inbox.>",
        "events.>",
        "ledger.>",
        "_INBOX_other.>",
        "_INBOX_LEDGER.>",
        "_R_.>",
        ">",
    ]) {
        let (client, mut errors) = client_with_errors(user).await;
        let _subscription = client.subscribe((*subject).to_owned()).await.expect("sent");
        let error =
            tokio::time::timeout(ERROR_LIMIT, errors.recv()).await.expect("an error").expect("a client");
        assert!(error.contains("Permissions Violation for Subscription"), "{subject}: {error}");
    }
}

#[tokio::test]
async fn a_publisher_sends_its_own_messages_and_nothing_else() {
    let servers = Servers::start().await;
    let publisher = servers.nats_url_of(User::Publisher);

    assert_confined(&publisher, &["ingest.default.collector", "_INBOX.abc"], &["_INBOX.>"]).await;
}

#[tokio::test]
async fn a_collector_sends_its_own_messages_and_nothing_else() {
    let servers = Servers::start().await;
    let collector = servers.nats_url_of(User::Collector);

    assert_confined(
        &collector,
        &["ingest.default.publisher", "inbox.default.publisher.web", "_INBOX.abc"],
        &["_INBOX_publisher.>"],
    )
    .await;
}

/// It may subscribe to every default inbox, but only of its own account.
#[tokio::test]
async fn a_collector_sees_no_answer_to_another_user() {
    let servers = Servers::start().await;
    let _service = Service::start(PROGRAM, &servers, &["--nats-ingest-tenants=default"]).await;
    wait_for_work_queue(&servers).await;
    let (collector, _errors) = client_with_errors(&servers.nats_url_of(User::Collector)).await;
    let mut inboxes = collector.subscribe("_INBOX.>").await.expect("the user may subscribe to its inboxes");
    collector.flush().await.expect("flushed");
    let (publisher, _errors) = client_with_errors(&servers.nats_url_of(User::Publisher)).await;
    let (subject, own) = ("inbox.default.publisher.web", publisher.new_inbox());
    let mut answers = publisher.subscribe(own.clone()).await.expect("the user may subscribe to its inbox");

    // The publisher may name any subject for the answer, also one of the default inbox.
    publisher.publish_with_reply(subject, "_INBOX.abc", "{}".into()).await.expect("sent");
    publisher.publish_with_reply(subject, own, "{}".into()).await.expect("sent");
    let answer = tokio::time::timeout(ERROR_LIMIT, futures::StreamExt::next(&mut answers)).await;
    answer.expect("the queue answers").expect("a subscription");
    let request = collector.request("inbox.default.collector.web", "{}".into()).await;

    assert!(String::from_utf8_lossy(&request.expect("an answer").payload).contains("INBOX_default"));
    let first = tokio::time::timeout(ERROR_LIMIT, futures::StreamExt::next(&mut inboxes)).await;
    let first = first.expect("its own answer").expect("a subscription");
    assert_ne!(first.subject.as_str(), "_INBOX.abc");
    let more = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut inboxes));
    assert!(more.is_none(), "{more:?}");
}

#[tokio::test]
async fn a_reader_takes_no_messages_from_a_work_queue() {
    let servers = Servers::start().await;
    let _service = Service::start(PROGRAM, &servers, &["--nats-ingest-tenants=default"]).await;
    wait_for_work_queue(&servers).await;
    let reader = servers.nats_url_of(User::Reader);

    for subject in [
        "$JS.API.CONSUMER.MSG.NEXT.INBOX_default.ledger",
        "$JS.API.CONSUMER.DELETE.INBOX_default.ledger",
        "$JS.API.CONSUMER.CREATE.INBOX_default.ledger.ledger.default.>",
        "$JS.API.CONSUMER.CREATE.INBOX_default.thief.inbox.default.>",
        "$JS.API.CONSUMER.CREATE.INBOX_default.thief",
        "$JS.API.CONSUMER.CREATE.INBOX_default",
        "$JS.API.CONSUMER.DURABLE.CREATE.INBOX_default.thief",
        "$JS.ACK.INBOX_default.ledger.1.1.1.1795999369025723706.4",
    ] {
        assert_rejected(&reader, subject, &json!({})).await;
    }
}

/// A stream acknowledges a message, and the service answers one, to the subject that the publisher names.
#[tokio::test]
async fn no_answer_to_a_publisher_becomes_an_entry() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--nats-ingest-tenants=default"]).await;
    wait_for_work_queue(&servers).await;
    let (publisher, _errors) = client_with_errors(&servers.nats_url_of(User::Publisher)).await;

    for subject in ["ingest.default.publisher.web", "inbox.default.publisher.web"] {
        for reply in ["ledger.default.production.web.deploy.succeeded", "$JS.API.STREAM.PURGE.LEDGER_default"]
        {
            let sent = publisher.publish_with_reply(subject, reply, "{}".into()).await;
            sent.expect("sent");
        }
    }
    publisher.flush().await.expect("flushed");
    let quarantined = async {
        while service.client().get("/v1/quarantine").await.ok()["messages"] == json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(ERROR_LIMIT, quarantined).await.expect("the messages are handled");

    let next = service.client().record(&deploy("z", "2026-08-01T10:00:00Z", "production", "z", "v1")).await;
    assert_eq!(next.ok()["position"], 1);
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
                "filter_subject": "ledger.default.>",
            },
        });
        let (reader, request) = (reader.clone(), format!("CONSUMER.CREATE.{stream}.thief.ledger.default.>"));
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
