//! Hard cases that could take production down; each test shows a sequence of events that once had a bad result.
//!
//! Decision 0015 has the rules; each test is named after its rule.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use ledger_tests::{Client, InProcess, Response, Story, at, controller_decisions, deploy, text};
use reqwest::Method;
use serde_json::{Value, json};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// Returns a policy with an automatic rollback for a check, without an effective limit of its age.
fn automatic(required: &str, check: &str) -> Value {
    json!({
        "required_validations": [required],
        "automatic_rollback": {
            "checks": [check],
            "cool_down_seconds": 0,
            "at_most_a_day": 9,
            "at_most_age_seconds": 315_360_000_u64,
        },
    })
}

async fn plan(client: &Client, environment: &str, to: &str) -> Value {
    let path = format!("/v1/environments/{environment}/rollbacks?dry_run=true");
    let request = client.request(Method::POST, &path).json(&json!({"to": to}));
    Client::send(request).await.ok()
}

async fn gate(client: &Client, gate_request: Value) -> Response {
    Client::send(client.request(Method::POST, "/v1/environments/production/gate").json(&gate_request)).await
}

fn denying_rules(decision: &Value) -> Vec<String> {
    let findings = decision["findings"].as_array().expect("findings");
    let denying = findings.iter().filter(|finding| finding["passes"] == false);
    denying.map(|finding| text(&finding["rule"])).collect()
}

async fn live(story: &Story, at: &str) -> Vec<String> {
    let state = story.get(&format!("state?at={at}")).await;
    let lanes = state["lanes"].as_array().expect("lanes").iter();
    lanes.map(|lane| format!("{} {}", text(&lane["service"]), text(&lane["release"]["version"]))).collect()
}

#[tokio::test]
async fn rule_1_a_rollback_to_an_empty_point_is_blocked() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(automatic("smoke", "smoke"), 0).await;
    story.deploy("web", "v1", 1).await;
    let empty = story.record("deploy.removed", 2, json!({"service": "web"})).await;
    story.deploy("web", "v2", 3).await;
    story.deploy("api", "v1", 4).await;

    assert_eq!(story.point_status(empty).await, "empty");
    let back = plan(&client, "production", &empty.to_string()).await;
    assert_eq!(back["blocked"], true, "{back}");
    story.check_failed("web", "v2", "smoke", 5).await;
    let decisions = controller_decisions(&client, 1).await;
    let event = &decisions[0]["event"];
    assert!(text(&event["type"]).contains("declined"), "{event}");
    assert!(text(&event["data"]["reason"]).contains("no known-good point"), "{event}");
}

#[tokio::test]
async fn rule_2_a_switch_recorded_before_its_deploy_does_not_empty_the_lane() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    let switch =
        story.try_record("traffic.switched", 61, json!({"service": "web", "slot": "green"})).await.ok();
    assert_eq!(switch["anomalies"], json!(["switch_pending"]), "{switch}");
    assert_eq!(live(&story, "latest").await, ["web v1"]);
    let state = story.get("state").await;
    assert_eq!(state["switches_without_effect"][0]["slot"], "green", "{state}");

    let release = json!({"version": "v2"});
    let data = json!({"service": "web", "slot": "green", "release": release});
    let deployed = story.try_record("deploy.succeeded", 60, data).await.ok();
    assert_eq!(
        (&deployed["anomalies"], &deployed["went_live"]),
        (&json!(["late"]), &json!("v2")),
        "{deployed}"
    );
    assert_eq!(live(&story, "latest").await, ["web v2"]);
    let back = plan(&client, "production", "-1").await;
    let actions: Vec<String> =
        back["steps"].as_array().expect("steps").iter().map(|step| text(&step["action"])).collect();
    assert_eq!(actions, ["redeploy"], "there was no point without web: {back}");
}

#[tokio::test]
async fn rule_3_a_switch_to_a_slot_of_a_removed_lane_has_no_effect() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let release = json!({"version": "v1"});
    story.record("deploy.succeeded", 1, json!({"service": "web", "slot": "blue", "release": release})).await;
    story.record("traffic.switched", 2, json!({"service": "web", "slot": "blue"})).await;
    story.record("deploy.removed", 3, json!({"service": "web"})).await;
    let switch =
        story.try_record("traffic.switched", 4, json!({"service": "web", "slot": "blue"})).await.ok();

    assert_eq!(switch["anomalies"], json!(["switched_to_empty_slot"]), "{switch}");
    let state = story.get("state").await;
    assert_eq!((&state["lanes"], state.get("idle")), (&json!([]), None), "{state}");
}

#[tokio::test]
async fn rule_4_a_failed_canary_rolls_back_only_its_own_service() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(automatic("smoke", "canary"), 0).await;
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("api", "v1", 3).await;
    story.deploy("web", "v2", 4).await;

    story.check_failed("web", "v2", "canary", 5).await;
    let decisions = controller_decisions(&client, 1).await;
    let data = &decisions[0]["event"]["data"];
    let steps = data["plan"]["steps"].as_array().expect("a request with steps");
    let steps: Vec<String> =
        steps.iter().map(|step| format!("{} {}", text(&step["action"]), text(&step["service"]))).collect();
    assert_eq!(steps, ["redeploy web"], "api has no step: {data}");
    assert_eq!(data["services"], json!(["web"]));
}

/// Returns the steps of the controller's only decision, which must be a request.
async fn requested_steps(client: &Client) -> Vec<String> {
    let decisions = controller_decisions(client, 1).await;
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    let data = &decisions[0]["event"]["data"];
    let steps = data["plan"]["steps"].as_array().unwrap_or_else(|| panic!("no request: {}", decisions[0]));
    let step = |step: &Value| format!("{} {}", text(&step["service"]), text(&step["target"]));
    steps.iter().map(step).collect()
}

#[tokio::test]
async fn rule_4_a_failed_canary_of_a_deployment_rolls_back_only_the_lane_that_runs_it() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(automatic("smoke", "canary"), 0).await;
    let deploy = |target: &str, version: &str, run: &str| {
        let release = json!({"version": version});
        json!({"service": "web", "target": target, "release": release, "deployment": run})
    };
    story.record("deploy.succeeded", 1, deploy("eu", "v1", "a-eu")).await;
    story.record("deploy.succeeded", 2, deploy("us", "v1", "a-us")).await;
    story.check_passed("web", "v1", "smoke", 3).await;
    story.record("deploy.succeeded", 4, deploy("us", "v2", "b-us")).await;
    story.record("deploy.succeeded", 5, deploy("eu", "v3", "c-eu")).await;

    let failed = json!({"service": "web", "deployment": "c-eu", "check": "canary"});
    story.record("validation.failed", 6, failed).await;

    assert_eq!(requested_steps(&client).await, ["web eu"], "the deployment put nothing into the lane at us");
}

#[tokio::test]
async fn rule_4_a_failed_canary_leaves_the_targets_alone_where_it_passed_again() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(automatic("smoke", "canary"), 0).await;
    for (minutes, target, version) in [(1, "eu", "v1"), (2, "us", "v1")] {
        let data = json!({"service": "web", "target": target, "release": {"version": version}});
        story.record("deploy.succeeded", minutes, data).await;
    }
    story.check_passed("web", "v1", "smoke", 3).await;
    for (minutes, target, version) in [(4, "eu", "v2"), (5, "us", "v2")] {
        let data = json!({"service": "web", "target": target, "release": {"version": version}});
        story.record("deploy.succeeded", minutes, data).await;
    }

    // The pass occurs after the failure and is recorded before it.
    let of_us = json!({"service": "web", "target": "us", "release": {"version": "v2"}, "check": "canary"});
    story.record("validation.passed", 7, of_us).await;
    story.check_failed("web", "v2", "canary", 6).await;

    assert_eq!(requested_steps(&client).await, ["web eu"]);
}

#[tokio::test]
async fn rule_5_a_failed_environment_check_affects_only_its_composition() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"required_validations": ["e2e"]}), 0).await;
    story.deploy("api", "v1", 1).await;
    let good = story.deploy("web", "v1", 2).await;
    story.record("validation.passed", 3, json!({"check": "e2e"})).await;
    let bad = story.deploy("web", "v2", 4).await;
    story.record("validation.failed", 5, json!({"check": "e2e"})).await;

    assert_eq!(story.point_status(good).await, "known_good");
    assert_eq!(story.point_status(bad).await, "bad");
    let back = story.deploy("web", "v1", 6).await;
    assert_eq!(story.point_status(back).await, "known_good", "the composition has returned");
}

#[tokio::test]
async fn rule_6_a_failed_check_of_an_artifact_counts_where_only_its_version_was_deployed() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let (staging, production) = (Story::of(&client, "staging"), Story::on(&client));
    production.declare_policy(json!({"promotion": {"from": ["staging"]}}), 0).await;
    let point = staging.deploy("web", "v2", 2).await;
    staging.check_passed("web", "v2", "smoke", 3).await;
    staging.record("validation.failed", 4, json!({"artifact": D2, "check": "scan"})).await;
    let request = json!({"service": "web", "release": {"version": "v2"}, "new": true});
    assert_eq!(staging.point_status(point).await, "known_good", "nothing says what v2 is");
    assert_eq!(denying_rules(&gate(&client, request.clone()).await.ok()), Vec::<String>::new());

    let build = json!({"artifact": format!("pkg:oci/web@{D2}"), "version": "v2"});
    let recorded_late = staging.record("artifact.built", 1, build).await;

    assert_eq!(staging.point_status(point).await, "candidate");
    assert_eq!(denying_rules(&gate(&client, request).await.ok()), ["promotion"]);
    let before = staging.get(&format!("points/{point}?known_at={}", recorded_late - 1)).await;
    assert_eq!(before["point"]["status"], "known_good", "as known before the build was recorded: {before}");
    // A check of another build says nothing about what runs, and neither does a later build of the version.
    let build = json!({"artifact": format!("pkg:oci/web@{D1}"), "version": "v2"});
    staging.record("artifact.built", 5, build).await;
    staging.record("validation.failed", 6, json!({"artifact": D1, "check": "canary"})).await;
    staging.record("validation.passed", 7, json!({"artifact": D2, "check": "scan"})).await;
    assert_eq!(staging.point_status(point).await, "known_good");
}

#[tokio::test]
async fn rule_14_promotion_judges_the_build_that_ran_not_the_one_that_its_version_means_now() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let (staging, production) = (Story::of(&client, "staging"), Story::on(&client));
    production.declare_policy(json!({"promotion": {"from": ["staging"]}}), 0).await;
    let build = |digest: &str| json!({"artifact": format!("pkg:oci/web@{digest}"), "version": "v1"});
    staging.record("artifact.built", 1, build(D1)).await;
    staging.deploy("web", "v1", 2).await;
    staging.check_passed("web", "v1", "smoke", 3).await;
    staging.record("artifact.built", 4, build(D2)).await;

    let [unstated, other, same] = [
        json!({"version": "v1"}),
        json!({"version": "v1", "artifact": D2}),
        json!({"version": "v1", "artifact": D1}),
    ]
    .map(|release| json!({"service": "web", "release": release, "new": true}));
    for unchecked in [unstated, other] {
        let decision = gate(&client, unchecked).await.ok();
        assert_eq!(denying_rules(&decision), ["promotion"]);
        assert!(decision.to_string().contains("never ran in staging"), "{decision}");
    }
    assert_eq!(denying_rules(&gate(&client, same).await.ok()), Vec::<String>::new());
}

#[tokio::test]
async fn rule_6_a_deploy_before_any_build_of_its_version_keeps_the_first_build_after_it() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let build = |digest: &str| json!({"artifact": format!("pkg:oci/web@{digest}"), "version": "v1"});
    let point = story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 3).await;
    story.record("artifact.built", 60, build(D2)).await;
    story.record("artifact.built", 2, build(D1)).await;

    story.record("validation.failed", 65, json!({"artifact": D2, "check": "scan"})).await;
    assert_eq!(story.point_status(point).await, "known_good", "the lane does not run the later build");
    story.record("validation.failed", 66, json!({"artifact": D1, "check": "scan"})).await;
    assert_eq!(story.point_status(point).await, "candidate");
}

#[tokio::test]
async fn rule_6_a_check_of_a_version_does_not_count_after_a_redeploy_of_another_build_of_it() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let build = |digest: &str| json!({"artifact": format!("pkg:oci/web@{digest}"), "version": "v1"});
    story.record("artifact.built", 1, build(D1)).await;
    let point = story.deploy("web", "v1", 2).await;
    story.check_passed("web", "v1", "smoke", 3).await;
    story.record("artifact.built", 4, build(D2)).await;
    assert_eq!(story.point_status(point).await, "known_good", "the lane still runs the first build");

    story.deploy("web", "v1", 5).await;

    assert_eq!(story.point_status(point).await, "candidate", "the second build was not checked");
    story.check_passed("web", "v1", "smoke", 6).await;
    assert_eq!(story.point_status(point).await, "known_good");
}

#[tokio::test]
async fn rule_6_a_failed_canary_of_an_artifact_rolls_back_the_lane_whose_version_means_it() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(automatic("smoke", "canary"), 0).await;
    let build = json!({"artifact": format!("pkg:oci/web@{D2}"), "version": "v2"});
    story.record("artifact.built", 1, build).await;
    for (minutes, service, version) in [(2, "api", "v2"), (3, "web", "v1")] {
        let release = json!({"version": version, "artifact": format!("pkg:generic/{service}@{version}")});
        story.record("deploy.succeeded", minutes, json!({"service": service, "release": release})).await;
        story.check_passed(service, version, "smoke", 4).await;
    }
    story.deploy("web", "v2", 5).await;

    story.record("validation.failed", 6, json!({"artifact": D2, "check": "canary"})).await;

    assert_eq!(requested_steps(&client).await, ["web default"]);
}

#[tokio::test]
async fn rule_7_a_check_that_straddles_a_change_does_not_count() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"required_validations": ["smoke"]}), 0).await;
    story.deploy("web", "v1", 1).await;
    let check = json!({"service": "web", "check": "smoke"});
    story.record("validation.started", 2, check.clone()).await;
    let second = story.deploy("web", "v2", 3).await;
    let ended = story.try_record("validation.passed", 4, check.clone()).await.ok();
    assert_eq!(ended["anomalies"], json!(["straddles_change"]), "{ended}");
    assert_eq!(story.point_status(second).await, "candidate");
    story.record("validation.started", 5, check.clone()).await;
    story.record("validation.passed", 6, check).await;
    assert_eq!(story.point_status(second).await, "known_good");
}

#[tokio::test]
async fn rule_8_a_pass_with_failures_does_not_count() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let point = story.deploy("web", "v1", 1).await;
    let counts = json!({"passed": 3, "failed": 2, "skipped": 0});
    let data = json!({"service": "web", "check": "smoke", "counts": counts});
    let passed = story.try_record("validation.passed", 2, data).await.ok();
    assert_eq!(passed["anomalies"], json!(["counts_contradict"]), "{passed}");
    assert_eq!(story.point_status(point).await, "candidate");

    // A failed check is a reason of the status, with its counts.
    let data = json!({"service": "web", "check": "smoke", "counts": counts});
    story.record("validation.failed", 3, data).await;
    let reasons = story.get(&format!("points/{point}")).await["point"]["reasons"].clone();
    let failed = reasons.as_array().expect("reasons").iter().find(|reason| reason["reason"] == "failed");
    assert_eq!(failed.expect("a failure")["counts"], counts, "{reasons}");
}

#[tokio::test]
async fn rule_8_counts_are_shown_where_a_check_decides() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let (staging, story) = (Story::of(&client, "staging"), Story::on(&client));
    let mut policy = automatic("smoke", "canary");
    policy["promotion"] = json!({"from": ["staging"]});
    story.declare_policy(policy, 0).await;
    let counts = json!({"passed": 3, "failed": 2, "skipped": 0});
    let failed = |check: &str| json!({"service": "web", "check": check, "counts": counts});
    staging.deploy("web", "v2", 1).await;
    staging.record("validation.failed", 2, failed("e2e")).await;
    story.deploy("web", "v1", 3).await;
    story.check_passed("web", "v1", "smoke", 4).await;
    let bad = story.deploy("web", "v2", 5).await;
    let cause = story.record("validation.failed", 6, failed("canary")).await;

    let requested = controller_decisions(&client, 1).await[0]["event"]["data"].clone();
    assert_eq!(requested["reason"], "canary failed (3 cases passed, 2 failed, 0 skipped)");
    let rollback = story.rollback(&text(&requested["rollback_id"])).await;
    assert_eq!((&rollback["cause"], &rollback["cause_counts"]), (&cause.into(), &counts), "{rollback}");

    let decision = story.gate(json!({"service": "web", "release": {"version": "v2"}})).await;
    let findings = decision["findings"].as_array().expect("findings");
    let promotion = findings.iter().find(|finding| finding["rule"] == "promotion").expect("a finding");
    assert_eq!((&promotion["passes"], &promotion["counts"]), (&false.into(), &counts), "{promotion}");

    let reasons = plan(&client, "production", &bad.to_string()).await["to"]["point"]["reasons"].clone();
    let failure = reasons.as_array().expect("reasons").iter().find(|reason| reason["check"] == "canary");
    assert_eq!(failure.expect("a failure")["counts"], counts, "{reasons}");

    story.record("validation.failed", 7, failed("canary")).await;
    let decisions = controller_decisions(&client, 2).await;
    let declined = decisions.iter().find(|entry| text(&entry["event"]["type"]).contains("declined"));
    let reason = text(&declined.expect("a declined event")["event"]["data"]["reason"]);
    let expected = "canary failed (3 cases passed, 2 failed, 0 skipped); no rollback: ";
    assert!(reason.starts_with(expected), "{reason}");
}

#[tokio::test]
async fn rule_10_a_deploy_without_a_target_changes_no_lane_of_a_service_with_several_targets() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    for (minutes, target) in [(1, "eu"), (2, "us")] {
        let data = json!({"service": "web", "target": target, "release": {"version": "v1"}});
        story.record("deploy.succeeded", minutes, data).await;
    }
    let data = json!({"service": "web", "release": {"version": "v2"}});
    let ambiguous = story.try_record("deploy.succeeded", 3, data.clone()).await.ok();
    assert_eq!(
        (&ambiguous["anomalies"], &ambiguous["targets"]),
        (&json!(["ambiguous_target"]), &json!(["eu", "us"])),
        "{ambiguous}"
    );
    assert_eq!(live(&story, "latest").await, ["web v1", "web v1"]);

    let first = client.get(&format!("/v1/events/{}", ambiguous["position"])).await.ok();
    let mut corrected = data;
    corrected["target"] = "eu".into();
    corrected["corrects"] = json!({"source": first["event"]["source"], "id": first["event"]["id"]});
    story.record("deploy.succeeded", 4, corrected).await;
    assert_eq!(live(&story, "latest").await, ["web v2", "web v1"]);
    let first = client.get(&format!("/v1/events/{}", ambiguous["position"])).await.ok();
    assert_eq!(first["corrected_by"], 4, "{first}");
}

#[tokio::test]
async fn rule_11_a_revoked_artifact_is_denied_in_every_notation_until_it_is_reinstated() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let release = json!({"version": "v1", "artifact": format!("registry.example/web@{D1}")});
    story.record("deploy.succeeded", 1, json!({"service": "web", "release": release})).await;
    let purl = format!("pkg:oci/web@{D1}");
    let revoked =
        story.try_record("artifact.revoked", 2, json!({"artifact": purl, "reason": "CVE-2026-1"})).await.ok();
    assert_eq!(revoked["runs_at"][0]["service"], "web", "{revoked}");
    client.wait_for_projections(revoked["position"].as_u64().expect("a position")).await;

    let encoded = D1.replace(':', "%3A");
    for artifact in [
        format!("registry.example/web@{D1}"),
        D1.to_owned(),
        format!("pkg:oci/web@{encoded}"),
        format!("pkg:oci/web@{D1}?repository_url=other.example/web"),
    ] {
        let release = json!({"version": "v1", "artifact": artifact});
        let decision = gate(&client, json!({"service": "web", "release": release})).await.ok();
        assert_eq!(denying_rules(&decision), ["revoked"], "{artifact}");
    }
    let by_version = gate(&client, json!({"service": "web", "release": {"version": "v1"}})).await.ok();
    assert_eq!(denying_rules(&by_version), ["revoked"], "the ledger has the artifact of v1: {by_version}");
    story.record("artifact.reinstated", 3, json!({"artifact": D1, "reason": "A false alarm."})).await;
    let again = gate(&client, json!({"service": "web", "release": {"version": "v1"}})).await.ok();
    assert_eq!(again["allowed"], true, "{again}");

    // The name in an artifact counts even if a notation without it was revoked first.
    let d2 = D1.replace('1', "2");
    for (minute, artifact) in [(4, d2.clone()), (5, format!("pkg:oci/web@{d2}"))] {
        story.record("artifact.revoked", minute, json!({"artifact": artifact, "reason": "CVE-2026-2"})).await;
    }
    let unknown = gate(&client, json!({"service": "web", "release": {"version": "v9"}})).await.ok();
    assert_eq!(denying_rules(&unknown), ["revoked"], "it may be the revoked artifact: {unknown}");
}

#[tokio::test]
async fn rule_13_a_hold_applies_to_the_rolled_back_release_and_not_to_the_fix() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let release = |config: &str| json!({"version": "v1", "config": config});
    let data = |config: &str| json!({"service": "web", "release": release(config)});
    let d3 = D1.replace('1', "3");
    let good = story.record("deploy.succeeded", 1, data(D1)).await;
    story.record("deploy.succeeded", 2, data(D2)).await;
    let person = json!({"type": "person", "name": "mia"});
    let request =
        json!({"to": good.to_string(), "rollback_id": "r1", "reason": "Broken.", "initiated_by": person});
    story.request(request.clone()).await.ok();
    story.record("rollback.started", 3, json!({"rollback_id": "r1"})).await;
    let mut back = data(D1);
    back["rollback_id"] = "r1".into();
    back["target"] = "default".into();
    story.record("deploy.succeeded", 4, back).await;
    story.record("rollback.succeeded", 5, json!({"rollback_id": "r1"})).await;

    for (config, is_denied) in [(D2, true), (D1, false), (d3.as_str(), false)] {
        let decision = gate(&client, json!({"service": "web", "release": release(config)})).await.ok();
        assert_eq!(!denying_rules(&decision).is_empty(), is_denied, "{config}: {decision}");
    }
    let again = story.request(request.clone()).await.ok();
    assert_eq!(again["status"], "duplicate", "the same request: {again}");
    let mut other = request;
    other["reason"] = "Something else.".into();
    let other = story.request(other).await;
    assert_eq!((other.status, other.problem()), (409, "rollback-exists"), "{}", other.text);
    assert!(other.text.contains("has ended"), "{}", other.text);
}

#[tokio::test]
async fn rule_16_all_queries_agree_on_the_state_at_a_time() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("api", "v1", 120).await;
    story.deploy("web", "v1", 60).await;
    let time = at(90);

    let state = story.get(&format!("state?at={time}")).await;
    assert_eq!(live(&story, &time).await, ["web v1"]);
    let point = story.get(&format!("points/{time}")).await;
    let manifest = story.get(&format!("manifest?at={time}")).await;
    let diff = story.get(&format!("diff?from={time}&to=latest")).await;
    let plan = plan(&client, "production", &time).await;
    assert_eq!(point["point"]["digest"], state["digest"]);
    assert_eq!(plan["result_digest"], state["digest"]);
    assert_eq!(diff["from"]["digest"], state["digest"]);
    assert!(manifest.to_string().contains("web") && !manifest.to_string().contains("api"), "{manifest}");
    let steps: Vec<String> = plan["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| format!("{} {}", text(&step["action"]), text(&step["service"])))
        .collect();
    assert_eq!(steps, ["remove api"]);
}

#[tokio::test]
async fn rule_16_a_point_at_a_time_has_the_status_of_the_change_that_started_it() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("api", "v1", 1).await;
    story.check_passed("api", "v1", "smoke", 2).await;
    let unchecked = story.deploy("web", "v1", 3).await;
    let in_order = story.get(&format!("points/{}", at(5))).await;
    // A late event: the order of times differs from the order of positions.
    story.deploy("job", "v1", 4).await;
    story.deploy("job", "v0", 0).await;

    let recorded = story.get(&format!("points/{unchecked}")).await;
    let reordered = story.get(&format!("points/{}", at(3))).await;
    for point in [&recorded, &in_order, &reordered] {
        assert_eq!(point["point"]["status"], "candidate", "web has no passed check: {point}");
        assert_eq!(point["point"]["changed"], json!([{"service": "web", "target": "default"}]), "{point}");
    }
}

#[tokio::test]
async fn rule_17_late_events_and_fast_clocks_are_reported() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v2", 2).await;
    let release = json!({"version": "v1"});
    let late =
        story.try_record("deploy.succeeded", 1, json!({"service": "web", "release": release})).await.ok();
    let soon = DateTime::<Utc>::from(SystemTime::now()) + TimeDelta::seconds(90);
    let soon = soon.to_rfc3339_opts(SecondsFormat::Secs, true);
    let ahead = client.record_and_wait(&deploy("ahead", &soon, "production", "web", "v3")).await;
    client.wait_for_projections(ahead).await;

    let skews = client.get("/v1/clock-skews").await.ok();
    assert_eq!(late["anomalies"], json!(["late"]), "{late}");
    let skew = &skews["clock_skews"][0];
    assert_eq!((&skew["last_position"], &skew["events"]), (&ahead.into(), &1.into()), "{skews}");
    assert!((30_000..=90_000).contains(&skew["max_ahead_ms"].as_i64().expect("a number")), "{skews}");
}

#[tokio::test]
async fn rule_18_a_deploy_during_a_freeze_is_marked_even_if_it_is_recorded_late() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v0", 1).await;
    story.record("freeze.started", 10, json!({"freeze_id": "f"})).await;
    story.record("freeze.lifted", 20, json!({"freeze_id": "f"})).await;
    let anomalies = |minutes: u64, version: &str| {
        let data = json!({"service": "web", "release": {"version": version}});
        let story = story.clone();
        async move { story.try_record("deploy.succeeded", minutes, data).await.ok()["anomalies"].clone() }
    };
    assert_eq!(anomalies(25, "v3").await, json!([]));
    assert_eq!(anomalies(15, "v2").await, json!(["during_freeze", "late"]));
    assert_eq!(anomalies(9, "v1").await, json!(["late"]));
}

#[tokio::test]
async fn rule_20_a_rollback_to_a_removed_slot_does_not_start() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let deploy =
        |slot: &str, version: &str| json!({"service": "web", "slot": slot, "release": {"version": version}});
    story.record("deploy.succeeded", 1, deploy("blue", "v1")).await;
    let good = story.record("traffic.switched", 2, json!({"service": "web", "slot": "blue"})).await;
    story.record("deploy.succeeded", 3, deploy("green", "v2")).await;
    story.record("traffic.switched", 4, json!({"service": "web", "slot": "green"})).await;
    let person = json!({"type": "person", "name": "mia"});
    let request =
        json!({"to": good.to_string(), "rollback_id": "r1", "reason": "Broken.", "initiated_by": person});
    story.request(request).await.ok();
    story.record("deploy.removed", 5, json!({"service": "web", "slot": "blue"})).await;

    let start = story.try_record("rollback.started", 6, json!({"rollback_id": "r1"})).await;
    assert_eq!((start.status, start.problem()), (409, "rollback-start-blocked"), "{}", start.text);
    let problem: Value = serde_json::from_str(&start.text).expect("a problem");
    assert_eq!(problem["plan"]["steps"][0]["action"], "redeploy", "the current plan: {problem}");
    assert_eq!(live(&story, "latest").await, ["web v2"]);
}

#[tokio::test]
async fn rule_24_a_retired_environment_has_no_lanes_until_it_is_declared_again() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let before = story.deploy("web", "v1", 1).await;
    story.record("environment.retired", 2, json!({})).await;
    assert_eq!(live(&story, "latest").await, Vec::<String>::new());
    assert_eq!(live(&story, &before.to_string()).await, ["web v1"], "the history is kept");
    let denied = gate(&client, json!({"service": "web", "release": {"version": "v2"}})).await.ok();
    assert_eq!(denying_rules(&denied), ["retired"]);
    let data = json!({"service": "web", "release": {"version": "v2"}});
    let deployed = story.try_record("deploy.succeeded", 3, data).await.ok();
    assert_eq!(deployed["anomalies"], json!(["environment_retired"]), "{deployed}");
    assert_eq!(live(&story, "latest").await, Vec::<String>::new());
    let listed = client.get("/v1/environments").await.ok();
    assert_eq!(listed["environments"][0]["retired"], true, "{listed}");

    story.declare_policy(json!({}), 4).await;
    story.deploy("web", "v3", 5).await;
    assert_eq!(live(&story, "latest").await, ["web v3"]);
}

#[tokio::test]
async fn rule_24_a_report_from_before_a_retirement_is_judged_by_what_counted_at_its_time() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let green = json!({"service": "web", "slot": "green", "release": {"version": "v1"}});
    story.record("deploy.succeeded", 1, green).await;
    story.record("environment.retired", 2, json!({})).await;
    story.declare_policy(json!({}), 3).await;
    story.record("environment.retired", 10, json!({})).await;

    let switch = json!({"service": "web", "slot": "green"});
    let switched = story.try_record("traffic.switched", 8, switch).await.ok();

    assert_eq!(switched["anomalies"], json!([]), "what the lane held then may be unknown: {switched}");
    assert_eq!(
        live(&story, &at(9)).await,
        Vec::<String>::new(),
        "the slot was emptied by the first retirement"
    );
}

#[tokio::test]
async fn an_unknown_service_is_an_error_and_not_an_empty_result() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first =
        story.try_record("deploy.succeeded", 1, json!({"service": "web", "release": {"version": "v1"}}));
    let first = first.await.ok();
    assert_eq!(first["new"], json!(["environment", "service", "target"]), "{first}");
    client.wait_for_projections(1).await;
    let gate_request = json!({"service": "wbe", "release": {"version": "v1"}});
    let unknown = gate(&client, gate_request.clone()).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-lane"), "{}", unknown.text);
    assert!(unknown.text.contains("did you mean web? (known: web"), "{}", unknown.text);
    let mut new = gate_request;
    new["new"] = true.into();
    assert_eq!(gate(&client, new).await.ok()["allowed"], true);
    let history = client.get("/v1/events?environment=production&service=wbe").await;
    assert_eq!((history.status, history.problem()), (404, "unknown-lane"), "{}", history.text);
    let path = "/v1/environments/production/rollbacks?dry_run=true";
    let request = json!({"to": "1", "services": ["wbe"]});
    let plan = Client::send(client.request(Method::POST, path).json(&request)).await;
    assert_eq!((plan.status, plan.problem()), (404, "unknown-lane"), "{}", plan.text);
}
