//! Whether a rollback may start, whether a step may be carried out, and whether the rollback has succeeded.

use std::collections::BTreeSet;

use super::*;
use crate::Artifact;
use crate::plan_issue::{Revocations, RevokedArtifact};

fn problems(plan: &Plan, present: &Lanes, acknowledged: &[&str]) -> Vec<String> {
    let acknowledge: BTreeSet<_> = acknowledged.iter().map(|name| (service(name), target("eu"))).collect();
    let problems = start(plan, present, Revocations::default(), &acknowledge);
    problems.iter().map(ToString::to_string).collect()
}

/// v1 stands in blue, v2 is live in green.
fn in_slots() -> Vec<(&'static str, Track, Effect)> {
    vec![
        ("web", Track::Slot(slot("blue")), Effect::Deployed(release("v1"))),
        ("web", Track::Slot(slot("green")), Effect::Deployed(release("v2"))),
        ("web", Track::Traffic, Effect::SwitchedTo(slot("green"))),
    ]
}

fn switch_to_blue() -> Step {
    let slot = Some(slot("blue"));
    Step { slot, ..step("web", Action::Switch, Some(release("v2")), Some(release("v1"))) }
}

#[test]
fn a_rollback_starts_where_its_lanes_run_what_it_was_planned_from() {
    assert_eq!(problems(&back(&["web"]), &running(&[("web", "v2")]), &[]), [""; 0]);
    let more = lanes(&[("web", Track::Traffic, Effect::Deployed(built("v2")))]);
    assert_eq!(problems(&back(&["web"]), &more, &[]), [""; 0]);
    let add = plan(vec![step("api", Action::Add, None, Some(release("v1")))]);
    assert_eq!(problems(&add, &running(&[("web", "v2")]), &[]), [""; 0]);
}

#[test]
fn rule_20_a_lane_that_runs_something_else_now_is_a_problem_unless_it_is_acknowledged() {
    let plan = back(&["api", "web"]);
    let present = running(&[("api", "v2"), ("web", "v3")]);
    assert_eq!(problems(&plan, &present, &[]), ["web at eu runs v3 instead of v2"]);
    assert_eq!(problems(&plan, &present, &["api"]), ["web at eu runs v3 instead of v2"]);
    assert_eq!(problems(&plan, &present, &["web"]), [""; 0]);
    let gone = running(&[("api", "v2")]);
    assert_eq!(problems(&plan, &gone, &[]), ["web at eu runs nothing instead of v2"]);
}

#[test]
fn rule_20_a_slot_that_was_removed_after_the_request_stops_the_start_and_the_step() {
    let plan = plan(vec![switch_to_blue()]);
    let mut changes = in_slots();
    assert_eq!(problems(&plan, &lanes(&changes), &[]), [""; 0]);
    changes.push(("web", Track::Slot(slot("blue")), Effect::Removed));
    let gone = ["slot blue of web at eu no longer holds the release"];
    assert_eq!(problems(&plan, &lanes(&changes), &[]), gone);
    // No acknowledgement makes traffic reach an empty slot.
    assert_eq!(problems(&plan, &lanes(&changes), &["web"]), gone);
    let claim = step_claim(&plan.steps[0], &lanes(&changes), Revocations::default());
    assert_eq!(claim.iter().map(StartProblem::name).collect::<Vec<_>>(), ["slot_gone"]);
}

#[test]
fn rule_20_a_slot_that_holds_another_release_now_is_gone() {
    let mut changes = in_slots();
    changes.push(("web", Track::Slot(slot("blue")), Effect::Deployed(release("v9"))));
    assert_eq!(problems(&plan(vec![switch_to_blue()]), &lanes(&changes), &[]).len(), 1);
}

#[test]
fn rule_20_an_artifact_that_was_revoked_after_the_request_stops_the_start_and_the_step() {
    let to = built("v1");
    let plan = plan(vec![step("web", Action::Redeploy, Some(release("v2")), Some(to))]);
    let present = running(&[("web", "v2")]);
    let artifact = Artifact::parse("pkg:GENERIC/web@v1").expect("an artifact");
    let revoked = [RevokedArtifact { artifact, deleted: false, position: Position::new(30) }];
    let revocations = Revocations { revoked: &revoked, meant: None };
    let acknowledged = BTreeSet::from([(service("web"), target("eu"))]);
    let problems = start(&plan, &present, revocations, &acknowledged);
    let [problem] = &problems[..] else { panic!("one problem, not {problems:?}") };
    assert_eq!(problem.to_string(), "pkg:GENERIC/web@v1 of web at eu is revoked (position 30)");
    assert_eq!(problem.lane(), (&service("web"), &target("eu")));
    assert_eq!(step_claim(&plan.steps[0], &present, revocations), problems);
}

#[test]
fn a_claim_does_not_ask_what_the_lane_runs_now() {
    let plan = back(&["web"]);
    assert_eq!(step_claim(&plan.steps[0], &running(&[("web", "v3")]), Revocations::default()), []);
}

#[test]
fn rule_12_a_rollback_has_succeeded_though_the_running_release_knows_more() {
    let present = lanes(&[("web", Track::Traffic, Effect::Deployed(built("v1")))]);
    assert_eq!(differing(&back(&["web"]), &present), [""; 0]);
}

#[test]
fn rule_21_success_is_judged_over_the_lanes_of_the_plan() {
    let remove = step("old", Action::Remove, Some(release("v2")), None);
    let mut plan = back(&["api", "web"]);
    plan.steps.push(remove);
    let present = running(&[("api", "v1"), ("web", "v2"), ("old", "v2"), ("basket", "v2"), ("new", "v1")]);
    assert_eq!(
        differing(&plan, &present),
        ["web at eu runs v2 instead of v1", "old at eu runs v2 instead of nothing"]
    );
    let done = running(&[("api", "v1"), ("web", "v1"), ("basket", "v2"), ("new", "v1")]);
    assert_eq!(differing(&plan, &done), [""; 0]);
}
