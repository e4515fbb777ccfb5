//! A history with every kind of event, late events, slots, targets and anomalies.

use std::path::Path;

use ledger_tests::{deploy, event};
use serde_json::{Value, json};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/events");

/// Returns events, one a line, in the order in which they are recorded: this many of the demo history, which must start
/// with an empty ledger, the handwritten events below, and the schemas' examples of reports.
pub(crate) fn history(demo: usize) -> Vec<String> {
    let demo = ledger_demo::history(Some(demo));
    let demo = demo.map(|event| String::from_utf8(event.bytes().to_vec()).expect("UTF-8"));
    let others = handwritten().into_iter().chain(examples()).map(|event| event.to_string());
    demo.chain(others).collect()
}

/// Returns the examples of all reports. The examples of commands would be rejected by this ledger.
fn examples() -> Vec<Value> {
    let files = std::fs::read_dir(Path::new(SCHEMAS)).expect("schemas/events");
    let mut files: Vec<_> = files.map(|file| file.expect("a schema").path()).collect();
    files.sort();
    let schemas = files.iter().map(|file| std::fs::read(file).expect("a schema"));
    let schemas = schemas.map(|text| serde_json::from_slice::<Value>(&text).expect("a schema is JSON"));
    let examples = schemas.flat_map(|schema| schema["examples"].as_array().cloned().unwrap_or_default());
    examples.filter(|event| !COMMANDS.iter().any(|kind| is_of(event, kind))).collect()
}

/// Prefixes of the kinds that are decided before they are recorded, that only the ledger records, or that another tenant
/// records.
const COMMANDS: [&str; 10] = [
    "rollback.",
    "release_point.",
    "approval.",
    "freeze.",
    "environment.declared",
    "artifact.reinstated",
    "subscription.disabled",
    "token.",
    "grant.",
    "tenant.",
];

fn is_of(event: &Value, kind: &str) -> bool {
    let name = event["type"].as_str().and_then(|name| name.strip_prefix("io.releaseledger."));
    name.is_some_and(|name| name.starts_with(kind))
}

/// Returns events that exercise the rules of projection.
fn handwritten() -> Vec<Value> {
    let lane = |target: &str| json!({"environment": "blue-green", "service": "web", "target": target});
    let with = |mut data: Value, name: &str, value: Value| {
        data[name] = value;
        data
    };
    let slot = |target: &str, slot: &str| with(lane(target), "slot", slot.into());
    let release_in = |target: &str, name: &str, version: &str| {
        with(slot(target, name), "release", json!({"version": version}))
    };
    let freeze = json!({"environment": "late", "freeze_id": "inventory", "reason": "We count."});
    // No entry passes its filter, so that nothing is delivered.
    let subscription = json!({
        "subscription": "kept", "url": "https://hooks.example/ledger", "secret": "kept", "filter": {"environment": "none-such"},
    });
    let source = deploy("corrected-before", "", "late", "web", "v1")["source"].clone();
    let before = json!({"source": source, "id": "corrected-before"});
    vec![
        event(
            "before-what-it-corrects",
            "deploy.succeeded",
            "2026-03-02T07:00:00Z",
            json!({"environment": "late", "service": "web", "release": {"version": "v2"}, "corrects": before}),
        ),
        deploy("corrected-before", "2026-03-02T07:30:00Z", "late", "web", "v1"),
        event(
            "one-way",
            "deploy.succeeded",
            "2026-03-02T08:00:00Z",
            json!({"environment": "late", "service": "db", "release": {"version": "v1"}, "reversible": false}),
        ),
        event(
            "word",
            "release_point.marked",
            "2026-03-02T08:30:00Z",
            json!({"environment": "production", "position": 600, "status": "known_good", "reason": "It ran well."}),
        ),
        event("subscription", "subscription.created", "2026-03-02T08:30:00Z", subscription),
        event("freeze", "freeze.started", "2026-03-02T09:00:00Z", freeze.clone()),
        event("thaw", "freeze.lifted", "2026-03-02T10:00:00Z", freeze),
        event("switch-to-nothing", "traffic.switched", "2026-03-01T09:00:00Z", slot("on-premise", "green")),
        event("remove-nothing", "deploy.removed", "2026-03-01T09:01:00Z", lane("on-premise")),
        event("blue", "deploy.succeeded", "2026-03-01T10:00:00Z", release_in("cloud", "blue", "v1")),
        event("to-blue", "traffic.switched", "2026-03-01T10:05:00Z", slot("cloud", "blue")),
        event("green", "deploy.succeeded", "2026-03-01T11:00:00Z", release_in("cloud", "green", "v2")),
        event("to-green", "traffic.switched", "2026-03-01T11:05:00Z", slot("cloud", "green")),
        event("late-blue", "deploy.succeeded", "2026-03-01T09:30:00Z", release_in("cloud", "blue", "v0")),
        event("late-switch", "traffic.switched", "2026-03-01T10:30:00Z", slot("cloud", "blue")),
        event("back", "traffic.switched", "2026-03-01T12:00:00Z", slot("cloud", "blue")),
        event("green-gone", "deploy.removed", "2026-03-01T13:00:00Z", slot("cloud", "green")),
        deploy("at-once-1", "2026-03-01T14:00:00Z", "late", "api", "v1"),
        deploy("at-once-2", "2026-03-01T14:00:00Z", "late", "api", "v2"),
        deploy("late-api", "2026-02-01T14:00:00Z", "late", "api", "v0"),
        deploy("same-again", "2026-03-01T15:00:00Z", "late", "api", "v2"),
        event(
            "gone",
            "deploy.removed",
            "2026-03-01T16:00:00Z",
            json!({"environment": "late", "service": "api"}),
        ),
        deploy("late-after-gone", "2026-03-01T15:30:00Z", "late", "api", "v3"),
    ]
}
