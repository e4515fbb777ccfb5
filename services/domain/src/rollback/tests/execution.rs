//! Tests of the checks before the start of a rollback, before a step, and for success.

use std::collections::BTreeSet;

use super::*;
use crate::Artifact;
use crate::plan_issue::{Revocations, RevokedArtifact};

fn problems(plan: &Plan, present: &Lanes, acknowledged: &[&str]) -> Vec<String> {
    let acknowledge: BTreeSet<_> = acknowledged.iter().map(|name| (service(name), target("eu"))).collect();
    let problems = start(plan, present, Revocations::default(), &acknowledge);
    problems.iter().map(ToString::to_string).collect()
}

/// Returns changes after which v1 is idle in blue and v2 is live in green.
fn changes_with_slots() -> Vec<(&'static str, Track, Effect)> {
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
fn a_rollback_may_start_if_its_lanes_run_what_the_plan_starts_from() {
    assert_eq!(problems(&plan_back(&["web"]), &running(&[("web", "v2")]), &[]), [""; 0]);
    let more = lanes(&[("web", Track::Traffic, Effect::Deployed(built("v2")))]);
    assert_eq!(problems(&plan_back(&["web"]), &more, &[]), [""; 0]);
    let add = plan(vec![step("api", Action::Add, None, Some(release("v1")))]);
    assert_eq!(problems(&add, &running(&[("web", "v2")]), &[]), [""; 0]);
}

#[test]
fn rule_20_a_changed_lane_is_a_problem_unless_acknowledged() {
    let plan = plan_back(&["api", "web"]);
    let present = running(&[("api", "v2"), ("web", "v3")]);
    assert_eq!(problems(&plan, &present, &[]), ["web at eu runs v3 instead of v2"]);
    assert_eq!(problems(&plan, &present, &["api"]), ["web at eu runs v3 instead of v2"]);
    assert_eq!(problems(&plan, &present, &["web"]), [""; 0]);
    let without_web = running(&[("api", "v2")]);
    assert_eq!(problems(&plan, &without_web, &[]), ["web at eu runs nothing instead of v2"]);
}

#[test]
fn rule_20_a_slot_removed_after_the_request_prevents_the_start_and_the_step() {
    let plan = plan(vec![switch_to_blue()]);
    let mut changes = changes_with_slots();
    assert_eq!(problems(&plan, &lanes(&changes), &[]), [""; 0]);
    changes.push(("web", Track::Slot(slot("blue")), Effect::Removed));
    let problem = ["slot blue of web at eu no longer holds the release"];
    assert_eq!(problems(&plan, &lanes(&changes), &[]), problem);
    // An acknowledgement does not permit a switch to an empty slot.
    assert_eq!(problems(&plan, &lanes(&changes), &["web"]), problem);
    let claim = step_claim(&plan.steps[0], &lanes(&changes), Revocations::default());
    assert_eq!(claim.iter().map(StartProblem::name).collect::<Vec<_>>(), ["slot_gone"]);
}

#[test]
fn rule_20_a_slot_that_holds_another_release_prevents_the_start() {
    let mut changes = changes_with_slots();
    changes.push(("web", Track::Slot(slot("blue")), Effect::Deployed(release("v9"))));
    assert_eq!(problems(&plan(vec![switch_to_blue()]), &lanes(&changes), &[]).len(), 1);
}

#[test]
fn rule_20_an_artifact_revoked_after_the_request_prevents_the_start_and_the_step() {
    let to = built("v1");
    let plan = plan(vec![step("web", Action::Redeploy, Some(release("v2")), Some(to))]);
    let present = running(&[("web", "v2")]);
    let artifact = Artifact::parse("pkg:GENERIC/web@v1").expect("an artifact");
    let revoked = [RevokedArtifact { artifact, deleted: false, position: Position::new(30) }];
    let revocations = Revocations { revoked: &revoked, version_artifacts: None };
    let acknowledged = BTreeSet::from([(service("web"), target("eu"))]);
    let problems = start(&plan, &present, revocations, &acknowledged);
    let [problem] = &problems[..] else { panic!("one problem, not {problems:?}") };
    assert_eq!(problem.to_string(), "pkg:GENERIC/web@v1 of web at eu is revoked (position 30)");
    assert_eq!(problem.lane(), (&service("web"), &target("eu")));
    assert_eq!(step_claim(&plan.steps[0], &present, revocations), problems);
}

#[test]
fn a_step_may_be_claimed_if_the_lane_changed() {
    let plan = plan_back(&["web"]);
    assert_eq!(step_claim(&plan.steps[0], &running(&[("web", "v3")]), Revocations::default()), []);
}

#[test]
fn rule_12_a_rollback_has_succeeded_if_the_running_release_states_more() {
    let present = lanes(&[("web", Track::Traffic, Effect::Deployed(built("v1")))]);
    assert_eq!(differing(&plan_back(&["web"]), &present), [""; 0]);
}

#[test]
fn rule_21_success_depends_only_on_the_lanes_of_the_plan() {
    let remove = step("old", Action::Remove, Some(release("v2")), None);
    let mut plan = plan_back(&["api", "web"]);
    plan.steps.push(remove);
    let present = running(&[("api", "v1"), ("web", "v2"), ("old", "v2"), ("basket", "v2"), ("new", "v1")]);
    assert_eq!(
        differing(&plan, &present),
        ["web at eu runs v2 instead of v1", "old at eu runs v2 instead of nothing"]
    );
    let done = running(&[("api", "v1"), ("web", "v1"), ("basket", "v2"), ("new", "v1")]);
    assert_eq!(differing(&plan, &done), [""; 0]);
}
