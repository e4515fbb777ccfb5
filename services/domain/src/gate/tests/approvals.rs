//! Tests of the approvals rule: which votes count, what they cover, and when they lapse.

use super::*;

/// Returns the finding for a deploy of v1 that two people must approve.
fn finding_of_two(votes: &[(Actor, bool)]) -> Finding {
    let policy = Policy { approvals: 2, ..Policy::default() };
    let votes = votes.iter().zip(11..);
    let votes =
        votes.map(|((actor, granted), position)| vote(actor.clone(), *granted, release("v1"), position));
    Question { policy, votes: votes.collect(), ..question(release("v1")) }.finding(Rule::Approvals)
}

#[test]
fn a_deploy_requires_the_policys_number_of_approvals() {
    assert!(!finding_of_two(&[]).passes);
    assert!(!finding_of_two(&[(person("grace"), true)]).passes);
    let two = finding_of_two(&[(person("grace"), true), (person("tony"), true)]);
    assert!(two.passes);
    assert_eq!(two.detail, "2 of 2 approvals: grace (position 11), tony (position 12)");
    assert_eq!((two.position, two.grants), (Some(at(12)), vec![at(11), at(12)]));
    assert_eq!(two.target, Some(target("default")));
}

#[test]
fn rule_15_only_people_approve_and_each_person_counts_once() {
    for other in [person("grace"), person("GRACE"), actor("admin", "tony"), actor("workload", "ci")] {
        assert!(!finding_of_two(&[(person("grace"), true), (other, true)]).passes);
    }
}

#[test]
fn the_requesters_own_approval_does_not_count() {
    let own = finding_of_two(&[(person("ADA"), true), (person("grace"), true)]);
    assert!(!own.passes);
    assert_eq!(
        own.detail,
        "1 of 2 approvals: grace (position 12); the requester's own answer does not count"
    );
    assert_eq!(own.position, Some(at(12)));
}

#[test]
fn rule_31_approvals_do_not_pass_if_the_requester_is_not_named() {
    let policy = Policy { approvals: 1, ..Policy::default() };
    let votes = vec![granted("grace", "v1", 11)];
    let finding =
        Question { policy, votes, requester: None, ..question(release("v1")) }.finding(Rule::Approvals);
    assert!(!finding.passes && finding.detail.contains("the requester is not named"), "{finding:?}");
}

#[test]
fn a_rejection_overrides_all_approvals_until_the_same_person_approves() {
    let two = [(person("grace"), true), (person("tony"), true)];
    let rejected = finding_of_two(&[&two[..], &[(person("leslie"), false)]].concat());
    assert_eq!((rejected.passes, rejected.position), (false, Some(at(13))));
    assert_eq!(rejected.detail, "leslie rejected the deploy");
    let again = [&[(person("leslie"), false)], &two[..], &[(person("leslie"), true)]].concat();
    assert!(finding_of_two(&again).passes);
}

/// Returns a deploy of a build of v1 that one person must approve.
fn question_of_one(votes: Vec<DeployVote>) -> Question {
    let policy = Policy { approvals: 1, ..Policy::default() };
    Question { policy, votes, ..question(built("v1", D1)) }
}

#[test]
fn a_persons_vote_with_the_greatest_position_counts_in_any_order_of_input() {
    let votes = vec![granted("grace", "v1", 12), vote(person("grace"), false, release("v1"), 11)];
    assert!(question_of_one(votes).decide().allowed);
}

#[test]
fn rule_15_a_grant_covers_the_release_that_it_names_in_the_lanes_that_it_names() {
    let covers =
        |release: Release| question_of_one(vec![vote(person("grace"), true, release, 11)]).decide().allowed;
    assert!(covers(release("v1")));
    assert!(covers(built("v1", &format!("pkg:oci/web@{D1}"))));
    assert!(!covers(built("v1", D2)));
    assert!(!covers(configured("v1", D1)));
    assert!(!covers(release("v2")));
    let at_target = |name: &str| {
        let lane = lane_at(name).into();
        question_of_one(vec![DeployVote { lane, ..granted("grace", "v1", 11) }]).decide().allowed
    };
    assert!(at_target("default"));
    assert!(!at_target("us"));
}

#[test]
fn rule_15_a_grant_of_a_version_does_not_cover_another_build_of_it() {
    let completed = release("v1").completed(Some(artifact(D2)));
    assert!(!question_of_one(vec![vote(person("grace"), true, completed, 11)]).decide().allowed);
}

#[test]
fn rule_15_a_grant_lapses_when_it_expires() {
    let until = |end| {
        let votes = vec![DeployVote { expires_at: Some(time(end)), ..granted("grace", "v1", 11) }];
        question_of_one(votes).finding(Rule::Approvals)
    };
    assert!(until(101).passes);
    let expired = until(100);
    assert!(!expired.passes && expired.grants.is_empty());
    assert_eq!(expired.detail, "0 of 1 approvals; the approval of grace has expired");
}

#[test]
fn an_expired_grant_does_not_reinstate_the_persons_earlier_grant() {
    let votes = vec![
        granted("grace", "v1", 11),
        DeployVote { expires_at: Some(time(50)), ..granted("grace", "v1", 12) },
    ];
    assert!(!question_of_one(votes).decide().allowed);
}

fn lane_fold(changes: &[(Track, Effect)]) -> LaneFold {
    let mut fold = LaneFold::default();
    for ((track, effect), position) in changes.iter().cloned().zip(1..) {
        let since = EventRef {
            occurred_at: time(position),
            position: at(position.cast_unsigned()),
            event_id: EventId::parse("e").expect("an id"),
        };
        fold.apply(&track, TrackEntry { effect, since });
    }
    fold
}

#[test]
fn rule_15_a_grant_is_used_up_after_its_release_was_deployed_and_replaced() {
    let deployed = |version: &str| lane_fold(&[(Track::Traffic, Effect::Deployed(release(version)))]);
    let question = |deploys, present| {
        Question { deploys, present: Some(present), ..question_of_one(vec![granted("grace", "v1", 11)]) }
            .finding(Rule::Approvals)
    };
    assert!(question(vec![], deployed("v0")).passes);
    assert!(question(vec![deploy(built("v1", D1), 12)], deployed("v1")).passes);
    let used = question(vec![deploy(built("v1", D1), 12), deploy(release("v2"), 13)], deployed("v2"));
    assert_eq!(
        (used.passes, used.detail.as_str()),
        (false, "0 of 1 approvals; the approval of grace is used up")
    );
    // Deployed before the grant, or recorded after it but deployed before it.
    assert!(question(vec![deploy(built("v1", D1), 10)], deployed("v2")).passes);
    let recorded_later = SucceededDeploy { position: at(20), ..deploy(built("v1", D1), 10) };
    assert!(question(vec![recorded_later], deployed("v2")).passes);
}

#[test]
fn a_grant_is_not_used_up_while_its_release_is_in_a_slot() {
    let slot = |name: &str| SlotName::parse(name).expect("a slot");
    let fold = lane_fold(&[
        (Track::Slot(slot("blue")), Effect::Deployed(release("v1"))),
        (Track::Slot(slot("green")), Effect::Deployed(release("v2"))),
        (Track::Traffic, Effect::SwitchedTo(slot("green"))),
    ]);
    let votes = vec![granted("grace", "v1", 11)];
    let question =
        Question { deploys: vec![deploy(release("v1"), 12)], present: Some(fold), ..question_of_one(votes) };
    assert!(question.finding(Rule::Approvals).passes);
}

#[test]
fn the_rule_does_not_apply_if_the_policy_requires_no_approvals() {
    let votes = vec![vote(person("grace"), false, release("v1"), 11)];
    assert_eq!(Question { votes, ..question(release("v1")) }.outcomes(), [(Rule::Freeze, true)]);
}

#[test]
fn only_people_other_than_the_requester_approve_a_rollback() {
    let vote = |actor, granted, position| ApprovalVote { actor, granted, position: at(position) };
    let given = [
        vote(person("Ada"), true, 11),
        vote(person("grace"), true, 12),
        vote(actor("admin", "leslie"), true, 13),
        vote(person("tony"), false, 14),
    ];
    assert_eq!(approved_by_others(&given, &person("ada")), (1, Some(at(14))));
    assert_eq!(approved_by_others(&given[..3], &person("grace")), (1, None));
}
