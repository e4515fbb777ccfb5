//! Tests of the rules of the gate, without the approvals rule.

mod approvals;

use std::slice;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::event::{Actor, MarkedStatus, Policy, Promotion, PromotionTargets};
use crate::known_good::{CheckResult, CheckResults, Marked, Status};
use crate::plan_issue::Revocations;
use crate::{
    Artifact, ConfigDigest, Effect, EnvironmentName, EventId, EventRef, Lane, LaneFold, LaneRef, Release,
    ServiceName, SlotName, TargetName, Track, TrackEntry,
};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
const D3: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("a short text")
}

fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).expect("a name")
}

fn target(name: &str) -> TargetName {
    TargetName::parse(name).expect("a name")
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

fn at(position: u64) -> Position {
    Position::new(position)
}

fn actor(kind: &str, name: &str) -> Actor {
    Actor { kind: short_text(kind), name: short_text(name) }
}

fn person(name: &str) -> Actor {
    actor("person", name)
}

fn release(version: &str) -> Release {
    Release::of_version(short_text(version))
}

fn artifact(text: &str) -> Artifact {
    Artifact::parse(text).expect("an artifact")
}

fn built(version: &str, text: &str) -> Release {
    release(version).completed(Some(artifact(text)))
}

fn configured(version: &str, digest: &str) -> Release {
    Release { config: Some(ConfigDigest::parse(digest).expect("a digest")), ..release(version) }
}

fn lane_at(name: &str) -> Lane {
    let service = ServiceName::parse("web").expect("a name");
    Lane { environment: environment("production"), service, target: target(name) }
}

/// A question about the lane of `web` in production, with the evidence. The time is second 100.
struct Question {
    lane: Lane,
    release: Release,
    requester: Option<Actor>,
    policy: Policy,
    retired: Option<Position>,
    freezes: Vec<ActiveFreeze>,
    rollback: Option<(ShortText, Position)>,
    revoked: Vec<RevokedArtifact>,
    rollbacks: Vec<RolledBackRelease>,
    deploys: Vec<SucceededDeploy>,
    present: Option<LaneFold>,
    promotion: Vec<PromotionEvidence<'static>>,
    votes: Vec<DeployVote>,
}

/// Returns a deploy of a release requested by Ada, under an empty policy and without obstacles.
fn question(release: Release) -> Question {
    Question {
        lane: lane_at("default"),
        release,
        requester: Some(person("ada")),
        policy: Policy::default(),
        retired: None,
        freezes: Vec::new(),
        rollback: None,
        revoked: Vec::new(),
        rollbacks: Vec::new(),
        deploys: Vec::new(),
        present: None,
        promotion: Vec::new(),
        votes: Vec::new(),
    }
}

impl Question {
    fn input(&self) -> GateInput<'_> {
        GateInput {
            lane: &self.lane,
            release: &self.release,
            requester: self.requester.as_ref(),
            now: time(100),
            policy: &self.policy,
            retired: self.retired,
            freezes: &self.freezes,
            rollback: self.rollback.as_ref().map(|(id, position)| (id, *position)),
            revocations: Revocations { revoked: &self.revoked, version_artifacts: None },
            rollbacks: &self.rollbacks,
            deploys: &self.deploys,
            present: self.present.as_ref(),
            promotion: &self.promotion,
            votes: &self.votes,
        }
    }

    fn decide(&self) -> Decision {
        decide(&[self.input()])
    }

    /// Returns the rules that were applied, and which of them pass.
    fn outcomes(&self) -> Vec<(Rule, bool)> {
        self.decide().findings.iter().map(|finding| (finding.rule, finding.passes)).collect()
    }

    /// Returns the finding of a rule; panics unless there is exactly one.
    fn finding(&self, rule: Rule) -> Finding {
        let mut found = self.decide().findings;
        found.retain(|finding| finding.rule == rule);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn is_held(&self) -> bool {
        self.outcomes().contains(&(Rule::Held, false))
    }
}

/// Returns a vote on a deploy of a release to any lane of `web`, given at the second equal to its position.
fn vote(actor: Actor, granted: bool, release: Release, position: u64) -> DeployVote {
    let Lane { environment, service, .. } = lane_at("default");
    DeployVote {
        vote: ApprovalVote { actor, granted, position: at(position) },
        occurred_at: time(position.cast_signed()),
        lane: LaneRef { environment, service, target: None },
        release,
        expires_at: None,
    }
}

fn granted(name: &str, version: &str, position: u64) -> DeployVote {
    vote(person(name), true, release(version), position)
}

/// Returns a deploy at the second equal to its position.
fn deploy(release: Release, position: u64) -> SucceededDeploy {
    SucceededDeploy {
        position: at(position),
        occurred_at: time(position.cast_signed()),
        late: false,
        rollback_id: None,
        release,
    }
}

/// Returns the step of a rollback that a person requested and that was started.
fn left_release(id: &str, requested: u64, from: Release, to: Option<Release>) -> RolledBackRelease {
    RolledBackRelease {
        rollback_id: short_text(id),
        requested: at(requested),
        started: true,
        cancelled: false,
        ended: Some(at(requested + 1)),
        by_person: true,
        from: Some(from),
        to,
    }
}

/// Returns a deploy of v2 after v2 was rolled back to v1 by the request at position 10.
fn question_after_rollback() -> Question {
    Question {
        rollbacks: vec![left_release("r-1", 10, release("v2"), Some(release("v1")))],
        ..question(release("v2"))
    }
}

#[test]
fn without_a_policy_only_the_freeze_rule_applies() {
    let question = question(release("v1"));
    assert_eq!(question.outcomes(), [(Rule::Freeze, true)]);
    assert!(question.decide().allowed);
}

#[test]
fn rule_31_a_question_without_lanes_is_not_allowed() {
    assert!(!decide(&[]).allowed);
}

#[test]
fn rule_10_a_question_without_a_target_passes_only_if_every_lane_passes() {
    let (here, mut there) = (question(release("v2")), question_after_rollback());
    there.lane = lane_at("us");
    assert!(decide(&[here.input(), here.input()]).allowed);
    let decision = decide(&[here.input(), there.input()]);
    assert!(!decision.allowed);
    let found: Vec<_> =
        decision.findings.iter().map(|finding| (finding.rule, finding.target.clone())).collect();
    assert_eq!(found, [(Rule::Freeze, None), (Rule::Held, Some(target("us")))]);
}

#[test]
fn rule_24_a_retired_environment_rejects_deploys() {
    let question = Question { retired: Some(at(7)), ..question(release("v1")) };
    let finding = question.finding(Rule::Retired);
    assert_eq!((finding.passes, finding.position), (false, Some(at(7))));
    assert!(!question.decide().allowed);
}

#[test]
fn a_freeze_rejects_deploys_even_if_it_only_warns_about_rollbacks() {
    let policy = Policy { freeze: crate::event::Enforcement::Warn, ..Policy::default() };
    let freezes = vec![ActiveFreeze { freeze_id: short_text("year-end"), until: None, position: at(3) }];
    let finding = Question { policy, freezes, ..question(release("v1")) }.finding(Rule::Freeze);
    assert_eq!((finding.passes, finding.position), (false, Some(at(3))));
}

#[test]
fn a_rollback_under_way_rejects_deploys() {
    let finding = Question { rollback: Some((short_text("r-1"), at(4))), ..question(release("v1")) }
        .finding(Rule::Rollback);
    assert_eq!((finding.passes, finding.position), (false, Some(at(4))));
    assert_eq!(finding.detail, "rollback r-1 is under way");
}

#[test]
fn rule_11_a_revoked_artifact_is_rejected_in_any_spelling() {
    let revoked = |text: &str, deleted| {
        let revoked = vec![RevokedArtifact { artifact: artifact(text), deleted, position: at(5) }];
        Question { revoked, ..question(built("v1", &format!("prod.example/web@{D1}"))) }
    };
    for spelling in [format!("pkg:oci/web@{D1}"), D1.to_owned(), format!("pkg:docker/a/web@{D1}?tag=v1")] {
        let finding = revoked(&spelling, false).finding(Rule::Revoked);
        assert_eq!((finding.passes, finding.detail), (false, format!("{spelling} is revoked")));
    }
    assert_eq!(revoked(D1, true).finding(Rule::Revoked).detail, format!("{D1} is deleted"));
    assert!(revoked(D2, false).decide().allowed);
}

#[test]
fn rule_31_a_release_of_unknown_artifact_fails_while_an_artifact_of_the_service_is_revoked() {
    let revoked =
        |text: &str| vec![RevokedArtifact { artifact: artifact(text), deleted: false, position: at(5) }];
    let named = Question { revoked: revoked(&format!("pkg:oci/web@{D1}")), ..question(release("v1")) };
    let finding = named.finding(Rule::Revoked);
    assert_eq!((finding.passes, finding.unknown, finding.position), (false, true, Some(at(5))));
    assert!(finding.detail.contains("state the artifact"), "{}", finding.detail);
    // The rule does not apply to an artifact of another name, nor if the release's artifact is known.
    for other in [
        Question { revoked: revoked(&format!("pkg:oci/api@{D1}")), ..question(release("v1")) },
        Question { revoked: revoked(&format!("pkg:oci/web@{D1}")), ..question(built("v1", D2)) },
    ] {
        assert_eq!(other.outcomes(), [(Rule::Freeze, true)]);
    }
}

// Holds.

#[test]
fn a_release_that_was_rolled_back_is_held() {
    let finding = question_after_rollback().finding(Rule::Held);
    assert_eq!((finding.passes, finding.position), (false, Some(at(10))));
    assert!(!Question { release: release("v1"), ..question_after_rollback() }.is_held());
    assert!(!Question { release: release("v3"), ..question_after_rollback() }.is_held());
}

#[test]
fn a_rollback_that_was_never_started_or_was_cancelled_holds_no_release() {
    let mut question = question_after_rollback();
    question.rollbacks[0].started = false;
    assert!(!question.is_held());
    let mut question = question_after_rollback();
    question.rollbacks[0].cancelled = true;
    assert!(!question.is_held());
}

#[test]
fn rule_13_a_rollback_of_a_configuration_holds_neither_the_restored_configuration_nor_a_fix() {
    let rollbacks = vec![left_release("r-1", 10, configured("v1", D2), Some(configured("v1", D1)))];
    let held = |release| Question { rollbacks: rollbacks.clone(), ..question(release) }.is_held();
    assert!(held(configured("v1", D2)));
    assert!(!held(configured("v1", D1)));
    assert!(!held(configured("v1", D3)));
    // A part that a release does not state agrees.
    assert!(held(release("v1")));
}

#[test]
fn rule_13_a_hold_covers_releases_that_agree_in_all_differing_parts() {
    let rollbacks = vec![left_release("r-1", 10, built("v2", D2), Some(built("v1", D1)))];
    let held = |release| Question { rollbacks: rollbacks.clone(), ..question(release) }.is_held();
    assert!(held(built("v2", &format!("web@{D2}"))));
    assert!(held(release("v2")));
    assert!(!held(built("v2", D3)));
}

#[test]
fn the_restored_release_is_not_held_if_the_left_one_does_not_state_a_part() {
    let rollbacks = vec![left_release("r-1", 10, release("v1"), Some(configured("v1", D1)))];
    let held = |release| Question { rollbacks: rollbacks.clone(), ..question(release) }.is_held();
    assert!(!held(configured("v1", D1)));
    assert!(held(release("v1")));
}

#[test]
fn a_release_that_a_rollback_removed_is_held() {
    let rollbacks = vec![left_release("r-1", 10, release("v2"), None)];
    assert!(Question { rollbacks: rollbacks.clone(), ..question(built("v2", D2)) }.is_held());
    assert!(!Question { rollbacks, ..question(release("v3")) }.is_held());
}

#[test]
fn rule_13_a_persons_approval_of_the_release_ends_a_hold() {
    let released =
        Question { votes: vec![granted("grace", "v2", 11)], ..question_after_rollback() }.finding(Rule::Held);
    assert_eq!((released.passes, released.position, released.grants), (true, Some(at(11)), vec![at(11)]));
    for votes in [
        vec![granted("grace", "v2", 9)],
        vec![granted("grace", "v3", 11)],
        vec![vote(actor("workload", "ci"), true, release("v2"), 11)],
        vec![vote(actor("admin", "grace"), true, release("v2"), 11)],
        vec![vote(person("grace"), false, release("v2"), 11)],
        vec![granted("grace", "v2", 11), vote(person("Grace"), false, release("v2"), 12)],
    ] {
        assert!(Question { votes, ..question_after_rollback() }.is_held());
    }
}

#[test]
fn rule_13_a_rollback_of_the_rollback_by_a_person_ends_a_hold() {
    let back = left_release("r-2", 20, release("v1"), Some(built("v2", D2)));
    let held = |back: RolledBackRelease| {
        let mut question = question_after_rollback();
        question.rollbacks.push(back);
        question.is_held()
    };
    assert!(!held(back.clone()));
    assert!(held(RolledBackRelease { by_person: false, ..back.clone() }));
    assert!(held(RolledBackRelease { started: false, ..back.clone() }));
    assert!(held(RolledBackRelease { cancelled: true, ..back.clone() }));
    assert!(held(RolledBackRelease { requested: at(9), ..back.clone() }));
    assert!(held(RolledBackRelease { to: Some(release("v0")), ..back }));
}

#[test]
fn rule_13_a_deploy_of_another_release_ends_a_hold() {
    let held = |deploy| Question { deploys: vec![deploy], ..question_after_rollback() }.is_held();
    assert!(!held(deploy(release("v3"), 12)));
    // A deploy before the rollback's end does not, nor a late one, nor one of the restored or the held release.
    assert!(held(deploy(release("v3"), 10)));
    assert!(held(SucceededDeploy { late: true, ..deploy(release("v3"), 12) }));
    assert!(held(deploy(built("v1", D1), 12)));
    assert!(held(deploy(built("v2", D2), 12)));
    // A step of a rollback does not either: rolling back further does not end an earlier hold.
    for id in ["r-1", "r-2"] {
        assert!(held(SucceededDeploy { rollback_id: Some(short_text(id)), ..deploy(release("v3"), 12) }));
    }
}

#[test]
fn a_deploy_while_a_rollback_is_under_way_does_not_end_its_hold() {
    let mut question = question_after_rollback();
    question.rollbacks[0].ended = None;
    question.deploys = vec![deploy(release("v3"), 12)];
    assert!(question.is_held());
}

#[test]
fn the_finding_names_the_latest_rollback_that_holds_the_release() {
    let mut question = question_after_rollback();
    question.rollbacks.push(left_release("r-2", 20, release("v2"), Some(release("v1"))));
    question.votes = vec![granted("grace", "v2", 15)];
    assert_eq!(question.finding(Rule::Held).position, Some(at(20)));
}

fn any_release() -> impl Strategy<Value = Release> {
    let built_into = prop::sample::select(vec![None, Some(D1), Some(D2)]);
    let config = prop::sample::select(vec![None, Some(D1), Some(D3)]);
    ("v[12]", built_into, config).prop_map(|(version, text, config)| Release {
        artifact: text.map(artifact),
        config: config.map(|text| ConfigDigest::parse(text).expect("a digest")),
        ..release(&version)
    })
}

proptest! {
    #[test]
    fn a_rollback_holds_the_left_release_and_never_the_restored_one(
        from in any_release(), to in any_release(), other in any_release(),
    ) {
        let rollbacks = vec![left_release("r-1", 10, from.clone(), Some(to.clone()))];
        let held = |release: &Release| Question { rollbacks: rollbacks.clone(), ..question(release.clone()) }.is_held();
        prop_assert!(!held(&to));
        prop_assert_eq!(held(&from), from != to);
        if from.agrees_in(&[crate::Part::Version], &to) && other.version != from.version {
            // The hold compares differing parts only, so it covers other versions with the same fault.
            prop_assert_eq!(held(&other), held(&Release { version: from.version.clone(), ..other.clone() }));
        }
    }
}

// Promotion.

fn results(checks: &[(&str, bool, u64)]) -> CheckResults {
    let mut results = CheckResults::default();
    for (check, passed, position) in checks {
        let occurred_at = time(position.cast_signed());
        results.add(short_text(check), CheckResult { passed: *passed, occurred_at, position: at(*position) });
    }
    results
}

fn evidence(name: &str, checks: &[(&str, bool, u64)]) -> TargetEvidence {
    TargetEvidence {
        target: target(name),
        deployed: at(1),
        results: results(checks),
        compositions: Vec::new(),
        longest_run: TimeDelta::seconds(60),
    }
}

fn composition(checks: &[(&str, bool, u64)], mark: Option<(u64, MarkedStatus)>) -> CompositionEvidence {
    let marked = mark.map(|(position, status)| Marked {
        position: at(position),
        occurred_at: time(position.cast_signed()),
        status,
        name: None,
        actor: None,
        reason: None,
    });
    CompositionEvidence { results: results(checks), marked }
}

fn requiring(checks: &[&str]) -> Policy {
    Policy {
        required_validations: checks.iter().map(|check| short_text(check)).collect(),
        ..Policy::default()
    }
}

fn status(policy: &Policy, evidence: &TargetEvidence) -> (Status, Option<u64>) {
    let judgement = promotion::judge_release(policy, evidence);
    (judgement.status, judgement.position.map(Position::get))
}

#[test]
fn a_release_is_known_good_if_every_required_check_passed_for_it() {
    let policy = requiring(&["smoke"]);
    assert_eq!(status(&policy, &evidence("eu", &[("smoke", true, 5)])), (Status::KnownGood, Some(5)));
    assert_eq!(status(&policy, &evidence("eu", &[("smoke", false, 5)])), (Status::Bad, Some(5)));
    assert_eq!(status(&policy, &evidence("eu", &[("other", true, 5)])), (Status::Candidate, None));
    let both = evidence("eu", &[("smoke", true, 5), ("other", false, 6)]);
    assert_eq!(status(&policy, &both), (Status::Candidate, Some(6)));
    assert_eq!(status(&Policy::default(), &evidence("eu", &[])), (Status::Candidate, None));
}

#[test]
fn a_failure_overrides_a_mark_by_the_time_it_occurred_not_by_the_time_it_was_recorded() {
    let marked = |occurred_at, position| {
        let mut composition = composition(&[], Some((position, MarkedStatus::KnownGood)));
        composition.marked = composition.marked.map(|mark| Marked { occurred_at: time(occurred_at), ..mark });
        let evidence = evidence("eu", &[("smoke", false, 5)]);
        status(&requiring(&["smoke"]), &TargetEvidence { compositions: vec![composition], ..evidence }).0
    };
    assert_eq!(marked(6, 4), Status::KnownGood);
    assert_eq!(marked(4, 6), Status::Bad);
    assert_eq!((marked(5, 4), marked(5, 6)), (Status::Bad, Status::KnownGood));
}

#[test]
fn rule_5_a_failure_of_one_composition_does_not_count_against_a_release_that_passed_in_another() {
    let policy = requiring(&["e2e"]);
    let with = |compositions| TargetEvidence { compositions, ..evidence("eu", &[]) };
    let (passed, failed) = (composition(&[("e2e", true, 5)], None), composition(&[("e2e", false, 6)], None));
    assert_eq!(status(&policy, &with(vec![passed, failed.clone()])), (Status::KnownGood, Some(5)));
    assert_eq!(status(&policy, &with(vec![failed])), (Status::Candidate, Some(6)));
}

#[test]
fn the_longest_run_of_a_release_counts_as_its_soak() {
    let policy = Policy { soak_seconds: 61, ..Policy::default() };
    let mut ran = evidence("eu", &[("smoke", true, 5)]);
    assert_eq!(status(&policy, &ran).0, Status::Candidate);
    ran.longest_run = TimeDelta::seconds(61);
    assert_eq!(status(&policy, &ran).0, Status::KnownGood);
}

#[test]
fn the_latest_mark_on_a_composition_counts_until_a_check_fails_after_it() {
    let policy = requiring(&["smoke"]);
    let good = |checks| TargetEvidence {
        compositions: vec![
            composition(&[], Some((3, MarkedStatus::Bad))),
            composition(&[], Some((10, MarkedStatus::KnownGood))),
        ],
        ..evidence("eu", checks)
    };
    assert_eq!(status(&policy, &good(&[("smoke", false, 5)])), (Status::KnownGood, Some(10)));
    assert_eq!(status(&policy, &good(&[("smoke", false, 11)])), (Status::Bad, Some(11)));
    assert_eq!(status(&policy, &good(&[("other", false, 11)])), (Status::Candidate, Some(11)));
    let compositions = vec![composition(&[("smoke", true, 5)], Some((10, MarkedStatus::Bad)))];
    let bad = TargetEvidence { compositions, ..evidence("eu", &[("smoke", true, 5)]) };
    assert_eq!(status(&policy, &bad), (Status::Bad, Some(10)));
}

#[test]
fn rule_9_a_bad_mark_on_a_composition_does_not_count_against_a_release_that_another_one_shows_to_be_good() {
    let policy = requiring(&["smoke"]);
    let with = |compositions| TargetEvidence { compositions, ..evidence("eu", &[("smoke", true, 5)]) };
    let bad = composition(&[("smoke", true, 5)], Some((10, MarkedStatus::Bad)));
    let (passed, failed) = (composition(&[("e2e", true, 6)], None), composition(&[("e2e", false, 7)], None));
    let marked = composition(&[], Some((8, MarkedStatus::KnownGood)));

    assert_eq!(status(&policy, &with(vec![bad.clone(), passed])), (Status::KnownGood, Some(6)));
    assert_eq!(status(&policy, &with(vec![bad.clone(), marked])), (Status::KnownGood, Some(8)));
    assert_eq!(status(&policy, &with(vec![bad.clone(), failed])), (Status::Bad, Some(10)));
    assert_eq!(status(&policy, &with(vec![bad])), (Status::Bad, Some(10)));
}

#[test]
fn rule_5_what_passed_in_a_composition_that_is_marked_bad_is_no_evidence_for_its_releases() {
    let policy = requiring(&["e2e"]);
    let bad = composition(&[("e2e", true, 5)], Some((10, MarkedStatus::Bad)));
    let other = composition(&[("smoke", true, 6)], None);
    let evidence = TargetEvidence { compositions: vec![bad, other], ..evidence("eu", &[]) };

    assert_eq!(status(&policy, &evidence), (Status::Candidate, None));
}

#[test]
fn a_known_good_mark_ends_with_a_failure_of_its_composition_which_is_no_failure_of_the_release() {
    let marked = composition(&[("e2e", false, 11)], Some((10, MarkedStatus::KnownGood)));
    let with = |checks| TargetEvidence { compositions: vec![marked.clone()], ..evidence("eu", checks) };

    assert_eq!(status(&requiring(&["smoke"]), &with(&[])), (Status::Candidate, None));
    assert_eq!(status(&requiring(&["smoke"]), &with(&[("smoke", true, 5)])), (Status::KnownGood, Some(5)));
}

/// Returns the finding for a promotion from staging, which requires the check `smoke`.
fn promotion_finding(targets: PromotionTargets, evidence: Vec<TargetEvidence>) -> Finding {
    let (staging, policy) = (environment("staging"), requiring(&["smoke"]));
    let from = vec![staging.clone()];
    let (staging, policy) = (Box::leak(Box::new(staging)), Box::leak(Box::new(policy)));
    let promotion = vec![PromotionEvidence { environment: staging, policy, targets: evidence }];
    let policy = Policy { promotion: Some(Promotion { from, targets }), ..Policy::default() };
    Question { policy, promotion, ..question(release("v1")) }.finding(Rule::Promotion)
}

#[test]
fn rule_14_a_release_is_promoted_if_it_was_known_good_at_every_target_where_it_ran() {
    let (good, other) = (evidence("eu", &[("smoke", true, 5)]), evidence("us", &[]));
    let all = promotion_finding(PromotionTargets::All, vec![good.clone(), other.clone()]);
    assert!(!all.passes);
    assert_eq!(
        all.detail,
        "the release ran in staging at us but is not known good there: smoke has no result"
    );
    let any = promotion_finding(PromotionTargets::Any, vec![good.clone(), other]);
    assert_eq!((any.passes, any.detail.as_str()), (true, "the release was known good in staging at eu"));
    let both =
        promotion_finding(PromotionTargets::All, vec![good.clone(), evidence("us", &[("smoke", true, 6)])]);
    assert_eq!(both.detail, "the release was known good in staging at every target where it ran");
    assert!(both.passes);
    let bad = promotion_finding(PromotionTargets::All, vec![good, evidence("us", &[("smoke", false, 6)])]);
    assert_eq!(
        (bad.detail.as_str(), bad.position),
        ("the release is bad in staging at us: smoke failed", Some(at(6)))
    );
}

#[test]
fn rule_31_a_release_that_never_ran_in_an_environment_is_not_promoted_from_it() {
    for targets in [PromotionTargets::All, PromotionTargets::Any] {
        let never = promotion_finding(targets, Vec::new());
        assert_eq!((never.passes, never.detail.as_str()), (false, "the release never ran in staging"));
    }
    let promotion = Some(Promotion { from: vec![environment("staging")], targets: PromotionTargets::Any });
    let unknown = Question { policy: Policy { promotion, ..Policy::default() }, ..question(release("v1")) };
    let finding = unknown.finding(Rule::Promotion);
    assert_eq!((finding.passes, finding.detail.as_str()), (false, "no evidence of the release in staging"));
}

#[test]
fn a_deployed_release_counts_as_the_requested_one_by_artifact_or_else_by_version() {
    let respelled = built("v2", &format!("registry.example/web@{D1}"));
    let is_requested =
        |requested: &Release, deployed: &Release| counts_as_requested(requested, deployed, None);
    assert!(is_requested(&built("v1", D1), &respelled), "the artifact decides, however it is spelled");
    assert!(!is_requested(&built("v1", D1), &built("v1", D2)));
    assert!(is_requested(&release("v1"), &built("v1", D1)));
    assert!(!is_requested(&release("v1"), &built("v2", D1)));
    let by_version = |text| counts_as_requested(&built("v1", D1), &release("v1"), Some(&artifact(text)));
    assert!(is_requested(&built("v1", D1), &release("v1")), "both artifacts may be the same");
    assert!(by_version(D1));
    assert!(!by_version(D2));
}

#[test]
fn of_several_releases_at_a_target_a_known_good_one_counts_and_else_the_last_deployed() {
    let deployed = |position, evidence: TargetEvidence| TargetEvidence { deployed: at(position), ..evidence };
    let good = deployed(1, evidence("eu", &[("smoke", true, 5)]));
    let bad = deployed(2, evidence("eu", &[("smoke", false, 6)]));
    let worse = deployed(3, evidence("eu", &[("smoke", false, 7)]));
    let elsewhere = deployed(4, evidence("ap", &[]));
    let best = |evidence: &[&TargetEvidence]| {
        best_by_target(&Policy::default(), evidence.iter().map(|evidence| (*evidence).clone()))
    };
    assert_eq!(best(&[&good, &bad]), slice::from_ref(&good));
    assert_eq!(best(&[&bad, &worse]), slice::from_ref(&worse));
    assert_eq!(best(&[&worse, &bad, &elsewhere]), [elsewhere, worse]);
}
