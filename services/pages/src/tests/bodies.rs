//! Bodies of the API in which every text is the same, and the pages of them.

use chrono::{DateTime, Utc};
use ledger_api_types::{EntryBody, GateBody, OverviewBody, RollbackBody, RollbacksBody, StateBody};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Frame, IssuerLink, RefusedForm, ReleaseQuestion, approval, entry, environment, failure, overview,
    rollback, rollbacks, sign_in, tenants,
};

const TIME: &str = "2026-03-01T12:00:05Z";

pub(super) fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-03-03T12:00:05Z").expect("a time").to_utc()
}

/// Returns the body of a JSON value.
pub(super) fn body<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_str(&value.to_string()).expect("a body of the API")
}

/// Returns surroundings in which every text is this one.
pub(super) fn frame(text: &str) -> Frame<'_> {
    Frame {
        tenant: Some(text),
        reader: Some(text),
        can_sign_out: true,
        api_path: Some(text),
        command: Some(text),
        query: text,
    }
}

fn release(text: &str) -> Value {
    json!({"version": text, "artifact": text, "config": text, "infrastructure": text, "commit": text})
}

fn since(text: &str) -> Value {
    json!({"position": 7, "occurred_at": TIME, "event_id": text})
}

fn actor(text: &str) -> Value {
    json!({"type": text, "name": text})
}

fn counts() -> Value {
    json!({"passed": 3, "failed": 1, "skipped": 0})
}

pub(super) fn overview_of(text: &str) -> Value {
    let lane = |target: &str| {
        json!({
            "service": text, "target": target, "release": release(text), "since": since(text),
            "drift": true, "revoked": true,
        })
    };
    json!({
        "position": 9,
        "environments": [{
            "name": text,
            "status": text,
            "lanes": [lane(text), lane("another target")],
            "deploying": [{"service": text, "target": text, "version": text, "position": 8}],
            "observed": [{"service": text, "target": text, "release": release(text), "since": since(text)}],
            "freezes": [
                {"freeze_id": text, "position": 3, "until": TIME},
                {"freeze_id": text, "position": 4},
            ],
        }, {"name": "empty", "lanes": [], "deploying": []}],
        "next": text,
        "restricted": true,
    })
}

pub(super) fn state_of(text: &str) -> Value {
    let lane = json!({
        "service": text, "target": text, "slot": text, "release": release(text), "since": since(text),
    });
    json!({
        "environment": text, "position": 9, "at": text, "digest": text,
        "lanes": [lane.clone()],
        "idle": [lane],
        "switches_without_effect": [
            {"service": text, "target": text, "slot": text, "since": since(text)},
            {"service": text, "target": text, "slot": text},
        ],
        "hidden_reports": [{"service": text, "target": text, "position": 5}],
    })
}

pub(super) fn rollback_of(text: &str) -> Value {
    let step = json!({
        "wave": 1, "service": text, "target": text, "action": text, "slot": text,
        "from": release(text), "to": release(text), "state": text, "position": 8, "not_before": TIME,
    });
    let approvals = json!({
        "wanted": 1, "granted": 1, "rejected": true,
        "answers": [{"actor": actor(text), "granted": true, "position": 6}, {"position": 7}],
    });
    let others = json!([
        {"position": 8, "occurred_at": TIME, "type": text, "service": text, "target": text},
        {"position": 9, "type": text},
    ]);
    json!({
        "rollback_id": text, "environment": text, "position": 9, "phase": "started",
        "automatic": true, "force": true, "initiated_by": actor(text), "reason": text,
        "requested": {"position": 6, "recorded_at": TIME},
        "started": 7, "ended": 8, "end_reason": text, "to": 2, "at": TIME, "source": text,
        "services": [text, text], "targets": [text], "policy": 1, "cause": 5, "cause_counts": counts(),
        "plan_digest": text,
        "approvals": approvals,
        "progress": {"done": 1, "failed": 1, "total": 3},
        "steps": [step, {"wave": 2, "service": text, "target": text, "action": text, "state": text}],
        "differences": [text],
        "others": others,
    })
}

pub(super) fn rollbacks_of(text: &str) -> Value {
    json!({"position": 9, "rollbacks": [rollback_of(text)], "next": 5})
}

pub(super) fn gate_of(text: &str) -> Value {
    json!({
        "environment": text, "position": 9, "policy": 1, "allowed": false, "release": release(text),
        "artifact_known_from": 2,
        "findings": [
            {
                "rule": text, "target": text, "passes": false, "detail": text, "position": 4,
                "counts": counts(), "grants": [5, 6],
            },
            {"rule": text, "passes": false, "unknown": true, "detail": text},
            {"rule": text, "passes": true, "detail": text},
        ],
    })
}

pub(super) fn entry_of(text: &str) -> Value {
    let event = json!({
        "specversion": "1.0", "id": text, "source": text, "type": text, "time": TIME,
        "data": {
            "actor": actor(text), "reason": text, (text): {(text): [text, {"href": text}]},
            "links": [{"rel": text, "href": text}], "nothing": null, "none": {}, "many": [],
        },
    });
    json!({
        "position": 7, "recorded_at": TIME, "leaf_hash": text, "repeats": 2, "anomalies": [text, text],
        "new": [text], "went_live": text, "target": text, "targets": [text], "returns_to": 3,
        "corrected_by": 9, "clock_ahead_ms": 12, "actor": actor(text),
        "principal": {
            "kind": text, "name": text, "issuer": text, "subject": text, "claims": {(text): text},
        },
        "event": event,
    })
}

pub(super) fn question(text: &str) -> ReleaseQuestion<'_> {
    ReleaseQuestion { environment: text, service: text, version: text, artifact: text, is_new: true }
}

/// Returns every page, with this text in each of its fields.
pub(super) fn pages(text: &str) -> Vec<(&'static str, String)> {
    let frame = frame(text);
    let overview_body: OverviewBody = body(&overview_of(text));
    let rollbacks_body: RollbacksBody = body(&rollbacks_of(text));
    let state: StateBody = body(&state_of(text));
    let rollback_body: RollbackBody = body(&rollback_of(text));
    let gate: GateBody = body(&gate_of(text));
    let entry_body: EntryBody = body(&entry_of(text));
    let issuers = [IssuerLink { name: text, number: 0 }, IssuerLink { name: text, number: 1 }];
    let pages = [
        ("tenants", tenants(&frame, &[text, text])),
        ("overview", overview(&frame, &overview_body, &rollbacks_body, now())),
        ("environment", environment(&frame, &state, Some(text), now())),
        ("rollbacks", rollbacks(&frame, &rollbacks_body, Some(text))),
        ("rollback", rollback(&frame, &rollback_body, Some(text))),
        ("rollback without forms", rollback(&frame, &rollback_body, None)),
        ("approval", approval(&frame, &question(text), Some(&gate), Some(text))),
        ("approval without form", approval(&frame, &question(text), Some(&gate), None)),
        ("question", approval(&frame, &question(text), None, Some(text))),
        ("entry", entry(&frame, &entry_body, None)),
        ("sign-in", sign_in(&issuers, text, Some(text))),
        ("failure", failure(&frame, 401, text, text, Some(RefusedForm { page: "/t/default", reason: text }))),
    ];
    pages.into_iter().map(|(name, page)| (name, page.expect("a rendered page"))).collect()
}
