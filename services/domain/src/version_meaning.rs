//! The artifact that a version means.
//!
//! Deploys that state an artifact, and builds, give a version of a service a meaning. `artifact_of_version` names the
//! functions that return it; `artifact_of_deploy` those for a deploy that states only its version.
//!
//! Decision 0015, section 2, is the specification.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::{Artifact, EventTime, ServiceName};

/// An event that states which artifact a version is: a build, or a deploy that states its artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactStatement {
    /// The moment of the event.
    pub at: EventTime,
    /// The artifact.
    pub artifact: Artifact,
}

impl ArtifactStatement {
    /// Returns the moment of the event, and the artifact.
    #[must_use]
    pub const fn stated(&self) -> (EventTime, &Artifact) {
        (self.at, &self.artifact)
    }

    fn is_named(&self, service: &ServiceName) -> bool {
        self.artifact.name().as_deref() == Some(service.as_str())
    }
}

/// Returns the artifact that a version of a service means in an environment at a moment. `here` is that of the latest
/// deploy to the environment, `elsewhere` that of the latest deploy to another, `build` that of the
/// [build](latest_build); the first that exists decides. Each considers only events up to the moment, and only deploys
/// that state an artifact. The SQL statement `services/projections/sql/artifacts/last_deployed_artifact_at.sql` applies
/// the same rule to deploys.
#[must_use]
pub fn artifact_of_version<'s>(
    here: Option<&'s Artifact>,
    elsewhere: impl FnOnce() -> Option<&'s Artifact>,
    build: impl FnOnce() -> Option<&'s Artifact>,
) -> Option<&'s Artifact> {
    here.or_else(elsewhere).or_else(build)
}

/// Returns the artifact of a deploy that states only its version: the one that the version means at its time or, if it
/// means none, that of the first event after it that gives the version a meaning. `deploys_after` returns the first
/// deploys after its time that state an artifact, to the environment and to others; `build_after` the
/// [first build](first_build_after).
#[must_use]
pub fn artifact_of_deploy<'s, D: Iterator<Item = (EventTime, &'s Artifact)>>(
    of_version: Option<&'s Artifact>,
    deploys_after: impl FnOnce() -> D,
    build_after: impl FnOnce() -> Option<(EventTime, &'s Artifact)>,
) -> Option<&'s Artifact> {
    of_version.or_else(|| {
        let first = deploys_after().chain(build_after()).min_by_key(|(at, _)| *at);
        first.map(|(_, artifact)| artifact)
    })
}

/// Returns the build that a version of a service means: the latest of an artifact that is named like the service;
/// otherwise the latest, if all artifacts have one name. `builds` are those of the version up to the moment in question,
/// ordered by moment.
#[must_use]
pub fn latest_build<'s>(
    service: &ServiceName,
    builds: impl DoubleEndedIterator<Item = &'s ArtifactStatement> + Clone,
) -> Option<&'s ArtifactStatement> {
    if let Some(named) = builds.clone().rev().find(|build| build.is_named(service)) {
        return Some(named);
    }
    let last = builds.clone().next_back()?;
    has_one_name(builds).then_some(last)
}

/// Returns the first build after a time that gives a version of a service a meaning: the first of an artifact that is
/// named like the service; otherwise the first, if all artifacts up to its moment have one name. Later builds do not
/// change the result, unless they are the first with the service's name. `builds` are those of the version, ordered by
/// moment.
#[must_use]
pub fn first_build_after<'s>(
    service: &ServiceName,
    builds: impl Iterator<Item = &'s ArtifactStatement> + Clone,
    after: DateTime<Utc>,
) -> Option<&'s ArtifactStatement> {
    let mut later = builds.clone().filter(|build| build.at.occurred_at > after);
    if let Some(named) = later.clone().find(|build| build.is_named(service)) {
        return Some(named);
    }
    let first = later.next()?;
    has_one_name(builds.take_while(|build| build.at <= first.at)).then_some(first)
}

/// Every artifact that a version of a service means at some moment, or that one of its deploys may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PossibleArtifacts {
    /// The artifacts. There may be some that no deploy had.
    pub artifacts: BTreeSet<Artifact>,
    /// True if each deploy of the version, at any time, has one of the artifacts; false if one may be unknown.
    pub is_complete: bool,
}

/// Returns the builds that a version of a service means at some moment: those of artifacts that are named like the
/// service, and those before the first build of a second name. A superset of what [`latest_build`] and
/// [`first_build_after`] return for any time. `builds` are those of the version, ordered by moment.
pub fn possible_builds<'s>(
    service: &ServiceName,
    builds: &'s [ArtifactStatement],
) -> impl Iterator<Item = &'s ArtifactStatement> {
    let name = builds.first().and_then(|build| build.artifact.name());
    let second = builds.iter().position(|build| build.artifact.name() != name);
    let (of_one_name, others) = builds.split_at(second.unwrap_or(builds.len()));
    of_one_name.iter().chain(others.iter().filter(move |build| build.is_named(service)))
}

fn has_one_name<'s>(mut statements: impl Iterator<Item = &'s ArtifactStatement>) -> bool {
    let Some(first) = statements.next() else { return true };
    let name = first.artifact.name();
    statements.all(|other| other.artifact.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    fn build(at: i64, name: &str, digit: &str) -> ArtifactStatement {
        let text = format!("pkg:oci/{name}@sha256:{}", digit.repeat(64));
        ArtifactStatement {
            at: EventTime::new(
                DateTime::from_timestamp(at, 0).expect("a time"),
                Position::new(at.unsigned_abs()),
            ),
            artifact: Artifact::parse(&text).expect("an artifact"),
        }
    }

    fn web() -> ServiceName {
        ServiceName::parse("web").expect("a name")
    }

    fn first_after(builds: &[ArtifactStatement], after: i64) -> Option<i64> {
        let after = DateTime::from_timestamp(after, 0).expect("a time");
        first_build_after(&web(), builds.iter(), after).map(|build| build.at.occurred_at.timestamp())
    }

    #[test]
    fn rule_6_a_deploy_here_precedes_deploys_elsewhere_and_these_precede_builds() {
        let [here, elsewhere, built] = ["1", "2", "3"].map(|digit| build(1, "web", digit).artifact);
        let artifact = |here, elsewhere, built| artifact_of_version(here, || elsewhere, || built);
        assert_eq!(artifact(Some(&here), Some(&elsewhere), Some(&built)), Some(&here));
        assert_eq!(artifact(None, Some(&elsewhere), Some(&built)), Some(&elsewhere));
        assert_eq!(artifact(None, None, Some(&built)), Some(&built));
        assert_eq!(artifact(None, None, None), None);
    }

    #[test]
    fn rule_6_a_deploy_of_a_version_without_a_meaning_has_the_first_artifact_after_it() {
        let [now, deployed, built] = [build(1, "web", "1"), build(3, "web", "2"), build(2, "web", "3")];
        let artifact = |of_version: Option<&Artifact>, deploys: &[&ArtifactStatement]| {
            let deploys_after = move || deploys.iter().map(|deploy| deploy.stated());
            artifact_of_deploy(of_version, deploys_after, || Some(built.stated())).cloned()
        };
        assert_eq!(artifact(Some(&now.artifact), &[&deployed]), Some(now.artifact.clone()));
        assert_eq!(artifact(None, &[&deployed]), Some(built.artifact.clone()));
        assert_eq!(artifact(None, &[&deployed, &now]), Some(now.artifact.clone()));
    }

    #[test]
    fn rule_6_the_first_build_after_a_deploy_stays_its_artifact_when_the_version_is_built_again() {
        let builds = [build(2, "web", "1"), build(60, "web", "2")];
        assert_eq!(first_after(&builds, 0), Some(2));
        assert_eq!(first_after(&builds, 2), Some(60), "a build at the time itself is not after it");
        assert_eq!(first_after(&builds, 60), None);
    }

    #[test]
    fn rule_6_of_builds_after_a_deploy_one_with_the_name_of_the_service_takes_precedence() {
        assert_eq!(first_after(&[build(2, "api", "1"), build(3, "web", "2")], 0), Some(3));
        let other_names = [build(2, "foo", "1"), build(3, "bar", "2")];
        assert_eq!(first_after(&other_names, 0), Some(2), "a later build of another name changes nothing");
        assert_eq!(first_after(&other_names, 2), None, "two names were known by then");
    }

    #[test]
    fn rule_25_every_build_that_a_version_means_at_some_moment_is_a_possible_one() {
        let possible = |builds: &[ArtifactStatement]| -> Vec<i64> {
            possible_builds(&web(), builds).map(|build| build.at.occurred_at.timestamp()).collect()
        };
        assert_eq!(possible(&[]), [0_i64; 0]);
        assert_eq!(possible(&[build(1, "web", "1"), build(3, "web", "2")]), [1, 3]);
        let renamed =
            [build(1, "foo", "1"), build(2, "foo", "2"), build(3, "web", "3"), build(4, "bar", "4")];
        assert_eq!(
            possible(&renamed),
            [1, 2, 3],
            "after the second name, only the name of the service counts"
        );
        assert_eq!(possible(&[build(1, "foo", "1"), build(2, "bar", "2"), build(3, "foo", "3")]), [1]);
        for at in 0..5 {
            let until = renamed.iter().filter(|build| build.at.occurred_at.timestamp() <= at);
            let latest = latest_build(&web(), until).map(|build| build.at.occurred_at.timestamp());
            let is_listed = |build: i64| possible(&renamed).contains(&build);
            assert!(latest.is_none_or(is_listed) && first_after(&renamed, at).is_none_or(is_listed), "{at}");
        }
    }

    #[test]
    fn rule_6_a_version_means_its_latest_build_unless_the_names_differ() {
        let latest = |builds: &[ArtifactStatement]| {
            latest_build(&web(), builds.iter()).map(|build| build.at.occurred_at.timestamp())
        };
        assert_eq!(latest(&[build(1, "foo", "1"), build(2, "foo", "2")]), Some(2));
        assert_eq!(latest(&[build(1, "foo", "1"), build(2, "bar", "2")]), None);
        assert_eq!(latest(&[build(1, "web", "1"), build(2, "bar", "2")]), Some(1));
        assert_eq!(latest(&[]), None);
    }
}
