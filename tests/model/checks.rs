//! What checks speak of: section 3 of decision 0015.

use crate::entry::{Entry, Moment, Release, artifact_identity, contradicts, matches, same_artifact};
use crate::lanes::{Content, Model, slots};

/// A lane: environment, service, target.
pub(crate) type Lane<'l> = [&'l str; 3];

/// What stood on one track of a lane.
type Standing = Option<Release>;

impl Model {
    /// The ends of checks that are known at K.
    fn ends(&self, k: u64) -> Vec<&Entry> {
        let mut ends = self.known(k);
        ends.retain(|entry| entry.is_end());
        ends
    }

    /// The subject as stated, and the check.
    fn subject(entry: &Entry) -> [Option<String>; 7] {
        let text = |name: &str| entry.maybe(name).map(str::to_owned);
        [
            text("environment"),
            text("service"),
            text("target"),
            entry.data["release"]["version"].as_str().map(str::to_owned),
            text("deployment"),
            entry.maybe("artifact").map(artifact_identity),
            text("check"),
        ]
    }

    /// The moment at which a check began, if its start is known at K.
    pub(crate) fn start_of(&self, end: &Entry, k: u64) -> Option<Moment> {
        let known = self.known(k);
        let starts =
            || known.iter().filter(|entry| entry.is("validation.started") && entry.moment() <= end.moment());
        if let Some(run) = end.maybe("run") {
            return starts()
                .filter(|entry| entry.maybe("run") == Some(run) && entry.text("check") == end.text("check"))
                .map(|entry| entry.moment())
                .max();
        }
        let subject = Self::subject(end);
        let start = starts()
            .filter(|entry| entry.maybe("run").is_none() && Self::subject(entry) == subject)
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

    /// True for a pass whose counts say otherwise.
    pub(crate) fn counts_contradict(end: &Entry) -> bool {
        let counts = &end.data["counts"];
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        end.is("validation.passed")
            && counts.is_object()
            && (count("failed") > 0 || (count("passed") == 0 && count("failed") == 0))
    }

    /// All moments of known entries after the time of the start, up to that of the end.
    fn moments(&self, start: Moment, end: Moment, k: u64) -> Vec<Moment> {
        let known = self.known(k).into_iter().map(Entry::moment);
        known.filter(|moment| start.0 < moment.0 && moment.0 <= end.0).collect()
    }

    /// What traffic reached in a lane at `m`.
    pub(crate) fn reached(&self, lane: Lane<'_>, m: Moment, k: u64) -> Standing {
        self.live(lane, m, k).map(|live| live.release)
    }

    /// The releases that stand on the lane's tracks at `m`: what traffic reaches, then each slot.
    fn tracks(&self, lane: Lane<'_>, m: Moment, k: u64) -> Vec<Standing> {
        let mut tracks = vec![self.reached(lane, m, k)];
        for slot in slots(&self.changes(lane[0], lane[1], lane[2], k)) {
            tracks.push(match self.slot(lane, &slot, m, k) {
                Content::Filled(deploy) => Some(deploy.release()),
                _ => None,
            });
        }
        tracks
    }

    /// The deploys to a lane, by moment.
    fn deploys(&self, lane: Lane<'_>, k: u64) -> Vec<&Entry> {
        let mut deploys = self.changes(lane[0], lane[1], lane[2], k);
        deploys.retain(|entry| entry.is("deploy.succeeded"));
        deploys
    }

    /// True if the end names this lane: it may name no target.
    fn is_of_lane(end: &Entry, lane: Lane<'_>) -> bool {
        end.maybe("environment") == Some(lane[0])
            && end.maybe("service") == Some(lane[1])
            && end.maybe("target").is_none_or(|target| target == lane[2])
    }

    /// True if the end is about a whole environment.
    pub(crate) fn is_of_environment(end: &Entry, environment: &str) -> bool {
        end.maybe("environment") == Some(environment) && end.maybe("service").is_none()
    }

    /// Rule 4 for a check that states no artifact: the one release that it was about.
    fn meant(&self, end: &Entry, lane: Lane<'_>, k: u64) -> Option<Release> {
        let stated = end.release();
        let deploys = self.deploys(lane, k);
        let matching = || deploys.iter().filter(|deploy| matches(&stated, &deploy.release()));
        if let Some(deploy) = matching().rfind(|deploy| deploy.moment() <= settled_at(end)) {
            return Some(deploy.release());
        }
        if let Some(artifact) = self.built(lane[1], &stated.version, settled_at(end), k) {
            return Some(Release { artifact: Some(artifact), ..stated });
        }
        let after = matching().find(|deploy| deploy.moment() > settled_at(end));
        Some(after.map_or(stated, |deploy| deploy.release()))
    }

    /// True if the end speaks of a release in a lane, void or not.
    fn speaks_of(&self, end: &Entry, lane: Lane<'_>, release: &Release, k: u64) -> bool {
        if let Some(artifact) = end.maybe("artifact") {
            return release.artifact.as_deref().is_some_and(|other| same_artifact(artifact, other));
        }
        if !Self::is_of_lane(end, lane) {
            return false;
        }
        if end.data["release"].is_object() {
            let stated = end.release();
            if stated.artifact.is_some() {
                return matches(&stated, release);
            }
            let meant = self.meant(end, lane, k);
            return matches(&stated, release) && meant.is_some_and(|meant| !contradicts(&meant, release));
        }
        if let Some(deployment) = end.maybe("deployment") {
            let deploys = self.deploys(lane, k);
            let mut named = deploys.iter().filter(|deploy| deploy.maybe("deployment") == Some(deployment));
            return named.any(|deploy| deploy.release().is_same(release));
        }
        self.reached(lane, settled_at(end), k).is_some_and(|reached| reached.is_same(release))
    }

    /// True if the end is void for a release in a lane: what traffic reached changed during a check that names nothing
    /// else; or the release stood in the lane at some time of the check, but on no track throughout.
    fn straddles_in(&self, end: &Entry, lane: Lane<'_>, release: &Release, k: u64) -> bool {
        let Some(start) = self.start_of(end, k) else { return false };
        let start = (start.0, u64::MAX);
        let moments = settled(self.moments(start, end.moment(), k));
        let key = |standing: &Standing| standing.as_ref().map(Release::key);
        if !end.data["release"].is_object() && end.maybe("deployment").is_none() {
            let before = key(&self.reached(lane, start, k));
            return moments.iter().any(|moment| key(&self.reached(lane, *moment, k)) != before);
        }
        let is_it = |standing: &Standing| standing.as_ref().is_some_and(|other| other.is_same(release));
        let mut times = vec![self.tracks(lane, start, k)];
        times.extend(moments.iter().map(|moment| self.tracks(lane, *moment, k)));
        let stood = times.iter().flatten().any(is_it);
        let throughout = (0..times[0].len()).any(|track| times.iter().all(|tracks| is_it(&tracks[track])));
        stood && !throughout
    }

    /// True if the composition changed between a check's start and its end.
    fn straddles_environment(&self, end: &Entry, environment: &str, k: u64) -> bool {
        let Some(start) = self.start_of(end, k) else { return false };
        let identity = |moment| self.state(environment, moment, k).identity();
        let before = identity((start.0, u64::MAX));
        settled(self.moments(start, end.moment(), k)).into_iter().any(|moment| identity(moment) != before)
    }

    /// True if the end straddles a change for a release that it speaks of, in any lane.
    pub(crate) fn straddles(&self, end: &Entry, k: u64) -> bool {
        let Some(environment) = end.maybe("environment") else { return false };
        if end.maybe("service").is_none() {
            return self.straddles_environment(end, environment, k);
        }
        self.all_lanes(environment, k).iter().any(|(service, target)| {
            let lane = [environment, service, target];
            let ran = self.deploys(lane, k).into_iter().map(Entry::release);
            let mut meant = ran.filter(|release| self.speaks_of(end, lane, release, k));
            Self::is_of_lane(end, lane) && meant.any(|release| self.straddles_in(end, lane, &release, k))
        })
    }

    /// The latest end of a check, not void, that speaks of a release in a lane.
    pub(crate) fn result(&self, lane: Lane<'_>, release: &Release, check: &str, k: u64) -> Option<&Entry> {
        let mut ends = self.ends(k);
        ends.retain(|end| {
            end.text("check") == check
                && !Self::counts_contradict(end)
                && self.speaks_of(end, lane, release, k)
                && !(Self::is_of_lane(end, lane) && self.straddles_in(end, lane, release, k))
        });
        ends.into_iter().max_by_key(|end| end.moment())
    }

    /// The latest end of a check, not void, of a whole environment while it ran this composition.
    pub(crate) fn composition_result(
        &self,
        environment: &str,
        identity: &[Vec<String>],
        check: &str,
        k: u64,
    ) -> Option<&Entry> {
        let mut ends = self.composition_ends(environment, check, k);
        ends.retain(|end| self.state(environment, settled_at(end), k).identity() == identity);
        ends.into_iter().max_by_key(|end| end.moment())
    }

    /// The ends of a check of a whole environment that are not void.
    pub(crate) fn composition_ends(&self, environment: &str, check: &str, k: u64) -> Vec<&Entry> {
        let mut ends = self.ends(k);
        ends.retain(|end| {
            end.text("check") == check
                && Self::is_of_environment(end, environment)
                && !Self::counts_contradict(end)
                && !self.straddles_environment(end, environment, k)
        });
        ends
    }

    /// The names of all checks that are known at K.
    pub(crate) fn check_names(&self, k: u64) -> Vec<String> {
        let mut names: Vec<String> = self.ends(k).iter().map(|end| end.text("check").to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The time of an end, after all that occurred at it: times decide what a check speaks of, not positions.
pub(crate) fn settled_at(end: &Entry) -> Moment {
    (end.occurred_at, u64::MAX)
}

/// Each time once, after all that occurred at it: what stood for no time is no change.
fn settled(mut moments: Vec<Moment>) -> Vec<Moment> {
    moments.iter_mut().for_each(|moment| moment.1 = u64::MAX);
    moments.sort_unstable();
    moments.dedup();
    moments
}
