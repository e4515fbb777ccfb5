//! The answer of each rule of the gate, and by what evidence.

mod approvals;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::event::{MarkedStatus, Promotion, PromotionTargets};
use crate::known_good::{CheckResult, CheckResults, Marked, Status};
use crate::{
    Artifact, ConfigDigest, Effect, EnvironmentName, EventId, LaneRef, ServiceName, Since, SlotName, Track,
    TrackEntry,
};

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
const D3: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";

fn line(text: &str) -> ShortText {
    ShortText::parse(text).expect("a line")
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
    Actor { kind: line(kind), name: line(name) }
}

fn person(name: &str) -> Actor {
    actor("person", name)
}

fn release(version: &str) -> Release {
    Release::of_version(line(version))
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

/// All that is asked about the lane of `web` in production. The time is second 100.
struct Asked {
    lane: Lane,
    release: Release,
    requester: Option<Actor>,
    policy: Policy,
    retired: Option<Position>,
    freezes: Vec<ActiveFreeze>,
    rollback: Option<(ShortText, Position)>,
    revoked: Vec<RevokedArtifact>,
    rollbacks: Vec<LeftRelease>,
    deploys: Vec<SucceededDeploy>,
    present: Option<LaneFold>,
    promotion: Vec<PromotionEvidence<'static>>,
    answers: Vec<DeployAnswer>,
}

/// Ada wants to deploy a release; there are no rules, and nothing is in the way.
fn asked(release: Release) -> Asked {
    Asked {
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
        answers: Vec::new(),
    }
}

impl Asked {
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
            revocations: Revocations { revoked: &self.revoked, meant: None },
            rollbacks: &self.rollbacks,
            deploys: &self.deploys,
            present: self.present.as_ref(),
            promotion: &self.promotion,
            answers: &self.answers,
        }
    }

    fn decide(&self) -> Decision {
        decide(&[self.input()])
    }

    fn said(&self) -> Vec<(Rule, bool)> {
        self.decide().findings.iter().map(|finding| (finding.rule, finding.passes)).collect()
    }

    /// The answer of a rule, which has to be asked once.
    fn of(&self, rule: Rule) -> Finding {
        let mut found = self.decide().findings;
        found.retain(|finding| finding.rule == rule);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn is_held(&self) -> bool {
        self.said().contains(&(Rule::Held, false))
    }
}

/// An answer to a deploy of a release to any lane of `web`, given at the second and position of the same number.
fn answer(actor: Actor, granted: bool, release: Release, position: u64) -> DeployAnswer {
    let Lane { environment, service, .. } = lane_at("default");
    DeployAnswer {
        answer: Answer { actor, granted, position: at(position) },
        occurred_at: time(position.cast_signed()),
        lane: LaneRef { environment, service, target: None },
        release,
        expires_at: None,
    }
}

fn granted(name: &str, version: &str, position: u64) -> DeployAnswer {
    answer(person(name), true, release(version), position)
}

/// A deploy at the second and position of the same number.
fn deploy(release: Release, position: u64) -> SucceededDeploy {
    SucceededDeploy {
        position: at(position),
        occurred_at: time(position.cast_signed()),
        late: false,
        rollback_id: None,
        release,
    }
}

/// A rollback that a person requested and that was started.
fn left(id: &str, requested: u64, from: Release, to: Option<Release>) -> LeftRelease {
    LeftRelease {
        rollback_id: line(id),
        requested: at(requested),
        started: true,
        cancelled: false,
        ended: Some(at(requested + 1)),
        by_person: true,
        from: Some(from),
        to,
    }
}

/// v2 was rolled back to v1, by the request at position 10; v2 is asked for.
fn rolled_back() -> Asked {
    Asked { rollbacks: vec![left("r-1", 10, release("v2"), Some(release("v1")))], ..asked(release("v2")) }
}

#[test]
fn an_environment_without_rules_is_asked_only_for_a_freeze() {
    let asked = asked(release("v1"));
    assert_eq!(asked.said(), [(Rule::Freeze, true)]);
    assert!(asked.decide().allowed);
}

#[test]
fn rule_31_a_question_about_no_lane_is_not_allowed() {
    assert!(!decide(&[]).allowed);
}

#[test]
fn rule_10_a_question_without_a_target_passes_only_if_every_lane_would() {
    let (here, mut there) = (asked(release("v2")), rolled_back());
    there.lane = lane_at("us");
    assert!(decide(&[here.input(), here.input()]).allowed);
    let decision = decide(&[here.input(), there.input()]);
    assert!(!decision.allowed);
    let found: Vec<_> =
        decision.findings.iter().map(|finding| (finding.rule, finding.target.clone())).collect();
    assert_eq!(found, [(Rule::Freeze, None), (Rule::Held, Some(target("us")))]);
}

#[test]
fn rule_24_nothing_is_deployed_to_a_retired_environment() {
    let asked = Asked { retired: Some(at(7)), ..asked(release("v1")) };
    let finding = asked.of(Rule::Retired);
    assert_eq!((finding.passes, finding.position), (false, Some(at(7))));
    assert!(!asked.decide().allowed);
}

#[test]
fn no_deploy_passes_in_a_freeze_even_where_the_policy_only_warns_rollbacks() {
    let policy = Policy { freeze: crate::event::Enforcement::Warn, ..Policy::default() };
    let freezes = vec![ActiveFreeze { freeze_id: line("year-end"), until: None, position: at(3) }];
    let finding = Asked { policy, freezes, ..asked(release("v1")) }.of(Rule::Freeze);
    assert_eq!((finding.passes, finding.position), (false, Some(at(3))));
}

#[test]
fn no_deploy_passes_while_a_rollback_is_under_way() {
    let finding = Asked { rollback: Some((line("r-1"), at(4))), ..asked(release("v1")) }.of(Rule::Rollback);
    assert_eq!((finding.passes, finding.position), (false, Some(at(4))));
    assert_eq!(finding.detail, "rollback r-1 is under way");
}

#[test]
fn rule_11_a_revoked_artifact_does_not_pass_in_any_spelling() {
    let revoked = |text: &str, deleted| {
        let revoked = vec![RevokedArtifact { artifact: artifact(text), deleted, position: at(5) }];
        Asked { revoked, ..asked(built("v1", &format!("prod.example/web@{D1}"))) }
    };
    for spelling in [format!("pkg:oci/web@{D1}"), D1.to_owned(), format!("pkg:docker/a/web@{D1}?tag=v1")] {
        let finding = revoked(&spelling, false).of(Rule::Revoked);
        assert_eq!((finding.passes, finding.detail), (false, format!("{spelling} is revoked")));
    }
    assert_eq!(revoked(D1, true).of(Rule::Revoked).detail, format!("{D1} is deleted"));
    assert!(revoked(D2, false).decide().allowed);
}

// Holds.

#[test]
fn rule_31_a_release_of_no_known_artifact_may_be_the_one_that_is_revoked() {
    let revoked =
        |text: &str| vec![RevokedArtifact { artifact: artifact(text), deleted: false, position: at(5) }];
    let named = Asked { revoked: revoked(&format!("pkg:oci/web@{D1}")), ..asked(release("v1")) };
    let finding = named.of(Rule::Revoked);
    assert_eq!((finding.passes, finding.unknown, finding.position), (false, true, Some(at(5))));
    assert!(finding.detail.contains("state the artifact"), "{}", finding.detail);
    // Nothing is said against one of another name, nor where the artifact is known.
    for other in [
        Asked { revoked: revoked(&format!("pkg:oci/api@{D1}")), ..asked(release("v1")) },
        Asked { revoked: revoked(&format!("pkg:oci/web@{D1}")), ..asked(built("v1", D2)) },
    ] {
        assert_eq!(other.said(), [(Rule::Freeze, true)]);
    }
}

#[test]
fn a_release_that_was_rolled_back_is_held() {
    let finding = rolled_back().of(Rule::Held);
    assert_eq!((finding.passes, finding.position), (false, Some(at(10))));
    assert!(!Asked { release: release("v1"), ..rolled_back() }.is_held());
    assert!(!Asked { release: release("v3"), ..rolled_back() }.is_held());
}

#[test]
fn a_rollback_that_was_not_started_or_was_cancelled_holds_nothing() {
    let mut asked = rolled_back();
    asked.rollbacks[0].started = false;
    assert!(!asked.is_held());
    let mut asked = rolled_back();
    asked.rollbacks[0].cancelled = true;
    assert!(!asked.is_held());
}

#[test]
fn rule_13_a_rollback_of_the_configuration_holds_neither_the_restored_one_nor_the_fix() {
    let rollbacks = vec![left("r-1", 10, configured("v1", D2), Some(configured("v1", D1)))];
    let held = |release| Asked { rollbacks: rollbacks.clone(), ..asked(release) }.is_held();
    assert!(held(configured("v1", D2)));
    assert!(!held(configured("v1", D1)));
    assert!(!held(configured("v1", D3)));
    // A part that is not stated agrees.
    assert!(held(release("v1")));
}

#[test]
fn rule_13_a_hold_is_in_all_the_parts_that_differ() {
    let rollbacks = vec![left("r-1", 10, built("v2", D2), Some(built("v1", D1)))];
    let held = |release| Asked { rollbacks: rollbacks.clone(), ..asked(release) }.is_held();
    assert!(held(built("v2", &format!("web@{D2}"))));
    assert!(held(release("v2")));
    assert!(!held(built("v2", D3)));
}

#[test]
fn the_restored_release_is_not_held_where_the_other_left_a_part_unsaid() {
    let rollbacks = vec![left("r-1", 10, release("v1"), Some(configured("v1", D1)))];
    let held = |release| Asked { rollbacks: rollbacks.clone(), ..asked(release) }.is_held();
    assert!(!held(configured("v1", D1)));
    assert!(held(release("v1")));
}

#[test]
fn what_a_rollback_removed_is_held() {
    let rollbacks = vec![left("r-1", 10, release("v2"), None)];
    assert!(Asked { rollbacks: rollbacks.clone(), ..asked(built("v2", D2)) }.is_held());
    assert!(!Asked { rollbacks, ..asked(release("v3")) }.is_held());
}

#[test]
fn rule_13_a_persons_approval_of_the_release_ends_a_hold() {
    let released = Asked { answers: vec![granted("grace", "v2", 11)], ..rolled_back() }.of(Rule::Held);
    assert_eq!((released.passes, released.position, released.grants), (true, Some(at(11)), vec![at(11)]));
    for answers in [
        vec![granted("grace", "v2", 9)],
        vec![granted("grace", "v3", 11)],
        vec![answer(actor("workload", "ci"), true, release("v2"), 11)],
        vec![answer(actor("admin", "grace"), true, release("v2"), 11)],
        vec![answer(person("grace"), false, release("v2"), 11)],
        vec![granted("grace", "v2", 11), answer(person("Grace"), false, release("v2"), 12)],
    ] {
        assert!(Asked { answers, ..rolled_back() }.is_held());
    }
}

#[test]
fn rule_13_a_rollback_of_the_rollback_by_a_person_ends_a_hold() {
    let back = left("r-2", 20, release("v1"), Some(built("v2", D2)));
    let held = |back: LeftRelease| {
        let mut asked = rolled_back();
        asked.rollbacks.push(back);
        asked.is_held()
    };
    assert!(!held(back.clone()));
    assert!(held(LeftRelease { by_person: false, ..back.clone() }));
    assert!(held(LeftRelease { started: false, ..back.clone() }));
    assert!(held(LeftRelease { cancelled: true, ..back.clone() }));
    assert!(held(LeftRelease { requested: at(9), ..back.clone() }));
    assert!(held(LeftRelease { to: Some(release("v0")), ..back }));
}

#[test]
fn rule_13_a_deploy_of_another_release_ends_a_hold() {
    let held = |deploy| Asked { deploys: vec![deploy], ..rolled_back() }.is_held();
    assert!(!held(deploy(release("v3"), 12)));
    // Neither one before the rollback's end, nor a late one, nor the restored release, nor the held one.
    assert!(held(deploy(release("v3"), 10)));
    assert!(held(SucceededDeploy { late: true, ..deploy(release("v3"), 12) }));
    assert!(held(deploy(built("v1", D1), 12)));
    assert!(held(deploy(built("v2", D2), 12)));
    // Nor a step of any rollback: one that goes back further does not free what was taken back before.
    for id in ["r-1", "r-2"] {
        assert!(held(SucceededDeploy { rollback_id: Some(line(id)), ..deploy(release("v3"), 12) }));
    }
}

#[test]
fn nothing_that_is_deployed_while_a_rollback_is_under_way_ends_its_hold() {
    let mut asked = rolled_back();
    asked.rollbacks[0].ended = None;
    asked.deploys = vec![deploy(release("v3"), 12)];
    assert!(asked.is_held());
}

#[test]
fn the_last_rollback_that_holds_is_named() {
    let mut asked = rolled_back();
    asked.rollbacks.push(left("r-2", 20, release("v2"), Some(release("v1"))));
    asked.answers = vec![granted("grace", "v2", 15)];
    assert_eq!(asked.of(Rule::Held).position, Some(at(20)));
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
    fn a_rollback_holds_what_it_left_and_never_what_it_restored(
        from in any_release(), to in any_release(), other in any_release(),
    ) {
        let rollbacks = vec![left("r-1", 10, from.clone(), Some(to.clone()))];
        let held = |release: &Release| Asked { rollbacks: rollbacks.clone(), ..asked(release.clone()) }.is_held();
        prop_assert!(!held(&to));
        prop_assert_eq!(held(&from), from != to);
        if from.agrees_in(&[crate::Part::Version], &to) && other.version != from.version {
            // Only parts that differ are held, so that another version with the same fault is.
            prop_assert_eq!(held(&other), held(&Release { version: from.version.clone(), ..other.clone() }));
        }
    }
}

// Promotion.

fn results(said: &[(&str, bool, u64)]) -> CheckResults {
    let mut results = CheckResults::default();
    for (check, passed, position) in said {
        let occurred_at = time(position.cast_signed());
        results.add(line(check), CheckResult { passed: *passed, occurred_at, position: at(*position) });
    }
    results
}

fn evidence(name: &str, said: &[(&str, bool, u64)]) -> TargetEvidence {
    TargetEvidence {
        target: target(name),
        deployed: at(1),
        results: results(said),
        compositions: Vec::new(),
        longest_run: TimeDelta::seconds(60),
    }
}

fn composition(said: &[(&str, bool, u64)], mark: Option<(u64, MarkedStatus)>) -> CompositionEvidence {
    let marked = mark.map(|(position, status)| Marked {
        position: at(position),
        occurred_at: time(position.cast_signed()),
        status,
        name: None,
        actor: None,
        reason: None,
    });
    CompositionEvidence { results: results(said), marked }
}

fn requiring(checks: &[&str]) -> Policy {
    Policy { required_validations: checks.iter().map(|check| line(check)).collect(), ..Policy::default() }
}

fn status(policy: &Policy, evidence: &TargetEvidence) -> (Status, Option<u64>) {
    let judgement = judge_release(policy, evidence);
    (judgement.status, judgement.position.map(Position::get))
}

#[test]
fn a_release_is_known_good_where_every_required_check_passed_for_it() {
    let policy = requiring(&["smoke"]);
    assert_eq!(status(&policy, &evidence("eu", &[("smoke", true, 5)])), (Status::KnownGood, Some(5)));
    assert_eq!(status(&policy, &evidence("eu", &[("smoke", false, 5)])), (Status::Bad, Some(5)));
    assert_eq!(status(&policy, &evidence("eu", &[("other", true, 5)])), (Status::Candidate, None));
    let both = evidence("eu", &[("smoke", true, 5), ("other", false, 6)]);
    assert_eq!(status(&policy, &both), (Status::Candidate, Some(6)));
    assert_eq!(status(&Policy::default(), &evidence("eu", &[])), (Status::Candidate, None));
}

#[test]
fn a_failure_outranks_a_mark_by_when_it_occurred_and_not_by_when_it_was_recorded() {
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
fn rule_5_a_failure_of_the_environment_is_not_booked_on_a_release_that_passed_with_others() {
    let policy = requiring(&["e2e"]);
    let with = |compositions| TargetEvidence { compositions, ..evidence("eu", &[]) };
    let (passed, failed) = (composition(&[("e2e", true, 5)], None), composition(&[("e2e", false, 6)], None));
    assert_eq!(status(&policy, &with(vec![passed, failed.clone()])), (Status::KnownGood, Some(5)));
    assert_eq!(status(&policy, &with(vec![failed])), (Status::Candidate, Some(6)));
}

#[test]
fn a_release_soaks_by_its_longest_run() {
    let policy = Policy { soak_seconds: 61, ..Policy::default() };
    let mut ran = evidence("eu", &[("smoke", true, 5)]);
    assert_eq!(status(&policy, &ran).0, Status::Candidate);
    ran.longest_run = TimeDelta::seconds(61);
    assert_eq!(status(&policy, &ran).0, Status::KnownGood);
}

#[test]
fn the_latest_mark_on_a_composition_outranks_until_a_check_fails_after_it() {
    let policy = requiring(&["smoke"]);
    let good = |said| TargetEvidence {
        compositions: vec![
            composition(&[], Some((3, MarkedStatus::Bad))),
            composition(&[], Some((10, MarkedStatus::KnownGood))),
        ],
        ..evidence("eu", said)
    };
    assert_eq!(status(&policy, &good(&[("smoke", false, 5)])), (Status::KnownGood, Some(10)));
    assert_eq!(status(&policy, &good(&[("smoke", false, 11)])), (Status::Bad, Some(11)));
    assert_eq!(status(&policy, &good(&[("other", false, 11)])), (Status::Candidate, Some(11)));
    let compositions = vec![composition(&[("smoke", true, 5)], Some((10, MarkedStatus::Bad)))];
    let bad = TargetEvidence { compositions, ..evidence("eu", &[("smoke", true, 5)]) };
    assert_eq!(status(&policy, &bad), (Status::Bad, Some(10)));
}

/// What is said of a promotion from staging, where a check is required.
fn promoted(targets: PromotionTargets, evidence: Vec<TargetEvidence>) -> Finding {
    let (staging, policy) = (environment("staging"), requiring(&["smoke"]));
    let from = vec![staging.clone()];
    let (staging, policy) = (Box::leak(Box::new(staging)), Box::leak(Box::new(policy)));
    let promotion = vec![PromotionEvidence { environment: staging, policy, targets: evidence }];
    let policy = Policy { promotion: Some(Promotion { from, targets }), ..Policy::default() };
    Asked { policy, promotion, ..asked(release("v1")) }.of(Rule::Promotion)
}

#[test]
fn rule_14_a_release_is_promoted_that_was_known_good_at_every_target_where_it_ran() {
    let (good, other) = (evidence("eu", &[("smoke", true, 5)]), evidence("us", &[]));
    let all = promoted(PromotionTargets::All, vec![good.clone(), other.clone()]);
    assert!(!all.passes);
    assert_eq!(all.detail, "it ran in staging at us, and is not known good there: smoke has no result");
    let any = promoted(PromotionTargets::Any, vec![good.clone(), other]);
    assert_eq!((any.passes, any.detail.as_str()), (true, "it was known good in staging at eu"));
    let both = promoted(PromotionTargets::All, vec![good.clone(), evidence("us", &[("smoke", true, 6)])]);
    assert_eq!(both.detail, "it was known good in staging at every target where it ran");
    assert!(both.passes);
    let bad = promoted(PromotionTargets::All, vec![good, evidence("us", &[("smoke", false, 6)])]);
    assert_eq!(
        (bad.detail.as_str(), bad.position),
        ("it is bad in staging at us: smoke failed", Some(at(6)))
    );
}

#[test]
fn rule_31_a_release_that_never_ran_in_an_environment_is_not_promoted_from_it() {
    for targets in [PromotionTargets::All, PromotionTargets::Any] {
        let never = promoted(targets, Vec::new());
        assert_eq!((never.passes, never.detail.as_str()), (false, "it never ran in staging"));
    }
    let promotion = Some(Promotion { from: vec![environment("staging")], targets: PromotionTargets::Any });
    let unknown = Asked { policy: Policy { promotion, ..Policy::default() }, ..asked(release("v1")) };
    let finding = unknown.of(Rule::Promotion);
    assert_eq!((finding.passes, finding.detail.as_str()), (false, "nothing is known of it in staging"));
}
