//! The effect of events, member by member.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::schema::Spec;
use super::samples::samples;
use super::{DIGEST, Settings, event, kind, read_value};
use crate::names::Names;

fn settings() -> Settings {
    let map = |from: &str, to: &str| BTreeMap::from([(from.to_owned(), to.to_owned())]);
    let names = Names {
        environments: map("prod / EU", "production"),
        services: map("daemonset/search-api", "search-api"),
        targets: map("cluster 1", "eu-west-1"),
        ..Names::default()
    };
    Settings { names }
}

fn translated(message: &Value) -> Value {
    read_value(message, &settings()).unwrap_or_else(|error| panic!("{error}: {message}"))
}

fn pointer(message: &Value) -> String {
    read_value(message, &settings()).expect_err("not understood").pointer
}

fn deployed(artifact: &str, custom: &Value) -> Value {
    let content = json!({ "environment": { "id": "production" }, "artifactId": artifact });
    event("service.deployed", "0.3.0", "search-api", &content, custom)
}

#[test]
fn a_deploy_has_the_release_the_lane_and_the_run() {
    let custom = json!({
        "actor": { "type": "person", "name": "mira.santos" },
        "reason": "Rank exact matches first.",
        "target": "cluster 1",
        "slot": "green",
        "version": "v948",
        "commit": "6973793",
        "configDigest": DIGEST,
        "deploymentId": 4711,
        "team": ["search"],
    });
    let content =
        json!({ "environment": { "id": "prod / EU" }, "artifactId": format!("pkg:oci/search-api@{DIGEST}") });
    let native = translated(&event("service.upgraded", "0.3.0", "daemonset/search-api", &content, &custom));
    assert_eq!(
        native,
        json!({
            "specversion": "1.0",
            "id": "run-4711",
            "source": "https://ci.example/search-api",
            "type": "io.releaseledger.deploy.succeeded.v1",
            "time": "2026-08-01T12:10:02Z",
            "subject": "production/eu-west-1/search-api",
            "datacontenttype": "application/json",
            "data": {
                "environment": "production",
                "service": "search-api",
                "target": "eu-west-1",
                "slot": "green",
                "deployment": "4711",
                "release": {
                    "version": "v948",
                    "artifact": format!("pkg:oci/search-api@{DIGEST}"),
                    "config": DIGEST,
                    "commit": "6973793",
                },
                "actor": { "type": "person", "name": "mira.santos" },
                "reason": "Rank exact matches first.",
            },
        })
    );
}

#[test]
fn an_artifact_id_that_pins_nothing_is_only_a_version() {
    for (id, version) in
        [("v948", "v948"), ("search-api:v948", "search-api:v948"), ("pkg:oci/search-api@v948", "v948")]
    {
        let release = &translated(&deployed(id, &json!({})))["data"]["release"];
        assert_eq!(*release, json!({ "version": version }), "{id}");
    }
    let named = translated(&deployed("search-api:latest", &json!({ "version": "v948" })));
    assert_eq!(named["data"]["release"], json!({ "version": "v948" }));
}

#[test]
fn a_deploy_that_could_be_taken_for_another_is_not_understood() {
    for (message, at) in [
        (deployed("", &json!({})), "/subject/content/artifactId"),
        (deployed("pkg:oci/search-api@sha256:1e69", &json!({})), "/subject/content/artifactId"),
        (deployed("pkg:golang/git.example/search", &json!({})), "/subject/content/artifactId"),
        (deployed("v948", &json!({ "version": 1.10 })), "/customData/version"),
        (deployed("v948", &json!({ "slot": "blue green" })), "/customData/slot"),
        (deployed("v948", &json!({ "slot": "" })), "/customData/slot"),
        (deployed("v948", &json!({ "target": " " })), "/customData/target"),
        (deployed("v948", &json!({ "service": "" })), "/customData/service"),
        (deployed("v948", &json!({ "version": "" })), "/customData/version"),
        (deployed("v948", &json!({ "target": ["eu"] })), "/customData/target"),
        (deployed("v948", &json!({ "target": "cluster 2" })), "/customData/target"),
        (deployed("v948", &json!({ "service": "search api" })), "/customData/service"),
        (deployed("v948", &json!({ "configDigest": "sha256:12" })), "/customData/configDigest"),
        (deployed("v948", &json!({ "commit": {} })), "/customData/commit"),
        (deployed("v948", &json!([])), "/customData"),
    ] {
        assert_eq!(pointer(&message), at, "{message}");
    }
    let unmapped = json!({ "environment": { "id": "prod / US" }, "artifactId": "v948" });
    let unmapped = event("service.deployed", "0.3.0", "search-api", &unmapped, &json!({}));
    let error = read_value(&unmapped, &settings()).expect_err("no such name");
    assert_eq!(error.pointer, "/subject/content/environment/id");
    assert!(error.detail.contains("map it in names.environments"), "{error}");
    let blank = json!({ "environment": { "id": " " }, "artifactId": "v948" });
    let names = Names { default_environment: Some("production".to_owned()), ..Names::default() };
    let blank = event("service.deployed", "0.3.0", "search-api", &blank, &json!({}));
    assert!(read_value(&blank, &Settings { names }).is_err());
}

#[test]
fn a_removal_without_an_environment_needs_a_default() {
    let removed = event("service.removed", "0.3.0", "search-api", &json!({}), &json!({ "slot": "blue" }));
    assert_eq!(pointer(&removed), "/subject/content/environment");
    let names = Names { default_environment: Some("staging".to_owned()), ..Names::default() };
    let native = read_value(&removed, &Settings { names }).expect("a default");
    assert_eq!(kind(&native), "deploy.removed");
    assert_eq!(native["data"], json!({ "environment": "staging", "service": "search-api", "slot": "blue" }));
}

#[test]
fn a_published_service_is_a_switch_only_with_a_slot() {
    let content = json!({ "environment": { "id": "production" } });
    let published =
        |custom: &Value| translated(&event("service.published", "0.3.0", "search-api", &content, custom));
    let switched = published(&json!({ "slot": "green" }));
    assert_eq!(kind(&switched), "traffic.switched");
    assert_eq!(switched["data"]["slot"], "green");
    let activity = published(&json!({ "slot": null }));
    assert_eq!(kind(&activity), "activity.reported");
    assert_eq!(
        activity["data"],
        json!({
            "activity": "service.published",
            "subject": "search-api",
            "environment": "production",
            "service": "search-api",
        })
    );
}

fn suite(predicate: &str, content: &Value, custom: &Value) -> Value {
    event(&format!("testsuiterun.{predicate}"), "0.3.0", "suite-run-3", content, custom)
}

#[test]
fn a_test_is_about_the_environment_or_the_service_that_it_examined() {
    let content =
        json!({ "environment": { "id": "production" }, "testSuite": { "id": "92", "name": "smoke" } });
    let native = translated(&suite("started", &content, &json!({})));
    assert_eq!(kind(&native), "validation.started");
    assert_eq!(
        native["data"],
        json!({ "environment": "production", "check": "smoke", "run": "suite-run-3" })
    );
    assert_eq!(pointer(&suite("started", &content, &json!({ "service": "" }))), "/customData/service");
    let custom = json!({ "service": "search-api", "version": "v948", "deploymentId": "run-4711" });
    let native = translated(&suite("started", &content, &custom));
    assert_eq!(
        native["data"],
        json!({
            "environment": "production",
            "service": "search-api",
            "release": { "version": "v948" },
            "deployment": "run-4711",
            "check": "smoke",
            "run": "suite-run-3",
        })
    );
}

#[test]
fn only_success_and_failure_are_results() {
    for (outcome, expected) in [
        ("success", "validation.passed"),
        ("failure", "validation.failed"),
        ("cancel", "activity.reported"),
        ("error", "activity.reported"),
    ] {
        let content = json!({
            "environment": { "id": "production" },
            "testSuite": { "id": "smoke" },
            "outcome": outcome,
            "reason": "two of forty cases",
        });
        let native = translated(&suite("finished", &content, &json!({})));
        assert_eq!(kind(&native), expected, "{outcome}");
        assert_eq!(native["data"]["reason"], "two of forty cases");
    }
    let mut old = samples(Spec::V0_4).into_iter().filter(|it| it["subject"]["type"] == "testSuiteRun");
    let old = old.find(|it| it["subject"]["content"]["outcome"] == "fail").expect("a failed run");
    for (outcome, expected) in [("pass", "validation.passed"), ("cancel", "activity.reported")] {
        let mut message = old.clone();
        message["subject"]["content"]["outcome"] = json!(outcome);
        assert_eq!(kind(&translated(&message)), expected, "{outcome}");
    }
}

#[test]
fn a_run_without_a_test_and_a_part_of_another_run_are_activities() {
    let unnamed = json!({ "environment": { "id": "production" }, "outcome": "failure" });
    assert_eq!(kind(&translated(&suite("finished", &unnamed, &json!({})))), "activity.reported");
    let case = json!({
        "environment": { "id": "production" },
        "testCase": { "id": "92", "name": "smoke" },
        "testSuiteRun": { "id": "suite-run-3" },
        "outcome": "success",
    });
    let part = event("testcaserun.finished", "0.3.0", "case-run-5", &case, &json!({}));
    assert_eq!(kind(&translated(&part)), "activity.reported");
    let queued = json!({ "environment": { "id": "production" }, "testSuite": { "id": "smoke" } });
    assert_eq!(kind(&translated(&suite("queued", &queued, &json!({})))), "activity.reported");
}

#[test]
fn a_built_artifact_has_the_version_of_its_id_or_of_custom_data() {
    let content = json!({ "change": { "id": "search-api!318" } });
    let packaged =
        |id: &str, custom: &Value| translated(&event("artifact.packaged", "0.3.0", id, &content, custom));
    let artifact = format!("pkg:oci/search-api@{DIGEST}");
    let built = packaged(&artifact, &json!({}));
    assert_eq!(kind(&built), "artifact.built");
    assert_eq!(built["data"], json!({ "artifact": artifact }));
    let tagged = format!("{artifact}?tag=v948");
    let built = packaged(&tagged, &json!({ "commit": "6973793" }));
    assert_eq!(built["data"], json!({ "artifact": tagged, "version": "v948", "commit": "6973793" }));
    for id in ["pkg:oci/search-api@v948", "search-api:v948", "pkg:oci/search-api@sha256:1e"] {
        let activity = packaged(id, &json!({}));
        assert_eq!(kind(&activity), "activity.reported", "{id}");
        assert_eq!(activity["data"].get("artifact"), None, "{id}");
        assert_eq!(activity["data"]["subject"], id);
    }
}

#[test]
fn an_incident_concerns_the_environment_or_the_service_that_it_names() {
    let content = json!({
        "environment": { "id": "production" },
        "description": "\nSearch answers slowly\np99 above 2 s",
        "ticketURI": "https://tickets.example/77",
    });
    let custom = json!({ "severity": "sev2", "target": "cluster 1" });
    let native = translated(&event("incident.reported", "0.3.0", "INC-77", &content, &custom));
    assert_eq!(kind(&native), "incident.opened");
    assert_eq!(
        native["data"],
        json!({
            "environment": "production",
            "incident_id": "INC-77",
            "title": "Search answers slowly",
            "severity": "sev2",
            "reason": "Search answers slowly\np99 above 2 s",
            "links": [{ "rel": "ticket", "href": "https://tickets.example/77" }],
        })
    );
    let content = json!({ "environment": { "id": "production" }, "service": { "id": "search-api" } });
    let native = translated(&event("incident.resolved", "0.3.0", "INC-77", &content, &custom));
    assert_eq!(
        native["data"],
        json!({ "environment": "production", "service": "search-api", "target": "eu-west-1", "incident_id": "INC-77" })
    );
    let reserved = event("incident.resolved", "0.3.0", "stream", &content, &json!({}));
    assert_eq!(pointer(&reserved), "/subject/id");
}

#[test]
fn an_environment_is_retired_by_its_id() {
    let deleted =
        event("environment.deleted", "0.3.0", "prod / EU", &json!({ "name": "staging" }), &json!({}));
    let native = translated(&deleted);
    assert_eq!(kind(&native), "environment.retired");
    assert_eq!(native["data"], json!({ "environment": "production" }));
    let unmapped =
        event("environment.deleted", "0.3.0", "prod / US", &json!({ "name": "staging" }), &json!({}));
    assert_eq!(pointer(&unmapped), "/subject/id");
}

fn approval(status: &str, decision: &str, custom: &Value) -> Value {
    let content = json!({
        "approvalDetailsUrl": "https://approvals.example/77",
        "resourceTargetUrl": "https://ci.example/runs/4711",
        "responder": "urn:user:mira.santos",
        "decision": decision,
        "status": status,
    });
    let mut message = event("approval.closed", "0.1.0", "approval-77", &content, custom);
    message["context"]["specversion"] = json!("0.6.0-draft");
    message
}

#[test]
fn an_approval_counts_only_for_what_it_names() {
    let deploy = json!({ "environment": "production", "service": "search-api", "version": "v948" });
    let granted = translated(&approval("approved", "approved", &deploy));
    assert_eq!(kind(&granted), "approval.granted");
    assert_eq!(granted["data"]["release"], json!({ "version": "v948" }));
    assert_eq!(granted["data"]["actor"], json!({ "type": "user", "name": "urn:user:mira.santos" }));
    let ada = json!({ "type": "person", "name": "ada" });
    let rollback = json!({ "environment": "production", "rollbackId": "r-1", "actor": ada });
    let rejected = translated(&approval("rejected", "rejected", &rollback));
    assert_eq!(kind(&rejected), "approval.rejected");
    assert_eq!(rejected["data"]["rollback_id"], "r-1");
    assert_eq!(rejected["data"]["actor"]["type"], "person");
    for custom in
        [json!({}), json!({ "environment": "production" }), json!({ "service": "a", "version": "1" })]
    {
        assert_eq!(
            kind(&translated(&approval("approved", "approved", &custom))),
            "activity.reported",
            "{custom}"
        );
    }
    for (status, decision) in [("approved", "rejected"), ("cancelled", "approved"), ("expired", "deferred")] {
        assert_eq!(kind(&translated(&approval(status, decision, &deploy))), "activity.reported", "{status}");
    }
}

#[test]
fn a_custom_event_is_an_activity_and_its_content_is_not_interpreted() {
    let mut message = samples(Spec::V0_5).pop().expect("the custom sample");
    message["subject"]["content"] =
        json!({ "environment": { "id": "production" }, "outcome": "failure", "user": "x" });
    let native = translated(&message);
    assert_eq!(native["data"], json!({ "activity": "registry-quota.exceeded", "subject": "shop" }));
}

#[test]
fn an_activity_leaves_out_what_the_ledger_cannot_use() {
    let uri = "https://ci.example/1";
    let content = json!({ "pipelineName": "p", "uri": uri, "outcome": "cancel", "errors": "a\u{7}b" });
    let custom = json!({ "actor": 5, "commit": {}, "reason": [], "environment": "prod / US" });
    let native = translated(&event("pipelinerun.finished", "0.3.0", " run\n4711 ", &content, &custom));
    assert_eq!(
        native["data"],
        json!({
            "activity": "pipelinerun.finished",
            "subject": "run 4711",
            "outcome": "cancel",
            "reason": "ab",
            "links": [{ "rel": "page", "href": "https://ci.example/1" }],
        })
    );
}

#[test]
fn a_resource_of_another_system_becomes_a_link() {
    let mut samples = samples(Spec::V0_6).into_iter();
    let merged =
        samples.find(|it| it["context"]["type"] == "dev.cdevents.change.merged.0.3.0").expect("a sample");
    let native = translated(&merged);
    assert_eq!(
        native["data"]["links"],
        json!([{ "rel": "change", "href": "cdevents:v0:gitlab::shop:search-api:pr:318" }])
    );
}
