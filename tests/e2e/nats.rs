//! Messages from NATS and entries to NATS, with a real server and the program: recorded once in effect and in order, also
//! if a process dies in between.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, HeaderMap, Message, ServerAddr, Subscriber};
use futures::StreamExt as _;
use ledger_devstack::Nats;
use ledger_devstack::nats::{self, User};
use ledger_tests::{
    Client as LedgerClient, Servers, Service, deploy, event, free_ports, jetstream_as_operator, nats_client,
    stream_entries, wait_for_entries,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::PROGRAM;

/// Upper bound of a wait that only a failing test reaches. A lease of a killed process expires after half a minute.
const LIMIT: Duration = Duration::from_secs(90);
/// Longest stop without requests in progress: the time limits of its stages take 9.5 seconds.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const TIME: &str = "2026-08-01T10:00:00Z";
const INGEST: &str = "--nats-ingest-tenants=default";

async fn publisher(servers: &Servers) -> Client {
    let address: ServerAddr = servers.nats_url_of(User::Publisher).parse().expect("an address");
    let (user, password) = (address.username().expect("a user"), address.password().expect("a password"));
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    let options =
        options.custom_inbox_prefix("_INBOX_publisher").request_timeout(Some(Duration::from_secs(3)));
    options.connect(address).await.expect("connected to NATS")
}

/// Sends a request until it is answered: before the service has subscribed, there is no answer.
async fn request(client: &Client, subject: &str, headers: &[(&'static str, &str)], body: &str) -> Message {
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        sent.insert(*name, *value);
    }
    let answered = async {
        loop {
            let (subject, body) = (subject.to_owned(), body.to_owned().into());
            match client.request_with_headers(subject, sent.clone(), body).await {
                Ok(answer) => return answer,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(LIMIT, answered).await.expect("an answer")
}

fn content_type(message: &Message) -> String {
    let headers = message.headers.as_ref().expect("headers");
    headers.get("content-type").expect("a content type").as_str().to_owned()
}

fn json_of(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).expect("JSON")
}

fn web(id: &str) -> Value {
    deploy(id, TIME, "production", "web", &format!("v{id}"))
}

#[tokio::test]
async fn a_request_is_recorded_once_and_answered_with_its_position() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[INGEST]).await;
    let client = publisher(&servers).await;
    let subject = "ingest.default.publisher.web";

    let first = request(&client, subject, &[], &web("1").to_string()).await;
    let again = request(&client, subject, &[], &web("1").to_string()).await;
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "urn:release-ledger:test"),
        ("ce-type", "io.releaseledger.deploy.succeeded.v1"),
        ("ce-time", TIME),
    ];
    let binary = request(&client, "ingest.default.publisher", &headers, &web("2")["data"].to_string()).await;

    assert_eq!(content_type(&first), "application/json");
    assert_eq!(json_of(&first), json!({"status": "recorded", "positions": [1]}));
    assert_eq!(json_of(&again), json_of(&first), "a duplicate has the position of the entry");
    assert_eq!(json_of(&binary), json!({"status": "recorded", "positions": [2]}));
    let entry = service.client().get("/v1/events/1?wait_for=1").await.ok();
    assert_eq!(entry["principal"]["issuer"], "release-ledger:nats", "{entry}");
    assert_eq!(entry["principal"]["subject"], "publisher", "{entry}");
}

#[tokio::test]
async fn a_request_that_is_not_recorded_is_answered_with_a_problem() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[INGEST]).await;
    let client = publisher(&servers).await;
    let subject = "ingest.default.publisher";
    let command = json!({
        "environment": "production", "service": "web", "release": {"version": "v1"}, "rollback_id": "r1",
    });
    let command = event("2", "deploy.started", TIME, command);

    let invalid = request(&client, subject, &[], "{}").await;
    let forbidden = request(&client, subject, &[], &command.to_string()).await;

    for (answer, slug, status) in [(&invalid, "not-understood", 422), (&forbidden, "forbidden", 403)] {
        assert_eq!(content_type(answer), "application/problem+json");
        let problem = json_of(answer);
        assert_eq!(problem["type"], format!("urn:release-ledger:problem:{slug}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
    }
    let kept = service.client().get("/v1/quarantine").await.ok();
    assert_eq!(kept["messages"][0]["id"], json_of(&invalid)["quarantine_id"], "{kept}");
    assert_eq!(service.client().positions().await.1, 0, "nothing is recorded");
}

async fn queued(servers: &Servers) -> Option<u64> {
    let operator = jetstream_as_operator(servers).await;
    let stream = operator.get_stream("INBOX_default").await.ok()?;
    Some(stream.cached_info().state.messages)
}

async fn wait_until_handled(servers: &Servers) {
    let handled = async {
        while queued(servers).await != Some(0) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, handled).await.expect("the work queue is empty");
}

#[tokio::test]
async fn messages_in_the_work_queue_survive_a_killed_service_and_a_killed_server() {
    const MESSAGES: u64 = 300;
    let mut servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[INGEST, "--journal-request-timeout-ms=1000"]).await;
    let client = publisher(&servers).await;
    wait_until_handled(&servers).await;

    for number in 0..MESSAGES {
        match number {
            100 => service.kill().await,
            150 => {
                servers.kill_nats().await;
                servers.start_nats().await;
            }
            200 => service.restart().await,
            250 => {
                servers.kill_nats().await;
                servers.start_nats().await;
            }
            _ => {}
        }
        // The acknowledgement of the stream: the message is durable. Without one, it is sent again.
        let accepted =
            request(&client, "inbox.default.publisher.web", &[], &web(&number.to_string()).to_string()).await;
        assert_eq!(json_of(&accepted)["stream"], "INBOX_default");
    }
    wait_until_handled(&servers).await;

    assert_one_effect_each(&service.client(), MESSAGES).await;
}

/// Asserts that each message has one effect, in the order of the queue.
async fn assert_one_effect_each(client: &LedgerClient, messages: u64) {
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let entries = client.entries().await;
    let effective = entries.iter().filter(|entry| entry["repeats"].is_null());
    let ids: Vec<&str> = effective.map(|entry| entry["event"]["id"].as_str().expect("an id")).collect();
    let expected: Vec<String> = (0..messages).map(|number| number.to_string()).collect();
    assert_eq!(ids, expected, "each message once, in the order of the queue");
}

/// Publishes this many messages to the work queue, and waits until its stream has stored all of them.
async fn publish(servers: &Servers, messages: u64) {
    /// Messages that wait for their acknowledgement at a time.
    const IN_FLIGHT: usize = 500;
    let context = async_nats::jetstream::new(publisher(servers).await);
    let numbers: Vec<u64> = (0..messages).collect();
    for numbers in numbers.chunks(IN_FLIGHT) {
        let mut acknowledgements = Vec::new();
        for number in numbers {
            let message = web(&number.to_string()).to_string();
            let sent = context.publish("inbox.default.publisher.web", message.into()).await;
            acknowledgements.push(sent.expect("sent"));
        }
        for acknowledgement in acknowledgements {
            assert_eq!(acknowledgement.await.expect("stored").stream, "INBOX_default");
        }
    }
}

#[tokio::test]
async fn a_backlog_in_the_work_queue_has_one_effect_each_although_the_service_stops_in_between() {
    const MESSAGES: u64 = 5_000;
    let servers = Servers::start().await;
    let operator = jetstream_as_operator(&servers).await;
    let mut service = Service::start(PROGRAM, &servers, &[INGEST]).await;
    // The service creates the queue.
    wait_until_handled(&servers).await;
    assert!(service.terminate().await, "the process stops without an error");
    publish(&servers, MESSAGES).await;

    let mut recorded = 0;
    for _ in 0..2 {
        // It records before it is ready.
        let mut service = Service::start_alive(PROGRAM, &servers, &[INGEST]).await;
        wait_for_entries(&operator, recorded + 1).await;
        let stopping = Instant::now();
        assert!(service.terminate().await, "the process stops without an error");
        assert!(stopping.elapsed() < STOP_LIMIT, "the stop took {:?}", stopping.elapsed());
        recorded = stream_entries(&operator).await;
        assert!(recorded < MESSAGES, "the stop came after the backlog: {recorded} entries");
    }
    service.restart().await;
    wait_until_handled(&servers).await;

    let client = service.client();
    assert_one_effect_each(&client, MESSAGES).await;
    let quarantine = client.get("/v1/quarantine").await.ok();
    assert_eq!(quarantine["messages"], json!([]), "no message is in the quarantine");
}

/// Sends the request of an event until the service has recorded it; returns its position.
async fn record(client: &Client, number: u64) -> u64 {
    let recorded = async {
        loop {
            let body = web(&number.to_string()).to_string();
            let answer = json_of(&request(client, "ingest.default.publisher.web", &[], &body).await);
            if answer["status"] == "recorded" {
                return answer["positions"][0].as_u64().expect("a position");
            }
            assert_eq!(answer["status"], 503, "{answer}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, recorded).await.expect("the event is recorded")
}

#[tokio::test]
async fn requests_are_recorded_once_and_in_order_although_service_and_server_are_killed() {
    const REQUESTS: u64 = 200;
    let mut servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &[INGEST, "--journal-request-timeout-ms=1000"]).await;
    let client = publisher(&servers).await;

    let mut positions = Vec::new();
    for number in 0..REQUESTS {
        // Each dies while a request is in flight.
        let kill = async {
            match number {
                40 | 120 => {
                    service.kill().await;
                    service.restart().await;
                }
                80 | 160 => {
                    servers.kill_nats().await;
                    servers.start_nats().await;
                }
                _ => {}
            }
        };
        let (position, ()) = tokio::join!(record(&client, number), kill);
        positions.push(position);
    }

    assert!(positions.is_sorted_by(|earlier, later| earlier < later), "{positions:?}");
    let client = service.client();
    let (_, head) = client.positions().await;
    client.wait_for_projections(head).await;
    let entries = client.entries().await;
    let effective = entries.iter().filter(|entry| entry["repeats"].is_null());
    let ids: Vec<&str> = effective.map(|entry| entry["event"]["id"].as_str().expect("an id")).collect();
    let expected: Vec<String> = (0..REQUESTS).map(|number| number.to_string()).collect();
    assert_eq!(ids, expected, "each request once, in the order in which they were sent");
}

/// Receives entries up to a position, by position. Asserts that a repeated entry is the same.
async fn receive_until(subscriber: &mut Subscriber, last: u64, entries: &mut BTreeMap<u64, Value>) {
    while !entries.contains_key(&last) {
        let message = timeout(LIMIT, subscriber.next()).await.expect("an entry").expect("a subscription");
        let headers = message.headers.as_ref().expect("headers");
        let position =
            headers.get("Ledger-Position").expect("a position").as_str().parse().expect("a number");
        let event = json_of(&message);
        assert_eq!(headers.get("Ledger-Type").map(async_nats::HeaderValue::as_str), Some("deploy.succeeded"));
        assert_eq!(message.subject.as_str(), "events.default.production.deploy.succeeded");
        match entries.insert(position, event.clone()) {
            Some(earlier) => assert_eq!(earlier, event, "position {position}"),
            None => {
                assert_eq!(entries.keys().next_back(), Some(&position), "an entry arrives after later ones");
            }
        }
    }
}

#[tokio::test]
async fn entries_are_published_in_order_and_none_is_left_out_after_a_crash() {
    let servers = Servers::start().await;
    let mut service = Service::start(PROGRAM, &servers, &["--nats-publish-tenants=default"]).await;
    let reader = nats_client(&servers.nats_url_of(User::Reader)).await;
    let mut subscriber = reader.subscribe("events.default.>").await.expect("the reader may subscribe");
    let client = service.client();
    let mut entries = BTreeMap::new();

    // It publishes what is recorded after it has started.
    let mut last = 0;
    let started = async {
        loop {
            last = client.record_and_wait(&web(&format!("first-{last}"))).await;
            if let Ok(message) = timeout(Duration::from_millis(500), subscriber.next()).await {
                return message.expect("a subscription");
            }
        }
    };
    timeout(LIMIT, started).await.expect("an entry is published");
    let lines = |word: &str| (0..200).map(|n| web(&format!("{word}-{n}")).to_string()).collect::<Vec<_>>();
    let before = client.record_all(&lines("before")).await;
    service.kill().await;
    service.restart().await;
    let after = client.record_all(&lines("after")).await;
    let last = *after.last().expect("a position");
    receive_until(&mut subscriber, last, &mut entries).await;

    let positions: Vec<u64> = entries.into_keys().filter(|position| *position >= before[0]).collect();
    assert_eq!(positions, (before[0]..=last).collect::<Vec<_>>());
}

const COLLECTOR: &str = "inbox.default.collector.events";

/// Connects as a program does that does not know of inboxes.
async fn collector(url: &str) -> Client {
    let address: ServerAddr = url.parse().expect("an address");
    let (user, password) = (address.username().expect("a user"), address.password().expect("a password"));
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    options.connect(address).await.expect("connected to NATS")
}

fn cdevent(number: u64) -> Value {
    json!({
        "context": {
            "version": "0.4.1", "id": number.to_string(), "source": "/ci/a%2Fb",
            "type": "dev.cdevents.service.deployed.0.2.0", "timestamp": TIME,
        },
        "subject": {
            "id": "search-api", "source": "/ci/a%2Fb", "type": "service",
            "content": {
                "environment": {"id": "production", "source": "/ci/a%2Fb"},
                "artifactId": format!("pkg:oci/search-api@v{number}"),
            }
        }
    })
}

/// Publishes a CDEvent as cdviz-collector does in the mode `jetstream`, until the stream acknowledges it.
async fn publish_as_cdviz(jetstream: &Context, number: u64) {
    let acknowledged = async {
        loop {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/json");
            let body = cdevent(number).to_string().into();
            let acknowledgement = match jetstream.publish_with_headers(COLLECTOR, headers, body).await {
                Ok(acknowledgement) => acknowledgement.await,
                Err(error) => Err(error),
            };
            match acknowledgement {
                Ok(acknowledgement) => return acknowledgement.stream,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let stream = timeout(LIMIT, acknowledged).await.expect("an acknowledgement");
    assert_eq!(stream, "INBOX_default");
}

async fn assert_recorded_from_collector(service: &Service, count: u64) {
    let client = service.client();
    client.wait_for_projections(count).await;
    let entries = client.entries().await;
    let versions: Vec<&str> = entries
        .iter()
        .map(|entry| entry["event"]["data"]["release"]["version"].as_str().expect("a version"))
        .collect();
    let expected: Vec<String> = (1..=count).map(|number| format!("v{number}")).collect();
    assert_eq!(versions, expected);
    let entry = client.get("/v1/events/1").await.ok();
    assert_eq!(entry["principal"]["subject"], "collector", "{entry}");
}

#[tokio::test]
async fn cdviz_collector_publishes_cdevents_with_the_default_inbox() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[INGEST]).await;
    let client = collector(&servers.nats_url_of(User::Collector)).await;

    publish_as_cdviz(&jetstream::new(client.clone()), 1).await;
    wait_until_handled(&servers).await;
    // In the mode `core`, it waits for no answer.
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json");
    client.publish_with_headers(COLLECTOR, headers, cdevent(2).to_string().into()).await.expect("sent");
    client.flush().await.expect("flushed");

    assert_recorded_from_collector(&service, 2).await;
}

/// A nats-server beside a collector.
struct Leaf(Child);

impl Leaf {
    fn start(servers: &Servers, listen: u16, remote: &str) -> Self {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/nats/collector.conf");
        let child = Command::new("nats-server")
            .args(["--config", config])
            .current_dir(servers.folder())
            .env("NATS_COLLECTOR_NAME", "\"leaf\"")
            .env("NATS_COLLECTOR_LISTEN", format!("\"127.0.0.1:{listen}\""))
            .env("NATS_COLLECTOR_REMOTE", format!("\"{remote}\""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("nats-server is on PATH"))
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // The process may have exited before; that is the result we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// cdviz-collector ignores the user and the password of an address: it can only connect without them.
#[tokio::test]
async fn a_collector_without_credentials_publishes_through_a_server_beside_it() {
    let servers = Servers::start().await;
    let ports = free_ports(2);
    let mut options = nats::Options::found_in(std::env::var_os("PATH").unwrap_or_default());
    // As the guide to NATS has it.
    options.extra_config = format!(
        "leafnodes {{\n listen: \"127.0.0.1:{}\"\n authorization {{ users: [ {{ user: collector, password: \
         $NATS_COLLECTOR_PASSWORD, account: COLLECTOR }} ] }}\n}}",
        ports[0]
    );
    let hub = Nats::start(&servers.folder().join("hub"), &options).await.expect("nats-server starts");
    let url = format!("--journal-url={}", hub.url().expose_secret());
    let service = Service::start(PROGRAM, &servers, &[INGEST, &url]).await;
    let remote = hub.url_of(User::Collector).expose_secret().replacen("nats:", "nats-leaf:", 1);
    let remote = remote.replace(&format!(":{}", hub.port()), &format!(":{}", ports[0]));
    let _leaf = Leaf::start(&servers, ports[1], &remote);
    let address = format!("127.0.0.1:{}", ports[1]);

    let connected = async {
        loop {
            match async_nats::connect(&address).await {
                Ok(client) => return client,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let client = timeout(LIMIT, connected).await.expect("connected to the server of the collector");
    publish_as_cdviz(&jetstream::new(client.clone()), 1).await;
    let elsewhere = client.request("inbox.default.publisher.web", "{}".into()).await;

    assert_recorded_from_collector(&service, 1).await;
    let elsewhere = elsewhere.expect_err("the account of the collector has no such subject");
    assert_eq!(elsewhere.kind(), async_nats::RequestErrorKind::NoResponders);
}
