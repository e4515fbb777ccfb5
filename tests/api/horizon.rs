//! The rollback horizon: how far production can be rolled back, and the artifacts that must be retained for it.

use ledger_tests::{Client, InProcess, deploy, event};
use serde_json::{Value, json};

fn time(minute: u64) -> String {
    format!("2026-08-01T10:{minute:02}:00Z")
}

fn artifact(version: &str) -> String {
    format!("pkg:cargo/web@{version}.0.0")
}

/// Records a deploy and its smoke test at a minute; returns the deploy's position.
async fn deploy_and_check(client: &Client, minute: u64, deploy: &Value, passed: bool) -> u64 {
    let position = client.record_and_wait(deploy).await;
    let data = &deploy["data"];
    let kind = if passed { "validation.passed" } else { "validation.failed" };
    let check = json!({
        "environment": data["environment"], "service": data["service"], "release": data["release"],
        "check": "smoke",
    });
    client.record_and_wait(&event(&format!("checked-{minute}"), kind, &time(minute), check)).await;
    position
}

fn web(minute: u64, version: &str) -> Value {
    let mut event = deploy(&format!("web-{version}"), &time(minute), "production", "web", version);
    event["data"]["release"]["artifact"] = artifact(version).into();
    event
}

async fn horizon(client: &Client, window: &str) -> Value {
    client.get(&format!("/v1/environments/production/rollback-horizon?window={window}")).await.ok()
}

/// Returns each point's position, whether a rollback to it is possible and possible by force, and the kinds of issues.
fn points(body: &Value) -> Vec<(u64, bool, bool, Vec<&str>)> {
    let flag = |value: &'_ Value| value.as_bool().expect("a boolean");
    let points = body["points"].as_array().expect("points").iter();
    points
        .map(|point| {
            let issues = point["issues"].as_array().expect("issues").iter();
            let kinds = issues.map(|issue| issue["kind"].as_str().expect("a kind"));
            let position = point["position"].as_u64().expect("a position");
            (position, flag(&point["possible"]), flag(&point["by_force"]), kinds.collect())
        })
        .collect()
}

/// Returns each needed artifact with the number of points that need it.
fn needed(body: &Value) -> Vec<(&str, u64)> {
    let needed = body["needed"].as_array().expect("artifacts").iter();
    needed
        .map(|entry| {
            (entry["artifact"].as_str().expect("an artifact"), entry["points"].as_u64().expect("a number"))
        })
        .collect()
}

#[tokio::test]
async fn a_horizon_lists_the_possible_points_and_why_the_others_are_not() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let policy = json!({"environment": "production", "policy": {"required_validations": ["smoke"]}});
    client.record_and_wait(&event("policy", "environment.declared", &time(0), policy)).await;
    let first = deploy_and_check(&client, 1, &web(1, "0"), true).await;
    let deleted = deploy_and_check(&client, 2, &web(2, "1"), true).await;
    let revoked = deploy_and_check(&client, 3, &web(3, "2"), true).await;
    deploy_and_check(&client, 4, &web(4, "9"), false).await;
    let mut migration = web(5, "3");
    migration["data"]["reversible"] = false.into();
    let migrated = deploy_and_check(&client, 5, &migration, true).await;
    let api = deploy("api", &time(6), "production", "api", "v1");
    let last = deploy_and_check(&client, 6, &api, true).await;
    for (version, deleted_flag) in [("1", true), ("2", false)] {
        let data = json!({"artifact": artifact(version), "deleted": deleted_flag, "reason": "It is weak."});
        client
            .record_and_wait(&event(&format!("revoked-{version}"), "artifact.revoked", &time(7), data))
            .await;
    }

    let body = horizon(&client, "3660d").await;

    assert_eq!((&body["environment"], &body["window_seconds"]), (&"production".into(), &316_224_000.into()));
    assert_eq!((&body["position"], &body["cut"]), (&15.into(), &false.into()));
    assert_eq!(
        points(&body),
        [
            (last, true, true, vec!["already_there"]),
            (migrated, true, true, vec![]),
            (revoked, false, false, vec!["artifact_revoked", "barrier"]),
            (deleted, false, false, vec!["artifact_revoked", "barrier"]),
            (first, false, true, vec!["barrier"]),
        ]
    );
    let issues = &body["points"][3]["issues"];
    assert!(issues[0]["detail"].as_str().expect("a detail").contains("is deleted"), "{issues}");
    assert_eq!((&issues[0]["position"], &issues[1]["position"]), (&14.into(), &migrated.into()));
    let kept: Vec<_> = ["0", "1", "2", "3"].map(artifact).to_vec();
    let points = [1, 1, 1, 2];
    let kept: Vec<_> = kept.iter().map(String::as_str).zip(points).collect();
    assert_eq!(needed(&body), kept);
    assert_eq!(body["needed"][0]["services"], json!(["web"]));
    assert_eq!(body["without_artifact"], json!([{"service": "api", "version": "v1"}]));
}

#[tokio::test]
async fn rule_25_a_deploy_that_states_only_its_version_needs_the_artifact_that_the_version_meant() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let built = json!({"artifact": artifact("1"), "version": "v1"});
    client.record_and_wait(&event("built", "artifact.built", &time(0), built)).await;
    client.record_and_wait(&deploy("web", &time(1), "production", "web", "v1")).await;
    client.record_and_wait(&deploy("api", &time(2), "production", "api", "v1")).await;
    client.record_and_wait(&deploy("job", &time(3), "production", "job", "v7")).await;

    let body = horizon(&client, "3650d").await;

    let known: Vec<&str> = needed(&body).into_iter().map(|(artifact, _)| artifact).collect();
    assert_eq!(known, [artifact("1")], "{body}");
    assert!(body["without_artifact"].to_string().contains("v7"), "{body}");
    assert!(!body["without_artifact"].to_string().contains("v1"), "{body}");
}

#[tokio::test]
async fn rule_25_the_build_that_a_lane_runs_is_retained_when_its_version_is_built_again() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let (of_lane, rebuilt, of_staging) = (artifact("1"), artifact("2"), artifact("3"));
    let built = |artifact: &str| json!({"artifact": artifact, "version": "v1"});
    client.record_and_wait(&event("built", "artifact.built", &time(0), built(&of_lane))).await;
    client.record_and_wait(&deploy("web", &time(1), "production", "web", "v1")).await;
    client.record_and_wait(&event("rebuilt", "artifact.built", &time(3), built(&rebuilt))).await;
    let now = horizon(&client, "0s").await;
    let mut staging = deploy("staging", &time(4), "staging", "web", "v1");
    staging["data"]["release"]["artifact"] = of_staging.as_str().into();
    client.record_and_wait(&staging).await;
    client.record_and_wait(&deploy("web-2", &time(5), "production", "web", "v2")).await;

    let later = horizon(&client, "3650d").await;

    let [now_needed, later_needed] =
        [&now, &later].map(|body| needed(body).into_iter().map(|(artifact, _)| artifact).collect::<Vec<_>>());
    let both = [of_lane.as_str(), rebuilt.as_str()];
    assert_eq!(now_needed, both, "the lane runs the first, and plans use the last");
    assert_eq!(now["without_artifact"], json!([]));
    let all = [of_lane.as_str(), rebuilt.as_str(), of_staging.as_str()];
    assert_eq!(later_needed, all, "a point in the past may need each of them");
    assert_eq!(later["without_artifact"], json!([{"service": "web", "version": "v2"}]));
}

#[tokio::test]
async fn a_horizon_includes_the_point_at_the_start_of_its_window_and_the_live_releases() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    deploy_and_check(&client, 1, &web(1, "0"), true).await;
    let last = deploy_and_check(&client, 2, &web(2, "1"), true).await;

    let now = horizon(&client, "0s").await;
    let default_window = client.get("/v1/environments/production/rollback-horizon").await.ok();
    let failed = json!({"environment": "production", "service": "web", "check": "smoke"});
    let policy = json!({"environment": "production", "policy": {"required_validations": ["smoke"]}});
    client.record_and_wait(&event("policy", "environment.declared", &time(3), policy)).await;
    client.record_and_wait(&event("failed", "validation.failed", &time(4), failed)).await;
    let bad = horizon(&client, "0s").await;
    let path = "/v1/environments/production/rollback-horizon?window=";
    let wrong = client.get(&format!("{path}1y")).await;
    let nowhere = client.get("/v1/environments/nowhere/rollback-horizon").await;

    assert_eq!(points(&now), [(last, true, true, vec!["already_there"])]);
    assert_eq!(needed(&now), [(artifact("1").as_str(), 1)]);
    assert_eq!(default_window["window_seconds"], 2_592_000);
    assert_eq!(points(&bad), []);
    assert_eq!(
        needed(&bad),
        [(artifact("1").as_str(), 0)],
        "the artifact of a live release is needed even if it is bad"
    );
    assert_eq!((wrong.status, wrong.problem()), (400, "invalid-parameter"));
    assert_eq!((nowhere.status, nowhere.problem()), (404, "unknown-environment"));
}
