//! The artifacts that versions mean, in checks, promotion and approvals.

use super::*;
use crate::event::Built;

#[test]
fn a_check_of_a_version_applies_to_the_artifact_of_the_version_at_that_time() {
    let staging = lane_of("staging", "web", None);
    let history = [
        deploy_of(staging.clone(), built("1", D1)),
        check_of(staging.clone(), Some(version("1")), true),
        deploy_of(staging, built("1", D2)),
        deploy_of(lane("production"), built("1", &format!("registry.example/web@{D1}"))),
        deploy_of(lane("production"), built("1", D2)),
    ];
    assert_eq!(allowed(&from_staging(), &history), [true, false]);
}

/// Returns the build of version 2 as an artifact of web.
fn build_of_2(digest: &str) -> Payload {
    build_of_2_as(&format!("pkg:oci/web@{digest}"))
}

fn build_of_2_as(artifact: &str) -> Payload {
    Payload::ArtifactBuilt(Built {
        artifact: Artifact::parse(artifact).expect("an artifact"),
        version: Some(short_text("2")),
        commit: None,
        committed_at: None,
        builder: None,
        provenance: None,
    })
}

#[test]
fn a_check_of_an_artifact_applies_to_a_deploy_that_states_only_its_version() {
    let digest = Artifact::parse(D2).expect("an artifact");
    let scan = |passed| check_end("scan", passed, ValidationSubject::Artifact(digest.clone()));
    let smoke = version_check("staging", "2", "smoke", true);
    let [staged, released] = ["staging", "production"].map(|at| deploy_of(lane(at), version("2")));
    let history = |passed| [build_of_2(D2), staged.clone(), smoke.clone(), scan(passed), released.clone()];
    assert_eq!(allowed(&from_staging(), &history(true)), [true]);
    assert_eq!(allowed(&from_staging(), &history(false)), [false]);
    assert_eq!(missed(&[released.clone(), scan(false)]), [0; 0], "nothing says what version 2 is");
    assert_eq!(missed(&[released, scan(false), build_of_2(D2)]), [1], "the build was recorded late");
}

#[test]
fn a_check_of_a_version_does_not_apply_to_a_redeploy_after_another_build_of_it() {
    let [staged, released] = ["staging", "production"].map(|at| deploy_of(lane(at), version("2")));
    let smoke = version_check("staging", "2", "smoke", true);
    let mut history = vec![build_of_2(D1), staged.clone(), smoke.clone(), build_of_2(D2), staged];
    let released_after = |history: &[Payload]| [history, std::slice::from_ref(&released)].concat();
    assert_eq!(allowed(&from_staging(), &released_after(&history)), [false]);
    history.push(smoke);
    assert_eq!(allowed(&from_staging(), &released_after(&history)), [true]);
}

#[test]
fn the_artifact_of_a_version_is_that_of_a_deploy_or_else_that_of_a_build() {
    let artifact = Artifact::parse(&format!("pkg:oci/web@{D1}")).expect("an artifact");
    let revoked =
        Payload::ArtifactRevoked(Revoked { artifact: artifact.clone(), advisory: None, deleted: false });
    let build = Payload::ArtifactBuilt(Built {
        artifact,
        version: Some(short_text("1")),
        commit: None,
        committed_at: None,
        builder: None,
        provenance: None,
    });
    let requested = || deploy_of(lane("production"), version("1"));
    assert_eq!(
        stopped_by(&Policy::default(), &[build.clone(), revoked.clone(), requested()]),
        format!("pkg:oci/web@{D1} is revoked")
    );
    // Without a build, the artifact may be the revoked one, which is named like the service.
    assert_eq!(allowed(&Policy::default(), &[revoked.clone(), requested()]), [false]);
    let other = deploy_of(lane("staging"), built("1", D2));
    let policy = from_staging();
    let history = [build, revoked, other, version_check("staging", "1", "smoke", true), requested()];
    assert_eq!(allowed(&policy, &history), [true]);
}

#[test]
fn rule_14_promotion_judges_the_build_that_ran_not_the_one_that_its_version_means_now() {
    let history = [
        build_of_2(D1),
        deploy_of(lane("staging"), version("2")),
        version_check("staging", "2", "smoke", true),
        build_of_2(D2),
    ];
    let requested = |release: Release| [&history[..], &[deploy_of(lane("production"), release)]].concat();
    for unchecked in [version("2"), built("2", D2)] {
        let reason = stopped_by(&from_staging(), &requested(unchecked));
        assert!(reason.contains("never ran in staging"), "{reason}");
    }
    assert_eq!(allowed(&from_staging(), &requested(built("2", D1))), [true]);
}

#[test]
fn rule_6_a_deploy_before_any_build_of_its_version_has_the_first_build_after_it() {
    let scan = |digest| {
        check_end("scan", false, ValidationSubject::Artifact(Artifact::parse(digest).expect("an artifact")))
    };
    let history = |scanned| -> [TimedPayload; 4] {
        [
            (1, deploy_of(lane("production"), version("2")), "ada"),
            (3, build_of_2(D1), "ada"),
            (60, build_of_2(D2), "ada"),
            (65, scan(scanned), "ada"),
        ]
    };
    let missed = |history: &[TimedPayload]| report_of(&Policy::default(), history, 9).missed;
    assert_eq!((missed(&history(D1)), missed(&history(D2))), (1, 0));
    let mut crossed = history(D1);
    crossed.swap(1, 2);
    assert_eq!(missed(&crossed), 1, "the order of arrival does not matter");
    let later = (62, deploy_of(lane("staging"), built("2", D2)), "ada");
    assert_eq!(missed(&[&history(D1)[..], &[later]].concat()), 1, "another build was deployed later");
}

#[test]
fn rule_6_a_check_after_a_deploy_before_any_build_does_not_apply_to_a_redeploy_of_a_later_build() {
    let [staged, released] = ["staging", "production"].map(|at| deploy_of(lane(at), version("2")));
    let smoke = version_check("staging", "2", "smoke", true);
    let mut history = vec![staged.clone(), build_of_2(D1), smoke.clone(), build_of_2(D2), staged];
    let released_after = |history: &[Payload]| [history, std::slice::from_ref(&released)].concat();
    assert_eq!(allowed(&from_staging(), &released_after(&history)), [false]);
    history.push(smoke);
    assert_eq!(allowed(&from_staging(), &released_after(&history)), [true]);
}

#[test]
fn rule_6_builds_with_different_checksums_differ_also_if_both_equal_one_without() {
    let package = "pkg:npm/web@2.0.0";
    let with_checksum = |digest: &str| build_of_2_as(&format!("{package}?checksum={digest}"));
    let [staged, released] = ["staging", "production"].map(|at| deploy_of(lane(at), version("2")));
    let history = [
        build_of_2_as(package),
        with_checksum(D1),
        staged.clone(),
        version_check("staging", "2", "smoke", true),
        with_checksum(D2),
        staged,
        released,
    ];
    assert_eq!(allowed(&from_staging(), &history), [false]);
}

#[test]
fn rule_15_a_late_build_does_not_give_an_artifact_to_an_earlier_approval() {
    let history: [TimedPayload; 5] = [
        (12, build_of_2_as(&format!("pkg:oci/foo@{D1}")), "ada"),
        (12, build_of_2_as(&format!("pkg:oci/bar@{D2}")), "ada"),
        (12, granted(lane("production"), version("2"), None), "mira"),
        (11, build_of_2_as(&format!("pkg:oci/foo@{}", D1.replace('1', "3"))), "ada"),
        (13, deploy_of(lane("production"), version("2")), "ada"),
    ];
    let policy = Policy { approvals: 1, ..Policy::default() };
    assert_eq!(report_of(&policy, &history, 9).allowed, 1);
}

/// With cubic work for each version, this takes minutes.
#[test]
fn a_version_that_is_deployed_and_checked_very_often_is_reported_in_little_time() {
    let rounds = 700;
    let mut history = Vec::new();
    for round in 0..rounds {
        let digest = if round % 2 == 0 { D1 } else { D2 };
        history.push(deploy_of(lane("production"), built("2", digest)));
        history.push(deploy_of(lane("production"), version("2")));
        history.push(version_check("production", "2", "smoke", round % 7 > 0));
    }
    let result = report(&Policy::default(), &history);
    // Checks of the rounds with the first digest do not apply to the version, whose last deploy was of the second.
    assert_eq!((result.deploys, result.missed), (2 * rounds, rounds / 14));
}
