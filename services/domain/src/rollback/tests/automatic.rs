//! Which lanes the controller may change, which point it takes, and when it declines.

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

/// The last of these was the last ever.
fn past(requested: &[i64]) -> AutomaticPast {
    AutomaticPast {
        requested_at: requested.iter().map(|seconds| time(*seconds)).collect(),
        last_requested_at: requested.last().map(|seconds| time(*seconds)),
        failed: None,
    }
}

#[test]
fn the_controller_may_act_where_it_never_did() {
    assert_eq!(check_limits(&rule(3_600, 1), &AutomaticPast::default(), time(0)), Ok(()));
}

#[test]
fn the_controller_waits_until_the_cool_down_is_over() {
    let rule = rule(600, 10);
    assert_eq!(
        check_limits(&rule, &past(&[0]), time(599)),
        Err(DeclineReason::CoolDown { until: time(600) })
    );
    assert_eq!(check_limits(&rule, &past(&[0]), time(600)), Ok(()));
}

#[test]
fn a_cool_down_of_more_than_a_day_is_kept_though_the_day_has_passed() {
    let long_ago = AutomaticPast { last_requested_at: Some(time(0)), ..AutomaticPast::default() };
    let waits = check_limits(&rule(200_000, 1), &long_ago, time(100_000));
    assert_eq!(waits, Err(DeclineReason::CoolDown { until: time(200_000) }));
}

#[test]
fn a_cool_down_for_ever_is_kept_and_breaks_nothing() {
    let waits = check_limits(&rule(u64::MAX, 1), &past(&[0]), time(1));
    assert!(matches!(waits, Err(DeclineReason::CoolDown { .. })), "{waits:?}");
}

#[test]
fn the_controller_acts_as_often_within_a_day_as_the_policy_allows() {
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
fn a_policy_that_allows_none_a_day_allows_none() {
    let never = check_limits(&rule(0, 0), &AutomaticPast::default(), time(0));
    assert_eq!(never, Err(DeclineReason::TooMany { at_most: 0 }));
}

#[test]
fn after_a_rollback_of_its_own_that_failed_the_controller_is_switched_off() {
    let failed =
        AutomaticPast { failed: Some((line("rollback-1"), Position::new(9))), ..AutomaticPast::default() };
    let off = check_limits(&rule(0, 10), &failed, time(1_000_000));
    let switched_off =
        DeclineReason::SwitchedOff { rollback_id: line("rollback-1"), position: Position::new(9) };
    assert_eq!(off, Err(switched_off));
}

#[test]
fn a_rollback_is_triggered_by_the_checks_that_are_named_or_else_by_the_required_ones() {
    let required = [line("smoke"), line("e2e")];
    let any = rule(0, 1);
    assert!(any.is_triggered_by(&line("e2e"), &required));
    assert!(!any.is_triggered_by(&line("canary"), &required));
    let canary = AutomaticRollback { checks: vec![line("canary")], ..rule(0, 1) };
    assert!(canary.is_triggered_by(&line("canary"), &required));
    assert!(!canary.is_triggered_by(&line("e2e"), &required));
}

// Scope.

fn policy(dependencies: &[(&str, &str)]) -> Policy {
    let mut policy = Policy::default();
    for (name, on) in dependencies {
        policy.dependencies.entry(service(name)).or_default().push(service(on));
    }
    policy
}

fn of_lane(name: &str, target_name: Option<&str>) -> ValidationSubject {
    let lane = LaneRef {
        environment: EnvironmentName::parse("production").expect("a name"),
        service: service(name),
        target: target_name.map(target),
    };
    ValidationSubject::Lane { lane, release: None, deployment: None }
}

fn scope(services: &[&str], targets: &[&str]) -> LaneFilter {
    LaneFilter {
        services: services.iter().map(|name| service(name)).collect(),
        targets: targets.iter().map(|name| target(name)).collect(),
    }
}

#[test]
fn rule_4_one_services_failure_concerns_it_and_what_depends_on_it_and_no_other_lane() {
    let policy = policy(&[("web", "search"), ("shop", "web"), ("search", "basket")]);
    let concerned =
        |scope, subject: &ValidationSubject| concerned_lanes(scope, subject, &policy, &Lanes::new());
    let service_only = AutomaticScope::Service;
    assert_eq!(
        concerned(service_only, &of_lane("search", None)),
        Some(scope(&["search", "web", "shop"], &[]))
    );
    assert_eq!(concerned(service_only, &of_lane("shop", Some("eu"))), Some(scope(&["shop"], &["eu"])));
    let all = Some(LaneFilter::default());
    assert_eq!(concerned(AutomaticScope::Environment, &of_lane("shop", Some("eu"))), all);
    let environment = EnvironmentName::parse("production").expect("a name");
    assert_eq!(concerned(service_only, &ValidationSubject::Environment(environment)), all);
}

#[test]
fn rule_4_an_artifact_concerns_the_services_that_run_it_and_none_if_none_does() {
    const H: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let artifact = |text: &str| crate::Artifact::parse(text).expect("an artifact");
    let runs = release("v1").completed(Some(artifact(&format!("registry.example/web@{H}"))));
    let present = lanes(&[
        ("web", Track::Traffic, Effect::Deployed(runs)),
        ("basket", Track::Traffic, Effect::Deployed(release("v1"))),
    ]);
    let concerned = |text: &str| {
        let subject = ValidationSubject::Artifact(artifact(text));
        concerned_lanes(AutomaticScope::Service, &subject, &policy(&[("shop", "web")]), &present)
    };
    assert_eq!(concerned(H), Some(scope(&["web", "shop"], &[])));
    assert_eq!(concerned(&format!("sha256:{}", "1".repeat(64))), None);
}

#[test]
fn rule_4_a_check_without_a_target_concerns_the_targets_at_which_the_release_runs() {
    let mut present = lanes(&[("web", Track::Traffic, Effect::Deployed(release("v2")))]);
    let elsewhere = lanes(&[("web", Track::Traffic, Effect::Deployed(release("v1")))]);
    let (_, fold) = elsewhere.into_iter().next().expect("a lane");
    present.insert((service("web"), target("us")), fold);
    let of = |version: Option<&str>| ValidationSubject::Lane {
        lane: LaneRef {
            environment: EnvironmentName::parse("production").expect("a name"),
            service: service("web"),
            target: None,
        },
        release: version.map(release),
        deployment: None,
    };
    let concerned =
        |version| concerned_lanes(AutomaticScope::Service, &of(version), &Policy::default(), &present);
    assert_eq!(concerned(Some("v2")), Some(scope(&["web"], &["eu"])));
    assert_eq!(concerned(None), Some(scope(&["web"], &[])));
}

// Bounds, and the search for a point.

fn bounded(at_most_steps: u32, at_most_age_seconds: u64) -> AutomaticRollback {
    AutomaticRollback { at_most_steps, at_most_age_seconds, ..rule(0, 1) }
}

#[test]
fn rule_4_a_plan_is_bounded_by_its_steps_and_by_the_age_of_its_point() {
    let rule = bounded(2, 60);
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
        version: line("v2"),
        occurred_at: time(0),
        position: Position::new(8),
        outcome: DeployOutcome::Succeeded,
    };
    (PlanIssue::Barrier(deploy), Severity::Overridable)
}

/// A point's position, the seconds since it last stood, the plan to it, and what that meets.
type Considered = (u64, i64, Plan, Vec<(PlanIssue, Severity)>);

/// Considers points, newest first. Now is second 0.
fn search(rule: &AutomaticRollback, present: &Lanes, points: &[Considered]) -> Result<u64, DeclineReason> {
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
fn rule_4_the_newest_point_is_taken_that_can_be_carried_out_and_others_are_named() {
    let (rule, present) = (bounded(10, 60), running(&[("web", "v2")]));
    let possible = (5, 20, back(&["web"]), vec![]);
    let blocked = (7, 10, back(&["web"]), vec![barrier()]);
    assert_eq!(search(&rule, &present, &[blocked.clone(), possible.clone()]), Ok(5));
    let warned = (7, 10, back(&["web"]), vec![(barrier().0, Severity::Warning)]);
    assert_eq!(search(&rule, &present, &[warned, possible]), Ok(7));
    let none = search(&rule, &present, std::slice::from_ref(&blocked)).expect_err("no point");
    let reason = "position 7: the deploy of v2 of web to eu cannot be undone (position 8)";
    assert_eq!(
        none.to_string(),
        format!("there is no known-good point to go back to that is young enough (passed over: {reason})")
    );
    let old = (5, 61, back(&["web"]), vec![]);
    let too_old = search(&rule, &present, &[blocked, old]).expect_err("too old").to_string();
    assert_eq!(
        too_old,
        format!(
            "the last known-good point last stood 61 seconds ago, and the policy allows 60 (passed over: {reason})"
        )
    );
    let nothing = search(&rule, &present, &[]).expect_err("no point").to_string();
    assert_eq!(nothing, "there is no known-good point to go back to that is young enough");
}

#[test]
fn what_does_not_depend_on_the_point_leads_to_no_older_one() {
    let (rule, present) = (bounded(1, 60), running(&[("web", "v2"), ("api", "v2")]));
    let next = (5, 20, back(&["web"]), vec![]);
    let search = |plan: Plan, met: Vec<(PlanIssue, Severity)>| {
        search(&rule, &present, &[(7, 10, plan, met), next.clone()])
    };
    assert_eq!(search(back(&[]), vec![]), Err(DeclineReason::NothingToDo));
    let many = back(&["api", "web"]);
    assert_eq!(search(many, vec![]), Err(DeclineReason::TooManySteps { steps: 2, at_most: 1 }));
    let freeze = ActiveFreeze { freeze_id: line("year-end"), until: None, position: Position::new(9) };
    let frozen = (PlanIssue::Frozen(freeze), Severity::Overridable);
    let blocked = DeclineReason::Blocked("freeze year-end holds (position 9)".to_owned());
    assert_eq!(search(back(&["web"]), vec![frozen]), Err(blocked));
}

#[test]
fn rule_1_a_result_without_lanes_is_declined() {
    let (rule, present) = (bounded(10, 60), running(&[("web", "v2"), ("api", "v2")]));
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
        2 => (slots(), any_release()).prop_map(|(slot, release)| (Track::Slot(slot), Effect::Deployed(release))),
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
    fn a_plan_of_the_controller_removes_nothing_that_is_not_shown_and_leaves_something_and_nothing_revoked(
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
        let (rule, policy) = (bounded(10, 60), Policy::default());
        let mut search = PointSearch::new(&rule, &present, time(0));
        for point in points {
            let at_point = lanes(&history[..point.index(history.len() + 1)]);
            let (wanted, shown) = (composition(&at_point), shown_removed(&at_point));
            let concerned = scope(&services, &[]);
            let removals = Removals::Shown(&shown);
            let plan = Plan::make(Position::START, &present, &wanted, &concerned, &policy, removals);
            let way = PlanContext {
                source: None,
retired: None,
last_ran: std::collections::BTreeMap::new(),
                began: None,
                status: Some(Status::KnownGood),
                policy: &policy,
                irreversible: &[],
                open: &[],
                revocations: Revocations { revoked: &revoked, meant: None },
                freezes: &[],
            };
            let met: Vec<_> = issues(&plan, &way)
                .into_iter()
                .map(|issue| { let severity = issue.severity(&policy); (issue, severity) })
                .collect();
            let position = Position::new(7);
            let point = KnownGoodPoint { position, last_stood_at: time(0), plan: &plan, issues: &met };
            let Ok(Search::Take) = search.consider(&point) else { continue };
            prop_assert!(!plan.steps.is_empty());
            let mut after = composition(&present);
            for step in &plan.steps {
                let lane = (step.service.clone(), step.target.clone());
                prop_assert!(concerned.has(&step.service, &step.target));
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
