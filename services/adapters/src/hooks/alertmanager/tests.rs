//! Translations of notifications of Alertmanager.

use serde_json::{Value, json};

use crate::hooks::fixture::{events, fault, full_events, identities, ignored, translated, with};
use crate::translation::Translation;

fn config() -> Value {
    json!({"kind": "alertmanager"})
}

fn alert(name: &str, status: &str) -> Value {
    json!({
        "status": status,
        "labels": {"alertname": name, "environment": "production", "service": "search-api", "severity": "critical"},
        "annotations": {"summary": "5.2 % of requests fail"},
        "startsAt": "2026-08-01T12:00:00.123456789Z",
        "endsAt": if status == "firing" { "0001-01-01T00:00:00Z" } else { "2026-08-01T12:30:00Z" },
        "generatorURL": "https://prometheus.example/graph?g0.tab=1", "fingerprint": "9f3a1c2b4d5e6f70"
    })
}

fn notification(alerts: &[Value]) -> Value {
    json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "ledger",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "https://alerts-1.example",
        "alerts": alerts
    })
}

fn kinds(config: &Value, body: &Value) -> Vec<String> {
    let events = events(config, &[], body);
    events.iter().map(|event| event[0].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn an_alert_opens_an_incident_and_resolves_it() {
    let both = notification(&[alert("ErrorRate", "firing"), alert("ErrorRate", "resolved")]);
    let id = "9f3a1c2b4d5e6f70/2026-08-01T12:00:00.123456Z";
    let actor = json!({"type": "workload", "name": "alertmanager"});
    let links = json!([{"rel": "alert", "href": "https://prometheus.example/graph?g0.tab=1"}]);
    let opened = json!(["incident.opened", "2026-08-01T12:00:00.123456Z", {
        "environment": "production", "service": "search-api", "incident_id": id, "title": "ErrorRate",
        "severity": "critical", "actor": actor, "links": links
    }]);
    let resolved = json!(["incident.resolved", "2026-08-01T12:30:00Z", {
        "environment": "production", "service": "search-api", "incident_id": id, "actor": actor, "links": links
    }]);
    assert_eq!(events(&config(), &[], &both), [opened, resolved]);
}

#[test]
fn a_repeated_alert_has_the_same_identity_and_content_from_each_replica() {
    let first = full_events(&config(), &[], &notification(&[alert("ErrorRate", "firing")]));
    let mut again = notification(&[with(
        alert("ErrorRate", "firing"),
        &[("/annotations", json!({"summary": "7 % of requests fail"}))],
    )]);
    again["externalURL"] = json!("https://alerts-2.example");
    assert_eq!(full_events(&config(), &[], &again), first);
    let next = with(alert("ErrorRate", "firing"), &[("/startsAt", json!("2026-08-01T14:00:00Z"))]);
    let next = identities(&config(), &[], &notification(&[next]));
    assert_ne!(next, identities(&config(), &[], &notification(&[alert("ErrorRate", "firing")])));
}

fn with_check(more: &Value) -> Value {
    let mut check = json!({"event": "alert", "name": "Canary*", "check": "canary"});
    check.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({"kind": "alertmanager", "checks": [check]})
}

#[test]
fn an_alert_of_a_check_fails_it_and_its_end_does_not_pass_it() {
    let body = notification(&[alert("CanaryErrors", "firing"), alert("CanaryErrors", "resolved")]);
    let events = events(&with_check(&json!({})), &[], &body);
    let [failed, ended] = &events[..] else { panic!("not two events: {events:?}") };
    assert_eq!([&failed[0], &ended[0]], ["validation.failed", "activity.reported"]);
    assert_eq!(failed[2]["check"], "canary");
    assert_eq!(failed[2]["run"], "9f3a1c2b4d5e6f70/2026-08-01T12:00:00.123456Z");
    assert_eq!([&failed[2]["environment"], &failed[2]["service"]], ["production", "search-api"]);
}

#[test]
fn a_label_can_name_the_check() {
    let config = json!({"kind": "alertmanager", "alerts": {"check_label": "check"}});
    let labels = json!({"alertname": "a", "environment": "production", "service": "web", "check": "canary"});
    let body = notification(&[with(alert("a", "firing"), &[("/labels", labels)])]);
    let events = events(&config, &[], &body);
    assert_eq!([&events[0][0], &events[0][2]["check"]], ["validation.failed", "canary"]);
    assert_eq!(kinds(&config, &notification(&[alert("a", "firing")])), ["incident.opened"]);
}

#[test]
fn a_check_without_a_service_is_not_understood_unless_it_is_of_the_environment() {
    let mut body = notification(&[alert("CanaryErrors", "firing")]);
    body["alerts"][0]["labels"].as_object_mut().expect("labels").remove("service");
    let fault = fault(&with_check(&json!({})), &[], &body);
    assert!(fault.starts_with("/alerts/0/labels: ") && fault.contains("service"), "{fault}");
    let whole = with_check(&json!({"whole_environment": true}));
    let events = events(&whole, &[], &body);
    assert_eq!(events[0][2]["service"], Value::Null);
    assert_eq!(kinds(&with_check(&json!({"service": "search"})), &body), ["validation.failed"]);
}

#[test]
fn an_alert_about_no_environment_of_the_ledger_has_no_effect() {
    let mut body = notification(&[alert("Watchdog", "firing")]);
    body["alerts"][0]["labels"] = json!({"alertname": "Watchdog"});
    assert_eq!(kinds(&config(), &body), ["activity.reported"]);
    body["alerts"][0]["labels"]["environment"] = json!("prod / EU");
    assert_eq!(kinds(&config(), &body), ["activity.reported"]);
}

#[test]
fn labels_are_chosen_by_settings() {
    let config = json!({"kind": "alertmanager", "alerts": {
        "environment_labels": ["stage"], "service_labels": ["app", "job"], "target_labels": ["region"]
    }});
    let mut body = notification(&[alert("ErrorRate", "firing")]);
    body["alerts"][0]["labels"] = json!({"alertname": "a", "stage": "staging", "job": "web", "region": "eu"});
    let data = events(&config, &[], &body)[0][2].clone();
    assert_eq!([&data["environment"], &data["service"], &data["target"]], ["staging", "web", "eu"]);
}

#[test]
fn an_alert_without_a_fingerprint_is_identified_by_its_labels() {
    let without = |name: &str| {
        let mut body = notification(&[alert(name, "firing")]);
        body["alerts"][0].as_object_mut().expect("an alert").remove("fingerprint");
        identities(&config(), &[], &body)
    };
    assert_eq!(without("a"), without("a"));
    assert_ne!(without("a"), without("b"));
}

#[test]
fn an_unknown_form_is_not_understood() {
    let version = with(notification(&[]), &[("/version", json!("5"))]);
    assert!(fault(&config(), &[], &version).starts_with("/version: "));
    assert!(fault(&config(), &[], &json!({"version": "4"})).starts_with("/alerts: "));
    let status = with(alert("a", "firing"), &[("/status", json!("pending"))]);
    assert!(fault(&config(), &[], &notification(&[status])).starts_with("/alerts/0/status: "));
    assert!(ignored(&config(), &[], &notification(&[])).contains("no alerts"));
}

#[test]
fn an_alert_is_ignored_by_its_label_and_by_the_environment_that_it_is_mapped_to() {
    for pattern in ["production", "live"] {
        let config = json!({
            "kind": "alertmanager", "names": {"environments": {"production": "live"}},
            "ignored_environments": [pattern]
        });
        let body = notification(&[alert("ErrorRate", "firing")]);
        assert!(ignored(&config, &[], &body).contains(pattern));
    }
}

fn partial(body: &Value) -> (Vec<Value>, Value, String) {
    match translated(&config(), &[], body).expect("understood in part") {
        Translation::Partial(part) => {
            let events = part.events.into_iter().map(|event| Value::Object(event.0)).collect();
            (events, serde_json::from_slice(&part.rest).expect("JSON"), part.fault.to_string())
        }
        other => panic!("not partial: {other:?}"),
    }
}

#[test]
fn a_faulty_alert_does_not_hold_up_the_others_and_stays_in_a_message_of_its_own() {
    let good = [alert("ErrorRate", "firing"), alert("Latency", "firing")];
    let faulty = with(alert("Disk", "firing"), &[("/startsAt", json!("soon"))]);
    let body = notification(&[good[0].clone(), faulty.clone(), good[1].clone()]);

    let (events, rest, fault) = partial(&body);

    assert_eq!(events, full_events(&config(), &[], &notification(&good)));
    assert_eq!(rest, notification(&[faulty]));
    assert!(fault.starts_with("/alerts/0/startsAt: "), "{fault}");
    assert_eq!(crate::hooks::fixture::fault(&config(), &[], &rest), fault);
}

#[test]
fn the_rest_of_a_notification_means_the_events_that_the_whole_would_have_meant() {
    let early = with(alert("Disk", "firing"), &[("/startsAt", json!("2026-08-01T12:00:00Z"))]);
    let faulty =
        with(early.clone(), &[("/labels", json!({"alertname": "Disk", "environment": "production"}))]);
    let config = with_check(&json!({"name": "Disk"}));
    let body = notification(&[alert("ErrorRate", "firing"), faulty.clone()]);
    let Ok(Translation::Partial(part)) = translated(&config, &[], &body) else { panic!("not partial") };
    let rest: Value = serde_json::from_slice(&part.rest).expect("JSON");

    // The settings now name the service that the labels do not.
    let mended = with_check(&json!({"name": "Disk", "service": "search-api"}));
    let whole = identities(&mended, &[], &body);

    assert_eq!(identities(&mended, &[], &rest), whole[1..]);
}

#[test]
fn a_faulty_alert_beside_an_ignored_one_is_kept_alone() {
    let preview = json!({"alertname": "a", "environment": "review/7"});
    let preview = with(alert("a", "firing"), &[("/labels", preview)]);
    let faulty = with(alert("b", "firing"), &[("/status", Value::Null)]);
    let (events, rest, _) = partial(&notification(&[preview, faulty.clone()]));
    assert_eq!((events.len(), &rest["alerts"]), (0, &json!([faulty])));
}
