//! Stories that a reader can follow: blue and green, cloud and on-premise, a barrier, a freeze, approvals.

use ledger_tests::{Servers, Service};
use serde_json::{Value, json};

use super::{Story, issues, text, wish};
use crate::PROGRAM;

fn step(plan: &Value, index: usize) -> (String, Value, Value, Value) {
    let step = &plan["steps"][index];
    (
        text(&step["action"]),
        step["slot"].clone(),
        step["from"]["version"].clone(),
        step["to"]["version"].clone(),
    )
}

#[tokio::test]
async fn blue_and_green_go_back_by_a_switch_without_a_deploy() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let stands =
        |slot: &str, version: &str| json!({"service": "web", "slot": slot, "release": {"version": version}});
    let reached = |slot: &str| json!({"service": "web", "slot": slot});
    story.tell("deploy.succeeded", 1, stands("blue", "v1")).await;
    story.tell("traffic.switched", 2, reached("blue")).await;
    story.passed("web", "v1", "smoke", 3).await;
    story.tell("deploy.succeeded", 4, stands("green", "v2")).await;
    story.tell("traffic.switched", 5, reached("green")).await;
    story.failed("web", "v2", "smoke", 6).await;

    let plan = story.plan(wish("last-known-good", "back-to-blue")).await.ok();
    assert_eq!(step(&plan, 0), ("switch".into(), "blue".into(), "v2".into(), "v1".into()));
    assert_eq!(story.request(wish("last-known-good", "back-to-blue")).await.status, 201);
    story.tell("rollback.started", 7, json!({"rollback_id": "back-to-blue"})).await;
    let early = story.try_tell("rollback.succeeded", 8, json!({"rollback_id": "back-to-blue"})).await;
    let mut switch = reached("blue");
    switch["rollback_id"] = "back-to-blue".into();
    story.tell("traffic.switched", 9, switch).await;
    story.tell("rollback.succeeded", 10, json!({"rollback_id": "back-to-blue"})).await;

    assert_eq!((early.status, early.problem()), (409, "invalid-rollback-transition"), "{}", early.text);
    assert!(early.text.contains("web at default runs v2 instead of v1"), "{}", early.text);
    let rollback = story.rollback("back-to-blue").await;
    assert_eq!((&rollback["phase"], &rollback["progress"]["done"]), (&"succeeded".into(), &1.into()));
    assert_eq!(rollback["differences"], json!([]));
    assert_eq!(story.get("state").await["digest"], plan["result_digest"]);
    // What was rolled back is held, until a person releases it.
    let question = json!({"service": "web", "release": {"version": "v2"}});
    let held = story.gate(question.clone()).await;
    assert_eq!((&held["allowed"], refused(&held)), (&false.into(), vec!["held".to_owned()]));
    let release =
        json!({"service": "web", "release": {"version": "v2"}, "actor": {"type": "person", "name": "noa"}});
    story.tell("approval.granted", 11, release).await;
    assert_eq!(story.gate(question).await["allowed"], true);
}

fn refused(gate: &Value) -> Vec<String> {
    let findings = gate["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["passes"] == false).map(|finding| text(&finding["rule"])).collect()
}

#[tokio::test]
async fn cloud_and_on_premise_go_back_in_their_order_and_drift_is_told() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let policy = json!({"target_order": ["on-premise", "cloud"], "dependencies": {"web": ["api"]}});
    story.declared(policy, 0).await;
    let runs = |service: &str, target: &str, version: &str| json!({"service": service, "target": target, "release": {"version": version}});
    let mut minutes = 1;
    let mut good = 0;
    for version in ["v1", "v2"] {
        for service in ["api", "web"] {
            for target in ["cloud", "on-premise"] {
                good = story.tell("deploy.succeeded", minutes, runs(service, target, version)).await;
                minutes += 1;
            }
        }
        if version == "v1" {
            story.tell("validation.passed", minutes, json!({"check": "smoke"})).await;
            minutes += 1;
        }
    }
    // On-premise, somebody went back by hand, and told nobody.
    let seen = json!({"complete": true, "lanes": [
        runs("api", "cloud", "v2"), runs("web", "cloud", "v2"),
        runs("api", "on-premise", "v2"), runs("web", "on-premise", "v1"),
    ]});
    let observed = story.tell("environment.observed", minutes, seen.clone()).await;
    story.tell("environment.observed", minutes + 5, seen).await;

    let plan = story.plan(wish("last-known-good", "both")).await.ok();
    let order: Vec<(u64, String, String)> = plan["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| (step["wave"].as_u64().expect("a wave"), text(&step["service"]), text(&step["target"])))
        .collect();
    let drift = story.get("drift").await;
    let targets = story.get("targets").await;
    let only = json!({"to": "last-known-good", "targets": ["on-premise"], "services": ["web"]});
    let restricted = story.plan(only).await.ok();

    let told = [(1, "api", "on-premise"), (2, "api", "cloud"), (3, "web", "on-premise"), (4, "web", "cloud")];
    assert_eq!(order, told.map(|(wave, service, target)| (wave, service.to_owned(), target.to_owned())));
    assert_eq!(drift["drift"].as_array().map(Vec::len), Some(1), "{drift}");
    let lane = &drift["drift"][0];
    assert_eq!((text(&lane["service"]), text(&lane["target"])), ("web".into(), "on-premise".into()));
    assert_eq!((&lane["ledger"]["version"], &lane["seen"]["version"]), (&"v2".into(), &"v1".into()));
    assert_eq!(lane["since"]["position"], observed);
    assert_eq!(targets["uneven"], json!([]), "by the ledger both targets run the same");
    assert_eq!(restricted["steps"].as_array().map(Vec::len), Some(1));
    let metrics = client.text("/metrics").await;
    let gauge = "ledger_drift_lanes{tenant=\"default\",environment=\"production\"} 1";
    assert!(metrics.contains(gauge), "{metrics}");
    assert!(good > 0);
}

#[tokio::test]
async fn a_barrier_is_passed_by_force_and_with_a_reason() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    let migrates = json!({"service": "web", "release": {"version": "v2"}, "reversible": false});
    let barrier = story.tell("deploy.succeeded", 3, migrates).await;

    let plan = story.plan(wish("last-known-good", "over-it")).await.ok();
    let refused = story.request(wish("last-known-good", "over-it")).await;
    let mut forced = wish("last-known-good", "over-it");
    forced["force"] = true.into();
    let passed = story.request(forced).await;

    assert_eq!(issues(&plan), [("barrier".to_owned(), "overridable".to_owned())]);
    assert_eq!((&plan["issues"][0]["position"], &plan["blocked"]), (&barrier.into(), &true.into()));
    assert_eq!((refused.status, refused.problem()), (409, "rollback-blocked"), "{}", refused.text);
    assert_eq!(refused.body["plan"]["plan_digest"], plan["plan_digest"]);
    assert_eq!(passed.status, 201, "{}", passed.text);
    let rollback = story.rollback("over-it").await;
    assert_eq!((&rollback["force"], &rollback["reason"]), (&true.into(), &"Customers see errors.".into()));
}

#[tokio::test]
async fn a_frozen_environment_lets_nothing_in_and_nothing_back_unless_forced() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.deployed("web", "v2", 3).await;
    let freeze = json!({"freeze_id": "year-end", "reason": "Nobody is here."});
    let frozen = story.tell("freeze.started", 4, freeze.clone()).await;
    let mut again = freeze.clone();
    again["reason"] = "Again.".into();
    let twice = story.try_tell("freeze.started", 5, again).await;

    let gate = story.gate(json!({"service": "web", "release": {"version": "v3"}})).await;
    let plan = story.plan(wish("last-known-good", "in-the-cold")).await.ok();
    let odd = story.deployed("web", "v3", 6).await;
    story.tell("freeze.lifted", 7, json!({"freeze_id": "year-end"})).await;
    let lifted = story.gate(json!({"service": "web", "release": {"version": "v4"}})).await;

    assert_eq!((&gate["allowed"], &gate["findings"][0]["position"]), (&false.into(), &frozen.into()));
    assert_eq!(refused(&gate), ["freeze"]);
    assert_eq!((twice.status, twice.problem()), (409, "freeze-mismatch"), "{}", twice.text);
    assert_eq!(issues(&plan), [("freeze".to_owned(), "overridable".to_owned())]);
    let entry = client.get(&format!("/v1/events/{odd}")).await.ok();
    assert_eq!(entry["anomalies"], json!(["during_freeze"]), "a report is marked, never dropped");
    assert_eq!(lifted["allowed"], true);
}

#[tokio::test]
async fn a_rollback_waits_for_the_approval_of_somebody_else() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declared(json!({"approvals": 1}), 0).await;
    story.deployed("web", "v1", 1).await;
    story.passed("web", "v1", "smoke", 2).await;
    story.deployed("web", "v2", 3).await;
    assert_eq!(story.request(wish("last-known-good", "careful")).await.status, 201);
    let by = |name: &str| json!({"rollback_id": "careful", "actor": {"type": "person", "name": name}});

    let early = story.try_tell("rollback.started", 4, json!({"rollback_id": "careful"})).await;
    let own = story.try_tell("approval.granted", 5, by("mia")).await;
    story.tell("approval.granted", 6, by("noa")).await;
    let approved = story.rollback("careful").await;
    story.tell("rollback.started", 7, json!({"rollback_id": "careful"})).await;
    let late = story.try_tell("approval.granted", 8, by("tom")).await;
    story.tell("rollback.cancelled", 9, json!({"rollback_id": "careful", "reason": "Not needed."})).await;
    let over = story.try_tell("rollback.cancelled", 10, json!({"rollback_id": "careful"})).await;

    assert_eq!((early.status, early.problem()), (409, "invalid-rollback-transition"), "{}", early.text);
    assert!(early.text.contains("0 of 1 approvals"), "{}", early.text);
    assert_eq!((own.status, own.problem()), (403, "self-approval"), "{}", own.text);
    assert_eq!((&approved["approvals"]["wanted"], &approved["approvals"]["granted"]), (&1.into(), &1.into()));
    assert_eq!((late.status, over.status), (409, 409));
    assert_eq!(story.rollback("careful").await["phase"], "cancelled");
}

#[tokio::test]
async fn the_gate_wants_what_was_known_good_before_and_refuses_what_was_revoked() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let (production, staging) = (Story::on(&client), Story::of(&client, "staging"));
    production.declared(json!({"promotion": {"from": ["staging"]}, "approvals": 1}), 0).await;
    staging.declared(json!({"required_validations": ["e2e"]}), 0).await;
    let artifact = "pkg:oci/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let release = json!({"version": "v1", "artifact": artifact});
    let question = json!({"service": "web", "release": release, "requester": {"type": "person", "name": "mia"}, "new": true});
    let by =
        |name: &str| json!({"service": "web", "release": release, "actor": {"type": "person", "name": name}});

    let unknown = production.gate(question.clone()).await;
    staging.deployed("web", "v1", 1).await;
    production.tell("approval.granted", 2, by("mia")).await;
    let unproven = production.gate(question.clone()).await;
    let proof = staging.passed("web", "v1", "e2e", 3).await;
    let own = production.gate(question.clone()).await;
    production.tell("approval.granted", 4, by("noa")).await;
    let allowed = production.gate(question.clone()).await;
    let revoked =
        production.tell("artifact.revoked", 5, json!({"artifact": artifact, "reason": "CVE"})).await;
    let gone = production.gate(question).await;

    assert_eq!(refused(&unknown), ["promotion", "approvals"]);
    assert_eq!(refused(&unproven), ["promotion", "approvals"], "{unproven}");
    assert_eq!(refused(&own), ["approvals"], "the requester's own approval does not count: {own}");
    assert_eq!((&allowed["allowed"], refused(&allowed)), (&true.into(), vec![]));
    assert_eq!(refused(&gone), ["revoked"]);
    let finding = gone["findings"].as_array().expect("findings").iter().find(|it| it["rule"] == "revoked");
    assert_eq!(finding.expect("a finding")["position"], revoked);
    assert!(proof < revoked);
}

#[tokio::test]
async fn a_change_that_was_reported_late_does_not_bring_back_what_came_between() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deployed("api", "v1", 0).await;
    story.deployed("api", "v2", 120).await;
    // It occurred before v2 came, and was told after.
    let late = story.deployed("web", "v1", 30).await;

    let plan = story.plan(wish("2026-08-01T11:00:00Z", "to-a-time")).await.ok();

    assert_eq!(plan["to"]["position"], late, "what ran then, as it is known now");
    let steps = plan["steps"].as_array().expect("steps");
    let steps: Vec<_> = steps.iter().map(|step| (&step["service"], &step["to"]["version"])).collect();
    assert_eq!(steps, [(&"api".into(), &"v1".into())]);
}

#[tokio::test]
async fn what_others_report_in_a_rollbacks_name_does_not_make_its_steps_done() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let (story, staging) = (Story::on(&client), Story::of(&client, "staging"));
    let deploys =
        |version: &str| json!({"service": "web", "release": {"version": version}, "rollback_id": "mine"});
    story.deployed("web", "v1", 1).await;
    story.tell("deploy.succeeded", 2, deploys("v1")).await;
    story.deployed("web", "v2", 3).await;
    story.request(wish("-1", "mine")).await.ok();

    staging.tell("deploy.succeeded", 4, deploys("v1")).await;
    let elsewhere = story.rollback("mine").await;
    story.tell("deploy.succeeded", 5, deploys("v7")).await;
    let other = story.rollback("mine").await;
    story.tell("deploy.succeeded", 6, deploys("v1")).await;
    let done = story.rollback("mine").await;

    let state = |rollback: &Value| text(&rollback["steps"][0]["state"]);
    assert_eq!(
        (state(&elsewhere), state(&other), state(&done)),
        ("pending".into(), "failed".into(), "done".into())
    );
}

#[tokio::test]
async fn what_only_the_ledger_says_and_what_cannot_hold_is_refused() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deployed("web", "v1", 1).await;
    let circle = json!({"policy": {"dependencies": {"a": ["b"], "b": ["a"]}}});
    let never = json!({"policy": {"automatic_rollback": {"at_most_a_day": 1}}});
    let many: serde_json::Map<String, Value> = (0..1_001).map(|n| (format!("s{n}"), json!([]))).collect();
    let mut forged = ledger_tests::event(
        "forged",
        "rollback.declined",
        "2026-08-01T10:00:00Z",
        json!({"environment": "production", "cause": 1, "reason": "No."}),
    );
    forged["source"] = "urn:release-ledger:rollback-controller".into();

    for (kind, data, status, problem) in [
        ("environment.declared", circle, 422, "invalid-policy"),
        ("environment.declared", never, 422, "invalid-policy"),
        ("environment.declared", json!({"policy": {"dependencies": many}}), 422, "invalid-event"),
        ("rollback.started", json!({"rollback_id": "none"}), 404, "unknown-rollback"),
        ("freeze.lifted", json!({"freeze_id": "none"}), 409, "freeze-mismatch"),
    ] {
        let answer = story.try_tell(kind, 2, data).await;
        assert_eq!((answer.status, answer.problem()), (status, problem), "{}", answer.text);
    }
    let answer = client.record(&forged).await;
    assert_eq!((answer.status, answer.problem()), (403, "reserved-source"), "{}", answer.text);
    let unknown = Story::of(&client, "nowhere");
    let gate = json!({"service": "web", "release": {"version": "v1"}});
    let path = "/v1/environments/nowhere/gate";
    let answer = client.post(path, "application/json", gate.to_string()).await;
    assert_eq!((answer.status, answer.problem()), (404, "unknown-environment"));
    let answer = unknown.plan(wish("latest", "nowhere")).await;
    assert_eq!((answer.status, answer.problem()), (404, "unknown-environment"));
    let before = story.plan(wish("0", "before-everything")).await.ok();
    assert!(issues(&before).contains(&("target_empty".to_owned(), "overridable".to_owned())));
    assert_eq!(client.position().await.1, 1, "nothing of it is in the ledger");
}
