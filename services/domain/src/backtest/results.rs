//! Starts and ends of checks, and what they say of a release in a lane.
//!
//! This is found when a question is asked: a report that comes late changes what an earlier check speaks of.
//!
//! Decision 0015, section 3, is the specification.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::artifacts::Builds;
use super::environment::push_exactly;
use super::history::{EventTime, LaneHistory, Period};
use super::interned::{Id, Releases, Table};
use crate::checks::{speaks_of, straddles};
use crate::event::{Validation, ValidationSubject};
use crate::known_good::{CheckResult, CheckResults};
use crate::span::Span;
use crate::{Artifact, EnvironmentName, LaneRef, Position, Release, ServiceName, ShortText, TargetName};

/// What a check is of, as its report states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Artifact(Id),
    Environment(Id),
    Lane(Id),
    Release { lane: Id, version: Id },
    Deployment { lane: Id, name: Id },
}

/// What a report of a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckKind {
    Started,
    Passed,
    Failed,
    /// It passed, and its counts contradict that.
    Contradictory,
}

impl CheckKind {
    /// Whether the check passed, for an end that counts.
    pub(super) const fn result(self) -> Option<bool> {
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

/// The latest result of each check: when, and whether it passed.
pub(super) type Latest = BTreeMap<Id, (EventTime, bool)>;

/// The starts and ends of checks, by what they are of.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Names of checks, runs, versions and deployments.
    pub(super) lines: Table<ShortText>,
    environments: Table<EnvironmentName>,
    lanes: Table<LaneRef>,
    artifacts: Table<Artifact>,
    of_artifact_keys: HashMap<String, Vec<Id>>,
    /// In the order of moments.
    events: HashMap<Subject, Vec<CheckEvent>>,
    /// Starts that name a run, by run and check.
    runs: HashMap<(Id, Id), Vec<EventTime>>,
    has_starts: bool,
}

/// A release in a lane, of which the results are asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Examined<'q> {
    pub(super) environment: &'q EnvironmentName,
    pub(super) service: &'q ServiceName,
    pub(super) target: &'q TargetName,
    pub(super) lane: &'q LaneHistory,
    pub(super) periods: &'q [Period],
    pub(super) release: Id,
    /// The ends of this time count.
    pub(super) during: Span,
}

/// What was deployed and built, by which checks find what they mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'q> {
    pub(super) releases: &'q Releases,
    pub(super) builds: &'q Builds,
}

impl Checks {
    /// Adds the start or the end of a check; returns its subject, and whether it is a start that other subjects may share.
    pub(super) fn add(
        &mut self,
        validation: &Validation,
        kind: CheckKind,
        at: EventTime,
        releases: &mut Releases,
    ) -> (Subject, bool) {
        let (subject, stated) = self.subject(&validation.subject, releases);
        let check = self.lines.id(&validation.check);
        let run = validation.run.as_ref().map(|run| self.lines.id(run));
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
        push_exactly(events, CheckEvent { at, check, run, stated, kind });
        events[index..].rotate_right(1);
        (subject, kind == CheckKind::Started && run.is_some())
    }

    /// Takes back what a corrected event said of a subject; returns its time, and whether it was a start that other subjects may share.
    pub(super) fn take_back(
        &mut self,
        subject: Subject,
        corrected: Position,
    ) -> Option<(DateTime<Utc>, bool)> {
        let events = self.events.get_mut(&subject)?;
        let index = events.iter().position(|event| event.at.position == corrected)?;
        let CheckEvent { at, check, run, kind, .. } = events.remove(index);
        let shared = run.filter(|_| kind == CheckKind::Started);
        if let Some(starts) = shared.and_then(|run| self.runs.get_mut(&(run, check))) {
            starts.retain(|start| *start != at);
        }
        Some((at.occurred_at, shared.is_some()))
    }

    fn subject(&mut self, subject: &ValidationSubject, releases: &mut Releases) -> (Subject, Option<Id>) {
        match subject {
            ValidationSubject::Artifact(artifact) => {
                let (id, is_new) = self.artifacts.enter(artifact);
                if is_new {
                    for key in artifact.keys() {
                        self.of_artifact_keys.entry(key).or_default().push(id);
                    }
                }
                (Subject::Artifact(id), None)
            }
            ValidationSubject::Environment(environment) => {
                (Subject::Environment(self.environments.id(environment)), None)
            }
            ValidationSubject::Lane { lane, release: Some(release), .. } => {
                let (lane, version) = (self.lanes.id(lane), self.lines.id(&release.version));
                (Subject::Release { lane, version }, Some(releases.id(release)))
            }
            ValidationSubject::Lane { lane, release: None, deployment: Some(deployment) } => {
                let (lane, name) = (self.lanes.id(lane), self.lines.id(deployment));
                (Subject::Deployment { lane, name }, None)
            }
            ValidationSubject::Lane { lane, release: None, deployment: None } => {
                (Subject::Lane(self.lanes.id(lane)), None)
            }
        }
    }

    fn events(&self, subject: Subject) -> &[CheckEvent] {
        self.events.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// Returns the starts and ends of checks of an environment as a whole.
    pub(super) fn of_environment(&self, environment: &EnvironmentName) -> &[CheckEvent] {
        self.environments.find(environment).map_or(&[], |id| self.events(Subject::Environment(id)))
    }

    /// Returns when the check began that ended with an event.
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

    /// Adds the latest ends of a subject within a time that are accepted, by their indexes.
    fn collect(
        &self,
        subject: Subject,
        during: Span,
        latest: &mut Latest,
        accepts: impl Fn(&[CheckEvent], usize) -> bool,
    ) {
        let events = self.events(subject);
        let first = events.partition_point(|event| event.at.occurred_at < during.from);
        let end = events.partition_point(|event| event.at.occurred_at < during.until);
        for index in (first..end).rev() {
            let CheckEvent { at, check, kind, .. } = events[index];
            let Some(passed) = kind.result() else { continue };
            let is_known = latest.get(&check).is_some_and(|(later, _)| *later >= at);
            if !is_known && accepts(events, index) {
                latest.insert(check, (at, passed));
            }
        }
    }

    /// Returns the latest result of each check for a release in a lane.
    pub(super) fn results(&self, of: &Examined<'_>, known: Known<'_>) -> Latest {
        let mut latest = Latest::new();
        let release = known.releases.get(of.release);
        if let Some(artifact) = release.artifact.as_ref().filter(|_| !self.of_artifact_keys.is_empty()) {
            let keys = artifact.keys();
            let checked = keys.iter().filter_map(|key| self.of_artifact_keys.get(key)).flatten();
            for checked in checked.filter(|checked| self.artifacts.get(**checked).is_same(artifact)) {
                self.collect(Subject::Artifact(*checked), of.during, &mut latest, |_, _| true);
            }
        }
        for target in [Some(of.target.clone()), None] {
            let (environment, service) = (of.environment.clone(), of.service.clone());
            if let Some(lane) = self.lanes.find(&LaneRef { environment, service, target }) {
                self.results_in(lane, of, release, known, &mut latest);
            }
        }
        latest
    }

    fn results_in(
        &self,
        lane: Id,
        of: &Examined<'_>,
        release: &Release,
        known: Known<'_>,
        latest: &mut Latest,
    ) {
        let tracks = std::cell::OnceCell::new();
        let stays = |events: &[CheckEvent], index: usize| {
            let Some(start) = self.start_of(events, index) else { return true };
            let tracks = tracks.get_or_init(|| of.lane.track_spans(of.release, of.periods));
            !straddles(start, events[index].at.occurred_at, tracks)
        };
        if let Some(version) = self.lines.find(&release.version) {
            let deploys = std::cell::OnceCell::new();
            let of_version = || of.lane.deploys_of_version(&release.version, known.releases);
            self.collect(Subject::Release { lane, version }, of.during, latest, |events, index| {
                let CheckEvent { at, stated, .. } = events[index];
                let Some(stated) = stated.map(|stated| known.releases.get(stated)) else { return false };
                let built = known.builds.meant(of.service, &release.version, at.occurred_at);
                let deploys = deploys.get_or_init(of_version);
                speaks_of(stated, at.occurred_at, deploys, built, release) && stays(events, index)
            });
        }
        for name in of.lane.deployments_of(of.release) {
            self.collect(Subject::Deployment { lane, name }, of.during, latest, stays);
        }
        if self.events.contains_key(&Subject::Lane(lane)) {
            for span in of.lane.live_spans(of.release, of.periods) {
                let Some(during) = span.and(&of.during) else { continue };
                self.collect(Subject::Lane(lane), during, latest, |events, index| {
                    self.start_of(events, index).is_none_or(|start| start >= span.from)
                });
            }
        }
    }

    /// Returns results with the names of their checks.
    pub(super) fn verdicts(&self, latest: &Latest) -> CheckResults {
        let mut verdicts = CheckResults::default();
        for (check, (at, passed)) in latest {
            let EventTime { occurred_at, position } = *at;
            verdicts
                .add(self.lines.get(*check).clone(), CheckResult { passed: *passed, occurred_at, position });
        }
        verdicts
    }
}
