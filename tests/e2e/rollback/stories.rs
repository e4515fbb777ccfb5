//! Complete scenarios: blue-green, cloud and on-premise, a barrier, a freeze, approvals, promotion.

use ledger_tests::{Servers, Service, Story, issues, rollback_request, text};
use serde_json::{Value, json};

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
async fn a_blue_green_rollback_switches_traffic_without_a_deploy() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let release_in =
        |slot: &str, version: &str| json!({"service": "web", "slot": slot, "release": {"version": version}});
    let switch_to = |slot: &str| json!({"service": "web", "slot": slot});
    story.record("deploy.succeeded", 1, release_in("blue", "v1")).await;
    story.record("traffic.switched", 2, switch_to("blue")).await;
    story.check_passed("web", "v1", "smoke", 3).await;
    story.record("deploy.succeeded", 4, release_in("green", "v2")).await;
    story.record("traffic.switched", 5, switch_to("green")).await;
    story.check_failed("web", "v2", "smoke", 6).await;

    let plan = story.plan(rollback_request("last-known-good", "back-to-blue")).await.ok();
    assert_eq!(step(&plan, 0), ("switch".into(), "blue".into(), "v2".into(), "v1".into()));
    assert_eq!(story.request(rollback_request("last-known-good", "back-to-blue")).await.status, 201);
    story.record("rollback.started", 7, json!({"rollback_id": "back-to-blue"})).await;
    let early = story.try_record("rollback.succeeded", 8, json!({"rollback_id": "back-to-blue"})).await;
    let mut switch = switch_to("blue");
    switch["rollback_id"] = "back-to-blue".into();
    story.record("traffic.switched", 9, switch).await;
    story.record("rollback.succeeded", 10, json!({"rollback_id": "back-to-blue"})).await;

    assert_eq!((early.status, early.problem()), (409, "invalid-rollback-transition"), "{}", early.text);
    assert!(early.text.contains("web at default runs v2 instead of v1"), "{}", early.text);
    let rollback = story.rollback("back-to-blue").await;
    assert_eq!((&rollback["phase"], &rollback["progress"]["done"]), (&"succeeded".into(), &1.into()));
    assert_eq!(rollback["differences"], json!([]));
    assert_eq!(story.get("state").await["digest"], plan["result_digest"]);
    // The rolled-back release is held until a person approves it.
    let gate_request = json!({"service": "web", "release": {"version": "v2"}});
    let held = story.gate(gate_request.clone()).await;
    assert_eq!((&held["allowed"], denying_rules(&held)), (&false.into(), vec!["held".to_owned()]));
    let release =
        json!({"service": "web", "release": {"version": "v2"}, "actor": {"type": "person", "name": "noa"}});
    story.record("approval.granted", 11, release).await;
    assert_eq!(story.gate(gate_request).await["allowed"], true);
}

fn denying_rules(gate: &Value) -> Vec<String> {
    let findings = gate["findings"].as_array().expect("findings").iter();
    findings.filter(|finding| finding["passes"] == false).map(|finding| text(&finding["rule"])).collect()
}

#[tokio::test]
async fn targets_are_rolled_back_in_their_order_and_drift_is_reported() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let policy = json!({"target_order": ["on-premise", "cloud"], "dependencies": {"web": ["api"]}});
    story.declare_policy(policy, 0).await;
    let runs = |service: &str, target: &str, version: &str| {
        let release = json!({"version": version});
        json!({"service": service, "target": target, "release": release})
    };
    let mut minutes = 1;
    let mut good = 0;
    for version in ["v1", "v2"] {
        for service in ["api", "web"] {
            for target in ["cloud", "on-premise"] {
                good = story.record("deploy.succeeded", minutes, runs(service, target, version)).await;
                minutes += 1;
            }
        }
        if version == "v1" {
            story.record("validation.passed", minutes, json!({"check": "smoke"})).await;
            minutes += 1;
        }
    }
    // A person rolls back on-premise without reporting it.
    let seen = json!({"complete": true, "lanes": [
        runs("api", "cloud", "v2"), runs("web", "cloud", "v2"),
        runs("api", "on-premise", "v2"), runs("web", "on-premise", "v1"),
    ]});
    let observed = story.record("environment.observed", minutes, seen.clone()).await;
    story.record("environment.observed", minutes + 5, seen).await;

    let plan = story.plan(rollback_request("last-known-good", "both")).await.ok();
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

    let waves =
        [(1, "api", "on-premise"), (2, "api", "cloud"), (3, "web", "on-premise"), (4, "web", "cloud")];
    assert_eq!(order, waves.map(|(wave, service, target)| (wave, service.to_owned(), target.to_owned())));
    assert_eq!(drift["drift"].as_array().map(Vec::len), Some(1), "{drift}");
    let lane = &drift["drift"][0];
    assert_eq!((text(&lane["service"]), text(&lane["target"])), ("web".into(), "on-premise".into()));
    assert_eq!((&lane["ledger"]["version"], &lane["seen"]["version"]), (&"v2".into(), &"v1".into()));
    assert_eq!(lane["since"]["position"], observed);
    assert_eq!(targets["uneven"], json!([]), "according to the ledger both targets run the same releases");
    assert_eq!(restricted["steps"].as_array().map(Vec::len), Some(1));
    let gauge = "ledger_drift_lanes{tenant=\"default\",environment=\"production\"}";
    client.wait_for_metric(gauge, 1.0).await;
    assert!(good > 0);
}

#[tokio::test]
async fn a_barrier_can_be_overridden_by_force_with_a_reason() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    let migrates = json!({"service": "web", "release": {"version": "v2"}, "reversible": false});
    let barrier = story.record("deploy.succeeded", 3, migrates).await;

    let plan = story.plan(rollback_request("last-known-good", "forced")).await.ok();
    let rejected = story.request(rollback_request("last-known-good", "forced")).await;
    let mut forced = rollback_request("last-known-good", "forced");
    forced["force"] = true.into();
    let accepted = story.request(forced).await;

    assert_eq!(issues(&plan), [("barrier".to_owned(), "overridable".to_owned())]);
    assert_eq!((&plan["issues"][0]["position"], &plan["blocked"]), (&barrier.into(), &true.into()));
    assert_eq!((rejected.status, rejected.problem()), (409, "rollback-blocked"), "{}", rejected.text);
    assert_eq!(rejected.body["plan"]["plan_digest"], plan["plan_digest"]);
    assert_eq!(accepted.status, 201, "{}", accepted.text);
    let rollback = story.rollback("forced").await;
    assert_eq!((&rollback["force"], &rollback["reason"]), (&true.into(), &"Customers see errors.".into()));
}

#[tokio::test]
async fn a_freeze_blocks_deploys_and_rollbacks_unless_forced() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("web", "v2", 3).await;
    let freeze = json!({"freeze_id": "year-end", "reason": "The office is closed."});
    let frozen = story.record("freeze.started", 4, freeze.clone()).await;
    let mut again = freeze.clone();
    again["reason"] = "Again.".into();
    let twice = story.try_record("freeze.started", 5, again).await;

    let gate = story.gate(json!({"service": "web", "release": {"version": "v3"}})).await;
    let plan = story.plan(rollback_request("last-known-good", "during-freeze")).await.ok();
    let during_freeze = story.deploy("web", "v3", 6).await;
    story.record("freeze.lifted", 7, json!({"freeze_id": "year-end"})).await;
    let lifted = story.gate(json!({"service": "web", "release": {"version": "v4"}})).await;

    assert_eq!((&gate["allowed"], &gate["findings"][0]["position"]), (&false.into(), &frozen.into()));
    assert_eq!(denying_rules(&gate), ["freeze"]);
    assert_eq!((twice.status, twice.problem()), (409, "freeze-mismatch"), "{}", twice.text);
    assert_eq!(issues(&plan), [("freeze".to_owned(), "overridable".to_owned())]);
    let entry = client.get(&format!("/v1/events/{during_freeze}")).await.ok();
    assert_eq!(entry["anomalies"], json!(["during_freeze"]), "the event is marked and recorded");
    assert_eq!(lifted["allowed"], true);
}

#[tokio::test]
async fn a_rollback_needs_the_approval_of_another_person() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.declare_policy(json!({"approvals": 1}), 0).await;
    story.deploy("web", "v1", 1).await;
    story.check_passed("web", "v1", "smoke", 2).await;
    story.deploy("web", "v2", 3).await;
    assert_eq!(story.request(rollback_request("last-known-good", "careful")).await.status, 201);
    let by = |name: &str| json!({"rollback_id": "careful", "actor": {"type": "person", "name": name}});

    let early = story.try_record("rollback.started", 4, json!({"rollback_id": "careful"})).await;
    let own = story.try_record("approval.granted", 5, by("mia")).await;
    story.record("approval.granted", 6, by("noa")).await;
    let approved = story.rollback("careful").await;
    story.record("rollback.started", 7, json!({"rollback_id": "careful"})).await;
    let late = story.try_record("approval.granted", 8, by("tom")).await;
    story.record("rollback.cancelled", 9, json!({"rollback_id": "careful", "reason": "Not needed."})).await;
    let over = story.try_record("rollback.cancelled", 10, json!({"rollback_id": "careful"})).await;

    assert_eq!((early.status, early.problem()), (409, "invalid-rollback-transition"), "{}", early.text);
    assert!(early.text.contains("0 of 1 approvals"), "{}", early.text);
    assert_eq!((own.status, own.problem()), (403, "self-approval"), "{}", own.text);
    assert_eq!((&approved["approvals"]["wanted"], &approved["approvals"]["granted"]), (&1.into(), &1.into()));
    assert_eq!((late.status, over.status), (409, 409));
    assert_eq!(story.rollback("careful").await["phase"], "cancelled");
}

#[tokio::test]
async fn the_gate_requires_promotion_and_denies_revoked_artifacts() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let (production, staging) = (Story::on(&client), Story::of(&client, "staging"));
    production.declare_policy(json!({"promotion": {"from": ["staging"]}, "approvals": 1}), 0).await;
    staging.declare_policy(json!({"required_validations": ["e2e"]}), 0).await;
    let artifact = "pkg:oci/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let release = json!({"version": "v1", "artifact": artifact});
    let person = json!({"type": "person", "name": "mia"});
    let gate_request = json!({"service": "web", "release": release, "requester": person, "new": true});
    let by =
        |name: &str| json!({"service": "web", "release": release, "actor": {"type": "person", "name": name}});

    let unknown = production.gate(gate_request.clone()).await;
    staging.deploy("web", "v1", 1).await;
    production.record("approval.granted", 2, by("mia")).await;
    let unchecked = production.gate(gate_request.clone()).await;
    let evidence = staging.check_passed("web", "v1", "e2e", 3).await;
    let own = production.gate(gate_request.clone()).await;
    production.record("approval.granted", 4, by("noa")).await;
    let allowed = production.gate(gate_request.clone()).await;
    let revoked =
        production.record("artifact.revoked", 5, json!({"artifact": artifact, "reason": "CVE"})).await;
    let after_revocation = production.gate(gate_request).await;

    assert_eq!(denying_rules(&unknown), ["promotion", "approvals"]);
    assert_eq!(denying_rules(&unchecked), ["promotion", "approvals"], "{unchecked}");
    assert_eq!(denying_rules(&own), ["approvals"], "the requester's own approval does not count: {own}");
    assert_eq!((&allowed["allowed"], denying_rules(&allowed)), (&true.into(), vec![]));
    assert_eq!(denying_rules(&after_revocation), ["revoked"]);
    let mut findings = after_revocation["findings"].as_array().expect("findings").iter();
    let finding = findings.find(|finding| finding["rule"] == "revoked");
    assert_eq!(finding.expect("a finding")["position"], revoked);
    assert!(evidence < revoked);
}

#[tokio::test]
async fn a_check_after_a_late_deploy_is_evidence_for_the_late_release() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let (production, staging) = (Story::on(&client), Story::of(&client, "staging"));
    production.declare_policy(json!({"promotion": {"from": ["staging"]}}), 0).await;
    staging.declare_policy(json!({"required_validations": ["smoke"]}), 0).await;
    staging.deploy("web", "v1", 30).await;
    staging.deploy("web", "v2", 41).await;
    // This deploy occurred before v2 of web and is recorded after it. The check ran while both were live.
    staging.deploy("api", "v3", 38).await;
    staging.record("validation.passed", 50, json!({"check": "smoke"})).await;

    let answer = production.gate(json!({"service": "api", "release": {"version": "v3"}, "new": true})).await;

    assert_eq!((&answer["allowed"], denying_rules(&answer)), (&true.into(), vec![]), "{answer}");
}

#[tokio::test]
async fn a_rollback_to_a_time_uses_the_state_at_that_time_even_after_a_late_change() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("api", "v1", 0).await;
    story.deploy("api", "v2", 120).await;
    // This deploy occurred before v2 of api and is recorded after it.
    let late = story.deploy("web", "v1", 30).await;

    let plan = story.plan(rollback_request("2026-08-01T11:00:00Z", "to-a-time")).await.ok();

    assert_eq!(plan["to"]["position"], late, "the state at that time as known now");
    let steps = plan["steps"].as_array().expect("steps");
    let steps: Vec<_> = steps.iter().map(|step| (&step["service"], &step["to"]["version"])).collect();
    assert_eq!(steps, [(&"api".into(), &"v1".into())]);
}

#[tokio::test]
async fn unrelated_events_with_a_rollback_id_do_not_complete_its_steps() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let (story, staging) = (Story::on(&client), Story::of(&client, "staging"));
    let deploys =
        |version: &str| json!({"service": "web", "release": {"version": version}, "rollback_id": "mine"});
    story.deploy("web", "v1", 1).await;
    story.record("deploy.succeeded", 2, deploys("v1")).await;
    story.deploy("web", "v2", 3).await;
    story.request(rollback_request("-1", "mine")).await.ok();

    staging.record("deploy.succeeded", 4, deploys("v1")).await;
    let elsewhere = story.rollback("mine").await;
    story.record("deploy.succeeded", 5, deploys("v7")).await;
    let other = story.rollback("mine").await;
    story.record("deploy.succeeded", 6, deploys("v1")).await;
    let done = story.rollback("mine").await;

    let state = |rollback: &Value| text(&rollback["steps"][0]["state"]);
    assert_eq!(
        (state(&elsewhere), state(&other), state(&done)),
        ("pending".into(), "failed".into(), "done".into())
    );
}

#[tokio::test]
async fn reserved_and_contradictory_events_are_rejected() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    story.deploy("web", "v1", 1).await;
    let circle = json!({"policy": {"dependencies": {"a": ["b"], "b": ["a"]}}});
    let incomplete = json!({"policy": {"automatic_rollback": {"at_most_a_day": 1}}});
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
        ("environment.declared", incomplete, 422, "invalid-policy"),
        ("environment.declared", json!({"policy": {"dependencies": many}}), 422, "invalid-event"),
        ("rollback.started", json!({"rollback_id": "none"}), 404, "unknown-rollback"),
        ("freeze.lifted", json!({"freeze_id": "none"}), 409, "freeze-mismatch"),
    ] {
        let response = story.try_record(kind, 2, data).await;
        assert_eq!((response.status, response.problem()), (status, problem), "{}", response.text);
    }
    let response = client.record(&forged).await;
    assert_eq!((response.status, response.problem()), (403, "reserved-source"), "{}", response.text);
    let unknown = Story::of(&client, "nowhere");
    let gate = json!({"service": "web", "release": {"version": "v1"}});
    let path = "/v1/environments/nowhere/gate";
    let response = client.post(path, "application/json", gate.to_string()).await;
    assert_eq!((response.status, response.problem()), (404, "unknown-environment"));
    let response = unknown.plan(rollback_request("latest", "nowhere")).await;
    assert_eq!((response.status, response.problem()), (404, "unknown-environment"));
    let before = story.plan(rollback_request("0", "before-everything")).await.ok();
    assert!(issues(&before).contains(&("target_empty".to_owned(), "overridable".to_owned())));
    assert_eq!(client.positions().await.1, 1, "none of them is recorded");
}
