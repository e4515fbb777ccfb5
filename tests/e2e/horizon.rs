//! The rollback horizon: how far back production can be brought, and what must be kept for it.

use ledger_tests::{Client, Servers, Service, deploy, event};
use serde_json::{Value, json};

use crate::PROGRAM;

fn time(minute: u64) -> String {
    format!("2026-08-01T10:{minute:02}:00Z")
}

fn artifact(version: &str) -> String {
    format!("pkg:cargo/web@{version}.0.0")
}

/// A deploy of a version at a minute, and what the smoke test says of it; answers the deploy's position.
async fn released(client: &Client, minute: u64, deploy: &Value, passed: bool) -> u64 {
    let position = client.recorded(deploy).await;
    let data = &deploy["data"];
    let kind = if passed { "validation.passed" } else { "validation.failed" };
    let said = json!({
        "environment": data["environment"], "service": data["service"], "release": data["release"],
        "check": "smoke",
    });
    client.recorded(&event(&format!("checked-{minute}"), kind, &time(minute), said)).await;
    position
}

fn web(minute: u64, version: &str) -> Value {
    let mut told = deploy(&format!("web-{version}"), &time(minute), "production", "web", version);
    told["data"]["release"]["artifact"] = artifact(version).into();
    told
}

async fn horizon(client: &Client, window: &str) -> Value {
    client.get(&format!("/v1/environments/production/rollback-horizon?window={window}")).await.ok()
}

/// Each point as its position, whether it is possible, and by force, and what stands in the way.
fn points(body: &Value) -> Vec<(u64, bool, bool, Vec<&str>)> {
    let text = |value: &'_ Value| value.as_bool().expect("yes or no");
    let points = body["points"].as_array().expect("points").iter();
    points
        .map(|point| {
            let issues = point["issues"].as_array().expect("issues").iter();
            let kinds = issues.map(|issue| issue["kind"].as_str().expect("a kind"));
            let position = point["position"].as_u64().expect("a position");
            (position, text(&point["possible"]), text(&point["by_force"]), kinds.collect())
        })
        .collect()
}

/// Each needed artifact with how many points need it.
fn needed(body: &Value) -> Vec<(&str, u64)> {
    let needed = body["needed"].as_array().expect("artifacts").iter();
    needed
        .map(|it| (it["artifact"].as_str().expect("one"), it["points"].as_u64().expect("a number")))
        .collect()
}

#[tokio::test]
async fn a_horizon_tells_which_points_can_be_carried_out_and_what_ended_the_others() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let policy = json!({"environment": "production", "policy": {"required_validations": ["smoke"]}});
    client.recorded(&event("policy", "environment.declared", &time(0), policy)).await;
    let first = released(&client, 1, &web(1, "0"), true).await;
    let deleted = released(&client, 2, &web(2, "1"), true).await;
    let revoked = released(&client, 3, &web(3, "2"), true).await;
    released(&client, 4, &web(4, "9"), false).await;
    let mut migration = web(5, "3");
    migration["data"]["reversible"] = false.into();
    let migrated = released(&client, 5, &migration, true).await;
    let api = deploy("api", &time(6), "production", "api", "v1");
    let last = released(&client, 6, &api, true).await;
    for (version, gone) in [("1", true), ("2", false)] {
        let data = json!({"artifact": artifact(version), "deleted": gone, "reason": "It is weak."});
        client.recorded(&event(&format!("revoked-{version}"), "artifact.revoked", &time(7), data)).await;
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
    assert!(issues[0]["detail"].as_str().expect("words").contains("is deleted"), "{issues}");
    assert_eq!((&issues[0]["position"], &issues[1]["position"]), (&14.into(), &migrated.into()));
    let kept: Vec<_> = ["0", "1", "2", "3"].map(artifact).to_vec();
    let points = [1, 1, 1, 2];
    let kept: Vec<_> = kept.iter().map(String::as_str).zip(points).collect();
    assert_eq!(needed(&body), kept);
    assert_eq!(body["needed"][0]["services"], json!(["web"]));
    assert_eq!(body["without_artifact"], json!([{"service": "api", "version": "v1"}]));
}

#[tokio::test]
async fn a_horizon_has_the_point_that_stood_when_its_window_began_and_what_runs_now() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    released(&client, 1, &web(1, "0"), true).await;
    let last = released(&client, 2, &web(2, "1"), true).await;

    let now = horizon(&client, "0s").await;
    let usual = client.get("/v1/environments/production/rollback-horizon").await.ok();
    let failed = json!({"environment": "production", "service": "web", "check": "smoke"});
    let policy = json!({"environment": "production", "policy": {"required_validations": ["smoke"]}});
    client.recorded(&event("policy", "environment.declared", &time(3), policy)).await;
    client.recorded(&event("failed", "validation.failed", &time(4), failed)).await;
    let bad = horizon(&client, "0s").await;
    let path = "/v1/environments/production/rollback-horizon?window=";
    let wrong = client.get(&format!("{path}1w")).await;
    let nowhere = client.get("/v1/environments/nowhere/rollback-horizon").await;

    assert_eq!(points(&now), [(last, true, true, vec!["already_there"])]);
    assert_eq!(needed(&now), [(artifact("1").as_str(), 1)]);
    assert_eq!(usual["window_seconds"], 2_592_000);
    assert_eq!(points(&bad), []);
    assert_eq!(needed(&bad), [(artifact("1").as_str(), 0)], "what runs is kept, however bad");
    assert_eq!((wrong.status, wrong.problem()), (400, "invalid-parameter"));
    assert_eq!((nowhere.status, nowhere.problem()), (404, "unknown-environment"));
}
