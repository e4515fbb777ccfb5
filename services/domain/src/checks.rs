//! The releases that the check of a lane applies to.
//!
//! Decides the questions that need more than a look-up: the release that a check means if it states only some parts of
//! one, the artifact of a release that states none, and whether the release stayed in the lane throughout the check.
//!
//! Decision 0015, section 3, is the specification.

use chrono::{DateTime, Utc};

use crate::span::{Span, joined};
use crate::{Artifact, EventTime, Position, Release};

/// A deploy of a release to a lane, on any track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDeploy {
    /// Time of the deploy.
    pub occurred_at: DateTime<Utc>,
    /// The position of its report.
    pub position: Position,
    /// The release.
    pub release: Release,
}

/// Returns the release that a check means if it states some parts of it but not its artifact: the matching release of
/// the latest deploy up to the time of the check; else the stated release with the artifact that was built for it; else
/// the matching release of the first deploy after the check; else the release as stated.
#[must_use]
pub fn release_of_check(
    stated: &Release,
    at: DateTime<Utc>,
    deploys: &[LaneDeploy],
    built: Option<&Artifact>,
) -> Release {
    let mut matching: Vec<_> = deploys.iter().filter(|deploy| stated.matches(&deploy.release)).collect();
    matching.sort_by_key(|deploy| EventTime::new(deploy.occurred_at, deploy.position));
    let split = matching.partition_point(|deploy| deploy.occurred_at <= at);
    let (before, after) = matching.split_at(split);
    let release = |deploy: &&LaneDeploy| deploy.release.clone();
    choose_release(stated, before.last().map(release), built, || after.first().map(release))
}

/// Returns the release that a check means, from the last matching release before its end, the artifact built for the
/// stated one, and the first matching release after its end.
pub(crate) fn choose_release(
    stated: &Release,
    last_before: Option<Release>,
    built: Option<&Artifact>,
    first_after: impl FnOnce() -> Option<Release>,
) -> Release {
    let as_built = || built.map(|artifact| stated.completed(Some(artifact.clone())));
    last_before.or_else(as_built).or_else(first_after).unwrap_or_else(|| stated.clone())
}

/// Returns the artifact of a release in a lane: the one that it states; else that of its last deploy to the lane, which is
/// the one that its version meant then or, if it meant none, the first that it meant after that. `of_deploy` returns the
/// artifact of a deploy of the version at a time. A release that was never deployed to the lane has the artifact that a
/// deploy at the end of all times would have.
#[must_use]
pub fn artifact_in_lane(
    release: &Release,
    last_deploy: Option<DateTime<Utc>>,
    of_deploy: impl Fn(DateTime<Utc>) -> Option<Artifact>,
) -> Option<Artifact> {
    let of_version = || of_deploy(last_deploy.unwrap_or(DateTime::<Utc>::MAX_UTC));
    release.artifact.clone().or_else(of_version)
}

/// Returns true if a check that states some parts of a release applies to `release`: by the artifact if it states one,
/// else by the [release that it means](release_of_check). `artifact` is that of the release
/// [in its lane](artifact_in_lane); deploys that stated none have the artifact of their version too.
#[must_use]
pub fn speaks_of(
    stated: &Release,
    at: DateTime<Utc>,
    deploys: &[LaneDeploy],
    built: Option<&Artifact>,
    of: (&Release, Option<&Artifact>),
) -> bool {
    speaks_of_lazily(stated, || release_of_check(stated, at, deploys, built), of)
}

/// Returns what [`speaks_of`] returns. Calls `meant` for the release that the check means, only if that decides.
pub(crate) fn speaks_of_lazily(
    stated: &Release,
    meant: impl FnOnce() -> Release,
    (release, artifact): (&Release, Option<&Artifact>),
) -> bool {
    let completed = release.completed(artifact.cloned());
    if stated.artifact.is_some() {
        return stated.matches(&completed);
    }
    stated.matches(release) && !meant().contradicts(&completed)
}

/// Returns true if the release under check came or went between the check's start and its end: it was in the lane at some
/// time of the check, but neither did traffic reach it throughout, nor was it in one slot throughout. `tracks` holds the
/// spans in which traffic reached the release, and for each slot those in which it was there. Returns false if the release
/// was not in the lane during the check: a check may precede the deploy.
#[must_use]
pub fn straddles(start: DateTime<Utc>, end: DateTime<Utc>, tracks: &[Vec<Span>]) -> bool {
    let was_present = tracks.iter().flatten().any(|span| span.from <= end && start < span.until);
    let throughout = || {
        let mut spans = tracks.iter().flat_map(|spans| joined(spans.clone()));
        spans.any(|span| span.contains(start) && span.contains(end))
    };
    was_present && !throughout()
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

    /// Returns true if a check at a second speaks of a release, which means no other artifact than it states.
    fn applies(
        stated: &Release,
        at: i64,
        deploys: &[LaneDeploy],
        built: Option<&Artifact>,
        release: &Release,
    ) -> bool {
        speaks_of(stated, time(at), deploys, built, (release, release.artifact.as_ref()))
    }

    #[test]
    fn rule_6_a_check_of_a_version_does_not_apply_to_a_later_build_of_it() {
        let deploys = [deploy(10, "v1", Some(D1)), deploy(30, "v1", Some(D2))];
        let stated = release("v1", None);
        assert!(applies(&stated, 20, &deploys, None, &release("v1", Some(D1))));
        assert!(!applies(&stated, 20, &deploys, None, &release("v1", Some(D2))));
        assert!(applies(&stated, 40, &deploys, None, &release("v1", Some(D2))));
        assert!(!applies(&stated, 40, &deploys, None, &release("v2", Some(D2))));
    }

    #[test]
    fn rule_6_a_check_before_the_deploy_applies_to_the_built_artifact() {
        let built = Artifact::parse(D1).expect("an artifact");
        let stated = release("v1", None);
        let deploys = [deploy(30, "v1", Some(D2))];
        assert!(!applies(&stated, 20, &deploys, Some(&built), &release("v1", Some(D2))));
        assert!(applies(&stated, 20, &deploys, None, &release("v1", Some(D2))));
    }

    #[test]
    fn a_check_that_states_an_artifact_applies_to_no_other() {
        let stated = release("v1", Some(D1));
        assert!(applies(&stated, 1, &[], None, &release("v1", Some(D1))));
        assert!(!applies(&stated, 1, &[], None, &release("v1", None)));
    }

    #[test]
    fn rule_6_a_check_that_states_an_artifact_applies_to_a_release_whose_version_means_it() {
        let [one, other] = [D1, D2].map(|text| Artifact::parse(text).expect("an artifact"));
        let (stated, running) = (release("v1", Some(D1)), release("v1", None));
        let applies_to = |artifact| speaks_of(&stated, time(1), &[], None, (&running, artifact));
        assert!(applies_to(Some(&one)));
        assert!(!applies_to(Some(&other)));
    }

    #[test]
    fn rule_6_a_check_of_a_version_does_not_apply_to_a_release_whose_version_means_a_later_build() {
        let later = Artifact::parse(D2).expect("an artifact");
        let (stated, running) = (release("v1", None), release("v1", None));
        let deploys = [deploy(10, "v1", Some(D1)), deploy(30, "v1", Some(D2))];
        let applies_at = |at| speaks_of(&stated, time(at), &deploys, None, (&running, Some(&later)));
        assert!(!applies_at(20));
        assert!(applies_at(40));
    }

    #[test]
    fn rule_6_a_release_without_an_artifact_has_that_of_its_last_deploy() {
        let [one, other] = [D1, D2].map(|text| Artifact::parse(text).expect("an artifact"));
        let of_deploy = |at: DateTime<Utc>| Some(if at < time(20) { one.clone() } else { other.clone() });
        let of_version = release("v1", None);
        assert_eq!(artifact_in_lane(&of_version, Some(time(15)), of_deploy), Some(one.clone()));
        assert_eq!(artifact_in_lane(&of_version, Some(time(25)), of_deploy), Some(other.clone()));
        assert_eq!(artifact_in_lane(&of_version, Some(time(5)), |_| None), None);
        assert_eq!(artifact_in_lane(&release("v1", Some(D1)), Some(time(25)), of_deploy), Some(one.clone()));
    }

    #[test]
    fn rule_7_a_check_straddles_a_change_of_the_release_under_check() {
        let span = |from, until| Span { from: time(from), until: time(until) };
        let one_track = [vec![span(10, 20), span(20, 30)]];
        assert!(
            !straddles(time(12), time(25), &one_track),
            "a repeated deploy of the same release is no change"
        );
        assert!(straddles(time(5), time(25), &one_track));
        assert!(straddles(time(12), time(30), &one_track));
        assert!(!straddles(time(2), time(5), &one_track), "it was checked before it was deployed");
        assert!(straddles(time(5), time(35), &one_track), "it came and went during the check");
        assert!(!straddles(time(30), time(35), &one_track), "it was removed before the check started");
        let moved = [vec![span(10, 20)], vec![span(15, 40)]];
        assert!(straddles(time(12), time(25), &moved));
        assert!(!straddles(time(16), time(25), &moved));
    }
}
