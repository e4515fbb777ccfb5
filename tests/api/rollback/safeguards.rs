//! Safeguards: rollbacks, the gate and the controller do no harm when events and decisions of people interleave.
//! Decision 0015 has the rules.

use ledger_tests::{
    Client, InProcess, Story, at, controller_decisions, deploy, issues, rollback_request, text,
};
use reqwest::Method;
use serde_json::{Value, json};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn of(id: &str) -> Value {
    json!({"rollback_id": id})
}

/// Rolls `web` back to a position with one redeploy step.
async fn roll_back(story: &Story, id: &str, to: u64, version: &str, minutes: u64) {
    assert_eq!(story.request(rollback_request(&to.to_string(), id)).await.status, 201);
    story.record("rollback.started", minutes, of(id)).await;
    let step = json!({"service": "web", "release": {"version": version}, "rollback_id": id});
    story.record("deploy.succeeded", minutes + 1, step).await;
    story.record("rollback.succeeded", minutes + 2, of(id)).await;
}

fn denying_rules(gate: &Value) -> Vec<(String, bool)> {
    let findings = gate["findings"].as_array().expect("findings").iter();
    let denying = findings.filter(|finding| finding["passes"] == false);
    denying.map(|finding| (text(&finding["rule"]), finding["unknown"] == true)).collect()
}

#[tokio::test]
async fn rule_4_an_unlimited_maximum_age_does_not_stop_the_controller() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let rule = json!({
        "checks": ["smoke"], "cool_down_seconds": 0, "at_most_a_day": 9,
        "at_most_age_seconds": 9_007_199_254_740_991_u64,
    });
    story.declare_policy(json!({"required_validations": ["smoke"], "automatic_rollback": rule}), 0).await;
    let good = story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("web", "v2", 3).await;
    story.check_failed("web", "v2", "smoke", 4).await;

    let decision = &controller_decisions(&client, 1).await[0]["event"];

    assert_eq!(decision["data"]["to"], good, "{decision}");
}

#[tokio::test]
async fn rule_4_one_failed_canary_of_18_lanes_changes_one_lane_and_not_to_a_point_11_months_old() {
    let service = InProcess::start(&[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let services: Vec<String> = (0..18).map(|number| format!("service-{number}")).collect();
    for (day, version) in [(1, "v1"), (2, "v2")] {
        for (minute, name) in services.iter().enumerate() {
            let (id, time) = (format!("{name}-{version}"), format!("2025-09-{day:02}T10:{minute:02}:00Z"));
            client.record_and_wait(&deploy(&id, &time, "production", name, version)).await;
        }
    }
    for (minutes, name) in (1..).zip(&services) {
        story.check_passed(name, "v1", "smoke", minutes).await;
    }
    let policy = |rule: Value| json!({"required_validations": ["smoke"], "automatic_rollback": rule});
    let rule = json!({"checks": ["canary"], "cool_down_seconds": 0, "at_most_a_day": 9});

    story.declare_policy(policy(rule.clone()), 30).await;
    story.check_failed("service-0", "v2", "canary", 31).await;
    let declined = &controller_decisions(&client, 1).await[0]["event"];
    assert!(text(&declined["type"]).contains("rollback.declined"), "{declined}");

    let mut unlimited = rule;
    unlimited["at_most_age_seconds"] = 9_007_199_254_740_991_u64.into();
    story.declare_policy(policy(unlimited), 32).await;
    story.check_failed("service-0", "v2", "canary", 33).await;
    let requested = &controller_decisions(&client, 2).await[0]["event"];
    let steps = requested["data"]["plan"]["steps"].as_array().expect("a request with steps");
    let changed: Vec<String> = steps.iter().map(|step| text(&step["service"])).collect();
    assert_eq!(changed, ["service-0"], "{requested}");
}

#[tokio::test]
async fn rule_21_changes_by_others_during_a_rollback_are_listed_and_do_not_prevent_its_success() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    assert_eq!(story.request(rollback_request(&first.to_string(), "r-1")).await.status, 201);
    story.record("rollback.started", 3, of("r-1")).await;

    let by_another = story.deploy("api", "v7", 4).await;
    let step = json!({"service": "web", "release": {"version": "v1"}, "rollback_id": "r-1"});
    story.record("deploy.succeeded", 5, step).await;
    story.record("rollback.succeeded", 6, of("r-1")).await;

    let rollback = story.rollback("r-1").await;
    let others = rollback["others"].as_array().expect("a list").iter();
    let others: Vec<(Option<u64>, String)> =
        others.map(|other| (other["position"].as_u64(), text(&other["service"]))).collect();
    assert_eq!(others, [(Some(by_another), "api".to_owned())], "{rollback}");
    assert_eq!(rollback["phase"], "succeeded");
}

#[tokio::test]
async fn rule_11_a_package_is_revoked_even_if_its_checksum_is_omitted() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    let package = "pkg:generic/web@1";
    let revoked = format!("{package}?checksum={D1}");
    story.record("artifact.revoked", 2, json!({"artifact": revoked, "reason": "It leaks."})).await;

    let gate_request =
        |artifact: &str| json!({"service": "web", "release": {"version": "v2", "artifact": artifact}});
    for notation in [package, &revoked, D1] {
        let gate = story.gate(gate_request(notation)).await;
        assert_eq!(denying_rules(&gate), [("revoked".to_owned(), false)], "{notation}: {gate}");
    }
    // A release with an unknown artifact may be the revoked one.
    let gate = story.gate(json!({"service": "web", "release": {"version": "v2"}})).await;
    assert_eq!(denying_rules(&gate), [("revoked".to_owned(), true)], "{gate}");
    let nothing = story
        .try_record("artifact.reinstated", 3, json!({"artifact": "pkg:generic/web@2", "reason": "Fine."}))
        .await;
    assert_eq!((nothing.status, nothing.problem()), (409, "not-revoked"), "{}", nothing.text);
}

#[tokio::test]
async fn rule_13_a_rollback_further_back_does_not_release_earlier_holds() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    let second = story.deploy("web", "v2", 2).await;
    story.deploy("web", "v3", 3).await;
    roll_back(&story, "r-1", second, "v2", 10).await;
    roll_back(&story, "r-2", first, "v1", 20).await;

    let gate_request = |version: &str| json!({"service": "web", "release": {"version": version}});
    for version in ["v2", "v3"] {
        let gate = story.gate(gate_request(version)).await;
        assert_eq!(denying_rules(&gate), [("held".to_owned(), false)], "{version}: {gate}");
    }
    // A later deploy that is not a step of a rollback ends the hold.
    story.deploy("web", "v4", 30).await;
    assert_eq!(story.gate(gate_request("v3")).await["allowed"], true);
}

#[tokio::test]
async fn rule_13_the_releases_that_run_at_the_start_of_a_rollback_are_held() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    assert_eq!(story.request(rollback_request(&first.to_string(), "r-1")).await.status, 201);
    story.deploy("web", "v3", 3).await;
    let rejected = story.try_record("rollback.started", 4, of("r-1")).await;
    assert_eq!((rejected.status, rejected.problem()), (409, "rollback-start-blocked"), "{}", rejected.text);
    let mut start = of("r-1");
    start["acknowledge"] = json!([{"service": "web"}]);
    start["actor"] = json!({"type": "person", "name": "noa"});
    story.record("rollback.started", 5, start).await;
    let step = json!({"service": "web", "release": {"version": "v1"}, "rollback_id": "r-1"});
    story.record("deploy.succeeded", 6, step).await;
    story.record("rollback.succeeded", 7, of("r-1")).await;

    let gate = story.gate(json!({"service": "web", "release": {"version": "v3"}})).await;

    assert_eq!(denying_rules(&gate), [("held".to_owned(), false)], "{gate}");
}

#[tokio::test]
async fn rule_20_only_a_person_starts_a_rollback_of_lanes_that_have_changed() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    assert_eq!(story.request(rollback_request(&first.to_string(), "r-1")).await.status, 201);
    story.deploy("web", "v3", 3).await;
    let start = |actor: Value| {
        let mut start = of("r-1");
        start["acknowledge"] = json!([{"service": "web"}]);
        if !actor.is_null() {
            start["actor"] = actor;
        }
        start
    };

    let by_workload = start(json!({"type": "workload", "name": "executor"}));
    for (minutes, start) in [(4, by_workload), (5, start(Value::Null))] {
        let rejected = story.try_record("rollback.started", minutes, start).await;
        assert_eq!((rejected.status, rejected.problem()), (403, "not-a-person"), "{}", rejected.text);
        assert!(rejected.text.contains("only a person may start a rollback with acknowledge"));
    }
    let by_person = start(json!({"type": "person", "name": "noa"}));
    story.try_record("rollback.started", 6, by_person).await.ok();
}

#[tokio::test]
async fn rule_15_an_expired_approval_does_not_start_a_rollback() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"approvals": 1}), 0).await;
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    assert_eq!(story.request(rollback_request(&first.to_string(), "r-1")).await.status, 201);
    let mut grant = of("r-1");
    grant["actor"] = json!({"type": "person", "name": "noa"});
    grant["expires_at"] = "2026-08-02T00:00:00Z".into();
    story.record("approval.granted", 3, grant).await;

    let rejected = story.try_record("rollback.started", 4, of("r-1")).await;

    assert_eq!(
        (rejected.status, rejected.problem()),
        (409, "invalid-rollback-transition"),
        "{}",
        rejected.text
    );
    assert!(rejected.text.contains("0 of 1 approvals"), "{}", rejected.text);
}

#[tokio::test]
async fn rule_15_a_late_report_does_not_move_an_approval_to_another_artifact() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"approvals": 1}), 0).await;
    story.deploy("web", "v1", 1).await;
    story.record("artifact.built", 2, json!({"artifact": D1, "version": "v2"})).await;
    let noa = json!({"type": "person", "name": "noa"});
    story
        .record("approval.granted", 4, json!({"service": "web", "release": {"version": "v2"}, "actor": noa}))
        .await;
    // One before the approval, and one at its time.
    for minutes in [3, 4] {
        let other = json!({"service": "web", "release": {"version": "v2", "artifact": D2}});
        Story::of(&client, "staging").record("deploy.succeeded", minutes, other).await;
    }

    let gate = |artifact: &str| {
        let release = json!({"version": "v2", "artifact": artifact});
        let requester = json!({"type": "person", "name": "mia"});
        story.gate(json!({"service": "web", "release": release, "requester": requester}))
    };
    let (approved, moved) = (gate(D1).await, gate(D2).await);

    assert_eq!(approved["allowed"], true, "{approved}");
    assert_eq!(denying_rules(&moved), [("approvals".to_owned(), false)], "{moved}");
}

#[tokio::test]
async fn rule_15_an_approval_of_a_version_without_a_meaning_gets_none_from_a_late_build() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"approvals": 1}), 0).await;
    story.deploy("web", "v1", 1).await;
    let build =
        |name: &str, digest: &str| json!({"artifact": format!("pkg:oci/{name}@{digest}"), "version": "v2"});
    story.record("artifact.built", 12, build("foo", D1)).await;
    story.record("artifact.built", 12, build("bar", D2)).await;
    let noa = json!({"type": "person", "name": "noa"});
    let grant = json!({"service": "web", "release": {"version": "v2"}, "actor": noa});
    story.record("approval.granted", 12, grant).await;
    story.record("artifact.built", 11, build("foo", &D1.replace('1', "3"))).await;

    let requester = json!({"type": "person", "name": "mia"});
    let gate =
        story.gate(json!({"service": "web", "release": {"version": "v2"}, "requester": requester})).await;

    assert_eq!(gate["allowed"], true, "{gate}");
}

#[tokio::test]
async fn rule_9_a_bad_mark_on_a_point_does_not_stop_a_release_that_another_point_shows_to_be_good() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let staging = Story::of(&client, "staging");
    let promotion = json!({"promotion": {"from": ["staging"]}});
    Story::on(&client).declare_policy(promotion, 0).await;
    staging.deploy("web", "v1", 1).await;
    staging.deploy("api", "v1", 2).await;
    staging.record("validation.passed", 3, json!({"check": "e2e"})).await;
    let second = staging.deploy("api", "v2", 4).await;
    let mark = json!({"position": second, "status": "bad", "reason": "api fails"});
    staging.record("release_point.marked", 5, mark).await;

    let production = Story::on(&client);
    let gate = |service: &str, version: &str| {
        production.gate(json!({"service": service, "release": {"version": version}, "new": true}))
    };
    let (web, api) = (gate("web", "v1").await, gate("api", "v2").await);

    assert_eq!(web["allowed"], true, "{web}");
    assert_eq!(denying_rules(&api), [("promotion".to_owned(), false)], "{api}");
}

#[tokio::test]
async fn rule_20_a_step_can_be_claimed_only_while_its_rollback_is_in_progress() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    assert_eq!(story.request(rollback_request(&first.to_string(), "r-1")).await.status, 201);
    let claim = |minutes| {
        let step = json!({"service": "web", "release": {"version": "v1"}, "rollback_id": "r-1"});
        story.try_record("deploy.started", minutes, step)
    };
    let gate = |release: &str| {
        story.gate(json!({"service": "web", "release": {"version": release}, "rollback_id": "r-1"}))
    };

    let early = claim(3).await;
    let before = gate("v1").await;
    story.record("rollback.started", 4, of("r-1")).await;
    assert_eq!(claim(5).await.status, 201);
    let (step, other) = (gate("v1").await, gate("v9").await);
    story.record("rollback.cancelled", 6, of("r-1")).await;
    let late = claim(7).await;

    for rejected in [early, late] {
        assert_eq!(
            (rejected.status, rejected.problem()),
            (409, "invalid-rollback-transition"),
            "{}",
            rejected.text
        );
    }
    assert_eq!(step["allowed"], true, "{step}");
    // The id of a rollback does not allow any other deploy.
    for rejected in [before, other] {
        assert_eq!(denying_rules(&rejected), [("rollback".to_owned(), false)], "{rejected}");
    }
}

#[tokio::test]
async fn rule_20_a_barrier_after_the_request_prevents_the_start_of_a_rollback() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await;
    story.deploy("web", "v2", 2).await;
    assert_eq!(story.request(rollback_request(&first.to_string(), "r-1")).await.status, 201);
    let failed = json!({"service": "web", "release": {"version": "v3"}, "reversible": false});
    story.record("deploy.failed", 3, failed).await;

    let rejected = story.try_record("rollback.started", 4, of("r-1")).await;

    assert_eq!((rejected.status, rejected.problem()), (409, "rollback-blocked"), "{}", rejected.text);
    assert!(rejected.text.contains("cannot be undone"), "{}", rejected.text);
}

#[tokio::test]
async fn rule_22_a_repeated_request_is_a_duplicate_even_if_the_point_must_soak() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"required_validations": ["smoke"], "soak_seconds": 60}), 0).await;
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("web", "v2", 30).await;

    let first = story.request(rollback_request("last-known-good", "r-1")).await.ok();
    let again = story.request(rollback_request("last-known-good", "r-1")).await.ok();
    let mut other = rollback_request("last-known-good", "r-1");
    other["initiated_by"]["name"] = "MIA".into();
    let other = story.request(other).await.ok();

    assert_eq!((&first["status"], first.get("phase")), (&"recorded".into(), None), "{first}");
    for again in [again, other] {
        assert_eq!(
            (&again["status"], &again["phase"]),
            (&"duplicate".into(), &"requested".into()),
            "{again}"
        );
    }
}

#[tokio::test]
async fn rule_23_an_irreversible_deploy_is_an_issue_regardless_of_the_event_that_declares_it() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deploy("web", "v1", 1).await.to_string();
    let migrates = json!({"service": "web", "release": {"version": "v2"}, "reversible": false});
    story.record("deploy.started", 2, migrates).await;
    // The deploy never ended, and another one followed.
    story.deploy("web", "v3", 3).await;

    let unfinished = issues(&story.plan(rollback_request(&first, "r-1")).await.ok());
    story.deploy("web", "v2", 4).await;
    let ended = issues(&story.plan(rollback_request(&first, "r-1")).await.ok());

    let severity = |issues: &[(String, String)], kind: &str| {
        issues.iter().find(|(name, _)| name == kind).map(|(_, severity)| severity.clone())
    };
    assert_eq!(severity(&unfinished, "barrier_unfinished").as_deref(), Some("warning"), "{unfinished:?}");
    assert_eq!(severity(&unfinished, "deploy_open"), None, "{unfinished:?}");
    assert_eq!(severity(&ended, "barrier").as_deref(), Some("overridable"), "{ended:?}");
}

#[tokio::test]
async fn rule_23_a_point_of_another_environment_does_not_bypass_a_barrier() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let (production, staging) = (Story::on(&client), Story::of(&client, "staging"));
    production.deploy("web", "v1", 1).await;
    let migrates = json!({"service": "web", "release": {"version": "v2"}, "reversible": false});
    production.record("deploy.succeeded", 2, migrates).await;
    staging.deploy("web", "v1", 3).await;
    staging.check_passed("web", "v1", "smoke", 4).await;

    let plan = production.plan(rollback_request("staging@last-known-good", "r-1")).await.ok();

    let issues = issues(&plan);
    assert!(issues.contains(&("barrier".to_owned(), "overridable".to_owned())), "{issues:?}");
}

#[tokio::test]
async fn rule_24_a_retired_environment_has_no_plans_and_needs_no_artifacts() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({}), 0).await;
    let artifact = format!("pkg:oci/web@{D1}");
    let release = json!({"version": "v1", "artifact": artifact});
    let good = story.record("deploy.succeeded", 1, json!({"service": "web", "release": release})).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.record("environment.retired", 10, json!({})).await;

    let plan = story.plan(rollback_request(&good.to_string(), "r-1")).await.ok();
    let horizon = story.get("rollback-horizon").await;
    let point = story.get(&format!("points/{}", at(15))).await;

    assert!(issues(&plan).contains(&("environment_retired".to_owned(), "fatal".to_owned())), "{plan}");
    assert!(!horizon.to_string().contains(D1), "{horizon}");
    assert_eq!(point["point"]["status"], "empty", "{point}");
}

#[tokio::test]
async fn rule_32_a_correction_recorded_before_the_corrected_event_applies() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let wrong = ledger_tests::deploy("wrong", &at(2), "production", "web", "v9");
    let corrects = json!({"source": wrong["source"], "id": "wrong"});
    let release = json!({"version": "v1"});
    let right = json!({"service": "web", "release": release, "corrects": corrects});

    let correction = story.record("deploy.succeeded", 1, right).await;
    let corrected = client.record_and_wait(&wrong).await;

    let state = story.get("state").await;
    assert_eq!(state["lanes"][0]["release"]["version"], "v1", "{state}");
    let page = client.get(&format!("/v1/events?after={}", corrected - 1)).await.ok();
    assert_eq!(page["events"][0]["corrected_by"], correction, "{page}");
}

#[tokio::test]
async fn a_request_against_a_state_that_a_late_retirement_changed_is_rejected() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("api", "v1", 1).await;
    let first = story.deploy("web", "v1", 10).await.to_string();
    story.deploy("web", "v2", 20).await;
    let path = "/v1/environments/production/rollbacks?dry_run=true";
    let plan = Client::send(client.request(Method::POST, path).json(&json!({"to": first}))).await;
    let tag = plan.header("etag").to_owned();

    story.record("environment.retired", 5, json!({})).await;
    story.declare_policy(json!({}), 6).await;
    let rejected = story.request_if_match(&tag, rollback_request(&first, "r-1")).await;

    assert_eq!((rejected.status, rejected.problem()), (412, "environment-moved"), "{}", rejected.text);
}

#[tokio::test]
async fn only_the_controller_can_record_rollback_declined() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let cause = story.deploy("web", "v1", 1).await;

    let rejected = story.try_record("rollback.declined", 2, json!({"cause": cause, "reason": "No."})).await;

    assert_eq!((rejected.status, rejected.problem()), (403, "reserved-source"), "{}", rejected.text);
}
