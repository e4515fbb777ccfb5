//! Exported deployments of GitLab, translated by a stand-in for the reader of webhooks.

use super::*;
use crate::hooks::{HookKind, Webhook, WebhookSettings};

fn row(id: u64, status: &str) -> Value {
    json!({
        "id": id, "iid": 2, "ref": "main", "sha": "a91957a858320c0e17f3a0eca7cfacbff50ea29a", "status": status,
        "created_at": "2026-08-01T11:32:35.444Z", "updated_at": "2026-08-01T12:05:00.123Z",
        "environment": { "id": 9, "name": "production", "external_url": null },
        "user": { "id": 1, "username": "mira", "name": "Mira Santos" },
        "deployable": {
            "id": 664, "name": "deploy", "status": status, "started_at": "2026-08-01T11:33:00Z",
            "finished_at": "2026-08-01T12:00:00Z", "web_url": "https://gitlab.example/group/web/-/jobs/664",
            "commit": { "id": "a91957a858320c0e17f3a0eca7cfacbff50ea29a", "title": "Speed up the search" },
            "pipeline": { "id": 37, "web_url": "https://gitlab.example/group/web/-/pipelines/37" },
            "user": null,
        },
    })
}

fn bodies(file: &Value, project_url: Option<&str>) -> (Vec<Value>, Vec<String>) {
    let mut bodies = Vec::new();
    let imported = read(&file.to_string(), project_url, |body| {
        bodies.push(body.clone());
        Ok(Translation::Ignored("a test".to_owned()))
    });
    (bodies, imported.problems.into_iter().map(|note| note.detail).collect())
}

#[test]
fn a_row_becomes_the_body_of_the_webhook_of_its_state() {
    let (bodies, problems) = bodies(&json!([row(42, "success")]), None);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(
        bodies[0],
        json!({
            "object_kind": "deployment", "status": "success", "status_changed_at": "2026-08-01T12:00:00Z",
            "deployment_id": 42, "deployable_id": 664, "deployable_url": "https://gitlab.example/group/web/-/jobs/664",
            "environment": "production", "environment_external_url": null,
            "project": {
                "web_url": "https://gitlab.example/group/web", "path_with_namespace": "group/web", "name": "web",
            },
            "ref": "main", "short_sha": "a91957a8",
            "commit_url": "https://gitlab.example/group/web/-/commit/a91957a858320c0e17f3a0eca7cfacbff50ea29a",
            "commit_title": "Speed up the search",
            "user": { "id": 1, "username": "mira", "name": "Mira Santos" },
        })
    );
}

#[test]
fn the_time_is_that_at_which_the_state_was_reached() {
    let mut no_job = row(3, "success");
    no_job["deployable"] = Value::Null;
    let file = json!([row(1, "running"), row(2, "failed"), no_job, row(4, "created")]);
    let (bodies, problems) = bodies(&file, Some("https://gitlab.example/group/web/"));
    assert!(problems.is_empty(), "{problems:?}");
    let times: Vec<_> =
        bodies.iter().map(|body| body["status_changed_at"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        times,
        [
            "2026-08-01T11:33:00Z",
            "2026-08-01T12:00:00Z",
            "2026-08-01T12:05:00.123Z",
            "2026-08-01T12:05:00.123Z"
        ]
    );
}

#[test]
fn rows_of_another_project_or_of_no_known_one_are_problems() {
    let mut no_job = row(3, "success");
    no_job["deployable"] = Value::Null;
    let (_, problems) = bodies(&json!([no_job.clone()]), None);
    assert!(problems[0].contains("made by no job"), "{problems:?}");
    let (_, problems) = bodies(&json!([row(1, "success")]), Some("https://gitlab.example/group/api"));
    assert!(problems[0].contains("is one of https://gitlab.example/group/web"), "{problems:?}");
    let (_, problems) = bodies(&json!({ "message": "401 Unauthorized" }), None);
    assert!(problems[0].contains("401 Unauthorized"), "{problems:?}");
    let (_, problems) = bodies(&json!([1, { "id": 1 }, { "id": 1, "status": "success", "sha": "ä" }]), None);
    assert_eq!(problems.len(), 3);
}

#[test]
fn the_reader_of_webhooks_understands_the_rows() {
    let webhook = Webhook::offline(WebhookSettings::of_kind(HookKind::GitLab)).expect("settings");
    let now = DateTime::from_timestamp(1_900_000_000, 0).expect("a time");
    let file =
        json!([row(1, "success"), row(2, "canceled"), row(3, "created"), row(4, "sideways")]).to_string();
    let imported = read_as_webhook(&file, None, &webhook, now);
    let types: Vec<_> =
        imported.events.iter().map(|event| (event.row, event.event.0["type"].clone())).collect();
    assert_eq!(
        types,
        [(1, json!("io.releaseledger.deploy.succeeded.v1")), (2, json!("io.releaseledger.deploy.failed.v1")),]
    );
    assert_eq!(imported.ignored.iter().map(|note| note.row).collect::<Vec<_>>(), [3]);
    assert_eq!(imported.problems.iter().map(|note| note.row).collect::<Vec<_>>(), [4]);
    let event = &imported.events[0].event.0;
    assert_eq!(event["source"], "https://gitlab.example/group/web");
    assert_eq!(event["time"], "2026-08-01T12:00:00Z");
    assert_eq!(event["data"]["release"]["commit"], "a91957a858320c0e17f3a0eca7cfacbff50ea29a");
}
