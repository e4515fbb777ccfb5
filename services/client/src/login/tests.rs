//! A person logs in on another device; each error of an issuer ends the login or delays it; sessions are renewed.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::clock;
use crate::connection::Connection;
use crate::contexts::Contexts;
use crate::credentials::Surroundings;

/// The unit of intervals in these tests.
const SECOND: Duration = Duration::from_millis(10);

#[derive(Debug, Parser)]
enum Command {
    Login(Login),
    Logout(Logout),
}

/// An issuer with scripted answers to requests for tokens; the last one is repeated.
struct Issuing {
    answers: Mutex<Vec<Value>>,
    requests: Mutex<Vec<Vec<(String, String)>>>,
    expires_in: u32,
}

type Shared = State<Arc<Issuing>>;

async fn device(State(issuing): Shared, Form(form): Form<Vec<(String, String)>>) -> Json<Value> {
    issuing.requests.lock().expect("a lock").push(form);
    Json(json!({
        "device_code": "device-s3cret", "user_code": "ABCD\u{1b}", "verification_uri": "https://login.example/device",
        "expires_in": issuing.expires_in, "interval": 1,
    }))
}

async fn token(State(issuing): Shared, Form(form): Form<Vec<(String, String)>>) -> Response {
    issuing.requests.lock().expect("a lock").push(form);
    let mut answers = issuing.answers.lock().expect("a lock");
    let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
    match answer.get("error") {
        Some(error) if error == "down" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(_) => (StatusCode::BAD_REQUEST, Json(answer)).into_response(),
        None => Json(answer).into_response(),
    }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Serves an issuer; returns its URL.
async fn issuer(answers: &[Value], expires_in: u32) -> (String, Arc<Issuing>) {
    let issuing =
        Arc::new(Issuing { answers: Mutex::new(answers.to_vec()), requests: Mutex::default(), expires_in });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let discovery = json!({
        "issuer": url, "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"),
    });
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(move || async move { Json(discovery) }))
        .route("/device", post(device))
        .route("/token", post(token))
        .with_state(Arc::clone(&issuing));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, issuing)
}

fn error(code: &str) -> Value {
    json!({"error": code, "error_description": "because\nof"})
}

/// A token that ends this many seconds from now.
fn jwt(name: &str, seconds: i64) -> String {
    let claims = json!({"sub": name, "exp": clock::now().timestamp() + seconds});
    format!("e30.{}.s3cret", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Settings with the current context `a` of a service.
fn settings(url: &str) -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("release-ledger");
    let mut settings = Settings::open(&folder).expect("settings");
    let url = crate::contexts::ContextUrl::parse(url).expect("a URL");
    settings.contexts.contexts.insert("a".to_owned(), Context::new(url));
    settings.contexts.current = Some("a".to_owned());
    settings.save().expect("saved");
    (root, folder)
}

/// Logs in; returns the output with the prompts, or the error. They contain no secret.
async fn login(folder: &Path, issuer: &str, flags: &[&str]) -> Result<String, String> {
    let arguments = [&["x", "login", "--issuer", issuer, "--client-id", "cli"], flags].concat();
    let Command::Login(login) = Command::try_parse_from(arguments).expect("valid arguments") else {
        panic!("another command")
    };
    let prompts = Mutex::new(String::new());
    let prompt = |text: &str| {
        let mut prompts = prompts.lock().expect("a lock");
        prompts.push_str(text);
        prompts.push('\n');
    };
    let result = login.run_in(folder, SECOND, prompt).await;
    let prompts = prompts.into_inner().expect("a lock");
    let result = result.map(|text| format!("{prompts}{text}")).map_err(|error| format!("{error:#}"));
    assert!(!format!("{result:?}").contains("s3cret"), "{result:?}");
    result
}

fn session(folder: &Path) -> Session {
    serde_json::from_slice(&fs::read(folder.join("tokens/a")).expect("stored")).expect("a session")
}

#[tokio::test]
async fn a_login_waits_until_the_person_has_confirmed() {
    let id_token = jwt("ada", 3_600);
    let tokens = json!({"id_token": id_token, "access_token": "other-s3cret", "refresh_token": "r-s3cret"});
    let pending = error("authorization_pending");
    let answers = [pending.clone(), error("slow_down"), error("down"), pending, tokens];
    let (url, issuing) = issuer(&answers, 600).await;
    let (_root, folder) = settings("https://ledger.example");
    let started = std::time::Instant::now();
    let output = login(&folder, &url, &["--audience", "ledger"]).await.expect("logged in");

    assert!(
        output.contains("open https://login.example/device in a browser and enter the code ABCD"),
        "{output}"
    );
    assert!(output.ends_with("logged in for context a; the session is renewed automatically"), "{output}");
    // Intervals of 1, 1, 6, 12 and 12: slow_down adds 5, and a failure doubles.
    assert!(started.elapsed() >= SECOND * 32);
    let requests = issuing.requests.lock().expect("a lock").clone();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        requests[0],
        [pair("scope", "openid offline_access"), pair("audience", "ledger"), pair("client_id", "cli")]
    );
    let device = pair("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!(requests[5], [device, pair("device_code", "device-s3cret"), pair("client_id", "cli")]);
    assert_eq!(requests.len(), 6);
    let stored = session(&folder);
    assert_eq!((stored.token.as_str(), stored.refresh_token.as_deref()), (&*id_token, Some("r-s3cret")));
    assert!(!format!("{stored:?}").contains("s3cret"));
    let context = Contexts::read(&folder).expect("contexts").contexts["a"].clone();
    assert_eq!(context.token_file, Some(folder.join("tokens/a")));
}

#[tokio::test]
async fn every_other_error_of_the_issuer_ends_the_login() {
    for (code, expected) in [
        ("access_denied", "the login was denied: because\\nof"),
        ("expired_token", "the code has expired"),
        ("invalid_client", "cannot log in: "),
    ] {
        let (url, _) = issuer(&[error("authorization_pending"), error(code)], 600).await;
        let (_root, folder) = settings("https://ledger.example");
        let failed = login(&folder, &url, &[]).await.expect_err(code);
        assert!(failed.contains(expected) && !failed.contains('\n'), "{failed}");
        assert!(!folder.join("tokens/a").exists());
    }
    let (url, _) = issuer(&[error("authorization_pending")], 3).await;
    let (_root, folder) = settings("https://ledger.example");
    assert!(login(&folder, &url, &[]).await.expect_err("no answer in time").contains("the code has expired"));
    let (url, _) = issuer(&[json!({"access_token": "s3cret"})], 600).await;
    let failed = login(&folder, &url, &[]).await.expect_err("no ID token");
    assert!(failed.contains("gave no ID token"), "{failed}");
    let done = login(&folder, &url, &["--use-access-token"]).await.expect("logged in");
    assert!(done.ends_with("logged in for context a"), "{done}");
}

#[tokio::test]
async fn an_issuer_must_be_the_one_in_its_document_and_support_the_grant() {
    let (_root, folder) = settings("https://ledger.example");
    let serve_document =
        |document: Value| serve(Router::new().fallback(move || async move { Json(document) }));
    let url = serve_document(json!({"issuer": "https://evil.example", "token_endpoint": "https://x"})).await;
    let failed = login(&folder, &url, &[]).await.expect_err("another issuer");
    assert!(failed.contains("its discovery document is of https://evil.example"), "{failed}");
    let failed = login(&folder, "http://login.example", &[]).await.expect_err("not encrypted");
    assert!(failed.contains("must be https"), "{failed}");
    let failed = login(&folder, "http://127.0.0.1:1", &[]).await.expect_err("nothing listens");
    assert!(failed.contains("http://127.0.0.1:1/ does not answer"), "{failed}");
    let failed = login(&folder, &url, &["--context", "b"]).await.expect_err("unknown");
    assert!(failed.contains("no context b"), "{failed}");
}

/// Stores a session of an issuer.
fn store(folder: &Path, issuer: &str, token: &str, refresh_token: Option<&str>, seconds: i64) {
    let session = Session {
        token: token.to_owned(),
        expires_at: Some(clock::now() + chrono::TimeDelta::seconds(seconds)),
        refresh_token: refresh_token.map(str::to_owned),
        issuer: issuer.to_owned(),
        client_id: "cli".to_owned(),
        use_access_token: false,
    };
    let mut settings = Settings::open(folder).expect("settings");
    let path = settings.store_token("a", &session.to_json()).expect("stored");
    settings.contexts.contexts.get_mut("a").expect("a context").token_file = Some(path);
    settings.save().expect("saved");
}

#[derive(Debug, Parser)]
struct Request {
    #[command(flatten)]
    connection: Connection,
}

/// Sends a request with the current context; returns the header that the service has received.
async fn sent(folder: &Path) -> Result<String, String> {
    let surroundings = Surroundings {
        config: Ok(folder.to_owned()),
        variables: [].into(),
        kubernetes_token: "/no/such/file".into(),
    };
    let connection = Request::try_parse_from(["x"]).expect("valid arguments").connection;
    let (client, _) = connection.client_and_tenant(&surroundings).expect("a client");
    let body = client.get(client.url(&["position"])).await;
    let result = body.map(|body| String::from_utf8_lossy(&body).into_owned());
    result.map_err(|error| {
        let shown = format!("{error} {error:?} {client:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        error.to_string()
    })
}

#[tokio::test]
async fn a_session_that_has_ended_is_renewed_once_also_by_concurrent_processes() {
    let service = Router::new().fallback(|headers: HeaderMap| async move {
        headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned()
    });
    let (_root, folder) = settings(&serve(service).await);
    let new = jwt("new", 3_600);
    let (url, issuing) = issuer(&[json!({"id_token": new, "refresh_token": "second-s3cret"})], 600).await;
    store(&folder, &url, "old-s3cret", Some("first-s3cret"), 5);

    let (one, other) = tokio::join!(sent(&folder), sent(&folder));
    assert_eq!((one, other), (Ok(format!("Bearer {new}")), Ok(format!("Bearer {new}"))));
    assert_eq!(sent(&folder).await, Ok(format!("Bearer {new}")));
    assert_eq!(issuing.requests.lock().expect("a lock").len(), 1);
    assert_eq!(issuing.requests.lock().expect("a lock")[0][1].1, "first-s3cret");
    assert_eq!(session(&folder).refresh_token.as_deref(), Some("second-s3cret"));

    store(&folder, &url, "valid", None, 600);
    assert_eq!(sent(&folder).await, Ok("Bearer valid".to_owned()));
}

#[tokio::test]
async fn a_session_that_cannot_be_renewed_asks_for_another_login() {
    let (_root, folder) = settings("http://127.0.0.1:1");
    store(&folder, "http://127.0.0.1:1", "old-s3cret", None, 0);
    let ended = sent(&folder).await.expect_err("it has ended");
    assert!(ended.contains("has ended; run `release-ledger login` again"), "{ended}");
    let (url, _) = issuer(&[error("invalid_grant")], 600).await;
    store(&folder, &url, "old-s3cret", Some("r-s3cret"), 0);
    let ended = sent(&folder).await.expect_err("the issuer refuses");
    assert!(
        ended.contains("login` again: ") && ended.contains("answered invalid_grant: because\\nof"),
        "{ended}"
    );
    store(&folder, "http://127.0.0.1:1", "old-s3cret", Some("r-s3cret"), 0);
    let failed = sent(&folder).await.expect_err("no issuer");
    assert!(failed.contains("does not answer"), "{failed}");
}

#[tokio::test]
async fn a_logout_removes_the_session_and_nothing_else() {
    let (_root, folder) = settings("http://127.0.0.1:1");
    let logout = || async {
        let Command::Logout(logout) = Command::try_parse_from(["x", "logout"]).expect("valid") else {
            panic!("another command")
        };
        logout.run_in(&folder).await.map_err(|error| format!("{error:#}"))
    };
    assert_eq!(logout().await, Err("context a has no session".to_owned()));
    store(&folder, "http://127.0.0.1:1", "s3cret", None, 600);
    assert_eq!(logout().await, Ok("logged out of context a".to_owned()));
    assert!(!folder.join("tokens/a").exists());
    assert_eq!(Contexts::read(&folder).expect("contexts").contexts["a"].token_file, None);

    let mut settings = Settings::open(&folder).expect("settings");
    let path = settings.store_token("a", b"token-s3cret").expect("stored");
    settings.contexts.contexts.get_mut("a").expect("a context").token_file = Some(path.clone());
    settings.save().expect("saved");
    drop(settings);
    let error = logout().await.expect_err("a token is no session");
    assert!(error.contains("context remove a") && !error.contains("s3cret") && path.exists(), "{error}");
}
