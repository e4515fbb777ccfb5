//! What a plan meets, and how much each obstacle weighs.

use super::*;
use crate::event::{Action, Step};
use crate::{Release, TargetName};

fn line(text: &str) -> Line {
    Line::parse(text).expect("a line")
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a service")
}

fn artifact(version: &str) -> Artifact {
    Artifact::parse(&format!("pkg:generic/web@{version}")).expect("a package URL")
}

fn release(version: &str) -> Release {
    Release { artifact: Some(artifact(version)), ..Release::of_version(line(version)) }
}

/// A step from v2 to a version.
fn step(name: &str, action: Action, to: Option<&str>) -> Step {
    Step {
        wave: 1,
        service: service(name),
        target: TargetName::default(),
        action,
        slot: None,
        from: Some(release("v2")),
        to: to.map(release),
    }
}

/// A plan that brings these services to v1.
fn plan(services: &[&str]) -> Plan {
    let steps = services.iter().map(|name| step(name, Action::Redeploy, Some("v1"))).collect();
    Plan { from: Position::new(20), steps }
}

/// The way to a known-good point at position 10.
const fn clear() -> Way<'static> {
    Way {
        source: None,
        to: Position::new(10),
        status: Some(Status::KnownGood),
        irreversible: &[],
        revoked: &[],
        freezes: &[],
    }
}

fn irreversible(name: &str, position: u64) -> IrreversibleDeploy {
    IrreversibleDeploy {
        service: service(name),
        target: TargetName::default(),
        version: line("v2"),
        position: Position::new(position),
    }
}

fn revoked(version: &str, deleted: bool) -> RevokedArtifact {
    RevokedArtifact { artifact: artifact(version), deleted, position: Position::new(15) }
}

fn freeze(name: &str) -> ActiveFreeze {
    ActiveFreeze { freeze_id: line(name), until: None, position: Position::new(17) }
}

fn names(met: &[Obstacle]) -> Vec<&'static str> {
    met.iter().map(Obstacle::name).collect()
}

#[test]
fn nothing_stands_in_a_clear_way() {
    assert_eq!(obstacles(&plan(&["web"]), &clear()), []);
}

#[test]
fn a_plan_of_no_steps_is_there_already() {
    assert_eq!(obstacles(&plan(&[]), &clear()), [Obstacle::AlreadyThere]);
}

#[test]
fn an_artifact_that_would_be_deployed_must_not_be_revoked() {
    let gone = [revoked("v1", true)];
    let met = obstacles(&plan(&["web"]), &Way { revoked: &gone, ..clear() });
    assert!(matches!(&met[..], [Obstacle::ArtifactRevoked { deleted: true, .. }]), "{met:?}");
    assert_eq!(met[0].position(), Some(Position::new(15)));
    assert_eq!(met[0].to_string(), "pkg:generic/web@v1 of web at default is deleted (position 15)");
}

#[test]
fn an_artifact_that_traffic_would_be_switched_to_must_not_be_revoked_either() {
    let steps = vec![step("web", Action::Switch, Some("v1"))];
    let (plan, bad) = (Plan { from: Position::new(20), steps }, [revoked("v1", false)]);
    let met = obstacles(&plan, &Way { revoked: &bad, ..clear() });
    assert_eq!(names(&met), ["artifact_revoked"]);
}

#[test]
fn an_artifact_that_the_plan_takes_away_may_be_revoked() {
    let bad = [revoked("v2", false)];
    let steps = vec![step("web", Action::Redeploy, Some("v1")), step("old", Action::Remove, None)];
    let plan = Plan { from: Position::new(20), steps };
    assert_eq!(obstacles(&plan, &Way { revoked: &bad, ..clear() }), []);
}

#[test]
fn a_deploy_that_cannot_be_undone_is_a_barrier_if_it_came_after_the_point_to_a_lane_that_changes() {
    let deploys = [irreversible("web", 10), irreversible("web", 11), irreversible("search", 12)];
    let met = obstacles(&plan(&["web"]), &Way { irreversible: &deploys, ..clear() });
    assert_eq!(met, [Obstacle::Barrier(irreversible("web", 11))]);
    assert_eq!(met[0].position(), Some(Position::new(11)));
}

#[test]
fn a_barrier_at_another_target_is_not_in_the_way() {
    let elsewhere = IrreversibleDeploy {
        target: TargetName::parse("east").expect("a target"),
        ..irreversible("web", 11)
    };
    let deploys = [elsewhere];
    assert_eq!(obstacles(&plan(&["web"]), &Way { irreversible: &deploys, ..clear() }), []);
}

#[test]
fn another_environments_point_meets_no_barrier() {
    let staging = EnvironmentName::parse("staging").expect("a name");
    let deploys = [irreversible("web", 11)];
    let way = Way { source: Some(&staging), irreversible: &deploys, ..clear() };
    assert_eq!(obstacles(&plan(&["web"]), &way), []);
}

#[test]
fn a_point_that_is_not_known_good_is_said_to_be_so_and_a_bad_one_too() {
    let status = |status| obstacles(&plan(&["web"]), &Way { status, ..clear() });
    assert_eq!(status(Some(Status::Candidate)), [Obstacle::TargetNotKnownGood]);
    assert_eq!(status(Some(Status::Bad)), [Obstacle::TargetBad]);
    assert_eq!(status(None), [Obstacle::TargetEmpty]);
}

#[test]
fn every_freeze_that_holds_is_told() {
    let freezes = [freeze("year-end"), freeze("audit")];
    let met = obstacles(&plan(&["web"]), &Way { freezes: &freezes, ..clear() });
    assert_eq!(met, freezes.clone().map(Obstacle::Frozen));
    assert_eq!(met[0].to_string(), "freeze year-end holds (position 17)");
}

#[test]
fn obstacles_are_told_in_a_fixed_order() {
    let (gone, deploys, freezes) = ([revoked("v1", true)], [irreversible("web", 11)], [freeze("audit")]);
    let way = Way {
        status: Some(Status::Bad),
        revoked: &gone,
        irreversible: &deploys,
        freezes: &freezes,
        ..clear()
    };
    let met = obstacles(&plan(&["web"]), &way);
    assert_eq!(names(&met), ["artifact_revoked", "barrier", "target_bad", "freeze"]);
}

#[test]
fn a_barrier_and_a_freeze_weigh_what_the_policy_says() {
    let both = [Obstacle::Barrier(irreversible("web", 11)), Obstacle::Frozen(freeze("audit"))];
    let weights = |barrier, freeze| {
        let policy = Policy { barrier, freeze, ..Policy::default() };
        both.clone().map(|obstacle| obstacle.weight(&policy))
    };
    assert_eq!(weights(Hindrance::Block, Hindrance::Warn), [Weight::Blocker, Weight::Warning]);
    assert_eq!(weights(Hindrance::Warn, Hindrance::Block), [Weight::Warning, Weight::Blocker]);
}

#[test]
fn no_policy_and_no_force_lets_a_revoked_artifact_or_an_empty_plan_pass() {
    let lenient = Policy { barrier: Hindrance::Warn, freeze: Hindrance::Warn, ..Policy::default() };
    let gone = [revoked("v1", false)];
    let mut met = obstacles(&plan(&["web"]), &Way { revoked: &gone, ..clear() });
    met.push(Obstacle::AlreadyThere);
    assert!(met.iter().all(|obstacle| !obstacle.weight(&lenient).lets_pass(true)));
}

#[test]
fn a_bad_point_is_passed_only_by_force_and_one_that_is_merely_not_known_good_without() {
    let policy = Policy::default();
    let passes = |obstacle: Obstacle| [false, true].map(|force| obstacle.weight(&policy).lets_pass(force));
    assert_eq!(passes(Obstacle::TargetBad), [false, true]);
    assert_eq!(passes(Obstacle::TargetNotKnownGood), [true, true]);
}
