//! The releases and compositions that checks apply to: section 3 of decision 0015.

use crate::entry::{Entry, Moment, Release, artifact_identity, contradicts, matches, same_artifact};
use crate::lanes::{Content, Model, slot_names};

/// Environment, service and target.
pub(crate) type Lane<'l> = [&'l str; 3];

/// The release on one track of a lane, if there is one.
type TrackRelease = Option<Release>;

impl Model {
    /// Returns the ends of checks that are known at K.
    fn check_ends(&self, k: u64) -> Vec<&Entry> {
        let mut ends = self.known(k);
        ends.retain(|entry| entry.is_end());
        ends
    }

    /// Returns the subject as stated, and the check.
    fn subject(entry: &Entry) -> [Option<String>; 7] {
        let text = |name: &str| entry.optional(name).map(str::to_owned);
        [
            text("environment"),
            text("service"),
            text("target"),
            entry.data["release"]["version"].as_str().map(str::to_owned),
            text("deployment"),
            entry.optional("artifact").map(artifact_identity),
            text("check"),
        ]
    }

    /// Returns the moment at which a check began, if its start is known at K.
    pub(crate) fn start_of(&self, end: &Entry, k: u64) -> Option<Moment> {
        let known = self.known(k);
        let starts =
            || known.iter().filter(|entry| entry.is("validation.started") && entry.moment() <= end.moment());
        if let Some(run) = end.optional("run") {
            return starts()
                .filter(|entry| {
                    entry.optional("run") == Some(run) && entry.text("check") == end.text("check")
                })
                .map(|entry| entry.moment())
                .max();
        }
        let subject = Self::subject(end);
        let start = starts()
            .filter(|entry| entry.optional("run").is_none() && Self::subject(entry) == subject)
            .map(|entry| entry.moment())
            .max()?;
        let between = known.iter().any(|entry| {
            entry.is_end()
                && Self::subject(entry) == subject
                && start < entry.moment()
                && entry.moment() < end.moment()
        });
        (!between).then_some(start)
    }

    /// Returns true for a pass that its own counts contradict.
    pub(crate) fn counts_contradict(end: &Entry) -> bool {
        let counts = &end.data["counts"];
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        end.is("validation.passed")
            && counts.is_object()
            && (count("failed") > 0 || (count("passed") == 0 && count("failed") == 0))
    }

    /// Returns the moments of all known entries after the time of the start, up to the time of the end.
    fn moments(&self, start: Moment, end: Moment, k: u64) -> Vec<Moment> {
        let known = self.known(k).into_iter().map(Entry::moment);
        known.filter(|moment| start.0 < moment.0 && moment.0 <= end.0).collect()
    }

    /// Returns the release that traffic reached in a lane at `m`.
    pub(crate) fn live_release(&self, lane: Lane<'_>, m: Moment, k: u64) -> TrackRelease {
        self.live(lane, m, k).map(|live| live.release)
    }

    /// Returns the releases on the lane's tracks at `m`: what traffic reaches, then each slot.
    fn tracks(&self, lane: Lane<'_>, m: Moment, k: u64) -> Vec<TrackRelease> {
        let mut tracks = vec![self.live_release(lane, m, k)];
        for slot in slot_names(&self.changes(lane[0], lane[1], lane[2], k)) {
            tracks.push(match self.slot(lane, &slot, m, k) {
                Content::Filled(deploy) => Some(deploy.release()),
                _ => None,
            });
        }
        tracks
    }

    /// Returns the deploys to a lane, by moment.
    fn deploys(&self, lane: Lane<'_>, k: u64) -> Vec<&Entry> {
        let mut deploys = self.changes(lane[0], lane[1], lane[2], k);
        deploys.retain(|entry| entry.is("deploy.succeeded"));
        deploys
    }

    /// Returns true if the end names this lane; without a target, it names all lanes of the service.
    fn is_about_lane(end: &Entry, lane: Lane<'_>) -> bool {
        end.optional("environment") == Some(lane[0])
            && end.optional("service") == Some(lane[1])
            && end.optional("target").is_none_or(|target| target == lane[2])
    }

    /// Returns true if the end is about a whole environment.
    pub(crate) fn is_about_environment(end: &Entry, environment: &str) -> bool {
        end.optional("environment") == Some(environment) && end.optional("service").is_none()
    }

    /// Rule 4 for a check that states no artifact: returns the one release that it was about.
    fn resolved_release(&self, end: &Entry, lane: Lane<'_>, k: u64) -> Option<Release> {
        let stated = end.release();
        let deploys = self.deploys(lane, k);
        let matching = || deploys.iter().filter(|deploy| matches(&stated, &deploy.release()));
        let completed = |deploy: &Entry| {
            let mut release = deploy.release();
            if release.artifact.is_none() {
                let time = deploy.occurred_at;
                release.artifact = self.artifact_of_deploy([lane[0], lane[1]], &release.version, time, k);
            }
            release
        };
        if let Some(deploy) = matching().rfind(|deploy| deploy.moment() <= at_end_of(end)) {
            return Some(completed(deploy));
        }
        if let Some(artifact) = self.built_artifact(lane[1], &stated.version, at_end_of(end), k) {
            return Some(Release { artifact: Some(artifact), ..stated });
        }
        let after = matching().find(|deploy| deploy.moment() > at_end_of(end));
        Some(after.map_or(stated, |deploy| completed(deploy)))
    }

    /// Returns the artifact of a release in a lane: the one that it states; else that of its last deploy to the lane.
    pub(crate) fn artifact_in(&self, lane: Lane<'_>, release: &Release, k: u64) -> Option<String> {
        if release.artifact.is_some() {
            return release.artifact.clone();
        }
        let mut deploys = self.deploys(lane, k);
        deploys.retain(|deploy| deploy.release().is_same(release));
        let last = deploys.iter().map(|deploy| deploy.occurred_at).max().unwrap_or(i64::MAX);
        self.artifact_of_deploy([lane[0], lane[1]], &release.version, last, k)
    }

    /// Returns true if the end applies to a release in a lane, also if it is void.
    fn applies_to(&self, end: &Entry, lane: Lane<'_>, release: &Release, k: u64) -> bool {
        if let Some(artifact) = end.optional("artifact") {
            return self.artifact_in(lane, release, k).is_some_and(|other| same_artifact(artifact, &other));
        }
        if !Self::is_about_lane(end, lane) {
            return false;
        }
        if end.data["release"].is_object() {
            let stated = end.release();
            if stated.version != release.version {
                return false;
            }
            let known = Release { artifact: self.artifact_in(lane, release, k), ..release.clone() };
            if stated.artifact.is_some() {
                return matches(&stated, &known);
            }
            let resolved = self.resolved_release(end, lane, k);
            return matches(&stated, release)
                && resolved.is_some_and(|resolved| !contradicts(&resolved, &known));
        }
        if let Some(deployment) = end.optional("deployment") {
            let deploys = self.deploys(lane, k);
            let mut named = deploys.iter().filter(|deploy| deploy.optional("deployment") == Some(deployment));
            return named.any(|deploy| deploy.release().is_same(release));
        }
        self.live_release(lane, at_end_of(end), k).is_some_and(|reached| reached.is_same(release))
    }

    /// Returns true if the end is void for a release in a lane. For a check that names only the lane: what traffic
    /// reached changed during the check. Otherwise: the release was in the lane at some time of the check, but on no
    /// track throughout.
    fn straddles_in(&self, end: &Entry, lane: Lane<'_>, release: &Release, k: u64) -> bool {
        let Some(start) = self.start_of(end, k) else { return false };
        let start = (start.0, u64::MAX);
        let moments = distinct_times(self.moments(start, end.moment(), k));
        let key = |track: &TrackRelease| track.as_ref().map(Release::key);
        if !end.data["release"].is_object() && end.optional("deployment").is_none() {
            let before = key(&self.live_release(lane, start, k));
            return moments.iter().any(|moment| key(&self.live_release(lane, *moment, k)) != before);
        }
        let is_it = |track: &TrackRelease| track.as_ref().is_some_and(|other| other.is_same(release));
        let mut times = vec![self.tracks(lane, start, k)];
        times.extend(moments.iter().map(|moment| self.tracks(lane, *moment, k)));
        let was_present = times.iter().flatten().any(is_it);
        let throughout = (0..times[0].len()).any(|track| times.iter().all(|tracks| is_it(&tracks[track])));
        was_present && !throughout
    }

    /// Returns true if the composition changed between a check's start and its end. A composition that stood for no
    /// time, between two changes of one time, is a change.
    fn straddles_environment(&self, end: &Entry, environment: &str, k: u64) -> bool {
        let Some(start) = self.start_of(end, k) else { return false };
        let identity = |moment| self.state(environment, moment, k).identity();
        let before = identity((start.0, u64::MAX));
        self.moments(start, end.moment(), k).into_iter().any(|moment| identity(moment) != before)
    }

    /// Returns true if the end straddles a change for a release that it applies to, in any lane.
    pub(crate) fn straddles(&self, end: &Entry, k: u64) -> bool {
        let Some(environment) = end.optional("environment") else { return false };
        if end.optional("service").is_none() {
            return self.straddles_environment(end, environment, k);
        }
        self.all_lanes(environment, k).iter().any(|(service, target)| {
            let lane = [environment, service, target];
            let deployed = self.deploys(lane, k).into_iter().map(Entry::release);
            let mut subjects = deployed.filter(|release| self.applies_to(end, lane, release, k));
            Self::is_about_lane(end, lane)
                && subjects.any(|release| self.straddles_in(end, lane, &release, k))
        })
    }

    /// Returns the latest end of a check that is not void and applies to a release in a lane.
    pub(crate) fn result(&self, lane: Lane<'_>, release: &Release, check: &str, k: u64) -> Option<&Entry> {
        let mut ends = self.check_ends(k);
        ends.retain(|end| {
            end.text("check") == check
                && !Self::counts_contradict(end)
                && self.applies_to(end, lane, release, k)
                && !(Self::is_about_lane(end, lane) && self.straddles_in(end, lane, release, k))
        });
        ends.into_iter().max_by_key(|end| end.moment())
    }

    /// Returns the latest end, not void, of a check of a whole environment that ran this composition.
    pub(crate) fn composition_result(
        &self,
        environment: &str,
        identity: &[Vec<String>],
        check: &str,
        k: u64,
    ) -> Option<&Entry> {
        let mut ends = self.composition_ends(environment, check, k);
        ends.retain(|end| self.state(environment, at_end_of(end), k).identity() == identity);
        ends.into_iter().max_by_key(|end| end.moment())
    }

    /// Returns the ends of a check of a whole environment that are not void.
    pub(crate) fn composition_ends(&self, environment: &str, check: &str, k: u64) -> Vec<&Entry> {
        let mut ends = self.check_ends(k);
        ends.retain(|end| {
            end.text("check") == check
                && Self::is_about_environment(end, environment)
                && !Self::counts_contradict(end)
                && !self.straddles_environment(end, environment, k)
        });
        ends
    }

    /// Returns the names of all checks that are known at K.
    pub(crate) fn check_names(&self, k: u64) -> Vec<String> {
        let mut names: Vec<String> =
            self.check_ends(k).iter().map(|end| end.text("check").to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Returns the moment after everything that occurred at the time of an end: times decide what a check applies to, not
/// positions.
pub(crate) fn at_end_of(end: &Entry) -> Moment {
    (end.occurred_at, u64::MAX)
}

/// Reduces moments to the distinct times, each after everything that occurred at it: a state that lasted for no time is
/// no change.
fn distinct_times(mut moments: Vec<Moment>) -> Vec<Moment> {
    moments.iter_mut().for_each(|moment| moment.1 = u64::MAX);
    moments.sort_unstable();
    moments.dedup();
    moments
}
