//! What is taken, answered and told while Postgres or NATS is away, and while a client is silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use ledger_tests::{Answer, Client, STREAM, Servers, Service, deploy, digests, jetstream_of_operator};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::PROGRAM;

const STATE: &str = "/v1/environments/production/state";
const LAG: &str = "ledger_projections_lag_entries{tenant=\"default\"}";
/// Longer than anything here takes that does not fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server is away. What else is waited for then may make it longer.
fn outage() -> Duration {
    let seconds = std::env::var_os("LEDGER_OUTAGE_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

fn web(id: &str) -> Value {
    deploy(id, "2026-08-01T10:00:00Z", "production", "web", &format!("v-{id}"))
}

async fn until(mut what: impl AsyncFnMut() -> bool) {
    let so = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, so).await.expect("it comes to be so");
}

/// Clients that bring one event after the other, until they are told to end.
struct Load {
    going_on: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<(String, Answer)>>>,
}

impl Load {
    fn on(client: &Client) -> Self {
        let (going_on, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let clients = (0..4).map(|name| {
            let (client, going_on, answered) = (client.clone(), Arc::clone(&going_on), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for number in 0.. {
                    if !going_on.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("{name}-{number}");
                    answers.push((id.clone(), client.record(&web(&id)).await));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        });
        Self { clients: clients.collect(), going_on, answered }
    }

    /// Waits until so many more events are answered.
    async fn goes_on(&self, more: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        until(async || self.answered.load(Ordering::Relaxed) >= before + more).await;
    }

    /// All answers, by the event's id.
    async fn end(self) -> Vec<(String, Answer)> {
        self.going_on.store(false, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.expect("a task"));
        }
        all
    }
}

/// Where each entry's id is.
async fn ids(client: &Client) -> BTreeMap<String, u64> {
    let entries = client.entries().await;
    let id = |entry: &Value| entry["event"]["id"].as_str().expect("an id").to_owned();
    entries.iter().map(|entry| (id(entry), entry["position"].as_u64().expect("a position"))).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Away {
    /// It is killed: connections are refused.
    Killed,
    /// It stands still: connections stay, and nothing answers.
    Stopped,
}

/// The whole story of an outage of Postgres under load.
async fn postgres_is_away(away: Away) {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.recorded(&web("first")).await;
    let load = Load::on(&client);
    load.goes_on(100).await;
    let lag_before = client.metric(LAG).await;

    match away {
        Away::Killed => servers.kill_postgres().await,
        Away::Stopped => servers.pause_postgres(),
    }
    let over = tokio::time::sleep(outage());
    // Were each group to wait for the history, this would take longer than the test has patience.
    load.goes_on(400).await;
    let lag = client.metric(LAG).await.expect("the lag is told");
    load.goes_on(100).await;
    let later = client.metric(LAG).await.expect("the lag is told");
    let up = client.metric("ledger_up{tenant=\"default\",part=\"projections\"}").await;
    let ready = client.get("/readyz").await;
    let (ingest, questions) = (client.get("/readyz/ingest").await, client.get("/readyz/questions").await);
    let asked = client.get(STATE).await;
    let judged = client
        .post(
            "/v1/environments/production/rollbacks",
            "application/json",
            r#"{"to": "1", "reason": "x", "initiated_by": {"type": "person", "name": "ada"}}"#,
        )
        .await;
    over.await;
    match away {
        Away::Killed => servers.start_postgres().await,
        Away::Stopped => servers.resume_postgres(),
    }
    load.goes_on(50).await;
    let answers = load.end().await;
    let head = answers.iter().filter_map(|(_, answer)| answer.body["position"].as_u64()).max();
    let head = head.expect("a position");
    client.projections_at(head).await;

    let refused: Vec<_> = answers.iter().filter(|(_, answer)| answer.status != 201).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(lag_before.is_some());
    assert!(lag >= 400.0, "{lag}");
    assert!(later >= lag + 100.0, "{lag}, then {later}");
    assert_eq!(up, Some(0.0));
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert!(ready.text.contains("default: projections: "), "{}", ready.text);
    assert_eq!((ingest.status, questions.status), (200, 503), "{}", ingest.text);
    assert_eq!((asked.status, asked.problem()), (503, "projections-unavailable"), "{}", asked.text);
    assert_eq!((judged.status, judged.problem()), (503, "decision-unavailable"), "{}", judged.text);
    // All is as if nothing had been.
    until(async || client.metric(LAG).await == Some(0.0)).await;
    client.ready().await;
    assert_eq!(client.get(STATE).await.ledger_position, Some(head));
    let found = ids(&client).await;
    for (id, answer) in &answers {
        assert_eq!(found.get(id).copied(), answer.body["position"].as_u64(), "{id}");
    }
    let anew = servers.fresh_database("anew").await;
    let fresh = Service::start(PROGRAM, &servers, &[&format!("--projections-url={anew}")]).await;
    fresh.client().projections_at(head).await;
    assert_eq!(digests(&servers.postgres_url(), "default").await, digests(&anew, "default").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_events_are_taken_in_and_the_projections_catch_up_afterwards() {
    postgres_is_away(Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_stands_still_holds_events_up_once_and_not_again_and_again() {
    postgres_is_away(Away::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_events_are_sent_away_at_once_and_questions_are_answered() {
    let mut servers = Servers::start().await;
    // Whoever waited for an answer of NATS would not be answered within the test's patience.
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=600000"]).await;
    let client = service.client();
    client.recorded(&web("first")).await;

    servers.kill_nats().await;
    until(async || client.get("/readyz/ingest").await.text.contains("no connection to NATS")).await;
    let mut refused = Vec::new();
    for number in 0..20 {
        refused.push(client.record(&web(&format!("refused-{number}"))).await);
    }
    let lines: Vec<String> = (0..1_000).map(|number| web(&format!("line-{number}")).to_string()).collect();
    refused.push(client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await);
    let asked = client.get(&format!("{STATE}?wait_for=1")).await;
    let (ready, questions) = (client.get("/readyz").await, client.get("/readyz/questions").await);
    let position = client.get("/v1/position").await;
    servers.start_nats().await;
    let mut again = None;
    until(async || {
        let answer = client.record(&web("again")).await;
        again = (answer.status == 201).then_some(answer);
        again.is_some()
    })
    .await;
    let head = again.and_then(|answer| answer.body["position"].as_u64()).expect("a position");
    client.projections_at(head).await;

    for refused in refused {
        assert_eq!((refused.status, refused.problem()), (503, "journal-unavailable"), "{}", refused.text);
        assert!(!refused.header("retry-after").is_empty());
    }
    assert_eq!((asked.status, asked.ledger_position), (200, Some(1)), "{}", asked.text);
    assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{}", ready.text);
    assert!(ready.text.contains("default: journal: "), "{}", ready.text);
    assert_eq!(questions.status, 200, "{}", questions.text);
    assert_eq!((position.status, position.problem()), (503, "journal-unavailable"));
    assert_eq!(ids(&client).await.into_keys().collect::<Vec<_>>(), ["again", "first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_nats_died_is_there_when_it_is_back() {
    let mut servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=1000"]).await;
    let client = service.client();
    client.recorded(&web("first")).await;

    let load = Load::on(&client);
    load.goes_on(200).await;
    servers.kill_nats().await;
    load.goes_on(50).await;
    servers.start_nats().await;
    until(async || client.get("/readyz/ingest").await.status == 200).await;
    load.goes_on(50).await;
    let answers = load.end().await;
    let taken = answers.iter().filter(|(_, answer)| answer.status == 201);
    let taken: BTreeMap<&String, u64> =
        taken.map(|(id, answer)| (id, answer.body["position"].as_u64().expect("a position"))).collect();
    client.projections_at(taken.values().copied().max().expect("some are taken")).await;

    let found = ids(&client).await;
    for (id, position) in taken {
        assert_eq!(found.get(id), Some(&position), "{id}");
    }
    let others = answers.iter().filter(|(_, answer)| answer.status != 201);
    for (_, other) in others {
        assert_eq!((other.status, other.problem()), (503, "journal-unavailable"), "{}", other.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_stands_still_is_waited_for_as_long_as_the_settings_say() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--journal-request-timeout-ms=300"]).await;
    let client = service.client();
    client.recorded(&web("first")).await;

    servers.pause_nats().await;
    let unknown = client.record(&web("unknown")).await;
    let lines: Vec<String> = (0..1_000).map(|number| web(&format!("line-{number}")).to_string()).collect();
    let unknown_lines = client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await;
    let asked = client.get(STATE).await;
    let ingest = client.get("/readyz/ingest").await;
    servers.resume_nats();
    let mut again = None;
    until(async || {
        let answer = client.record(&web("unknown")).await;
        again = (answer.status == 201).then_some(answer);
        again.is_some()
    })
    .await;
    client.recorded_all(&lines).await;

    for unknown in [unknown, unknown_lines] {
        assert_eq!((unknown.status, unknown.problem()), (503, "journal-unavailable"), "{}", unknown.text);
    }
    assert_eq!((asked.status, ingest.status), (200, 503));
    // However often they were sent and stored, they have an effect once.
    let once = client.entries().await.iter().filter(|entry| entry.get("repeats").is_none()).count();
    assert_eq!(once, 1_002);
}

#[tokio::test]
async fn a_journal_that_answers_and_stores_nothing_is_not_ready_to_take_events_in() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.recorded(&web("first")).await;
    let operator = jetstream_of_operator(&servers).await;
    let roomy = operator.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();
    let narrow = Config { max_messages: 1, ..roomy.clone() };

    operator.update_stream(narrow).await.expect("the stream is full");
    let refused = client.record(&web("refused")).await;
    let (ingest, questions) = (client.get("/readyz/ingest").await, client.get("/readyz/questions").await);
    operator.update_stream(roomy).await.expect("the stream has room");
    let taken = client.record(&web("refused")).await;
    let again = client.get("/readyz/ingest").await;

    assert_eq!((refused.status, refused.problem()), (507, "journal-full"), "{}", refused.text);
    assert_eq!((ingest.status, questions.status), (503, 200), "{}", ingest.text);
    assert!(ingest.text.contains("it answers, and took no event lately"), "{}", ingest.text);
    assert_eq!((taken.status, again.status), (201, 200), "{}", again.text);
}

#[tokio::test]
async fn a_client_that_falls_silent_is_not_waited_for() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--http-read-timeout-seconds=1"]).await;
    let address = service.url().replace("http://", "");
    let heard = async |sent: &str| {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut heard = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        // Closed in whichever way.
        let _ = closed.expect("the connection is closed");
        String::from_utf8_lossy(&heard).into_owned()
    };

    let head = "POST /v1/events HTTP/1.1\r\nhost: ledger\r\ncontent-type: application/cloudevents+json\r\n";
    heard("").await;
    heard(head).await;
    let body = heard(&format!("{head}content-length: 100\r\n\r\n{{\"id\":")).await;

    assert!(body.starts_with("HTTP/1.1 400 ") && body.contains("incomplete-body"), "{body}");
    let still = service.client().request(Method::POST, "/v1/events").body(web("1").to_string());
    let still = Client::send(still.header("content-type", "application/cloudevents+json")).await;
    assert_eq!(still.status, 201, "{}", still.text);
}
