//! What each rule of the gate says, and by what evidence.

use super::*;
use crate::{Artifact, Position};

fn line(text: &str) -> Line {
    Line::parse(text).expect("a line")
}

fn actor(kind: &str, name: &str) -> Actor {
    Actor { kind: line(kind), name: line(name) }
}

fn person(name: &str) -> Actor {
    actor("person", name)
}

/// Answers of `(actor, granted)` at positions 11, 12, 13 …
fn answers(given: &[(Actor, bool)]) -> Vec<Answer> {
    let answer = |((actor, granted), position): (&(Actor, bool), u64)| Answer {
        actor: actor.clone(),
        granted: *granted,
        position: Position::new(position),
    };
    given.iter().zip(11..).map(answer).collect()
}

fn wanting(approvals: u32) -> Policy {
    Policy { approvals, ..Policy::default() }
}

/// Nothing is in the way, and nobody has answered.
const fn case(policy: &Policy) -> Case<'_> {
    Case {
        policy,
        freezes: &[],
        rollback: None,
        revoked: None,
        hold: None,
        provings: &[],
        answers: &[],
        requester: None,
    }
}

fn said(case: &Case<'_>) -> Vec<(Rule, bool)> {
    findings(case).into_iter().map(|finding| (finding.rule, finding.passes)).collect()
}

/// What a rule says, which has to be asked once.
fn of(rule: Rule, case: &Case<'_>) -> Finding {
    let mut found = findings(case);
    found.retain(|finding| finding.rule == rule);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// What is said of approvals where ada wants to deploy and two others must approve.
fn of_two(given: &[(Actor, bool)]) -> Finding {
    let (policy, ada, answers) = (wanting(2), person("ada"), answers(given));
    of(Rule::Approvals, &Case { answers: &answers, requester: Some(&ada), ..case(&policy) })
}

fn held(given: &[(Actor, bool)], requested: u64) -> Finding {
    let hold = Hold { rollback_id: line("rollback-1"), position: Position::new(requested) };
    let (policy, answers) = (Policy::default(), answers(given));
    of(Rule::Held, &Case { hold: Some(&hold), answers: &answers, ..case(&policy) })
}

#[test]
fn an_environment_without_rules_is_asked_only_for_a_freeze() {
    assert_eq!(said(&case(&Policy::default())), [(Rule::Freeze, true)]);
}

#[test]
fn no_deploy_passes_in_a_freeze_whatever_the_policy_says_of_rollbacks() {
    let policy = Policy { freeze: crate::event::Hindrance::Warn, ..Policy::default() };
    let freezes = [ActiveFreeze { freeze_id: line("year-end"), until: None, position: Position::new(3) }];
    let finding = of(Rule::Freeze, &Case { freezes: &freezes, ..case(&policy) });
    assert_eq!((finding.passes, finding.position), (false, Some(Position::new(3))));
}

#[test]
fn no_deploy_passes_while_a_rollback_is_under_way() {
    let (policy, id) = (Policy::default(), line("rollback-1"));
    let finding = of(Rule::Rollback, &Case { rollback: Some((&id, Position::new(4))), ..case(&policy) });
    assert_eq!((finding.passes, finding.position), (false, Some(Position::new(4))));
    assert_eq!(finding.detail, "rollback rollback-1 is under way");
}

#[test]
fn a_revoked_artifact_does_not_pass_and_a_deleted_one_is_called_so() {
    let policy = Policy::default();
    let said = |deleted| {
        let artifact = Artifact::parse("pkg:generic/web@v1").expect("a package URL");
        let revoked = RevokedArtifact { artifact, deleted, position: Position::new(5) };
        let finding = of(Rule::Revoked, &Case { revoked: Some(&revoked), ..case(&policy) });
        (finding.passes, finding.detail)
    };
    assert_eq!(said(false), (false, "pkg:generic/web@v1 is revoked".to_owned()));
    assert_eq!(said(true), (false, "pkg:generic/web@v1 is deleted".to_owned()));
}

#[test]
fn a_release_that_was_rolled_back_is_held_until_a_person_releases_it() {
    assert!(!held(&[], 10).passes);
    let released = held(&[(person("ada"), true)], 10);
    assert_eq!((released.passes, released.position), (true, Some(Position::new(11))));
}

#[test]
fn an_approval_from_before_the_rollback_releases_nothing() {
    assert!(!held(&[(person("ada"), true)], 11).passes);
    assert!(!held(&[(person("ada"), true)], 12).passes);
}

#[test]
fn neither_a_workload_nor_a_rejection_releases_what_is_held() {
    assert!(!held(&[(actor("workload", "ci"), true)], 10).passes);
    assert!(!held(&[(person("ada"), false)], 10).passes);
}

#[test]
fn a_person_who_takes_the_word_back_holds_it_again() {
    assert!(!held(&[(person("ada"), true), (person("ada"), false)], 10).passes);
}

#[test]
fn a_release_passes_only_where_it_was_known_good_in_every_environment_that_the_policy_names() {
    let policy = Policy::default();
    let proving = |name: &str, status| Proving {
        environment: EnvironmentName::parse(name).expect("a name"),
        status,
        position: Some(Position::new(6)),
    };
    let provings = [
        proving("dev", Some(Status::KnownGood)),
        proving("staging", Some(Status::Candidate)),
        proving("canary", Some(Status::Bad)),
        proving("load", None),
    ];
    let findings = findings(&Case { provings: &provings, ..case(&policy) });
    let promotions = findings.iter().filter(|finding| finding.rule == Rule::Promotion);
    assert!(promotions.map(|finding| finding.passes).eq([true, false, false, false]));
    assert_eq!(findings[4].detail, "it never ran in load");
}

#[test]
fn as_many_people_as_the_policy_says_must_have_approved() {
    assert!(!of_two(&[]).passes);
    assert!(!of_two(&[(person("grace"), true)]).passes);
    let two = of_two(&[(person("grace"), true), (person("tony"), true)]);
    assert!(two.passes);
    assert_eq!((two.detail.as_str(), two.position), ("2 of 2 approvals", Some(Position::new(12))));
}

#[test]
fn nobody_counts_twice_not_even_with_two_kinds_of_account() {
    assert!(!of_two(&[(person("grace"), true), (person("grace"), true)]).passes);
    assert!(!of_two(&[(person("grace"), true), (actor("admin", "grace"), true)]).passes);
}

#[test]
fn the_requesters_own_approval_does_not_count_under_any_kind_of_account() {
    for kind in ["person", "admin"] {
        let own = of_two(&[(actor(kind, "ada"), true), (person("grace"), true)]);
        assert!(!own.passes);
        assert_eq!(own.detail, "1 of 2 approvals; the requester's own does not count");
        assert_eq!(own.position, Some(Position::new(12)));
    }
}

#[test]
fn one_rejection_outweighs_every_approval_until_it_is_taken_back() {
    let two = [(person("grace"), true), (person("tony"), true)];
    let rejected = of_two(&[&two[..], &[(person("leslie"), false)]].concat());
    assert_eq!((rejected.passes, rejected.position), (false, Some(Position::new(13))));
    assert_eq!(rejected.detail, "leslie rejected it");
    let again = [&[(person("leslie"), false)], &two[..], &[(person("leslie"), true)]].concat();
    assert!(of_two(&again).passes);
}

#[test]
fn everybodys_last_word_counts_in_whatever_order_the_answers_are_given() {
    let mut answers = answers(&[(person("grace"), false), (person("grace"), true)]);
    answers.reverse();
    let policy = wanting(1);
    assert!(of(Rule::Approvals, &Case { answers: &answers, ..case(&policy) }).passes);
}

#[test]
fn a_policy_that_wants_no_approvals_is_not_asked_for_any() {
    let (policy, answers) = (wanting(0), answers(&[(person("grace"), false)]));
    assert_eq!(said(&Case { answers: &answers, ..case(&policy) }), [(Rule::Freeze, true)]);
}

#[test]
fn approvals_of_a_rollback_are_those_of_others_than_who_asked_for_it() {
    let given = answers(&[(person("ada"), true), (person("grace"), true), (person("tony"), false)]);
    assert_eq!(approved_by_others(&given, &person("ada")), (1, Some(Position::new(13))));
    assert_eq!(approved_by_others(&given[..2], &person("grace")), (1, None));
}
