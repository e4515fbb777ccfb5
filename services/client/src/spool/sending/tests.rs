//! What waits is sent in order and once, whatever the ledger answers in between.

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

/// What the service says to a request of these ids.
type Says = fn(usize, &[String]) -> Response;

/// A service that says what it is told to, and notes the ids of every request.
struct Ledger {
    says: Says,
    requests: Mutex<Vec<Vec<String>>>,
}

async fn take(State(ledger): State<Arc<Ledger>>, body: String) -> Response {
    let id =
        |line: &str| serde_json::from_str::<Value>(line).expect("an event")["id"].as_str().map(str::to_owned);
    let ids: Vec<_> = body.lines().filter_map(id).collect();
    let mut requests = ledger.requests.lock().expect("no test panics while it holds the requests");
    requests.push(ids.clone());
    (ledger.says)(requests.len(), &ids)
}

/// All of them recorded, apart from the one that has this status.
fn recorded_but(ids: &[String], odd: &str, status: &str) -> Response {
    let line = |id: &String| match id == odd {
        true => json!({
            "status": status,
            "problem": {"type": "urn:release-ledger:problem:any", "title": "No", "detail": id},
        }),
        false => json!({"status": "recorded", "position": 1}),
    };
    let lines: String = ids.iter().map(|id| format!("{}\n", line(id))).collect();
    (StatusCode::MULTI_STATUS, lines).into_response()
}

/// Events a, b and c wait for a service; sends them, and answers how that ended, the requests, what is left,
/// and what was noted.
async fn drained(says: Says) -> (Result<(), Error>, Vec<Vec<String>>, Vec<String>, Vec<String>) {
    let ledger = Arc::new(Ledger { says, requests: Mutex::default() });
    let router = Router::new().route("/v1/events", post(take)).with_state(Arc::clone(&ledger));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(url.parse().expect("a URL"), &TenantName::default());

    let (_spool, queue) = waiting(&client);
    let held = queue.hold(Instant::now()).await.expect("a lock").expect("nobody holds it");
    let notes = Mutex::new(Vec::new());
    let note = |text: &str| notes.lock().expect("no test panics while it notes").push(text.to_owned());
    let ended = drain(&client, &held, Limit::of(Duration::from_secs(2)), &note).await;
    let entries = queue.waiting().expect("read");
    let left = entries.iter().map(|entry| held.event(entry).expect("read").expect("there").expect("whole"));
    let id = |event: Bytes| Envelope::parse(&event).expect("an event").identity().id.as_str().to_owned();
    let left = left.map(id).collect();
    let requests = ledger.requests.lock().expect("no test panics while it holds the requests").clone();
    (ended, requests, left, notes.into_inner().expect("no test panics while it notes"))
}

fn waiting(client: &Client) -> (TempDir, Queue) {
    let spool = tempfile::tempdir().expect("a folder");
    let queue = Queue::of(spool.path(), client.ledger());
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
    queue.add(&["a", "b", "c"].map(event)).expect("kept");
    (spool, queue)
}

/// The ledger's word on a whole request.
fn refused(kind: &str) -> Response {
    let kind = format!("urn:release-ledger:problem:{kind}");
    (StatusCode::BAD_REQUEST, json!({"type": kind, "title": "No", "detail": "never"}).to_string())
        .into_response()
}

#[tokio::test]
async fn another_services_word_and_that_of_a_broken_body_are_not_the_last_on_an_event() {
    let of_another = |_, ids: &[String]| match ids {
        [_] => (StatusCode::BAD_REQUEST, r#"{"type":"about:blank","title":"No"}"#).into_response(),
        _ => StatusCode::BAD_REQUEST.into_response(),
    };
    for says in [of_another as Says, |_, _| refused("incomplete-body")] {
        let (ended, _, left, notes) = drained(says).await;

        ended.expect_err("all are left");
        assert_eq!((left.len(), notes), (3, vec![]));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_ledgers_leaves_all_events_waiting() {
    let answers: [Says; 5] = [
        |_, _| (StatusCode::FORBIDDEN, "<html>Forbidden</html>").into_response(),
        |_, _| (StatusCode::CONFLICT, r#"{"status":"rejected"}"#).into_response(),
        |_, _| (StatusCode::OK, "<html>Please sign in</html>").into_response(),
        |_, ids| recorded_by_another(ids, "rejected"),
        |_, ids| recorded_by_another(ids, "recorded"),
    ];
    for says in answers {
        let (ended, _, left, notes) = drained(says).await;

        ended.expect_err("all are left");
        assert_eq!((left.len(), notes), (3, vec![]));
    }
}

/// A gateway's word on each event.
fn recorded_by_another(ids: &[String], status: &str) -> Response {
    let line = format!("{}\n", json!({"status": status}));
    (StatusCode::OK, line.repeat(ids.len())).into_response()
}

#[tokio::test]
async fn what_waits_is_sent_in_one_request_and_in_order() {
    let (ended, requests, left, notes) = drained(|_, ids| recorded_but(ids, "", "")).await;
    assert!(ended.is_ok());
    assert_eq!(requests, [["a", "b", "c"]]);
    assert!(left.is_empty() && notes.is_empty(), "{left:?} {notes:?}");
}

#[tokio::test]
async fn a_failure_that_passes_is_waited_for() {
    let (ended, requests, left, _) = drained(|number, ids| match number {
        1 => (StatusCode::BAD_GATEWAY, "no JSON").into_response(),
        _ => recorded_but(ids, "", ""),
    })
    .await;
    assert!(ended.is_ok());
    assert_eq!(requests, [["a", "b", "c"], ["a", "b", "c"]]);
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_event_that_is_refused_for_good_is_put_aside_and_the_others_are_sent() {
    for status in ["conflict", "invalid", "rejected"] {
        let says: Says = match status {
            "conflict" => |_, ids| recorded_but(ids, "b", "conflict"),
            "invalid" => |_, ids| recorded_but(ids, "b", "invalid"),
            _ => |_, ids| recorded_but(ids, "b", "rejected"),
        };
        let (ended, requests, left, notes) = drained(says).await;
        assert!(ended.is_ok());
        assert_eq!((requests.len(), left.len()), (1, 0));
        assert!(notes[0].ends_with("No: b"), "{notes:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_refused_for_now_waits_on() {
    let (ended, _, left, notes) = drained(|_, ids| recorded_but(ids, "b", "refused")).await;
    let error = ended.expect_err("b is left");
    assert!(error.is_temporary(), "{error}");
    assert_eq!((left, notes), (vec!["b".to_owned()], vec![]));
}

#[tokio::test]
async fn where_a_whole_request_is_refused_smaller_ones_show_which_event_it_is() {
    let (ended, requests, left, notes) = drained(|_, ids| match ids {
        [id] if id == "b" => refused("invalid-event"),
        [_] => recorded_but(ids, "", ""),
        // As a proxy says it, and not a ledger.
        _ => (StatusCode::PAYLOAD_TOO_LARGE, "too large").into_response(),
    })
    .await;
    assert!(ended.is_ok());
    assert_eq!(requests, [vec!["a", "b", "c"], vec!["a"], vec!["b", "c"], vec!["b"], vec!["c"]]);
    assert!(left.is_empty() && notes[0].ends_with("No: never"), "{left:?} {notes:?}");
}

#[tokio::test]
async fn what_is_no_word_on_the_events_leaves_them_all_waiting() {
    let (ended, requests, left, notes) = drained(|_, _| {
        (
            StatusCode::NOT_FOUND,
            r#"{"type":"urn:release-ledger:problem:unknown-tenant","title":"No such ledger"}"#,
        )
            .into_response()
    })
    .await;
    let error = ended.expect_err("all are left");
    assert!(!error.is_temporary(), "{error}");
    assert_eq!((requests.len(), left.len(), notes.len()), (1, 3, 0));
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_patience() {
    let client = Client::new("http://127.0.0.1:1".parse().expect("a URL"), &TenantName::default());
    let never = || std::future::pending::<Result<(), Error>>();
    let error = Limit::of(Duration::from_millis(20)).within(&client, never).await.expect_err("no answer");
    assert!(matches!(error, Error::Silent { .. }), "{error}");
}
