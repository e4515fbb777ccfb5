//! What a plan meets, and how much each issue weighs.

use std::sync::LazyLock;

use super::*;
use crate::EventId;
use crate::event::{Action, Step};

fn line(text: &str) -> ShortText {
    ShortText::parse(text).expect("a line")
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a service")
}

fn artifact(version: &str) -> Artifact {
    Artifact::parse(&format!("pkg:generic/web@{version}")).expect("a package URL")
}

fn release(version: &str) -> Release {
    Release { artifact: Some(artifact(version)), ..Release::of_version(line(version)) }
}

/// A step from v2 to a version.
fn step(name: &str, action: Action, to: Option<&str>) -> Step {
    Step {
        wave: 1,
        service: service(name),
        target: TargetName::default(),
        action,
        slot: None,
        from: Some(release("v2")),
        to: to.map(release),
    }
}

/// A plan that brings these services to v1.
fn plan(services: &[&str]) -> Plan {
    let steps = services.iter().map(|name| step(name, Action::Redeploy, Some("v1"))).collect();
    Plan { from: Position::new(20), steps }
}

fn time(seconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds.cast_signed(), 0).expect("a time")
}

static NO_RULES: LazyLock<Policy> = LazyLock::new(Policy::default);

/// Position 10, at second 10.
static BEGAN: LazyLock<Since> = LazyLock::new(|| Since {
    occurred_at: time(10),
    position: Position::new(10),
    event_id: EventId::parse("e").expect("an id"),
});

/// The way to a known-good point that began at second 10, and position 10.
fn clear() -> PlanContext<'static> {
    PlanContext {
        source: None,
        retired: None,
        last_ran: BTreeMap::new(),
        began: Some(&BEGAN),
        status: Some(Status::KnownGood),
        policy: &NO_RULES,
        irreversible: &[],
        open: &[],
        revocations: Revocations::default(),
        freezes: &[],
    }
}

/// A deploy that succeeded at a second, reported at the position of the same number.
fn irreversible(name: &str, at: u64) -> IrreversibleDeploy {
    IrreversibleDeploy {
        service: service(name),
        target: TargetName::default(),
        version: line("v2"),
        occurred_at: time(at),
        position: Position::new(at),
        outcome: DeployOutcome::Succeeded,
    }
}

const fn only(revoked: &[RevokedArtifact]) -> Revocations<'_> {
    Revocations { revoked, meant: None }
}

fn revoked(version: &str, deleted: bool) -> RevokedArtifact {
    RevokedArtifact { artifact: artifact(version), deleted, position: Position::new(15) }
}

fn freeze(name: &str) -> ActiveFreeze {
    ActiveFreeze { freeze_id: line(name), until: None, position: Position::new(17) }
}

fn names(met: &[PlanIssue]) -> Vec<&'static str> {
    met.iter().map(PlanIssue::name).collect()
}

#[test]
fn nothing_stands_in_a_clear_way() {
    assert_eq!(issues(&plan(&["web"]), &clear()), []);
}

#[test]
fn a_plan_of_no_steps_is_there_already() {
    assert_eq!(issues(&plan(&[]), &clear()), [PlanIssue::AlreadyThere]);
}

#[test]
fn an_artifact_that_would_be_deployed_must_not_be_revoked() {
    let gone = [revoked("v1", true)];
    let met = issues(&plan(&["web"]), &PlanContext { revocations: only(&gone), ..clear() });
    assert!(matches!(&met[..], [PlanIssue::ArtifactRevoked { deleted: true, .. }]), "{met:?}");
    assert_eq!(met[0].position(), Some(Position::new(15)));
    assert_eq!(met[0].to_string(), "pkg:generic/web@v1 of web at default is deleted (position 15)");
}

#[test]
fn an_artifact_that_traffic_would_be_switched_to_must_not_be_revoked_either() {
    let steps = vec![step("web", Action::Switch, Some("v1"))];
    let (plan, bad) = (Plan { from: Position::new(20), steps }, [revoked("v1", false)]);
    let met = issues(&plan, &PlanContext { revocations: only(&bad), ..clear() });
    assert_eq!(names(&met), ["artifact_revoked"]);
}

#[test]
fn an_artifact_that_the_plan_takes_away_may_be_revoked() {
    let bad = [revoked("v2", false)];
    let steps = vec![step("web", Action::Redeploy, Some("v1")), step("old", Action::Remove, None)];
    let plan = Plan { from: Position::new(20), steps };
    assert_eq!(issues(&plan, &PlanContext { revocations: only(&bad), ..clear() }), []);
}

#[test]
fn a_deploy_that_cannot_be_undone_is_a_barrier_if_it_came_after_the_point_to_a_lane_that_changes() {
    let deploys = [irreversible("web", 10), irreversible("web", 11), irreversible("search", 12)];
    let met = issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..clear() });
    assert_eq!(met, [PlanIssue::Barrier(irreversible("web", 11))]);
    assert_eq!(met[0].position(), Some(Position::new(11)));
}

#[test]
fn rule_23_barriers_are_ordered_by_when_they_occurred_not_by_when_they_were_reported() {
    let late = IrreversibleDeploy { position: Position::new(30), ..irreversible("web", 9) };
    let early = IrreversibleDeploy { position: Position::new(5), ..irreversible("web", 11) };
    let deploys = [late, early.clone()];
    let met = issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..clear() });
    assert_eq!(met, [PlanIssue::Barrier(early)]);
}

#[test]
fn rule_23_an_irreversible_deploy_that_failed_is_a_barrier_and_one_without_an_end_a_warning() {
    let of = |outcome| {
        let deploys = [IrreversibleDeploy { outcome, ..irreversible("web", 11) }];
        let met = issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..clear() });
        (met[0].name(), met[0].severity(&Policy::default()), met[0].to_string())
    };
    let failed = "the failed deploy of v2 of web to default cannot be undone (position 11)";
    assert_eq!(of(DeployOutcome::Failed), ("barrier", Severity::Overridable, failed.to_owned()));
    let (name, severity, _) = of(DeployOutcome::Unfinished);
    assert_eq!((name, severity), ("barrier_unfinished", Severity::Warning));
}

#[test]
fn rule_23_an_irreversible_deploy_of_a_service_that_the_plan_depends_on_is_a_warning() {
    let dependencies = BTreeMap::from([
        (service("web"), vec![service("search")]),
        (service("search"), vec![service("database")]),
    ]);
    let policy = Policy { dependencies, ..Policy::default() };
    let deploys = [irreversible("database", 11), irreversible("basket", 12), irreversible("search", 9)];
    let way = PlanContext { irreversible: &deploys, policy: &policy, ..clear() };
    let met = issues(&plan(&["web"]), &way);
    assert_eq!(met, [PlanIssue::BarrierOfDependency(irreversible("database", 11))]);
    assert_eq!(met[0].severity(&policy), Severity::Warning);
    let met = issues(&plan(&["database"]), &way);
    assert_eq!(names(&met), ["barrier"]);
}

#[test]
fn rule_21_a_deploy_that_is_under_way_is_a_warning_wherever_it_is() {
    let open = [OpenDeploy {
        service: service("basket"),
        target: TargetName::default(),
        version: line("v7"),
        position: Position::new(18),
    }];
    let met = issues(&plan(&["web"]), &PlanContext { open: &open, ..clear() });
    assert_eq!(met[0].to_string(), "a deploy of v7 of basket to default is under way (position 18)");
    assert_eq!(met[0].severity(&Policy::default()), Severity::Warning);
}

#[test]
fn rule_11_a_revocation_in_another_spelling_stops_the_plan() {
    const H: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let parsed = |text: &str| Artifact::parse(text).expect("an artifact");
    let wanted =
        Release { artifact: Some(parsed(&format!("pkg:oci/web@{H}"))), ..Release::of_version(line("v1")) };
    let steps = vec![Step { to: Some(wanted), ..step("web", Action::Redeploy, None) }];
    let plan = Plan { from: Position::new(20), steps };
    for spelling in [format!("registry.example/web@{H}"), H.to_owned(), format!("pkg:docker/web@{H}?tag=v1")]
    {
        let artifact = parsed(&spelling);
        let gone = [RevokedArtifact { artifact, deleted: false, position: Position::new(15) }];
        let met = issues(&plan, &PlanContext { revocations: only(&gone), ..clear() });
        assert_eq!(names(&met), ["artifact_revoked"], "{spelling}");
    }
}

#[test]
fn the_artifact_of_a_release_that_states_none_is_the_one_that_its_version_means() {
    let wanted = Release::of_version(line("v1"));
    let steps = vec![Step { to: Some(wanted), ..step("web", Action::Redeploy, None) }];
    let plan = Plan { from: Position::new(20), steps };
    let gone = [revoked("v1", false)];
    let meant = BTreeMap::from([((service("web"), line("v1")), artifact("v1"))]);
    let met = |meant| {
        let revocations = Revocations { revoked: &gone, meant };
        names(&issues(&plan, &PlanContext { revocations, ..clear() }))
    };
    assert_eq!(met(None), [""; 0]);
    assert_eq!(met(Some(&meant)), ["artifact_revoked"]);
}

#[test]
fn rule_18_a_freeze_holds_from_its_start_until_it_is_lifted_or_ends() {
    let interval = |until: Option<u64>, lifted: Option<u64>| FreezeInterval {
        freeze: ActiveFreeze { until: until.map(time), ..freeze("year-end") },
        started_at: time(10),
        lifted_at: lifted.map(time),
    };
    let holds = |interval: &FreezeInterval| [9, 10, 19, 20, 30].map(|at| interval.holds_at(time(at)));
    assert_eq!(holds(&interval(None, None)), [false, true, true, true, true]);
    assert_eq!(holds(&interval(Some(30), None)), [false, true, true, true, false]);
    assert_eq!(holds(&interval(Some(30), Some(20))), [false, true, true, false, false]);
}

#[test]
fn rule_1_a_plan_to_an_empty_point_is_blocked_and_passes_by_force() {
    let met = issues(&plan(&["web"]), &PlanContext { status: None, began: None, ..clear() });
    assert_eq!(names(&met), ["target_empty"]);
    let severity = met[0].severity(&Policy::default());
    assert!(!severity.lets_pass(false) && severity.lets_pass(true));
}

#[test]
fn rule_1_an_empty_point_that_a_person_marked_is_not_blocked() {
    let met =
        issues(&plan(&["web"]), &PlanContext { status: Some(Status::KnownGood), began: None, ..clear() });
    assert_eq!(met, []);
}

#[test]
fn a_barrier_at_another_target_is_not_in_the_way() {
    let elsewhere = IrreversibleDeploy {
        target: TargetName::parse("east").expect("a target"),
        ..irreversible("web", 11)
    };
    let deploys = [elsewhere];
    assert_eq!(issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..clear() }), []);
}

#[test]
fn another_environments_point_meets_the_barriers_since_the_lane_ran_that_release() {
    let staging = EnvironmentName::parse("staging").expect("a name");
    let deploys = [irreversible("web", 11)];
    let since = |at| {
        let event_id = EventId::parse("ran").expect("an id");
        let since = Since { occurred_at: time(at), position: Position::new(at), event_id };
        BTreeMap::from([((service("web"), TargetName::default()), since)])
    };
    let met = |last_ran| {
        let way = PlanContext { source: Some(&staging), last_ran, irreversible: &deploys, ..clear() };
        issues(&plan(&["web"]), &way)
    };
    assert_eq!(met(since(10)), [PlanIssue::Barrier(irreversible("web", 11))]);
    assert_eq!(met(since(12)), []);
    // It never ran there: it is not known which of the two is older.
    assert_eq!(names(&met(BTreeMap::new())), ["barrier_unplaced"]);
}

#[test]
fn rule_24_nothing_is_brought_to_a_retired_environment() {
    let met = issues(&plan(&["web"]), &PlanContext { retired: Some(Position::new(3)), ..clear() });
    assert_eq!(names(&met), ["environment_retired"]);
    assert!(!met[0].severity(&NO_RULES).lets_pass(true));
}

#[test]
fn a_point_that_is_not_known_good_is_said_to_be_so_and_a_bad_one_too() {
    let status = |status| issues(&plan(&["web"]), &PlanContext { status, ..clear() });
    assert_eq!(status(Some(Status::Candidate)), [PlanIssue::TargetNotKnownGood]);
    assert_eq!(status(Some(Status::Bad)), [PlanIssue::TargetBad]);
    assert_eq!(status(None), [PlanIssue::TargetEmpty]);
}

#[test]
fn every_freeze_that_holds_is_told() {
    let freezes = [freeze("year-end"), freeze("audit")];
    let met = issues(&plan(&["web"]), &PlanContext { freezes: &freezes, ..clear() });
    assert_eq!(met, freezes.clone().map(PlanIssue::Frozen));
    assert_eq!(met[0].to_string(), "freeze year-end holds (position 17)");
}

#[test]
fn issues_are_told_in_a_fixed_order() {
    let (gone, deploys, freezes) = ([revoked("v1", true)], [irreversible("web", 11)], [freeze("audit")]);
    let way = PlanContext {
        status: Some(Status::Bad),
        revocations: only(&gone),
        irreversible: &deploys,
        freezes: &freezes,
        ..clear()
    };
    let met = issues(&plan(&["web"]), &way);
    assert_eq!(names(&met), ["artifact_revoked", "barrier", "target_bad", "freeze"]);
}

#[test]
fn a_barrier_and_a_freeze_weigh_what_the_policy_says() {
    let both = [PlanIssue::Barrier(irreversible("web", 11)), PlanIssue::Frozen(freeze("audit"))];
    let severities = |barrier, freeze| {
        let policy = Policy { barrier, freeze, ..Policy::default() };
        both.clone().map(|issue| issue.severity(&policy))
    };
    assert_eq!(severities(Enforcement::Block, Enforcement::Warn), [Severity::Overridable, Severity::Warning]);
    assert_eq!(severities(Enforcement::Warn, Enforcement::Block), [Severity::Warning, Severity::Overridable]);
}

#[test]
fn no_policy_and_no_force_lets_a_revoked_artifact_or_an_empty_plan_pass() {
    let lenient = Policy { barrier: Enforcement::Warn, freeze: Enforcement::Warn, ..Policy::default() };
    let gone = [revoked("v1", false)];
    let mut met = issues(&plan(&["web"]), &PlanContext { revocations: only(&gone), ..clear() });
    met.push(PlanIssue::AlreadyThere);
    assert!(met.iter().all(|issue| !issue.severity(&lenient).lets_pass(true)));
}

#[test]
fn a_bad_point_is_passed_only_by_force_and_one_that_is_merely_not_known_good_without() {
    let policy = Policy::default();
    let passes = |issue: PlanIssue| [false, true].map(|force| issue.severity(&policy).lets_pass(force));
    assert_eq!(passes(PlanIssue::TargetBad), [false, true]);
    assert_eq!(passes(PlanIssue::TargetNotKnownGood), [true, true]);
}
