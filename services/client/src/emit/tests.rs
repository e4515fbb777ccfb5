//! Reports are kept unless the ledger itself refuses them, and commands never are.

use std::path::Path;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::post;
use ledger_domain::TenantName;
use tokio::net::TcpListener;

use super::*;
use crate::connection::Client;

/// What something answers to every request.
type Answer = fn() -> Response;

const RECORDED: Answer =
    || (StatusCode::CREATED, r#"{"id":"1","source":"s","status":"recorded","position":1}"#).into_response();

/// The ledger's own word on a whole request.
const UNKNOWN_TENANT: Answer = || {
    let problem = r#"{"type":"urn:release-ledger:problem:unknown-tenant","title":"Unknown tenant"}"#;
    (StatusCode::NOT_FOUND, problem).into_response()
};

/// Every kind of answer that is not the ledger's.
const FOREIGN: [Answer; 11] = [
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

async fn served(answer: Answer) -> Client {
    let sign_in = || async { "<html>Please sign in</html>" };
    let router = Router::new()
        .route("/v1/events", post(move || async move { answer() }))
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

/// Emits an event; answers how that ended, and how many events the spool has, waiting or refused.
async fn emitted(client: Client, event: &Envelope) -> (Result<(), String>, usize) {
    let spool = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::new(client, Ok(spool.path().to_owned()), Duration::from_millis(50));
    let mut reports = Reports::new(outbox, false, true);
    let sent = reports.send_one(event).await;
    let ended = sent.and_then(|()| reports.conclude(false)).map_err(|error| format!("{error:#}"));
    (ended, files(spool.path()))
}

/// The files with events in a folder.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| match path.is_dir() {
            true => files(&path),
            false => usize::from(path.extension().is_some_and(|extension| extension == "json")),
        })
        .sum()
}

#[tokio::test]
async fn a_report_is_kept_unless_the_ledger_itself_answers() {
    assert_eq!(emitted(served(RECORDED).await, &report()).await, (Ok(()), 0));
    assert_eq!(emitted(unreachable(), &report()).await, (Ok(()), 1));
    for (number, answer) in FOREIGN.into_iter().enumerate() {
        assert_eq!(emitted(served(answer).await, &report()).await, (Ok(()), 1), "answer {number}");
    }
    let (ended, kept) = emitted(served(UNKNOWN_TENANT).await, &report()).await;
    assert_eq!((ended, kept), (Err("Unknown tenant".to_owned()), 0));
}

#[tokio::test]
async fn a_command_is_recorded_or_fails_and_is_never_kept() {
    assert_eq!(emitted(served(RECORDED).await, &freeze()).await, (Ok(()), 0));

    let (ended, kept) = emitted(unreachable(), &freeze()).await;
    let error = ended.expect_err("it cannot be sent");
    let expected =
        "freeze.started is not recorded, and a command is not kept for later: no release ledger can";
    assert!(error.starts_with(expected) && !error.contains('\n') && kept == 0, "{error}");

    for (number, answer) in FOREIGN.into_iter().enumerate() {
        let (ended, kept) = emitted(served(answer).await, &freeze()).await;
        let error = ended.expect_err("it is not known to be recorded");
        assert!(error.contains("emit it again with --id 1") && kept == 0, "answer {number}: {error}");
    }
    let (ended, kept) = emitted(served(UNKNOWN_TENANT).await, &freeze()).await;
    assert_eq!((ended, kept), (Err("Unknown tenant".to_owned()), 0));
}

#[test]
fn what_asks_for_something_or_takes_it_back_is_a_command() {
    let person = json!({"type": "person", "name": "ada"});
    let digest = format!("sha256:{}", "a".repeat(64));
    let commands = [
        ("freeze.started", json!({"environment": "dev", "freeze_id": "f", "reason": "peak"})),
        ("environment.declared", json!({"environment": "dev", "policy": {}})),
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
