//! Waiting events are sent in order and once, even if the ledger fails or rejects some.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use ledger_domain::TenantName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::super::queue::Queue;
use super::*;

/// Returns the response to a request, given its number and the ids of its events.
type Respond = fn(usize, &[String]) -> Response;

/// A service with scripted responses that stores the ids of every request.
struct Ledger {
    respond: Respond,
    requests: Mutex<Vec<Vec<String>>>,
}

async fn take(State(ledger): State<Arc<Ledger>>, body: String) -> Response {
    let id =
        |line: &str| serde_json::from_str::<Value>(line).expect("an event")["id"].as_str().map(str::to_owned);
    let ids: Vec<_> = body.lines().filter_map(id).collect();
    let mut requests = ledger.requests.lock().expect("no test panics while it holds the requests");
    requests.push(ids.clone());
    (ledger.respond)(requests.len(), &ids)
}

/// Answers that all events are recorded, except for one that has this status.
fn recorded_except(ids: &[String], exception: &str, status: &str) -> Response {
    let line = |id: &String| match id == exception {
        true => json!({
            "status": status,
            "problem": {"type": "urn:release-ledger:problem:any", "title": "No", "detail": id},
        }),
        false => json!({"status": "recorded", "position": 1}),
    };
    let lines: String = ids.iter().map(|id| format!("{}\n", line(id))).collect();
    (StatusCode::MULTI_STATUS, lines).into_response()
}

/// Sends the waiting events a, b and c to a service; returns the result, the requests, the remaining events
/// and the notes.
async fn drain_events(respond: Respond) -> (Result<(), Error>, Vec<Vec<String>>, Vec<String>, Vec<String>) {
    let ledger = Arc::new(Ledger { respond, requests: Mutex::default() });
    let router = Router::new().route("/v1/events", post(take)).with_state(Arc::clone(&ledger));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(url.parse().expect("a URL"), &TenantName::default());

    let (_spool, queue) = queue_with_events(&client);
    let lock = queue.lock(Instant::now()).await.expect("a lock").expect("an unlocked queue");
    let notes = Mutex::new(Vec::new());
    let note = |text: &str| notes.lock().expect("no test panics while it notes").push(text.to_owned());
    let result = drain(&client, &lock, RetryWindow::new(Duration::from_secs(2)), &note).await;
    let entries = queue.waiting().expect("read");
    let left =
        entries.iter().map(|entry| lock.event(entry).expect("read").expect("a file").expect("an event"));
    let id = |event: Bytes| Envelope::parse(&event).expect("an event").identity().id.as_str().to_owned();
    let left = left.map(id).collect();
    let requests = ledger.requests.lock().expect("no test panics while it holds the requests").clone();
    (result, requests, left, notes.into_inner().expect("no test panics while it notes"))
}

fn queue_with_events(client: &Client) -> (TempDir, Queue) {
    let spool = tempfile::tempdir().expect("a folder");
    let queue = Queue::new(spool.path(), client.ledger());
    let event = |id: &str| {
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": "s",
            "type": "io.releaseledger.deploy.succeeded.v1",
            "time": "2026-08-01T12:00:00Z",
            "data": {"environment": "dev", "service": "web", "release": {"version": "v1"}},
        });
        Envelope::parse(event.to_string().as_bytes()).expect("an event")
    };
    queue.add(&["a", "b", "c"].map(event)).expect("added");
    (spool, queue)
}

/// A rejection of the whole request by the ledger.
fn rejection(kind: &str) -> Response {
    let kind = format!("urn:release-ledger:problem:{kind}");
    (StatusCode::BAD_REQUEST, json!({"type": kind, "title": "No", "detail": "never"}).to_string())
        .into_response()
}

#[tokio::test]
async fn a_foreign_response_or_an_incomplete_body_does_not_decide_on_an_event() {
    let foreign = |_, ids: &[String]| match ids {
        [_] => (StatusCode::BAD_REQUEST, r#"{"type":"about:blank","title":"No"}"#).into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    };
    for respond in [foreign as Respond, |_, _| rejection("incomplete-body")] {
        let (result, _, left, notes) = drain_events(respond).await;

        result.expect_err("all are left");
        assert_eq!((left.len(), notes), (3, vec![]));
    }
}

#[tokio::test]
async fn a_foreign_response_leaves_all_events_waiting() {
    let responses: [Respond; 5] = [
        |_, _| (StatusCode::FORBIDDEN, "<html>Forbidden</html>").into_response(),
        |_, _| (StatusCode::CONFLICT, r#"{"status":"rejected"}"#).into_response(),
        |_, _| (StatusCode::OK, "<html>Please sign in</html>").into_response(),
        |_, ids| results_of_gateway(ids, "rejected"),
        |_, ids| results_of_gateway(ids, "recorded"),
    ];
    for respond in responses {
        let (result, _, left, notes) = drain_events(respond).await;

        result.expect_err("all are left");
        assert_eq!((left.len(), notes), (3, vec![]));
    }
}

/// A result for each event by a gateway.
fn results_of_gateway(ids: &[String], status: &str) -> Response {
    let line = format!("{}\n", json!({"status": status}));
    (StatusCode::OK, line.repeat(ids.len())).into_response()
}

#[tokio::test]
async fn waiting_events_are_sent_in_one_request_and_in_order() {
    let (result, requests, left, notes) = drain_events(|_, ids| recorded_except(ids, "", "")).await;
    assert!(result.is_ok());
    assert_eq!(requests, [["a", "b", "c"]]);
    assert!(left.is_empty() && notes.is_empty(), "{left:?} {notes:?}");
}

#[tokio::test]
async fn a_temporary_failure_is_retried() {
    let (result, requests, left, _) = drain_events(|number, ids| match number {
        1 => (StatusCode::BAD_GATEWAY, "no JSON").into_response(),
        _ => recorded_except(ids, "", ""),
    })
    .await;
    assert!(result.is_ok());
    assert_eq!(requests, [["a", "b", "c"], ["a", "b", "c"]]);
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_permanently_rejected_event_is_moved_aside_and_the_others_are_sent() {
    for status in ["conflict", "invalid", "rejected"] {
        let respond: Respond = match status {
            "conflict" => |_, ids| recorded_except(ids, "b", "conflict"),
            "invalid" => |_, ids| recorded_except(ids, "b", "invalid"),
            _ => |_, ids| recorded_except(ids, "b", "rejected"),
        };
        let (result, requests, left, notes) = drain_events(respond).await;
        assert!(result.is_ok());
        assert_eq!((requests.len(), left.len()), (1, 0));
        assert!(notes[0].ends_with("No: b"), "{notes:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_refused_for_now_keeps_waiting() {
    let (result, _, left, notes) = drain_events(|_, ids| recorded_except(ids, "b", "refused")).await;
    let error = result.expect_err("b is left");
    assert!(error.is_temporary(), "{error}");
    assert_eq!((left, notes), (vec!["b".to_owned()], vec![]));
}

#[tokio::test]
async fn a_rejected_request_is_split_to_find_the_rejected_event() {
    let (result, requests, left, notes) = drain_events(|_, ids| match ids {
        [id] if id == "b" => rejection("invalid-event"),
        [_] => recorded_except(ids, "", ""),
        // The response of a proxy, not of a ledger.
        _ => (StatusCode::PAYLOAD_TOO_LARGE, "too large").into_response(),
    })
    .await;
    assert!(result.is_ok());
    assert_eq!(requests, [vec!["a", "b", "c"], vec!["a"], vec!["b", "c"], vec!["b"], vec!["c"]]);
    assert!(left.is_empty() && notes[0].ends_with("No: never"), "{left:?} {notes:?}");
}

#[tokio::test]
async fn a_problem_that_is_not_about_the_events_leaves_them_waiting() {
    let (result, requests, left, notes) = drain_events(|_, _| {
        (
            StatusCode::NOT_FOUND,
            r#"{"type":"urn:release-ledger:problem:unknown-tenant","title":"No such ledger"}"#,
        )
            .into_response()
    })
    .await;
    let error = result.expect_err("all are left");
    assert!(!error.is_temporary(), "{error}");
    assert_eq!((requests.len(), left.len(), notes.len()), (1, 3, 0));
}

#[tokio::test]
async fn a_request_without_response_ends_after_the_time_limit() {
    let client = Client::new("http://127.0.0.1:1".parse().expect("a URL"), &TenantName::default());
    let never = || std::future::pending::<Result<(), Error>>();
    let error =
        RetryWindow::new(Duration::from_millis(20)).retry(&client, never).await.expect_err("no answer");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}
