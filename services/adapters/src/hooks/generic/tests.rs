//! Translations of deliveries by a mapping.

use serde_json::{Value, json};

use crate::hooks::fixture::{events, fault, full_events, identities, ignored, settings, with};
use crate::hooks::{Webhook, WebhookSettings};

fn config() -> Value {
    json!({
        "kind": "generic",
        "names": {"services": {"Search API": "search-api"}, "default_target": "eu"},
        "mapping": {
            "source": "https://deployer.example",
            "rules": [
                {"when": [{"pointer": "/dry", "equals": true}], "ignore": "a dry run"},
                {
                    "when": [{"pointer": "/type", "equals": "deploy"}, {"pointer": "/state", "in": ["ok", "done"]}],
                    "event": {
                        "type": "deploy.succeeded",
                        "id": {"concat": [{"pointer": "/run"}, "/", {"pointer": "/state"}]},
                        "time": {"pointer": "/finished", "as": "unix"},
                        "correlation": {"pointer": "/pipeline"},
                        "data": {
                            "environment": {"pointer": "/stage", "map": {"live": "production"}},
                            "service": {"pointer": "/app"},
                            "slot": {"pointer": "/slot"},
                            "deployment": {"pointer": "/run", "as": "text"},
                            "release": {"version": {"pointer": "/version"}, "commit": {"pointer": "/commit"}},
                            "actor": {"type": "workload", "name": {"pointer": "/by", "default": "deployer"}}
                        }
                    }
                },
                {
                    "when": [{"pointer": "/state", "exists": true}],
                    "event": {
                        "type": "activity.reported", "id": {"pointer": "/run"}, "time": {"pointer": "/at"},
                        "data": {"activity": "deployer.state", "outcome": {"pointer": "/state"}}
                    }
                }
            ]
        }
    })
}

fn delivery() -> Value {
    json!({
        "type": "deploy", "state": "ok", "run": 7, "finished": 1_785_585_600, "stage": "live", "app": "Search API",
        "version": "v948", "slot": null, "pipeline": "p-1"
    })
}

#[test]
fn the_first_rule_whose_conditions_hold_makes_the_event() {
    let [event] = &full_events(&config(), &[], &delivery())[..] else { panic!("not one event") };
    assert_eq!([&event["source"], &event["id"]], ["https://deployer.example", "7/ok"]);
    assert_eq!([&event["time"], &event["correlationid"]], ["2026-08-01T12:00:00Z", "p-1"]);
    assert_eq!(
        event["data"],
        json!({
            "environment": "production", "service": "search-api", "target": "eu", "deployment": "7",
            "release": {"version": "v948"}, "actor": {"type": "workload", "name": "deployer"}
        })
    );
}

#[test]
fn a_later_rule_counts_where_no_earlier_one_holds() {
    let body = json!({"state": "paused", "run": 8, "at": "2026-08-01 12:00:00 UTC"});
    let expected = json!(["activity.reported", "2026-08-01T12:00:00Z", {
        "activity": "deployer.state", "outcome": "paused"
    }]);
    assert_eq!(events(&config(), &[], &body), [expected]);
}

#[test]
fn a_delivery_is_ignored_by_a_rule_or_because_none_holds() {
    let dry = with(delivery(), &[("/dry", json!(true))]);
    assert_eq!(ignored(&config(), &[], &dry), "rules[0]: a dry run");
    assert_eq!(ignored(&config(), &[], &json!({"state": null})), "no rule of the mapping matches");
}

#[test]
fn a_value_that_cannot_be_used_is_a_fault() {
    for (pointer, value, expected) in [
        ("/stage", json!("lab"), "/stage: \"lab\" is not in the map of the rule"),
        ("/run", Value::Null, "rules[1]: the delivery has no value for id"),
        ("/run", json!(1.5), "/run: must be a text, an integer or a boolean"),
        ("/finished", json!("soon"), "/finished: must be an integer"),
        ("/finished", json!(99_999_999_999_i64), "ahead of this service's clock"),
        ("/version", Value::Null, "the event that it means is invalid"),
        ("/version", json!(1.10), "the event that it means is invalid"),
        ("/app", json!("a/b"), "map it in names.services"),
        ("/app", json!(7), "service must be a text"),
    ] {
        let fault = fault(&config(), &[], &with(delivery(), &[(pointer, value)]));
        assert!(fault.contains(expected), "{pointer}: {fault}");
    }
}

#[test]
fn a_redelivery_has_the_same_identity() {
    assert_eq!(identities(&config(), &[], &delivery()), identities(&config(), &[], &delivery()));
    let next = with(delivery(), &[("/run", json!(8))]);
    assert_ne!(identities(&config(), &[], &delivery()), identities(&config(), &[], &next));
}

fn rejected(rule: &Value) -> String {
    let config = json!({"kind": "generic", "mapping": {"source": "s", "rules": [rule]}});
    match serde_json::from_value::<WebhookSettings>(config) {
        Err(error) => error.to_string(),
        Ok(config) => Webhook::offline(config).expect_err("an invalid mapping").to_string(),
    }
}

#[test]
fn a_mapping_that_cannot_work_is_rejected_at_the_start() {
    let event = json!({"type": "deploy.removed", "id": "a", "time": "b", "data": {}});
    let of_kind = |kind: &str| json!({"event": with(event.clone(), &[("/type", json!(kind))])});
    assert!(rejected(&of_kind("rollback.requested")).contains("is none of"));
    assert!(rejected(&of_kind("environment.declared")).contains("is none of"));
    assert!(rejected(&json!({})).contains("either ignore or event"));
    assert!(rejected(&json!({"ignore": "a", "event": event})).contains("either ignore or event"));
    assert!(rejected(&json!({"ignore": "a", "when": [{"pointer": "/a"}]})).contains("exactly one of"));
    assert!(
        rejected(&json!({"ignore": "a", "when": [{"pointer": "a", "exists": true}]}))
            .contains("must start with /")
    );
    let id = |id: Value| json!({"event": with(event.clone(), &[("/id", id)])});
    assert!(rejected(&id(json!({"pointer": "a"}))).contains("must start with /"));
    assert!(rejected(&id(json!({"pointer": "/a", "regex": "b"}))).contains("unknown field"));
    assert!(rejected(&id(json!({"concat": "a"}))).contains("concat is an array"));
    settings(json!({"kind": "generic", "mapping": {"source": "s", "rules": [of_kind("deploy.failed")]}}));
}

#[test]
fn a_delivery_is_ignored_by_its_environment_before_and_after_the_maps_of_the_settings() {
    for pattern in ["production", "live-eu"] {
        let mut config = config();
        config["names"]["environments"] = json!({"production": "live-eu"});
        config["ignored_environments"] = json!([pattern]);
        assert!(ignored(&config, &[], &delivery()).contains(pattern));
        let activity = json!({"state": "paused", "run": 8, "at": "2026-08-01 12:00:00 UTC"});
        assert_eq!(events(&config, &[], &activity).len(), 1);
    }
}
