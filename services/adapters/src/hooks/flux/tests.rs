//! Translations of events of Flux.

use serde_json::{Value, json};

use crate::hooks::fixture::{events, fault, identities, ignored, with};

const SHA: &str = "731f7eaddfb6af01cb2173e18f0f75b0ba780ef1";

fn config() -> Value {
    json!({"kind": "flux"})
}

fn helm_release(reason: &str, severity: &str) -> Value {
    json!({
        "involvedObject": {
            "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "name": "search-api",
            "namespace": "search", "uid": "7d0cdc51"
        },
        "metadata": {
            "environment": "production", "cluster": "eu", "helm.toolkit.fluxcd.io/revision": "1.4.2",
            "helm.toolkit.fluxcd.io/app-version": "v948"
        },
        "severity": severity, "reason": reason, "message": "Helm upgrade for release search/search-api",
        "reportingController": "helm-controller", "reportingInstance": "helm-controller-7c7b",
        "timestamp": "2026-08-01T12:00:00Z"
    })
}

fn kustomization(reason: &str, severity: &str, message: &str) -> Value {
    json!({
        "involvedObject": {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "name": "search-api",
            "namespace": "apps", "uid": "7d0cdc52"
        },
        "metadata": {
            "environment": "production", "kustomize.toolkit.fluxcd.io/revision": format!("main@sha1:{SHA}")
        },
        "severity": severity, "reason": reason, "message": message, "reportingController": "kustomize-controller",
        "timestamp": "2026-08-01T12:00:00Z"
    })
}

fn kinds(config: &Value, body: &Value) -> Vec<String> {
    let events = events(config, &[], body);
    events.iter().map(|event| event[0].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn an_upgraded_helm_release_is_a_deploy_of_its_chart() {
    let events = events(&config(), &[], &helm_release("UpgradeSucceeded", "info"));
    let expected = json!(["deploy.succeeded", "2026-08-01T12:00:00Z", {
        "environment": "production", "service": "search-api", "target": "eu",
        "deployment": "search/search-api@1.4.2", "release": {"version": "1.4.2"},
        "actor": {"type": "workload", "name": "helm-controller"}
    }]);
    assert_eq!(events, [expected]);
}

#[test]
fn each_reason_of_a_helm_release_has_its_meaning() {
    for (reason, severity, kind) in [
        ("InstallSucceeded", "info", "deploy.succeeded"),
        ("RollbackSucceeded", "info", "deploy.succeeded"),
        ("InstallFailed", "error", "deploy.failed"),
        ("UpgradeFailed", "error", "deploy.failed"),
        ("UninstallSucceeded", "info", "deploy.removed"),
        ("TestSucceeded", "info", "activity.reported"),
        ("TestFailed", "error", "activity.reported"),
        ("DriftDetected", "info", "activity.reported"),
        ("ArtifactFailed", "error", "activity.reported"),
        ("HealthCheckCanceled", "error", "activity.reported"),
    ] {
        assert_eq!(kinds(&config(), &helm_release(reason, severity)), [kind], "{reason}");
    }
    assert!(ignored(&config(), &[], &helm_release("Progressing", "info")).contains("Progressing"));
}

#[test]
fn a_test_of_a_chart_is_a_check_where_the_settings_map_it() {
    let config = json!({"kind": "flux", "checks": [{"event": "test", "name": "search-*", "check": "smoke"}]});
    let events = events(&config, &[], &helm_release("TestFailed", "error"));
    assert_eq!(events[0][0], "validation.failed");
    assert_eq!(events[0][2]["release"], json!({"version": "1.4.2"}));
}

#[test]
fn a_kustomization_is_deployed_when_its_health_check_has_passed() {
    let body = kustomization("Progressing", "info", "Health check passed in 10.2s");
    let events = events(&config(), &[], &body);
    assert_eq!(events[0][0], "deploy.succeeded");
    let release = json!({"version": SHA, "infrastructure": format!("git:{SHA}")});
    assert_eq!(events[0][2]["release"], release);
    let applied = kustomization("Progressing", "info", "Deployment/search/search-api configured");
    assert_eq!(kinds(&config(), &applied), ["deploy.started"]);
    let failed = kustomization("HealthCheckFailed", "error", "health check failed after 5m");
    assert_eq!(kinds(&config(), &failed), ["deploy.failed"]);
}

fn reconciled() -> Value {
    let body =
        kustomization("ReconciliationSucceeded", "info", "Reconciliation finished in 1s, next run in 10m0s");
    let mut body = body;
    body["metadata"]["kustomize.toolkit.fluxcd.io/commit_status"] = json!("update");
    body
}

#[test]
fn the_end_of_each_reconciliation_is_a_deploy_only_by_setting() {
    assert!(ignored(&config(), &[], &reconciled()).contains("each interval"));
    let each = json!({"kind": "flux", "flux": {"kustomization_success": "reconciliation"}});
    assert_eq!(kinds(&each, &reconciled()), ["deploy.succeeded"]);
    let healthy = kustomization("Progressing", "info", "Health check passed in 10.2s");
    assert!(ignored(&each, &[], &healthy).contains("reconciliation"));
}

/// Newer versions of the notification controller strip the API group from the keys of the metadata.
#[test]
fn the_metadata_of_a_controller_is_read_with_and_without_its_group() {
    let mut body = reconciled();
    let metadata = body["metadata"].as_object_mut().expect("an object");
    let stripped = metadata.iter().map(|(key, value)| {
        let key = key.rsplit('/').next().unwrap_or(key);
        (key.to_owned(), value.clone())
    });
    *metadata = stripped.collect();
    let each = json!({"kind": "flux", "flux": {"kustomization_success": "reconciliation"}});
    assert_eq!(events(&each, &[], &body), events(&each, &[], &reconciled()));
}

#[test]
fn the_deletion_of_a_kustomization_is_no_deploy() {
    let each = json!({"kind": "flux", "flux": {"kustomization_success": "reconciliation"}});
    let body = kustomization("ReconciliationSucceeded", "info", "Deployment/search/search-api deleted");
    for config in [config(), each] {
        assert_eq!(kinds(&config, &body), ["activity.reported"]);
    }
}

#[test]
fn a_failure_without_a_revision_has_no_effect_and_a_success_is_not_understood() {
    let without = |body: Value| with(body, &[("/metadata", json!({"environment": "production"}))]);
    assert_eq!(kinds(&config(), &without(helm_release("UpgradeFailed", "error"))), ["activity.reported"]);
    let fault = fault(&config(), &[], &without(helm_release("UpgradeSucceeded", "info")));
    assert_eq!(fault, "/metadata: must have helm.toolkit.fluxcd.io/revision");
}

#[test]
fn the_environment_is_stated_by_the_alert_or_mapped_by_the_namespace() {
    let body = with(helm_release("UpgradeSucceeded", "info"), &[("/metadata/environment", Value::Null)]);
    assert!(fault(&config(), &[], &body).contains("eventMetadata"));
    let config = json!({"kind": "flux", "names": {
        "environments": {"search": "production"}, "services": {"search/search-api": "search"}
    }});
    let data = events(&config, &[], &body)[0][2].clone();
    assert_eq!([&data["environment"], &data["service"]], ["production", "search"]);
}

#[test]
fn an_event_sent_again_has_the_same_identity_and_a_later_one_has_another() {
    let later = [("/timestamp", json!("2026-08-01T12:10:00Z"))];
    let later = with(helm_release("UpgradeSucceeded", "info"), &later);
    let first = identities(&config(), &[], &helm_release("UpgradeSucceeded", "info"));
    assert_eq!(first, identities(&config(), &[], &helm_release("UpgradeSucceeded", "info")));
    assert_ne!(first, identities(&config(), &[], &later));
}

#[test]
fn sources_are_recorded_only_if_they_fail() {
    let mut body = helm_release("NewArtifact", "info");
    body["involvedObject"]["kind"] = json!("GitRepository");
    assert!(ignored(&config(), &[], &body).contains("GitRepository"));
    body["severity"] = json!("error");
    assert_eq!(kinds(&config(), &body), ["activity.reported"]);
}

#[test]
fn an_object_is_ignored_by_the_environment_that_its_namespace_is_mapped_to() {
    let body = with(helm_release("UpgradeSucceeded", "info"), &[("/metadata/environment", Value::Null)]);
    for pattern in ["staging", "sea*"] {
        let config = json!({
            "kind": "flux", "names": {"environments": {"search": "staging"}}, "ignored_environments": [pattern]
        });
        assert!(ignored(&config, &[], &body).contains("ignored_environments"));
    }
}
