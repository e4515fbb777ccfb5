//! Events of one environment, in minutes after ten o'clock, and queries about it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::POLL_INTERVAL;
use crate::{Client, Response, deploy, event};

/// Records events of one environment, with times in minutes after ten o'clock.
#[derive(Clone)]
pub struct Story {
    client: Client,
    environment: String,
}

/// Returns a time in minutes after ten o'clock on the first of August. A day has 840 minutes, from 10:00 to 23:59; the
/// next minute is 10:00 of the next day.
pub fn at(minutes: u64) -> String {
    format!("2026-08-{:02}T{:02}:{:02}:00Z", 1 + minutes / 840, 10 + minutes / 60 % 14, minutes % 60)
}

/// Returns all entries of a kind.
pub async fn rollback_events(client: &Client, kind: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/events?limit=1000&type={kind}")).await.ok();
    page["events"].as_array().expect("events").clone()
}

/// Returns the body of a request for a rollback to a point.
pub fn rollback_request(to: &str, id: &str) -> Value {
    json!({
        "to": to,
        "rollback_id": id,
        "reason": "Customers see errors.",
        "initiated_by": {"type": "person", "name": "mia"},
    })
}

impl Story {
    /// Creates a story of production.
    pub fn on(client: &Client) -> Self {
        Self::of(client, "production")
    }

    /// Creates a story of an environment.
    pub fn of(client: &Client, environment: &str) -> Self {
        Self { client: client.clone(), environment: environment.to_owned() }
    }

    /// Records an event of a kind and waits until it is projected; returns its position.
    pub async fn record(&self, kind: &str, minutes: u64, data: Value) -> u64 {
        let response = self.try_record(kind, minutes, data).await;
        let position = response.ok()["position"].as_u64().expect("a position");
        self.client.wait_for_projections(position).await;
        position
    }

    /// Records an event that may be rejected.
    pub async fn try_record(&self, kind: &str, minutes: u64, mut data: Value) -> Response {
        if data.get("environment").is_none() && data.get("artifact").is_none() {
            data["environment"] = self.environment.as_str().into();
        }
        // The same arguments give the same event.
        let id = format!("{kind}-{minutes}-{data}").chars().take(500).collect::<String>();
        self.client.record(&event(&id, kind, &at(minutes), data)).await
    }

    /// Records a deploy to the default target.
    pub async fn deploy(&self, service: &str, version: &str, minutes: u64) -> u64 {
        let id = format!("{}-{service}-{version}-{minutes}", self.environment);
        self.client.record_and_wait(&deploy(&id, &at(minutes), &self.environment, service, version)).await
    }

    /// Records a passed check of a version.
    pub async fn check_passed(&self, service: &str, version: &str, check: &str, minutes: u64) -> u64 {
        self.checked("passed", service, version, check, minutes).await
    }

    /// Records a failed check of a version.
    pub async fn check_failed(&self, service: &str, version: &str, check: &str, minutes: u64) -> u64 {
        self.checked("failed", service, version, check, minutes).await
    }

    async fn checked(&self, verb: &str, service: &str, version: &str, check: &str, minutes: u64) -> u64 {
        let data = json!({"service": service, "release": {"version": version}, "check": check});
        self.record(&format!("validation.{verb}"), minutes, data).await
    }

    /// Declares the environment's policy.
    pub async fn declare_policy(&self, policy: Value, minutes: u64) -> u64 {
        self.record("environment.declared", minutes, json!({"policy": policy})).await
    }

    /// Requests a plan without recording anything.
    pub async fn plan(&self, request: Value) -> Response {
        self.post("rollbacks?dry_run=true", None, request).await
    }

    /// Requests a rollback.
    pub async fn request(&self, request: Value) -> Response {
        self.post("rollbacks", None, request).await
    }

    /// Requests a rollback with an `If-Match` header, the environment's position in a plan.
    pub async fn request_if_match(&self, tag: &str, request: Value) -> Response {
        self.post("rollbacks", Some(tag), request).await
    }

    /// Queries the gate.
    pub async fn gate(&self, request: Value) -> Value {
        self.post("gate", None, request).await.ok()
    }

    /// Queries the environment.
    pub async fn get(&self, path: &str) -> Value {
        self.client.get(&format!("/v1/environments/{}/{path}", self.environment)).await.ok()
    }

    /// Returns a rollback.
    pub async fn rollback(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/rollbacks/{id}")).await.ok()
    }

    /// Returns the status of the release point at a position.
    pub async fn point_status(&self, position: u64) -> String {
        text(&self.get(&format!("points/{position}")).await["point"]["status"])
    }

    async fn post(&self, path: &str, tag: Option<&str>, body: Value) -> Response {
        let path = format!("/v1/environments/{}/{path}", self.environment);
        let mut request = self.client.request(Method::POST, &path);
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        let request = request.header("content-type", "application/json").body(body.to_string());
        Client::send(request).await
    }
}

/// Returns the text of a JSON string.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Returns the kinds and severities of a plan's issues.
pub fn issues(plan: &Value) -> Vec<(String, String)> {
    let issues = plan["issues"].as_array().expect("issues").iter();
    issues.map(|issue| (text(&issue["kind"]), text(&issue["severity"]))).collect()
}

/// Waits until the ledger has this many decisions of the controller, and returns them.
pub async fn controller_decisions(client: &Client, expected: usize) -> Vec<Value> {
    let found = async {
        loop {
            let mut all = rollback_events(client, "rollback.requested").await;
            all.extend(rollback_events(client, "rollback.declined").await);
            if all.len() >= expected {
                return all;
            }
            // The controller decides on its own schedule: poll.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.expect("the controller decides")
}
