//! Only the hash of a secret is sent, the change is recorded once, and the secret is written once.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Parser)]
enum Command {
    #[command(subcommand)]
    Token(Token),
}

/// Returns the answer to a change, given its number.
type Answer = fn(usize) -> Response;

/// A service with scripted answers to changes, which has the last one it got.
struct Service {
    answer: Answer,
    changes: Mutex<Vec<(String, Value)>>,
}

async fn handle(State(service): State<Arc<Service>>, method: Method, uri: Uri, body: String) -> Response {
    let mut changes = service.changes.lock().expect("a lock");
    if method == Method::POST {
        changes.push((uri.path().to_owned(), serde_json::from_str(&body).expect("an event")));
        return (service.answer)(changes.len());
    }
    if uri.path().ends_with("/position") {
        return r#"{"position":9,"head":9,"root":""}"#.into_response();
    }
    let (_, change) = changes.last().expect("a change");
    let mut entry = json!({"position": 7, "recorded_at": "2026-11-30T00:00:00Z", "event": change});
    entry["anomalies"] = json!([]);
    json!({"position": 9, "events": [entry]}).to_string().into_response()
}

const RECORDED: Answer = |_| {
    let body = r#"{"id":"x","source":"s","status":"recorded","position":5}"#;
    (StatusCode::CREATED, body).into_response()
};

fn problem(status: StatusCode, kind: &str) -> Response {
    let problem =
        json!({"type": format!("urn:release-ledger:problem:{kind}"), "title": "No", "detail": "so\nit"});
    (status, problem.to_string()).into_response()
}

/// Runs `token create` or `token rotate` against a service; returns the result and the changes.
async fn run(answer: Answer, flags: &[&str]) -> (anyhow::Result<NewSecret>, Vec<(String, Value)>) {
    let service = Arc::new(Service { answer, changes: Mutex::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(handle).with_state(Arc::clone(&service));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let surroundings = Surroundings {
        config: Err("none".to_owned()),
        variables: [].into(),
        kubernetes_token: "/no/such/file".into(),
    };
    let arguments = [&["x", "token"], flags, &["--url", &url, "--retry-for", "1"]].concat();
    let Command::Token(token) = Command::try_parse_from(arguments).expect("valid arguments");
    let result = match token {
        Token::Create(create) => create.create(&surroundings).await,
        Token::Rotate(rotate) => rotate.rotate(&surroundings).await,
        other => panic!("{other:?}"),
    };
    let changes = service.changes.lock().expect("a lock").clone();
    (result, changes)
}

const CREATE: [&str; 5] = ["create", "--name", "web-ci", "--kind", "workload"];

#[tokio::test]
async fn a_created_token_is_recorded_by_its_hash() {
    let flags = [&CREATE[..], &["--expires-in", "90d", "--by", "ada"]].concat();
    let (created, changes) = run(RECORDED, &flags).await;
    let created = created.expect("created");
    let [(path, event)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(path, "/v1/tenants/_admin/events");
    assert_eq!(event["id"], format!("token-{}", created.token.id()));
    assert_eq!(event["type"], "io.releaseledger.token.created.v1");
    assert_eq!((&event["source"], &event["data"]["name"]), (&json!("release-ledger-cli"), &json!("web-ci")));
    assert_eq!(event["data"]["hash"], created.token.hash().to_string());
    assert_eq!(event["data"]["actor"]["name"], "ada");
    assert!(created.notice.starts_with(&format!("created token {} of web-ci, ends 20", created.token.id())));
    let secret = &created.token.expose()[20..];
    for shown in [event.to_string(), created.notice.clone(), format!("{created:?}")] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_rotated_token_keeps_its_id() {
    let (rotated, changes) = run(RECORDED, &["rotate", "8c1f2e3d4a5b6978", "--overlap", "5m"]).await;
    let rotated = rotated.expect("rotated");
    assert_eq!(rotated.token.id().as_str(), "8c1f2e3d4a5b6978");
    let event = &changes[0].1;
    assert_eq!(event["data"]["hash"], rotated.token.hash().to_string());
    assert!(event["id"].as_str().is_some_and(|id| id.starts_with("token-8c1f2e3d4a5b6978-")));
    let (again, others) = run(RECORDED, &["rotate", "8c1f2e3d4a5b6978"]).await;
    again.expect("rotated");
    assert_ne!(others[0].1["id"], event["id"], "each rotation is an event of its own");
}

#[tokio::test]
async fn a_lost_answer_is_answered_by_the_same_event() {
    // The first attempt is recorded, and its answer is lost; then the change has no effect any more.
    let lost: Answer = |number| match number {
        1 => StatusCode::BAD_GATEWAY.into_response(),
        _ => problem(StatusCode::CONFLICT, "change-without-effect"),
    };
    let (created, changes) = run(lost, &CREATE).await;
    assert!(created.expect("created").notice.ends_with("(position 7)"));
    assert_eq!(changes[0], changes[1]);
    let duplicate: Answer = |number| match number {
        1 => StatusCode::BAD_GATEWAY.into_response(),
        _ => r#"{"id":"x","source":"s","status":"duplicate","position":4}"#.into_response(),
    };
    assert!(run(duplicate, &CREATE).await.0.expect("created").notice.ends_with("(position 4)"));
}

#[tokio::test]
async fn a_secret_is_written_to_a_new_private_file_and_removed_if_it_is_rejected() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("token");
    let output = ["--output", path.to_str().expect("UTF-8")];
    let flags = [&CREATE[..], &output].concat();
    let rejected: Answer = |_| problem(StatusCode::FORBIDDEN, "forbidden");
    let error = run(rejected, &flags).await.0.expect_err("rejected");
    assert!(format!("{error:#}").starts_with("No: so\\nit (http://127.0.0.1:"), "{error:#}");
    assert!(!path.exists());

    let (created, _) = run(RECORDED, &flags).await;
    let created = created.expect("created");
    assert_eq!(fs::read_to_string(&path).expect("read"), format!("{}\n", created.token.expose()));
    assert_eq!(fs::metadata(&path).expect("it exists").mode() & 0o7777, 0o600);
    let (again, changes) = run(RECORDED, &flags).await;
    let error = format!("{:#}", again.expect_err("it exists"));
    assert!(error.starts_with("cannot create the --output file ") && changes.is_empty(), "{error}");
}

#[tokio::test]
async fn a_token_that_would_end_at_once_is_rejected() {
    let (result, changes) = run(RECORDED, &[&CREATE[..], &["--expires-in", "0d"]].concat()).await;
    let error = result.expect_err("it has ended").to_string();
    assert!(error.contains("would end at once") && changes.is_empty(), "{error}");

    let past = [&["x", "token"], &CREATE[..], &["--expires-at", "2020-01-01T00:00:00Z"]].concat();
    let Err(error) = Command::try_parse_from(past) else { panic!("a time in the past is accepted") };
    assert!(error.to_string().contains("must be in the future"), "{error}");
}

#[test]
fn the_settings_of_an_administrator_are_toml_without_the_secret() {
    let token = ApiToken::generate().expect("random");
    let name = ShortText::parse("Ada \"the\" admin").expect("a text");
    let text = settings(&token, &name, PrincipalKind::Person);
    assert!(!text.contains(&token.expose()[20..]));
    let parsed: toml::Table = text.parse().expect("TOML");
    let administrator = &parsed["access"]["administrators"][0];
    assert_eq!(administrator["name"].as_str(), Some("Ada \"the\" admin"));
    assert_eq!(administrator["hash"].as_str(), Some(&*token.hash().to_string()));
}

#[test]
fn tokens_are_a_table() {
    let body = serde_json::from_str(
        r#"{"position":3,"tokens":[
            {"token":"8c1f2e3d4a5b6978","kind":"workload","name":"web","revoked":true},
            {"token":"0b1c2d3e4f506172","kind":"person","name":"ada","revoked":false,
             "expires_at":"2027-01-31T00:00:00Z"}]}"#,
    )
    .expect("a body");
    render(&body).check_fits();
    assert_eq!(
        render(&body).to_string(),
        "token             kind      name  status   ends\n\
         8c1f2e3d4a5b6978  workload  web   revoked\n\
         0b1c2d3e4f506172  person    ada            2027-01-31T00:00:00Z"
    );
}
