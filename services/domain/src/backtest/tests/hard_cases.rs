//! The hard cases of decision 0015, as far as a back-test meets them.

use super::*;
use crate::event::{Built, Counts, Mark, MarkedStatus, Reinstated, ReleasePointId};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn of(environment: &str, service: &str, target: Option<&str>) -> LaneRef {
    LaneRef {
        environment: name(environment),
        service: ServiceName::parse(service).expect("a name"),
        target: target.map(|target| TargetName::parse(target).expect("a name")),
    }
}

fn version(version: &str) -> Release {
    Release::of_version(line(version))
}

fn built(of: &str, artifact: &str) -> Release {
    version(of).completed(Some(Artifact::parse(artifact).expect("an artifact")))
}

fn deploy_of(lane: LaneRef, release: Release) -> Payload {
    Payload::DeploySucceeded(Deploy { lane, release, ..deployed("production", "1") })
}

fn check_of(lane: LaneRef, release: Option<Release>, passed: bool) -> Payload {
    said("smoke", passed, ValidationSubject::Lane { lane, release, deployment: None })
}

fn of_environment(environment: &str, check: &str, passed: bool) -> Payload {
    said(check, passed, ValidationSubject::Environment(name(environment)))
}

fn began(payload: Payload) -> Payload {
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

fn emptied(environment: &str, name: Option<&str>) -> Payload {
    let (deployment, rollback_id) = (None, None);
    Payload::DeployRemoved(Removal { lane: lane(environment), slot: name.map(slot), deployment, rollback_id })
}

/// Whether the candidate lets each deploy to production through, in the order of positions. The back-test must judge so many.
fn allowed<const N: usize>(policy: &Policy, facts: &[Payload]) -> [bool; N] {
    let told = report(policy, facts);
    decisions(&told, facts.iter())
}

fn decisions<'f, const N: usize>(told: &Report, facts: impl Iterator<Item = &'f Payload>) -> [bool; N] {
    let stopped: BTreeSet<u64> = told.stopped_deploys.iter().map(|judged| judged.position.get()).collect();
    let deploys = facts.zip(1..).filter(|(payload, _)| {
        matches!(payload, Payload::DeploySucceeded(it)
            if it.lane.environment == name("production") && it.rollback_id.is_none())
    });
    let decisions: Vec<bool> = deploys.map(|(_, position)| !stopped.contains(&position)).collect();
    assert_eq!(told.deploys, N as u64, "{told:?}");
    decisions.try_into().expect("as many deploys as are expected")
}

/// Why the only deploy is stopped.
fn stopped_by(policy: &Policy, facts: &[Payload]) -> String {
    let told = report(policy, facts);
    assert_eq!((told.deploys, told.stopped), (1, 1), "{told:?}");
    let findings = told.stopped_deploys[0].findings.iter();
    findings.map(|finding| finding.detail.clone()).collect::<Vec<_>>().join("; ")
}

fn missed(facts: &[Payload]) -> Vec<u64> {
    let told = report(&Policy::default(), facts);
    told.missed_deploys.iter().map(|judged| judged.position.get()).collect()
}

#[test]
fn a_report_without_a_target_is_of_the_only_target_that_the_service_has() {
    let history = [
        deploy_of(of("staging", "web", Some("eu")), version("1")),
        check_of(of("staging", "web", Some("eu")), Some(version("1")), true),
        deploy_of(of("staging", "web", None), version("2")),
        check_of(of("staging", "web", Some("eu")), None, true),
        deploy_of(lane("production"), version("2")),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true]);
}

#[test]
fn a_report_without_a_target_changes_no_lane_where_the_service_has_several() {
    let [eu, us, none] = [Some("eu"), Some("us"), None].map(|target| of("production", "web", target));
    let history = [
        deploy_of(eu.clone(), version("1")),
        deploy_of(us, version("1")),
        deploy_of(none, version("2")),
        check_of(eu, None, false),
    ];
    // The ambiguous one is not judged, and the check speaks of what still runs.
    let told = report(&Policy::default(), &history);
    assert_eq!((told.deploys, missed(&history)), (2, vec![1]));
}

#[test]
fn a_release_at_several_targets_has_to_be_known_good_at_each() {
    let [eu, us, none] = [Some("eu"), Some("us"), None].map(|target| of("staging", "web", target));
    let ran = [deploy_of(eu.clone(), release("1")), deploy_of(us, release("1"))];
    let with = |check| [&ran[..], &[check, deploy("production", "1")]].concat();
    assert_eq!(allowed(&from_staging(), &with(check_of(eu, Some(version("1")), true))), [false]);
    // A check without a target is of all of them.
    assert_eq!(allowed(&from_staging(), &with(check_of(none.clone(), Some(version("1")), true))), [true]);
    assert_eq!(allowed(&from_staging(), &with(check_of(none, None, true))), [true]);
}

#[test]
fn a_switch_waits_for_the_deploy_of_its_slot_and_one_to_an_empty_slot_is_void() {
    let crossed = [
        deploy("staging", "1"),
        switched("staging", "green"),
        in_slot("staging", "2", "green"),
        unnamed("staging", "smoke", true),
        deploy("production", "2"),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &crossed), [true, false]);
    let void = [
        deploy("staging", "1"),
        in_slot("staging", "2", "green"),
        emptied("staging", Some("green")),
        switched("staging", "green"),
        unnamed("staging", "smoke", true),
        deploy("production", "2"),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &void), [false, true]);
}

#[test]
fn a_removal_of_the_lane_empties_its_slots() {
    let history = [
        in_slot("production", "1", "blue"),
        emptied("production", None),
        switched("production", "blue"),
        checked("production", "1", "smoke", false),
    ];
    assert_eq!(missed(&history), [0; 0]);
}

#[test]
fn a_check_of_an_environment_speaks_of_its_composition() {
    let api = |environment| of(environment, "api", None);
    let history = [
        deploy_of(api("staging"), version("1")),
        deploy("staging", "1"),
        of_environment("staging", "e2e", true),
        deploy("staging", "2"),
        of_environment("staging", "e2e", false),
        deploy_of(api("production"), version("1")),
        deploy("production", "1"),
        deploy("production", "2"),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true, true, false]);
    let finding = &report(&from_staging(), &history).stopped_deploys[0].findings[0];
    assert_eq!(finding.detail, "it ran in staging, and is not known good there: no check passed");
    // The composition counts again when it returns, and a failure of it then is later.
    let mut back = history[..5].to_vec();
    back.extend([deploy("staging", "1"), of_environment("staging", "e2e", false), deploy("production", "1")]);
    assert_eq!(allowed(&from_staging(), &back), [false]);
}

#[test]
fn a_failed_composition_is_a_failure_of_the_deploy_that_it_began_with() {
    let api = of("production", "api", None);
    let mut history = vec![
        deploy_of(api, version("1")),
        deploy("production", "1"),
        deploy("production", "2"),
        of_environment("production", "e2e", false),
    ];
    assert_eq!(missed(&history), [3]);
    history.push(of_environment("production", "e2e", true));
    assert_eq!(missed(&history), [0; 0]);
}

#[test]
fn a_check_that_straddles_a_change_counts_neither_way() {
    let lane_check = || unnamed("staging", "smoke", true);
    let of_all = || of_environment("staging", "smoke", true);
    for check in [lane_check(), of_all()] {
        let across = [
            deploy("staging", "1"),
            began(check.clone()),
            deploy("staging", "2"),
            check.clone(),
            deploy("production", "2"),
        ];
        assert_eq!(allowed(&from_staging(), &across), [false], "{check:?}");
        let within = [
            deploy("staging", "1"),
            deploy("staging", "2"),
            began(check.clone()),
            check.clone(),
            deploy("production", "2"),
        ];
        assert_eq!(allowed(&from_staging(), &within), [true], "{check:?}");
    }
    // One that names its release does where that did not stand throughout.
    let named = checked("staging", "1", "smoke", true);
    let history = [
        deploy("staging", "1"),
        began(named.clone()),
        deploy("staging", "2"),
        named,
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &history), [false]);
}

#[test]
fn the_run_tells_which_start_is_whose() {
    let run = |payload: Payload, run: &str| match payload {
        Payload::ValidationPassed(it) => Payload::ValidationPassed(Validation { run: Some(line(run)), ..it }),
        Payload::ValidationStarted(it) => {
            Payload::ValidationStarted(Validation { run: Some(line(run)), ..it })
        }
        other => other,
    };
    let passed = unnamed("staging", "smoke", true);
    let with = |end: &str| {
        [
            run(began(passed.clone()), "a"),
            deploy("staging", "1"),
            run(began(passed.clone()), "b"),
            run(passed.clone(), end),
            deploy("production", "1"),
        ]
    };
    assert_eq!(allowed(&from_staging(), &with("a")), [false]);
    assert_eq!(allowed(&from_staging(), &with("b")), [true]);
}

#[test]
fn counts_that_contradict_a_pass_make_nothing_good() {
    let counting = |passed, failed| {
        let Payload::ValidationPassed(it) = checked("staging", "1", "smoke", true) else { panic!("a pass") };
        let counts = Some(Counts { passed, failed, skipped: 0 });
        let passed = Payload::ValidationPassed(Validation { counts, ..it });
        allowed::<1>(&from_staging(), &[deploy("staging", "1"), passed, deploy("production", "1")])
    };
    assert_eq!((counting(3, 0), counting(3, 1), counting(0, 0)), ([true], [false], [false]));
}

#[test]
fn a_check_of_a_version_is_of_the_artifact_that_the_version_meant() {
    let staging = of("staging", "web", None);
    let history = [
        deploy_of(staging.clone(), built("1", D1)),
        check_of(staging.clone(), Some(version("1")), true),
        deploy_of(staging, built("1", D2)),
        deploy_of(lane("production"), built("1", &format!("registry.example/web@{D1}"))),
        deploy_of(lane("production"), built("1", D2)),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true, false]);
}

#[test]
fn a_version_means_what_was_deployed_as_it_or_else_what_was_built() {
    let artifact = Artifact::parse(&format!("pkg:oci/web@{D1}")).expect("an artifact");
    let revoked =
        Payload::ArtifactRevoked(Revoked { artifact: artifact.clone(), advisory: None, deleted: false });
    let build = Payload::ArtifactBuilt(Built {
        artifact,
        version: Some(line("1")),
        commit: None,
        committed_at: None,
        builder: None,
        provenance: None,
    });
    let asked = || deploy_of(lane("production"), version("1"));
    assert_eq!(
        stopped_by(&Policy::default(), &[build.clone(), revoked.clone(), asked()]),
        format!("pkg:oci/web@{D1} is revoked")
    );
    // Without a build it may be the one that is revoked, since that is named as the service is.
    assert_eq!(allowed(&Policy::default(), &[revoked.clone(), asked()]), [false]);
    let other = deploy_of(lane("staging"), built("1", D2));
    let policy = from_staging();
    let history = [build, revoked, other, checked("staging", "1", "smoke", true), asked()];
    assert_eq!(allowed(&policy, &history), [true]);
}

#[test]
fn a_revocation_is_of_the_artifact_in_any_spelling_and_can_be_withdrawn() {
    let artifact = |text: &str| Artifact::parse(text).expect("an artifact");
    let revoked =
        Payload::ArtifactRevoked(Revoked { artifact: artifact(D1), advisory: None, deleted: false });
    let reinstated =
        Payload::ArtifactReinstated(Reinstated { artifact: artifact(&format!("pkg:oci/web@{D1}")) });
    let asked = || deploy_of(lane("production"), built("1", &format!("registry.example/web@{D1}")));
    let history = [revoked.clone(), asked(), reinstated, asked(), revoked, asked()];
    assert_eq!(allowed(&Policy::default(), &history), [false, true, false]);
}

fn granted(lane: LaneRef, release: Release, expires_at: Option<i64>) -> Payload {
    let subject = ApprovalSubject::Deploy { lane, release };
    Payload::ApprovalGranted(Approval { subject, expires_at: expires_at.map(time) })
}

/// By mira if it is an answer, else by ada.
fn decided<const N: usize>(facts: &[Payload]) -> [bool; N] {
    let policy = Policy { approvals: 1, ..Policy::default() };
    let actor =
        |payload: &Payload| if matches!(payload, Payload::ApprovalGranted(_)) { "mira" } else { "ada" };
    let history: Vec<Happened> =
        facts.iter().cloned().zip(1..).map(|(payload, at)| (at, payload.clone(), actor(&payload))).collect();
    decisions(&fed(&policy, &history, 100), facts.iter())
}

#[test]
fn a_grant_is_of_its_target_until_it_expires_or_is_used_up() {
    let at = |target| of("production", "web", target);
    let eu = |of: &str| deploy_of(at(Some("eu")), version(of));
    assert_eq!(decided(&[granted(at(Some("us")), version("1"), None), eu("1")]), [false]);
    assert_eq!(decided(&[granted(at(None), version("1"), None), eu("1")]), [true]);
    assert_eq!(decided(&[granted(at(None), version("1"), Some(3)), eu("1"), eu("1")]), [true, false]);
    let history = [granted(at(None), version("1"), None), eu("1"), eu("1"), eu("2"), eu("1")];
    assert_eq!(decided(&history), [true, true, false, false]);
}

#[test]
fn a_grant_of_a_version_is_of_the_artifact_that_it_meant_then() {
    let lane = || lane("production");
    let history = [
        deploy_of(lane(), built("1", D1)),
        granted(lane(), version("1"), None),
        deploy_of(lane(), built("1", D1)),
        deploy_of(lane(), built("1", D2)),
    ];
    assert_eq!(decided(&history), [false, true, false]);
}

/// A rollback of web in production from one release to another, that was done.
fn rolled_back(id: &str, from: Release, to: Option<Release>) -> [Payload; 3] {
    let Payload::RollbackRequested(mut request) = leave(id, "1") else { panic!("a request") };
    request.plan.steps[0].from = Some(from);
    request.plan.steps[0].to = to;
    let ended = Payload::RollbackSucceeded(rollback(id));
    [Payload::RollbackRequested(request), Payload::RollbackStarted(started(id)), ended]
}

#[test]
fn a_hold_is_on_the_parts_that_differ() {
    let configured = |digest: &str| Release {
        config: Some(ConfigDigest::parse(digest).expect("a digest")),
        ..version("1")
    };
    let asked = |release: Release| deploy_of(lane("production"), release);
    let back = rolled_back("r-1", configured(D2), Some(configured(D1)));
    let history =
        [&back[..], &[asked(configured(D2)), asked(configured(D1)), asked(configured(D2))]].concat();
    assert_eq!(allowed(&Policy::default(), &history), [false, true, false]);
    // Another release ends it.
    let fixed = configured(&D1.replace('1', "3"));
    let history = [&back[..], &[asked(fixed), asked(configured(D2))]].concat();
    assert_eq!(allowed(&Policy::default(), &history), [true, true]);
}

#[test]
fn a_corrected_deploy_does_not_end_a_hold() {
    let asked = |of: &str| deploy_of(lane("production"), version(of));
    let mut entries: Vec<Entry> = rolled_back("r-1", version("2"), Some(version("1")))
        .into_iter()
        .chain([asked("3"), asked("1"), asked("2")])
        .zip(1..)
        .map(|(payload, at)| Entry::from(&(at, payload, "ada")))
        .collect();
    let last = |entries: &[Entry]| {
        let told = fed_entries(&Policy::default(), entries, 10);
        told.judgement(Position::new(entries.len() as u64)).map(|judgement| judgement.stopped)
    };
    assert_eq!(last(&entries), Some(false));
    entries[4].corrects = Some(4);
    assert_eq!(last(&entries), Some(true));
    // A rollback of the rollback, by a person, ends it.
    let back = rolled_back("r-2", version("1"), Some(version("2")));
    entries.splice(5..5, back.iter().map(|payload| Entry::from(&(6, payload.clone(), "ada"))));
    assert_eq!(last(&entries), Some(false));
}

#[test]
fn a_late_deploy_does_not_end_a_hold_and_one_of_several_that_end_it_may_be_corrected() {
    let asked = |of: &str| deploy_of(lane("production"), version(of));
    let back = rolled_back("r-1", version("2"), Some(version("1")));
    let entries = |more: &[(i64, &str, Option<u64>)]| {
        let back = back.iter().zip(1..).map(|(payload, at)| Entry::from(&(at, payload.clone(), "ada")));
        let more = more.iter().map(|(at, of, corrects)| Entry {
            at: *at,
            payload: asked(of),
            actor: "ada",
            corrects: *corrects,
        });
        back.chain(more).collect::<Vec<_>>()
    };
    let is_held = |more: &[(i64, &str, Option<u64>)]| {
        let entries = entries(more);
        let told = fed_entries(&Policy::default(), &entries, 10);
        told.judgement(Position::new(entries.len() as u64)).map(|judgement| judgement.stopped)
    };
    assert_eq!(is_held(&[(10, "1", None), (9, "3", None), (20, "2", None)]), Some(true));
    assert_eq!(is_held(&[(10, "1", None), (11, "3", None), (20, "2", None)]), Some(false));
    let both = [(10, "3", None), (11, "4", None), (12, "1", Some(4)), (20, "2", None)];
    assert_eq!(is_held(&both), Some(false));
}

#[test]
fn a_corrected_deploy_is_not_in_the_composition_that_a_later_mark_is_on() {
    let point = ReleasePointId { environment: name("staging"), position: Position::new(3) };
    let mark = Payload::ReleasePointMarked(Mark { point, status: MarkedStatus::KnownGood, name: None });
    let failed = Payload::DeployFailed(deployed("staging", "2"));
    let facts = [deploy("staging", "1"), deploy("staging", "2"), failed, mark, deploy("production", "1")];
    let mut entries: Vec<Entry> =
        facts.into_iter().zip(1..).map(|(payload, at)| Entry::from(&(at, payload, "ada"))).collect();
    assert_eq!(fed_entries(&from_staging(), &entries, 10).report().allowed, 0);
    entries[2].corrects = Some(2);
    assert_eq!(fed_entries(&from_staging(), &entries, 10).report().allowed, 1);
}

#[test]
fn a_removal_of_the_lane_is_a_change_of_what_a_check_examined_in_a_slot() {
    let passed = checked("staging", "1", "smoke", true);
    let history = |between: Payload| {
        [
            in_slot("staging", "1", "blue"),
            switched("staging", "blue"),
            began(passed.clone()),
            between,
            in_slot("staging", "2", "green"),
            passed.clone(),
            deploy("production", "1"),
        ]
    };
    assert_eq!(allowed(&from_staging(), &history(emptied("staging", None))), [false]);
    assert_eq!(allowed(&from_staging(), &history(emptied("staging", Some("green")))), [true]);
}

#[test]
fn a_correction_replaces_what_the_other_event_said() {
    let entry = |payload: Payload, corrects| Entry { at: 1, payload, actor: "ada", corrects };
    let passed = |of: &str| checked("staging", of, "smoke", true);
    let judged = |entries: &[Entry]| {
        let told = fed_entries(&from_staging(), entries, 10).report();
        (told.deploys, told.allowed)
    };
    // A check of version 1 was meant, and not of version 2.
    let ran = [entry(deploy("staging", "1"), None), entry(passed("2"), None)];
    let asked = entry(deploy("production", "1"), None);
    assert_eq!(judged(&[&ran[..], std::slice::from_ref(&asked)].concat()), (1, 0));
    let corrected = [&ran[..], &[entry(passed("1"), Some(2)), asked.clone()]].concat();
    assert_eq!(judged(&corrected), (1, 1));
    // The correction is corrected in its turn, by its own name or by that of the first.
    for corrects in [2, 3] {
        let mut twice = corrected.clone();
        twice.insert(3, entry(passed("2"), Some(corrects)));
        assert_eq!(judged(&twice), (1, 0), "{corrects}");
    }
    // A deploy that is corrected was none: only the correction is judged.
    let failed = Payload::DeployFailed(deployed("production", "1"));
    assert_eq!(judged(&[&corrected[..], &[entry(failed, Some(4))]].concat()), (0, 0));
    let other = entry(deploy("production", "2"), Some(4));
    assert_eq!(judged(&[&corrected[..], &[other]].concat()), (1, 0));
    // What is no report of a deploy or a check cannot be corrected, and what is unknown neither.
    let declared = entry(Payload::EnvironmentDeclared(name("staging"), Policy::default()), None);
    let none =
        [declared, entry(deploy("production", "1"), Some(1)), entry(deploy("production", "2"), Some(9))];
    assert_eq!(judged(&none), (2, 0));
}

#[test]
fn nothing_is_deployed_to_an_environment_that_is_retired() {
    let retired = |environment| Payload::EnvironmentRetired(name(environment));
    let declared = |environment| Payload::EnvironmentDeclared(name(environment), Policy::default());
    let history = [retired("production"), deploy("production", "1")];
    assert_eq!(
        stopped_by(&Policy::default(), &history),
        "production is retired; declare it to deploy there again"
    );
    let again = [&history[..], &[declared("production"), deploy("production", "1")]].concat();
    assert_eq!(allowed(&Policy::default(), &again), [false, true]);
    // What ran in an environment until it was retired is not what a later check of the lane speaks of.
    let checked_after = [
        deploy("staging", "1"),
        retired("staging"),
        unnamed("staging", "smoke", true),
        declared("staging"),
        unnamed("staging", "smoke", true),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &checked_after), [false]);
    let checked_before = [
        deploy("staging", "1"),
        unnamed("staging", "smoke", true),
        retired("staging"),
        deploy("production", "1"),
    ];
    assert_eq!(allowed(&from_staging(), &checked_before), [true]);
}

#[test]
fn a_mark_is_on_the_composition_that_ran_at_the_position() {
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
    // A failure after the mark outranks it.
    let mut failed = history(good(1)).to_vec();
    failed.insert(4, checked("staging", "1", "smoke", false));
    assert_eq!(allowed(&from_staging(), &failed), [false]);
}

#[test]
fn a_freeze_that_is_told_afterwards_was_not_known() {
    let started = Payload::FreezeStarted(freeze(None));
    let history: [Happened; 4] = [
        (10, deploy("production", "1"), "ada"),
        (5, started, "mira"),
        (4, deploy("production", "2"), "ada"),
        (6, deploy("production", "3"), "ada"),
    ];
    let told = fed(&Policy::default(), &history, 9);
    let stopped: Vec<_> = told.stopped_deploys.iter().map(|judged| judged.position.get()).collect();
    assert_eq!(stopped, [4]);
}
