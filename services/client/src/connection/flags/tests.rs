//! The first given credentials are sent, to their own service only, and are renewed once if the service rejects them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use clap::Parser;
use ledger_access::ApiToken;
use tempfile::TempDir;

use super::*;
use crate::connection::Error;
use crate::contexts::{ContextUrl, Settings};
use crate::credentials::CredentialsError;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    connection: Connection,
}

/// A user's files and variables.
struct User {
    root: TempDir,
    surroundings: Surroundings,
}

impl User {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let surroundings = Surroundings {
            config: Ok(root.path().join("config/release-ledger")),
            variables: [].into(),
            kubernetes_token: root.path().join("projected"),
        };
        Self { root, surroundings }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.surroundings.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Writes a file; returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.root.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Adds a context, and makes it the current one.
    fn add_context(&self, name: &str, url: &str, change: impl FnOnce(&mut Context)) {
        let mut settings = Settings::open(self.config()).expect("settings");
        let mut context = Context::new(ContextUrl::parse(url).expect("a URL"));
        change(&mut context);
        settings.contexts.contexts.insert(name.to_owned(), context);
        settings.contexts.current = Some(name.to_owned());
        settings.save().expect("saved");
    }

    fn config(&self) -> &std::path::Path {
        self.surroundings.config.as_ref().expect("a folder")
    }

    fn client(&self, arguments: &[&str]) -> Result<(Client, TenantName), AddressError> {
        let command = Command::try_parse_from([&["test"], arguments].concat()).expect("valid arguments");
        command.connection.client_and_tenant(&self.surroundings)
    }

    /// Sends a request; returns the response body.
    async fn get(&self, arguments: &[&str]) -> Result<String, Error> {
        let (client, _) = self.client(arguments).expect("a client");
        let body = client.get(client.url(&["position"])).await?;
        Ok(String::from_utf8(body.to_vec()).expect("UTF-8"))
    }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn authorization(headers: &HeaderMap) -> String {
    headers.get("authorization").map_or("none", |value| value.to_str().expect("text")).to_owned()
}

/// Serves the `Authorization` header of each request.
async fn echo() -> String {
    serve(Router::new().fallback(|headers: HeaderMap| async move { authorization(&headers) })).await
}

fn unauthenticated() -> Response {
    let problem = r#"{"type":"urn:release-ledger:problem:unauthenticated","title":"Unauthenticated"}"#;
    (StatusCode::UNAUTHORIZED, problem).into_response()
}

/// A service that is ready from the given number of probes on, and counts requests until then.
async fn starting(ready_after: usize) -> (String, Arc<AtomicUsize>) {
    let (probes, early) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (probed, counted) = (Arc::clone(&probes), Arc::clone(&early));
    let readyz = move || async move {
        let is_ready = probed.fetch_add(1, Ordering::SeqCst) + 1 >= ready_after;
        if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let other = move || async move {
        counted.fetch_add(usize::from(probes.load(Ordering::SeqCst) < ready_after), Ordering::SeqCst);
        "answer"
    };
    (serve(Router::new().route("/readyz", get(readyz)).fallback(other)).await, early)
}

#[tokio::test]
async fn the_first_request_waits_for_a_service_that_starts() {
    let (url, early) = starting(3).await;
    let user = User::new();

    let answer = user.get(&["--url", &url, "--wait", "60"]).await.expect("an answer");

    assert_eq!((answer.as_str(), early.load(Ordering::SeqCst)), ("answer", 0));
}

#[tokio::test]
async fn without_wait_no_request_waits_and_after_the_time_the_request_is_sent() {
    let (url, early) = starting(usize::MAX).await;
    let user = User::new();

    user.get(&["--url", &url]).await.expect("an answer");
    user.get(&["--url", &url, "--wait", "1"]).await.expect("an answer");

    assert_eq!(early.load(Ordering::SeqCst), 2);
    let error = user.get(&["--url", "http://127.0.0.1:1", "--wait", "1"]).await.expect_err("nothing listens");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_context_that_the_start_of_the_service_creates_has_the_credentials_of_the_first_request() {
    let user = User::new();
    let (folder, token_file) = (user.config().to_owned(), user.write("token", "of-new-context"));
    let probes = Arc::new(AtomicUsize::new(0));
    let readyz = move |headers: HeaderMap| async move {
        if probes.fetch_add(1, Ordering::SeqCst) > 0 {
            return StatusCode::OK;
        }
        let host = headers.get("host").and_then(|host| host.to_str().ok()).expect("a host");
        let mut settings = Settings::open(&folder).expect("settings");
        let mut context = Context::new(ContextUrl::parse(&format!("http://{host}")).expect("a URL"));
        context.token_file = Some(token_file.into());
        settings.contexts.contexts.insert("local".to_owned(), context);
        settings.save().expect("saved");
        StatusCode::SERVICE_UNAVAILABLE
    };
    let echo = |headers: HeaderMap| async move { authorization(&headers) };
    let url = serve(Router::new().route("/readyz", get(readyz)).fallback(echo)).await;

    assert_eq!(user.get(&["--url", &url]).await.expect("an answer"), "none");
    assert_eq!(user.get(&["--url", &url, "--wait", "60"]).await.expect("an answer"), "Bearer of-new-context");
}

#[tokio::test]
async fn the_context_of_a_local_service_counts_under_every_name_of_this_machine() {
    let url = echo().await;
    let user = User::new();
    let token_file = user.write("token", "of-context");
    user.add_context("a", &url, |context| context.token_file = Some(token_file.into()));

    let other = url.replace("127.0.0.1", "localhost");

    assert_eq!(user.get(&["--url", &other]).await.expect("an answer"), "Bearer of-context");
    assert_eq!(user.get(&["--context", "a", "--url", &other]).await.expect("an answer"), "Bearer of-context");
}

#[tokio::test]
async fn the_first_given_credentials_are_sent() {
    let url = echo().await;
    let with_password = url.replace("http://", "http://ci:s3cret@");
    let mut user = User::new();
    let file = user.write("file", "of-file\n");
    let of_context = user.write("of-context", "of-context");
    user.set("RELEASE_LEDGER_TOKEN", "of-variable");
    user.add_context("a", &url, |context| context.token_file = Some(of_context.into()));
    user.set("RELEASE_LEDGER_ID_TOKEN", "of-gitlab");
    user.write("projected", "of-kubernetes");

    let all = ["--url", &with_password, "--token-file", &file];
    assert_eq!(user.get(&all).await.expect("an answer"), "Bearer of-file");
    assert_eq!(user.get(&all[..2]).await.expect("an answer"), "Bearer of-variable");
    user.set("RELEASE_LEDGER_TOKEN", "");
    assert_eq!(user.get(&all[..2]).await.expect("an answer"), "Basic Y2k6czNjcmV0");
    for arguments in [&["--url", &url] as &[&str], &[], &["--context", "a"]] {
        assert_eq!(user.get(arguments).await.expect("an answer"), "Bearer of-context");
    }
    user.add_context("a", &url, |context| {
        context.token_command = Some(vec!["echo".into(), "printed".into()]);
    });
    assert_eq!(user.get(&[]).await.expect("an answer"), "Bearer printed");
    user.add_context("a", &url, |_| {});
    assert_eq!(user.get(&[]).await.expect("an answer"), "Bearer of-gitlab");
    user.set("RELEASE_LEDGER_ID_TOKEN", "");
    assert_eq!(user.get(&[]).await.expect("an answer"), "Bearer of-kubernetes");
    fs::remove_file(user.root.path().join("projected")).expect("removed");
    assert_eq!(user.get(&[]).await.expect("an answer"), "none");
}

#[tokio::test]
async fn a_damaged_token_is_an_error_before_any_request() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = serve(Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async {}
    }))
    .await;
    let token = ApiToken::generate().expect("random");
    let damaged = &token.expose()[..token.expose().len() - 1];
    let mut user = User::new();
    let file = user.write("file", damaged);
    let with_password = url.replace("http://", &format!("http://ci:{damaged}@"));
    let by_url = user.get(&["--url", &with_password]).await;
    let by_file = user.get(&["--url", &url, "--token-file", &file]).await;
    user.set("RELEASE_LEDGER_TOKEN", damaged);
    let by_variable = user.get(&["--url", &url]).await;
    for (result, source) in [
        (by_url, "the password of --url or RELEASE_LEDGER_URL"),
        (by_file, "--token-file or RELEASE_LEDGER_TOKEN_FILE"),
        (by_variable, "RELEASE_LEDGER_TOKEN"),
    ] {
        let error = result.expect_err("damaged");
        let shown = format!("{error} {error:?}");
        assert!(error.to_string().starts_with("invalid token in ") && shown.contains(source), "{shown}");
        assert!(!shown.contains(&damaged[20..40]) && !error.is_temporary(), "{shown}");
        assert!(error.is_about_credentials());
    }
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn credentials_are_not_sent_over_plain_http_to_another_machine() {
    let mut user = User::new();
    let header = |user: &User, arguments: &[&str]| {
        let (client, _) = user.client(arguments).expect("a client");
        async move { client.credentials.header().await }
    };
    let anonymous = header(&user, &["--url", "http://ledger.example"]).await;
    assert!(anonymous.expect("nothing to refuse").is_none());
    let refused = |error: CredentialsError| {
        let text = error.to_string();
        assert!(
            text.starts_with("refusing to send credentials to http://ledger.example/ over plain"),
            "{text}"
        );
        assert!(text.contains("--insecure-http") && !text.contains("s3cret"), "{text}");
    };
    refused(header(&user, &["--url", "http://ci:s3cret@ledger.example"]).await.expect_err("refused"));
    user.set("RELEASE_LEDGER_TOKEN", "s3cret");
    refused(header(&user, &["--url", "http://ledger.example"]).await.expect_err("refused"));
    for allowed in [
        &["--url", "http://ledger.example", "--insecure-http"] as &[&str],
        &["--url", "https://ledger.example"],
        &["--url", "http://127.8.9.1"],
        &["--url", "http://[::1]:8080"],
        &["--url", "http://localhost"],
    ] {
        assert!(header(&user, allowed).await.expect("allowed").is_some(), "{allowed:?}");
    }
}

#[tokio::test]
async fn the_credentials_of_a_context_stay_with_its_service() {
    let (url, other) = (echo().await, echo().await);
    let user = User::new();
    let file = user.write("file", "s3cret");
    user.add_context("a", &format!("{url}/ledger"), |context| context.token_file = Some(file.into()));

    let same = format!("{url}/ledger/");
    assert_eq!(user.get(&["--url", &same]).await.expect("an answer"), "Bearer s3cret");
    for elsewhere in [&url, &other] {
        assert_eq!(user.get(&["--url", elsewhere]).await.expect("an answer"), "none");
        let error = user.get(&["--url", elsewhere, "--context", "a"]).await.expect_err("another service");
        let text = error.to_string();
        assert!(
            text.contains("the credentials of context a are for") && text.contains("--token-file"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let elsewhere = serve(Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async {}
    }))
    .await;
    let url = serve(Router::new().fallback(move || async move { Redirect::temporary(&elsewhere) })).await;
    let mut user = User::new();
    user.set("RELEASE_LEDGER_TOKEN", "s3cret");
    let error = user.get(&["--url", &url]).await.expect_err("a redirect");
    assert!(matches!(error, Error::ForeignResponse { .. }), "{error}");
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn flags_select_the_context_and_override_it() {
    let user = User::new();
    user.add_context("b", "https://b.example/x", |context| context.tenant = Some("shop".into()));
    user.add_context("a", "https://a.example", |_| {});
    let address = |arguments: &[&str]| user.client(arguments).expect("a client").0.ledger().to_string();

    assert_eq!(address(&[]), "https://a.example/v1");
    assert_eq!(address(&["--context", "b"]), "https://b.example/x/v1/tenants/shop");
    assert_eq!(address(&["--context", "b", "--tenant", "default"]), "https://b.example/x/v1");
    assert_eq!(
        address(&["--context", "b", "--url", "https://c.example"]),
        "https://c.example/v1/tenants/shop"
    );
    assert_eq!(address(&["--url", "https://b.example/x"]), "https://b.example/x/v1");
    let error = user.client(&["--context", "c"]).expect_err("unknown").to_string();
    assert_eq!(error, "invalid --context or RELEASE_LEDGER_CONTEXT: no context c; the contexts are a, b");

    let elsewhere = User::new();
    assert_eq!(elsewhere.client(&[]).expect("a client").0.ledger().as_str(), "http://127.0.0.1:8080/v1");
}

#[tokio::test]
async fn unreadable_contexts_stop_only_what_needs_them() {
    let url = echo().await;
    let mut user = User::new();
    user.add_context("a", &url, |_| {});
    fs::write(user.config().join("config.toml"), "current = \"s3cret").expect("written");
    for arguments in [&[] as &[&str], &["--context", "a"]] {
        let error = user.client(arguments).expect_err("unreadable").to_string();
        assert!(error.starts_with("cannot read the contexts in ") && !error.contains("s3cret"), "{error}");
        assert!(error.contains("line 1"), "{error}");
    }
    let error = user.get(&["--url", &url]).await.expect_err("unreadable");
    assert!(
        error.is_about_credentials() && error.to_string().starts_with("cannot read the contexts"),
        "{error}"
    );
    user.set("RELEASE_LEDGER_TOKEN", "of-variable");
    assert_eq!(user.get(&["--url", &url]).await.expect("an answer"), "Bearer of-variable");
    user.surroundings.config = Err("no folder".to_owned());
    user.set("RELEASE_LEDGER_TOKEN", "");
    assert_eq!(user.get(&["--url", &url]).await.expect("an answer"), "none");
}

/// Serves the tokens of GitHub Actions, each with another number; returns the URL and the number of tokens.
async fn github() -> (String, Arc<AtomicUsize>) {
    let tokens = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tokens);
    let handler = move |headers: HeaderMap, uri: Uri| async move {
        assert_eq!(authorization(&headers), "Bearer request-s3cret");
        assert_eq!(uri.query(), Some("api-version=2&audience=the+ledger"));
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{{\"count\":1,\"value\":\"token-{number}\"}}")
    };
    (serve(Router::new().fallback(handler)).await, tokens)
}

fn in_github(url: &str) -> User {
    let mut user = User::new();
    user.set("GITHUB_ACTIONS", "true");
    user.set("ACTIONS_ID_TOKEN_REQUEST_URL", &format!("{url}/token?api-version=2"));
    user.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-s3cret");
    user
}

#[tokio::test]
async fn the_identity_of_github_is_fetched_once_and_again_after_a_rejection() {
    let (github, tokens) = github().await;
    // Rejects the first token after its second use.
    let uses = Arc::new(AtomicUsize::new(0));
    let url = serve(Router::new().fallback(move |headers: HeaderMap| {
        let sent = authorization(&headers);
        let number = uses.fetch_add(1, Ordering::Relaxed);
        async move {
            if sent == "Bearer token-1" && number >= 2 { unauthenticated() } else { sent.into_response() }
        }
    }))
    .await;
    let user = in_github(&github);
    let (client, _) = user.client(&["--url", &url, "--audience", "the ledger"]).expect("a client");
    let get = || client.get(client.url(&["position"]));
    for (expected, fetched) in [("1", 1), ("1", 1), ("2", 2), ("2", 2)] {
        assert_eq!(get().await.expect("an answer"), format!("Bearer token-{expected}"));
        assert_eq!(tokens.load(Ordering::Relaxed), fetched);
    }
    let shown = format!("{client:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("token-"), "{shown}");
}

#[tokio::test]
async fn a_service_that_rejects_every_identity_gets_two_requests() {
    let (github, tokens) = github().await;
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let url = serve(Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async { unauthenticated() }
    }))
    .await;
    let user = in_github(&github);
    user.add_context("a", &url, |context| context.audience = Some("the ledger".to_owned()));
    let error = user.get(&[]).await.expect_err("rejected");
    assert!(matches!(error, Error::Problem { status: StatusCode::UNAUTHORIZED, .. }), "{error}");
    assert!(error.is_about_credentials() && !error.is_temporary());
    assert_eq!((requests.load(Ordering::Relaxed), tokens.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn a_job_without_an_identity_says_what_is_missing() {
    let url = echo().await;
    let mut user = User::new();
    user.set("GITHUB_ACTIONS", "true");
    assert_eq!(user.get(&["--url", &url]).await.expect("no audience is known"), "none");
    let error = user.get(&["--url", &url, "--audience", "x"]).await.expect_err("no identity").to_string();
    assert!(error.contains("permissions: id-token: write"), "{error}");

    for (status, body, expected, is_temporary) in [
        (StatusCode::FORBIDDEN, "s3cret", "answered 403 Forbidden", false),
        (StatusCode::BAD_GATEWAY, "s3cret", "answered 502 Bad Gateway", true),
        (StatusCode::OK, "{\"s3cret\":1}", "unexpected response", false),
        (StatusCode::OK, "{\"value\":\"s3 cret\"}", "one word of ASCII", false),
    ] {
        let github = serve(Router::new().fallback(move || async move { (status, body) })).await;
        let error =
            in_github(&github).get(&["--url", &url, "--audience", "x"]).await.expect_err("no identity");
        let text = format!("{error} {error:?}");
        assert!(text.contains(expected) && !text.contains("cret\""), "{text}");
        assert!(error.is_about_credentials() && error.is_temporary() == is_temporary, "{text}");
    }
    let large = serve(Router::new().fallback(|| async { "x".repeat((64 << 10) + 1) })).await;
    let error = in_github(&large).get(&["--url", &url, "--audience", "x"]).await.expect_err("too large");
    assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
    let error = in_github("http://github.example").get(&["--url", &url, "--audience", "x"]).await;
    let text = error.expect_err("not encrypted").to_string();
    assert!(text.contains("http://github.example/") && text.contains("must be https"), "{text}");
}

#[tokio::test]
async fn a_token_file_that_was_replaced_is_read_again_after_a_rejection() {
    let url = serve(Router::new().fallback(|headers: HeaderMap| async move {
        let sent = authorization(&headers);
        if sent == "Bearer old" { unauthenticated() } else { sent.into_response() }
    }))
    .await;
    let user = User::new();
    let file = user.write("file", "old");
    let (client, _) = user.client(&["--url", &url, "--token-file", &file]).expect("a client");
    let get = || client.get(client.url(&["position"]));
    get().await.expect_err("rejected");
    user.write("file", "new");
    assert_eq!(get().await.expect("an answer"), "Bearer new");
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_an_error() {
    let user = User::new();
    let file = user.write("ca.pem", "no certificate");
    user.add_context("a", "https://127.0.0.1:1", |context| context.ca_file = Some(file.into()));
    let text = user.get(&[]).await.expect_err("no certificate").to_string();
    assert!(text.contains("cannot read the ca_file ") && text.contains("no certificate"), "{text}");
}
