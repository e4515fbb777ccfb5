//! Rules for deliveries of every kind.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixture::{now, settings};
use super::{Request, Secret, Unauthentic, Webhook, describe, translate, verify};
use crate::translation::{NotUnderstood, Translation};

const KINDS: [&str; 6] = ["github", "gitlab", "argocd", "flux", "alertmanager", "generic"];

fn config(kind: &str) -> Value {
    match kind {
        "generic" => json!({"kind": kind, "mapping": {"source": "s", "rules": [{"ignore": "all"}]}}),
        _ => json!({"kind": kind}),
    }
}

fn with_secret(kind: &str) -> Webhook {
    let config = serde_json::from_value(config(kind)).expect("valid settings");
    let secret = Secret::parse(b"0123456789abcdef").expect("a secret");
    Webhook::new(config, vec![secret]).expect("valid settings")
}

#[test]
fn a_delivery_without_a_proof_is_not_authentic() {
    for kind in KINDS {
        let error = verify(&with_secret(kind), &Request::new([], b"{}"), now()).expect_err("no proof");
        assert!(matches!(error, Unauthentic::Missing(_)), "{kind}: {error}");
        let error = verify(&settings(config(kind)), &Request::new([], b"{}"), now()).expect_err("no secret");
        assert_eq!(error, Unauthentic::NoSecret);
    }
}

#[test]
fn a_wrong_signature_of_flux_is_rejected() {
    let signature = "sha256=b33c3bb1cf10af1fea3e8cd46b3a4ac5d1ddd1b1ec5d6ae34ce1cbd2f3a4f5b6";
    let request = Request::new([("X-Signature", signature)], b"{}");
    assert_eq!(
        verify(&with_secret("flux"), &request, now()),
        Err(Unauthentic::WrongSignature("X-Signature"))
    );
}

#[test]
fn argo_cd_and_alertmanager_send_a_token() {
    for kind in ["argocd", "alertmanager", "generic"] {
        let request = Request::new([("Authorization", "Bearer 0123456789abcdef")], b"{}");
        assert_eq!(verify(&with_secret(kind), &request, now()), Ok(()));
    }
}

#[test]
fn a_body_that_is_no_json_object_is_not_understood() {
    for kind in KINDS {
        for body in ["", "{", "[]", "null", "7", "\"a\"", "\u{0}"] {
            let error = translate(&settings(config(kind)), &Request::new([], body.as_bytes()), now());
            assert_eq!(error.expect_err(body).pointer, "", "{kind} {body}");
        }
        let deep = "[".repeat(100_000);
        assert!(translate(&settings(config(kind)), &Request::new([], deep.as_bytes()), now()).is_err());
        assert!(translate(&settings(config(kind)), &Request::new([], b"{\"a\":\"\xff\"}"), now()).is_err());
    }
    let form = Request::new([("Content-Type", "application/x-www-form-urlencoded")], b"payload=%7B%7D");
    let error = translate(&settings(config("github")), &form, now()).expect_err("a form");
    assert!(error.detail.contains("application/json"), "{error}");
}

#[test]
fn a_translation_is_described_in_lines() {
    let ping = Request::new([("X-GitHub-Event", "ping")], b"{}");
    let lines = describe(&translate(&settings(config("github")), &ping, now()));
    assert_eq!(lines, ["ignored: ping: a test delivery of GitHub"]);
    let fault = describe(&Err(NotUnderstood::new("/a", "is required")));
    assert_eq!(fault, ["not understood: /a: is required"]);
}

/// A message of each kind with most of the members that are read.
fn message(kind: &str) -> Value {
    match kind {
        "github" => json!({
            "action": "completed", "environment": "e", "since": "2026-08-01T12:00:00Z",
            "deployment_status": {"id": 1, "state": "success", "environment": "e", "created_at": "2026-08-01T12:00:00Z"},
            "deployment": {"id": 2, "sha": "5732a5872809a214337dc162d8b21f900429daae", "ref": "v1.2.3", "task": "deploy",
                "payload": {"version": "v1"}, "environment": "e", "created_at": "2026-08-01T12:00:00Z"},
            "workflow_run": {"id": 3, "run_attempt": 1, "name": "n", "event": "schedule", "conclusion": "failure",
                "head_branch": "main", "head_sha": "5732a5872809a214337dc162d8b21f900429daae",
                "head_repository": {"full_name": "a/b"}, "run_started_at": "2026-08-01T12:00:00Z",
                "updated_at": "2026-08-01T12:01:00Z"},
            "check_run": {"id": 4, "name": "n", "conclusion": "failure", "completed_at": "2026-08-01T12:00:00Z",
                "check_suite": {"head_branch": "main", "pull_requests": []}},
            "check_suite": {"id": 5, "conclusion": "failure", "head_branch": "main", "pull_requests": [],
                "created_at": "2026-08-01T12:00:00Z", "updated_at": "2026-08-01T12:00:00Z"},
            "release": {"id": 6, "tag_name": "v1", "published_at": "2026-08-01T12:00:00Z"},
            "repository": {"full_name": "a/b", "name": "b", "html_url": "https://h/a/b", "default_branch": "main"}
        }),
        "gitlab" => json!({
            "object_kind": "deployment", "status": "success", "status_changed_at": "2026-08-01 14:00:00 +0200",
            "deployment_id": 1, "environment": "e", "short_sha": "5732a587", "ref": "v1", "action": "create", "id": 2,
            "tag": "v1", "released_at": "2026-08-01 12:00:00 UTC", "build_id": 3, "build_name": "n",
            "build_status": "failed", "build_finished_at": "2026-08-01 12:00:00 UTC",
            "object_attributes": {"id": 4, "status": "failed", "source": "schedule", "ref": "main", "name": "n",
                "finished_at": "2026-08-01 12:00:00 UTC", "active": true},
            "project": {"web_url": "https://h/a/b", "path_with_namespace": "a/b", "default_branch": "main"}
        }),
        "argocd" => json!({
            "timestamp": "2026-08-01T12:00:00Z", "context": {"argocdUrl": "https://a"},
            "app": {
                "metadata": {"name": "n", "uid": "u", "labels": {"releaseledger.io/environment": "e"}},
                "status": {"health": {"status": "Healthy", "lastTransitionTime": "2026-08-01T12:00:00Z"},
                    "reconciledAt": "2026-08-01T12:00:00Z", "summary": {"images": ["a:1"]},
                    "operationState": {"phase": "Succeeded", "startedAt": "2026-08-01T12:00:00Z",
                        "finishedAt": "2026-08-01T12:00:00Z", "syncResult": {"revision": "1.2.3"}}}
            }
        }),
        "flux" => json!({
            "involvedObject": {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "name": "n"},
            "metadata": {"environment": "e", "helm.toolkit.fluxcd.io/revision": "1.2.3"}, "severity": "info",
            "reason": "UpgradeSucceeded", "message": "m", "timestamp": "2026-08-01T12:00:00Z"
        }),
        _ => json!({"version": "4", "alerts": [{
            "status": "resolved", "labels": {"alertname": "n", "environment": "e", "service": "s"},
            "startsAt": "2026-08-01T12:00:00Z", "endsAt": "2026-08-01T12:30:00Z", "fingerprint": "f"
        }]}),
    }
}

/// The pointers to all values of a message.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in members {
        let at = format!("{at}/{name}");
        pointers(value, &at, found);
        found.push(at);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z]{0,5}\u{202e}?".prop_map(Value::from),
        Just(Value::from("x".repeat(70_000))),
        Just(Value::from("9999-12-31T23:59:59.999999999Z")),
        Just(json!([])),
        Just(json!([{"environment": "e"}, null])),
        Just(json!({})),
    ]
}

proptest! {
    #[test]
    fn no_message_makes_a_translation_panic_and_each_event_is_valid(
        kind in prop::sample::select(KINDS.to_vec()),
        event in prop::sample::select(vec![
            "deployment_status", "deployment", "deployment_review", "workflow_run", "check_run", "check_suite", "release",
        ]),
        action in prop::sample::select(vec!["completed", "approved", "published", "requested"]),
        object in prop::sample::select(vec!["deployment", "pipeline", "build", "release", "feature_flag"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 0..4),
    ) {
        let mut body = message(kind);
        body["action"] = json!(action);
        body["object_kind"] = json!(object);
        let mut places = Vec::new();
        pointers(&body, "", &mut places);
        for (place, value) in changes {
            let place: &String = place.get(&places);
            if let Some(member) = body.pointer_mut(place) {
                *member = value;
            }
        }
        let body = body.to_string();
        let request = Request::new([("X-GitHub-Event", event)], body.as_bytes());
        let settings = settings(config(kind));
        let first = translate(&settings, &request, now());
        prop_assert_eq!(&first, &translate(&settings, &request, now()));
        if let Ok(Translation::Events(events)) = &first {
            prop_assert!(!events.is_empty());
        }
        let _ = describe(&first);
    }
}
