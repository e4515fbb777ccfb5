//! What a check of a lane speaks of.
//!
//! Decision 0015, section 3, is the specification. Here are the two questions that need more than a look-up: which release a
//! check meant that names only some of its parts, and whether what it examined stayed as it was.

use chrono::{DateTime, Utc};

use crate::span::{Span, joined};
use crate::{Artifact, Position, Release};

/// A deploy of a release to a lane, on any track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDeploy {
    /// When it occurred.
    pub occurred_at: DateTime<Utc>,
    /// The position of its report.
    pub position: Position,
    /// The release.
    pub release: Release,
}

/// The release that a check means which states some parts of it, and not its artifact: that of the latest deploy up to
/// the time of the check; else the one that was built; else that of the first deploy after it.
#[must_use]
pub fn release_meant(
    stated: &Release,
    at: DateTime<Utc>,
    deploys: &[LaneDeploy],
    built: Option<&Artifact>,
) -> Release {
    let mut matching: Vec<_> = deploys.iter().filter(|deploy| stated.matches(&deploy.release)).collect();
    matching.sort_by_key(|deploy| (deploy.occurred_at, deploy.position));
    let split = matching.partition_point(|deploy| deploy.occurred_at <= at);
    let (before, after) = matching.split_at(split);
    match (before.last(), built, after.first()) {
        (Some(deploy), ..) => deploy.release.clone(),
        (None, Some(artifact), _) => stated.completed(Some(artifact.clone())),
        (None, None, Some(deploy)) => deploy.release.clone(),
        (None, None, None) => stated.clone(),
    }
}

/// Returns true if a check that states some parts of a release speaks of another: by the artifact where it states one,
/// else by the release that it meant.
#[must_use]
pub fn speaks_of(
    stated: &Release,
    at: DateTime<Utc>,
    deploys: &[LaneDeploy],
    built: Option<&Artifact>,
    release: &Release,
) -> bool {
    if stated.artifact.is_some() {
        return stated.matches(release);
    }
    stated.matches(release) && !release_meant(stated, at, deploys, built).contradicts(release)
}

/// Returns true if a release, which stood on the tracks of a lane during these spans, came or went between the start of a
/// check and its end: it stood there at some time of the check, but on no track throughout. `tracks` has the spans of
/// each track. A release that did not stand in the lane during the check is not affected: the check may precede its deploy.
#[must_use]
pub fn straddles(start: DateTime<Utc>, end: DateTime<Utc>, tracks: &[Vec<Span>]) -> bool {
    let stood = tracks.iter().flatten().any(|span| span.from <= end && start < span.until);
    let throughout = || {
        let mut stays = tracks.iter().flat_map(|spans| joined(spans.clone()));
        stays.any(|span| span.contains(start) && span.contains(end))
    };
    stood && !throughout()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShortText;

    const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn release(version: &str, artifact: Option<&str>) -> Release {
        let artifact = artifact.map(|text| Artifact::parse(text).expect("an artifact"));
        Release { artifact, ..Release::of_version(ShortText::parse(version).expect("a version")) }
    }

    fn deploy(at: i64, version: &str, artifact: Option<&str>) -> LaneDeploy {
        LaneDeploy { occurred_at: time(at), position: Position::new(1), release: release(version, artifact) }
    }

    #[test]
    fn rule_6_another_build_under_the_same_version_has_not_been_checked() {
        let deploys = [deploy(10, "v1", Some(D1)), deploy(30, "v1", Some(D2))];
        let named = release("v1", None);
        assert!(speaks_of(&named, time(20), &deploys, None, &release("v1", Some(D1))));
        assert!(!speaks_of(&named, time(20), &deploys, None, &release("v1", Some(D2))));
        assert!(speaks_of(&named, time(40), &deploys, None, &release("v1", Some(D2))));
        assert!(!speaks_of(&named, time(40), &deploys, None, &release("v2", Some(D2))));
    }

    #[test]
    fn rule_6_a_check_before_the_deploy_is_about_what_was_built() {
        let built = Artifact::parse(D1).expect("an artifact");
        let named = release("v1", None);
        let deploys = [deploy(30, "v1", Some(D2))];
        assert!(!speaks_of(&named, time(20), &deploys, Some(&built), &release("v1", Some(D2))));
        assert!(speaks_of(&named, time(20), &deploys, None, &release("v1", Some(D2))));
    }

    #[test]
    fn a_check_that_states_the_artifact_speaks_of_no_other() {
        let named = release("v1", Some(D1));
        assert!(speaks_of(&named, time(1), &[], None, &release("v1", Some(D1))));
        assert!(!speaks_of(&named, time(1), &[], None, &release("v1", None)));
    }

    #[test]
    fn rule_7_a_check_straddles_a_change_of_what_it_examined() {
        let span = |from, until| Span { from: time(from), until: time(until) };
        let one_track = [vec![span(10, 20), span(20, 30)]];
        assert!(!straddles(time(12), time(25), &one_track), "a deploy of the same release changes nothing");
        assert!(straddles(time(5), time(25), &one_track));
        assert!(straddles(time(12), time(30), &one_track));
        assert!(!straddles(time(2), time(5), &one_track), "it was checked before it was deployed");
        assert!(straddles(time(5), time(35), &one_track), "it came and went during the check");
        assert!(!straddles(time(30), time(35), &one_track), "it was gone when the check began");
        let moved = [vec![span(10, 20)], vec![span(15, 40)]];
        assert!(straddles(time(12), time(25), &moved));
        assert!(!straddles(time(16), time(25), &moved));
    }
}
