//! Tests of a candidate's decisions, by the evidence known at each deploy, and of the outcomes of the deploys.

mod agreement;
mod hard_cases;
mod naive;
mod naive_promotion;
mod naive_spans;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::event::{
    Action, Actor, Approval, ApprovalSubject, AutomaticRollback, AutomaticScope, Ending, Freeze, Plan,
    Promotion, PromotionTargets, Removal, Revoked, Rollback, RollbackRequest, RollbackStart, Step, Switch,
    Validation, ValidationSubject,
};
use crate::{ConfigDigest, LaneFilter, LaneRef, Release, SlotName};

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("a short text")
}

fn name(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).expect("a name")
}

fn lane(environment: &str) -> LaneRef {
    let service = ServiceName::parse("web").expect("a name");
    LaneRef { environment: name(environment), service, target: Some(TargetName::default()) }
}

fn release(version: &str) -> Release {
    let artifact = Artifact::parse(&format!("pkg:cargo/web@{version}")).expect("an artifact");
    Release { artifact: Some(artifact), ..Release::of_version(short_text(version)) }
}

fn deployed(environment: &str, version: &str) -> Deploy {
    Deploy {
        lane: lane(environment),
        slot: None,
        deployment: None,
        release: release(version),
        reversible: true,
        rollback_id: None,
        ending: Ending::default(),
    }
}

fn deploy(environment: &str, version: &str) -> Payload {
    Payload::DeploySucceeded(deployed(environment, version))
}

fn slot(name: &str) -> SlotName {
    SlotName::parse(name).expect("a slot")
}

fn check_end(check: &str, passed: bool, subject: ValidationSubject) -> Payload {
    let validation =
        Validation { check: short_text(check), subject, run: None, evidence: Vec::new(), counts: None };
    if passed { Payload::ValidationPassed(validation) } else { Payload::ValidationFailed(validation) }
}

/// Returns the end of a check of a version in the lane of an environment.
fn version_check(environment: &str, version: &str, check: &str, passed: bool) -> Payload {
    let release = Some(Release::of_version(short_text(version)));
    check_end(check, passed, ValidationSubject::Lane { lane: lane(environment), release, deployment: None })
}

/// Returns the end of a check that names the lane only.
fn lane_check(environment: &str, check: &str, passed: bool) -> Payload {
    let subject = ValidationSubject::Lane { lane: lane(environment), release: None, deployment: None };
    check_end(check, passed, subject)
}

fn rollback(id: &str) -> Rollback {
    Rollback { environment: name("production"), rollback_id: short_text(id) }
}

fn rollback_start(id: &str) -> RollbackStart {
    RollbackStart { rollback: rollback(id), acknowledge: BTreeSet::new() }
}

/// Returns the request of a rollback that removes a version from production.
fn rollback_requested(id: &str, version: &str) -> Payload {
    let LaneRef { service, .. } = lane("production");
    let target = TargetName::default();
    let from = Some(release(version));
    let step = Step { wave: 1, service, target, action: Action::Remove, slot: None, from, to: None };
    Payload::RollbackRequested(RollbackRequest {
        rollback: rollback(id),
        to: Position::new(1),
        at: None,
        source: None,
        scope: LaneFilter::default(),
        plan: Plan { from: Position::new(1), steps: vec![step] },
        plan_digest: ConfigDigest::parse(&format!("sha256:{}", "0".repeat(64))).expect("a digest"),
        initiated_by: person("mira"),
        automatic: false,
        force: false,
        policy: None,
        cause: None,
    })
}

fn person(name: &str) -> Actor {
    Actor { kind: short_text("person"), name: short_text(name) }
}

fn approved(version: &str) -> Payload {
    let subject = ApprovalSubject::Deploy {
        lane: lane("production"),
        release: Release::of_version(short_text(version)),
    };
    Payload::ApprovalGranted(Approval { subject, expires_at: None })
}

fn freeze(until: Option<i64>) -> Freeze {
    Freeze { environment: name("production"), freeze_id: short_text("year-end"), until: until.map(time) }
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

/// A payload with the second at which it occurred and the name of its actor.
type TimedPayload = (i64, Payload, &'static str);

/// A payload with its time and actor, and the position of the event that it corrects.
#[derive(Debug, Clone)]
struct Entry {
    at: i64,
    payload: Payload,
    actor: &'static str,
    corrects: Option<u64>,
}

impl Entry {
    fn event(&self) -> Event {
        let (payload, actor) = (self.payload.clone(), Some(person(self.actor)));
        Event {
            payload,
            actor,
            sender: None,
            reason: None,
            links: Vec::new(),
            corrects: self.corrects.map(identity),
        }
    }
}

impl From<&TimedPayload> for Entry {
    fn from((at, payload, actor): &TimedPayload) -> Self {
        Self { at: *at, payload: payload.clone(), actor, corrects: None }
    }
}

/// Returns the identity of the event at a position.
fn identity(position: u64) -> Identity {
    let source = crate::Source::parse("https://ci.example").expect("a source");
    Identity { source, id: crate::EventId::parse(&position.to_string()).expect("an id") }
}

fn feed(backtest: &mut Backtest, position: u64, entry: &Entry) {
    backtest.feed(Position::new(position), time(entry.at), &identity(position), &entry.event());
}

fn candidate(policy: &Policy, listed: usize) -> Candidate {
    Candidate {
        environment: name("production"),
        policy: policy.clone(),
        after: Position::START,
        listed,
        unknown_rollbacks: false,
    }
}

fn backtest_of(policy: &Policy, entries: &[Entry], listed: usize) -> Backtest {
    let mut backtest = Backtest::of(candidate(policy, listed));
    for (entry, position) in entries.iter().zip(1..) {
        feed(&mut backtest, position, entry);
    }
    backtest
}

fn report_of(policy: &Policy, history: &[TimedPayload], listed: usize) -> Report {
    let entries: Vec<Entry> = history.iter().map(Entry::from).collect();
    backtest_of(policy, &entries, listed).report()
}

/// Runs a back-test on payloads by ada at positions 1, 2, 3 …, each at the second equal to its position.
fn report(policy: &Policy, payloads: &[Payload]) -> Report {
    let history: Vec<TimedPayload> =
        payloads.iter().cloned().zip(1..).map(|(payload, at)| (at, payload, "ada")).collect();
    report_of(policy, &history, 100)
}

/// Returns `stopped` or `allowed` for the only deploy, and the position of its failure.
fn only_outcome(report: &Report) -> (&'static str, Option<u64>) {
    assert_eq!(report.deploys, 1, "{report:?}");
    let deploy = report.stopped_deploys.iter().chain(&report.missed_deploys).next();
    let failed = deploy.and_then(|deploy| deploy.failure.as_ref()).map(|failure| failure.position.get());
    (if report.stopped == 1 { "stopped" } else { "allowed" }, failed)
}

fn from_staging() -> Policy {
    Policy {
        promotion: Some(Promotion { from: vec![name("staging")], targets: PromotionTargets::All }),
        ..Policy::default()
    }
}

fn requiring(checks: &[&str]) -> Policy {
    Policy {
        required_validations: checks.iter().map(|check| short_text(check)).collect(),
        ..Policy::default()
    }
}

#[test]
fn evidence_recorded_after_a_deploy_does_not_allow_it() {
    let passed = version_check("staging", "1", "smoke", true);
    let history = [deploy("staging", "1"), deploy("production", "1"), passed.clone()];
    let result = report(&from_staging(), &history);
    assert_eq!(only_outcome(&result), ("stopped", None));
    assert_eq!((result.false_alarms, result.caught), (1, 0));
    let finding = &result.stopped_deploys[0].findings[0];
    assert_eq!(finding.detail, "the release ran in staging but is not known good there: no check passed");

    let history = [deploy("staging", "1"), passed, deploy("production", "1")];
    assert_eq!(only_outcome(&report(&from_staging(), &history)), ("allowed", None));
}

#[test]
fn a_failed_deploy_is_caught_if_it_was_stopped_and_missed_if_it_was_allowed() {
    let history = [
        deploy("production", "1"),
        version_check("production", "1", "smoke", false),
        deploy("staging", "2"),
        version_check("staging", "2", "smoke", true),
        deploy("production", "2"),
        version_check("production", "2", "smoke", false),
        deploy("production", "3"),
    ];
    let result = report(&from_staging(), &history);
    assert_eq!((result.deploys, result.allowed, result.stopped), (3, 1, 2));
    assert_eq!((result.caught, result.false_alarms, result.missed), (1, 1, 1));
    let positions =
        |deploys: &[Judged]| deploys.iter().map(|deploy| deploy.position.get()).collect::<Vec<_>>();
    assert_eq!(positions(&result.stopped_deploys), [1, 7]);
    assert_eq!(positions(&result.missed_deploys), [5]);
    let failure = Failure { cause: Cause::Check(short_text("smoke")), position: Position::new(6) };
    assert_eq!(result.missed_deploys[0].failure, Some(failure));
}

#[test]
fn the_latest_result_of_a_check_counts_and_only_while_the_release_is_in_the_lane() {
    let policy = Policy::default();
    let mut history = vec![
        deploy("production", "1"),
        version_check("production", "1", "smoke", false),
        version_check("production", "1", "smoke", true),
    ];
    assert_eq!(only_outcome(&report(&policy, &history)), ("allowed", None));

    history.push(Payload::DeployRemoved(Removal {
        lane: lane("production"),
        slot: None,
        deployment: None,
        rollback_id: None,
    }));
    history.push(version_check("production", "1", "smoke", false));
    assert_eq!(only_outcome(&report(&policy, &history)), ("allowed", None));
}

#[test]
fn if_the_candidate_names_checks_only_those_count_as_failures() {
    let history = [deploy("production", "1"), version_check("production", "1", "e2e", false)];
    assert_eq!(only_outcome(&report(&Policy::default(), &history)), ("allowed", Some(2)));
    assert_eq!(only_outcome(&report(&requiring(&["e2e"]), &history)), ("allowed", Some(2)));
    assert_eq!(only_outcome(&report(&requiring(&["smoke"]), &history)), ("allowed", None));
    let rule = AutomaticRollback {
        checks: vec![short_text("e2e")],
        cool_down_seconds: 0,
        at_most_a_day: 1,
        scope: AutomaticScope::Service,
        at_most_steps: AutomaticRollback::DEFAULT_AT_MOST_STEPS,
        at_most_age_seconds: AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS,
    };
    let policy = Policy { automatic_rollback: Some(rule), ..requiring(&["smoke"]) };
    assert_eq!(only_outcome(&report(&policy, &history)), ("allowed", Some(2)));
}

#[test]
fn a_rollback_that_takes_a_release_out_is_a_failure_unless_it_was_cancelled() {
    let policy = Policy::default();
    let mut history = vec![deploy("production", "1"), rollback_requested("r-1", "1")];
    let result = report(&policy, &history);
    assert_eq!(only_outcome(&result), ("allowed", Some(2)));
    let failure = result.missed_deploys[0].failure.as_ref().expect("it failed");
    assert_eq!(failure.cause, Cause::Rollback(short_text("r-1")));

    history.push(Payload::RollbackCancelled(rollback("r-1")));
    assert_eq!(only_outcome(&report(&policy, &history)), ("allowed", None));
    let other = [deploy("production", "1"), rollback_requested("r-1", "0")];
    assert_eq!(only_outcome(&report(&policy, &other)), ("allowed", None));
}

#[test]
fn rollback_steps_are_not_tested_and_other_deploys_are_stopped_while_a_rollback_is_under_way() {
    let step = Deploy { rollback_id: Some(short_text("r-1")), ..deployed("production", "1") };
    let history = [
        rollback_requested("r-1", "2"),
        Payload::RollbackStarted(rollback_start("r-1")),
        Payload::DeploySucceeded(step),
        deploy("production", "3"),
        Payload::RollbackSucceeded(rollback("r-1")),
    ];
    let result = report(&Policy::default(), &history);
    assert_eq!(only_outcome(&result), ("stopped", None));
    assert_eq!(result.stopped_deploys[0].findings[0].detail, "rollback r-1 is under way");
}

#[test]
fn deploys_that_name_a_rollback_without_being_its_steps_are_tested_if_asked_for() {
    let step = Deploy { rollback_id: Some(short_text("r-1")), ..deployed("production", "1") };
    let mut restoring = rollback_requested("r-1", "2");
    if let Payload::RollbackRequested(request) = &mut restoring {
        request.plan.steps[0].to = Some(release("1"));
    }
    let started = Payload::RollbackStarted(rollback_start("r-1"));
    let other = Deploy { rollback_id: Some(short_text("r-1")), ..deployed("production", "3") };
    for (payloads, tested) in [
        (vec![restoring.clone(), started.clone(), Payload::DeploySucceeded(step.clone())], 0),
        (vec![restoring.clone(), Payload::DeploySucceeded(step.clone()), started.clone()], 1),
        (vec![restoring, started, Payload::DeploySucceeded(other)], 1),
        (vec![Payload::DeploySucceeded(step)], 1),
    ] {
        let mut backtest =
            Backtest::of(Candidate { unknown_rollbacks: true, ..candidate(&Policy::default(), 9) });
        for (payload, position) in payloads.into_iter().zip(1..) {
            feed(&mut backtest, position, &Entry::from(&(position.cast_signed(), payload, "ada")));
        }
        assert_eq!(backtest.report().deploys, tested);
    }
}

#[test]
fn a_release_that_was_rolled_back_is_held_until_another_version_is_deployed() {
    let mut history = vec![
        rollback_requested("r-1", "2"),
        Payload::RollbackStarted(rollback_start("r-1")),
        Payload::RollbackSucceeded(rollback("r-1")),
        deploy("production", "2"),
    ];
    assert_eq!(only_outcome(&report(&Policy::default(), &history)).0, "stopped");

    history.insert(3, deploy("production", "3"));
    let result = report(&Policy::default(), &history);
    assert_eq!((result.deploys, result.stopped), (2, 0));
}

#[test]
fn a_freeze_applies_by_the_time_of_the_deploy_not_of_its_report() {
    let start = Payload::FreezeStarted(freeze(Some(100)));
    let lift = Payload::FreezeLifted(freeze(None));
    for (at, verdict) in [(9, "allowed"), (10, "stopped"), (19, "stopped"), (20, "allowed"), (100, "allowed")]
    {
        let history: [TimedPayload; 3] =
            [(10, start.clone(), "mira"), (20, lift.clone(), "mira"), (at, deploy("production", "1"), "ada")];
        assert_eq!(only_outcome(&report_of(&Policy::default(), &history, 1)).0, verdict, "at {at}");
    }
    let until: [TimedPayload; 2] = [(10, start, "mira"), (100, deploy("production", "1"), "ada")];
    assert_eq!(only_outcome(&report_of(&Policy::default(), &until, 1)).0, "allowed");
}

#[test]
fn only_earlier_approvals_by_other_people_count() {
    let policy = Policy { approvals: 1, ..Policy::default() };
    let outcome = |approver, approves_at: usize| {
        let mut history: Vec<TimedPayload> = vec![(1, deploy("production", "1"), "ada")];
        history.insert(approves_at, (1, approved("1"), approver));
        only_outcome(&report_of(&policy, &history, 1)).0
    };
    assert_eq!(outcome("mira", 0), "allowed");
    assert_eq!(outcome("mira", 1), "stopped");
    assert_eq!(outcome("ada", 0), "stopped");
}

#[test]
fn a_revocation_after_a_deploy_does_not_stop_it() {
    let artifact = release("1").artifact.expect("an artifact");
    let revoked = Payload::ArtifactRevoked(Revoked { artifact, advisory: None, deleted: true });
    let policy = Policy::default();
    assert_eq!(only_outcome(&report(&policy, &[revoked.clone(), deploy("production", "1")])).0, "stopped");
    assert_eq!(only_outcome(&report(&policy, &[deploy("production", "1"), revoked])).0, "allowed");
}

#[test]
fn soak_time_counts_up_to_the_deploy_under_the_source_environments_policy_at_that_time() {
    let soaking = |seconds| {
        Payload::EnvironmentDeclared(name("staging"), Policy { soak_seconds: seconds, ..Policy::default() })
    };
    let outcome = |at: i64, declared: usize| {
        let mut history: Vec<TimedPayload> = vec![
            (0, deploy("staging", "1"), "ada"),
            (1, version_check("staging", "1", "smoke", true), "ada"),
            (at, deploy("production", "1"), "ada"),
        ];
        history.insert(declared, (0, soaking(60), "ada"));
        only_outcome(&report_of(&from_staging(), &history, 1)).0
    };
    assert_eq!(outcome(59, 0), "stopped");
    assert_eq!(outcome(60, 0), "allowed");
    assert_eq!(outcome(59, 3), "allowed");
}

#[test]
fn a_check_of_a_lane_applies_to_the_live_release_even_in_a_slot() {
    let in_slot = |version, name| Deploy { slot: Some(slot(name)), ..deployed("staging", version) };
    let switch = |name| {
        let (deployment, rollback_id) = (None, None);
        Payload::TrafficSwitched(Switch { lane: lane("staging"), slot: slot(name), deployment, rollback_id })
    };
    let mut history = vec![
        Payload::DeploySucceeded(in_slot("1", "blue")),
        switch("blue"),
        Payload::DeploySucceeded(in_slot("2", "green")),
        lane_check("staging", "smoke", true),
        deploy("production", "2"),
    ];
    assert_eq!(only_outcome(&report(&from_staging(), &history)).0, "stopped");

    history.insert(3, switch("green"));
    assert_eq!(only_outcome(&report(&from_staging(), &history)).0, "allowed");
}

#[test]
fn a_release_may_fail_while_it_waits_in_its_slot_or_after_it_went_live() {
    let in_slot = |version, name| {
        Payload::DeploySucceeded(Deploy { slot: Some(slot(name)), ..deployed("production", version) })
    };
    let switch = |name| {
        let (deployment, rollback_id) = (None, None);
        Payload::TrafficSwitched(Switch {
            lane: lane("production"),
            slot: slot(name),
            deployment,
            rollback_id,
        })
    };
    let failed = || version_check("production", "2", "smoke", false);
    let missed = |payloads: &[Payload]| {
        let mut history = vec![in_slot("1", "blue"), switch("blue"), in_slot("2", "green")];
        history.extend_from_slice(payloads);
        let result = report(&Policy::default(), &history);
        result.missed_deploys.iter().map(|deploy| deploy.position.get()).collect::<Vec<_>>()
    };
    assert_eq!(missed(&[failed()]), [3]);
    assert_eq!(missed(&[switch("green"), failed()]), [3]);
    assert_eq!(missed(&[switch("green"), switch("blue"), failed()]), [0; 0]);
    assert_eq!(missed(&[in_slot("3", "green"), failed()]), [0; 0]);
}

#[test]
fn a_deploy_reported_late_lasts_until_the_next_deploy_by_time() {
    let history: [TimedPayload; 4] = [
        (20, deploy("production", "2"), "ada"),
        (30, lane_check("production", "smoke", false), "ada"),
        (10, deploy("production", "1"), "ada"),
        (12, lane_check("production", "smoke", true), "ada"),
    ];
    let result = report_of(&Policy::default(), &history, 10);
    assert_eq!((result.deploys, result.missed), (2, 1));
    assert_eq!(result.missed_deploys[0].version, short_text("2"));
}

#[test]
fn only_deploys_after_the_position_are_tested_and_only_the_first_are_listed() {
    let payloads: Vec<Payload> = (0..6).map(|n| deploy("production", &n.to_string())).collect();
    let candidate = Candidate { after: Position::new(2), ..candidate(&from_staging(), 3) };
    let mut backtest = Backtest::of(candidate);
    for (payload, position) in payloads.into_iter().zip(1..) {
        feed(&mut backtest, position, &Entry::from(&(position.cast_signed(), payload, "ada")));
    }
    let result = backtest.report();
    assert_eq!((result.deploys, result.stopped), (4, 4));
    let listed: Vec<_> = result.stopped_deploys.iter().map(|deploy| deploy.position.get()).collect();
    assert_eq!(listed, [3, 4, 5]);
    assert!(result.stopped_deploys.iter().all(|deploy| !deploy.findings.is_empty()));
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let environment = || prop::sample::select(vec!["staging", "production"]);
    let version = || prop::sample::select(vec!["1", "2", "3"]);
    let check = || prop::sample::select(vec!["smoke", "e2e"]);
    let id = || prop::sample::select(vec!["r-1", "r-2"]);
    let artifact = |version| release(version).artifact.expect("an artifact");
    prop_oneof![
        6 => (environment(), version()).prop_map(|(environment, version)| deploy(environment, version)),
        2 => (environment(), version(), prop::sample::select(vec!["blue", "green"])).prop_map(
            |(environment, version, name)| Payload::DeploySucceeded(Deploy {
                slot: Some(slot(name)),
                ..deployed(environment, version)
            })
        ),
        1 => (environment(), prop::sample::select(vec!["blue", "green"])).prop_map(|(environment, name)| {
            let (deployment, rollback_id) = (None, None);
            Payload::TrafficSwitched(Switch { lane: lane(environment), slot: slot(name), deployment, rollback_id })
        }),
        4 => (environment(), version(), check(), any::<bool>())
            .prop_map(|(environment, version, check, passed)| version_check(environment, version, check, passed)),
        3 => (environment(), check(), any::<bool>())
            .prop_map(|(environment, check, passed)| lane_check(environment, check, passed)),
        1 => (environment(), check(), any::<bool>()).prop_map(|(environment, check, passed)| {
            check_end(check, passed, ValidationSubject::Environment(name(environment)))
        }),
        1 => (version(), check(), any::<bool>()).prop_map(move |(version, check, passed)| {
            check_end(check, passed, ValidationSubject::Artifact(artifact(version)))
        }),
        1 => (id(), version()).prop_map(|(id, version)| rollback_requested(id, version)),
        1 => id().prop_map(|id| Payload::RollbackStarted(rollback_start(id))),
        1 => id().prop_map(|id| Payload::RollbackCancelled(rollback(id))),
        1 => version().prop_map(approved),
        1 => version().prop_map(move |version| Payload::ArtifactRevoked(Revoked {
            artifact: artifact(version),
            advisory: None,
            deleted: false
        })),
        1 => prop::option::of(0..60_i64).prop_map(|until| Payload::FreezeStarted(freeze(until))),
        1 => Just(Payload::FreezeLifted(freeze(None))),
        1 => (environment(), 0..20_u64).prop_map(|(environment, soak_seconds)| {
            Payload::EnvironmentDeclared(name(environment), Policy { soak_seconds, ..Policy::default() })
        }),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<TimedPayload>> {
    let timed = (0..60_i64, any_payload(), prop::sample::select(vec!["ada", "mira"]));
    prop::collection::vec(timed, 0..60)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), 0..2_u32, any::<bool>()).prop_map(|(promotion, approvals, required)| Policy {
        promotion: promotion
            .then(|| Promotion { from: vec![name("staging")], targets: PromotionTargets::All }),
        approvals,
        required_validations: if required { vec![short_text("smoke")] } else { Vec::new() },
        ..Policy::default()
    })
}

proptest! {
    #[test]
    fn a_decision_does_not_change_with_later_events(
        policy in any_policy(),
        history in any_history(),
        length in any::<prop::sample::Index>(),
    ) {
        let length = length.index(history.len() + 1);
        let then = report_of(&policy, &history[..length], usize::MAX);
        let now = report_of(&policy, &history, usize::MAX);
        let stopped = |report: &Report| {
            let then = report.stopped_deploys.iter().filter(|it| it.position.get() <= length as u64);
            then.map(|deploy| (deploy.position, deploy.findings.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(stopped(&then), stopped(&now));
    }

    #[test]
    fn the_totals_add_up(policy in any_policy(), history in any_history()) {
        let result = report_of(&policy, &history, usize::MAX);
        let tested = history.iter().filter(|(_, payload, _)| {
            matches!(payload, Payload::DeploySucceeded(deploy) if deploy.lane.environment == name("production"))
        });
        prop_assert_eq!(result.deploys, tested.count() as u64);
        prop_assert_eq!(result.deploys, result.allowed + result.stopped);
        prop_assert_eq!(result.stopped, result.caught + result.false_alarms);
        prop_assert_eq!(result.stopped, result.stopped_deploys.len() as u64);
        prop_assert_eq!(result.missed, result.missed_deploys.len() as u64);
        let caught = result.stopped_deploys.iter().filter(|deploy| deploy.failure.is_some());
        prop_assert_eq!(result.caught, caught.count() as u64);
    }
}
