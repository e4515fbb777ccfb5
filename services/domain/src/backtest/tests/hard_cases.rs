//! The hard cases of decision 0015 that apply to back-tests.

mod artifacts;

use super::*;
use crate::event::{Counts, Mark, MarkedStatus, Reinstated, ReleasePointId};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn lane_of(environment: &str, service: &str, target: Option<&str>) -> LaneRef {
    LaneRef {
        environment: name(environment),
        service: ServiceName::parse(service).expect("a name"),
        target: target.map(|target| TargetName::parse(target).expect("a name")),
    }
}

fn version(version: &str) -> Release {
    Release::of_version(short_text(version))
}

fn built(of: &str, artifact: &str) -> Release {
    version(of).completed(Some(Artifact::parse(artifact).expect("an artifact")))
}

fn deploy_of(lane: LaneRef, release: Release) -> Payload {
    Payload::DeploySucceeded(Deploy { lane, release, ..deployed("production", "1") })
}

fn check_of(lane: LaneRef, release: Option<Release>, passed: bool) -> Payload {
    check_end("smoke", passed, ValidationSubject::Lane { lane, release, deployment: None })
}

fn environment_check(environment: &str, check: &str, passed: bool) -> Payload {
    check_end(check, passed, ValidationSubject::Environment(name(environment)))
}

fn start_of(payload: Payload) -> Payload {
    match payload {
        Payload::ValidationPassed(it) | Payload::ValidationFailed(it) => Payload::ValidationStarted(it),
        other => other,
    }
}

fn switched(environment: &str, to: &str) -> Payload {
    let (deployment, rollback_id) = (None, None);
    Payload::TrafficSwitched(Switch { lane: lane(environment), slot: slot(to), deployment, rollback_id })
}

fn in_slot(environment: &str, of: &str, name: &str) -> Payload {
    Payload::DeploySucceeded(Deploy { slot: Some(slot(name)), ..deployed(environment, of) })
}

fn removed(environment: &str, name: Option<&str>) -> Payload {
    let (deployment, rollback_id) = (None, None);
    Payload::DeployRemoved(Removal { lane: lane(environment), slot: name.map(slot), deployment, rollback_id })
}

/// Returns for each deploy to production, by position, true if the candidate allows it. The back-test must test exactly
/// `N` deploys.
fn allowed<const N: usize>(policy: &Policy, payloads: &[Payload]) -> [bool; N] {
    decisions(&report(policy, payloads), payloads.iter())
}

fn decisions<'p, const N: usize>(report: &Report, payloads: impl Iterator<Item = &'p Payload>) -> [bool; N] {
    let stopped: BTreeSet<u64> = report.stopped_deploys.iter().map(|deploy| deploy.position.get()).collect();
    let deploys = payloads.zip(1..).filter(|(payload, _)| {
        matches!(payload, Payload::DeploySucceeded(it)
            if it.lane.environment == name("production") && it.rollback_id.is_none())
    });
    let decisions: Vec<bool> = deploys.map(|(_, position)| !stopped.contains(&position)).collect();
    assert_eq!(report.deploys, N as u64, "{report:?}");
    decisions.try_into().expect("the expected number of deploys")
}

/// Returns the reasons why the only deploy is stopped.
fn stopped_by(policy: &Policy, payloads: &[Payload]) -> String {
    let result = report(policy, payloads);
    assert_eq!((result.deploys, result.stopped), (1, 1), "{result:?}");
    let findings = result.stopped_deploys[0].findings.iter();
    findings.map(|finding| finding.detail.clone()).collect::<Vec<_>>().join("; ")
}

/// Returns the positions of the missed deploys under an empty policy.
fn missed(payloads: &[Payload]) -> Vec<u64> {
    let result = report(&Policy::default(), payloads);
    result.missed_deploys.iter().map(|deploy| deploy.position.get()).collect()
}

#[test]
fn a_report_without_a_target_applies_to_the_only_target_of_the_service() {
    let history = [
        deploy_of(lane_of("staging", "web", Some("eu")), version("1")),
        check_of(lane_of("staging", "web", Some("eu")), Some(version("1")), true),
        deploy_of(lane_of("staging", "web", None), version("2")),
        check_of(lane_of("staging", "web", Some("eu")), None, true),
        deploy_of(lane("production"), version("2")),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true]);
}

#[test]
fn a_report_without_a_target_changes_no_lane_if_the_service_has_several() {
    let [eu, us, none] = [Some("eu"), Some("us"), None].map(|target| lane_of("production", "web", target));
    let history = [
        deploy_of(eu.clone(), version("1")),
        deploy_of(us, version("1")),
        deploy_of(none, version("2")),
        check_of(eu, None, false),
    ];
    // The ambiguous deploy is not tested, and the check refers to the release that is still live.
    let result = report(&Policy::default(), &history);
    assert_eq!((result.deploys, missed(&history)), (2, vec![1]));
}

#[test]
fn a_release_at_several_targets_must_be_known_good_at_each() {
    let [eu, us, none] = [Some("eu"), Some("us"), None].map(|target| lane_of("staging", "web", target));
    let ran = [deploy_of(eu.clone(), release("1")), deploy_of(us, release("1"))];
    let with = |check| [&ran[..], &[check, deploy("production", "1")]].concat();
    assert_eq!(allowed(&from_staging(), &with(check_of(eu, Some(version("1")), true))), [false]);
    // A check without a target applies to all targets.
    assert_eq!(allowed(&from_staging(), &with(check_of(none.clone(), Some(version("1")), true))), [true]);
    assert_eq!(allowed(&from_staging(), &with(check_of(none, None, true))), [true]);
}

#[test]
fn a_switch_takes_effect_with_the_deploy_of_its_slot_and_a_switch_to_an_emptied_slot_has_no_effect() {
    let crossed = [
        deploy("staging", "1"),
        switched("staging", "green"),
        in_slot("staging", "2", "green"),
        lane_check("staging", "smoke", true),
        deploy("production", "2"),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &crossed), [true, false]);
    let void = [
        deploy("staging", "1"),
        in_slot("staging", "2", "green"),
        removed("staging", Some("green")),
        switched("staging", "green"),
        lane_check("staging", "smoke", true),
        deploy("production", "2"),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &void), [false, true]);
}

#[test]
fn a_removal_of_the_lane_empties_its_slots() {
    let history = [
        in_slot("production", "1", "blue"),
        removed("production", None),
        switched("production", "blue"),
        version_check("production", "1", "smoke", false),
    ];
    assert_eq!(missed(&history), [0; 0]);
}

#[test]
fn a_check_of_an_environment_refers_to_its_composition() {
    let api = |environment| lane_of(environment, "api", None);
    let history = [
        deploy_of(api("staging"), version("1")),
        deploy("staging", "1"),
        environment_check("staging", "e2e", true),
        deploy("staging", "2"),
        environment_check("staging", "e2e", false),
        deploy_of(api("production"), version("1")),
        deploy("production", "1"),
        deploy("production", "2"),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true, true, false]);
    let finding = &report(&from_staging(), &history).stopped_deploys[0].findings[0];
    assert_eq!(finding.detail, "the release ran in staging but is not known good there: no check passed");
    // The results of a composition count again when it returns; a later failure overrides the pass.
    let mut back = history[..5].to_vec();
    back.extend([
        deploy("staging", "1"),
        environment_check("staging", "e2e", false),
        deploy("production", "1"),
    ]);
    assert_eq!(allowed(&from_staging(), &back), [false]);
}

#[test]
fn a_failed_composition_is_a_failure_of_the_deploy_that_started_it() {
    let api = lane_of("production", "api", None);
    let mut history = vec![
        deploy_of(api, version("1")),
        deploy("production", "1"),
        deploy("production", "2"),
        environment_check("production", "e2e", false),
    ];
    assert_eq!(missed(&history), [3]);
    history.push(environment_check("production", "e2e", true));
    assert_eq!(missed(&history), [0; 0]);
}

#[test]
fn a_check_that_straddles_a_change_does_not_count() {
    let of_lane = || lane_check("staging", "smoke", true);
    let of_all = || environment_check("staging", "smoke", true);
    for check in [of_lane(), of_all()] {
        let across = [
            deploy("staging", "1"),
            start_of(check.clone()),
            deploy("staging", "2"),
            check.clone(),
            deploy("production", "2"),
        ];
        assert_eq!(allowed(&from_staging(), &across), [false], "{check:?}");
        let within = [
            deploy("staging", "1"),
            deploy("staging", "2"),
            start_of(check.clone()),
            check.clone(),
            deploy("production", "2"),
        ];
        assert_eq!(allowed(&from_staging(), &within), [true], "{check:?}");
    }
    // A check that names its release straddles if the release was in the lane for only part of the check.
    let named = version_check("staging", "1", "smoke", true);
    let history = [
        deploy("staging", "1"),
        start_of(named.clone()),
        deploy("staging", "2"),
        named,
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &history), [false]);
}

#[test]
fn a_run_links_the_end_of_a_check_to_its_start() {
    let run = |payload: Payload, run: &str| match payload {
        Payload::ValidationPassed(it) => {
            Payload::ValidationPassed(Validation { run: Some(short_text(run)), ..it })
        }
        Payload::ValidationStarted(it) => {
            Payload::ValidationStarted(Validation { run: Some(short_text(run)), ..it })
        }
        other => other,
    };
    let passed = lane_check("staging", "smoke", true);
    let with = |end: &str| {
        [
            run(start_of(passed.clone()), "a"),
            deploy("staging", "1"),
            run(start_of(passed.clone()), "b"),
            run(passed.clone(), end),
            deploy("production", "1"),
        ]
    };
    assert_eq!(allowed(&from_staging(), &with("a")), [false]);
    assert_eq!(allowed(&from_staging(), &with("b")), [true]);
}

#[test]
fn a_pass_with_contradicting_counts_does_not_count() {
    let counting = |passed, failed| {
        let Payload::ValidationPassed(it) = version_check("staging", "1", "smoke", true) else {
            panic!("a pass")
        };
        let counts = Some(Counts { passed, failed, skipped: 0 });
        let passed = Payload::ValidationPassed(Validation { counts, ..it });
        allowed::<1>(&from_staging(), &[deploy("staging", "1"), passed, deploy("production", "1")])
    };
    assert_eq!((counting(3, 0), counting(3, 1), counting(0, 0)), ([true], [false], [false]));
}

#[test]
fn a_revocation_applies_to_any_spelling_of_the_artifact_until_it_is_reinstated() {
    let artifact = |text: &str| Artifact::parse(text).expect("an artifact");
    let revoked =
        Payload::ArtifactRevoked(Revoked { artifact: artifact(D1), advisory: None, deleted: false });
    let reinstated =
        Payload::ArtifactReinstated(Reinstated { artifact: artifact(&format!("pkg:oci/web@{D1}")) });
    let requested = || deploy_of(lane("production"), built("1", &format!("registry.example/web@{D1}")));
    let history = [revoked.clone(), requested(), reinstated, requested(), revoked, requested()];
    assert_eq!(allowed(&Policy::default(), &history), [false, true, false]);
}

fn granted(lane: LaneRef, release: Release, expires_at: Option<i64>) -> Payload {
    let subject = ApprovalSubject::Deploy { lane, release };
    Payload::ApprovalGranted(Approval { subject, expires_at: expires_at.map(time) })
}

/// Returns for each deploy to production true if it is allowed with one approval. Grants are by mira, other events by
/// ada.
fn allowed_with_approval<const N: usize>(payloads: &[Payload]) -> [bool; N] {
    let policy = Policy { approvals: 1, ..Policy::default() };
    let actor =
        |payload: &Payload| if matches!(payload, Payload::ApprovalGranted(_)) { "mira" } else { "ada" };
    let history: Vec<TimedPayload> = payloads
        .iter()
        .cloned()
        .zip(1..)
        .map(|(payload, at)| (at, payload.clone(), actor(&payload)))
        .collect();
    decisions(&report_of(&policy, &history, 100), payloads.iter())
}

#[test]
fn a_grant_covers_its_target_until_it_expires_or_is_used_up() {
    let at = |target| lane_of("production", "web", target);
    let eu = |of: &str| deploy_of(at(Some("eu")), version(of));
    assert_eq!(allowed_with_approval(&[granted(at(Some("us")), version("1"), None), eu("1")]), [false]);
    assert_eq!(allowed_with_approval(&[granted(at(None), version("1"), None), eu("1")]), [true]);
    assert_eq!(
        allowed_with_approval(&[granted(at(None), version("1"), Some(3)), eu("1"), eu("1")]),
        [true, false]
    );
    let history = [granted(at(None), version("1"), None), eu("1"), eu("1"), eu("2"), eu("1")];
    assert_eq!(allowed_with_approval(&history), [true, true, false, false]);
}

#[test]
fn a_grant_of_a_version_covers_the_artifact_of_the_version_at_that_time() {
    let lane = || lane("production");
    let history = [
        deploy_of(lane(), built("1", D1)),
        granted(lane(), version("1"), None),
        deploy_of(lane(), built("1", D1)),
        deploy_of(lane(), built("1", D2)),
    ];
    assert_eq!(allowed_with_approval(&history), [false, true, false]);
}

/// Returns the events of a completed rollback of web in production from one release to another.
fn completed_rollback(id: &str, from: Release, to: Option<Release>) -> [Payload; 3] {
    let Payload::RollbackRequested(mut request) = rollback_requested(id, "1") else { panic!("a request") };
    request.plan.steps[0].from = Some(from);
    request.plan.steps[0].to = to;
    let ended = Payload::RollbackSucceeded(rollback(id));
    [Payload::RollbackRequested(request), Payload::RollbackStarted(rollback_start(id)), ended]
}

#[test]
fn a_hold_covers_the_parts_that_differ() {
    let configured = |digest: &str| Release {
        config: Some(ConfigDigest::parse(digest).expect("a digest")),
        ..version("1")
    };
    let requested = |release: Release| deploy_of(lane("production"), release);
    let back = completed_rollback("r-1", configured(D2), Some(configured(D1)));
    let history =
        [&back[..], &[requested(configured(D2)), requested(configured(D1)), requested(configured(D2))]]
            .concat();
    assert_eq!(allowed(&Policy::default(), &history), [false, true, false]);
    // A deploy of another release ends the hold.
    let fixed = configured(&D1.replace('1', "3"));
    let history = [&back[..], &[requested(fixed), requested(configured(D2))]].concat();
    assert_eq!(allowed(&Policy::default(), &history), [true, true]);
}

#[test]
fn a_corrected_deploy_does_not_end_a_hold() {
    let requested = |of: &str| deploy_of(lane("production"), version(of));
    let mut entries: Vec<Entry> = completed_rollback("r-1", version("2"), Some(version("1")))
        .into_iter()
        .chain([requested("3"), requested("1"), requested("2")])
        .zip(1..)
        .map(|(payload, at)| Entry::from(&(at, payload, "ada")))
        .collect();
    let last = |entries: &[Entry]| {
        let result = backtest_of(&Policy::default(), entries, 10);
        result.decision_at(Position::new(entries.len() as u64)).map(|decision| decision.stopped)
    };
    assert_eq!(last(&entries), Some(false));
    entries[4].corrects = Some(4);
    assert_eq!(last(&entries), Some(true));
    // A person's rollback of the rollback ends the hold.
    let back = completed_rollback("r-2", version("1"), Some(version("2")));
    entries.splice(5..5, back.iter().map(|payload| Entry::from(&(6, payload.clone(), "ada"))));
    assert_eq!(last(&entries), Some(false));
}

#[test]
fn a_late_deploy_does_not_end_a_hold_and_a_hold_with_several_ends_survives_a_correction() {
    let requested = |of: &str| deploy_of(lane("production"), version(of));
    let back = completed_rollback("r-1", version("2"), Some(version("1")));
    let entries = |more: &[(i64, &str, Option<u64>)]| {
        let back = back.iter().zip(1..).map(|(payload, at)| Entry::from(&(at, payload.clone(), "ada")));
        let more = more.iter().map(|(at, of, corrects)| Entry {
            at: *at,
            payload: requested(of),
            actor: "ada",
            corrects: *corrects,
        });
        back.chain(more).collect::<Vec<_>>()
    };
    let is_held = |more: &[(i64, &str, Option<u64>)]| {
        let entries = entries(more);
        let result = backtest_of(&Policy::default(), &entries, 10);
        result.decision_at(Position::new(entries.len() as u64)).map(|decision| decision.stopped)
    };
    assert_eq!(is_held(&[(10, "1", None), (9, "3", None), (20, "2", None)]), Some(true));
    assert_eq!(is_held(&[(10, "1", None), (11, "3", None), (20, "2", None)]), Some(false));
    let both = [(10, "3", None), (11, "4", None), (12, "1", Some(4)), (20, "2", None)];
    assert_eq!(is_held(&both), Some(false));
}

#[test]
fn a_later_mark_applies_to_the_composition_without_corrected_deploys() {
    let point = ReleasePointId { environment: name("staging"), position: Position::new(3) };
    let mark = Payload::ReleasePointMarked(Mark { point, status: MarkedStatus::KnownGood, name: None });
    let failed = Payload::DeployFailed(deployed("staging", "2"));
    let payloads = [deploy("staging", "1"), deploy("staging", "2"), failed, mark, deploy("production", "1")];
    let mut entries: Vec<Entry> =
        payloads.into_iter().zip(1..).map(|(payload, at)| Entry::from(&(at, payload, "ada"))).collect();
    assert_eq!(backtest_of(&from_staging(), &entries, 10).report().allowed, 0);
    entries[2].corrects = Some(2);
    assert_eq!(backtest_of(&from_staging(), &entries, 10).report().allowed, 1);
}

#[test]
fn a_check_of_a_release_in_a_slot_straddles_a_removal_of_the_lane() {
    let passed = version_check("staging", "1", "smoke", true);
    let history = |between: Payload| {
        [
            in_slot("staging", "1", "blue"),
            switched("staging", "blue"),
            start_of(passed.clone()),
            between,
            in_slot("staging", "2", "green"),
            passed.clone(),
            deploy("production", "1"),
        ]
    };
    assert_eq!(allowed(&from_staging(), &history(removed("staging", None))), [false]);
    assert_eq!(allowed(&from_staging(), &history(removed("staging", Some("green")))), [true]);
}

#[test]
fn a_check_of_a_release_does_not_straddle_a_switch_to_a_slot_with_it() {
    let passed = version_check("staging", "1", "smoke", true);
    let history = |of_slot: &str| {
        [
            deploy("staging", "1"),
            start_of(passed.clone()),
            in_slot("staging", of_slot, "green"),
            switched("staging", "green"),
            passed.clone(),
            deploy("production", "1"),
        ]
    };
    assert_eq!(allowed(&from_staging(), &history("1")), [true]);
    assert_eq!(allowed(&from_staging(), &history("2")), [false]);
}

#[test]
fn a_correction_replaces_the_corrected_event() {
    let entry = |payload: Payload, corrects| Entry { at: 1, payload, actor: "ada", corrects };
    let passed = |of: &str| version_check("staging", of, "smoke", true);
    let counts = |entries: &[Entry]| {
        let result = backtest_of(&from_staging(), entries, 10).report();
        (result.deploys, result.allowed)
    };
    // The check was of version 1, but its report names version 2.
    let ran = [entry(deploy("staging", "1"), None), entry(passed("2"), None)];
    let requested = entry(deploy("production", "1"), None);
    assert_eq!(counts(&[&ran[..], std::slice::from_ref(&requested)].concat()), (1, 0));
    let corrected = [&ran[..], &[entry(passed("1"), Some(2)), requested.clone()]].concat();
    assert_eq!(counts(&corrected), (1, 1));
    // A correction can be corrected by its own identity or by that of the first event.
    for corrects in [2, 3] {
        let mut twice = corrected.clone();
        twice.insert(3, entry(passed("2"), Some(corrects)));
        assert_eq!(counts(&twice), (1, 0), "{corrects}");
    }
    // A corrected deploy is not tested; its correction is.
    let failed = Payload::DeployFailed(deployed("production", "1"));
    assert_eq!(counts(&[&corrected[..], &[entry(failed, Some(4))]].concat()), (0, 0));
    let other = entry(deploy("production", "2"), Some(4));
    assert_eq!(counts(&[&corrected[..], &[other]].concat()), (1, 0));
    // Events that are not reports of deploys or checks cannot be corrected, nor can unknown events.
    let declared = entry(Payload::EnvironmentDeclared(name("staging"), Policy::default()), None);
    let none =
        [declared, entry(deploy("production", "1"), Some(1)), entry(deploy("production", "2"), Some(9))];
    assert_eq!(counts(&none), (2, 0));
}

#[test]
fn a_deploy_to_a_retired_environment_is_stopped() {
    let retired = |environment| Payload::EnvironmentRetired(name(environment));
    let declared = |environment| Payload::EnvironmentDeclared(name(environment), Policy::default());
    let history = [retired("production"), deploy("production", "1")];
    assert_eq!(
        stopped_by(&Policy::default(), &history),
        "production is retired; declare it again before deploying"
    );
    let again = [&history[..], &[declared("production"), deploy("production", "1")]].concat();
    assert_eq!(allowed(&Policy::default(), &again), [false, true]);
    // A check of a lane after a retirement does not refer to the release that was live before it.
    let checked_after = [
        deploy("staging", "1"),
        retired("staging"),
        lane_check("staging", "smoke", true),
        declared("staging"),
        lane_check("staging", "smoke", true),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &checked_after), [false]);
    let checked_before = [
        deploy("staging", "1"),
        lane_check("staging", "smoke", true),
        retired("staging"),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &checked_before), [true]);
}

#[test]
fn a_mark_applies_to_the_composition_at_the_marked_position() {
    let point = |position| ReleasePointId { environment: name("staging"), position: Position::new(position) };
    let marked =
        |position, status| Payload::ReleasePointMarked(Mark { point: point(position), status, name: None });
    let good = |position| marked(position, MarkedStatus::KnownGood);
    let history = |mark: Payload| {
        [
            deploy("staging", "1"),
            deploy("staging", "2"),
            deploy("staging", "1"),
            mark,
            deploy("production", "1"),
        ]
    };
    assert_eq!(allowed(&from_staging(), &history(good(1))), [true]);
    assert_eq!(allowed(&from_staging(), &history(good(2))), [false]);
    assert_eq!(allowed(&from_staging(), &history(good(3))), [true]);
    let mut withdrawn = history(good(3)).to_vec();
    withdrawn.insert(4, Payload::ReleasePointRevoked(point(1)));
    assert_eq!(allowed(&from_staging(), &withdrawn), [false]);
    let mut bad = history(good(1)).to_vec();
    bad.insert(4, marked(3, MarkedStatus::Bad));
    assert_eq!(allowed(&from_staging(), &bad), [false]);
    // A failure after the mark overrides it.
    let mut failed = history(good(1)).to_vec();
    failed.insert(4, version_check("staging", "1", "smoke", false));
    assert_eq!(allowed(&from_staging(), &failed), [false]);
}

#[test]
fn a_freeze_does_not_stop_deploys_recorded_before_it() {
    let started = Payload::FreezeStarted(freeze(None));
    let history: [TimedPayload; 4] = [
        (10, deploy("production", "1"), "ada"),
        (5, started, "mira"),
        (4, deploy("production", "2"), "ada"),
        (6, deploy("production", "3"), "ada"),
    ];
    let result = report_of(&Policy::default(), &history, 9);
    let stopped: Vec<_> = result.stopped_deploys.iter().map(|deploy| deploy.position.get()).collect();
    assert_eq!(stopped, [4]);
}

#[test]
fn a_change_at_the_time_of_a_declaration_counts() {
    let history: [TimedPayload; 5] = [
        (1, Payload::EnvironmentRetired(name("staging")), "ada"),
        (2, Payload::EnvironmentDeclared(name("staging"), Policy::default()), "ada"),
        (2, deploy("staging", "1"), "ada"),
        (3, lane_check("staging", "smoke", true), "ada"),
        (4, deploy("production", "1"), "ada"),
    ];
    let result = report_of(&from_staging(), &history, 9);
    assert_eq!((result.allowed, result.stopped), (1, 0));
}

#[test]
fn a_report_without_a_target_does_not_go_to_a_lane_from_before_a_retirement() {
    let [eu, us, none] = [Some("eu"), Some("us"), None].map(|target| lane_of("staging", "web", target));
    let history = [
        deploy_of(eu, version("1")),
        deploy_of(us, version("1")),
        Payload::EnvironmentRetired(name("staging")),
        Payload::EnvironmentDeclared(name("staging"), Policy::default()),
        deploy_of(none, version("2")),
        check_of(lane_of("staging", "web", Some("default")), None, true),
        deploy_of(lane("production"), version("2")),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true]);
}

#[test]
fn a_redeploy_under_another_spelling_of_the_artifact_continues_the_run() {
    let [one, other] = [D1, &format!("registry.example/web@{D1}")].map(|artifact| built("1", artifact));
    let soaked = Policy { soak_seconds: 50, ..Policy::default() };
    let history: [TimedPayload; 5] = [
        (0, Payload::EnvironmentDeclared(name("staging"), soaked), "ada"),
        (10, deploy_of(lane("staging"), one.clone()), "ada"),
        (20, lane_check("staging", "smoke", true), "ada"),
        (40, deploy_of(lane("staging"), other.clone()), "ada"),
        (70, deploy_of(lane("production"), one.clone()), "ada"),
    ];
    let result = report_of(&from_staging(), &history, 9);
    assert_eq!((result.allowed, result.stopped), (1, 0), "it ran for 60 seconds");
    let failed_later = [
        deploy_of(lane("production"), one),
        deploy_of(lane("production"), other),
        lane_check("production", "smoke", false),
    ];
    assert_eq!(missed(&failed_later), [1, 2], "the release of the first deploy is still live");
}
