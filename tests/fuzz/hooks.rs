//! Webhooks: deliveries of every kind, settings, and signatures.

use chrono::{DateTime, TimeDelta, Utc};
use ledger_adapters::hooks::{self, Request, Secret, SigningSecret, Webhook};
use ledger_adapters::translation::Translation;
use serde_json::{Value, json};

use crate::cdevents::check_translation;
use crate::choices::Choices;
use crate::{edit, samples};

/// The events of GitHub that the ledger knows, and one that it does not know.
const GITHUB_EVENTS: &[&str] = &[
    "deployment_status",
    "deployment",
    "deployment_review",
    "workflow_run",
    "check_run",
    "check_suite",
    "pull_request",
    "release",
    "ping",
    "push",
];

/// Time of the tests' clock, after the times of the samples.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_785_700_000, 0).expect("a time")
}

pub(crate) fn github(choices: &mut Choices<'_>) {
    delivery("github", choices);
}

pub(crate) fn gitlab(choices: &mut Choices<'_>) {
    delivery("gitlab", choices);
}

pub(crate) fn argocd(choices: &mut Choices<'_>) {
    delivery("argocd", choices);
}

pub(crate) fn flux(choices: &mut Choices<'_>) {
    delivery("flux", choices);
}

pub(crate) fn alertmanager(choices: &mut Choices<'_>) {
    delivery("alertmanager", choices);
}

pub(crate) fn generic(choices: &mut Choices<'_>) {
    delivery("generic", choices);
}

/// Returns a webhook, from settings that are edited in one of four cases; `None` if they are invalid.
fn webhook(settings: &[Value], choices: &mut Choices<'_>) -> Option<Webhook> {
    let settings =
        if choices.one_in(4) { edit::json(settings, choices) } else { choices.pick(settings).clone() };
    Webhook::offline(serde_json::from_value(settings).ok()?).ok()
}

/// Translates a delivery. A redelivery means the same, and the rest of a partial translation is not understood again.
fn delivery(kind: &str, choices: &mut Choices<'_>) {
    let samples = samples::hook(kind);
    let Some(webhook) = webhook(&samples.settings, choices) else { return };
    let event = choices.pick(GITHUB_EVENTS);
    let body = edit::document(&samples.bodies, choices);
    let headers = [("X-GitHub-Event", *event), ("Content-Type", "application/json")];
    let translate = |body: &[u8], now| hooks::translate(&webhook, &Request::new(headers, body), now);

    let translation = translate(&body, now());
    check_translation(&translation);
    let _ = hooks::describe(&translation);
    let shown = String::from_utf8_lossy(&body);
    assert_eq!(translate(&body, now()), translation, "two meanings of {shown}");
    let states_time =
        serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["object_kind"] != "feature_flag");
    if let (true, Ok(Translation::Events(events))) = (states_time, &translation) {
        let later = translate(&body, now() + TimeDelta::hours(1));
        assert_eq!(later, Ok(Translation::Events(events.clone())), "a redelivery of {shown}");
    }
    if let Ok(Translation::Partial(part)) = &translation {
        match translate(&part.rest, now()) {
            Err(fault) => assert_eq!(fault, part.fault, "the rest of {shown}"),
            Ok(Translation::Partial(again)) => {
                assert!(again.events.is_empty(), "the rest of {shown} has events");
                assert_eq!(again.fault, part.fault, "the rest of {shown}");
            }
            Ok(other) => panic!("the rest of {shown} is understood: {other:?}"),
        }
    }
}

/// Verifies signatures: those of the ledger's own form are accepted, and no other is.
pub(crate) fn signature(choices: &mut Choices<'_>) {
    // Long enough that no input has it.
    let key = ["whsec_", &"c2VjcmV0".repeat(12)].concat();
    let settings = [
        json!({"kind": "github"}),
        json!({"kind": "gitlab"}),
        json!({"kind": "flux"}),
        json!({"kind": "alertmanager"}),
        json!({"kind": "argocd", "authentication": "standard"}),
    ];
    let settings = serde_json::from_value(choices.pick(&settings).clone()).expect("settings");
    let secret = Secret::parse(key.as_bytes()).expect("a secret");
    let webhook = Webhook::new(settings, vec![secret]).expect("settings");
    let names = [
        "X-Hub-Signature-256",
        "X-Signature",
        "Authorization",
        "X-Gitlab-Token",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ];
    let values = ["sha256=", "v1,", "v1a,AAAA v1,AAAA", "Bearer ", "1785700000", "msg_1", "whsec_"];
    let headers: Vec<_> = names.iter().map(|name| (*name, edit::text(&values, choices))).collect();
    let body = choices.rest();
    let headers = || headers.iter().map(|(name, value)| (*name, value.as_str()));
    let verified = hooks::verify(&webhook, &Request::new(headers(), body), now());
    assert!(verified.is_err(), "accepted without the secret: {:?}", headers().collect::<Vec<_>>());

    let timestamp = now().timestamp();
    let secret = SigningSecret::parse(key.as_bytes()).expect("a secret");
    let signature = hooks::sign(&[secret], "msg_1", timestamp, body);
    let timestamp = timestamp.to_string();
    let signed =
        [("webhook-id", "msg_1"), ("webhook-timestamp", &timestamp), ("webhook-signature", &signature)];
    let standard =
        serde_json::from_value(json!({"kind": "argocd", "authentication": "standard"})).expect("settings");
    let secret = Secret::parse(key.as_bytes()).expect("a secret");
    let webhook = Webhook::new(standard, vec![secret]).expect("settings");
    assert_eq!(hooks::verify(&webhook, &Request::new(signed, body), now()), Ok(()));
}
