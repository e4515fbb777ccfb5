//! Reports are spooled unless the ledger itself rejects them; commands never are.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::post;
use ledger_domain::TenantName;
use tokio::net::TcpListener;

use super::*;
use crate::connection::Client;

/// A handler that returns the same response to every request.
type Respond = fn() -> Response;

const RECORDED: Respond =
    || (StatusCode::CREATED, r#"{"id":"1","source":"s","status":"recorded","position":1}"#).into_response();

/// A report that is recorded and changes nothing.
const AMBIGUOUS: Respond = || {
    let annotations = r#""anomalies":["ambiguous_target"],"new":[],"targets":["eu","us"]"#;
    let result = format!(r#"{{"id":"1","source":"s","status":"recorded","position":1,{annotations}}}"#);
    (StatusCode::CREATED, result).into_response()
};

/// A report that is recorded late.
const LATE: Respond = || {
    let result = r#"{"id":"1","source":"s","status":"recorded","position":1,"anomalies":["late"]}"#;
    (StatusCode::CREATED, result).into_response()
};

/// A rejection of the whole request by the ledger itself.
const UNKNOWN_TENANT: Respond = || {
    let problem = r#"{"type":"urn:release-ledger:problem:unknown-tenant","title":"Unknown tenant"}"#;
    (StatusCode::NOT_FOUND, problem).into_response()
};

/// A rejection whose problem has members that this client cannot parse.
const UNREADABLE_PLAN: Respond = || {
    let problem = r#"{"type":"urn:release-ledger:problem:rollback-blocked","title":"Rollback blocked",
        "status":"409","position":{},"errors":"none","plan":{"steps":[{"wave":"first"}]}}"#;
    (StatusCode::CONFLICT, problem).into_response()
};

/// A rejection of the credentials by the ledger itself.
const UNAUTHENTICATED: Respond = || {
    let problem = r#"{"type":"urn:release-ledger:problem:unauthenticated","title":"Unauthenticated"}"#;
    (StatusCode::UNAUTHORIZED, problem).into_response()
};

/// A rejection of one event by the ledger itself: its sender has no grant for it.
const FORBIDDEN: Respond = || {
    let problem = r#"{"type":"urn:release-ledger:problem:forbidden","title":"Forbidden"}"#;
    let result = format!(r#"{{"id":"1","source":"s","status":"rejected","problem":{problem}}}"#);
    (StatusCode::MULTI_STATUS, result).into_response()
};

/// Every kind of response that does not come from the ledger.
const FOREIGN: [Respond; 11] = [
    || (StatusCode::FORBIDDEN, "<html>Forbidden</html>").into_response(),
    || (StatusCode::NOT_FOUND, "<html>Not found</html>").into_response(),
    || (StatusCode::BAD_GATEWAY, "<html>Bad gateway</html>").into_response(),
    || (StatusCode::PAYLOAD_TOO_LARGE, "<html>Too large</html>").into_response(),
    || (StatusCode::UNPROCESSABLE_ENTITY, r#"{"type":"about:blank","title":"No"}"#).into_response(),
    || (StatusCode::OK, "<html>Please sign in</html>").into_response(),
    || (StatusCode::OK, r#"{"status":"rejected"}"#).into_response(),
    || (StatusCode::OK, r#"{"status":"recorded"}"#).into_response(),
    || StatusCode::NO_CONTENT.into_response(),
    || Redirect::to("/sign-in").into_response(),
    || {
        let problem = r#"{"type":"urn:release-ledger:problem:incomplete-body","title":"Incomplete body"}"#;
        (StatusCode::BAD_REQUEST, problem).into_response()
    },
];

async fn serve(respond: Respond) -> Client {
    let sign_in = || async { "<html>Please sign in</html>" };
    let router = Router::new()
        .route("/v1/events", post(move || async move { respond() }))
        .route("/sign-in", axum::routing::get(sign_in));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::new(url.parse().expect("a URL"), &TenantName::default())
}

fn unreachable() -> Client {
    Client::new("http://127.0.0.1:1".parse().expect("a URL"), &TenantName::default())
}

fn envelope(kind: &str, data: serde_json::Value) -> Envelope {
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "s", "type": format!("io.releaseledger.{kind}.v1"),
        "time": "2026-08-01T12:00:00Z", "data": data,
    });
    Envelope::parse(event.to_string().as_bytes()).expect("an event")
}

fn report() -> Envelope {
    envelope(
        "deploy.succeeded",
        json!({"environment": "dev", "service": "web", "release": {"version": "v1"}}),
    )
}

fn freeze() -> Envelope {
    envelope("freeze.started", json!({"environment": "dev", "freeze_id": "f-1", "reason": "peak"}))
}

/// Emits an event; returns the result, and the number of events in the spool, waiting or refused.
async fn emit(client: Client, event: &Envelope) -> (Result<(), String>, usize) {
    emit_strictly(client, event, false).await
}

/// Emits an event, with or without `--strict`.
async fn emit_strictly(client: Client, event: &Envelope, strict: bool) -> (Result<(), String>, usize) {
    let spool = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::new(client, Ok(spool.path().to_owned()), Duration::from_millis(50));
    let mut session = EmitSession::new(outbox, ResultArgs::default(), true);
    let sent = session.send_one(event).await;
    let result = sent.and_then(|()| session.finish(strict));
    (result.map_err(|error| without_address(&format!("{error:#}"))), count_files(spool.path()))
}

/// Returns an error without the address at its end, which differs for each server.
fn without_address(error: &str) -> String {
    error.split(" (http://127.0.0.1:").next().unwrap_or_default().to_owned()
}

/// Counts the event files below a folder.
fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| match path.is_dir() {
            true => count_files(&path),
            false => usize::from(path.extension().is_some_and(|extension| extension == "json")),
        })
        .sum()
}

#[tokio::test]
async fn a_strict_report_that_changes_nothing_fails_although_it_is_recorded() {
    let ambiguous = || serve(AMBIGUOUS);
    let (result, spooled) = emit_strictly(ambiguous().await, &report(), true).await;
    let expected = "recorded at position 1, but it changed nothing: it names no target and the service has several; \
                    set --target: eu, us";
    assert_eq!((result, spooled), (Err(expected.to_owned()), 0));
    assert_eq!(emit(ambiguous().await, &report()).await, (Ok(()), 0));
    assert_eq!(emit_strictly(serve(LATE).await, &report(), true).await, (Ok(()), 0));
}

#[tokio::test]
async fn a_report_is_spooled_unless_the_ledger_itself_answers() {
    assert_eq!(emit(serve(RECORDED).await, &report()).await, (Ok(()), 0));
    assert_eq!(emit(unreachable(), &report()).await, (Ok(()), 1));
    for (number, response) in FOREIGN.into_iter().enumerate() {
        assert_eq!(emit(serve(response).await, &report()).await, (Ok(()), 1), "response {number}");
    }
    let (result, spooled) = emit(serve(UNKNOWN_TENANT).await, &report()).await;
    assert_eq!((result, spooled), (Err("Unknown tenant".to_owned()), 0));
    let (result, spooled) = emit(serve(UNREADABLE_PLAN).await, &report()).await;
    assert_eq!((result, spooled), (Err("Rollback blocked".to_owned()), 0));
}

/// The deploy has happened, and the credentials may have expired meanwhile.
#[tokio::test]
async fn a_report_is_spooled_if_the_credentials_are_rejected_or_missing_and_not_if_a_grant_is() {
    let (result, spooled) = emit(serve(UNAUTHENTICATED).await, &report()).await;
    assert_eq!((result, spooled), (Ok(()), 1));
    let refused =
        Client::new("http://ci:s3cret@ledger.example".parse().expect("a URL"), &TenantName::default());
    assert_eq!(emit(refused.clone(), &report()).await, (Ok(()), 1));
    let (result, spooled) = emit(serve(FORBIDDEN).await, &report()).await;
    assert_eq!((result, spooled), (Err("Forbidden".to_owned()), 0));

    for (client, reason) in [(serve(UNAUTHENTICATED).await, "Unauthenticated"), (refused, "refusing to send")]
    {
        let (result, spooled) = emit(client, &freeze()).await;
        let error = result.expect_err("a command is not spooled");
        let expected = "freeze.started is not recorded, and commands are never spooled: ";
        assert!(error.starts_with(expected) && error.contains(reason) && spooled == 0, "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_command_is_recorded_or_fails_and_is_never_spooled() {
    assert_eq!(emit(serve(RECORDED).await, &freeze()).await, (Ok(()), 0));

    let (result, spooled) = emit(unreachable(), &freeze()).await;
    let error = result.expect_err("it cannot be sent");
    let expected =
        "freeze.started is not recorded, and commands are never spooled: no release ledger answers at";
    assert!(error.starts_with(expected) && !error.contains('\n') && spooled == 0, "{error}");

    for (number, response) in FOREIGN.into_iter().enumerate() {
        let (result, spooled) = emit(serve(response).await, &freeze()).await;
        let error = result.expect_err("no answer of the ledger");
        assert!(error.contains(r#""id":"1""#) && error.contains("| release-ledger emit -"), "{error}");
        assert_eq!(spooled, 0, "response {number}: {error}");
    }
    let (result, spooled) = emit(serve(UNKNOWN_TENANT).await, &freeze()).await;
    assert_eq!((result, spooled), (Err("Unknown tenant".to_owned()), 0));
    let (result, spooled) = emit(serve(UNREADABLE_PLAN).await, &freeze()).await;
    assert_eq!((result, spooled), (Err("Rollback blocked".to_owned()), 0));
}

#[test]
fn an_event_that_requests_or_withdraws_something_is_a_command() {
    let person = json!({"type": "person", "name": "ada"});
    let digest = format!("sha256:{}", "a".repeat(64));
    let commands = [
        ("freeze.started", json!({"environment": "dev", "freeze_id": "f", "reason": "peak"})),
        ("environment.declared", json!({"environment": "dev", "policy": {}})),
        ("environment.retired", json!({"environment": "dev"})),
        (
            "release_point.marked",
            json!({"environment": "dev", "position": 1, "status": "bad", "reason": "x"}),
        ),
        ("rollback.cancelled", json!({"environment": "dev", "rollback_id": "r"})),
        ("approval.granted", json!({"environment": "dev", "rollback_id": "r", "actor": person})),
        ("artifact.revoked", json!({"artifact": digest, "reason": "a leak", "actor": person})),
    ];
    for (kind, data) in commands {
        assert!(is_command(&envelope(kind, data).event().payload), "{kind}");
    }
    let reports = [
        ("artifact.built", json!({"artifact": digest, "version": "v1"})),
        ("validation.passed", json!({"environment": "dev", "check": "smoke"})),
        ("traffic.switched", json!({"environment": "dev", "service": "web", "slot": "blue"})),
    ];
    for (kind, data) in reports {
        assert!(!is_command(&envelope(kind, data).event().payload), "{kind}");
    }
}
