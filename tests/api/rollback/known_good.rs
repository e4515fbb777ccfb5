//! The rules by which a release point is known good, and the status as known at another time.

use ledger_tests::{InProcess, Story, at, event, text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_pass_belongs_to_its_release_and_counts_again_after_a_return() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"required_validations": ["smoke", "e2e"]}), 0).await;

    let first = story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    assert_eq!(story.point_status(first).await, "candidate");
    let evidence = story.check_passed("web", "v1", "e2e", 3).await;
    assert_eq!(story.point_status(first).await, "known_good");
    let second = story.deploy("web", "v2", 4).await;
    let failed = story.check_failed("web", "v2", "smoke", 5).await;
    assert_eq!(story.point_status(second).await, "bad");
    let back = story.deploy("web", "v1", 6).await;

    assert_eq!(story.point_status(back).await, "known_good");
    let last = story.get("points/last-known-good").await;
    assert_eq!(last["point"]["position"], back);
    let before = story.get(&format!("points/last-known-good?known_at={failed}")).await;
    assert_eq!(before["point"]["position"], first);
    let then = story.get(&format!("points/{first}?known_at={}", evidence - 1)).await;
    assert_eq!(then["point"]["status"], "candidate", "the status before the evidence was recorded");
    let page = story.get("points?limit=10").await;
    let all: Vec<String> =
        page["points"].as_array().expect("points").iter().map(|point| text(&point["status"])).collect();
    assert_eq!(all, ["known_good", "bad", "known_good"]);
}

#[tokio::test]
async fn a_check_without_a_release_applies_to_the_release_that_ran_at_its_time() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 10).await;
    let second = story.deploy("web", "v2", 20).await;

    // A late event: the check was done while v1 ran.
    story.record("validation.passed", 15, json!({"service": "web", "check": "smoke"})).await;
    assert_eq!(story.point_status(first).await, "known_good");
    assert_eq!(story.point_status(second).await, "candidate");
    // A check of the whole environment.
    story.record("validation.failed", 25, json!({"check": "e2e"})).await;
    story.record("validation.passed", 26, json!({"service": "web", "check": "smoke"})).await;
    assert_eq!(story.point_status(second).await, "candidate");
    story.record("validation.passed", 27, json!({"check": "e2e"})).await;
    assert_eq!(story.point_status(second).await, "known_good");
    // A late deploy shows that another release ran then.
    story.deploy("web", "v1.5", 12).await;
    assert_eq!(story.point_status(first).await, "candidate", "v1 was no longer live when the check was done");
}

#[tokio::test]
async fn a_check_of_a_deployment_or_an_artifact_applies_to_its_release() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let artifact = "pkg:oci/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let release = json!({"version": "v1", "artifact": artifact});
    let deploy = json!({"service": "web", "deployment": "run-1", "release": release});
    let first = story.record("deploy.succeeded", 1, deploy).await;
    let second = story.deploy("web", "v2", 3).await;

    story
        .record("validation.passed", 9, json!({"service": "web", "deployment": "run-1", "check": "smoke"}))
        .await;
    assert_eq!(story.point_status(first).await, "known_good");
    assert_eq!(story.point_status(second).await, "candidate");
    story.record("validation.failed", 10, json!({"artifact": artifact, "check": "scan"})).await;
    assert_eq!(story.point_status(first).await, "candidate");
}

#[tokio::test]
async fn a_mark_by_a_person_overrides_the_rule_and_can_be_revoked() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    let person = json!({"type": "person", "name": "mia"});
    let mark = |position: u64, status: &str| {
        json!({
            "position": position, "status": status, "name": "before-the-move", "reason": "All is well.",
            "actor": person,
        })
    };

    let nowhere = story.try_record("release_point.marked", 3, mark(9_999, "known_good")).await;
    story.record("release_point.marked", 4, mark(first, "known_good")).await;
    let named = story.get("points/point:before-the-move").await;
    let revocation = json!({"position": first, "reason": "It was not.", "actor": person});
    story.record("release_point.revoked", 5, revocation.clone()).await;
    let nothing = story.try_record("release_point.revoked", 6, revocation).await;

    assert_eq!((nowhere.status, nowhere.problem()), (404, "unknown-point"), "{}", nowhere.text);
    assert_eq!(
        (&named["point"]["position"], &named["point"]["status"]),
        (&first.into(), &"known_good".into())
    );
    assert_eq!(named["point"]["mark"]["actor"]["name"], "mia");
    assert_eq!(story.point_status(first).await, "candidate");
    assert_eq!((nothing.status, nothing.problem()), (409, "nothing-marked"), "{}", nothing.text);
    let after_revocation = client.get("/v1/environments/production/points/point:before-the-move").await;
    assert_eq!((after_revocation.status, after_revocation.problem()), (404, "unknown-point"));
}

#[tokio::test]
async fn a_point_must_soak_for_the_time_in_the_policy() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let policy = json!({"required_validations": ["smoke"], "soak_seconds": 600});
    story.declare_policy(policy, 0).await;
    let first = story.deploy("web", "v1", 10).await;
    story.check_passed("web", "v1", "smoke", 11).await;
    let second = story.deploy("web", "v2", 19).await;
    story.check_passed("web", "v2", "smoke", 20).await;
    story.deploy("web", "v3", 29).await;

    assert_eq!(story.point_status(first).await, "candidate", "it was live for nine minutes");
    assert_eq!(story.point_status(second).await, "known_good", "it was live for ten minutes");
}

#[tokio::test]
async fn a_status_does_not_depend_on_the_order_of_arrival() {
    let tenants = ["in-order", "backwards", "mixed"];
    let flag = format!("--tenants={}", tenants.join(","));
    let service = InProcess::start(&["--only=http,projector", &flag]).await;
    let client = service.client();
    let checks = [
        ("passed", 11, json!({"service": "web", "check": "smoke"})),
        ("failed", 12, json!({"service": "web", "check": "e2e", "release": {"version": "v1"}})),
        ("passed", 13, json!({"service": "web", "check": "e2e", "release": {"version": "v1"}})),
        ("passed", 21, json!({"check": "smoke"})),
        ("failed", 22, json!({"service": "web", "check": "smoke"})),
        ("passed", 31, json!({"service": "web", "check": "smoke", "release": {"version": "v1"}})),
        ("passed", 32, json!({"check": "smoke"})),
    ];
    let mut statuses = Vec::new();
    for (tenant, order) in
        tenants.iter().zip([[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 6, 0, 5, 1, 4, 2]])
    {
        let post = async |kind: &str, minutes: u64, mut data: Value| {
            data["environment"] = "production".into();
            let id = format!("{kind}-{minutes}");
            let event = event(&id, kind, &at(minutes), data).to_string();
            let path = format!("/v1/tenants/{tenant}/events");
            client.post(&path, "application/cloudevents+json", event).await.ok()
        };
        for (minutes, version) in [(10, "v1"), (20, "v2"), (30, "v1")] {
            post("deploy.succeeded", minutes, json!({"service": "web", "release": {"version": version}}))
                .await;
        }
        for index in order {
            let (verb, minutes, data) = &checks[index];
            post(&format!("validation.{verb}"), *minutes, data.clone()).await;
        }
        let path = format!("/v1/tenants/{tenant}/environments/production/points?wait_for=10");
        let page = client.get(&path).await.ok();
        let points = page["points"].as_array().expect("points").iter();
        statuses.push(points.map(|point| text(&point["status"])).collect::<Vec<_>>());
    }

    assert_eq!(statuses[0], ["known_good", "candidate", "known_good"]);
    assert_eq!(statuses[1], statuses[0]);
    assert_eq!(statuses[2], statuses[0]);
}

#[tokio::test]
async fn a_check_of_the_environment_is_void_if_another_composition_ran_for_no_time_meanwhile() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 10).await;
    story.check_passed("web", "v1", "smoke", 12).await;
    story.record("validation.started", 17, json!({"check": "e2e"})).await;
    story.deploy("web", "v2", 19).await;
    story.deploy("web", "v1", 19).await;
    story.record("validation.failed", 24, json!({"check": "e2e"})).await;
    let status = async || text(&story.get(&format!("points/{}", at(11))).await["point"]["status"]);

    assert_eq!(status().await, "known_good");
    // A late deploy of another service changes every composition since, and nothing about the check.
    story.deploy("api", "v1", 5).await;
    assert_eq!(status().await, "known_good");
}

/// The same release under another spelling is the same composition, although a new change of it.
#[tokio::test]
async fn a_redeploy_under_another_spelling_does_not_interrupt_a_check_of_the_environment() {
    for is_reported_late in [false, true] {
        let service = InProcess::start(&["--only=http,projector"]).await;
        let client = service.client();
        let story = Story::on(&client);
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let release = |name: &str| {
            let artifact = format!("{name}@{digest}");
            json!({"service": "web", "release": {"version": "v1", "artifact": artifact}})
        };
        let first = story.record("deploy.succeeded", 2, release("pkg:oci/web")).await;
        story.record("validation.started", 3, json!({"check": "e2e"})).await;
        let second = story.record("deploy.succeeded", 6, release("registry.example/web")).await;
        if is_reported_late {
            story.record("deploy.succeeded", 4, release("mirror.example/web")).await;
        }
        let passed = story.record("validation.passed", 8, json!({"check": "e2e"})).await;

        assert_eq!(story.point_status(first).await, "known_good");
        assert_eq!(story.point_status(second).await, "known_good");
        assert_eq!(story.get(&format!("points/{}", at(2))).await["point"]["status"], "known_good");
        let entry = client.get(&format!("/v1/events/{passed}?wait_for={passed}")).await.ok();
        assert!(entry.get("anomalies").is_none(), "{entry}");
    }
}

#[tokio::test]
async fn a_switch_to_a_slot_from_before_a_retirement_begins_no_point() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.record("environment.retired", 3, json!({})).await;
    story.declare_policy(json!({}), 4).await;
    story.deploy("db", "v1", 6).await;
    story.check_passed("db", "v1", "smoke", 7).await;
    story.deploy("api", "v1", 10).await;
    story.record("traffic.switched", 10, json!({"service": "web", "slot": "blue"})).await;
    let release = json!({"version": "v1"});
    // Reported late, and discarded by the retirement.
    story
        .record("deploy.succeeded", 2, json!({"service": "web", "slot": "blue", "release": release.clone()}))
        .await;
    story.record("deploy.succeeded", 5, json!({"service": "web", "slot": "green", "release": release})).await;

    let point = story.get(&format!("points/{}", at(10))).await;

    assert_eq!(point["point"]["changed"], json!([{"service": "api", "target": "default"}]), "{point}");
    assert_eq!(point["point"]["status"], "candidate", "{point}");
}

/// A correction moves a deploy to another environment and to an earlier time. The environment that loses it ran nothing at
/// that time, so a check of then says nothing about what runs there now.
#[tokio::test]
async fn a_correction_that_states_an_earlier_time_gives_an_old_check_no_new_composition() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let mistaken = event(
        "mistaken",
        "deploy.succeeded",
        &at(7),
        json!({
            "environment": "production", "service": "web", "release": {"version": "v1"},
        }),
    );
    client.record_and_wait(&mistaken).await;
    let live = story.deploy("api", "v2", 8).await;
    let correction = event(
        "correction",
        "deploy.succeeded",
        &at(3),
        json!({
            "environment": "staging", "service": "web", "release": {"version": "v1"},
            "corrects": {"source": mistaken["source"], "id": "mistaken"},
        }),
    );
    let corrected = client.record_and_wait(&correction).await;
    story.record("validation.passed", 3, json!({"check": "smoke"})).await;

    assert_eq!(story.point_status(corrected).await, "candidate");
    assert_eq!(story.point_status(live).await, "candidate");
    let last = client.get("/v1/environments/production/points/last-known-good").await;
    assert_eq!((last.status, last.problem()), (404, "unknown-point"), "{}", last.text);
}

/// Traffic reaches the same release before and after the switch, so it ran unchanged during the check.
#[tokio::test]
async fn a_switch_to_a_slot_with_the_same_release_does_not_interrupt_a_check_of_it() {
    for is_reported_late in [false, true] {
        let service = InProcess::start(&["--only=http,projector"]).await;
        let client = service.client();
        let story = Story::on(&client);
        story.declare_policy(json!({"required_validations": ["e2e"]}), 0).await;
        let first = story.deploy("web", "v2", 6).await;
        let check = json!({"service": "web", "check": "e2e", "release": {"version": "v2"}});
        story.record("validation.started", 7, check.clone()).await;
        let green = json!({"service": "web", "slot": "green", "release": {"version": "v2"}});
        let switch = json!({"service": "web", "slot": "green"});
        if is_reported_late {
            story.record("traffic.switched", 29, switch).await;
            story.record("deploy.succeeded", 23, green).await;
        } else {
            story.record("deploy.succeeded", 23, green).await;
            story.record("traffic.switched", 29, switch).await;
        }
        let failed = story.record("validation.failed", 46, check).await;

        assert_eq!(story.point_status(first).await, "bad");
        let entry = client.get(&format!("/v1/events/{failed}?wait_for={failed}")).await.ok();
        assert!(entry.get("anomalies").is_none(), "{entry}");
    }
}
