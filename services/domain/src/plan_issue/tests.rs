//! Tests of the issues of a plan and their severity.

use std::sync::LazyLock;

use super::*;
use crate::EventId;
use crate::event::{Action, Step};

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("a valid text")
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a service")
}

fn artifact(version: &str) -> Artifact {
    Artifact::parse(&format!("pkg:generic/web@{version}")).expect("a package URL")
}

fn release(version: &str) -> Release {
    Release { artifact: Some(artifact(version)), ..Release::of_version(short_text(version)) }
}

/// Creates a step from v2 to a version.
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

/// Creates a plan that rolls these services back to v1.
fn plan(services: &[&str]) -> Plan {
    let steps = services.iter().map(|name| step(name, Action::Redeploy, Some("v1"))).collect();
    Plan { from: Position::new(20), steps }
}

fn time(seconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds.cast_signed(), 0).expect("a time")
}

static DEFAULT_POLICY: LazyLock<Policy> = LazyLock::new(Policy::default);

/// The start of the point: position 10, at second 10.
static POINT_BEGAN: LazyLock<EventRef> = LazyLock::new(|| EventRef {
    occurred_at: time(10),
    position: Position::new(10),
    event_id: EventId::parse("e").expect("an id"),
});

/// Creates the context of a known-good point that began at [`POINT_BEGAN`], without any issue.
fn no_issues() -> PlanContext<'static> {
    PlanContext {
        source: None,
        retired: None,
        last_ran: BTreeMap::new(),
        began: Some(&POINT_BEGAN),
        status: Some(Status::KnownGood),
        policy: &DEFAULT_POLICY,
        irreversible: &[],
        open: &[],
        revocations: Revocations::default(),
        freezes: &[],
    }
}

/// Creates an irreversible deploy that succeeded at a second, reported at the position of the same number.
fn irreversible(name: &str, at: u64) -> IrreversibleDeploy {
    IrreversibleDeploy {
        service: service(name),
        target: TargetName::default(),
        version: short_text("v2"),
        occurred_at: time(at),
        position: Position::new(at),
        outcome: DeployOutcome::Succeeded,
    }
}

const fn revocations(revoked: &[RevokedArtifact]) -> Revocations<'_> {
    Revocations { revoked, version_artifacts: None }
}

fn revoked(version: &str, deleted: bool) -> RevokedArtifact {
    RevokedArtifact { artifact: artifact(version), deleted, position: Position::new(15) }
}

fn freeze(name: &str) -> ActiveFreeze {
    ActiveFreeze { freeze_id: short_text(name), until: None, position: Position::new(17) }
}

fn names(found: &[PlanIssue]) -> Vec<&'static str> {
    found.iter().map(PlanIssue::name).collect()
}

#[test]
fn a_plan_without_obstacles_has_no_issues() {
    assert_eq!(issues(&plan(&["web"]), &no_issues()), []);
}

#[test]
fn a_plan_without_steps_has_the_issue_already_there() {
    assert_eq!(issues(&plan(&[]), &no_issues()), [PlanIssue::AlreadyThere]);
}

#[test]
fn a_revoked_artifact_that_the_plan_deploys_is_an_issue() {
    let revoked_artifacts = [revoked("v1", true)];
    let found =
        issues(&plan(&["web"]), &PlanContext { revocations: revocations(&revoked_artifacts), ..no_issues() });
    assert!(matches!(&found[..], [PlanIssue::ArtifactRevoked { deleted: true, .. }]), "{found:?}");
    assert_eq!(found[0].position(), Some(Position::new(15)));
    assert_eq!(found[0].to_string(), "pkg:generic/web@v1 of web at default is deleted (position 15)");
}

#[test]
fn a_revoked_artifact_that_the_plan_switches_traffic_to_is_an_issue() {
    let steps = vec![step("web", Action::Switch, Some("v1"))];
    let (plan, bad) = (Plan { from: Position::new(20), steps }, [revoked("v1", false)]);
    let found = issues(&plan, &PlanContext { revocations: revocations(&bad), ..no_issues() });
    assert_eq!(names(&found), ["artifact_revoked"]);
}

#[test]
fn a_revoked_artifact_that_the_plan_removes_is_no_issue() {
    let bad = [revoked("v2", false)];
    let steps = vec![step("web", Action::Redeploy, Some("v1")), step("old", Action::Remove, None)];
    let plan = Plan { from: Position::new(20), steps };
    assert_eq!(issues(&plan, &PlanContext { revocations: revocations(&bad), ..no_issues() }), []);
}

#[test]
fn an_irreversible_deploy_after_the_point_to_a_lane_of_the_plan_is_a_barrier() {
    let deploys = [irreversible("web", 10), irreversible("web", 11), irreversible("search", 12)];
    let found = issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..no_issues() });
    assert_eq!(found, [PlanIssue::Barrier(irreversible("web", 11))]);
    assert_eq!(found[0].position(), Some(Position::new(11)));
}

#[test]
fn rule_23_barriers_are_compared_with_the_point_by_the_time_they_occurred() {
    let late = IrreversibleDeploy { position: Position::new(30), ..irreversible("web", 9) };
    let early = IrreversibleDeploy { position: Position::new(5), ..irreversible("web", 11) };
    let deploys = [late, early.clone()];
    let found = issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..no_issues() });
    assert_eq!(found, [PlanIssue::Barrier(early)]);
}

#[test]
fn rule_23_a_failed_irreversible_deploy_is_a_barrier_and_an_unfinished_one_a_warning() {
    let of = |outcome| {
        let deploys = [IrreversibleDeploy { outcome, ..irreversible("web", 11) }];
        let found = issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..no_issues() });
        (found[0].name(), found[0].severity(&Policy::default()), found[0].to_string())
    };
    let failed = "the failed deploy of v2 of web to default cannot be undone (position 11)";
    assert_eq!(of(DeployOutcome::Failed), ("barrier", Severity::Overridable, failed.to_owned()));
    let (name, severity, _) = of(DeployOutcome::Unfinished);
    assert_eq!((name, severity), ("barrier_unfinished", Severity::Warning));
}

#[test]
fn rule_23_an_irreversible_deploy_of_a_dependency_is_a_warning() {
    let dependencies = BTreeMap::from([
        (service("web"), vec![service("search")]),
        (service("search"), vec![service("database")]),
    ]);
    let policy = Policy { dependencies, ..Policy::default() };
    let deploys = [irreversible("database", 11), irreversible("basket", 12), irreversible("search", 9)];
    let context = PlanContext { irreversible: &deploys, policy: &policy, ..no_issues() };
    let found = issues(&plan(&["web"]), &context);
    assert_eq!(found, [PlanIssue::BarrierOfDependency(irreversible("database", 11))]);
    assert_eq!(found[0].severity(&policy), Severity::Warning);
    let found = issues(&plan(&["database"]), &context);
    assert_eq!(names(&found), ["barrier"]);
}

#[test]
fn rule_21_a_deploy_under_way_in_any_lane_is_a_warning() {
    let open = [OpenDeploy {
        service: service("basket"),
        target: TargetName::default(),
        version: short_text("v7"),
        position: Position::new(18),
    }];
    let found = issues(&plan(&["web"]), &PlanContext { open: &open, ..no_issues() });
    assert_eq!(found[0].to_string(), "a deploy of v7 of basket to default is under way (position 18)");
    assert_eq!(found[0].severity(&Policy::default()), Severity::Warning);
}

#[test]
fn rule_11_a_revocation_in_another_spelling_blocks_the_plan() {
    const H: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let parsed = |text: &str| Artifact::parse(text).expect("an artifact");
    let wanted = Release {
        artifact: Some(parsed(&format!("pkg:oci/web@{H}"))),
        ..Release::of_version(short_text("v1"))
    };
    let steps = vec![Step { to: Some(wanted), ..step("web", Action::Redeploy, None) }];
    let plan = Plan { from: Position::new(20), steps };
    for spelling in [format!("registry.example/web@{H}"), H.to_owned(), format!("pkg:docker/web@{H}?tag=v1")]
    {
        let artifact = parsed(&spelling);
        let revoked_artifacts = [RevokedArtifact { artifact, deleted: false, position: Position::new(15) }];
        let found =
            issues(&plan, &PlanContext { revocations: revocations(&revoked_artifacts), ..no_issues() });
        assert_eq!(names(&found), ["artifact_revoked"], "{spelling}");
    }
}

#[test]
fn a_release_without_an_artifact_has_the_artifact_that_its_version_means() {
    let wanted = Release::of_version(short_text("v1"));
    let steps = vec![Step { to: Some(wanted), ..step("web", Action::Redeploy, None) }];
    let plan = Plan { from: Position::new(20), steps };
    let revoked_artifacts = [revoked("v1", false)];
    let of_versions = BTreeMap::from([((service("web"), short_text("v1")), artifact("v1"))]);
    let found = |version_artifacts| {
        let revocations = Revocations { revoked: &revoked_artifacts, version_artifacts };
        names(&issues(&plan, &PlanContext { revocations, ..no_issues() }))
    };
    assert_eq!(found(None), [""; 0]);
    assert_eq!(found(Some(&of_versions)), ["artifact_revoked"]);
}

#[test]
fn rule_18_a_freeze_holds_from_its_start_until_it_is_lifted_or_expires() {
    let holds = |until: Option<u64>, lifted: Option<u64>| {
        let (until, lifted_at) = (until.map(time), lifted.map(time));
        let ActiveFreeze { freeze_id, position, .. } = freeze("year-end");
        let period = FreezePeriod { started_at: time(10), until, lifted_at };
        let recorded = RecordedFreeze { freeze_id, position, period };
        let active = ActiveFreeze { until, ..freeze("year-end") };
        [9, 10, 19, 20, 30].map(|at| recorded.active_at(time(at)).is_some_and(|found| found == active))
    };
    assert_eq!(holds(None, None), [false, true, true, true, true]);
    assert_eq!(holds(Some(30), None), [false, true, true, true, false]);
    assert_eq!(holds(Some(30), Some(20)), [false, true, true, false, false]);
}

#[test]
fn rule_1_a_plan_to_an_empty_point_is_blocked_unless_forced() {
    let found = issues(&plan(&["web"]), &PlanContext { status: None, began: None, ..no_issues() });
    assert_eq!(names(&found), ["target_empty"]);
    let severity = found[0].severity(&Policy::default());
    assert!(!severity.permits(false) && severity.permits(true));
}

#[test]
fn rule_1_an_empty_point_that_a_person_marked_is_not_blocked() {
    let found =
        issues(&plan(&["web"]), &PlanContext { status: Some(Status::KnownGood), began: None, ..no_issues() });
    assert_eq!(found, []);
}

#[test]
fn an_irreversible_deploy_to_another_target_is_no_barrier() {
    let elsewhere = IrreversibleDeploy {
        target: TargetName::parse("east").expect("a target"),
        ..irreversible("web", 11)
    };
    let deploys = [elsewhere];
    assert_eq!(issues(&plan(&["web"]), &PlanContext { irreversible: &deploys, ..no_issues() }), []);
}

#[test]
fn rule_23_a_deploy_of_a_dependency_is_a_warning_for_a_point_of_another_environment_too() {
    let staging = EnvironmentName::parse("staging").expect("a name");
    let dependencies = BTreeMap::from([(service("web"), vec![service("database")])]);
    let policy = Policy { dependencies, ..Policy::default() };
    let deploys = [irreversible("database", 11), irreversible("basket", 12)];
    let ran = |at| {
        let event_id = EventId::parse("ran").expect("an id");
        let since = EventRef { occurred_at: time(at), position: Position::new(at), event_id };
        BTreeMap::from([((service("web"), TargetName::default()), since)])
    };
    let found = |last_ran| {
        let source = Some(&staging);
        let context =
            PlanContext { source, last_ran, irreversible: &deploys, policy: &policy, ..no_issues() };
        issues(&plan(&["web"]), &context)
    };

    assert_eq!(found(ran(10)), [PlanIssue::BarrierOfDependency(irreversible("database", 11))]);
    assert_eq!(found(ran(12)), [], "the lane ran the release after it");
    assert_eq!(names(&found(BTreeMap::new())), ["barrier_of_dependency"]);
}

#[test]
fn for_a_point_of_another_environment_barriers_count_since_the_lane_ran_that_release() {
    let staging = EnvironmentName::parse("staging").expect("a name");
    let deploys = [irreversible("web", 11)];
    let since = |at| {
        let event_id = EventId::parse("ran").expect("an id");
        let since = EventRef { occurred_at: time(at), position: Position::new(at), event_id };
        BTreeMap::from([((service("web"), TargetName::default()), since)])
    };
    let found = |last_ran| {
        let context = PlanContext { source: Some(&staging), last_ran, irreversible: &deploys, ..no_issues() };
        issues(&plan(&["web"]), &context)
    };
    assert_eq!(found(since(10)), [PlanIssue::Barrier(irreversible("web", 11))]);
    assert_eq!(found(since(12)), []);
    // The lane never ran the release: it is unknown which of the two is older.
    assert_eq!(names(&found(BTreeMap::new())), ["barrier_unplaced"]);
}

#[test]
fn rule_24_a_plan_for_a_retired_environment_is_blocked_even_by_force() {
    let found = issues(&plan(&["web"]), &PlanContext { retired: Some(Position::new(3)), ..no_issues() });
    assert_eq!(names(&found), ["environment_retired"]);
    assert!(!found[0].severity(&DEFAULT_POLICY).permits(true));
}

#[test]
fn a_point_that_is_not_known_good_is_an_issue() {
    let status = |status| issues(&plan(&["web"]), &PlanContext { status, ..no_issues() });
    assert_eq!(status(Some(Status::Candidate)), [PlanIssue::TargetNotKnownGood]);
    assert_eq!(status(Some(Status::Bad)), [PlanIssue::TargetBad]);
    assert_eq!(status(None), [PlanIssue::TargetEmpty]);
}

#[test]
fn every_freeze_that_holds_is_an_issue() {
    let freezes = [freeze("year-end"), freeze("audit")];
    let found = issues(&plan(&["web"]), &PlanContext { freezes: &freezes, ..no_issues() });
    assert_eq!(found, freezes.clone().map(PlanIssue::Frozen));
    assert_eq!(found[0].to_string(), "freeze year-end holds (position 17)");
}

#[test]
fn issues_have_a_fixed_order() {
    let (revoked_artifacts, deploys, freezes) =
        ([revoked("v1", true)], [irreversible("web", 11)], [freeze("audit")]);
    let context = PlanContext {
        status: Some(Status::Bad),
        revocations: revocations(&revoked_artifacts),
        irreversible: &deploys,
        freezes: &freezes,
        ..no_issues()
    };
    let found = issues(&plan(&["web"]), &context);
    assert_eq!(names(&found), ["artifact_revoked", "barrier", "target_bad", "freeze"]);
}

#[test]
fn the_policy_sets_the_severity_of_barriers_and_freezes() {
    let both = [PlanIssue::Barrier(irreversible("web", 11)), PlanIssue::Frozen(freeze("audit"))];
    let severities = |barrier, freeze| {
        let policy = Policy { barrier, freeze, ..Policy::default() };
        both.clone().map(|issue| issue.severity(&policy))
    };
    assert_eq!(severities(Enforcement::Block, Enforcement::Warn), [Severity::Overridable, Severity::Warning]);
    assert_eq!(severities(Enforcement::Warn, Enforcement::Block), [Severity::Warning, Severity::Overridable]);
}

#[test]
fn a_revoked_artifact_or_an_empty_plan_blocks_under_any_policy_and_with_force() {
    let lenient = Policy { barrier: Enforcement::Warn, freeze: Enforcement::Warn, ..Policy::default() };
    let revoked_artifacts = [revoked("v1", false)];
    let mut found =
        issues(&plan(&["web"]), &PlanContext { revocations: revocations(&revoked_artifacts), ..no_issues() });
    found.push(PlanIssue::AlreadyThere);
    assert!(found.iter().all(|issue| !issue.severity(&lenient).permits(true)));
}

#[test]
fn a_plan_to_a_bad_point_needs_force_and_one_to_a_candidate_does_not() {
    let policy = Policy::default();
    let is_permitted = |issue: PlanIssue| [false, true].map(|force| issue.severity(&policy).permits(force));
    assert_eq!(is_permitted(PlanIssue::TargetBad), [false, true]);
    assert_eq!(is_permitted(PlanIssue::TargetNotKnownGood), [true, true]);
}
