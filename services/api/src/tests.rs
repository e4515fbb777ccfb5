//! Tests of the router: secrets, request ids, the access log, and the limits of each client. They need no database: a
//! request that would reach it fails.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, Request, StatusCode, header};
use axum::response::Response;
use chrono::DateTime;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use ledger_access::{ApiToken, Directory};
use ledger_codec::secrets::examples;
use ledger_domain::TenantName;
use ledger_ingest::Ingest;
use ledger_journal::{MemoryJournal, Quarantine, SharedJournal};
use ledger_projections::{Projections, SchemaVersion};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

mod pages;

use super::*;
use crate::peer::Peer;
use crate::rates::tests::{advance, rates};

const RATES: RateLimits = RateLimits {
    requests_per_second: 1,
    burst: 3,
    events_per_second: 10,
    event_burst: 100,
    concurrent_requests: 2,
    failed_authentications_per_minute: 2,
};

const LIMITS: Limits = Limits {
    batch_bytes: 1 << 20,
    events: 1_000,
    read_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(30),
    min_bytes_per_second: 1,
    question_timeout: Duration::from_secs(30),
    connections: 10,
    body_bytes: 1 << 24,
    answer_bytes: 1 << 24,
    followers: 1,
    followers_of_principal: 1,
};

/// An answer whose body has been read.
struct Answer {
    status: u16,
    head: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

struct Service(TowerToHyperService<axum::Router>);

/// Returns projections in a database that does not exist.
fn no_projections() -> Projections {
    let settings = ledger_projections::Settings {
        url: "postgres://nowhere@127.0.0.1:1/nothing".to_owned().into(),
        connections: 1,
        acquire_timeout: Duration::from_millis(1),
        schema_version: SchemaVersion::CURRENT,
    };
    Projections::new(&settings, TenantName::default()).expect("settings")
}

impl Service {
    fn new(authentication: Authentication) -> Self {
        Self::with_pages(authentication, None)
    }

    fn with_pages(authentication: Authentication, pages: Option<Pages>) -> Self {
        let tenant = TenantName::default();
        let journal: SharedJournal = Arc::new(MemoryJournal::new(tenant.clone(), || DateTime::UNIX_EPOCH));
        let projections = no_projections();
        let (ingest, _task) =
            Ingest::open(tenant.clone(), Arc::clone(&journal), projections.clone(), || DateTime::UNIX_EPOCH);
        let ledger = Ledger {
            ingest,
            projections,
            journal,
            quarantine: Arc::new(Quarantine::in_memory(|| DateTime::UNIX_EPOCH)),
            clock: || DateTime::UNIX_EPOCH,
            closing: CancellationToken::new(),
            is_of_settings: true,
        };
        let ledgers = Ledgers::default();
        ledgers.insert(tenant, ledger);
        ledgers.set_complete();
        let app = App {
            hooks: BTreeMap::new(),
            read_log: None,
            cdevents: cdevents::Settings::default(),
            ledgers,
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            limits: LIMITS,
            bounds: Bounds::new(&LIMITS),
            rates: rates(RATES),
            authentication,
            allowed_hosts: AllowedHosts::default(),
            is_encrypted: false,
            checks: Vec::new(),
            pages,
            history_scans: Semaphore::new(1),
        };
        Self(TowerToHyperService::new(router(Arc::new(app))))
    }

    /// Returns a service without authentication.
    fn open() -> Self {
        Self::new(Authentication::Off)
    }

    /// Returns a service behind a proxy, and the token of the proxy.
    fn behind_proxy() -> (Self, String) {
        let token = ApiToken::generate().expect("random numbers");
        let proxy = ProxySettings {
            secret_header: HeaderName::from_static("x-proxy"),
            secret_hash: token.hash(),
            user_header: HeaderName::from_static("x-user"),
        };
        let authenticator =
            Authenticator::new(Directory::default(), None, Some(proxy), || DateTime::UNIX_EPOCH);
        (Self::new(Authentication::Required(Arc::new(authenticator))), token.expose().to_owned())
    }

    async fn respond(&self, request: Request<Body>) -> Response {
        self.0.call(request).await.expect("an answer")
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.respond(request).await.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: head.status.as_u16(), head: head.headers, text }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request("GET", path, headers, "")).await
    }

    async fn post(&self, path: &str, kind: &str, body: String) -> Answer {
        self.send(request("POST", path, &[("content-type", kind)], body)).await
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "ledger");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

fn revocation(id: &str, reason: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "ci", "time": "1970-01-01T00:00:00Z",
        "type": "io.releaseledger.artifact.revoked.v1", "data": {"artifact": "pkg:cargo/web@1", "reason": reason},
    })
}

/// Asserts that an answer rejects a secret and does not contain it.
fn assert_rejects(answer: &Answer, status: u16, secret: &str, problem: &Value, pointer: &str, kind: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(problem["errors"][0]["pointer"], pointer, "{}", answer.text);
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(&format!("contains {kind};")), "{detail}");
    let quoted = json!(secret).to_string();
    let head = format!("{:?}", answer.head);
    for secret in [secret, quoted.trim_matches('"')] {
        assert!(!answer.text.contains(secret) && !head.contains(secret), "{} {head}", answer.text);
    }
}

#[tokio::test]
async fn a_secret_of_every_kind_is_rejected_in_every_content_mode_without_its_text() {
    let service = Service::open();
    for (kind, secret) in examples::examples() {
        let event = revocation("1", &secret).to_string();
        let one = service.post("/v1/events", "application/cloudevents+json", event).await;
        assert_rejects(&one, 422, &secret, &one.json(), "/data/reason", kind);
        assert_eq!(one.json()["type"], "urn:release-ledger:problem:invalid-event");

        let event = revocation(&secret, "because").to_string();
        let batch =
            service.post("/v1/events", "application/cloudevents-batch+json", format!("[{event}]")).await;
        assert_rejects(&batch, 207, &secret, &batch.json()[0]["problem"], "/id", kind);

        let lines = service.post("/v1/events", "application/x-ndjson", format!("{event}\n")).await;
        assert_rejects(&lines, 207, &secret, &lines.json()["problem"], "/id", kind);

        let headers = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "ci"),
            ("ce-time", "1970-01-01T00:00:00Z"),
            ("ce-type", "io.releaseledger.artifact.revoked.v1"),
        ];
        let data = revocation("1", &secret)["data"].to_string();
        let binary = service.send(request("POST", "/v1/events", &headers, data)).await;
        assert_rejects(&binary, 422, &secret, &binary.json(), "/data/reason", kind);
    }
}

#[tokio::test]
async fn a_request_for_a_rollback_has_no_secrets() {
    let service = Service::open();
    for (kind, secret) in examples::examples() {
        for (pointer, body) in [
            (
                "/reason",
                json!({"to": "-1", "reason": secret, "initiated_by": {"type": "person", "name": "ada"}}),
            ),
            ("/initiated_by/name", json!({"to": "-1", "initiated_by": {"type": "person", "name": secret}})),
            ("/rollback_id", json!({"to": "-1", "rollback_id": secret})),
            ("", json!({"to": "-1", &secret: true})),
        ] {
            let path = "/v1/environments/production/rollbacks";
            let answer = service.post(path, "application/json", body.to_string()).await;
            assert_rejects(&answer, 422, &secret, &answer.json(), pointer, kind);
        }
    }
}

#[tokio::test]
async fn every_listed_schema_is_served_as_published_to_anyone_and_may_be_cached() {
    let (service, _token) = Service::behind_proxy();

    let list = service.get("/schemas/", &[]).await;
    let schemas = list.json()["schemas"].as_array().expect("a list").clone();

    assert_eq!((list.status, list.header("content-type")), (200, "application/json"));
    assert!(schemas.len() > ledger_domain::Kind::ALL.len(), "{}", schemas.len());
    for schema in schemas {
        let path = schema["path"].as_str().expect("a path");
        let answer = service.get(path, &[]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "application/schema+json"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "public, max-age=3600", "{path}");
        assert_eq!(answer.json()["title"], schema["title"], "{path}");
        let id = format!("https://releaseledger.io{path}");
        assert_eq!(answer.json()["$id"], id, "{path}");
        let again = service.get(path, &[("if-none-match", answer.header("etag"))]).await;
        assert_eq!((again.status, &*again.text), (304, ""), "{path}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status_and_never_by_what_a_client_makes_up() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let service = Service::open();

    service.get("/v1/tenants/acme/position", &[]).await;
    service.get("/v1/tenants/other/position", &[]).await;
    service.get("/no/such/path", &[]).await;
    service.send(request("BREW", "/livez", &[], "")).await;

    let text = handle.render();
    let counted = |method: &str, route: &str, status: u16, count: u64| {
        let labels = format!(r#"method="{method}",route="{route}",status="{status}""#);
        let line = format!("ledger_http_requests_total{{{labels}}} {count}");
        assert!(text.lines().any(|other| other == line), "{line} is missing in {text}");
    };
    counted("GET", "/v1/tenants/{tenant}/position", 404, 2);
    counted("GET", "none", 404, 1);
    counted("other", "/livez", 405, 1);
}

#[tokio::test]
async fn a_schema_that_is_not_published_is_not_found() {
    let service = Service::open();
    for path in
        ["/schemas/events/none.json", "/schemas/kafka/common.json", "/schemas/events/common", "/schemas/x/y"]
    {
        let answer = service.get(path, &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["type"], "urn:release-ledger:problem:path-not-found", "{path}");
    }
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request_and_every_problem_names_it() {
    let service = Service::open();

    let healthy = service.get("/livez", &[("x-request-id", "probe-1")]).await;
    let missing = service.get("/nothing", &[("x-request-id", "run-1")]).await;
    let invalid = service.get("/nothing", &[("x-request-id", "a b")]).await;
    let no_host =
        service.send(Request::builder().uri("/livez").body(Body::empty()).expect("a request")).await;

    assert_eq!((healthy.status, healthy.header("request-id")), (200, "probe-1"));
    assert_eq!((missing.status, missing.header("request-id")), (404, "run-1"));
    assert_eq!(missing.json()["instance"], "urn:release-ledger:request:run-1");
    for answer in [invalid, no_host] {
        let id = answer.header("request-id");
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(answer.json()["instance"], format!("urn:release-ledger:request:{id}"));
    }
}

/// A log that a test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Writes the log of this thread here, with the default filter, until the guard is dropped.
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let builder =
            tracing_subscriber::fmt().json().with_env_filter("info").with_writer(move || log.clone());
        tracing::subscriber::set_default(builder.finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }

    /// Returns the fields of the lines of the access log.
    fn lines(&self) -> Vec<Value> {
        let lines = self.text();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["target"] == "access").map(|line| line["fields"].clone()).collect()
    }
}

#[tokio::test]
async fn a_request_has_one_line_with_its_sender_and_without_its_query_and_headers() {
    let (log, (service, token)) = (Log::default(), Service::behind_proxy());
    let _guard = log.capture();
    let headers =
        [("x-proxy", &*token), ("x-user", "ada"), ("x-request-id", "run-1"), ("x-other", "hidden-1")];

    let mut whoami = request("GET", "/v1/whoami", &headers, "");
    whoami.extensions_mut().insert(Peer(SocketAddr::from(([10, 0, 0, 1], 80))));
    assert_eq!(service.send(whoami).await.status, 200);
    let denied = service.get("/v1/tenants/acme/events?environment=hidden-2", &[]).await;
    service.get("/livez", &[]).await;

    let lines = log.lines();
    assert_eq!(lines.len(), 2, "health is logged at debug: {lines:?}");
    let sent = json!({
        "message": "request", "request_id": "run-1", "method": "GET", "route": "/v1/whoami", "path": "/v1/whoami",
        "status": 200, "principal_kind": "person", "principal_name": "ada", "principal_issuer": "proxy",
        "principal_subject": "ada", "received": 0, "recorded": 0, "reads": 0, "bytes_in": 0, "remote": "10.0.0.1:80",
        "duration_ms": lines[0]["duration_ms"], "bytes_out": lines[0]["bytes_out"],
    });
    assert_eq!(lines[0], sent);
    assert!(lines[0]["bytes_out"].as_u64() > Some(10));
    assert_eq!((denied.status, &lines[1]["status"]), (401, &json!(401)));
    assert_eq!(lines[1]["route"], "/v1/tenants/{tenant}/events");
    assert_eq!(lines[1]["path"], "/v1/tenants/acme/events");
    assert_eq!(lines[1].get("principal_name"), None);
    let text = log.text();
    for hidden in ["hidden-1", "hidden-2", &token] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[tokio::test]
async fn a_line_counts_the_events_of_a_request_and_has_no_secret() {
    let (log, service) = (Log::default(), Service::open());
    let _guard = log.capture();
    let secret = format!("ghp_{}", "a1B2".repeat(9));
    let batch = json!([revocation("1", &secret), revocation(&secret, "because")]).to_string();

    service.post("/v1/events", "application/cloudevents-batch+json", batch.clone()).await;
    service.get(&format!("/v1/environments/{secret}/state"), &[]).await;

    let lines = log.lines();
    assert_eq!((&lines[0]["received"], &lines[0]["recorded"]), (&json!(2), &json!(0)));
    assert_eq!((&lines[0]["bytes_in"], &lines[0]["tenant"]), (&json!(batch.len()), &json!("default")));
    assert_eq!(lines[1]["path"], "(a GitHub token)");
    assert!(!log.text().contains(&secret), "{}", log.text());
}

#[tokio::test]
async fn an_answer_that_is_not_taken_has_a_line_too() {
    let (log, service) = (Log::default(), Service::open());
    let _guard = log.capture();

    let response = service.respond(request("GET", "/v1/whoami", &[], "")).await;
    assert_eq!(log.lines().len(), 0);
    drop(response);
    let mut aborted = Box::pin(service.0.call(request("POST", "/v1/events", &JSON, pending_body())));
    assert!(futures::poll!(&mut aborted).is_pending());
    drop(aborted);

    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[0]["status"], &lines[0]["bytes_out"]), (&json!(200), &json!(0)));
    assert_eq!(lines[1].get("status"), None);
}

const JSON: [(&str, &str); 1] = [("content-type", "application/cloudevents+json")];

fn pending_body() -> Body {
    Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>())
}

#[tokio::test]
async fn a_principal_beyond_its_rate_gets_429_and_others_do_not() {
    let (service, token) = Service::behind_proxy();
    let ask =
        async |user: &str, path: &str| service.get(path, &[("x-proxy", &*token), ("x-user", user)]).await;

    let first = ask("ada", "/v1/whoami").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit"), r#""requests";r=2;t=1, "events";r=100;t=0"#);
    let policy = [
        r#""requests";q=3;qu="requests";w=3"#,
        r#""events";q=100;qu="events";w=10"#,
        r#""concurrency";q=2;qu="concurrent-requests""#,
    ];
    assert_eq!(first.header("ratelimit-policy"), policy.join(", "));
    ask("ada", "/v1/whoami").await;
    ask("ada", "/v1/whoami").await;

    let refused = ask("ada", "/v1/whoami").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.header("ratelimit"), r#""requests";r=0;t=3, "events";r=100;t=0"#);
    assert_eq!(refused.json()["type"], "urn:release-ledger:problem:too-many-requests");
    assert_ne!(ask("ada", "/metrics").await.status, 429, "metrics have no limit");
    assert_eq!(ask("ada", "/livez").await.status, 200, "health has no limit");
    assert_eq!(ask("grace", "/v1/whoami").await.status, 200);
    advance(Duration::from_secs(1));
    assert_eq!(ask("ada", "/v1/whoami").await.status, 200);
}

#[tokio::test]
async fn without_authentication_there_are_no_limits() {
    let service = Service::open();
    for _ in 0..10 {
        let answer = service.get("/v1/whoami", &[]).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (200, ""));
    }
}

#[tokio::test]
async fn an_address_that_fails_to_authenticate_too_often_is_refused_and_others_are_not() {
    let (service, token) = Service::behind_proxy();
    let ask = async |address: [u8; 4], token: &str| {
        let mut request = request("GET", "/v1/whoami", &[("x-proxy", token), ("x-user", "ada")], "");
        request.extensions_mut().insert(Peer(SocketAddr::from((address, 80))));
        service.send(request).await.status
    };
    let without = async || {
        let mut request = request("GET", "/v1/whoami", &[], "");
        request.extensions_mut().insert(Peer(SocketAddr::from(([10, 0, 0, 1], 80))));
        service.send(request).await.status
    };

    assert_eq!([without().await, without().await, without().await], [401; 3]);
    assert_eq!([ask([10, 0, 0, 1], "wrong").await, ask([10, 0, 0, 1], "wrong").await], [401; 2]);
    assert_eq!(ask([10, 0, 0, 1], "wrong").await, StatusCode::TOO_MANY_REQUESTS.as_u16());
    assert_eq!(ask([10, 0, 0, 2], "wrong").await, 401);
    assert_eq!(ask([10, 0, 0, 1], &token).await, 200, "others behind the address are not locked out");
    advance(Duration::from_secs(30));
    assert_eq!(ask([10, 0, 0, 1], "wrong").await, 401);
}
