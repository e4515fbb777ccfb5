//! Tests of the transitions of rollbacks, their execution, and the decisions of the rollback controller.

mod automatic;
mod execution;

use chrono::{DateTime, Utc};

use super::*;
use crate::event::{Action, AutomaticRollback, AutomaticScope, Plan, Policy, Rollback, Step};
use crate::{
    ConfigDigest, Effect, EnvironmentName, EventId, EventRef, LaneFilter, LaneFold, Lanes, SlotName, Track,
    TrackEntry,
};

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("a valid text")
}

fn person(name: &str) -> Actor {
    Actor { kind: short_text("person"), name: short_text(name) }
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
    Release::of_version(short_text(version))
}

fn built(version: &str) -> Release {
    let artifact = crate::Artifact::parse(&format!("pkg:generic/web@{version}")).expect("an artifact");
    release(version).completed(Some(artifact))
}

/// Returns the lanes at the target `eu` after these changes of services, at positions 1, 2, 3 …
fn lanes(changes: &[(&str, Track, Effect)]) -> Lanes {
    let mut lanes = Lanes::new();
    for ((name, track, effect), position) in changes.iter().cloned().zip(1_u64..) {
        let since = EventRef {
            occurred_at: time(position.cast_signed()),
            position: Position::new(position),
            event_id: EventId::parse("e").expect("an id"),
        };
        let fold: &mut LaneFold = lanes.entry((service(name), target("eu"))).or_default();
        fold.apply(&track, TrackEntry { effect, since });
    }
    lanes
}

/// Returns lanes at the target `eu` that run these versions.
fn running(versions: &[(&str, &str)]) -> Lanes {
    let changes: Vec<_> = versions
        .iter()
        .map(|(name, version)| (*name, Track::Traffic, Effect::Deployed(release(version))))
        .collect();
    lanes(&changes)
}

/// Creates a step of a lane at the target `eu`.
fn step(name: &str, action: Action, from: Option<Release>, to: Option<Release>) -> Step {
    Step { wave: 1, service: service(name), target: target("eu"), action, slot: None, from, to }
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan { from: Position::new(20), steps }
}

/// Creates a plan that rolls services back from v2 to v1.
fn plan_back(services: &[&str]) -> Plan {
    let step = |name: &&str| step(name, Action::Redeploy, Some(release("v2")), Some(release("v1")));
    plan(services.iter().map(step).collect())
}

const PHASES: [RollbackPhase; 5] = [
    RollbackPhase::Requested,
    RollbackPhase::Started,
    RollbackPhase::Succeeded,
    RollbackPhase::Failed,
    RollbackPhase::Cancelled,
];

/// Creates answers of `(name, granted)` at positions 11, 12, 13 …
fn votes(given: &[(&str, bool)]) -> Vec<ApprovalVote> {
    let vote = |((name, granted), position): (&(&str, bool), u64)| ApprovalVote {
        actor: person(name),
        granted: *granted,
        position: Position::new(position),
    };
    given.iter().zip(11..).map(vote).collect()
}

/// Calls `check` with a rollback in this phase that ada requested.
fn in_phase<T>(
    phase: RollbackPhase,
    approvals: u32,
    given: &[(&str, bool)],
    check: impl FnOnce(&RollbackState<'_>) -> T,
) -> T {
    let (ada, votes) = (person("ada"), votes(given));
    check(&RollbackState { phase, initiated_by: &ada, approvals, votes: &votes })
}

/// Returns the phases in which a transition is allowed.
fn phases(transition: impl Fn(&RollbackState<'_>) -> Result<(), TransitionError>) -> Vec<RollbackPhase> {
    PHASES.into_iter().filter(|phase| in_phase(*phase, 0, &[], &transition).is_ok()).collect()
}

#[test]
fn a_phase_parses_from_its_name() {
    assert_eq!(PHASES.map(|phase| RollbackPhase::named(phase.name())), PHASES.map(Some));
    assert_eq!(RollbackPhase::named("paused"), None);
}

#[test]
fn a_rollback_starts_once_and_ends_once() {
    assert_eq!(phases(|rollback| rollback.start()), [RollbackPhase::Requested]);
    assert_eq!(phases(|rollback| rollback.succeed(Vec::new())), [RollbackPhase::Started]);
    assert_eq!(phases(|rollback| rollback.fail()), [RollbackPhase::Started]);
    assert_eq!(phases(|rollback| rollback.cancel()), [RollbackPhase::Requested, RollbackPhase::Started]);
    assert_eq!(phases(|rollback| rollback.answer(&person("grace"))), [RollbackPhase::Requested]);
}

#[test]
fn a_rollback_is_active_until_it_ends() {
    assert_eq!(PHASES.map(RollbackPhase::is_active), [true, true, false, false, false]);
}

#[test]
fn a_rejected_transition_names_the_phase() {
    assert_eq!(
        in_phase(RollbackPhase::Failed, 0, &[], |rollback| rollback.start()),
        Err(TransitionError::Ended(RollbackPhase::Failed))
    );
    assert_eq!(
        in_phase(RollbackPhase::Started, 0, &[], |rollback| rollback.start()),
        Err(TransitionError::StartedAlready)
    );
    assert_eq!(
        in_phase(RollbackPhase::Requested, 0, &[], |rollback| rollback.fail()),
        Err(TransitionError::NotStarted)
    );
    assert_eq!(
        TransitionError::Ended(RollbackPhase::Failed).to_string(),
        "the rollback has already ended (failed)"
    );
}

#[test]
fn a_rollback_starts_with_the_required_number_of_approvals_by_others() {
    let start =
        |given: &[(&str, bool)]| in_phase(RollbackPhase::Requested, 2, given, |rollback| rollback.start());
    assert_eq!(start(&[]), Err(TransitionError::NotApproved { granted: 0, required: 2 }));
    assert_eq!(start(&[("grace", true)]), Err(TransitionError::NotApproved { granted: 1, required: 2 }));
    assert_eq!(start(&[("grace", true), ("tony", true)]), Ok(()));
    assert_eq!(start(&[("grace", true), ("tony", true), ("leslie", true)]), Ok(()));
}

#[test]
fn the_requester_cannot_approve_the_rollback() {
    let own = in_phase(RollbackPhase::Requested, 1, &[], |rollback| rollback.answer(&person("ada")));
    assert_eq!(own, Err(TransitionError::SelfApproval(short_text("ada"))));
    let counted = in_phase(RollbackPhase::Requested, 1, &[("ada", true)], |rollback| rollback.start());
    assert_eq!(counted, Err(TransitionError::NotApproved { granted: 0, required: 1 }));
}

#[test]
fn one_rejection_prevents_the_start_even_if_no_approval_is_required() {
    let start = |approvals, given: &[(&str, bool)]| {
        in_phase(RollbackPhase::Requested, approvals, given, |rollback| rollback.start())
    };
    assert_eq!(start(0, &[("grace", false)]), Err(TransitionError::Rejected(Position::new(11))));
    assert_eq!(
        start(1, &[("grace", true), ("tony", false)]),
        Err(TransitionError::Rejected(Position::new(12)))
    );
    assert_eq!(start(1, &[("grace", false), ("grace", true)]), Ok(()));
}

#[test]
fn the_number_of_missing_approvals_is_never_negative() {
    let missing = |given: &[(&str, bool)]| {
        in_phase(RollbackPhase::Requested, 1, given, |rollback| rollback.approvals_lacking())
    };
    assert_eq!(missing(&[]), Ok(1));
    assert_eq!(missing(&[("grace", true), ("tony", true)]), Ok(0));
}

#[test]
fn a_rollback_has_not_succeeded_while_a_lane_differs() {
    let differing = vec!["web at default runs v2 instead of v1".to_owned()];
    let rejected = in_phase(RollbackPhase::Started, 0, &[], |rollback| rollback.succeed(differing.clone()));
    assert_eq!(rejected, Err(TransitionError::Differs(differing)));
}

#[test]
fn at_most_ten_differing_lanes_are_listed() {
    let message =
        |count: u32| TransitionError::Differs((1..=count).map(|n| n.to_string()).collect()).to_string();
    let ten = "the environment does not run the planned releases: 1; 2; 3; 4; 5; 6; 7; 8; 9; 10";
    assert_eq!(message(10), ten);
    assert_eq!(message(12), format!("{ten}; and 2 more"));
}

#[test]
fn a_difference_names_the_versions_or_the_other_parts() {
    let (service, target) = (ServiceName::parse("web").expect("a name"), TargetName::default());
    let described = |wanted, runs| difference(&service, &target, wanted, runs);
    let (one, two) = (Release::of_version(short_text("v1")), Release::of_version(short_text("v2")));
    let configured = Release { infrastructure: Some(short_text("git:3f2a")), ..one.clone() };
    assert_eq!(described(Some(&one), Some(&two)), "web at default runs v2 instead of v1");
    assert_eq!(described(Some(&one), None), "web at default runs nothing instead of v1");
    assert_eq!(described(None, Some(&one)), "web at default runs v1 instead of nothing");
    assert_eq!(
        described(Some(&one), Some(&configured)),
        "web at default runs v1 with another artifact, configuration or infrastructure"
    );
}

#[test]
fn rule_15_only_people_other_than_the_requester_may_approve_or_reject() {
    let check = |actor: Actor| in_phase(RollbackPhase::Requested, 1, &[], |rollback| rollback.answer(&actor));
    let of = |kind: &str, name: &str| Actor { kind: short_text(kind), name: short_text(name) };
    assert_eq!(check(of("person", "ADA")), Err(TransitionError::SelfApproval(short_text("ADA"))));
    for kind in ["workload", "admin"] {
        assert_eq!(check(of(kind, "grace")), Err(TransitionError::NotAPerson(short_text("grace"))));
    }
    let ignored = ApprovalVote { actor: of("admin", "grace"), granted: true, position: Position::new(11) };
    let ada = person("ada");
    let rollback = RollbackState {
        phase: RollbackPhase::Requested,
        initiated_by: &ada,
        approvals: 1,
        votes: &[ignored],
    };
    assert_eq!(rollback.start(), Err(TransitionError::NotApproved { granted: 0, required: 1 }));
}

fn request() -> RollbackRequest {
    RollbackRequest {
        rollback: Rollback {
            environment: EnvironmentName::parse("production").expect("a name"),
            rollback_id: short_text("r-1"),
        },
        to: Position::new(5),
        at: None,
        source: None,
        scope: LaneFilter::default(),
        plan: plan_back(&["web"]),
        plan_digest: ConfigDigest::parse(&plan_back(&["web"]).digest()).expect("a digest"),
        initiated_by: person("ada"),
        automatic: false,
        force: false,
        policy: None,
        cause: None,
    }
}

#[test]
fn rule_22_the_same_rollback_id_is_a_duplicate_only_of_the_same_request() {
    let long_text = |text: &str| LongText::parse(text).expect("a valid text");
    let (first, reason) = (request(), long_text("v2 is slow"));
    let is_same = |other: &RollbackRequest, other_reason: &LongText| {
        RequestContent::of(&first, Some(&reason)).is_same(&RequestContent::of(other, Some(other_reason)))
    };
    // Requested later by the same person, with a plan against another state.
    let later =
        RollbackRequest { plan: plan_back(&["api", "web"]), initiated_by: person("Ada"), ..request() };
    assert!(is_same(&later, &reason));
    let web = LaneFilter { services: std::iter::once(service("web")).collect(), ..LaneFilter::default() };
    for other in [
        RollbackRequest { to: Position::new(6), ..request() },
        RollbackRequest { at: Some(time(0)), ..request() },
        RollbackRequest { scope: web, ..request() },
        RollbackRequest { force: true, ..request() },
        RollbackRequest { initiated_by: person("grace"), ..request() },
    ] {
        assert!(!is_same(&other, &reason), "{other:?}");
    }
    assert!(!is_same(&request(), &long_text("something else")));
}
