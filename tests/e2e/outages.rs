//! Ingest, queries and health while Postgres or NATS is unavailable, and while a client is silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config;
use ledger_tests::{Client, Response, STREAM, Servers, Service, deploy, digests, jetstream_as_operator};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::PROGRAM;

const STATE: &str = "/v1/environments/production/state";
const LAG: &str = "ledger_projections_lag_entries{tenant=\"default\"}";
const PROJECTIONS_UP: &str = "ledger_up{tenant=\"default\",part=\"projections\"}";
/// Upper bound of every wait; only a failing test reaches it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Returns the minimum duration of an outage; other waits during the outage may extend it.
fn outage() -> Duration {
    let seconds = std::env::var_os("LEDGER_OUTAGE_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", &format!("v-{id}"))
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_LIMIT, holds).await.expect("the condition becomes true");
}

/// Number of clients of a load.
const CLIENTS: u64 = 4;

/// Clients that record one event after the other until they are stopped.
struct Load {
    running: Arc<AtomicBool>,
    response_count: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<(String, Response)>>>,
}

impl Load {
    fn on(client: &Client) -> Self {
        let (running, response_count) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let clients = (0..CLIENTS).map(|name| {
            let (client, running, response_count) =
                (client.clone(), Arc::clone(&running), Arc::clone(&response_count));
            tokio::spawn(async move {
                let mut responses = Vec::new();
                for number in 0.. {
                    if !running.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("{name}-{number}");
                    responses.push((id.clone(), client.record(&web(&id)).await));
                    response_count.fetch_add(1, Ordering::Relaxed);
                }
                responses
            })
        });
        Self { clients: clients.collect(), running, response_count }
    }

    /// Waits until this many more events have a response.
    async fn wait_for_more(&self, more: u64) {
        let before = self.response_count.load(Ordering::Relaxed);
        until(async || self.response_count.load(Ordering::Relaxed) >= before + more).await;
    }

    /// Stops the clients and returns all responses with the events' ids.
    async fn stop(self) -> Vec<(String, Response)> {
        self.running.store(false, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.expect("a task"));
        }
        all
    }
}

/// Returns the position of each entry by its event's id.
async fn ids(client: &Client) -> BTreeMap<String, u64> {
    let entries = client.entries().await;
    let id = |entry: &Value| entry["event"]["id"].as_str().expect("an id").to_owned();
    entries.iter().map(|entry| (id(entry), entry["position"].as_u64().expect("a position"))).collect()
}

/// The fastest of several responses decides: a scrape that waits for Postgres takes a second.
#[tokio::test]
async fn metrics_respond_at_once_while_postgres_is_paused() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_and_wait(&web("first")).await;
    client.wait_for_metric(PROJECTIONS_UP, 1.0).await;

    servers.pause_postgres();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        client.text("/metrics").await;
        fastest = fastest.min(started.elapsed());
    }
    client.wait_for_metric(PROJECTIONS_UP, 0.0).await;
    let lag = client.metric(LAG).await;
    servers.resume_postgres();

    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
    assert_eq!(lag, Some(0.0));
}

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    /// Postgres is killed: connections are refused.
    Killed,
    /// Postgres is paused: connections stay open without responses.
    Paused,
}

/// Runs an outage of Postgres under load.
async fn postgres_outage(kind: Outage) {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_and_wait(&web("first")).await;
    let load = Load::on(&client);
    load.wait_for_more(100).await;
    let lag_before = client.metric(LAG).await;

    match kind {
        Outage::Killed => servers.kill_postgres().await,
        Outage::Paused => servers.pause_postgres(),
    }
    let over = tokio::time::sleep(outage());
    // If each group waited for the history, this would exceed the test's time limit.
    load.wait_for_more(400).await;
    let lag = client.metric(LAG).await.expect("a lag");
    load.wait_for_more(100).await;
    let later = client.metric(LAG).await.expect("a lag");
    client.wait_for_metric(PROJECTIONS_UP, 0.0).await;
    let ready = client.get("/readyz").await;
    let (ingest, queries) = (client.get("/readyz/ingest").await, client.get("/readyz/questions").await);
    let state = client.get(STATE).await;
    let requested = client
        .post(
            "/v1/environments/production/rollbacks",
            "application/json",
            r#"{"to": "1", "reason": "x", "initiated_by": {"type": "person", "name": "ada"}}"#,
        )
        .await;
    over.await;
    match kind {
        Outage::Killed => servers.start_postgres().await,
        Outage::Paused => servers.resume_postgres(),
    }
    load.wait_for_more(50).await;
    let responses = load.stop().await;
    let head = responses.iter().filter_map(|(_, response)| response.body["position"].as_u64()).max();
    let head = head.expect("a position");
    client.wait_for_projections(head).await;

    let rejected: Vec<_> = responses.iter().filter(|(_, response)| response.status != 201).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
    assert!(lag_before.is_some());
    // Each client may have had the response to an event still to come that was projected before the outage.
    assert!(lag >= 400.0 - CLIENTS as f64, "{lag}");
    // The stream may have the next event of each client before its response.
    assert!(later >= lag + 100.0 - CLIENTS as f64, "{lag}, then {later}");
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert!(ready.text.contains("default: projections: "), "{}", ready.text);
    assert_eq!((ingest.status, queries.status), (200, 503), "{}", ingest.text);
    assert_eq!((state.status, state.problem()), (503, "projections-unavailable"), "{}", state.text);
    assert_eq!((requested.status, requested.problem()), (503, "decision-unavailable"), "{}", requested.text);
    // After the outage everything is as usual.
    until(async || client.metric(LAG).await == Some(0.0)).await;
    client.wait_until_ready().await;
    assert_eq!(client.get(STATE).await.ledger_position, Some(head));
    let found = ids(&client).await;
    for (id, response) in &responses {
        assert_eq!(found.get(id).copied(), response.body["position"].as_u64(), "{id}");
    }
    let database = servers.fresh_database("rebuilt").await;
    let fresh = Service::start(PROGRAM, &servers, &[&format!("--projections-url={database}")]).await;
    fresh.client().wait_for_projections(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, digests(&database, "default").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_down_events_are_accepted_and_projections_catch_up_afterwards() {
    postgres_outage(Outage::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_postgres_delays_events_once_and_not_repeatedly() {
    postgres_outage(Outage::Paused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_is_down_events_are_rejected_immediately_and_queries_are_answered() {
    let mut servers = Servers::start().await;
    // A request that waited for a response of NATS would exceed the test's time limit.
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=600000"]).await;
    let client = service.client();
    client.record_and_wait(&web("first")).await;

    servers.kill_nats().await;
    until(async || client.get("/readyz/ingest").await.text.contains("no connection to NATS")).await;
    let mut rejected = Vec::new();
    for number in 0..20 {
        rejected.push(client.record(&web(&format!("rejected-{number}"))).await);
    }
    let lines: Vec<String> = (0..1_000).map(|number| web(&format!("line-{number}")).to_string()).collect();
    rejected.push(client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await);
    let state = client.get(&format!("{STATE}?wait_for=1")).await;
    let (ready, queries) = (client.get("/readyz").await, client.get("/readyz/questions").await);
    let position = client.get("/v1/position").await;
    servers.start_nats().await;
    let mut again = None;
    until(async || {
        let response = client.record(&web("again")).await;
        again = (response.status == 201).then_some(response);
        again.is_some()
    })
    .await;
    let head = again.and_then(|response| response.body["position"].as_u64()).expect("a position");
    client.wait_for_projections(head).await;

    for rejected in rejected {
        assert_eq!((rejected.status, rejected.problem()), (503, "journal-unavailable"), "{}", rejected.text);
        assert!(!rejected.header("retry-after").is_empty());
    }
    assert_eq!((state.status, state.ledger_position), (200, Some(1)), "{}", state.text);
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert!(ready.text.contains("default: journal: "), "{}", ready.text);
    assert_eq!(queries.status, 200, "{}", queries.text);
    assert_eq!((position.status, position.problem()), (503, "journal-unavailable"));
    assert_eq!(ids(&client).await.into_keys().collect::<Vec<_>>(), ["again", "first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_acknowledged_before_nats_is_killed_exist_after_its_restart() {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
    let client = service.client();
    client.record_and_wait(&web("first")).await;

    let load = Load::on(&client);
    load.wait_for_more(200).await;
    servers.kill_nats().await;
    load.wait_for_more(50).await;
    servers.start_nats().await;
    until(async || client.get("/readyz/ingest").await.status == 200).await;
    load.wait_for_more(50).await;
    let responses = load.stop().await;
    let accepted = responses.iter().filter(|(_, response)| response.status == 201);
    let accepted: BTreeMap<&String, u64> = accepted
        .map(|(id, response)| (id, response.body["position"].as_u64().expect("a position")))
        .collect();
    client.wait_for_projections(accepted.values().copied().max().expect("some are accepted")).await;

    let found = ids(&client).await;
    for (id, position) in accepted {
        assert_eq!(found.get(id), Some(&position), "{id}");
    }
    let others = responses.iter().filter(|(_, response)| response.status != 201);
    for (_, other) in others {
        assert_eq!((other.status, other.problem()), (503, "journal-unavailable"), "{}", other.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_nats_is_waited_for_up_to_the_configured_timeout() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=300"]).await;
    let client = service.client();
    client.record_and_wait(&web("first")).await;

    servers.pause_nats().await;
    let unknown = client.record(&web("unknown")).await;
    let lines: Vec<String> = (0..1_000).map(|number| web(&format!("line-{number}")).to_string()).collect();
    let unknown_lines = client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await;
    let state = client.get(STATE).await;
    let ingest = client.get("/readyz/ingest").await;
    servers.resume_nats();
    let mut again = None;
    until(async || {
        let response = client.record(&web("unknown")).await;
        again = (response.status == 201).then_some(response);
        again.is_some()
    })
    .await;
    client.record_all(&lines).await;

    for unknown in [unknown, unknown_lines] {
        assert_eq!((unknown.status, unknown.problem()), (503, "journal-unavailable"), "{}", unknown.text);
    }
    assert_eq!((state.status, ingest.status), (200, 503));
    // Events that were sent and stored repeatedly have one effect.
    let once = client.entries().await.iter().filter(|entry| entry.get("repeats").is_none()).count();
    assert_eq!(once, 1_002);
}

#[tokio::test]
async fn a_journal_that_is_readable_and_full_is_not_ready_for_ingest() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_and_wait(&web("first")).await;
    let operator = jetstream_as_operator(&servers).await;
    let roomy = operator.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();
    let narrow = Config { max_messages: 1, ..roomy.clone() };

    operator.update_stream(narrow).await.expect("the stream is full");
    let rejected = client.record(&web("rejected")).await;
    let (ingest, queries) = (client.get("/readyz/ingest").await, client.get("/readyz/questions").await);
    operator.update_stream(roomy).await.expect("the stream has room");
    let accepted = client.record(&web("rejected")).await;
    let again = client.get("/readyz/ingest").await;

    assert_eq!((rejected.status, rejected.problem()), (507, "journal-full"), "{}", rejected.text);
    assert_eq!((ingest.status, queries.status), (503, 200), "{}", ingest.text);
    assert!(ingest.text.contains("readable, but the last append failed"), "{}", ingest.text);
    assert_eq!((accepted.status, again.status), (201, 200), "{}", again.text);
}

#[tokio::test]
async fn a_silent_client_is_disconnected_after_the_read_timeout() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--http-read-timeout-seconds=1"]).await;
    let address = service.url().replace("http://", "");
    let send = async |sent: &str| {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut received = Vec::new();
        let closed = tokio::time::timeout(WAIT_LIMIT, stream.read_to_end(&mut received)).await;
        // The server may close or reset the connection.
        let _ = closed.expect("the connection is closed");
        String::from_utf8_lossy(&received).into_owned()
    };

    let head = "POST /v1/events HTTP/1.1\r\nhost: ledger\r\ncontent-type: application/cloudevents+json\r\n";
    send("").await;
    send(head).await;
    let body = send(&format!("{head}content-length: 100\r\n\r\n{{\"id\":")).await;

    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("body-too-slow"), "{body}");
    let complete = service.client().request(Method::POST, "/v1/events").body(web("1").to_string());
    let complete = Client::send(complete.header("content-type", "application/cloudevents+json")).await;
    assert_eq!(complete.status, 201, "{}", complete.text);
}
