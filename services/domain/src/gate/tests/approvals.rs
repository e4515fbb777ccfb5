//! Approvals: whose count, what they cover, and when they end.

use super::*;

/// What is said of approvals where two must approve v1.
fn of_two(answers: &[(Actor, bool)]) -> Finding {
    let policy = Policy { approvals: 2, ..Policy::default() };
    let answers = answers.iter().zip(11..);
    let answers =
        answers.map(|((actor, granted), position)| answer(actor.clone(), *granted, release("v1"), position));
    Asked { policy, answers: answers.collect(), ..asked(release("v1")) }.of(Rule::Approvals)
}

#[test]
fn as_many_people_as_the_policy_says_must_have_approved() {
    assert!(!of_two(&[]).passes);
    assert!(!of_two(&[(person("grace"), true)]).passes);
    let two = of_two(&[(person("grace"), true), (person("tony"), true)]);
    assert!(two.passes);
    assert_eq!(two.detail, "2 of 2 approvals: grace (position 11), tony (position 12)");
    assert_eq!((two.position, two.grants), (Some(at(12)), vec![at(11), at(12)]));
    assert_eq!(two.target, Some(target("default")));
}

#[test]
fn rule_15_only_people_approve_and_each_counts_once() {
    for other in [person("grace"), person("GRACE"), actor("admin", "tony"), actor("workload", "ci")] {
        assert!(!of_two(&[(person("grace"), true), (other, true)]).passes);
    }
}

#[test]
fn the_requesters_own_approval_does_not_count() {
    let own = of_two(&[(person("ADA"), true), (person("grace"), true)]);
    assert!(!own.passes);
    assert_eq!(own.detail, "1 of 2 approvals: grace (position 12); the requester's own does not count");
    assert_eq!(own.position, Some(at(12)));
}

#[test]
fn rule_31_approvals_do_not_pass_where_the_requester_is_not_named() {
    let policy = Policy { approvals: 1, ..Policy::default() };
    let answers = vec![granted("grace", "v1", 11)];
    let finding = Asked { policy, answers, requester: None, ..asked(release("v1")) }.of(Rule::Approvals);
    assert!(!finding.passes && finding.detail.contains("the requester is not named"), "{finding:?}");
}

#[test]
fn one_rejection_outweighs_every_approval_until_it_is_taken_back() {
    let two = [(person("grace"), true), (person("tony"), true)];
    let rejected = of_two(&[&two[..], &[(person("leslie"), false)]].concat());
    assert_eq!((rejected.passes, rejected.position), (false, Some(at(13))));
    assert_eq!(rejected.detail, "leslie rejected it");
    let again = [&[(person("leslie"), false)], &two[..], &[(person("leslie"), true)]].concat();
    assert!(of_two(&again).passes);
}

/// v1 of an artifact is asked for in a lane where one must approve.
fn of_one(answers: Vec<DeployAnswer>) -> Asked {
    let policy = Policy { approvals: 1, ..Policy::default() };
    Asked { policy, answers, ..asked(built("v1", D1)) }
}

#[test]
fn the_latest_answer_of_a_person_counts_in_any_order() {
    let answers = vec![granted("grace", "v1", 12), answer(person("grace"), false, release("v1"), 11)];
    assert!(of_one(answers).decide().allowed);
}

#[test]
fn rule_15_a_grant_covers_the_release_that_it_names_in_the_lanes_that_it_names() {
    let covers = |release: Release| of_one(vec![answer(person("grace"), true, release, 11)]).decide().allowed;
    assert!(covers(release("v1")));
    assert!(covers(built("v1", &format!("pkg:oci/web@{D1}"))));
    assert!(!covers(built("v1", D2)));
    assert!(!covers(configured("v1", D1)));
    assert!(!covers(release("v2")));
    let at_target = |name: &str| {
        let lane = lane_at(name).into();
        of_one(vec![DeployAnswer { lane, ..granted("grace", "v1", 11) }]).decide().allowed
    };
    assert!(at_target("default"));
    assert!(!at_target("us"));
}

#[test]
fn rule_15_a_grant_by_version_does_not_cover_another_build_of_it() {
    let meant = release("v1").completed(Some(artifact(D2)));
    assert!(!of_one(vec![answer(person("grace"), true, meant, 11)]).decide().allowed);
}

#[test]
fn rule_15_a_grant_ends_when_it_expires() {
    let until = |end| {
        let answers = vec![DeployAnswer { expires_at: Some(time(end)), ..granted("grace", "v1", 11) }];
        of_one(answers).of(Rule::Approvals)
    };
    assert!(until(101).passes);
    let expired = until(100);
    assert!(!expired.passes && expired.grants.is_empty());
    assert_eq!(expired.detail, "0 of 1 approvals; that of grace has expired");
}

#[test]
fn an_expired_grant_does_not_bring_back_the_persons_earlier_one() {
    let answers = vec![
        granted("grace", "v1", 11),
        DeployAnswer { expires_at: Some(time(50)), ..granted("grace", "v1", 12) },
    ];
    assert!(!of_one(answers).decide().allowed);
}

fn holds(changes: &[(Track, Effect)]) -> LaneFold {
    let mut fold = LaneFold::default();
    for ((track, effect), position) in changes.iter().cloned().zip(1..) {
        let since = Since {
            occurred_at: time(position),
            position: at(position.cast_unsigned()),
            event_id: EventId::parse("e").expect("an id"),
        };
        fold.apply(&track, TrackEntry { effect, since });
    }
    fold
}

#[test]
fn rule_15_a_grant_is_used_up_when_its_release_was_deployed_and_replaced() {
    let deployed = |version: &str| holds(&[(Track::Traffic, Effect::Deployed(release(version)))]);
    let asked = |deploys, present| {
        Asked { deploys, present: Some(present), ..of_one(vec![granted("grace", "v1", 11)]) }
            .of(Rule::Approvals)
    };
    assert!(asked(vec![], deployed("v0")).passes);
    assert!(asked(vec![deploy(built("v1", D1), 12)], deployed("v1")).passes);
    let used = asked(vec![deploy(built("v1", D1), 12), deploy(release("v2"), 13)], deployed("v2"));
    assert_eq!((used.passes, used.detail.as_str()), (false, "0 of 1 approvals; that of grace is used up"));
    // Deployed before the grant, or recorded after it though it occurred before.
    assert!(asked(vec![deploy(built("v1", D1), 10)], deployed("v2")).passes);
    let recorded_later = SucceededDeploy { position: at(20), ..deploy(built("v1", D1), 10) };
    assert!(asked(vec![recorded_later], deployed("v2")).passes);
}

#[test]
fn a_grant_is_not_used_up_while_its_release_stands_in_a_slot() {
    let slot = |name: &str| SlotName::parse(name).expect("a slot");
    let fold = holds(&[
        (Track::Slot(slot("blue")), Effect::Deployed(release("v1"))),
        (Track::Slot(slot("green")), Effect::Deployed(release("v2"))),
        (Track::Traffic, Effect::SwitchedTo(slot("green"))),
    ]);
    let answers = vec![granted("grace", "v1", 11)];
    let asked = Asked { deploys: vec![deploy(release("v1"), 12)], present: Some(fold), ..of_one(answers) };
    assert!(asked.of(Rule::Approvals).passes);
}

#[test]
fn a_policy_that_wants_no_approvals_is_not_asked_for_any() {
    let answers = vec![answer(person("grace"), false, release("v1"), 11)];
    assert_eq!(Asked { answers, ..asked(release("v1")) }.said(), [(Rule::Freeze, true)]);
}

#[test]
fn approvals_of_a_rollback_are_those_of_people_other_than_its_requester() {
    let answer = |actor, granted, position| Answer { actor, granted, position: at(position) };
    let given = [
        answer(person("Ada"), true, 11),
        answer(person("grace"), true, 12),
        answer(actor("admin", "leslie"), true, 13),
        answer(person("tony"), false, 14),
    ];
    assert_eq!(approved_by_others(&given, &person("ada")), (1, Some(at(14))));
    assert_eq!(approved_by_others(&given[..3], &person("grace")), (1, None));
}
