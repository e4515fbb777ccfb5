//! An HTTP client of the service.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::limits::WAIT_LIMIT;

/// Interval at which a state is polled that sends no notification.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A complete HTTP response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: String,
    /// The `Ledger-Position` header.
    pub ledger_position: Option<u64>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is not JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Response {
    /// Returns a header; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the lines of an NDJSON body.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.text.lines();
        lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Returns the problem's type without its prefix; empty if the response is not a problem.
    #[must_use]
    pub fn problem(&self) -> &str {
        let kind = self.body["type"].as_str().unwrap_or_default();
        kind.strip_prefix("urn:release-ledger:problem:").unwrap_or_default()
    }

    /// Asserts a status of 2xx and returns the body.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.body
    }
}

/// A client of one service.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Client {
    /// Creates a client of the service at this URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(WAIT_LIMIT).build().expect("a client");
        Self { http, url: url.to_owned(), token: None }
    }

    /// Returns a client that sends a token with every request.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Builds a request, for cases that have no method here.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and returns the response; panics if there is none.
    pub async fn send(request: RequestBuilder) -> Response {
        Self::try_send(request).await.expect("a response")
    }

    /// Sends a request to a service that may be down.
    pub async fn try_send(request: RequestBuilder) -> Result<Response, reqwest::Error> {
        let response = request.send().await?;
        let headers = response.headers().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        let content_type = header("content-type").unwrap_or_default().to_owned();
        let ledger_position = header("ledger-position").and_then(|value| value.parse().ok());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Response { status, content_type, ledger_position, headers, body, text })
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Response {
        Self::send(self.request(Method::GET, path)).await
    }

    /// Sends a POST request with a body of this content type.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Response {
        Self::send(self.request(Method::POST, path).header("content-type", content_type).body(body)).await
    }

    /// Records one event in structured mode.
    pub async fn record(&self, event: &Value) -> Response {
        self.post("/v1/events", "application/cloudevents+json", event.to_string()).await
    }

    /// Sends a request again for as long as the service is too busy to decide it, at most a minute: on a busy machine, a
    /// decision may take longer than its time limit. A request to record something must have an identity.
    pub async fn until_decided<F: Future<Output = Response>>(send: impl Fn() -> F) -> Response {
        let began = Instant::now();
        loop {
            let response = send().await;
            if response.status != 503 || began.elapsed() >= WAIT_LIMIT {
                return response;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Records one event, asserts success, and waits until it is projected. Returns its position.
    pub async fn record_and_wait(&self, event: &Value) -> u64 {
        let position = self.record(event).await.ok()["position"].as_u64().expect("a position");
        self.wait_for_projections(position).await;
        position
    }

    /// Records events, one a line, asserts that all are recorded, and waits until they are projected. Returns their
    /// positions.
    pub async fn record_all(&self, lines: &[String]) -> Vec<u64> {
        let request = self.request(Method::POST, "/v1/events").header("prefer", "return=minimal");
        let request = request.header("content-type", "application/x-ndjson").body(lines.join("\n"));
        let response = Self::send(request).await;
        assert_eq!(response.status, 201, "{}", response.text);
        let results = response.lines();
        let positions = results.iter().map(|result| result["position"].as_u64().expect("a position"));
        let positions: Vec<u64> = positions.collect();
        self.wait_for_projections(positions.iter().copied().max().unwrap_or_default()).await;
        positions
    }

    /// Waits until the projections have reached a position.
    pub async fn wait_for_projections(&self, position: u64) {
        let waited = async {
            // The service itself waits for the position; repeat the request only if that times out.
            loop {
                let response = self.get(&format!("/v1/position?wait_for={position}&wait_ms=30000")).await;
                if response.status == 200 {
                    return;
                }
                assert_eq!(response.status, 503, "{}", response.text);
            }
        };
        tokio::time::timeout(WAIT_LIMIT, waited).await.expect("the projections reach the position");
    }

    /// Waits until the service is not ready for a reason that contains these words, and returns the response body.
    pub async fn wait_until_not_ready(&self, words: &str) -> String {
        let not_ready = async {
            loop {
                let response = self.get("/readyz").await;
                if response.body["status"] != "ready" && response.text.contains(words) {
                    return response.text;
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(WAIT_LIMIT, not_ready).await.expect("the service reports the reason")
    }

    /// Waits until the service is ready.
    pub async fn wait_until_ready(&self) {
        let ready = async {
            while !self.is_ready().await {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(WAIT_LIMIT, ready).await.expect("the service is ready");
    }

    /// Waits until the stream has at least this many entries.
    pub async fn wait_for_head(&self, position: u64) {
        let reached = async {
            while self.positions().await.1 < position {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(WAIT_LIMIT, reached).await.expect("the stream reaches the position");
    }

    /// Returns the position of the projections and the head of the stream.
    pub async fn positions(&self) -> (u64, u64) {
        let body = self.get("/v1/position").await.ok();
        (body["position"].as_u64().expect("a position"), body["head"].as_u64().expect("a position"))
    }

    /// Reads all entries, page by page.
    pub async fn entries(&self) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut after = 0;
        loop {
            let mut page = self.get(&format!("/v1/events?limit=1000&after={after}")).await.ok();
            entries.append(page["events"].as_array_mut().expect("events"));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return entries,
            }
        }
    }

    /// Returns the value of a series of `/metrics`, named with its labels.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.text("/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }

    /// Waits until a series of `/metrics`, named with its labels, has a value.
    pub async fn wait_for_metric(&self, series: &str, value: f64) {
        let reached = async {
            while self.metric(series).await != Some(value) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(WAIT_LIMIT, reached).await.expect("the metric reaches the value");
    }

    /// Sends a GET request, asserts status 200, and returns the body as text.
    pub async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text);
        response.text
    }

    pub(crate) async fn is_alive(&self) -> bool {
        let request = self.request(Method::GET, "/livez").timeout(Duration::from_secs(5));
        Self::try_send(request).await.is_ok_and(|response| response.status == 200)
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let request = self.request(Method::GET, "/readyz").timeout(Duration::from_secs(5));
        Self::try_send(request).await.is_ok_and(|response| response.body["status"] == "ready")
    }
}

/// Builds a `deploy.succeeded` event of a version; tests change it as needed.
#[must_use]
pub fn deploy(id: &str, time: &str, environment: &str, service: &str, version: &str) -> Value {
    event(
        id,
        "deploy.succeeded",
        time,
        json!({"environment": environment, "service": service, "release": {"version": version}}),
    )
}

/// Builds an event of a kind.
#[must_use]
pub fn event(id: &str, kind: &str, time: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "id": id,
        "source": "urn:release-ledger:test",
        "type": format!("io.releaseledger.{kind}.v1"),
        "time": time,
        "data": data,
    })
}
