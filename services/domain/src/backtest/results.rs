//! The starts and ends of checks, and their results for a release in a lane.
//!
//! Results are computed per query: a late report changes which release an earlier check refers to.
//!
//! Decision 0015, section 3, is the specification.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chrono::{DateTime, Utc};

use super::artifacts::Builds;
use super::history::{LaneHistory, Period};
use super::interned::{Id, Interner, Releases, push_compact};
use crate::checks::{artifact_in_lane, choose_release, speaks_of_lazily, straddles};
use crate::event::{Validation, ValidationSubject};
use crate::gate::counts_as_requested;
use crate::known_good::{CheckResult, CheckResults};
use crate::span::Span;
use crate::{
    Artifact, EnvironmentName, EventTime, LaneRef, Position, Release, ServiceName, ShortText, TargetName,
};

/// The subject of a check, as its report states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Artifact(Id),
    Environment(Id),
    Lane(Id),
    Release { lane: Id, version: Id },
    Deployment { lane: Id, name: Id },
}

/// The kind of a check event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckKind {
    Started,
    Passed,
    Failed,
    /// The check passed, but its counts contradict that. The event does not count.
    Contradictory,
}

impl CheckKind {
    /// Returns true for a pass and false for a failure; `None` for an event that is not an end, or does not count.
    pub(super) const fn passed(self) -> Option<bool> {
        match self {
            Self::Passed => Some(true),
            Self::Failed => Some(false),
            Self::Started | Self::Contradictory => None,
        }
    }
}

/// The start or the end of a check.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckEvent {
    pub(super) at: EventTime,
    pub(super) check: Id,
    run: Option<Id>,
    /// The release that the report states.
    stated: Option<Id>,
    pub(super) kind: CheckKind,
}

/// The latest result of each check: its time, and true if it passed.
pub(super) type LatestResults = BTreeMap<Id, (EventTime, bool)>;

/// The starts and ends of checks, by subject.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The names of checks, runs, versions and deployments.
    pub(super) texts: Interner<ShortText>,
    environments: Interner<EnvironmentName>,
    lanes: Interner<LaneRef>,
    artifacts: Interner<Artifact>,
    artifacts_by_key: HashMap<String, Vec<Id>>,
    /// The events of each subject, ordered by time.
    events: HashMap<Subject, Vec<CheckEvent>>,
    /// The starts that name a run, by run and check.
    runs: HashMap<(Id, Id), Vec<EventTime>>,
    has_starts: bool,
    /// True if some check states an artifact, alone or with a release.
    states_artifacts: bool,
}

/// A release in a lane, and the span for which its results are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneRelease<'q> {
    pub(super) environment: &'q EnvironmentName,
    pub(super) service: &'q ServiceName,
    pub(super) target: &'q TargetName,
    pub(super) lane: &'q LaneHistory,
    pub(super) periods: &'q [Period],
    pub(super) release: Id,
    /// The span in which ends count.
    pub(super) during: Span,
}

/// The artifacts that versions mean, by the events applied so far.
pub(super) trait VersionMeanings: fmt::Debug {
    /// Returns the artifact of a deploy at a time that states only a version: the one that the version means then in the
    /// environment or, if it means none, the first that it means after that.
    fn artifact_of_deploy(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact>;
}

/// The known releases and builds, and the artifacts that versions mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReleaseCatalog<'q> {
    pub(super) releases: &'q Releases,
    pub(super) builds: &'q Builds,
    pub(super) meanings: &'q dyn VersionMeanings,
}

impl ReleaseCatalog<'_> {
    /// Returns the artifact of a release in its lane.
    fn artifact_of(&self, of: &LaneRelease<'_>) -> Option<Artifact> {
        let release = self.releases.get(of.release);
        let last_deploy = of.lane.last_deploy(of.release).map(|at| at.occurred_at);
        let of_deploy =
            |at| self.meanings.artifact_of_deploy(of.environment, of.service, &release.version, at).cloned();
        artifact_in_lane(release, last_deploy, of_deploy)
    }

    /// Returns true if a release that was deployed to its lane counts as the requested one for promotion.
    pub(super) fn counts_as_requested(&self, of: &LaneRelease<'_>, requested: &Release) -> bool {
        let deployed = self.releases.get(of.release);
        let needs_artifact = requested.artifact.is_some() && deployed.artifact.is_none();
        if of.lane.last_deploy(of.release).is_none() {
            return false;
        }
        let artifact = if needs_artifact { self.artifact_of(of) } else { None };
        counts_as_requested(requested, deployed, artifact.as_ref())
    }

    /// Returns true if more than one artifact is known for a version: only then can it have meant several. Compares
    /// identities: [`Artifact::is_same`] is not transitive.
    fn is_ambiguous(&self, version: &ShortText) -> bool {
        let stated = self.releases.of_version(version).iter();
        let stated = stated.filter_map(|id| self.releases.get(*id).artifact.as_ref());
        let mut known = stated.chain(self.builds.of_version(version)).map(Artifact::identity);
        known.next().is_some_and(|first| known.any(|other| other != first))
    }

    /// Returns the release that the end of a check means if it states some parts of one but not its artifact.
    fn release_of_check(&self, stated: &Release, at: DateTime<Utc>, of: &LaneRelease<'_>) -> Release {
        let completed = |(deployed, id): (EventTime, Id)| {
            let release = self.releases.get(id);
            let (environment, version, at) = (of.environment, &release.version, deployed.occurred_at);
            let of_deploy =
                || self.meanings.artifact_of_deploy(environment, of.service, version, at).cloned();
            release.completed(release.artifact.clone().or_else(of_deploy))
        };
        let last_before = of.lane.last_match(stated, at, self.releases).map(completed);
        let first_after = || of.lane.first_match(stated, at, self.releases).map(completed);
        let built = match last_before {
            Some(_) => None,
            None => self.builds.built_artifact(of.service, &stated.version, EventTime::end_of(at)),
        };
        choose_release(stated, last_before, built, first_after)
    }
}

impl Checks {
    /// Adds the start or the end of a check. Returns its subject, and true for a start that ends of other subjects may
    /// refer to by its run.
    pub(super) fn add(
        &mut self,
        validation: &Validation,
        kind: CheckKind,
        at: EventTime,
        releases: &mut Releases,
    ) -> (Subject, bool) {
        let (subject, stated) = self.subject(&validation.subject, releases);
        self.states_artifacts |= matches!(subject, Subject::Artifact(_))
            || stated.is_some_and(|stated| releases.get(stated).artifact.is_some());
        let check = self.texts.intern(&validation.check);
        let run = validation.run.as_ref().map(|run| self.texts.intern(run));
        if kind == CheckKind::Started {
            self.has_starts = true;
            if let Some(run) = run {
                let starts = self.runs.entry((run, check)).or_default();
                let index = starts.partition_point(|other| *other < at);
                starts.insert(index, at);
            }
        }
        let events = self.events.entry(subject).or_default();
        let index = events.partition_point(|other| other.at < at);
        push_compact(events, CheckEvent { at, check, run, stated, kind });
        events[index..].rotate_right(1);
        (subject, kind == CheckKind::Started && run.is_some())
    }

    /// Reverts a corrected event of a subject. Returns its time, and true for a start that ends of other subjects may
    /// refer to by its run.
    pub(super) fn revert(&mut self, subject: Subject, corrected: Position) -> Option<(DateTime<Utc>, bool)> {
        let events = self.events.get_mut(&subject)?;
        let index = events.iter().position(|event| event.at.position == corrected)?;
        let CheckEvent { at, check, run, kind, .. } = events.remove(index);
        let shared_run = run.filter(|_| kind == CheckKind::Started);
        if let Some(starts) = shared_run.and_then(|run| self.runs.get_mut(&(run, check))) {
            starts.retain(|start| *start != at);
        }
        Some((at.occurred_at, shared_run.is_some()))
    }

    fn subject(&mut self, subject: &ValidationSubject, releases: &mut Releases) -> (Subject, Option<Id>) {
        match subject {
            ValidationSubject::Artifact(artifact) => {
                let (id, is_new) = self.artifacts.intern_full(artifact);
                if is_new {
                    for key in artifact.keys() {
                        self.artifacts_by_key.entry(key).or_default().push(id);
                    }
                }
                (Subject::Artifact(id), None)
            }
            ValidationSubject::Environment(environment) => {
                (Subject::Environment(self.environments.intern(environment)), None)
            }
            ValidationSubject::Lane { lane, release: Some(release), .. } => {
                let (lane, version) = (self.lanes.intern(lane), self.texts.intern(&release.version));
                (Subject::Release { lane, version }, Some(releases.intern(release)))
            }
            ValidationSubject::Lane { lane, release: None, deployment: Some(deployment) } => {
                let (lane, name) = (self.lanes.intern(lane), self.texts.intern(deployment));
                (Subject::Deployment { lane, name }, None)
            }
            ValidationSubject::Lane { lane, release: None, deployment: None } => {
                (Subject::Lane(self.lanes.intern(lane)), None)
            }
        }
    }

    fn events(&self, subject: Subject) -> &[CheckEvent] {
        self.events.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// Returns the starts and ends of checks of a whole environment.
    pub(super) fn of_environment(&self, environment: &EnvironmentName) -> &[CheckEvent] {
        self.environments.id_of(environment).map_or(&[], |id| self.events(Subject::Environment(id)))
    }

    /// Returns the start time of the check that ended with the event at an index.
    pub(super) fn start_of(&self, events: &[CheckEvent], end: usize) -> Option<DateTime<Utc>> {
        if !self.has_starts {
            return None;
        }
        let (before, end) = (&events[..end], &events[end]);
        if let Some(run) = end.run {
            let starts = self.runs.get(&(run, end.check))?;
            let until = starts.partition_point(|start| *start <= end.at);
            return starts[..until].last().map(|start| start.occurred_at);
        }
        let of_check = before.iter().rev().filter(|event| event.check == end.check);
        let mut of_check = of_check.filter(|event| event.kind != CheckKind::Started || event.run.is_none());
        of_check.next().filter(|event| event.kind == CheckKind::Started).map(|start| start.at.occurred_at)
    }

    /// Adds the latest accepted end of each check of a subject within a span. `accepts` takes the events and an index.
    fn collect(
        &self,
        subject: Subject,
        during: Span,
        latest: &mut LatestResults,
        accepts: impl Fn(&[CheckEvent], usize) -> bool,
    ) {
        let events = self.events(subject);
        let first = events.partition_point(|event| event.at.occurred_at < during.from);
        let end = events.partition_point(|event| event.at.occurred_at < during.until);
        for index in (first..end).rev() {
            let CheckEvent { at, check, kind, .. } = events[index];
            let Some(passed) = kind.passed() else { continue };
            let has_later = latest.get(&check).is_some_and(|(later, _)| *later >= at);
            if !has_later && accepts(events, index) {
                latest.insert(check, (at, passed));
            }
        }
    }

    /// Returns the latest result of each check for a release in a lane.
    pub(super) fn results(&self, of: &LaneRelease<'_>, catalog: ReleaseCatalog<'_>) -> LatestResults {
        let mut latest = LatestResults::new();
        let version = &catalog.releases.get(of.release).version;
        let artifact = (self.states_artifacts || catalog.is_ambiguous(version))
            .then(|| catalog.artifact_of(of))
            .flatten();
        if let Some(artifact) = &artifact {
            let keys = artifact.keys();
            let checked = keys.iter().filter_map(|key| self.artifacts_by_key.get(key)).flatten();
            for checked in checked.filter(|checked| self.artifacts.get(**checked).is_same(artifact)) {
                self.collect(Subject::Artifact(*checked), of.during, &mut latest, |_, _| true);
            }
        }
        for target in [Some(of.target.clone()), None] {
            let (environment, service) = (of.environment.clone(), of.service.clone());
            if let Some(lane) = self.lanes.id_of(&LaneRef { environment, service, target }) {
                self.add_lane_results(lane, of, artifact.as_ref(), catalog, &mut latest);
            }
        }
        latest
    }

    /// Adds the latest results of checks that name a lane.
    fn add_lane_results(
        &self,
        lane: Id,
        of: &LaneRelease<'_>,
        artifact: Option<&Artifact>,
        catalog: ReleaseCatalog<'_>,
        latest: &mut LatestResults,
    ) {
        let release = catalog.releases.get(of.release);
        let tracks = std::cell::OnceCell::new();
        let does_not_straddle = |events: &[CheckEvent], index: usize| {
            let Some(start) = self.start_of(events, index) else { return true };
            let tracks = tracks.get_or_init(|| of.lane.track_spans(of.release, of.periods, catalog.releases));
            !straddles(start, events[index].at.occurred_at, tracks)
        };
        if let Some(version) = self.texts.id_of(&release.version) {
            self.collect(Subject::Release { lane, version }, of.during, latest, |events, index| {
                let CheckEvent { at, stated, .. } = events[index];
                let Some(stated) = stated.map(|stated| catalog.releases.get(stated)) else { return false };
                let of_check = || catalog.release_of_check(stated, at.occurred_at, of);
                speaks_of_lazily(stated, of_check, (release, artifact)) && does_not_straddle(events, index)
            });
        }
        for name in of.lane.deployments_of(of.release, catalog.releases) {
            self.collect(Subject::Deployment { lane, name }, of.during, latest, does_not_straddle);
        }
        if self.events.contains_key(&Subject::Lane(lane)) {
            for span in of.lane.live_spans(of.release, of.periods, catalog.releases) {
                let Some(during) = span.and(&of.during) else { continue };
                self.collect(Subject::Lane(lane), during, latest, |events, index| {
                    self.start_of(events, index).is_none_or(|start| start >= span.from)
                });
            }
        }
    }

    /// Returns results with the names of their checks.
    pub(super) fn named_results(&self, latest: &LatestResults) -> CheckResults {
        let mut results = CheckResults::default();
        for (check, (at, passed)) in latest {
            let EventTime { occurred_at, position } = *at;
            results
                .add(self.texts.get(*check).clone(), CheckResult { passed: *passed, occurred_at, position });
        }
        results
    }
}
