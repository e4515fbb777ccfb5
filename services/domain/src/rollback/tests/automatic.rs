//! Tests of automatic rollback: the affected lanes, the choice of the point, and the reasons to decline.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::event::ValidationSubject;
use crate::known_good::Status;
use crate::plan_issue::{
    ActiveFreeze, DeployOutcome, IrreversibleDeploy, PlanContext, PlanIssue, Revocations, RevokedArtifact,
    Severity, issues,
};
use crate::{Composition, LaneRef, Removals, shown_removed};
use chrono::TimeDelta;

const fn rule(cool_down_seconds: u64, at_most_a_day: u32) -> AutomaticRollback {
    AutomaticRollback {
        checks: Vec::new(),
        cool_down_seconds,
        at_most_a_day,
        scope: AutomaticScope::Service,
        at_most_steps: AutomaticRollback::DEFAULT_AT_MOST_STEPS,
        at_most_age_seconds: AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS,
    }
}

/// Creates the history of these requests, none of which failed.
fn past(requested: &[i64]) -> AutomaticHistory {
    AutomaticHistory {
        requested_at: requested.iter().map(|seconds| time(*seconds)).collect(),
        last_requested_at: requested.last().map(|seconds| time(*seconds)),
        failed: None,
    }
}

#[test]
fn without_earlier_rollbacks_the_controller_may_act() {
    assert_eq!(check_limits(&rule(3_600, 1), &AutomaticHistory::default(), time(0)), Ok(()));
}

#[test]
fn the_controller_waits_for_the_end_of_the_cool_down() {
    let rule = rule(600, 10);
    assert_eq!(
        check_limits(&rule, &past(&[0]), time(599)),
        Err(DeclineReason::CoolDown { until: time(600) })
    );
    assert_eq!(check_limits(&rule, &past(&[0]), time(600)), Ok(()));
}

#[test]
fn a_cool_down_of_more_than_a_day_is_respected() {
    let long_ago = AutomaticHistory { last_requested_at: Some(time(0)), ..AutomaticHistory::default() };
    let declined = check_limits(&rule(200_000, 1), &long_ago, time(100_000));
    assert_eq!(declined, Err(DeclineReason::CoolDown { until: time(200_000) }));
}

#[test]
fn the_longest_possible_cool_down_does_not_overflow() {
    let declined = check_limits(&rule(u64::MAX, 1), &past(&[0]), time(1));
    assert!(matches!(declined, Err(DeclineReason::CoolDown { .. })), "{declined:?}");
}

#[test]
fn the_policy_limits_the_number_of_rollbacks_within_a_day() {
    let rule = rule(0, 2);
    assert_eq!(check_limits(&rule, &past(&[0]), time(10)), Ok(()));
    assert_eq!(check_limits(&rule, &past(&[0, 10]), time(20)), Err(DeclineReason::TooMany { at_most: 2 }));
    assert_eq!(
        check_limits(&rule, &past(&[0, 10]), time(86_399)),
        Err(DeclineReason::TooMany { at_most: 2 })
    );
    assert_eq!(check_limits(&rule, &past(&[0, 10]), time(86_400)), Ok(()));
}

#[test]
fn a_limit_of_zero_a_day_allows_none() {
    let never = check_limits(&rule(0, 0), &AutomaticHistory::default(), time(0));
    assert_eq!(never, Err(DeclineReason::TooMany { at_most: 0 }));
}

#[test]
fn a_failed_automatic_rollback_switches_the_controller_off() {
    let failed = AutomaticHistory {
        failed: Some((short_text("rollback-1"), Position::new(9))),
        ..AutomaticHistory::default()
    };
    let off = check_limits(&rule(0, 10), &failed, time(1_000_000));
    let switched_off =
        DeclineReason::SwitchedOff { rollback_id: short_text("rollback-1"), position: Position::new(9) };
    assert_eq!(off, Err(switched_off));
}

#[test]
fn a_rollback_is_triggered_by_the_listed_checks_or_else_by_the_required_ones() {
    let required = [short_text("smoke"), short_text("e2e")];
    let any = rule(0, 1);
    assert!(any.is_triggered_by(&short_text("e2e"), &required));
    assert!(!any.is_triggered_by(&short_text("canary"), &required));
    let canary = AutomaticRollback { checks: vec![short_text("canary")], ..rule(0, 1) };
    assert!(canary.is_triggered_by(&short_text("canary"), &required));
    assert!(!canary.is_triggered_by(&short_text("e2e"), &required));
}

// Scope.

fn policy(dependencies: &[(&str, &str)]) -> Policy {
    let mut policy = Policy::default();
    for (name, on) in dependencies {
        policy.dependencies.entry(service(name)).or_default().push(service(on));
    }
    policy
}

fn check_of_lane(name: &str, target_name: Option<&str>) -> ValidationSubject {
    let lane = LaneRef {
        environment: EnvironmentName::parse("production").expect("a name"),
        service: service(name),
        target: target_name.map(target),
    };
    ValidationSubject::Lane { lane, release: None, deployment: None }
}

/// Returns lanes by service and target.
fn lane_set(names: &[(&str, &str)]) -> BTreeSet<(ServiceName, TargetName)> {
    names.iter().map(|(name, at)| (service(name), target(at))).collect()
}

/// Returns the lanes that a failed check concerns.
fn concerned(
    scope: AutomaticScope,
    subject: &ValidationSubject,
    failed: &[(&str, &str)],
) -> Option<ConcernedLanes> {
    let policy = policy(&[("web", "search"), ("shop", "web"), ("search", "basket")]);
    ConcernedLanes::of(scope, subject, &policy, &lane_set(failed))
}

fn of(lanes: &[(&str, &str)]) -> Option<ConcernedLanes> {
    Some(ConcernedLanes::Of(lane_set(lanes)))
}

#[test]
fn rule_4_a_failed_check_of_a_service_concerns_it_and_its_dependents_where_it_failed() {
    let (service_only, search) = (AutomaticScope::Service, check_of_lane("search", None));
    assert_eq!(
        concerned(service_only, &search, &[("search", "eu")]),
        of(&[("search", "eu"), ("web", "eu"), ("shop", "eu")])
    );
    let shop = check_of_lane("shop", Some("eu"));
    assert_eq!(concerned(service_only, &shop, &[("shop", "eu")]), of(&[("shop", "eu")]));
    let all = Some(ConcernedLanes::All);
    assert_eq!(concerned(AutomaticScope::Environment, &shop, &[("shop", "eu")]), all);
    let environment = EnvironmentName::parse("production").expect("a name");
    assert_eq!(concerned(service_only, &ValidationSubject::Environment(environment), &[]), all);
}

#[test]
fn rule_4_a_failed_check_of_an_artifact_concerns_the_services_that_run_it() {
    const H: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let subject = ValidationSubject::Artifact(crate::Artifact::parse(H).expect("an artifact"));
    let concerned = |failed: &[(&str, &str)]| concerned(AutomaticScope::Service, &subject, failed);
    assert_eq!(concerned(&[("web", "eu")]), of(&[("web", "eu"), ("shop", "eu")]));
    assert_eq!(concerned(&[]), None);
}

#[test]
fn rule_4_a_plan_that_changes_a_lane_which_the_check_does_not_concern_is_declined() {
    let lanes = lane_set(&[("web", "eu"), ("worker", "us")]);
    let concerned = ConcernedLanes::Of(lanes);
    let filter = LaneFilter {
        services: [service("web"), service("worker")].into(),
        targets: [target("eu"), target("us")].into(),
    };
    let at = |name: &str, at: &str| Step { target: target(at), ..plan_back(&[name]).steps.remove(0) };
    let check = |steps: Vec<Step>| concerned.check(&plan(steps));

    assert_eq!(concerned.filter(), filter);
    assert_eq!(check(vec![at("web", "eu"), at("worker", "us")]), Ok(()));
    let other = DeclineReason::OtherLane { service: service("web"), target: target("us") };
    assert_eq!(check(vec![at("web", "eu"), at("web", "us")]), Err(other));
    assert_eq!(ConcernedLanes::All.check(&plan(vec![at("web", "us")])), Ok(()));
}

// Limits, and the search for a point.

fn limited(at_most_steps: u32, at_most_age_seconds: u64) -> AutomaticRollback {
    AutomaticRollback { at_most_steps, at_most_age_seconds, ..rule(0, 1) }
}

#[test]
fn rule_4_the_steps_of_a_plan_and_the_age_of_its_point_are_limited() {
    let rule = limited(2, 60);
    let check = |steps, age| check_bounds(&rule, steps, TimeDelta::seconds(age));
    assert_eq!(check(2, 60), Ok(()));
    assert_eq!(check(3, 60), Err(DeclineReason::TooManySteps { steps: 3, at_most: 2 }));
    let too_old = DeclineReason::TooOld { age_seconds: 61, at_most: 60, passed_over: Vec::new() };
    assert_eq!(check(1, 61), Err(too_old));
    assert_eq!(check(1, -5), Ok(()));
}

fn barrier() -> (PlanIssue, Severity) {
    let deploy = IrreversibleDeploy {
        service: service("web"),
        target: target("eu"),
        version: short_text("v2"),
        occurred_at: time(0),
        position: Position::new(8),
        outcome: DeployOutcome::Succeeded,
    };
    (PlanIssue::Barrier(deploy), Severity::Overridable)
}

/// The position of a point, the seconds since it last ran, the plan to it, and the issues of the plan.
type Candidate = (u64, i64, Plan, Vec<(PlanIssue, Severity)>);

/// Searches points, newest first, at second 0.
fn search(rule: &AutomaticRollback, present: &Lanes, points: &[Candidate]) -> Result<u64, DeclineReason> {
    let mut search = PointSearch::new(rule, present, time(0));
    for (position, age, plan, issues) in points {
        let last_stood_at = time(-age);
        let position = Position::new(*position);
        let point = KnownGoodPoint { position, last_stood_at, plan, issues };
        if search.consider(&point)? == Search::Take {
            return Ok(position.get());
        }
    }
    Err(search.exhausted())
}

#[test]
fn rule_4_the_newest_point_that_is_not_blocked_is_taken_and_skipped_points_are_listed() {
    let (rule, present) = (limited(10, 60), running(&[("web", "v2")]));
    let possible = (5, 20, plan_back(&["web"]), vec![]);
    let blocked = (7, 10, plan_back(&["web"]), vec![barrier()]);
    assert_eq!(search(&rule, &present, &[blocked.clone(), possible.clone()]), Ok(5));
    let warned = (7, 10, plan_back(&["web"]), vec![(barrier().0, Severity::Warning)]);
    assert_eq!(search(&rule, &present, &[warned, possible]), Ok(7));
    let none = search(&rule, &present, std::slice::from_ref(&blocked)).expect_err("no point");
    let reason = "position 7: the deploy of v2 of web to eu cannot be undone (position 8)";
    assert_eq!(
        none.to_string(),
        format!("there is no known-good point to roll back to within the maximum age (skipped: {reason})")
    );
    let old = (5, 61, plan_back(&["web"]), vec![]);
    let too_old = search(&rule, &present, &[blocked, old]).expect_err("too old").to_string();
    assert_eq!(
        too_old,
        format!(
            "the last known-good point last ran 61 seconds ago; the policy allows 60 (skipped: {reason})"
        )
    );
    let nothing = search(&rule, &present, &[]).expect_err("no point").to_string();
    assert_eq!(nothing, "there is no known-good point to roll back to within the maximum age");
}

#[test]
fn an_issue_that_does_not_depend_on_the_point_ends_the_search() {
    let (rule, present) = (limited(1, 60), running(&[("web", "v2"), ("api", "v2")]));
    let next = (5, 20, plan_back(&["web"]), vec![]);
    let search = |plan: Plan, issues: Vec<(PlanIssue, Severity)>| {
        search(&rule, &present, &[(7, 10, plan, issues), next.clone()])
    };
    assert_eq!(search(plan_back(&[]), vec![]), Err(DeclineReason::NothingToDo));
    let many = plan_back(&["api", "web"]);
    assert_eq!(search(many, vec![]), Err(DeclineReason::TooManySteps { steps: 2, at_most: 1 }));
    let freeze = ActiveFreeze { freeze_id: short_text("year-end"), until: None, position: Position::new(9) };
    let frozen = (PlanIssue::Frozen(freeze), Severity::Overridable);
    let blocked = DeclineReason::Blocked("freeze year-end holds (position 9)".to_owned());
    assert_eq!(search(plan_back(&["web"]), vec![frozen]), Err(blocked));
}

#[test]
fn rule_1_a_plan_that_leaves_nothing_running_is_declined() {
    let (rule, present) = (limited(10, 60), running(&[("web", "v2"), ("api", "v2")]));
    let remove = |name: &str| step(name, Action::Remove, Some(release("v2")), None);
    let all = plan(vec![remove("api"), remove("web")]);
    assert_eq!(search(&rule, &present, &[(7, 10, all, vec![])]), Err(DeclineReason::ResultEmpty));
    let one = plan(vec![remove("api")]);
    assert_eq!(search(&rule, &present, &[(7, 10, one, vec![])]), Ok(7));
}

fn any_change() -> impl Strategy<Value = (&'static str, Track, Effect)> {
    let names = prop::sample::select(vec!["web", "api", "basket"]);
    let slots = || prop::sample::select(vec!["blue", "green"]).prop_map(slot);
    let any_release = || "v[1-3]".prop_map(|version| built(&version));
    let change = prop_oneof![
        4 => any_release().prop_map(|release| (Track::Traffic, Effect::Deployed(release))),
        2 => (slots(), any_release())
            .prop_map(|(slot, release)| (Track::Slot(slot), Effect::Deployed(release))),
        2 => slots().prop_map(|slot| (Track::Traffic, Effect::SwitchedTo(slot))),
        2 => Just((Track::Traffic, Effect::Removed)),
    ];
    (names, change).prop_map(|(name, (track, effect))| (name, track, effect))
}

fn composition(lanes: &Lanes) -> Composition {
    lanes.iter().filter_map(|(lane, fold)| Some((lane.clone(), fold.live()?.to_owned()))).collect()
}

proptest! {
    #[test]
    fn a_plan_of_the_controller_keeps_its_scope_and_never_empties_or_deploys_revoked_artifacts(
        history in prop::collection::vec(any_change(), 1..30),
        points in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        revoked in prop::sample::subsequence(vec!["v1", "v2", "v3"], 0..3),
        services in prop::sample::subsequence(vec!["web", "api", "basket"], 1..=3),
    ) {
        let present = lanes(&history);
        let revoked: Vec<_> = revoked
            .into_iter()
            .filter_map(|version| built(version).artifact)
            .map(|artifact| RevokedArtifact { artifact, deleted: false, position: Position::new(99) })
            .collect();
        let (rule, policy) = (limited(10, 60), Policy::default());
        let mut search = PointSearch::new(&rule, &present, time(0));
        for point in points {
            let at_point = lanes(&history[..point.index(history.len() + 1)]);
            let (wanted, shown) = (composition(&at_point), shown_removed(&at_point));
            let services = services.iter().map(|name| service(name)).collect();
            let affected = LaneFilter { services, targets: BTreeSet::new() };
            let removals = Removals::Shown(&shown);
            let plan = Plan::make(Position::START, &present, &wanted, &affected, &policy, removals);
            let context = PlanContext {
                source: None,
                retired: None,
                last_ran: std::collections::BTreeMap::new(),
                began: None,
                status: Some(Status::KnownGood),
                policy: &policy,
                irreversible: &[],
                open: &[],
                revocations: Revocations { revoked: &revoked, version_artifacts: None },
                freezes: &[],
            };
            let found: Vec<_> = issues(&plan, &context)
                .into_iter()
                .map(|issue| { let severity = issue.severity(&policy); (issue, severity) })
                .collect();
            let position = Position::new(7);
            let point = KnownGoodPoint { position, last_stood_at: time(0), plan: &plan, issues: &found };
            let Ok(Search::Take) = search.consider(&point) else { continue };
            prop_assert!(!plan.steps.is_empty());
            let mut after = composition(&present);
            for step in &plan.steps {
                let lane = (step.service.clone(), step.target.clone());
                prop_assert!(affected.includes(&step.service, &step.target));
                prop_assert!(step.to.is_some() || shown.contains(&lane));
                if let Some(artifact) = step.to.as_ref().and_then(|to| to.artifact.as_ref()) {
                    prop_assert!(!revoked.iter().any(|it| it.artifact.is_same(artifact)));
                }
                after.set(lane.0, lane.1, wanted.lane(&step.service, &step.target).cloned());
            }
            prop_assert!(after.lanes().next().is_some());
        }
    }
}
