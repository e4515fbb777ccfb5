//! Which step of a rollback's life may follow which, and when the controller keeps its hands off.

use chrono::DateTime;

use super::*;
use crate::event::AutomaticScope;

fn line(text: &str) -> Line {
    Line::parse(text).expect("a line")
}

fn person(name: &str) -> Actor {
    Actor { kind: line("person"), name: line(name) }
}

const PHASES: [Phase; 5] =
    [Phase::Requested, Phase::Started, Phase::Succeeded, Phase::Failed, Phase::Cancelled];

/// Answers of `(name, granted)` at positions 11, 12, 13 …
fn answers(given: &[(&str, bool)]) -> Vec<Answer> {
    let answer = |((name, granted), position): (&(&str, bool), u64)| Answer {
        actor: person(name),
        granted: *granted,
        position: Position::new(position),
    };
    given.iter().zip(11..).map(answer).collect()
}

/// Asks of the life of a rollback that ada asked for.
fn in_phase<T>(phase: Phase, approvals: u32, given: &[(&str, bool)], ask: impl FnOnce(&Life<'_>) -> T) -> T {
    let (ada, answers) = (person("ada"), answers(given));
    ask(&Life { phase, initiated_by: &ada, approvals, answers: &answers })
}

/// The phases in which a step is allowed.
fn phases(step: impl Fn(&Life<'_>) -> Result<(), Refused>) -> Vec<Phase> {
    PHASES.into_iter().filter(|phase| in_phase(*phase, 0, &[], &step).is_ok()).collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + seconds, 0).expect("a time")
}

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
        requested_at: requested.iter().map(|seconds| at(*seconds)).collect(),
        last_requested_at: requested.last().map(|seconds| at(*seconds)),
        failed: None,
    }
}

#[test]
fn a_phase_is_found_by_its_name() {
    assert_eq!(PHASES.map(|phase| Phase::named(phase.name())), PHASES.map(Some));
    assert_eq!(Phase::named("paused"), None);
}

#[test]
fn a_rollback_is_started_once_and_ends_once() {
    assert_eq!(phases(|life| life.start()), [Phase::Requested]);
    assert_eq!(phases(|life| life.succeed(Vec::new())), [Phase::Started]);
    assert_eq!(phases(|life| life.fail()), [Phase::Started]);
    assert_eq!(phases(|life| life.cancel()), [Phase::Requested, Phase::Started]);
    assert_eq!(phases(|life| life.answer(&person("grace"))), [Phase::Requested]);
}

#[test]
fn others_wait_for_a_rollback_that_has_not_ended() {
    assert_eq!(PHASES.map(Phase::is_active), [true, true, false, false, false]);
}

#[test]
fn a_refusal_says_what_came_before() {
    assert_eq!(in_phase(Phase::Failed, 0, &[], |life| life.start()), Err(Refused::Ended(Phase::Failed)));
    assert_eq!(in_phase(Phase::Started, 0, &[], |life| life.start()), Err(Refused::StartedAlready));
    assert_eq!(in_phase(Phase::Requested, 0, &[], |life| life.fail()), Err(Refused::NotStarted));
    assert_eq!(Refused::Ended(Phase::Failed).to_string(), "the rollback has failed already");
}

#[test]
fn it_starts_when_as_many_others_as_the_policy_says_have_approved() {
    let start = |given: &[(&str, bool)]| in_phase(Phase::Requested, 2, given, |life| life.start());
    assert_eq!(start(&[]), Err(Refused::NotApproved { granted: 0, wanted: 2 }));
    assert_eq!(start(&[("grace", true)]), Err(Refused::NotApproved { granted: 1, wanted: 2 }));
    assert_eq!(start(&[("grace", true), ("tony", true)]), Ok(()));
    assert_eq!(start(&[("grace", true), ("tony", true), ("leslie", true)]), Ok(()));
}

#[test]
fn nobody_approves_their_own_rollback() {
    let own = in_phase(Phase::Requested, 1, &[], |life| life.answer(&person("ada")));
    assert_eq!(own, Err(Refused::SelfApproval(line("ada"))));
    let counted = in_phase(Phase::Requested, 1, &[("ada", true)], |life| life.start());
    assert_eq!(counted, Err(Refused::NotApproved { granted: 0, wanted: 1 }));
}

#[test]
fn one_rejection_stops_it_even_where_no_approval_is_wanted() {
    let start =
        |approvals, given: &[(&str, bool)]| in_phase(Phase::Requested, approvals, given, |life| life.start());
    assert_eq!(start(0, &[("grace", false)]), Err(Refused::Rejected(Position::new(11))));
    assert_eq!(start(1, &[("grace", true), ("tony", false)]), Err(Refused::Rejected(Position::new(12))));
    assert_eq!(start(1, &[("grace", false), ("grace", true)]), Ok(()));
}

#[test]
fn how_many_approvals_are_lacking_is_never_less_than_none() {
    let lacking =
        |given: &[(&str, bool)]| in_phase(Phase::Requested, 1, given, |life| life.approvals_lacking());
    assert_eq!(lacking(&[]), Ok(1));
    assert_eq!(lacking(&[("grace", true), ("tony", true)]), Ok(0));
}

#[test]
fn it_has_not_succeeded_while_a_lane_runs_something_else() {
    let differing = vec!["web at default runs v2 instead of v1".to_owned()];
    let refused = in_phase(Phase::Started, 0, &[], |life| life.succeed(differing.clone()));
    assert_eq!(refused, Err(Refused::Differs(differing)));
}

#[test]
fn of_many_lanes_that_differ_ten_are_told() {
    let told = |count: u32| Refused::Differs((1..=count).map(|n| n.to_string()).collect()).to_string();
    let ten = "the environment does not run what the rollback wanted: 1; 2; 3; 4; 5; 6; 7; 8; 9; 10";
    assert_eq!(told(10), ten);
    assert_eq!(told(12), format!("{ten}; and 2 more"));
}

#[test]
fn a_difference_is_told_in_versions_or_in_what_else_differs() {
    let (service, target) = (ServiceName::parse("web").expect("a name"), TargetName::default());
    let told = |wanted, runs| difference(&service, &target, wanted, runs);
    let (one, two) = (Release::of_version(line("v1")), Release::of_version(line("v2")));
    let configured = Release { infrastructure: Some(line("git:3f2a")), ..one.clone() };
    assert_eq!(told(Some(&one), Some(&two)), "web at default runs v2 instead of v1");
    assert_eq!(told(Some(&one), None), "web at default runs nothing instead of v1");
    assert_eq!(told(None, Some(&one)), "web at default runs v1 instead of nothing");
    assert_eq!(
        told(Some(&one), Some(&configured)),
        "web at default runs v1 with another artifact, configuration or infrastructure"
    );
}

#[test]
fn the_controller_may_act_where_it_never_did() {
    assert_eq!(may_act(&rule(3_600, 1), &AutomaticPast::default(), at(0)), Ok(()));
}

#[test]
fn the_controller_waits_until_the_cool_down_is_over() {
    let rule = rule(600, 10);
    assert_eq!(may_act(&rule, &past(&[0]), at(599)), Err(Abstention::CoolDown { until: at(600) }));
    assert_eq!(may_act(&rule, &past(&[0]), at(600)), Ok(()));
}

#[test]
fn a_cool_down_of_more_than_a_day_is_kept_though_the_day_has_passed() {
    let long_ago = AutomaticPast { last_requested_at: Some(at(0)), ..AutomaticPast::default() };
    let waits = may_act(&rule(200_000, 1), &long_ago, at(100_000));
    assert_eq!(waits, Err(Abstention::CoolDown { until: at(200_000) }));
}

#[test]
fn a_cool_down_for_ever_is_kept_and_breaks_nothing() {
    let waits = may_act(&rule(u64::MAX, 1), &past(&[0]), at(1));
    assert!(matches!(waits, Err(Abstention::CoolDown { .. })), "{waits:?}");
}

#[test]
fn the_controller_acts_as_often_within_a_day_as_the_policy_allows() {
    let rule = rule(0, 2);
    assert_eq!(may_act(&rule, &past(&[0]), at(10)), Ok(()));
    assert_eq!(may_act(&rule, &past(&[0, 10]), at(20)), Err(Abstention::TooMany { at_most: 2 }));
    assert_eq!(may_act(&rule, &past(&[0, 10]), at(86_399)), Err(Abstention::TooMany { at_most: 2 }));
    assert_eq!(may_act(&rule, &past(&[0, 10]), at(86_400)), Ok(()));
}

#[test]
fn a_policy_that_allows_none_a_day_allows_none() {
    let never = may_act(&rule(0, 0), &AutomaticPast::default(), at(0));
    assert_eq!(never, Err(Abstention::TooMany { at_most: 0 }));
}

#[test]
fn after_a_rollback_of_its_own_that_failed_the_controller_is_switched_off() {
    let failed =
        AutomaticPast { failed: Some((line("rollback-1"), Position::new(9))), ..AutomaticPast::default() };
    let off = may_act(&rule(0, 10), &failed, at(1_000_000));
    let switched_off =
        Abstention::SwitchedOff { rollback_id: line("rollback-1"), position: Position::new(9) };
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
