//! Stories of known good, and the way back to it.

mod automatic;
mod hard_cases;
mod known_good;
mod random_failures;
mod safeguards;
mod stories;
mod told;

use ledger_tests::{Answer, Client, deploy, event};
use reqwest::Method;
use serde_json::{Value, json};

/// What happens to production, told in minutes after ten o'clock.
#[derive(Clone)]
pub(crate) struct Story {
    client: Client,
    environment: String,
}

/// A time in minutes after ten o'clock on the first of August.
pub(crate) fn at(minutes: u64) -> String {
    format!("2026-08-{:02}T{:02}:{:02}:00Z", 1 + minutes / 840, 10 + minutes / 60 % 14, minutes % 60)
}

/// Every entry of a kind.
pub(crate) async fn rollback_events(client: &Client, kind: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/events?limit=1000&type={kind}")).await.ok();
    page["events"].as_array().expect("events").clone()
}

/// What somebody wants who requests a rollback to a point.
pub(crate) fn wish(to: &str, id: &str) -> Value {
    json!({
        "to": to,
        "rollback_id": id,
        "reason": "Customers see errors.",
        "initiated_by": {"type": "person", "name": "mia"},
    })
}

impl Story {
    /// A story of production.
    pub(crate) fn on(client: &Client) -> Self {
        Self::of(client, "production")
    }

    /// A story of an environment.
    pub(crate) fn of(client: &Client, environment: &str) -> Self {
        Self { client: client.clone(), environment: environment.to_owned() }
    }

    /// Tells an event of a kind; the projections have it then.
    pub(crate) async fn tell(&self, kind: &str, minutes: u64, data: Value) -> u64 {
        let answer = self.try_tell(kind, minutes, data).await;
        let position = answer.ok()["position"].as_u64().expect("a position");
        self.client.projections_at(position).await;
        position
    }

    /// Tells an event that may be refused.
    pub(crate) async fn try_tell(&self, kind: &str, minutes: u64, mut data: Value) -> Answer {
        if data.get("environment").is_none() && data.get("artifact").is_none() {
            data["environment"] = self.environment.as_str().into();
        }
        // What is told twice is told as the same event.
        let id = format!("{kind}-{minutes}-{data}").chars().take(500).collect::<String>();
        self.client.record(&event(&id, kind, &at(minutes), data)).await
    }

    /// A deploy to the default target.
    pub(crate) async fn deployed(&self, service: &str, version: &str, minutes: u64) -> u64 {
        let id = format!("{}-{service}-{version}-{minutes}", self.environment);
        self.client.recorded(&deploy(&id, &at(minutes), &self.environment, service, version)).await
    }

    /// A check of a version that passed.
    pub(crate) async fn passed(&self, service: &str, version: &str, check: &str, minutes: u64) -> u64 {
        self.checked("passed", service, version, check, minutes).await
    }

    /// A check of a version that failed.
    pub(crate) async fn failed(&self, service: &str, version: &str, check: &str, minutes: u64) -> u64 {
        self.checked("failed", service, version, check, minutes).await
    }

    async fn checked(&self, verb: &str, service: &str, version: &str, check: &str, minutes: u64) -> u64 {
        let data = json!({"service": service, "release": {"version": version}, "check": check});
        self.tell(&format!("validation.{verb}"), minutes, data).await
    }

    /// Declares the policy.
    pub(crate) async fn declared(&self, policy: Value, minutes: u64) -> u64 {
        self.tell("environment.declared", minutes, json!({"policy": policy})).await
    }

    /// The plan for a wish.
    pub(crate) async fn plan(&self, wish: Value) -> Answer {
        self.post("rollbacks?dry_run=true", None, wish).await
    }

    /// Requests a rollback.
    pub(crate) async fn request(&self, wish: Value) -> Answer {
        self.post("rollbacks", None, wish).await
    }

    /// Requests a rollback against the position that was seen.
    pub(crate) async fn request_at(&self, tag: &str, wish: Value) -> Answer {
        self.post("rollbacks", Some(tag), wish).await
    }

    /// Asks the gate.
    pub(crate) async fn gate(&self, question: Value) -> Value {
        self.post("gate", None, question).await.ok()
    }

    /// Asks something of the environment.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.client.get(&format!("/v1/environments/{}/{path}", self.environment)).await.ok()
    }

    /// A rollback as it is.
    pub(crate) async fn rollback(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/rollbacks/{id}")).await.ok()
    }

    /// What is thought of the point at a position.
    pub(crate) async fn status_at(&self, position: u64) -> String {
        text(&self.get(&format!("points/{position}")).await["point"]["status"])
    }

    async fn post(&self, path: &str, tag: Option<&str>, body: Value) -> Answer {
        let path = format!("/v1/environments/{}/{path}", self.environment);
        let mut request = self.client.request(Method::POST, &path);
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        let request = request.header("content-type", "application/json").body(body.to_string());
        Client::send(request).await
    }
}

/// The text of a JSON string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The kinds of the issues of a plan, with their severity.
pub(crate) fn issues(plan: &Value) -> Vec<(String, String)> {
    let issues = plan["issues"].as_array().expect("issues").iter();
    issues.map(|issue| (text(&issue["kind"]), text(&issue["severity"]))).collect()
}
