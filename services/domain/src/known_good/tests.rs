//! Tests of the status of a point by its evidence, for any order of reports.

use proptest::prelude::*;

use super::*;

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("a valid text")
}

fn result(passed: bool, occurred_at: i64, position: u64) -> CheckResult {
    let occurred_at = DateTime::from_timestamp(occurred_at, 0).expect("a time");
    CheckResult { passed, occurred_at, position: Position::new(position) }
}

/// Creates results of `(check, passed)` at seconds and positions 11, 12, 13 …
fn results(results: &[(&str, bool)]) -> CheckResults {
    let mut all = CheckResults::default();
    for ((check, passed), at) in results.iter().zip(11..) {
        all.add(short_text(check), result(*passed, at.try_into().expect("a second"), at));
    }
    all
}

fn policy(required: &[&str], soak_seconds: u64) -> Policy {
    let required_validations = required.iter().map(|check| short_text(check)).collect();
    Policy { required_validations, soak_seconds, ..Policy::default() }
}

/// Judges a point that began with a change of its last lane and has run for an hour.
fn judged(policy: &Policy, lanes: &[CheckResults], marked: Option<MarkedStatus>) -> Judgement {
    judged_with_composition(policy, lanes, &CheckResults::default(), marked.map(|status| (status, 100)))
}

/// Does the same with results for the composition, and with a mark made at the given second.
fn judged_with_composition(
    policy: &Policy,
    lanes: &[CheckResults],
    composition: &CheckResults,
    marked: Option<(MarkedStatus, i64)>,
) -> Judgement {
    let target = TargetName::default();
    let services: Vec<ServiceName> =
        (0..lanes.len()).map(|n| ServiceName::parse(&format!("s{n}")).expect("a name")).collect();
    let checked = services.iter().zip(lanes).enumerate().map(|(n, (service, results))| CheckedLane {
        service,
        target: &target,
        changed: n + 1 == lanes.len(),
        verdicts: results,
    });
    let marked = marked.map(|(status, at)| Marked {
        position: Position::new(99),
        occurred_at: DateTime::from_timestamp(at, 0).expect("a time"),
        status,
        name: None,
        actor: None,
        reason: None,
    });
    let evidence = Evidence {
        lanes: checked.collect(),
        composition,
        stood: TimeDelta::hours(1),
        stands: true,
        marked: marked.as_ref(),
    };
    judge(policy, &evidence)
}

#[test]
fn a_point_is_known_good_if_every_required_check_passed_in_every_lane() {
    let both = results(&[("smoke", true), ("e2e", true)]);
    let one = results(&[("smoke", true)]);
    let policy = policy(&["smoke", "e2e"], 0);
    assert_eq!(judged(&policy, &[both.clone(), both.clone()], None).status, Status::KnownGood);
    let incomplete = judged(&policy, &[both, one], None);
    assert_eq!(incomplete.status, Status::Candidate);
    assert!(
        matches!(&incomplete.reasons[..], [Reason::Missing { check, .. }] if *check == short_text("e2e"))
    );
}

#[test]
fn a_required_check_that_failed_makes_a_point_bad_until_it_passes_again() {
    let policy = policy(&["smoke"], 0);
    let failed = judged(&policy, &[results(&[("smoke", true), ("smoke", false)])], None);
    assert_eq!(failed.status, Status::Bad);
    assert!(matches!(&failed.reasons[..], [Reason::Failed { position, .. }] if position.get() == 12));
    let again = judged(&policy, &[results(&[("smoke", false), ("smoke", true)])], None);
    assert_eq!(again.status, Status::KnownGood);
}

#[test]
fn a_failed_check_that_is_not_required_makes_a_point_a_candidate() {
    let judged = judged(&policy(&["smoke"], 0), &[results(&[("smoke", true), ("canary", false)])], None);
    assert_eq!(judged.status, Status::Candidate);
}

#[test]
fn without_a_policy_one_passed_check_is_enough_unless_another_failed() {
    let none = Policy::default();
    assert_eq!(judged(&none, &[results(&[])], None).reasons, [Reason::Unchecked]);
    assert_eq!(judged(&none, &[results(&[("any", true)])], None).status, Status::KnownGood);
    assert_eq!(judged(&none, &[results(&[("any", true), ("other", false)])], None).status, Status::Candidate);
}

#[test]
fn without_a_policy_the_check_must_be_of_a_lane_that_the_point_began_with() {
    let lanes = [results(&[("any", true)]), results(&[])];
    assert_eq!(judged(&Policy::default(), &lanes, None).status, Status::Candidate);
}

#[test]
fn a_point_is_known_good_only_after_the_soak_time() {
    let lanes = [results(&[("smoke", true)])];
    assert_eq!(judged(&policy(&["smoke"], 3_600), &lanes, None).status, Status::KnownGood);
    let short = judged(&policy(&["smoke"], 3_601), &lanes, None);
    assert_eq!(short.status, Status::Candidate);
    assert_eq!(short.reasons, [Reason::NotSoaked { stood: 3_600, wanted: 3_601, stands: true }]);
}

#[test]
fn a_mark_takes_precedence_over_check_results() {
    let policy = policy(&["smoke"], 0);
    let (good, bad) = (results(&[("smoke", true)]), results(&[("smoke", false)]));
    let marked_bad = judged(&policy, &[good], Some(MarkedStatus::Bad));
    assert_eq!(marked_bad.status, Status::Bad);
    assert_eq!(judged(&policy, &[bad], Some(MarkedStatus::KnownGood)).status, Status::KnownGood);
}

#[test]
fn rule_1_a_point_that_runs_nothing_is_empty_unless_a_person_marks_it() {
    let judgement = judged(&policy(&["smoke"], 0), &[], None);
    assert_eq!((judgement.status, &judgement.reasons[..]), (Status::Empty, &[Reason::Empty][..]));
    assert_eq!(judged(&Policy::default(), &[], None).status, Status::Empty);
    let marked = judged(&Policy::default(), &[], Some(MarkedStatus::KnownGood));
    assert_eq!(marked.status, Status::KnownGood);
}

#[test]
fn rule_5_a_passed_check_of_the_environment_makes_the_composition_known_good() {
    let policy = policy(&["e2e"], 0);
    let unchecked = [results(&[]), results(&[])];
    let passed = judged_with_composition(&policy, &unchecked, &results(&[("e2e", true)]), None);
    assert_eq!(passed.status, Status::KnownGood);
    assert_eq!(
        judged(&policy, &unchecked, None).status,
        Status::Candidate,
        "the result does not count for the lanes"
    );
}

#[test]
fn rule_5_a_failed_check_of_the_environment_counts_even_if_its_lanes_pass() {
    let policy = policy(&["e2e"], 0);
    let good = [results(&[("e2e", true)])];
    let failed = judged_with_composition(&policy, &good, &results(&[("e2e", false)]), None);
    assert_eq!(failed.status, Status::Bad);
    assert!(matches!(&failed.reasons[..], [Reason::Failed { lane: None, required: true, .. }]));
}

#[test]
fn rule_5_a_failed_check_of_a_lane_counts_even_if_the_environment_passes() {
    let policy = policy(&["smoke"], 0);
    let judgement =
        judged_with_composition(&policy, &[results(&[("smoke", false)])], &results(&[("smoke", true)]), None);
    assert_eq!(judgement.status, Status::Bad);
}

#[test]
fn rule_9_a_check_that_fails_after_a_mark_overrides_it_and_one_before_does_not() {
    let policy = policy(&["e2e"], 0);
    let lanes = [results(&[("smoke", true)])];
    let failed = results(&[("e2e", false)]);
    let before = judged_with_composition(&policy, &lanes, &failed, Some((MarkedStatus::KnownGood, 100)));
    assert_eq!(before.status, Status::KnownGood);
    let after = judged_with_composition(&policy, &lanes, &failed, Some((MarkedStatus::KnownGood, 1)));
    assert_eq!(after.status, Status::Bad);
    let bad =
        judged_with_composition(&policy, &lanes, &results(&[("e2e", true)]), Some((MarkedStatus::Bad, 1)));
    assert_eq!(bad.status, Status::Bad, "a mark as bad holds until it is revoked");
}

proptest! {
    #[test]
    fn a_status_does_not_depend_on_the_order_of_reports(
        reports in prop::collection::vec(("[abc]", any::<bool>(), 0_i64..6), 0..12)
            .prop_map(|reports| {
                let reports = reports.into_iter().zip(1..);
                reports.map(|((check, passed, at), n)| (check, result(passed, at, n))).collect::<Vec<_>>()
            })
            .prop_flat_map(|reports| (Just(reports.clone()), Just(reports).prop_shuffle())),
    ) {
        let collected = |reports: &[(String, CheckResult)]| {
            let mut all = CheckResults::default();
            for (check, result) in reports {
                all.add(short_text(check), result.clone());
            }
            all
        };
        let policy = policy(&["a", "b"], 0);
        let (one, other) = (collected(&reports.0), collected(&reports.1));
        prop_assert_eq!(judged(&policy, &[one], None), judged(&policy, &[other], None));
    }
}
