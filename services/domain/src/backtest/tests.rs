//! What a candidate would have stopped, by what was known then; and what became of the deploys.

mod agreement;
mod hard_cases;
mod naive;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::event::{
    Action, Actor, Approval, ApprovalSubject, AutomaticRollback, AutomaticScope, Ending, Freeze, Plan,
    Promotion, PromotionTargets, Removal, Revoked, Rollback, RollbackRequest, RollbackStart, Step, Switch,
    Validation, ValidationSubject,
};
use crate::{ConfigDigest, LaneFilter, LaneRef, Release, SlotName};

fn line(text: &str) -> ShortText {
    ShortText::parse(text).expect("a line")
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
    Release { artifact: Some(artifact), ..Release::of_version(line(version)) }
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

fn said(check: &str, passed: bool, subject: ValidationSubject) -> Payload {
    let validation =
        Validation { check: line(check), subject, run: None, evidence: Vec::new(), counts: None };
    if passed { Payload::ValidationPassed(validation) } else { Payload::ValidationFailed(validation) }
}

/// What a check says of a version in the lane of an environment.
fn checked(environment: &str, version: &str, check: &str, passed: bool) -> Payload {
    let release = Some(Release::of_version(line(version)));
    said(check, passed, ValidationSubject::Lane { lane: lane(environment), release, deployment: None })
}

/// What a check says that names the lane only.
fn unnamed(environment: &str, check: &str, passed: bool) -> Payload {
    let subject = ValidationSubject::Lane { lane: lane(environment), release: None, deployment: None };
    said(check, passed, subject)
}

fn rollback(id: &str) -> Rollback {
    Rollback { environment: name("production"), rollback_id: line(id) }
}

fn started(id: &str) -> RollbackStart {
    RollbackStart { rollback: rollback(id), acknowledge: BTreeSet::new() }
}

/// Somebody wants production away from a version.
fn leave(id: &str, version: &str) -> Payload {
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
    Actor { kind: line("person"), name: line(name) }
}

fn approved(version: &str) -> Payload {
    let subject =
        ApprovalSubject::Deploy { lane: lane("production"), release: Release::of_version(line(version)) };
    Payload::ApprovalGranted(Approval { subject, expires_at: None })
}

fn freeze(until: Option<i64>) -> Freeze {
    Freeze { environment: name("production"), freeze_id: line("year-end"), until: until.map(time) }
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

/// Something that happened at a second, by somebody.
type Happened = (i64, Payload, &'static str);

/// Something that happened, and the position of what it corrects.
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
        Event { payload, actor, reason: None, links: Vec::new(), corrects: self.corrects.map(identity) }
    }
}

impl From<&Happened> for Entry {
    fn from((at, payload, actor): &Happened) -> Self {
        Self { at: *at, payload: payload.clone(), actor, corrects: None }
    }
}

/// The identity of the event at a position.
fn identity(position: u64) -> Identity {
    let source = crate::Source::parse("https://ci.example").expect("a source");
    Identity { source, id: crate::EventId::parse(&position.to_string()).expect("an id") }
}

fn feed(backtest: &mut Backtest, position: u64, entry: &Entry) {
    backtest.feed(Position::new(position), time(entry.at), &identity(position), &entry.event());
}

fn fed_entries(policy: &Policy, entries: &[Entry], listed: usize) -> Backtest {
    let candidate =
        Candidate { environment: name("production"), policy: policy.clone(), after: Position::START, listed };
    let mut backtest = Backtest::of(candidate);
    for (entry, position) in entries.iter().zip(1..) {
        feed(&mut backtest, position, entry);
    }
    backtest
}

fn fed(policy: &Policy, history: &[Happened], listed: usize) -> Report {
    let entries: Vec<Entry> = history.iter().map(Entry::from).collect();
    fed_entries(policy, &entries, listed).report()
}

/// Told one a second, from second 1 on, at positions 1, 2, 3 …, by ada.
fn report(policy: &Policy, facts: &[Payload]) -> Report {
    let history: Vec<Happened> =
        facts.iter().cloned().zip(1..).map(|(payload, at)| (at, payload, "ada")).collect();
    fed(policy, &history, 100)
}

/// `stopped` or `allowed`, and where it is told that it failed.
fn only(report: &Report) -> (&'static str, Option<u64>) {
    assert_eq!(report.deploys, 1, "{report:?}");
    let judged = report.stopped_deploys.iter().chain(&report.missed_deploys).next();
    let failed = judged.and_then(|judged| judged.failure.as_ref()).map(|failure| failure.position.get());
    (if report.stopped == 1 { "stopped" } else { "allowed" }, failed)
}

fn from_staging() -> Policy {
    Policy {
        promotion: Some(Promotion { from: vec![name("staging")], targets: PromotionTargets::All }),
        ..Policy::default()
    }
}

fn requiring(checks: &[&str]) -> Policy {
    Policy { required_validations: checks.iter().map(|check| line(check)).collect(), ..Policy::default() }
}

#[test]
fn evidence_that_came_later_does_not_let_a_deploy_pass() {
    let passed = checked("staging", "1", "smoke", true);
    let history = [deploy("staging", "1"), deploy("production", "1"), passed.clone()];
    let told = report(&from_staging(), &history);
    assert_eq!(only(&told), ("stopped", None));
    assert_eq!((told.false_alarms, told.caught), (1, 0));
    let finding = &told.stopped_deploys[0].findings[0];
    assert_eq!(finding.detail, "it ran in staging, and is not known good there: no check passed");

    let history = [deploy("staging", "1"), passed, deploy("production", "1")];
    assert_eq!(only(&report(&from_staging(), &history)), ("allowed", None));
}

#[test]
fn what_is_stopped_and_fails_is_caught_and_what_passes_and_fails_is_missed() {
    let history = [
        deploy("production", "1"),
        checked("production", "1", "smoke", false),
        deploy("staging", "2"),
        checked("staging", "2", "smoke", true),
        deploy("production", "2"),
        checked("production", "2", "smoke", false),
        deploy("production", "3"),
    ];
    let told = report(&from_staging(), &history);
    assert_eq!((told.deploys, told.allowed, told.stopped), (3, 1, 2));
    assert_eq!((told.caught, told.false_alarms, told.missed), (1, 1, 1));
    let positions = |judged: &[Judged]| judged.iter().map(|judged| judged.position.get()).collect::<Vec<_>>();
    assert_eq!(positions(&told.stopped_deploys), [1, 7]);
    assert_eq!(positions(&told.missed_deploys), [5]);
    let failure = Failure { cause: Cause::Check(line("smoke")), position: Position::new(6) };
    assert_eq!(told.missed_deploys[0].failure, Some(failure));
}

#[test]
fn a_checks_last_word_counts_and_only_while_the_release_stands() {
    let policy = Policy::default();
    let mut history = vec![
        deploy("production", "1"),
        checked("production", "1", "smoke", false),
        checked("production", "1", "smoke", true),
    ];
    assert_eq!(only(&report(&policy, &history)), ("allowed", None));

    history.push(Payload::DeployRemoved(Removal {
        lane: lane("production"),
        slot: None,
        deployment: None,
        rollback_id: None,
    }));
    history.push(checked("production", "1", "smoke", false));
    assert_eq!(only(&report(&policy, &history)), ("allowed", None));
}

#[test]
fn only_checks_that_the_candidate_names_count_if_it_names_any() {
    let history = [deploy("production", "1"), checked("production", "1", "e2e", false)];
    assert_eq!(only(&report(&Policy::default(), &history)), ("allowed", Some(2)));
    assert_eq!(only(&report(&requiring(&["e2e"]), &history)), ("allowed", Some(2)));
    assert_eq!(only(&report(&requiring(&["smoke"]), &history)), ("allowed", None));
    let rule = AutomaticRollback {
        checks: vec![line("e2e")],
        cool_down_seconds: 0,
        at_most_a_day: 1,
        scope: AutomaticScope::Service,
        at_most_steps: AutomaticRollback::DEFAULT_AT_MOST_STEPS,
        at_most_age_seconds: AutomaticRollback::DEFAULT_AT_MOST_AGE_SECONDS,
    };
    let policy = Policy { automatic_rollback: Some(rule), ..requiring(&["smoke"]) };
    assert_eq!(only(&report(&policy, &history)), ("allowed", Some(2)));
}

#[test]
fn a_rollback_away_from_a_release_is_a_failure_unless_it_was_cancelled() {
    let policy = Policy::default();
    let mut history = vec![deploy("production", "1"), leave("r-1", "1")];
    let told = report(&policy, &history);
    assert_eq!(only(&told), ("allowed", Some(2)));
    let failure = told.missed_deploys[0].failure.as_ref().expect("it failed");
    assert_eq!(failure.cause, Cause::Rollback(line("r-1")));

    history.push(Payload::RollbackCancelled(rollback("r-1")));
    assert_eq!(only(&report(&policy, &history)), ("allowed", None));
    let other = [deploy("production", "1"), leave("r-1", "0")];
    assert_eq!(only(&report(&policy, &other)), ("allowed", None));
}

#[test]
fn steps_of_a_rollback_are_not_judged_and_others_are_stopped_while_it_is_under_way() {
    let step = Deploy { rollback_id: Some(line("r-1")), ..deployed("production", "1") };
    let history = [
        leave("r-1", "2"),
        Payload::RollbackStarted(started("r-1")),
        Payload::DeploySucceeded(step),
        deploy("production", "3"),
        Payload::RollbackSucceeded(rollback("r-1")),
    ];
    let told = report(&Policy::default(), &history);
    assert_eq!(only(&told), ("stopped", None));
    assert_eq!(told.stopped_deploys[0].findings[0].detail, "rollback r-1 is under way");
}

#[test]
fn a_release_that_was_rolled_back_is_held_until_another_version_comes() {
    let mut history = vec![
        leave("r-1", "2"),
        Payload::RollbackStarted(started("r-1")),
        Payload::RollbackSucceeded(rollback("r-1")),
        deploy("production", "2"),
    ];
    assert_eq!(only(&report(&Policy::default(), &history)).0, "stopped");

    history.insert(3, deploy("production", "3"));
    let told = report(&Policy::default(), &history);
    assert_eq!((told.deploys, told.stopped), (2, 0));
}

#[test]
fn a_freeze_holds_at_the_time_of_the_deploy_not_of_its_report() {
    let start = Payload::FreezeStarted(freeze(Some(100)));
    let lift = Payload::FreezeLifted(freeze(None));
    for (at, verdict) in [(9, "allowed"), (10, "stopped"), (19, "stopped"), (20, "allowed"), (100, "allowed")]
    {
        let history: [Happened; 3] =
            [(10, start.clone(), "mira"), (20, lift.clone(), "mira"), (at, deploy("production", "1"), "ada")];
        assert_eq!(only(&fed(&Policy::default(), &history, 1)).0, verdict, "at {at}");
    }
    let until: [Happened; 2] = [(10, start, "mira"), (100, deploy("production", "1"), "ada")];
    assert_eq!(only(&fed(&Policy::default(), &until, 1)).0, "allowed");
}

#[test]
fn approvals_count_that_were_given_before_and_by_others() {
    let policy = Policy { approvals: 1, ..Policy::default() };
    let judged = |approver, approves_at: usize| {
        let mut history: Vec<Happened> = vec![(1, deploy("production", "1"), "ada")];
        history.insert(approves_at, (1, approved("1"), approver));
        only(&fed(&policy, &history, 1)).0
    };
    assert_eq!(judged("mira", 0), "allowed");
    assert_eq!(judged("mira", 1), "stopped");
    assert_eq!(judged("ada", 0), "stopped");
}

#[test]
fn an_artifact_that_is_revoked_afterwards_was_not_known_to_be() {
    let artifact = release("1").artifact.expect("an artifact");
    let revoked = Payload::ArtifactRevoked(Revoked { artifact, advisory: None, deleted: true });
    let policy = Policy::default();
    assert_eq!(only(&report(&policy, &[revoked.clone(), deploy("production", "1")])).0, "stopped");
    assert_eq!(only(&report(&policy, &[deploy("production", "1"), revoked])).0, "allowed");
}

#[test]
fn soaking_ends_with_the_deploy_and_the_other_environments_policy_is_the_one_of_then() {
    let soaking = |seconds| {
        Payload::EnvironmentDeclared(name("staging"), Policy { soak_seconds: seconds, ..Policy::default() })
    };
    let judged = |at: i64, declared: usize| {
        let mut history: Vec<Happened> = vec![
            (0, deploy("staging", "1"), "ada"),
            (1, checked("staging", "1", "smoke", true), "ada"),
            (at, deploy("production", "1"), "ada"),
        ];
        history.insert(declared, (0, soaking(60), "ada"));
        only(&fed(&from_staging(), &history, 1)).0
    };
    assert_eq!(judged(59, 0), "stopped");
    assert_eq!(judged(60, 0), "allowed");
    assert_eq!(judged(59, 3), "allowed");
}

#[test]
fn a_check_that_names_nothing_is_of_what_ran_then_in_a_slot_as_well() {
    let in_slot = |version, name| Deploy { slot: Some(slot(name)), ..deployed("staging", version) };
    let switch = |name| {
        let (deployment, rollback_id) = (None, None);
        Payload::TrafficSwitched(Switch { lane: lane("staging"), slot: slot(name), deployment, rollback_id })
    };
    let mut history = vec![
        Payload::DeploySucceeded(in_slot("1", "blue")),
        switch("blue"),
        Payload::DeploySucceeded(in_slot("2", "green")),
        unnamed("staging", "smoke", true),
        deploy("production", "2"),
    ];
    assert_eq!(only(&report(&from_staging(), &history)).0, "stopped");

    history.insert(3, switch("green"));
    assert_eq!(only(&report(&from_staging(), &history)).0, "allowed");
}

#[test]
fn a_release_that_waits_in_its_slot_fails_there_or_after_traffic_reached_it() {
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
    let failed = || checked("production", "2", "smoke", false);
    let missed = |facts: &[Payload]| {
        let mut history = vec![in_slot("1", "blue"), switch("blue"), in_slot("2", "green")];
        history.extend_from_slice(facts);
        let told = report(&Policy::default(), &history);
        told.missed_deploys.iter().map(|judged| judged.position.get()).collect::<Vec<_>>()
    };
    assert_eq!(missed(&[failed()]), [3]);
    assert_eq!(missed(&[switch("green"), failed()]), [3]);
    assert_eq!(missed(&[switch("green"), switch("blue"), failed()]), [0; 0]);
    assert_eq!(missed(&[in_slot("3", "green"), failed()]), [0; 0]);
}

#[test]
fn a_deploy_that_is_told_late_stood_until_the_one_that_came_after_it() {
    let history: [Happened; 4] = [
        (20, deploy("production", "2"), "ada"),
        (30, unnamed("production", "smoke", false), "ada"),
        (10, deploy("production", "1"), "ada"),
        (12, unnamed("production", "smoke", true), "ada"),
    ];
    let told = fed(&Policy::default(), &history, 10);
    assert_eq!((told.deploys, told.missed), (2, 1));
    assert_eq!(told.missed_deploys[0].version, line("2"));
}

#[test]
fn only_deploys_after_the_given_position_are_judged_and_only_the_first_are_listed() {
    let facts: Vec<Payload> = (0..6).map(|n| deploy("production", &n.to_string())).collect();
    let candidate = Candidate {
        environment: name("production"),
        policy: from_staging(),
        after: Position::new(2),
        listed: 3,
    };
    let mut backtest = Backtest::of(candidate);
    for (payload, position) in facts.into_iter().zip(1..) {
        feed(&mut backtest, position, &Entry::from(&(position.cast_signed(), payload, "ada")));
    }
    let told = backtest.report();
    assert_eq!((told.deploys, told.stopped), (4, 4));
    let listed: Vec<_> = told.stopped_deploys.iter().map(|judged| judged.position.get()).collect();
    assert_eq!(listed, [3, 4, 5]);
    assert!(told.stopped_deploys.iter().all(|judged| !judged.findings.is_empty()));
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
            .prop_map(|(environment, version, check, passed)| checked(environment, version, check, passed)),
        3 => (environment(), check(), any::<bool>())
            .prop_map(|(environment, check, passed)| unnamed(environment, check, passed)),
        1 => (environment(), check(), any::<bool>()).prop_map(|(environment, check, passed)| {
            said(check, passed, ValidationSubject::Environment(name(environment)))
        }),
        1 => (version(), check(), any::<bool>()).prop_map(move |(version, check, passed)| {
            said(check, passed, ValidationSubject::Artifact(artifact(version)))
        }),
        1 => (id(), version()).prop_map(|(id, version)| leave(id, version)),
        1 => id().prop_map(|id| Payload::RollbackStarted(started(id))),
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

fn any_history() -> impl Strategy<Value = Vec<Happened>> {
    let happened = (0..60_i64, any_payload(), prop::sample::select(vec!["ada", "mira"]));
    prop::collection::vec(happened, 0..60)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), 0..2_u32, any::<bool>()).prop_map(|(promotion, approvals, required)| Policy {
        promotion: promotion
            .then(|| Promotion { from: vec![name("staging")], targets: PromotionTargets::All }),
        approvals,
        required_validations: if required { vec![line("smoke")] } else { Vec::new() },
        ..Policy::default()
    })
}

proptest! {
    #[test]
    fn what_was_decided_does_not_change_by_what_comes_after(
        policy in any_policy(),
        history in any_history(),
        length in any::<prop::sample::Index>(),
    ) {
        let length = length.index(history.len() + 1);
        let then = fed(&policy, &history[..length], usize::MAX);
        let now = fed(&policy, &history, usize::MAX);
        let stopped = |report: &Report| {
            let then = report.stopped_deploys.iter().filter(|it| it.position.get() <= length as u64);
            then.map(|judged| (judged.position, judged.findings.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(stopped(&then), stopped(&now));
    }

    #[test]
    fn the_totals_add_up(policy in any_policy(), history in any_history()) {
        let told = fed(&policy, &history, usize::MAX);
        let judged = history.iter().filter(|(_, payload, _)| {
            matches!(payload, Payload::DeploySucceeded(deploy) if deploy.lane.environment == name("production"))
        });
        prop_assert_eq!(told.deploys, judged.count() as u64);
        prop_assert_eq!(told.deploys, told.allowed + told.stopped);
        prop_assert_eq!(told.stopped, told.caught + told.false_alarms);
        prop_assert_eq!(told.stopped, told.stopped_deploys.len() as u64);
        prop_assert_eq!(told.missed, told.missed_deploys.len() as u64);
        let caught = told.stopped_deploys.iter().filter(|judged| judged.failure.is_some());
        prop_assert_eq!(told.caught, caught.count() as u64);
    }
}
