//! Examples of the rules of decision 0015, as far as the model implements them.

mod artifacts;
mod returns;

use serde_json::{Value, json};

use crate::entry::{Entry, Release, artifact_identity, matches, micros, same_artifact};
use crate::gate::GateRequest;
use crate::lanes::Model;

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// Returns the time this many minutes after ten o'clock.
fn minute(minutes: i64) -> i64 {
    micros("2026-05-01T10:00:00Z") + minutes * 60_000_000
}

/// Builds a model from minutes, kinds and data. Events without an environment are in production.
fn history(events: &[(i64, &str, Value)]) -> Model {
    let entry = |(position, (minutes, kind, data)): (u64, &(i64, &str, Value))| {
        let mut data = data.clone();
        if data.get("environment").is_none()
            && !kind.starts_with("artifact")
            && data.get("artifact").is_none()
        {
            data["environment"] = "production".into();
        }
        Entry {
            position,
            occurred_at: minute(*minutes),
            kind: (*kind).to_owned(),
            source: "urn:test".into(),
            id: format!("e{position}"),
            data,
        }
    };
    Model::new((1..).zip(events).map(entry).collect())
}

fn deployed(minutes: i64, service: &str, version: &str) -> (i64, &'static str, Value) {
    (minutes, "deploy.succeeded", json!({"service": service, "release": {"version": version}}))
}

fn slot(minutes: i64, slot: &str, version: &str) -> (i64, &'static str, Value) {
    let data = json!({"service": "web", "slot": slot, "release": {"version": version}});
    (minutes, "deploy.succeeded", data)
}

fn switched(minutes: i64, slot: &str) -> (i64, &'static str, Value) {
    (minutes, "traffic.switched", json!({"service": "web", "slot": slot}))
}

fn removed(minutes: i64, service: &str) -> (i64, &'static str, Value) {
    (minutes, "deploy.removed", json!({"service": service}))
}

fn checked(minutes: i64, passed: bool, data: Value) -> (i64, &'static str, Value) {
    (minutes, if passed { "validation.passed" } else { "validation.failed" }, data)
}

fn declared(policy: Value) -> (i64, &'static str, Value) {
    (0, "environment.declared", json!({"policy": policy}))
}

fn built(minutes: i64, version: &str, artifact: &str) -> (i64, &'static str, Value) {
    (minutes, "artifact.built", json!({"version": version, "artifact": artifact}))
}

fn runs(model: &Model, k: u64) -> Vec<String> {
    let state = model.state_at("production", k);
    state.lanes.iter().map(|lane| format!("{} {}", lane.service, lane.live.release.version)).collect()
}

fn runs_now(model: &Model) -> Vec<String> {
    runs(model, model.head())
}

fn anomalies(model: &Model, position: u64) -> Vec<&'static str> {
    model.anomalies(model.entry_at(position).expect("there is an entry"))
}

/// Returns the statuses of the recorded points, in order, long after the last event.
fn statuses(model: &Model) -> Vec<&'static str> {
    let points = model.points("production", model.head());
    points.iter().map(|point| model.status("production", point, minute(100_000), model.head())).collect()
}

fn failed_rules(model: &Model, service: &str, release: Value) -> Vec<&'static str> {
    let request = GateRequest {
        environment: "production".into(),
        service: service.into(),
        target: None,
        release,
        requester: Some(json!({"type": "person", "name": "noa"})),
        rollback_id: None,
    };
    model.failed_rules(&request, minute(100_000), model.head())
}

fn release_with_artifact(artifact: &str) -> Value {
    json!({"version": "v1", "artifact": artifact})
}

#[test]
fn a1_a_point_without_lanes_is_empty_and_never_the_last_known_good() {
    let model = history(&[
        deployed(1, "web", "v1"),
        removed(2, "web"),
        checked(3, true, json!({"check": "smoke"})),
        deployed(4, "web", "v2"),
    ]);

    assert_eq!(statuses(&model), ["candidate", "empty", "candidate"]);
    assert_eq!(model.last_known_good("production", minute(100), model.head()), None);
    assert_eq!(model.issues("production", 2, &model.plan("production", 2, 4), 4), ["target_empty"]);
}

#[test]
fn a1_a_person_can_mark_an_empty_point() {
    let mark = json!({"position": 2, "status": "known_good", "reason": "Closed."});
    let model = history(&[deployed(1, "web", "v1"), removed(2, "web"), (3, "release_point.marked", mark)]);

    assert_eq!(statuses(&model), ["candidate", "known_good"]);
}

#[test]
fn a2_a_switch_to_an_unknown_slot_is_pending_and_the_lane_keeps_its_release() {
    let model = history(&[deployed(50, "web", "v1"), switched(61, "green"), slot(60, "green", "v2")]);

    assert_eq!(runs(&model, 2), ["web v1"]);
    assert_eq!(runs(&model, 3), ["web v2"]);
    assert_eq!(anomalies(&model, 2), ["switch_pending"]);
    let later = history(&[deployed(50, "web", "v1"), switched(61, "green"), slot(62, "green", "v2")]);
    assert_eq!(runs_now(&later), ["web v2"]);
    let live = later.live(["production", "web", "default"], (minute(61), 9), 3);
    assert_eq!(live.expect("live").release.version, "v1");
}

#[test]
fn a2_a_switch_to_an_empty_slot_changes_nothing() {
    let model = history(&[
        slot(1, "blue", "v1"),
        switched(2, "blue"),
        slot(3, "green", "v2"),
        (4, "deploy.removed", json!({"service": "web", "slot": "green"})),
        switched(5, "green"),
        slot(6, "green", "v3"),
    ]);

    assert_eq!(anomalies(&model, 5), ["switched_to_empty_slot"]);
    assert_eq!(runs_now(&model), ["web v1"]);
}

#[test]
fn a3_a_removed_lane_has_no_slot_to_switch_to() {
    let model =
        history(&[slot(1, "blue", "v1"), switched(2, "blue"), removed(3, "web"), switched(4, "blue")]);

    assert_eq!(runs_now(&model), Vec::<String>::new());
    assert_eq!(anomalies(&model, 4), ["switched_to_empty_slot"]);
    assert_eq!(model.plan("production", 2, 4)[0].action, "add");
}

#[test]
fn b5_a_failed_check_of_the_environment_does_not_count_against_its_lanes() {
    let model = history(&[
        declared(json!({"required_validations": ["e2e"]})),
        deployed(1, "api", "v1"),
        deployed(2, "web", "v1"),
        checked(3, true, json!({"check": "e2e"})),
        deployed(4, "web", "v2"),
        checked(5, false, json!({"check": "e2e"})),
    ]);

    assert_eq!(statuses(&model), ["candidate", "known_good", "bad"]);
    assert_eq!(model.last_known_good("production", minute(100), 6), Some(3));
}

#[test]
fn b5_a_composition_that_returns_keeps_its_check_results() {
    let model = history(&[
        deployed(1, "web", "v1"),
        checked(2, true, json!({"check": "e2e"})),
        deployed(3, "web", "v2"),
        deployed(4, "web", "v1"),
    ]);

    assert_eq!(statuses(&model), ["known_good", "candidate", "known_good"]);
}

#[test]
fn b7_a_check_that_straddles_a_change_is_void() {
    let web = json!({"service": "web", "check": "smoke"});
    let model = history(&[
        deployed(1, "web", "v1"),
        (2, "validation.started", web.clone()),
        deployed(3, "web", "v2"),
        checked(4, true, web.clone()),
        checked(5, true, web.clone()),
    ]);
    let straddling = history(&[
        deployed(1, "web", "v1"),
        (2, "validation.started", json!({"check": "e2e", "run": "r1"})),
        deployed(3, "web", "v2"),
        checked(4, false, json!({"check": "e2e", "run": "r1"})),
    ]);

    assert_eq!(anomalies(&model, 4), ["straddles_change"]);
    assert_eq!(anomalies(&model, 5), Vec::<&str>::new());
    assert_eq!(statuses(&model), ["candidate", "known_good"]);
    assert_eq!(anomalies(&straddling, 4), ["straddles_change"]);
    assert_eq!(statuses(&straddling), ["candidate", "candidate"]);
}

#[test]
fn b7_a_check_of_a_release_straddles_only_if_the_release_stayed_on_no_track() {
    let check = json!({"service": "web", "release": {"version": "v2"}, "check": "smoke"});
    let idle = history(&[
        slot(1, "blue", "v1"),
        switched(2, "blue"),
        slot(3, "green", "v2"),
        (4, "validation.started", check.clone()),
        switched(5, "green"),
        checked(6, true, check.clone()),
    ]);
    let moved = history(&[
        deployed(1, "web", "v1"),
        (2, "validation.started", check.clone()),
        deployed(3, "web", "v2"),
        checked(4, true, check),
    ]);

    assert_eq!(anomalies(&idle, 6), Vec::<&str>::new());
    assert_eq!(statuses(&idle), ["candidate", "known_good"]);
    assert_eq!(anomalies(&moved, 4), ["straddles_change"]);
}

#[test]
fn b8_a_pass_with_contradicting_counts_is_void() {
    let check =
        |counts: Value| checked(2, true, json!({"service": "web", "check": "smoke", "counts": counts}));
    for (counts, is_contradiction) in [
        (json!({"passed": 5, "failed": 1}), true),
        (json!({"skipped": 3}), true),
        (json!({"passed": 5}), false),
    ] {
        let model = history(&[deployed(1, "web", "v1"), check(counts)]);

        assert_eq!(anomalies(&model, 2) == ["counts_contradict"], is_contradiction);
        assert_eq!(statuses(&model) == ["candidate"], is_contradiction);
    }
}

#[test]
fn b9_a_bad_mark_applies_to_a_returning_composition_until_it_is_revoked() {
    let mark = json!({"position": 1, "status": "bad", "reason": "Loses orders."});
    let mut events = vec![
        deployed(1, "web", "v1"),
        checked(2, true, json!({"check": "e2e"})),
        (3, "release_point.marked", mark),
        deployed(4, "web", "v2"),
        deployed(5, "web", "v1"),
    ];
    let marked = history(&events);
    events.push((6, "release_point.revoked", json!({"position": 5, "reason": "It was another service."})));
    let revoked = history(&events);

    assert_eq!(statuses(&marked), ["bad", "candidate", "bad"]);
    assert_eq!(statuses(&revoked), ["known_good", "candidate", "known_good"]);
}

#[test]
fn b9_a_later_failure_outranks_a_good_mark() {
    let mark = json!({"position": 1, "status": "known_good", "reason": "Watched it."});
    let events = [
        deployed(1, "web", "v1"),
        (2, "release_point.marked", mark),
        checked(3, false, json!({"check": "e2e"})),
    ];
    let model = history(&events);
    let mut required = vec![declared(json!({"required_validations": ["e2e"]}))];
    required.extend(events);
    required[2].2["position"] = 2.into();

    assert_eq!(statuses(&model), ["candidate"]);
    assert_eq!(statuses(&history(&required)), ["bad"]);
}

#[test]
fn b10_a_report_without_a_target_is_for_the_only_target_of_the_service() {
    let named = |minutes, target: &str| {
        let data = json!({"service": "web", "target": target, "release": {"version": "v1"}});
        (minutes, "deploy.succeeded", data)
    };
    let one = history(&[named(1, "eu"), deployed(2, "web", "v2")]);
    let two = history(&[named(1, "eu"), named(2, "us"), deployed(3, "web", "v2")]);

    assert_eq!(one.state_at("production", 2).lanes[0].target, "eu");
    assert_eq!(runs_now(&one), ["web v2"]);
    assert_eq!(runs_now(&two), ["web v1", "web v1"]);
    assert_eq!(anomalies(&two, 3), ["ambiguous_target"]);
    assert_eq!(history(&[deployed(1, "web", "v1")]).state_at("production", 1).lanes[0].target, "default");
}

#[test]
fn b10_a_check_without_a_target_applies_to_all_lanes_of_the_service() {
    let named = |minutes, target: &str, version: &str| {
        let data = json!({"service": "web", "target": target, "release": {"version": version}});
        (minutes, "deploy.succeeded", data)
    };
    let model = history(&[
        declared(json!({"required_validations": ["smoke"]})),
        named(1, "eu", "v1"),
        named(2, "us", "v1"),
        checked(3, true, json!({"service": "web", "check": "smoke"})),
    ]);

    assert_eq!(statuses(&model), ["known_good", "known_good"]);
}

#[test]
fn c11_all_spellings_of_an_artifact_are_equal() {
    let spellings = [
        format!("pkg:oci/web@{D1}"),
        format!("registry.example/web@{D1}"),
        D1.to_owned(),
        format!("pkg:oci/web@{}", D1.replace(':', "%3A")),
        format!("pkg:oci/web@{D1}?repository_url=registry.example"),
        format!("pkg:npm/web@1.0.0?checksum={D1}"),
    ];
    for revoked in &spellings {
        let model = history(&[
            deployed(1, "web", "v0"),
            (2, "artifact.revoked", json!({"artifact": revoked, "reason": "Leaks."})),
        ]);
        for spelling in &spellings {
            assert_eq!(
                failed_rules(&model, "web", release_with_artifact(spelling)),
                ["revoked"],
                "{revoked} {spelling}"
            );
        }
        assert!(failed_rules(&model, "web", release_with_artifact(D2)).is_empty());
    }
    assert!(same_artifact("pkg:npm/web@1.0.0", &format!("pkg:npm/web@1.0.0?checksum={D1}")));
    assert_ne!(artifact_identity("pkg:npm/web@1.0.0"), artifact_identity("pkg:npm/web@1.0.1"));
}

#[test]
fn c11_promotion_recognizes_an_artifact_in_another_registry() {
    let staging = json!({"environment": "staging", "service": "web",
        "release": {"version": "v1", "artifact": format!("staging.example/web@{D1}")}});
    let model = history(&[
        declared(json!({"promotion": {"from": ["staging"]}})),
        (1, "deploy.succeeded", staging),
        checked(2, true, json!({"environment": "staging", "service": "web", "check": "smoke"})),
    ]);

    assert!(failed_rules(&model, "web", release_with_artifact(&format!("prod.example/web@{D1}"))).is_empty());
    assert_eq!(failed_rules(&model, "web", release_with_artifact(D2)), ["promotion"]);
    assert_eq!(failed_rules(&model, "web", json!({"version": "v2"})), ["promotion"]);
}

#[test]
fn c12_the_running_release_may_state_more_than_the_wanted_one() {
    let wanted = Release::of(&json!({"version": "v1"}));
    let running = Release::of(&json!({"version": "v1", "commit": "c1", "artifact": D1}));

    assert!(matches(&wanted, &running));
    assert!(!matches(&running, &wanted));
}

/// Returns the request at 10:10 and the start of a rollback from the first release to the second.
fn rollback(id: &str, from: Value, to: Value) -> [(i64, &'static str, Value); 2] {
    let step = json!({"wave": 1, "service": "web", "target": "default", "action": "redeploy", "from": from, "to": to});
    let request = json!({
        "rollback_id": id, "to": 1, "plan": {"from": 2, "steps": [step]},
        "initiated_by": {"type": "person", "name": "mira"}, "reason": "Errors.",
    });
    [(10, "rollback.requested", request), (11, "rollback.started", json!({"rollback_id": id}))]
}

fn ended(id: &str) -> (i64, &'static str, Value) {
    (13, "rollback.succeeded", json!({"rollback_id": id}))
}

#[test]
fn c13_a_hold_compares_only_the_parts_that_the_rollback_changed() {
    let config = |config: &str| json!({"version": "v1", "config": config});
    let deploy = |minutes, config: &str| {
        let release = json!({"version": "v1", "config": config});
        (minutes, "deploy.succeeded", json!({"service": "web", "release": release}))
    };
    let mut events = vec![deploy(1, D1), deploy(2, D2)];
    events.extend(rollback("r1", config(D2), config(D1)));
    events.extend([deploy(12, D1), ended("r1")]);
    let model = history(&events);

    assert!(failed_rules(&model, "web", config(D1)).is_empty());
    assert_eq!(failed_rules(&model, "web", config(D2)), ["held"]);
    assert!(failed_rules(&model, "web", config(&D1.replace('1', "3"))).is_empty());
}

#[test]
fn c13_a_hold_ends_with_a_grant_a_later_rollback_or_a_third_release() {
    let v = |version: &str| json!({"version": version});
    let mut events = vec![deployed(1, "web", "v1"), deployed(2, "web", "v2")];
    events.extend(rollback("r1", v("v2"), v("v1")));
    events.extend([deployed(12, "web", "v1"), ended("r1")]);
    let person = json!({"type": "person", "name": "noa"});
    let workload = json!({"type": "workload", "name": "ci"});
    let grant = |actor: &Value| {
        (20, "approval.granted", json!({"service": "web", "release": v("v2"), "actor": actor}))
    };
    let with = |more: &[(i64, &'static str, Value)]| {
        let mut events = events.clone();
        events.extend(more.iter().cloned());
        failed_rules(&history(&events), "web", v("v2"))
    };

    assert_eq!(with(&[]), ["held"]);
    assert_eq!(with(&[deployed(20, "web", "v1")]), ["held"]);
    assert_eq!(with(&[deployed(5, "web", "v3")]), ["held"]);
    assert_eq!(with(&[(20, "deploy.failed", json!({"service": "web", "release": v("v3")}))]), ["held"]);
    assert_eq!(with(&[grant(&workload)]), ["held"]);
    assert!(with(&[grant(&person)]).is_empty());
    assert!(with(&[deployed(20, "web", "v3")]).is_empty());
    let mut back = rollback("r2", v("v1"), v("v2")).to_vec();
    back.push(ended("r2"));
    assert!(with(&back).is_empty());
}

#[test]
fn c14_promotion_requires_every_target_unless_the_policy_says_any() {
    let at = |minutes, target: &str| {
        let data = json!({"environment": "staging", "service": "web", "target": target, "release": {"version": "v1"}});
        (minutes, "deploy.succeeded", data)
    };
    let check = json!({"environment": "staging", "service": "web", "target": "eu", "check": "smoke"});
    let events = |promotion: Value| {
        vec![
            declared(json!({"promotion": promotion})),
            at(1, "eu"),
            at(2, "us"),
            checked(3, true, check.clone()),
        ]
    };
    let all = history(&events(json!({"from": ["staging"]})));
    let any = history(&events(json!({"from": ["staging"], "targets": "any"})));

    assert_eq!(failed_rules(&all, "web", json!({"version": "v1"})), ["promotion"]);
    assert!(failed_rules(&any, "web", json!({"version": "v1"})).is_empty());
}

#[test]
fn c15_a_grant_is_by_a_person_for_the_artifact_of_its_time_and_can_be_used_up() {
    let grant = |actor: Value, more: Value| {
        let mut data = json!({"service": "web", "release": {"version": "v1"}, "actor": actor});
        data.as_object_mut()
            .expect("the data is an object")
            .extend(more.as_object().expect("the data is an object").clone());
        (5, "approval.granted", data)
    };
    let mira = json!({"type": "person", "name": "Mira"});
    let build = |minutes, digest: &str| built(minutes, "v1", &format!("pkg:oci/web@{digest}"));
    let failed = |events: Vec<(i64, &'static str, Value)>, digest: &str| {
        let mut all = vec![declared(json!({"approvals": 1})), build(1, D1)];
        all.extend(events);
        failed_rules(&history(&all), "web", release_with_artifact(digest))
    };
    let runs = |minutes, digest: &str| {
        (minutes, "deploy.succeeded", json!({"service": "web", "release": release_with_artifact(digest)}))
    };
    let none = || json!({});

    assert_eq!(failed(vec![], D1), ["approvals"]);
    assert!(failed(vec![grant(mira.clone(), none())], D1).is_empty());
    assert_eq!(failed(vec![grant(json!({"type": "workload", "name": "ci"}), none())], D1), ["approvals"]);
    assert_eq!(failed(vec![grant(mira.clone(), none()), build(6, D2)], D2), ["approvals"]);
    let expiry = json!({"expires_at": "2026-05-01T11:00:00Z"});
    assert_eq!(failed(vec![grant(mira.clone(), expiry)], D1), ["approvals"]);
    assert!(failed(vec![grant(mira.clone(), none()), runs(6, D1)], D1).is_empty());
    assert_eq!(failed(vec![grant(mira, none()), runs(6, D1), runs(7, D2)], D1), ["approvals"]);
}

#[test]
fn d16_the_state_and_the_point_at_a_time_agree() {
    let model = history(&[deployed(120, "api", "v1"), deployed(60, "web", "v1")]);
    let half_past = model.state("production", (minute(90), u64::MAX), 2);
    let point = model.point_at_time("production", minute(90), 2).expect("there is a point");

    assert_eq!(half_past.lanes.len(), 1);
    assert_eq!(half_past.identity(), point.state.identity());
    assert!(model.state("production", (minute(90), u64::MAX), 1).lanes.is_empty());
}

#[test]
fn d17_a_report_is_late_if_its_lane_had_a_later_change_when_it_was_recorded() {
    let model = history(&[deployed(2, "web", "v2"), deployed(1, "web", "v1"), deployed(1, "api", "v1")]);

    assert_eq!(anomalies(&model, 2), ["late"]);
    assert_eq!(anomalies(&model, 3), Vec::<&str>::new());
    assert_eq!(runs_now(&model), ["api v1", "web v2"]);
}

#[test]
fn d18_a_deploy_during_a_freeze_is_marked_in_any_order_of_recording() {
    let model = history(&[
        deployed(6, "web", "v1"),
        (5, "freeze.started", json!({"freeze_id": "f1"})),
        deployed(4, "web", "v0"),
        (8, "freeze.lifted", json!({"freeze_id": "f1"})),
        deployed(7, "api", "v1"),
        deployed(8, "api", "v2"),
    ]);

    let frozen: Vec<u64> = (1..=6).filter(|k| anomalies(&model, *k).contains(&"during_freeze")).collect();
    assert_eq!(frozen, [1, 5]);
    assert!(failed_rules(&model, "web", json!({"version": "v2"})).is_empty());
}

#[test]
fn e23_a_failed_irreversible_deploy_is_a_barrier() {
    let irreversible =
        |kind| (3, kind, json!({"service": "web", "release": {"version": "v2"}, "reversible": false}));
    for kind in ["deploy.succeeded", "deploy.failed"] {
        let model = history(&[deployed(1, "web", "v1"), deployed(2, "web", "v2"), irreversible(kind)]);
        let steps = model.plan("production", 1, 3);

        assert_eq!(model.issues("production", 1, &steps, 3), ["barrier"]);
    }
}

#[test]
fn e24_a_retired_environment_has_no_lanes_until_it_is_declared_again() {
    let declare = |minutes| (minutes, "environment.declared", json!({"policy": {}}));
    let model = history(&[
        deployed(1, "web", "v1"),
        (2, "environment.retired", json!({})),
        deployed(3, "web", "v2"),
        declare(4),
        deployed(5, "web", "v3"),
    ]);

    assert_eq!(runs(&model, 1), ["web v1"]);
    assert!(runs(&model, 3).is_empty());
    assert!(runs(&model, 4).is_empty());
    assert_eq!(runs(&model, 5), ["web v3"]);
    assert_eq!(anomalies(&model, 3), ["environment_retired"]);
    assert_eq!(model.state("production", (minute(1), u64::MAX), 5).lanes.len(), 1);
    let retired = history(&[deployed(1, "web", "v1"), (2, "environment.retired", json!({}))]);
    assert_eq!(failed_rules(&retired, "web", json!({"version": "v1"})), ["retired"]);
}

#[test]
fn f32_a_correction_replaces_an_event_from_its_own_position_on() {
    let mut fixed = deployed(2, "web", "v2");
    fixed.2["corrects"] = json!({"source": "urn:test", "id": "e1"});
    let mut nothing = deployed(3, "api", "v1");
    nothing.2["corrects"] = json!({"source": "urn:test", "id": "unknown"});
    let model = history(&[deployed(1, "web", "v1"), fixed, nothing]);

    assert_eq!(runs(&model, 1), ["web v1"]);
    assert_eq!(runs(&model, 3), ["api v1", "web v2"]);
    assert!(model.state("production", (minute(1), u64::MAX), 3).lanes.is_empty());
    assert_eq!(anomalies(&model, 3), ["corrects_nothing"]);
}

#[test]
fn f32_a_reinstated_artifact_passes_the_gate() {
    let model = history(&[
        deployed(1, "web", "v0"),
        (2, "artifact.revoked", json!({"artifact": D1, "reason": "Leaks."})),
        (3, "artifact.reinstated", json!({"artifact": format!("pkg:oci/web@{D1}")})),
    ]);

    assert!(failed_rules(&model, "web", release_with_artifact(D1)).is_empty());
}

#[test]
fn a_plan_switches_to_a_slot_that_still_has_the_release() {
    let model =
        history(&[slot(1, "blue", "v1"), switched(2, "blue"), slot(3, "green", "v2"), switched(4, "green")]);
    let steps = model.plan("production", 2, 4);

    assert_eq!((steps[0].action, &*steps[0].slots), ("switch", &["blue".to_owned()][..]));
}
