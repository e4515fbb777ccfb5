//! Translations of notifications of Argo CD.

use serde_json::{Value, json};

use crate::hooks::fixture::{events, fault, full_events, identities, ignored, with};

const REVISION: &str = "94fcc5e8673e0d2d7fbca6b1c6c455ba308314fc";

fn config() -> Value {
    json!({"kind": "argocd", "names": {"environments": {"https://kubernetes.default.svc": "production"}}})
}

fn application(phase: &str, health: &str) -> Value {
    json!({
        "timestamp": "2026-08-01T12:00:10.5Z",
        "context": {"argocdUrl": "https://argocd.example", "notificationType": "webhook"},
        "app": {
            "metadata": {
                "name": "search-api", "namespace": "argocd", "uid": "bb42b013", "labels": null,
                "finalizers": ["resources-finalizer.argocd.argoproj.io"]
            },
            "spec": {"destination": {"server": "https://kubernetes.default.svc", "namespace": "search"}},
            "status": {
                "health": {"status": health, "lastTransitionTime": "2026-08-01T12:00:05Z"},
                "reconciledAt": "2026-08-01T12:00:05Z",
                "sync": {"status": "Synced", "revision": "3de5b39dd5428af1ba8ec0a0b41fd7a1c528e7e5"},
                "operationState": {
                    "phase": phase, "startedAt": "2026-08-01T12:00:00Z", "finishedAt": "2026-08-01T12:00:04Z",
                    "message": "successfully synced (all tasks run)",
                    "operation": {"initiatedBy": {"automated": true}, "sync": {"revision": REVISION}},
                    "syncResult": {"revision": REVISION, "source": {"repoURL": "https://git.example/deploy"}}
                },
                "summary": {}
            }
        }
    })
}

fn kinds(config: &Value, body: &Value) -> Vec<String> {
    let events = events(config, &[], body);
    events.iter().map(|event| event[0].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn a_healthy_application_after_a_sync_is_a_deploy_of_what_was_synced() {
    let events = events(&config(), &[], &application("Succeeded", "Healthy"));
    let expected = json!(["deploy.succeeded", "2026-08-01T12:00:04Z", {
        "environment": "production", "service": "search-api", "deployment": "search-api/1785585600",
        "release": {"version": REVISION, "infrastructure": format!("git:{REVISION}")},
        "actor": {"type": "workload", "name": "argocd"},
        "links": [{"rel": "application", "href": "https://argocd.example/applications/argocd/search-api"}]
    }]);
    assert_eq!(events, [expected]);
}

#[test]
fn a_sync_starts_succeeds_or_fails() {
    for (phase, health, kind) in [
        ("Running", "Healthy", "deploy.started"),
        ("Succeeded", "Healthy", "deploy.succeeded"),
        ("Failed", "Healthy", "deploy.failed"),
        ("Error", "Unknown", "deploy.failed"),
        ("Succeeded", "Degraded", "incident.opened"),
    ] {
        assert_eq!(kinds(&config(), &application(phase, health)), [kind], "{phase} {health}");
    }
    for (phase, health) in [
        ("Succeeded", "Progressing"),
        ("Succeeded", "Missing"),
        ("Succeeded", "Suspended"),
        ("Succeeded", "Unknown"),
        ("Terminating", "Healthy"),
    ] {
        let reason = ignored(&config(), &[], &application(phase, health));
        assert!(reason.contains(phase) && reason.contains(health), "{reason}");
    }
}

#[test]
fn an_application_without_an_operation_is_no_deploy() {
    let body = with(application("", "Healthy"), &[("/app/status/operationState", Value::Null)]);
    assert!(ignored(&config(), &[], &body).contains("none"));
}

#[test]
fn a_dry_run_is_no_deploy_and_a_partial_sync_has_no_effect() {
    let sync = "/app/status/operationState/operation/sync";
    let dry =
        with(application("Succeeded", "Healthy"), &[(sync, json!({"revision": REVISION, "dryRun": true}))]);
    assert!(ignored(&config(), &[], &dry).contains("no deploy"));
    let resources = json!({"revision": REVISION, "resources": [{"kind": "ConfigMap", "name": "a"}]});
    let partial = with(application("Succeeded", "Healthy"), &[(sync, resources)]);
    assert_eq!(kinds(&config(), &partial), ["activity.reported"]);
}

#[test]
fn the_same_operation_sent_again_has_the_same_identity_and_content() {
    let first = full_events(&config(), &[], &application("Succeeded", "Healthy"));
    let again = with(
        application("Succeeded", "Healthy"),
        &[
            ("/timestamp", json!("2026-08-01T13:00:00Z")),
            ("/app/status/sync", json!({"status": "OutOfSync", "revision": "0000"})),
            ("/app/status/health/lastTransitionTime", json!("2026-08-01T12:59:00Z")),
            ("/app/status/reconciledAt", json!("2026-08-01T13:00:00Z")),
        ],
    );
    assert_eq!(full_events(&config(), &[], &again), first);
    let next = [("/app/status/operationState/startedAt", json!("2026-08-01T12:30:00Z"))];
    let next = with(application("Succeeded", "Healthy"), &next);
    assert_ne!(
        identities(&config(), &[], &next),
        identities(&config(), &[], &application("Succeeded", "Healthy"))
    );
}

fn with_images(images: &Value) -> Value {
    with(application("Succeeded", "Healthy"), &[("/app/status/summary", json!({"images": images}))])
}

#[test]
fn the_only_image_with_a_digest_is_the_artifact() {
    let image = format!("registry.example/search-api:v948@sha256:{}", "1".repeat(64));
    let release = |body: &Value| events(&config(), &[], body)[0][2]["release"].clone();
    assert_eq!(release(&with_images(&json!([image])))["artifact"], json!(image));
    for images in [
        json!([image, "registry.example/proxy:v1"]),
        json!(["registry.example/search-api:v948"]),
        json!(null),
    ] {
        assert_eq!(release(&with_images(&images))["artifact"], Value::Null);
    }
    let stale = [("/app/status/reconciledAt", json!("2026-08-01T12:00:03Z"))];
    let stale = with(with_images(&json!([image])), &stale);
    assert_eq!(release(&stale)["artifact"], Value::Null);
}

#[test]
fn the_image_of_the_settings_states_the_version() {
    let mut config = config();
    config["argocd"] = json!({"images": {"search-api": "registry.example/search-api"}});
    let release = |images: &Value| events(&config, &[], &with_images(images))[0][2]["release"].clone();
    let own = json!(["registry.example/search-api:v948", "registry.example/proxy:v1"]);
    assert_eq!(release(&own), json!({"version": "v948", "infrastructure": format!("git:{REVISION}")}));
    let rollout = json!(["registry.example/search-api:v947", "registry.example/search-api:v948"]);
    assert_eq!(release(&rollout)["version"], REVISION);
    assert!(ignored(&config, &[], &application("Running", "Healthy")).contains("Running"));
}

#[test]
fn with_several_sources_the_chart_is_the_version() {
    let result =
        json!({"revision": "", "revisions": ["0.6.3", REVISION], "sources": [{"chart": "search-api"}, {}]});
    let body =
        with(application("Succeeded", "Healthy"), &[("/app/status/operationState/syncResult", result)]);
    let release = events(&config(), &[], &body)[0][2]["release"].clone();
    assert_eq!(release, json!({"version": "0.6.3", "infrastructure": format!("git:{REVISION}")}));
}

#[test]
fn a_revision_can_be_the_commit() {
    let mut config = config();
    config["argocd"] = json!({"revision": "commit"});
    let release = events(&config, &[], &application("Succeeded", "Healthy"))[0][2]["release"].clone();
    assert_eq!(release, json!({"version": REVISION, "commit": REVISION}));
}

#[test]
fn an_operation_without_a_revision_has_no_effect() {
    let body = with(
        application("Failed", "Healthy"),
        &[
            ("/app/status/operationState/syncResult", Value::Null),
            ("/app/status/operationState/operation", Value::Null),
        ],
    );
    assert_eq!(kinds(&config(), &body), ["activity.reported"]);
}

#[test]
fn labels_name_the_lane_and_an_unknown_destination_is_not_understood() {
    let labels = json!({
        "releaseledger.io/environment": "staging", "releaseledger.io/service": "search", "releaseledger.io/target": "eu"
    });
    let body = with(application("Succeeded", "Healthy"), &[("/app/metadata/labels", labels)]);
    let data = events(&json!({"kind": "argocd"}), &[], &body)[0][2].clone();
    assert_eq!([&data["environment"], &data["service"], &data["target"]], ["staging", "search", "eu"]);
    let fault = fault(&json!({"kind": "argocd"}), &[], &application("Succeeded", "Healthy"));
    assert!(
        fault.starts_with("/app/metadata: ") && fault.contains("releaseledger.io/environment"),
        "{fault}"
    );
}

#[test]
fn a_degraded_application_is_one_incident() {
    let events = events(&config(), &[], &application("Succeeded", "Degraded"));
    assert_eq!([&events[0][0], &events[0][1]], ["incident.opened", "2026-08-01T12:00:05Z"]);
    assert_eq!(events[0][2]["incident_id"], "argocd/bb42b013/degraded");
    let mut config = config();
    config["argocd"] = json!({"resolves_incidents": true});
    let kinds = kinds(&config, &application("Succeeded", "Healthy"));
    assert_eq!(kinds, ["deploy.succeeded", "incident.resolved"]);
}

#[test]
fn a_degraded_application_fails_a_mapped_check() {
    let mut config = config();
    config["checks"] = json!([{"event": "health", "name": "search-*", "check": "health"}]);
    let events = events(&config, &[], &application("Succeeded", "Degraded"));
    assert_eq!(events[0][0], "validation.failed");
    assert_eq!(events[0][2]["check"], "health");
    assert_eq!(events[0][2]["release"]["version"], REVISION);
    assert_eq!(kinds(&config, &application("Running", "Degraded")), ["deploy.started", "incident.opened"]);
}

#[test]
fn a_deletion_removes_the_service_only_if_it_cascades() {
    let deleted = [("/app/metadata/deletionTimestamp", json!("2026-08-01T13:00:00Z"))];
    let body = with(application("Succeeded", "Healthy"), &deleted);
    assert_eq!(kinds(&config(), &body), ["deploy.removed"]);
    let kept = with(body, &[("/app/metadata/finalizers", json!(["foregroundDeletion"]))]);
    assert_eq!(kinds(&config(), &kept), ["activity.reported"]);
}

#[test]
fn an_application_is_ignored_by_the_environment_that_its_destination_is_mapped_to() {
    for pattern in ["production", "https://kubernetes.*"] {
        let mut config = config();
        config["ignored_environments"] = json!([pattern]);
        assert!(ignored(&config, &[], &application("Succeeded", "Healthy")).contains("ignored_environments"));
    }
}
