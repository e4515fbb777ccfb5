//! The artifact that a version means by the builds of it.
//!
//! Decision 0015, section 2, is the specification.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::{Artifact, Position, ServiceName};

/// An event that states which artifact a version is: a build, or a deploy that states its artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactStatement {
    /// Time of the event.
    pub occurred_at: DateTime<Utc>,
    /// The position of the event.
    pub position: Position,
    /// The artifact.
    pub artifact: Artifact,
}

impl ArtifactStatement {
    /// Returns the time and the position of the event. Events count in this order.
    #[must_use]
    pub const fn moment(&self) -> (DateTime<Utc>, Position) {
        (self.occurred_at, self.position)
    }

    fn is_named(&self, service: &ServiceName) -> bool {
        self.artifact.name().as_deref() == Some(service.as_str())
    }
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
    let mut later = builds.clone().filter(|build| build.occurred_at > after);
    if let Some(named) = later.clone().find(|build| build.is_named(service)) {
        return Some(named);
    }
    let first = later.next()?;
    has_one_name(builds.take_while(|build| build.moment() <= first.moment())).then_some(first)
}

/// Every artifact that a version of a service means at some moment, or that one of its deploys may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EverMeant {
    /// The artifacts. There may be some that no deploy had.
    pub artifacts: BTreeSet<Artifact>,
    /// True if each deploy of the version, at any time, has one of the artifacts; false if one may be unknown.
    pub is_complete: bool,
}

/// Returns the builds that a version of a service means at some moment: those of artifacts that are named like the
/// service, and those before the first build of a second name. A superset of what [`latest_build`] and
/// [`first_build_after`] return for any time. `builds` are those of the version, ordered by moment.
pub fn builds_ever_meant<'s>(
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

    fn build(at: i64, name: &str, digit: &str) -> ArtifactStatement {
        let text = format!("pkg:oci/{name}@sha256:{}", digit.repeat(64));
        ArtifactStatement {
            occurred_at: DateTime::from_timestamp(at, 0).expect("a time"),
            position: Position::new(at.unsigned_abs()),
            artifact: Artifact::parse(&text).expect("an artifact"),
        }
    }

    fn web() -> ServiceName {
        ServiceName::parse("web").expect("a name")
    }

    fn first_after(builds: &[ArtifactStatement], after: i64) -> Option<i64> {
        let after = DateTime::from_timestamp(after, 0).expect("a time");
        first_build_after(&web(), builds.iter(), after).map(|build| build.occurred_at.timestamp())
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
    fn rule_25_every_build_that_a_version_means_at_some_moment_is_one_that_it_ever_meant() {
        let ever_meant = |builds: &[ArtifactStatement]| -> Vec<i64> {
            builds_ever_meant(&web(), builds).map(|build| build.occurred_at.timestamp()).collect()
        };
        assert_eq!(ever_meant(&[]), [0_i64; 0]);
        assert_eq!(ever_meant(&[build(1, "web", "1"), build(3, "web", "2")]), [1, 3]);
        let renamed =
            [build(1, "foo", "1"), build(2, "foo", "2"), build(3, "web", "3"), build(4, "bar", "4")];
        assert_eq!(
            ever_meant(&renamed),
            [1, 2, 3],
            "after the second name, only the name of the service counts"
        );
        assert_eq!(ever_meant(&[build(1, "foo", "1"), build(2, "bar", "2"), build(3, "foo", "3")]), [1]);
        for at in 0..5 {
            let until = renamed.iter().filter(|build| build.occurred_at.timestamp() <= at);
            let latest = latest_build(&web(), until).map(|build| build.occurred_at.timestamp());
            let is_listed = |build: i64| ever_meant(&renamed).contains(&build);
            assert!(latest.is_none_or(is_listed) && first_after(&renamed, at).is_none_or(is_listed), "{at}");
        }
    }

    #[test]
    fn rule_6_a_version_means_its_latest_build_unless_the_names_differ() {
        let latest = |builds: &[ArtifactStatement]| {
            latest_build(&web(), builds.iter()).map(|build| build.occurred_at.timestamp())
        };
        assert_eq!(latest(&[build(1, "foo", "1"), build(2, "foo", "2")]), Some(2));
        assert_eq!(latest(&[build(1, "foo", "1"), build(2, "bar", "2")]), None);
        assert_eq!(latest(&[build(1, "web", "1"), build(2, "bar", "2")]), Some(1));
        assert_eq!(latest(&[]), None);
    }
}
