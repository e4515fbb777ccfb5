//! Events are recorded in order and once, even if requests fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ledger_domain::TenantName;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// A response of the service other than recording the whole request.
enum Fault {
    /// Answers with this status and a problem.
    Fails(StatusCode),
    /// Records everything, and answers with a truncated body.
    LosesAnswer,
    /// Answers with this status for every event from the given index on, and records those before.
    AnswersFrom(usize, &'static str),
    /// Refuses the first event and records the rest.
    RefusesFirst,
}

/// A service that stores events, after it has played its scripted responses.
#[derive(Default)]
struct Ledger {
    faults: VecDeque<Fault>,
    entries: Vec<String>,
    requests: usize,
}

impl Ledger {
    fn record(&mut self, line: &str) -> Value {
        let known = self.entries.iter().position(|entry| entry == line);
        let status = if known.is_some() { "duplicate" } else { "recorded" };
        let index = known.unwrap_or_else(|| {
            self.entries.push(line.to_owned());
            self.entries.len() - 1
        });
        json!({"id": "i", "source": "s", "status": status, "position": index + 1})
    }
}

type Shared = Arc<Mutex<Ledger>>;

async fn take(State(ledger): State<Shared>, body: String) -> Response {
    let mut ledger = ledger.lock().expect("no test panics while it holds the ledger");
    ledger.requests += 1;
    let fault = ledger.faults.pop_front();
    if let Some(Fault::Fails(status)) = fault {
        return (
            status,
            json!({"type": "urn:release-ledger:problem:any", "title": "Not now", "detail": "try again"})
                .to_string(),
        )
            .into_response();
    }
    let override_status = match fault {
        Some(Fault::AnswersFrom(from, status)) => Some((from..usize::MAX, status)),
        Some(Fault::RefusesFirst) => Some((0..1, "refused")),
        _ => None,
    };
    let answers: Vec<Value> = body
        .lines()
        .enumerate()
        .map(|(index, line)| match &override_status {
            Some((indices, status)) if indices.contains(&index) => {
                json!({
                    "id": "i", "source": "s", "status": status,
                    "problem": {"type": "urn:release-ledger:problem:any", "title": "No", "detail": status},
                })
            }
            _ => ledger.record(line),
        })
        .collect();
    if matches!(fault, Some(Fault::LosesAnswer)) {
        return (StatusCode::CREATED, "{\"status\":").into_response();
    }
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    (StatusCode::MULTI_STATUS, lines).into_response()
}

async fn position(State(ledger): State<Shared>) -> String {
    let head = ledger.lock().expect("no test panics while it holds the ledger").entries.len();
    json!({"position": head, "head": head, "root": "r"}).to_string()
}

async fn serve(faults: impl Into<VecDeque<Fault>>) -> (Shared, Client) {
    let ledger = Shared::new(Mutex::new(Ledger { faults: faults.into(), ..Ledger::default() }));
    let router = Router::new()
        .route("/v1/events", post(take))
        .route("/v1/position", get(position))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&ledger));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(url.parse().expect("a URL"), &TenantName::default());
    (ledger, client)
}

fn delivery(client: &Client, retry_for: u64) -> Delivery<'_> {
    let retry_for = Duration::from_secs(retry_for);
    Delivery { client, unit: "line", retry_for, progress: Progress::hidden(), skips_rejected: false }
}

async fn deliver(client: &Client, events: u64, retry_for: u64) -> anyhow::Result<DeliverySummary> {
    deliver_by(delivery(client, retry_for), events).await
}

async fn deliver_by(delivery: Delivery<'_>, events: u64) -> anyhow::Result<DeliverySummary> {
    let event = |number: u64| Ok((number, Bytes::from(json!({"n": number}).to_string())));
    delivery.deliver((1..=events).map(event)).await
}

/// Returns the origin of the service.
fn address(client: &Client) -> String {
    client.ledger().join("/").expect("a URL").to_string()
}

fn counts(delivered: &DeliverySummary) -> (u64, u64, Option<u64>) {
    (delivered.recorded, delivered.duplicates, delivered.position)
}

fn numbers(ledger: &Shared) -> Vec<u64> {
    let ledger = ledger.lock().expect("no test panics while it holds the ledger");
    let number = |entry: &String| serde_json::from_str::<Value>(entry).ok()?["n"].as_u64();
    ledger.entries.iter().filter_map(number).collect()
}

#[tokio::test]
async fn delivered_events_are_recorded_in_order_and_a_second_delivery_is_all_duplicates() {
    let (ledger, client) = serve([]).await;
    let delivered = deliver(&client, 12_000, 0).await.expect("all recorded");
    assert_eq!(counts(&delivered), (12_000, 0, Some(12_000)));
    assert_eq!(numbers(&ledger), (1..=12_000).collect::<Vec<_>>());
    assert_eq!(ledger.lock().expect("unpoisoned").requests, 3);
    let delivered = deliver(&client, 12_000, 0).await.expect("all recorded");
    assert_eq!(counts(&delivered), (0, 12_000, Some(12_000)));
}

#[tokio::test]
async fn delivery_retries_through_failures_and_counts_each_event_once() {
    let (ledger, client) = serve([
        Fault::Fails(StatusCode::SERVICE_UNAVAILABLE),
        Fault::LosesAnswer,
        Fault::Fails(StatusCode::BAD_GATEWAY),
        Fault::AnswersFrom(1, "refused"),
        Fault::AnswersFrom(2, "refused"),
    ])
    .await;
    let delivered = deliver(&client, 3, 60).await.expect("all recorded");
    assert_eq!(counts(&delivered), (3, 0, Some(3)));
    assert_eq!(delivered.out_of_order, 0);
    assert_eq!(numbers(&ledger), [1, 2, 3]);
}

#[tokio::test]
async fn a_permanently_rejected_event_ends_the_delivery_with_its_number() {
    for status in ["invalid", "conflict"] {
        let (ledger, client) = serve([Fault::AnswersFrom(1, status)]).await;
        let error = deliver(&client, 3, 60).await.expect_err("one is not recorded");
        assert_eq!(error.to_string(), format!("line 2 is not recorded: No: {status}"));
        assert_eq!(numbers(&ledger), [1]);
    }
}

#[tokio::test]
async fn a_delivery_that_leaves_out_rejected_events_counts_them_and_records_the_rest() {
    let (ledger, client) = serve([Fault::AnswersFrom(2, "rejected"), Fault::AnswersFrom(0, "invalid")]).await;
    let lenient = || Delivery { skips_rejected: true, ..delivery(&client, 60) };

    let delivered = deliver_by(lenient(), 3).await.expect("one is left out");
    assert_eq!((counts(&delivered), delivered.skipped, delivered.rows), ((2, 0, Some(2)), Some(1), 2));
    assert_eq!(numbers(&ledger), [1, 2]);

    let error = deliver_by(lenient(), 3).await.expect_err("an invalid event is never left out");
    assert_eq!(error.to_string(), "line 1 is not recorded: No: invalid");
    let all = deliver_by(lenient(), 3).await.expect("all recorded");
    assert_eq!((counts(&all), all.skipped), ((1, 2, Some(3)), None));
}

#[tokio::test]
async fn a_rejected_request_is_not_retried() {
    let (ledger, client) = serve([Fault::Fails(StatusCode::NOT_FOUND)]).await;
    let error = deliver(&client, 3, 60).await.expect_err("there is no such tenant");
    assert_eq!(format!("{error:#}"), format!("Not now: try again ({})", address(&client)));
    assert_eq!(ledger.lock().expect("unpoisoned").requests, 1);
}

#[tokio::test]
async fn without_progress_the_delivery_ends_and_says_how_to_continue() {
    let (_, client) = serve([Fault::Fails(StatusCode::SERVICE_UNAVAILABLE)]).await;
    let error = deliver(&client, 3, 0).await.expect_err("no retries");
    assert_eq!(
        format!("{error:#}"),
        format!(
            "gave up after 0 s without progress; everything before line 1 is recorded, and the same command \
             continues from there: Not now: try again ({})",
            address(&client)
        )
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_created_ends_the_delivery_after_the_events_before_it() {
    let (ledger, client) = serve([]).await;
    let delivery = delivery(&client, 0);
    let event = |number: u64| match number {
        3 => Err(anyhow!("line 3: no")),
        _ => Ok((number, Bytes::from(json!({"n": number}).to_string()))),
    };
    let error = delivery.deliver((1..9).map(event)).await.expect_err("the third fails");
    assert_eq!(
        format!("{error:#}"),
        "everything before it is recorded, and nothing after it is sent: line 3: no"
    );
    assert_eq!(numbers(&ledger), [1, 2]);
}

#[tokio::test]
async fn events_recorded_out_of_order_are_counted() {
    let (ledger, client) = serve([Fault::RefusesFirst]).await;
    let delivered = deliver(&client, 3, 60).await.expect("all recorded");
    assert_eq!(numbers(&ledger), [2, 3, 1]);
    assert_eq!((counts(&delivered), delivered.out_of_order), ((3, 0, Some(3)), 2));
}

#[test]
fn a_summary_is_one_line() {
    let none = DeliverySummary {
        rows: 0,
        recorded: 0,
        duplicates: 0,
        position: None,
        skipped: None,
        seconds: 0.0,
        out_of_order: 0,
    };
    let delivered =
        DeliverySummary { rows: 3, recorded: 1, duplicates: 2, position: Some(9), seconds: 12.34, ..none };
    assert_eq!(delivered.render("rows"), "3 rows: 1 recorded, 2 duplicates, position 9, 12.3 s");
    assert_eq!(
        serde_json::to_string(&delivered).expect("JSON"),
        r#"{"rows":3,"recorded":1,"duplicates":2,"position":9,"seconds":12.34}"#
    );
    let skipped = DeliverySummary { skipped: Some(4), ..delivered };
    assert_eq!(skipped.render("rows"), "3 rows: 1 recorded, 2 duplicates, 4 skipped, position 9, 12.3 s");
    assert!(serde_json::to_string(&skipped).expect("JSON").contains(r#""skipped":4"#));
    assert_eq!(none.render("rows"), "0 rows: 0 recorded, 0 duplicates, 0.0 s");
}
