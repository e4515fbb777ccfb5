//! What is thought of a point, by which evidence, whatever the order of reports.

use proptest::prelude::*;

use super::*;

fn line(text: &str) -> ShortText {
    ShortText::parse(text).expect("a line")
}

fn verdict(passed: bool, occurred_at: i64, position: u64) -> CheckResult {
    let occurred_at = DateTime::from_timestamp(occurred_at, 0).expect("a time");
    CheckResult { passed, occurred_at, position: Position::new(position) }
}

/// Verdicts of `(check, passed)`, one a second, at positions 11, 12, 13 …
fn verdicts(said: &[(&str, bool)]) -> CheckResults {
    let mut all = CheckResults::default();
    for ((check, passed), at) in said.iter().zip(11..) {
        all.add(line(check), verdict(*passed, at.try_into().expect("a second"), at));
    }
    all
}

fn policy(required: &[&str], soak_seconds: u64) -> Policy {
    let required_validations = required.iter().map(|check| line(check)).collect();
    Policy { required_validations, soak_seconds, ..Policy::default() }
}

/// Judges a point whose last lane is the one that changed; it has stood for an hour.
fn judged(policy: &Policy, lanes: &[CheckResults], marked: Option<MarkedStatus>) -> Judgement {
    judged_as_a_whole(policy, lanes, &CheckResults::default(), marked.map(|status| (status, 100)))
}

/// The same, with results for the composition; a mark with the second at which it was made.
fn judged_as_a_whole(
    policy: &Policy,
    lanes: &[CheckResults],
    composition: &CheckResults,
    marked: Option<(MarkedStatus, i64)>,
) -> Judgement {
    let target = TargetName::default();
    let services: Vec<ServiceName> =
        (0..lanes.len()).map(|n| ServiceName::parse(&format!("s{n}")).expect("a name")).collect();
    let checked = services.iter().zip(lanes).enumerate().map(|(n, (service, verdicts))| CheckedLane {
        service,
        target: &target,
        changed: n + 1 == lanes.len(),
        verdicts,
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
fn a_point_is_known_good_when_every_required_check_passed_in_every_lane() {
    let both = verdicts(&[("smoke", true), ("e2e", true)]);
    let one = verdicts(&[("smoke", true)]);
    let policy = policy(&["smoke", "e2e"], 0);
    assert_eq!(judged(&policy, &[both.clone(), both.clone()], None).status, Status::KnownGood);
    let lacking = judged(&policy, &[both, one], None);
    assert_eq!(lacking.status, Status::Candidate);
    assert!(matches!(&lacking.reasons[..], [Reason::Missing { check, .. }] if *check == line("e2e")));
}

#[test]
fn a_required_check_that_failed_makes_a_point_bad_until_it_passes_again() {
    let policy = policy(&["smoke"], 0);
    let failed = judged(&policy, &[verdicts(&[("smoke", true), ("smoke", false)])], None);
    assert_eq!(failed.status, Status::Bad);
    assert!(matches!(&failed.reasons[..], [Reason::Failed { position, .. }] if position.get() == 12));
    let again = judged(&policy, &[verdicts(&[("smoke", false), ("smoke", true)])], None);
    assert_eq!(again.status, Status::KnownGood);
}

#[test]
fn another_check_that_failed_keeps_a_point_from_being_known_good_and_does_not_make_it_bad() {
    let judged = judged(&policy(&["smoke"], 0), &[verdicts(&[("smoke", true), ("canary", false)])], None);
    assert_eq!(judged.status, Status::Candidate);
}

#[test]
fn without_a_policy_one_check_that_passed_is_enough_and_one_that_failed_is_too_much() {
    let none = Policy::default();
    assert_eq!(judged(&none, &[verdicts(&[])], None).reasons, [Reason::Unchecked]);
    assert_eq!(judged(&none, &[verdicts(&[("any", true)])], None).status, Status::KnownGood);
    assert_eq!(
        judged(&none, &[verdicts(&[("any", true), ("other", false)])], None).status,
        Status::Candidate
    );
}

#[test]
fn without_a_policy_the_check_must_be_of_what_the_point_began_with() {
    let lanes = [verdicts(&[("any", true)]), verdicts(&[])];
    assert_eq!(judged(&Policy::default(), &lanes, None).status, Status::Candidate);
}

#[test]
fn a_point_soaks_as_long_as_the_policy_says() {
    let lanes = [verdicts(&[("smoke", true)])];
    assert_eq!(judged(&policy(&["smoke"], 3_600), &lanes, None).status, Status::KnownGood);
    let short = judged(&policy(&["smoke"], 3_601), &lanes, None);
    assert_eq!(short.status, Status::Candidate);
    assert_eq!(short.reasons, [Reason::NotSoaked { stood: 3_600, wanted: 3_601, stands: true }]);
}

#[test]
fn a_persons_word_outranks_the_rule() {
    let policy = policy(&["smoke"], 0);
    let (good, bad) = (verdicts(&[("smoke", true)]), verdicts(&[("smoke", false)]));
    let marked_bad = judged(&policy, &[good], Some(MarkedStatus::Bad));
    assert_eq!(marked_bad.status, Status::Bad);
    assert_eq!(judged(&policy, &[bad], Some(MarkedStatus::KnownGood)).status, Status::KnownGood);
}

#[test]
fn rule_1_a_point_at_which_nothing_runs_is_empty_unless_a_person_marks_it() {
    let judgement = judged(&policy(&["smoke"], 0), &[], None);
    assert_eq!((judgement.status, &judgement.reasons[..]), (Status::Empty, &[Reason::Empty][..]));
    assert_eq!(judged(&Policy::default(), &[], None).status, Status::Empty);
    let marked = judged(&Policy::default(), &[], Some(MarkedStatus::KnownGood));
    assert_eq!(marked.status, Status::KnownGood);
}

#[test]
fn rule_5_a_pass_of_the_whole_environment_makes_that_composition_good() {
    let policy = policy(&["e2e"], 0);
    let unchecked = [verdicts(&[]), verdicts(&[])];
    let passed = judged_as_a_whole(&policy, &unchecked, &verdicts(&[("e2e", true)]), None);
    assert_eq!(passed.status, Status::KnownGood);
    assert_eq!(judged(&policy, &unchecked, None).status, Status::Candidate, "nothing is booked on the parts");
}

#[test]
fn rule_5_a_failure_of_the_whole_environment_stays_though_its_parts_pass() {
    let policy = policy(&["e2e"], 0);
    let good = [verdicts(&[("e2e", true)])];
    let failed = judged_as_a_whole(&policy, &good, &verdicts(&[("e2e", false)]), None);
    assert_eq!(failed.status, Status::Bad);
    assert!(matches!(&failed.reasons[..], [Reason::Failed { lane: None, required: true, .. }]));
}

#[test]
fn rule_5_a_part_that_failed_keeps_the_composition_bad_though_the_whole_passed() {
    let policy = policy(&["smoke"], 0);
    let judgement =
        judged_as_a_whole(&policy, &[verdicts(&[("smoke", false)])], &verdicts(&[("smoke", true)]), None);
    assert_eq!(judgement.status, Status::Bad);
}

#[test]
fn rule_9_a_failed_check_after_the_mark_outranks_it_and_one_before_does_not() {
    let policy = policy(&["e2e"], 0);
    let lanes = [verdicts(&[("smoke", true)])];
    let failed = verdicts(&[("e2e", false)]);
    let before = judged_as_a_whole(&policy, &lanes, &failed, Some((MarkedStatus::KnownGood, 100)));
    assert_eq!(before.status, Status::KnownGood);
    let after = judged_as_a_whole(&policy, &lanes, &failed, Some((MarkedStatus::KnownGood, 1)));
    assert_eq!(after.status, Status::Bad);
    let bad = judged_as_a_whole(&policy, &lanes, &verdicts(&[("e2e", true)]), Some((MarkedStatus::Bad, 1)));
    assert_eq!(bad.status, Status::Bad, "a mark as bad holds until it is revoked");
}

proptest! {
    #[test]
    fn a_status_does_not_depend_on_the_order_in_which_reports_arrived(
        reports in prop::collection::vec(("[abc]", any::<bool>(), 0_i64..6), 0..12)
            .prop_map(|reports| {
                reports.into_iter().zip(1..).map(|((check, passed, at), n)| (check, verdict(passed, at, n))).collect()
            })
            .prop_flat_map(|reports: Vec<(String, CheckResult)>| (Just(reports.clone()), Just(reports).prop_shuffle())),
    ) {
        let added = |reports: &[(String, CheckResult)]| {
            let mut all = CheckResults::default();
            for (check, verdict) in reports {
                all.add(line(check), verdict.clone());
            }
            all
        };
        let policy = policy(&["a", "b"], 0);
        let (one, other) = (added(&reports.0), added(&reports.1));
        prop_assert_eq!(judged(&policy, &[one], None), judged(&policy, &[other], None));
    }
}
