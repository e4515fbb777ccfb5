//! Which step of a rollback may follow which, when one starts and succeeds, and what the controller does.

mod automatic;
mod execution;

use chrono::{DateTime, Utc};

use super::*;
use crate::event::{Action, AutomaticRollback, AutomaticScope, Plan, Policy, Rollback, Step};
use crate::{
    ConfigDigest, Effect, EnvironmentName, EventId, LaneFilter, LaneFold, Lanes, Since, SlotName, Track,
    TrackEntry,
};

fn line(text: &str) -> ShortText {
    ShortText::parse(text).expect("a line")
}

fn person(name: &str) -> Actor {
    Actor { kind: line("person"), name: line(name) }
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + seconds, 0).expect("a time")
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a service")
}

fn target(name: &str) -> TargetName {
    TargetName::parse(name).expect("a target")
}

fn slot(name: &str) -> SlotName {
    SlotName::parse(name).expect("a slot")
}

fn release(version: &str) -> Release {
    Release::of_version(line(version))
}

fn built(version: &str) -> Release {
    let artifact = crate::Artifact::parse(&format!("pkg:generic/web@{version}")).expect("an artifact");
    release(version).completed(Some(artifact))
}

/// The lanes at the target `eu` after these changes of services, at positions 1, 2, 3 …
fn lanes(changes: &[(&str, Track, Effect)]) -> Lanes {
    let mut lanes = Lanes::new();
    for ((name, track, effect), position) in changes.iter().cloned().zip(1_u64..) {
        let since = Since {
            occurred_at: time(position.cast_signed()),
            position: Position::new(position),
            event_id: EventId::parse("e").expect("an id"),
        };
        let fold: &mut LaneFold = lanes.entry((service(name), target("eu"))).or_default();
        fold.apply(&track, TrackEntry { effect, since });
    }
    lanes
}

/// The lanes at the target `eu` that run these versions.
fn running(versions: &[(&str, &str)]) -> Lanes {
    let changes: Vec<_> = versions
        .iter()
        .map(|(name, version)| (*name, Track::Traffic, Effect::Deployed(release(version))))
        .collect();
    lanes(&changes)
}

/// A step of a lane at the target `eu`.
fn step(name: &str, action: Action, from: Option<Release>, to: Option<Release>) -> Step {
    Step { wave: 1, service: service(name), target: target("eu"), action, slot: None, from, to }
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan { from: Position::new(20), steps }
}

/// The plan that brings services from v2 to v1.
fn back(services: &[&str]) -> Plan {
    let step = |name: &&str| step(name, Action::Redeploy, Some(release("v2")), Some(release("v1")));
    plan(services.iter().map(step).collect())
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
fn in_phase<T>(
    phase: Phase,
    approvals: u32,
    given: &[(&str, bool)],
    ask: impl FnOnce(&RollbackState<'_>) -> T,
) -> T {
    let (ada, answers) = (person("ada"), answers(given));
    ask(&RollbackState { phase, initiated_by: &ada, approvals, answers: &answers })
}

/// The phases in which a step is allowed.
fn phases(step: impl Fn(&RollbackState<'_>) -> Result<(), TransitionError>) -> Vec<Phase> {
    PHASES.into_iter().filter(|phase| in_phase(*phase, 0, &[], &step).is_ok()).collect()
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
    assert_eq!(
        in_phase(Phase::Failed, 0, &[], |life| life.start()),
        Err(TransitionError::Ended(Phase::Failed))
    );
    assert_eq!(in_phase(Phase::Started, 0, &[], |life| life.start()), Err(TransitionError::StartedAlready));
    assert_eq!(in_phase(Phase::Requested, 0, &[], |life| life.fail()), Err(TransitionError::NotStarted));
    assert_eq!(TransitionError::Ended(Phase::Failed).to_string(), "the rollback has failed already");
}

#[test]
fn it_starts_when_as_many_others_as_the_policy_says_have_approved() {
    let start = |given: &[(&str, bool)]| in_phase(Phase::Requested, 2, given, |life| life.start());
    assert_eq!(start(&[]), Err(TransitionError::NotApproved { granted: 0, wanted: 2 }));
    assert_eq!(start(&[("grace", true)]), Err(TransitionError::NotApproved { granted: 1, wanted: 2 }));
    assert_eq!(start(&[("grace", true), ("tony", true)]), Ok(()));
    assert_eq!(start(&[("grace", true), ("tony", true), ("leslie", true)]), Ok(()));
}

#[test]
fn a_requester_does_not_approve_their_own_rollback() {
    let own = in_phase(Phase::Requested, 1, &[], |life| life.answer(&person("ada")));
    assert_eq!(own, Err(TransitionError::SelfApproval(line("ada"))));
    let counted = in_phase(Phase::Requested, 1, &[("ada", true)], |life| life.start());
    assert_eq!(counted, Err(TransitionError::NotApproved { granted: 0, wanted: 1 }));
}

#[test]
fn one_rejection_stops_it_even_where_no_approval_is_wanted() {
    let start =
        |approvals, given: &[(&str, bool)]| in_phase(Phase::Requested, approvals, given, |life| life.start());
    assert_eq!(start(0, &[("grace", false)]), Err(TransitionError::Rejected(Position::new(11))));
    assert_eq!(
        start(1, &[("grace", true), ("tony", false)]),
        Err(TransitionError::Rejected(Position::new(12)))
    );
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
    assert_eq!(refused, Err(TransitionError::Differs(differing)));
}

#[test]
fn of_many_lanes_that_differ_ten_are_told() {
    let told =
        |count: u32| TransitionError::Differs((1..=count).map(|n| n.to_string()).collect()).to_string();
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
fn rule_15_only_people_answer_a_rollback_and_not_the_one_who_asked_for_it() {
    let ask = |actor: Actor| in_phase(Phase::Requested, 1, &[], |life| life.answer(&actor));
    let of = |kind: &str, name: &str| Actor { kind: line(kind), name: line(name) };
    assert_eq!(ask(of("person", "ADA")), Err(TransitionError::SelfApproval(line("ADA"))));
    for kind in ["workload", "admin"] {
        assert_eq!(ask(of(kind, "grace")), Err(TransitionError::NotAPerson(line("grace"))));
    }
    let unasked = Answer { actor: of("admin", "grace"), granted: true, position: Position::new(11) };
    let ada = person("ada");
    let life =
        RollbackState { phase: Phase::Requested, initiated_by: &ada, approvals: 1, answers: &[unasked] };
    assert_eq!(life.start(), Err(TransitionError::NotApproved { granted: 0, wanted: 1 }));
}

fn request() -> RollbackRequest {
    RollbackRequest {
        rollback: Rollback {
            environment: EnvironmentName::parse("production").expect("a name"),
            rollback_id: line("r-1"),
        },
        to: Position::new(5),
        at: None,
        source: None,
        scope: LaneFilter::default(),
        plan: back(&["web"]),
        plan_digest: ConfigDigest::parse(&back(&["web"]).digest()).expect("a digest"),
        initiated_by: person("ada"),
        automatic: false,
        force: false,
        policy: None,
        cause: None,
    }
}

#[test]
fn rule_22_the_same_rollback_id_is_a_duplicate_only_of_the_same_wish() {
    let prose = |text: &str| LongText::parse(text).expect("prose");
    let (first, why) = (request(), prose("v2 is slow"));
    let same = |other: &RollbackRequest, reason: &LongText| {
        RequestedWish::of(&first, Some(&why)).is_same(&RequestedWish::of(other, Some(reason)))
    };
    // Made later, against another state, by the same person.
    let later = RollbackRequest { plan: back(&["api", "web"]), initiated_by: person("Ada"), ..request() };
    assert!(same(&later, &why));
    let web = LaneFilter { services: std::iter::once(service("web")).collect(), ..LaneFilter::default() };
    for other in [
        RollbackRequest { to: Position::new(6), ..request() },
        RollbackRequest { at: Some(time(0)), ..request() },
        RollbackRequest { scope: web, ..request() },
        RollbackRequest { force: true, ..request() },
        RollbackRequest { initiated_by: person("grace"), ..request() },
    ] {
        assert!(!same(&other, &why), "{other:?}");
    }
    assert!(!same(&request(), &prose("something else")));
}
