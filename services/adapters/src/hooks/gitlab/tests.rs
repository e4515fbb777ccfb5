//! Translations of deliveries of GitLab.

use chrono::TimeDelta;
use ledger_codec::cloudevents::Envelope;
use serde_json::{Value, json};

use crate::hooks::fixture::{events, fault, full_events, identities, ignored, now, settings, with};
use crate::hooks::{Request, translate};
use crate::translation::Translation;

const SHA: &str = "279484c09fbe69ededfced8c1bb6e6d24616b468";

fn config() -> Value {
    json!({"kind": "gitlab"})
}

fn project() -> Value {
    json!({
        "id": 30, "name": "Search API", "path_with_namespace": "acme/search-api", "default_branch": "main",
        "web_url": "https://gitlab.example/acme/search-api", "avatar_url": null
    })
}

fn deployment(status: &str) -> Value {
    json!({
        "object_kind": "deployment", "status": status, "status_changed_at": "2026-08-01 14:00:00 +0200",
        "deployment_id": 15, "deployable_id": 796, "environment": "production", "ref": "v1.2.3",
        "deployable_url": "https://gitlab.example/acme/search-api/-/jobs/796", "short_sha": "279484c0",
        "commit_url": format!("https://gitlab.example/acme/search-api/-/commit/{SHA}"),
        "commit_title": "Rank exact matches first", "environment_external_url": null,
        "user": {"username": "mira", "name": "Mira"}, "project": project()
    })
}

fn kinds(config: &Value, body: &Value) -> Vec<String> {
    let events = events(config, &[], body);
    events.iter().map(|event| event[0].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn a_successful_deployment_is_a_deploy_of_the_full_commit() {
    let events = events(&config(), &[], &deployment("success"));
    let expected = json!(["deploy.succeeded", "2026-08-01T12:00:00Z", {
        "environment": "production", "service": "search-api", "deployment": "deployment/15",
        "release": {"version": "v1.2.3", "commit": SHA}, "actor": {"type": "person", "name": "mira"},
        "reason": "Rank exact matches first",
        "links": [
            {"rel": "pipeline", "href": "https://gitlab.example/acme/search-api/-/jobs/796"},
            {"rel": "commit", "href": format!("https://gitlab.example/acme/search-api/-/commit/{SHA}")}
        ]
    }]);
    assert_eq!(events, [expected]);
}

#[test]
fn each_status_of_a_deployment_has_its_meaning() {
    for (status, kind) in [
        ("running", "deploy.started"),
        ("success", "deploy.succeeded"),
        ("failed", "deploy.failed"),
        ("canceled", "deploy.failed"),
    ] {
        assert_eq!(kinds(&config(), &deployment(status)), [kind], "{status}");
    }
    assert!(ignored(&config(), &[], &deployment("created")).contains("created"));
    assert!(fault(&config(), &[], &deployment("done")).starts_with("/status: "));
}

#[test]
fn a_short_commit_is_no_commit_of_the_release() {
    let body = with(deployment("success"), &[("/commit_url", Value::Null), ("/ref", json!("main"))]);
    let events = events(&config(), &[], &body);
    assert_eq!(events[0][2]["release"], json!({"version": "279484c0"}));
    let other = with(deployment("success"), &[("/short_sha", json!("abcdef12"))]);
    let release = crate::hooks::fixture::events(&config(), &[], &other)[0][2]["release"].clone();
    assert_eq!(release, json!({"version": "v1.2.3"}));
}

#[test]
fn review_environments_are_ignored() {
    let body = with(deployment("success"), &[("/environment", json!("review/topic"))]);
    assert!(ignored(&config(), &[], &body).contains("review/topic"));
}

#[test]
fn a_project_is_mapped_by_its_whole_path() {
    let config = json!({"kind": "gitlab", "names": {"services": {"acme/search-api": "search"}}});
    assert_eq!(events(&config, &[], &deployment("success"))[0][2]["service"], "search");
}

#[test]
fn each_status_of_a_deployment_has_its_own_identity() {
    let of = |status| identities(&config(), &[], &deployment(status));
    assert_eq!(of("success"), of("success"));
    assert_ne!(of("success"), of("running"));
}

fn pipeline(status: &str, source: &str) -> Value {
    json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": 31, "ref": "main", "tag": false, "sha": SHA, "source": source, "status": status, "name": "e2e",
            "created_at": "2026-08-01 11:50:00 UTC", "finished_at": "2026-08-01 12:00:00 UTC",
            "url": "https://gitlab.example/acme/search-api/-/pipelines/31"
        },
        "merge_request": null, "user": {"username": "project_30_bot_a1"}, "project": project(), "builds": []
    })
}

fn with_check(event: &str, more: &Value) -> Value {
    let mut check = json!({"event": event, "name": "e2e", "check": "e2e", "environment": "production"});
    check.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({"kind": "gitlab", "checks": [check]})
}

#[test]
fn a_pipeline_is_an_activity_or_a_mapped_check() {
    assert_eq!(kinds(&config(), &pipeline("failed", "schedule")), ["activity.reported"]);
    let check = with_check("pipeline", &json!({}));
    assert_eq!(kinds(&check, &pipeline("failed", "schedule")), ["validation.started", "validation.failed"]);
    assert_eq!(kinds(&check, &pipeline("success", "schedule"))[1], "validation.passed");
    for source in
        ["push", "merge_request_event", "external_pull_request_event", "pipeline", "parent_pipeline"]
    {
        assert_eq!(kinds(&check, &pipeline("failed", source)), ["activity.reported"], "{source}");
    }
    let change = with(pipeline("failed", "schedule"), &[("/merge_request", json!({"id": 1}))]);
    let tag = with(pipeline("failed", "schedule"), &[("/object_attributes/tag", json!(true))]);
    for body in [change, tag, pipeline("canceled", "schedule"), pipeline("skipped", "schedule")] {
        assert_eq!(kinds(&check, &body), ["activity.reported"]);
    }
    assert!(ignored(&check, &[], &pipeline("running", "schedule")).contains("running"));
}

#[test]
fn a_retried_pipeline_has_another_identity() {
    let retried = with(
        pipeline("success", "schedule"),
        &[("/object_attributes/finished_at", json!("2026-08-01 12:30:00 UTC"))],
    );
    assert_ne!(
        identities(&config(), &[], &pipeline("success", "schedule")),
        identities(&config(), &[], &retried)
    );
}

fn job(status: &str) -> Value {
    json!({
        "object_kind": "build", "ref": "main", "tag": false, "sha": SHA, "build_id": 7, "build_name": "e2e",
        "build_status": status, "build_started_at": "2026-08-01 11:59:00 UTC",
        "build_finished_at": "2026-08-01 12:00:00 UTC", "build_allow_failure": false, "pipeline_id": 31,
        "project_name": "Acme / Search API", "user": {"username": "mira"}, "environment": null,
        "repository": {"name": "Search API", "homepage": "https://gitlab.example/acme/search-api"}
    })
}

#[test]
fn a_job_counts_only_for_named_branches_and_if_it_must_not_fail() {
    assert_eq!(kinds(&config(), &job("failed")), ["activity.reported"]);
    let check = with_check("job", &json!({"branches": ["main"]}));
    assert_eq!(kinds(&check, &job("failed")), ["validation.started", "validation.failed"]);
    let tolerated = with(job("failed"), &[("/build_allow_failure", json!(true))]);
    let change = with(job("failed"), &[("/ref", json!("refs/merge-requests/1/head"))]);
    for body in [tolerated, change] {
        assert_eq!(kinds(&check, &body), ["activity.reported"]);
    }
    for status in ["created", "pending", "running", "manual"] {
        assert!(ignored(&check, &[], &job(status)).contains(status));
    }
}

#[test]
fn a_job_and_its_pipeline_share_a_correlation() {
    let job = full_events(&config(), &[], &job("success"));
    let pipeline = full_events(&config(), &[], &pipeline("success", "push"));
    assert_eq!(job[0]["correlationid"], "https://gitlab.example/acme/search-api/-/pipelines/31");
    assert_eq!(job[0]["correlationid"], pipeline[0]["correlationid"]);
    assert_eq!(job[0]["source"], pipeline[0]["source"]);
    assert_eq!(pipeline[0]["data"]["actor"]["type"], "workload");
}

#[test]
fn a_created_release_is_an_activity() {
    let body = json!({
        "object_kind": "release", "id": 8, "action": "create", "tag": "v1.2.3", "name": "v1.2.3",
        "created_at": "2026-08-01 11:00:00 UTC", "released_at": "2026-08-01 12:00:00 UTC", "description": null,
        "url": "https://gitlab.example/acme/search-api/-/releases/v1.2.3", "commit": {"id": SHA}, "project": project()
    });
    let events = events(&config(), &[], &body);
    assert_eq!(events[0][2]["subject"], "acme/search-api v1.2.3");
    assert_eq!(events[0][2]["commit"], SHA);
    assert!(ignored(&config(), &[], &with(body, &[("/action", json!("update"))])).contains("update"));
}

#[test]
fn a_feature_flag_is_an_activity_of_its_delivery() {
    let body = json!({
        "object_kind": "feature_flag", "project": project(), "user": {"username": "mira"},
        "object_attributes": {"id": 6, "name": "new-ranking", "description": null, "active": true}
    });
    let of = |delivery| full_events(&config(), &[("X-Gitlab-Event-UUID", delivery)], &body)[0].clone();
    assert_eq!(of("a")["data"]["subject"], "acme/search-api: new-ranking");
    assert_eq!(of("a")["data"]["outcome"], "on");
    assert_eq!(of("a")["time"], json!(super::super::time::format(now())));
    assert_eq!(of("a")["id"], of("a")["id"]);
    assert_ne!(of("a")["id"], of("b")["id"]);
}

#[test]
fn a_feature_flag_that_is_delivered_again_later_is_the_same_event() {
    let body = json!({
        "object_kind": "feature_flag", "project": project(),
        "object_attributes": {"id": 6, "name": "new-ranking", "active": false}
    });
    let body = body.to_string();
    let headers = [("Idempotency-Key", "f5e57ebe")];
    let webhook = settings(config());
    let arrived = |at| {
        let request = Request::new(headers.iter().copied(), body.as_bytes());
        match translate(&webhook, &request, at).expect("understood") {
            Translation::Events(events) => {
                let json = Value::Object(events[0].0.clone()).to_string();
                Envelope::translated(json.as_bytes()).expect("an event")
            }
            other => panic!("not events: {other:?}"),
        }
    };
    let (first, again) = (arrived(now()), arrived(now() + TimeDelta::minutes(3)));
    assert_ne!(first.occurred_at(), again.occurred_at());
    assert_eq!(first.identity(), again.identity());
    assert_eq!(first.content(), again.content());
}

#[test]
fn other_events_are_ignored_by_name() {
    assert!(ignored(&config(), &[], &json!({"object_kind": "push"})).contains("push"));
    assert!(ignored(&config(), &[], &json!({"event_name": "project_create"})).contains("project_create"));
    assert!(fault(&config(), &[], &json!({})).starts_with("/object_kind: "));
}

#[test]
fn a_deployment_is_ignored_by_the_environment_that_it_is_mapped_to() {
    let body = with(deployment("success"), &[("/environment", json!("previews/7"))]);
    let config = json!({
        "kind": "gitlab", "names": {"environments": {"previews/7": "lab"}}, "ignored_environments": ["lab"]
    });
    assert!(ignored(&config, &[], &body).contains("\"lab\""));
}
