//! What keeps a rollback, a gate or the controller from doing harm when reports and people cross each other. The rules are decision
//! 0015.

use ledger_tests::{Client, Servers, Service};
use reqwest::Method;
use serde_json::{Value, json};

use super::automatic::answers;
use super::{Story, issues, text, wish};
use crate::PROGRAM;

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn of(id: &str) -> Value {
    json!({"rollback_id": id})
}

/// Rolls `web` back to a position, with a step that redeploys it.
async fn roll_back(story: &Story, id: &str, to: u64, version: &str, minutes: u64) {
    assert_eq!(story.request(wish(&to.to_string(), id)).await.status, 201);
    story.tell("rollback.started", minutes, of(id)).await;
    let step = json!({"service": "web", "release": {"version": version}, "rollback_id": id});
    story.tell("deploy.succeeded", minutes + 1, step).await;
    story.tell("rollback.succeeded", minutes + 2, of(id)).await;
}

fn refusing(gate: &Value) -> Vec<(String, bool)> {
    let findings = gate["findings"].as_array().expect("findings").iter();
    let refusing = findings.filter(|finding| finding["passes"] == false);
    refusing.map(|finding| (text(&finding["rule"]), finding["unknown"] == true)).collect()
}

#[tokio::test]
async fn rule_4_an_age_without_end_does_not_stop_the_controller() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let story = Story::on(&client);
    let rule = json!({
        "checks": ["smoke"], "cool_down_seconds": 0, "at_most_a_day": 9,
        "at_most_age_seconds": 9_007_199_254_740_991_u64,
    });
    story.declared(json!({"required_validations": ["smoke"], "automatic_rollback": rule}), 0).await;
    let good = story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.deployed("web", "v2", 3).await;
    story.failed("web", "v2", "smoke", 4).await;

    let answer = &answers(&client, 1).await[0]["event"];

    assert_eq!(answer["data"]["to"], good, "{answer}");
}

#[tokio::test]
async fn rule_11_a_package_is_revoked_also_where_its_checksum_is_not_said() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deployed("web", "v1", 1).await;
    let package = "pkg:generic/web@1";
    let revoked = format!("{package}?checksum={D1}");
    story.tell("artifact.revoked", 2, json!({"artifact": revoked, "reason": "It leaks."})).await;

    let question =
        |artifact: &str| json!({"service": "web", "release": {"version": "v2", "artifact": artifact}});
    for spelled in [package, &revoked, D1] {
        let gate = story.gate(question(spelled)).await;
        assert_eq!(refusing(&gate), [("revoked".to_owned(), false)], "{spelled}: {gate}");
    }
    // Of a release whose artifact is not known it may be this one.
    let gate = story.gate(json!({"service": "web", "release": {"version": "v2"}})).await;
    assert_eq!(refusing(&gate), [("revoked".to_owned(), true)], "{gate}");
    let nothing = story
        .try_tell("artifact.reinstated", 3, json!({"artifact": "pkg:generic/web@2", "reason": "Fine."}))
        .await;
    assert_eq!((nothing.status, nothing.problem()), (409, "not-revoked"), "{}", nothing.text);
}

#[tokio::test]
async fn rule_13_a_rollback_that_goes_further_back_does_not_free_what_was_taken_back_before() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deployed("web", "v1", 1).await;
    let second = story.deployed("web", "v2", 2).await;
    story.deployed("web", "v3", 3).await;
    roll_back(&story, "r-1", second, "v2", 10).await;
    roll_back(&story, "r-2", first, "v1", 20).await;

    let question = |version: &str| json!({"service": "web", "release": {"version": version}});
    for version in ["v2", "v3"] {
        let gate = story.gate(question(version)).await;
        assert_eq!(refusing(&gate), [("held".to_owned(), false)], "{version}: {gate}");
    }
    // One that is no step of a rollback, and comes after it, ends the hold.
    story.deployed("web", "v4", 30).await;
    assert_eq!(story.gate(question("v3")).await["allowed"], true);
}

#[tokio::test]
async fn rule_13_what_runs_when_a_rollback_starts_is_held() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deployed("web", "v1", 1).await;
    story.deployed("web", "v2", 2).await;
    assert_eq!(story.request(wish(&first.to_string(), "r-1")).await.status, 201);
    story.deployed("web", "v3", 3).await;
    let refused = story.try_tell("rollback.started", 4, of("r-1")).await;
    assert_eq!((refused.status, refused.problem()), (409, "rollback-start-blocked"), "{}", refused.text);
    let mut start = of("r-1");
    start["acknowledge"] = json!([{"service": "web"}]);
    story.tell("rollback.started", 5, start).await;
    let step = json!({"service": "web", "release": {"version": "v1"}, "rollback_id": "r-1"});
    story.tell("deploy.succeeded", 6, step).await;
    story.tell("rollback.succeeded", 7, of("r-1")).await;

    let gate = story.gate(json!({"service": "web", "release": {"version": "v3"}})).await;

    assert_eq!(refusing(&gate), [("held".to_owned(), false)], "{gate}");
}

#[tokio::test]
async fn rule_15_an_approval_that_has_expired_starts_no_rollback() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declared(json!({"approvals": 1}), 0).await;
    let first = story.deployed("web", "v1", 1).await;
    story.deployed("web", "v2", 2).await;
    assert_eq!(story.request(wish(&first.to_string(), "r-1")).await.status, 201);
    let mut grant = of("r-1");
    grant["actor"] = json!({"type": "person", "name": "noa"});
    grant["expires_at"] = "2026-08-02T00:00:00Z".into();
    story.tell("approval.granted", 3, grant).await;

    let refused = story.try_tell("rollback.started", 4, of("r-1")).await;

    assert_eq!((refused.status, refused.problem()), (409, "invalid-rollback-transition"), "{}", refused.text);
    assert!(refused.text.contains("0 of 1 approvals"), "{}", refused.text);
}

#[tokio::test]
async fn rule_20_a_step_is_claimed_only_while_its_rollback_is_under_way() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deployed("web", "v1", 1).await;
    story.deployed("web", "v2", 2).await;
    assert_eq!(story.request(wish(&first.to_string(), "r-1")).await.status, 201);
    let claim = |minutes| {
        let step = json!({"service": "web", "release": {"version": "v1"}, "rollback_id": "r-1"});
        story.try_tell("deploy.started", minutes, step)
    };
    let gate = |release: &str| {
        story.gate(json!({"service": "web", "release": {"version": release}, "rollback_id": "r-1"}))
    };

    let early = claim(3).await;
    let before = gate("v1").await;
    story.tell("rollback.started", 4, of("r-1")).await;
    assert_eq!(claim(5).await.status, 201);
    let (step, other) = (gate("v1").await, gate("v9").await);
    story.tell("rollback.cancelled", 6, of("r-1")).await;
    let late = claim(7).await;

    for refused in [early, late] {
        assert_eq!(
            (refused.status, refused.problem()),
            (409, "invalid-rollback-transition"),
            "{}",
            refused.text
        );
    }
    assert_eq!(step["allowed"], true, "{step}");
    // The id of a rollback lets nothing else pass.
    for refused in [before, other] {
        assert_eq!(refusing(&refused), [("rollback".to_owned(), false)], "{refused}");
    }
}

#[tokio::test]
async fn rule_20_a_rollback_does_not_start_past_a_barrier_that_came_after_its_request() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deployed("web", "v1", 1).await;
    story.deployed("web", "v2", 2).await;
    assert_eq!(story.request(wish(&first.to_string(), "r-1")).await.status, 201);
    let failed = json!({"service": "web", "release": {"version": "v3"}, "reversible": false});
    story.tell("deploy.failed", 3, failed).await;

    let refused = story.try_tell("rollback.started", 4, of("r-1")).await;

    assert_eq!((refused.status, refused.problem()), (409, "rollback-blocked"), "{}", refused.text);
    assert!(refused.text.contains("cannot be undone"), "{}", refused.text);
}

#[tokio::test]
async fn rule_22_the_same_wish_is_the_same_also_where_the_point_has_to_soak() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declared(json!({"required_validations": ["smoke"], "soak_seconds": 60}), 0).await;
    story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.deployed("web", "v2", 30).await;

    let first = story.request(wish("last-known-good", "r-1")).await.ok();
    let again = story.request(wish("last-known-good", "r-1")).await.ok();
    let mut other = wish("last-known-good", "r-1");
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
async fn rule_23_what_cannot_be_undone_is_told_whichever_report_says_so() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let first = story.deployed("web", "v1", 1).await.to_string();
    let migrates = json!({"service": "web", "release": {"version": "v2"}, "reversible": false});
    story.tell("deploy.started", 2, migrates).await;
    // Its job died, and another deploy followed.
    story.deployed("web", "v3", 3).await;

    let unfinished = issues(&story.plan(wish(&first, "r-1")).await.ok());
    story.deployed("web", "v2", 4).await;
    let ended = issues(&story.plan(wish(&first, "r-1")).await.ok());

    let met = |met: &[(String, String)], kind: &str| {
        met.iter().find(|(name, _)| name == kind).map(|(_, severity)| severity.clone())
    };
    assert_eq!(met(&unfinished, "barrier_unfinished").as_deref(), Some("warning"), "{unfinished:?}");
    assert_eq!(met(&unfinished, "deploy_open"), None, "{unfinished:?}");
    assert_eq!(met(&ended, "barrier").as_deref(), Some("overridable"), "{ended:?}");
}

#[tokio::test]
async fn rule_23_a_release_of_another_environment_does_not_lead_past_a_barrier() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let (production, staging) = (Story::on(&client), Story::of(&client, "staging"));
    production.deployed("web", "v1", 1).await;
    let migrates = json!({"service": "web", "release": {"version": "v2"}, "reversible": false});
    production.tell("deploy.succeeded", 2, migrates).await;
    staging.deployed("web", "v1", 3).await;
    staging.passed("web", "v1", "smoke", 4).await;

    let plan = production.plan(wish("staging@last-known-good", "r-1")).await.ok();

    let met = issues(&plan);
    assert!(met.contains(&("barrier".to_owned(), "overridable".to_owned())), "{met:?}");
}

#[tokio::test]
async fn rule_24_nothing_is_planned_for_a_retired_environment_and_nothing_is_kept() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declared(json!({}), 0).await;
    let artifact = format!("pkg:oci/web@{D1}");
    let release = json!({"version": "v1", "artifact": artifact});
    let good = story.tell("deploy.succeeded", 1, json!({"service": "web", "release": release})).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.tell("environment.retired", 10, json!({})).await;

    let plan = story.plan(wish(&good.to_string(), "r-1")).await.ok();
    let horizon = story.get("rollback-horizon").await;
    let point = story.get(&format!("points/{}", super::at(15))).await;

    assert!(issues(&plan).contains(&("environment_retired".to_owned(), "fatal".to_owned())), "{plan}");
    assert!(!horizon.to_string().contains(D1), "{horizon}");
    assert_eq!(point["point"]["status"], "empty", "{point}");
}

#[tokio::test]
async fn rule_32_a_correction_that_comes_before_what_it_corrects_holds() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let wrong = ledger_tests::deploy("wrong", &super::at(2), "production", "web", "v9");
    let corrects = json!({"source": wrong["source"], "id": "wrong"});
    let release = json!({"version": "v1"});
    let right = json!({"service": "web", "release": release, "corrects": corrects});

    let correction = story.tell("deploy.succeeded", 1, right).await;
    let corrected = client.recorded(&wrong).await;

    let state = story.get("state").await;
    assert_eq!(state["lanes"][0]["release"]["version"], "v1", "{state}");
    let page = client.get(&format!("/v1/events?after={}", corrected - 1)).await.ok();
    assert_eq!(page["events"][0]["corrected_by"], correction, "{page}");
}

#[tokio::test]
async fn a_request_against_a_state_that_a_late_retirement_changed_is_refused() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deployed("api", "v1", 1).await;
    let first = story.deployed("web", "v1", 10).await.to_string();
    story.deployed("web", "v2", 20).await;
    let path = "/v1/environments/production/rollbacks?dry_run=true";
    let seen = Client::send(client.request(Method::POST, path).json(&json!({"to": first}))).await;
    let tag = seen.header("etag").to_owned();

    story.tell("environment.retired", 5, json!({})).await;
    story.declared(json!({}), 6).await;
    let refused = story.request_at(&tag, wish(&first, "r-1")).await;

    assert_eq!((refused.status, refused.problem()), (412, "environment-moved"), "{}", refused.text);
}

#[tokio::test]
async fn only_the_controller_says_that_it_requests_no_rollback() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let cause = story.deployed("web", "v1", 1).await;

    let refused = story.try_tell("rollback.declined", 2, json!({"cause": cause, "reason": "No."})).await;

    assert_eq!((refused.status, refused.problem()), (403, "reserved-source"), "{}", refused.text);
}
