//! Events arrive in order and once, whatever the service answers in between.

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

/// What the service does with a request, instead of recording all of it.
enum Scene {
    /// It answers this status, with a problem.
    Fails(StatusCode),
    /// It records all and answers nothing that is understood.
    LosesAnswer,
    /// It says this of every event from the given one on, and records those before.
    Says(usize, &'static str),
    /// It refuses the first and records the rest.
    RefusesFirst,
}

/// A service that keeps what it is sent, and plays its scenes first.
#[derive(Default)]
struct Ledger {
    scenes: VecDeque<Scene>,
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
    let scene = ledger.scenes.pop_front();
    if let Some(Scene::Fails(status)) = scene {
        return (
            status,
            json!({"type": "urn:release-ledger:problem:any", "title": "Not now", "detail": "try again"})
                .to_string(),
        )
            .into_response();
    }
    let said = match scene {
        Some(Scene::Says(from, word)) => Some((from..usize::MAX, word)),
        Some(Scene::RefusesFirst) => Some((0..1, "refused")),
        _ => None,
    };
    let answers: Vec<Value> = body
        .lines()
        .enumerate()
        .map(|(index, line)| match &said {
            Some((which, word)) if which.contains(&index) => {
                json!({
                    "id": "i", "source": "s", "status": word,
                    "problem": {"type": "urn:release-ledger:problem:any", "title": "No", "detail": word},
                })
            }
            _ => ledger.record(line),
        })
        .collect();
    if matches!(scene, Some(Scene::LosesAnswer)) {
        return (StatusCode::CREATED, "{\"status\":").into_response();
    }
    let lines: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    (StatusCode::MULTI_STATUS, lines).into_response()
}

async fn position(State(ledger): State<Shared>) -> String {
    let head = ledger.lock().expect("no test panics while it holds the ledger").entries.len();
    json!({"position": head, "head": head, "root": "r"}).to_string()
}

async fn served(scenes: impl Into<VecDeque<Scene>>) -> (Shared, Client) {
    let ledger = Shared::new(Mutex::new(Ledger { scenes: scenes.into(), ..Ledger::default() }));
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

async fn bring(client: &Client, events: u64, retry_for: u64) -> anyhow::Result<Delivered> {
    let retry_for = Duration::from_secs(retry_for);
    let delivery = Delivery { client, unit: "line", retry_for, progress: Progress::hidden() };
    let event = |number: u64| Ok((number, Bytes::from(json!({"n": number}).to_string())));
    delivery.bring((1..=events).map(event)).await
}

fn counts(delivered: &Delivered) -> (u64, u64, Option<u64>) {
    (delivered.recorded, delivered.duplicates, delivered.position)
}

fn numbers(ledger: &Shared) -> Vec<u64> {
    let ledger = ledger.lock().expect("no test panics while it holds the ledger");
    let number = |entry: &String| serde_json::from_str::<Value>(entry).ok()?["n"].as_u64();
    ledger.entries.iter().filter_map(number).collect()
}

#[tokio::test]
async fn what_is_brought_stands_in_order_and_again_is_all_duplicates() {
    let (ledger, client) = served([]).await;
    let delivered = bring(&client, 12_000, 0).await.expect("all recorded");
    assert_eq!(counts(&delivered), (12_000, 0, Some(12_000)));
    assert_eq!(numbers(&ledger), (1..=12_000).collect::<Vec<_>>());
    assert_eq!(ledger.lock().expect("unpoisoned").requests, 3);
    let delivered = bring(&client, 12_000, 0).await.expect("all there");
    assert_eq!(counts(&delivered), (0, 12_000, Some(12_000)));
}

#[tokio::test]
async fn failures_are_ridden_out_and_each_event_is_counted_once() {
    let (ledger, client) = served([
        Scene::Fails(StatusCode::SERVICE_UNAVAILABLE),
        Scene::LosesAnswer,
        Scene::Fails(StatusCode::BAD_GATEWAY),
        Scene::Says(1, "refused"),
        Scene::Says(2, "refused"),
    ])
    .await;
    let delivered = bring(&client, 3, 60).await.expect("all recorded");
    assert_eq!(counts(&delivered), (3, 0, Some(3)));
    assert_eq!(delivered.misplaced, 0);
    assert_eq!(numbers(&ledger), [1, 2, 3]);
}

#[tokio::test]
async fn an_event_that_will_never_be_recorded_ends_it_with_its_number() {
    for word in ["invalid", "conflict"] {
        let (ledger, client) = served([Scene::Says(1, word)]).await;
        let error = bring(&client, 3, 60).await.expect_err("one is not recorded");
        assert_eq!(error.to_string(), format!("line 2 is not recorded: No: {word}"));
        assert_eq!(numbers(&ledger), [1]);
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_not_sent_again() {
    let (ledger, client) = served([Scene::Fails(StatusCode::NOT_FOUND)]).await;
    let error = bring(&client, 3, 60).await.expect_err("there is no such tenant");
    assert_eq!(format!("{error:#}"), "Not now: try again");
    assert_eq!(ledger.lock().expect("unpoisoned").requests, 1);
}

#[tokio::test]
async fn without_progress_it_ends_and_says_how_to_go_on() {
    let (_, client) = served([Scene::Fails(StatusCode::SERVICE_UNAVAILABLE)]).await;
    let error = bring(&client, 3, 0).await.expect_err("no retries");
    assert_eq!(
        format!("{error:#}"),
        "given up after 0 s without progress; all before line 1 is recorded, and the same command goes on from \
         there: Not now: try again"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_made_ends_it_after_those_before() {
    let (ledger, client) = served([]).await;
    let retry_for = Duration::ZERO;
    let delivery = Delivery { client: &client, unit: "line", retry_for, progress: Progress::hidden() };
    let event = |number: u64| match number {
        3 => Err(anyhow!("line 3: no")),
        _ => Ok((number, Bytes::from(json!({"n": number}).to_string()))),
    };
    let error = delivery.bring((1..9).map(event)).await.expect_err("the third is none");
    assert_eq!(
        format!("{error:#}"),
        "what came before is recorded, and nothing after it is sent: line 3: no"
    );
    assert_eq!(numbers(&ledger), [1, 2]);
}

#[tokio::test]
async fn events_that_overtook_others_in_the_service_are_counted() {
    let (ledger, client) = served([Scene::RefusesFirst]).await;
    let delivered = bring(&client, 3, 60).await.expect("all recorded");
    assert_eq!(numbers(&ledger), [2, 3, 1]);
    assert_eq!((counts(&delivered), delivered.misplaced), ((3, 0, Some(3)), 2));
}

#[test]
fn a_summary_is_one_line() {
    let none = Delivered {
        rows: 0,
        recorded: 0,
        duplicates: 0,
        position: None,
        skipped: None,
        seconds: 0.0,
        misplaced: 0,
    };
    let delivered =
        Delivered { rows: 3, recorded: 1, duplicates: 2, position: Some(9), seconds: 12.34, ..none };
    assert_eq!(delivered.render("rows"), "3 rows: 1 recorded, 2 duplicates, position 9, 12.3 s");
    assert_eq!(
        serde_json::to_string(&delivered).expect("JSON"),
        r#"{"rows":3,"recorded":1,"duplicates":2,"position":9,"seconds":12.34}"#
    );
    let skipped = Delivered { skipped: Some(4), ..delivered };
    assert_eq!(skipped.render("rows"), "3 rows: 1 recorded, 2 duplicates, 4 skipped, position 9, 12.3 s");
    assert!(serde_json::to_string(&skipped).expect("JSON").contains(r#""skipped":4"#));
    assert_eq!(none.render("rows"), "0 rows: 0 recorded, 0 duplicates, 0.0 s");
}
