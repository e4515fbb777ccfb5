//! Helpers for the tests of all kinds: settings, deliveries, and the events that they mean.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Request, Webhook, translate};
use crate::translation::{NotUnderstood, Translation};

/// Time of the tests' clock.
pub(super) fn now() -> DateTime<Utc> {
    "2026-08-02T00:00:00Z".parse().expect("a time")
}

/// Settings of a JSON object.
pub(super) fn settings(config: Value) -> Webhook {
    let config = serde_json::from_value(config).expect("valid settings");
    Webhook::offline(config).expect("valid settings")
}

/// The translation of a delivery.
pub(super) fn translated(
    config: &Value,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<Translation, NotUnderstood> {
    let body = body.to_string();
    translate(&settings(config.clone()), &Request::new(headers.iter().copied(), body.as_bytes()), now())
}

/// The events that a delivery means, as `[kind, time, data]`.
pub(super) fn events(config: &Value, headers: &[(&str, &str)], body: &Value) -> Vec<Value> {
    let short = |event: &Value| {
        let kind = event["type"].as_str().expect("a type");
        let kind = kind.trim_start_matches("io.releaseledger.").trim_end_matches(".v1").to_owned();
        json!([kind, event["time"], event["data"]])
    };
    full_events(config, headers, body).iter().map(short).collect()
}

/// The events that a delivery means, whole.
pub(super) fn full_events(config: &Value, headers: &[(&str, &str)], body: &Value) -> Vec<Value> {
    match translated(config, headers, body).expect("understood") {
        Translation::Events(events) => events.into_iter().map(|event| Value::Object(event.0)).collect(),
        other => panic!("not events: {other:?}"),
    }
}

/// The identities of the events that a delivery means.
pub(super) fn identities(config: &Value, headers: &[(&str, &str)], body: &Value) -> Vec<String> {
    let events = full_events(config, headers, body);
    events.iter().map(|event| format!("{} {}", event["source"], event["id"])).collect()
}

/// The reason for which a delivery is ignored.
pub(super) fn ignored(config: &Value, headers: &[(&str, &str)], body: &Value) -> String {
    match translated(config, headers, body).expect("understood") {
        Translation::Ignored(reason) => reason,
        other => panic!("not ignored: {other:?}"),
    }
}

/// The fault of a delivery that is not understood.
pub(super) fn fault(config: &Value, headers: &[(&str, &str)], body: &Value) -> String {
    translated(config, headers, body).expect_err("not understood").to_string()
}

/// Returns a message with some of its members replaced: each by its pointer.
pub(super) fn with(mut message: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        message.pointer_mut(parent).expect("a parent")[name] = value.clone();
    }
    message
}
