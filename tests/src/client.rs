//! What asks a service.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::service::PATIENCE;

/// How often a thing is looked at that nobody tells about.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The Content-Type.
    pub content_type: String,
    /// The header Ledger-Position.
    pub ledger_position: Option<u64>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// A header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The answers to several events, one a line.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.text.lines();
        lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// The problem's type without its prefix; empty if the answer is none.
    #[must_use]
    pub fn problem(&self) -> &str {
        let kind = self.body["type"].as_str().unwrap_or_default();
        kind.strip_prefix("urn:release-ledger:problem:").unwrap_or_default()
    }

    /// The body of an answer that must be good.
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
}

impl Client {
    /// A client of the service at this URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { http, url: url.to_owned() }
    }

    /// A request, for what has no method here.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request. It must be answered, whatever the answer.
    pub async fn send(request: RequestBuilder) -> Answer {
        Self::try_send(request).await.expect("an answer")
    }

    /// Sends a request that may find nobody.
    pub async fn try_send(request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let headers = response.headers().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        let content_type = header("content-type").unwrap_or_default().to_owned();
        let ledger_position = header("ledger-position").and_then(|value| value.parse().ok());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, content_type, ledger_position, headers, body, text })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    /// POST of a body of a type.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        Self::send(self.request(Method::POST, path).header("content-type", content_type).body(body)).await
    }

    /// Records one event in structured mode.
    pub async fn record(&self, event: &Value) -> Answer {
        self.post("/v1/events", "application/cloudevents+json", event.to_string()).await
    }

    /// Records one event that must be taken, and waits until the projections have it; answers its position.
    pub async fn recorded(&self, event: &Value) -> u64 {
        let position = self.record(event).await.ok()["position"].as_u64().expect("a position");
        self.projections_at(position).await;
        position
    }

    /// Records events, one a line, that must all be taken, and waits until the projections have them; answers
    /// the positions.
    pub async fn recorded_all(&self, lines: &[String]) -> Vec<u64> {
        let request = self.request(Method::POST, "/v1/events").header("prefer", "return=minimal");
        let request = request.header("content-type", "application/x-ndjson").body(lines.join("\n"));
        let answer = Self::send(request).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let results = answer.lines();
        let positions = results.iter().map(|result| result["position"].as_u64().expect("a position"));
        let positions: Vec<u64> = positions.collect();
        self.projections_at(positions.iter().copied().max().unwrap_or_default()).await;
        positions
    }

    /// Waits until the projections have a position.
    pub async fn projections_at(&self, position: u64) {
        let waited = async {
            // The service itself waits; it is asked again only when its own patience ends.
            loop {
                let answer = self.get(&format!("/v1/position?wait_for={position}&wait_ms=30000")).await;
                if answer.status == 200 {
                    return;
                }
                assert_eq!(answer.status, 503, "{}", answer.text);
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("the projections come to the position");
    }

    /// Waits until the service says that it is not ready, and why in words that have these.
    pub async fn not_ready(&self, words: &str) -> String {
        let told = async {
            loop {
                let answer = self.get("/readyz").await;
                if answer.body["status"] != "ready" && answer.text.contains(words) {
                    return answer.text;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the service says what it lacks")
    }

    /// Waits until the service says that it is ready.
    pub async fn ready(&self) {
        let ready = async {
            while !self.is_ready().await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the service comes to be ready");
    }

    /// Waits until the stream has at least this many entries.
    pub async fn head_at(&self, position: u64) {
        let reached = async {
            while self.position().await.1 < position {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the stream comes to the position");
    }

    /// The position of the projections, and that of the stream.
    pub async fn position(&self) -> (u64, u64) {
        let body = self.get("/v1/position").await.ok();
        (body["position"].as_u64().expect("a position"), body["head"].as_u64().expect("a position"))
    }

    /// Every entry, page by page to the end.
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

    /// What `/metrics` says of a series, named with its labels.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.text("/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }

    /// The text of an answer that must be good, to be compared byte for byte.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    pub(crate) async fn is_alive(&self) -> bool {
        let request = self.request(Method::GET, "/livez").timeout(Duration::from_secs(5));
        Self::try_send(request).await.is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let request = self.request(Method::GET, "/readyz").timeout(Duration::from_secs(5));
        Self::try_send(request).await.is_ok_and(|answer| answer.body["status"] == "ready")
    }
}

/// A `deploy.succeeded` of a version, for tests to change as they need.
#[must_use]
pub fn deploy(id: &str, time: &str, environment: &str, service: &str, version: &str) -> Value {
    event(
        id,
        "deploy.succeeded",
        time,
        json!({"environment": environment, "service": service, "release": {"version": version}}),
    )
}

/// An event of a kind.
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
