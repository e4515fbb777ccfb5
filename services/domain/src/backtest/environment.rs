//! The history of an environment: its lanes, its policy, and the check results and marks of its compositions.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::history::{ALWAYS, ChangeDetails, LaneHistory, Period};
use super::interned::{Id, Releases, push_compact};
use super::results::{CheckEvent, Checks, LaneRelease, LatestResults, ReleaseCatalog};
use crate::event::Policy;
use crate::gate::{CompositionEvidence, TargetEvidence, best_by_target};
use crate::known_good::Marked;
use crate::retirement::{RetirementStatus, Retirements};
use crate::span::{Span, longest};
use crate::{
    CompositionId, CompositionIndex, Effect, EnvironmentName, EventTime, LaneFold, LaneRef, Position,
    Release, ServiceName, ShortText, TargetName, Track, TrackEntry,
};

/// The lanes of an environment.
pub(super) type Lanes = BTreeMap<ServiceName, BTreeMap<TargetName, LaneHistory>>;

/// The history of an environment, from the events applied so far.
#[derive(Debug)]
pub(super) struct EnvironmentHistory {
    pub(super) policy: Policy,
    retirements: Retirements,
    /// The times of retirements and declarations, sorted.
    retirement_times: Vec<DateTime<Utc>>,
    /// The periods between retirements.
    periods: Vec<Period>,
    lanes: Lanes,
    /// The deploys that state an artifact, by service and version, each list ordered by time.
    stating_deploys: HashMap<ServiceName, HashMap<ShortText, Vec<(EventTime, Id)>>>,
    composition_results: CompositionResults,
    /// The unrevoked marks of each composition, each with the marked position.
    marks: BTreeMap<CompositionId, Vec<(Position, Marked)>>,
}

impl Default for EnvironmentHistory {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            retirements: Retirements::default(),
            retirement_times: Vec::new(),
            periods: vec![Period::ALWAYS],
            lanes: Lanes::new(),
            stating_deploys: HashMap::new(),
            composition_results: CompositionResults::default(),
            marks: BTreeMap::new(),
        }
    }
}

/// The results of checks of the whole environment, by the composition that was checked.
#[derive(Debug, Default)]
pub(super) struct CompositionResults {
    /// The ends of checks that count, ordered by time: time, check, and true if it passed.
    results: HashMap<CompositionId, Vec<(EventTime, Id, bool)>>,
    /// The composition of each end that counts, ordered by time.
    ends: Vec<(EventTime, CompositionId)>,
    /// The time from which on the compositions of ends may have changed.
    stale_from: Option<DateTime<Utc>>,
    cursor: CompositionCursor,
}

/// The composition at some time. Moving it to another time costs only the lanes that differ.
#[derive(Debug, Default)]
struct CompositionCursor {
    index: CompositionIndex,
    live: Vec<Option<Id>>,
}

impl CompositionCursor {
    fn id_at(
        &mut self,
        time: DateTime<Utc>,
        lanes: &Lanes,
        periods: &[Period],
        releases: &Releases,
    ) -> CompositionId {
        let count = lanes.values().map(BTreeMap::len).sum();
        if self.live.len() != count {
            *self = Self { index: CompositionIndex::default(), live: vec![None; count] };
        }
        let lanes = lanes
            .iter()
            .flat_map(|(service, of)| of.iter().map(move |(target, lane)| (service, target, lane)));
        for ((service, target, lane), current) in lanes.zip(&mut self.live) {
            let live = lane.live_at(time, periods);
            if live != *current {
                self.index.set(service, target, live.map(|id| releases.get(id)));
                *current = live;
            }
        }
        self.index.id()
    }
}

impl CompositionResults {
    /// Marks the results from a time on as stale.
    pub(super) fn invalidate(&mut self, from: DateTime<Utc>) {
        self.stale_from = Some(self.stale_from.map_or(from, |other| other.min(from)));
    }

    /// Recomputes the stale results.
    fn update(
        &mut self,
        checks: &Checks,
        events: &[CheckEvent],
        lanes: &Lanes,
        periods: &[Period],
        releases: &Releases,
    ) {
        let Some(from) = self.stale_from.take() else { return };
        let kept = self.ends.partition_point(|(at, _)| at.occurred_at < from);
        for (at, composition) in self.ends.split_off(kept) {
            if let Entry::Occupied(mut results) = self.results.entry(composition) {
                results.get_mut().retain(|(other, ..)| *other < at);
                if results.get().is_empty() {
                    results.remove();
                }
            }
        }
        let first = events.partition_point(|event| event.at.occurred_at < from);
        for index in first..events.len() {
            let CheckEvent { at, check, kind, .. } = events[index];
            let Some(passed) = kind.passed() else { continue };
            let start = checks.start_of(events, index);
            let changes = start.map(|start| changes_between(start, at.occurred_at, lanes, periods));
            let composition = self.cursor.id_at(at.occurred_at, lanes, periods, releases);
            let mut times = start.into_iter().chain(changes.into_iter().flatten());
            if times.all(|time| self.cursor.id_at(time, lanes, periods, releases) == composition) {
                self.ends.push((at, composition));
                push_compact(self.results.entry(composition).or_default(), (at, check, passed));
            }
        }
    }

    fn latest(&self, composition: CompositionId) -> LatestResults {
        let mut latest = LatestResults::new();
        for (at, check, passed) in self.results.get(&composition).into_iter().flatten() {
            latest.insert(*check, (*at, *passed));
        }
        latest
    }

    /// Returns the compositions that were checked within a span.
    fn checked_within(&self, span: &Span) -> impl Iterator<Item = CompositionId> {
        let first = self.ends.partition_point(|(at, _)| at.occurred_at < span.from);
        let ends = self.ends[first..].iter().take_while(|(at, _)| at.occurred_at < span.until);
        ends.map(|(_, composition)| *composition)
    }
}

/// Returns the times after one time and up to another at which a lane changed or a period started or ended.
fn changes_between(
    after: DateTime<Utc>,
    until: DateTime<Utc>,
    lanes: &Lanes,
    periods: &[Period],
) -> BTreeSet<DateTime<Utc>> {
    let lanes = lanes.values().flat_map(BTreeMap::values);
    let changes = lanes.flat_map(|lane| lane.changes_between(after, until));
    let retirements = periods.iter().flat_map(Period::bounds).filter(|time| after < *time && *time <= until);
    changes.chain(retirements).collect()
}

impl EnvironmentHistory {
    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub(super) fn periods(&self) -> &[Period] {
        &self.periods
    }

    pub(super) fn lane(&self, service: &ServiceName, target: &TargetName) -> Option<&LaneHistory> {
        self.lanes.get(service)?.get(target)
    }

    pub(super) const fn composition_results_mut(&mut self) -> &mut CompositionResults {
        &mut self.composition_results
    }

    /// Returns the target of a report that changes a lane; `None` if it is ambiguous.
    pub(super) fn target_of(&self, lane: &LaneRef) -> Option<TargetName> {
        let status = self.retirements.last();
        let lanes = self.lanes.get(&lane.service).into_iter().flatten();
        lane.only_target(lanes.map(|(target, history)| (target, history.fold().occupancy(status)))).ok()
    }

    /// Applies a change to a lane.
    pub(super) fn apply(
        &mut self,
        (service, target): (&ServiceName, &TargetName),
        track: Track,
        entry: TrackEntry,
        details: ChangeDetails,
        releases: &mut Releases,
    ) {
        self.composition_results.invalidate(entry.since.occurred_at);
        if let Effect::Deployed(release) = &entry.effect
            && release.artifact.is_some()
        {
            let deploy = (entry.since.event_time(), releases.intern(release));
            let of_service = self.stating_deploys.entry(service.clone()).or_default();
            let deploys = of_service.entry(release.version.clone()).or_default();
            let index = deploys.partition_point(|other| *other < deploy);
            push_compact(deploys, deploy);
            deploys[index..].rotate_right(1);
        }
        let lanes = self.lanes.entry(service.clone()).or_default();
        let lane = lanes.entry(target.clone()).or_default();
        lane.apply(track, entry, details, &self.periods, releases);
    }

    /// Reverts the change of a corrected event to a lane.
    pub(super) fn revert(
        &mut self,
        (service, target): (&ServiceName, &TargetName),
        corrected: Position,
        known_from: Position,
        releases: &Releases,
    ) {
        let lane = self.lanes.get_mut(service).and_then(|lanes| lanes.get_mut(target));
        let reverted = lane.and_then(|lane| lane.revert(corrected, known_from, &self.periods, releases));
        let Some((at, deployed)) = reverted else { return };
        self.composition_results.invalidate(at.occurred_at);
        let of_service = self.stating_deploys.get_mut(service);
        if let Some(deploys) = deployed.zip(of_service).and_then(|(release, of)| of.get_mut(&release.version))
        {
            let index = deploys.partition_point(|(other, _)| *other < at);
            if deploys.get(index).is_some_and(|(other, _)| *other == at) {
                deploys.remove(index);
            }
        }
    }

    /// Adds a retirement or a declaration of the environment.
    pub(super) fn add_retirement(&mut self, at: EventTime, retires: bool, releases: &Releases) {
        self.retirements.add(at.occurred_at, at.position, retires);
        let index = self.retirement_times.partition_point(|time| *time <= at.occurred_at);
        self.retirement_times.insert(index, at.occurred_at);
        if self.retirements.is_empty() {
            return;
        }
        self.periods = Period::between(&self.retirements, &self.retirement_times);
        for lane in self.lanes.values_mut().flat_map(BTreeMap::values_mut) {
            lane.recompute(at.position, &self.periods, releases);
        }
        self.composition_results.invalidate(ALWAYS.from);
    }

    /// Returns the state of the environment at a time: open or retired.
    pub(super) fn standing(&self, time: DateTime<Utc>) -> RetirementStatus {
        self.retirements.at(time)
    }

    /// Returns the changes of a lane that determine its present content.
    pub(super) fn present(
        &self,
        service: &ServiceName,
        target: &TargetName,
        standing: RetirementStatus,
    ) -> Option<Cow<'_, LaneFold>> {
        Some(self.lane(service, target)?.fold().without_discarded_changes(standing))
    }

    /// Marks the composition at a position, as known there.
    pub(super) fn mark(&mut self, point: Position, marked: Marked, releases: &Releases) {
        let composition = self.composition_known_at(point, releases);
        self.marks.entry(composition).or_default().push((point, marked));
    }

    /// Removes the marks of the composition at a position, as known there.
    pub(super) fn unmark(&mut self, point: Position, releases: &Releases) {
        let composition = self.composition_known_at(point, releases);
        self.marks.remove(&composition);
    }

    fn composition_known_at(&self, point: Position, releases: &Releases) -> CompositionId {
        let mut index = CompositionIndex::default();
        for (service, lanes) in &self.lanes {
            for (target, lane) in lanes {
                let live = lane.live_known_at(point);
                index.set(service, target, live.map(|id| releases.get(id)));
            }
        }
        index.id()
    }

    /// Recomputes the stale results of compositions.
    pub(super) fn update_composition_results(
        &mut self,
        name: &EnvironmentName,
        checks: &Checks,
        releases: &Releases,
    ) {
        let events = checks.of_environment(name);
        self.composition_results.update(checks, events, &self.lanes, &self.periods, releases);
    }

    /// Returns the evidence about a requested release of a service at each target at which traffic reached it.
    /// `releases` are those that may count as the requested one, with the artifact that they have in the lane.
    pub(super) fn evidence(
        &self,
        (name, service): (&EnvironmentName, &ServiceName),
        (requested, releases): (&Release, &[Id]),
        (checks, catalog): (&Checks, ReleaseCatalog<'_>),
        now: DateTime<Utc>,
    ) -> Vec<TargetEvidence> {
        let lanes = self.lanes.get(service).into_iter().flatten();
        let ran = lanes.flat_map(|(target, lane)| {
            releases.iter().filter_map(move |release| {
                let lane_release = LaneRelease {
                    environment: name,
                    service,
                    target,
                    lane,
                    periods: &self.periods,
                    release: *release,
                    during: ALWAYS,
                };
                catalog
                    .counts_as_requested(&lane_release, requested)
                    .then(|| self.evidence_of(&lane_release, checks, catalog, now))
                    .flatten()
            })
        });
        best_by_target(&self.policy, ran)
    }

    fn evidence_of(
        &self,
        lane_release: &LaneRelease<'_>,
        checks: &Checks,
        catalog: ReleaseCatalog<'_>,
        now: DateTime<Utc>,
    ) -> Option<TargetEvidence> {
        let deployed = lane_release.lane.deploy_times(lane_release.release).map(|at| at.position).max()?;
        let live = lane_release.lane.live_spans(lane_release.release, lane_release.periods, catalog.releases);
        // A release that was only in an idle slot has no run, and therefore no evidence.
        let longest_run = longest(&live, now)?;
        let mut ids: BTreeSet<CompositionId> = BTreeSet::new();
        for span in &live {
            ids.extend(self.composition_results.checked_within(span));
        }
        for (id, marks) in &self.marks {
            let point = marks.last().map(|(point, _)| *point);
            let live = point.and_then(|point| lane_release.lane.live_known_at(point));
            if catalog.releases.is_same(live, Some(lane_release.release)) {
                ids.insert(*id);
            }
        }
        let compositions = ids.into_iter().map(|id| CompositionEvidence {
            results: checks.named_results(&self.composition_results.latest(id)),
            marked: self.marks.get(&id).and_then(|marks| marks.last()).map(|(_, marked)| marked.clone()),
        });
        Some(TargetEvidence {
            target: lane_release.target.clone(),
            deployed,
            results: checks.named_results(&checks.results(lane_release, catalog)),
            compositions: compositions.collect(),
            longest_run,
        })
    }

    /// Returns the failures among the latest results of compositions. Each is returned for the lanes with the change
    /// that started the composition: service, target, the lane's release in the composition, time and check.
    pub(super) fn failed_compositions(
        &self,
        name: &EnvironmentName,
        checks: &Checks,
        releases: &Releases,
    ) -> Vec<(&ServiceName, &TargetName, Id, EventTime, Id)> {
        let mut compositions = CompositionResults::default();
        compositions.invalidate(ALWAYS.from);
        compositions.update(checks, checks.of_environment(name), &self.lanes, &self.periods, releases);
        let mut failed = Vec::new();
        for composition in compositions.results.keys() {
            for (check, (at, passed)) in compositions.latest(*composition) {
                if !passed {
                    let started_by = self.lanes_that_started_composition(at.occurred_at, releases);
                    failed.extend(
                        started_by.into_iter().map(|(service, target, id)| (service, target, id, at, check)),
                    );
                }
            }
        }
        failed
    }

    /// Returns the lanes with the change that started the composition at a time, and their live releases.
    fn lanes_that_started_composition(
        &self,
        time: DateTime<Utc>,
        releases: &Releases,
    ) -> Vec<(&ServiceName, &TargetName, Id)> {
        let mut last = None;
        let mut lanes = Vec::new();
        for (service, of) in &self.lanes {
            for (target, lane) in of {
                let Some((index, state)) = lane.run_start(time, releases) else { continue };
                let start = lane.change_time(index).occurred_at;
                if last < Some(start) {
                    last = Some(start);
                    lanes.clear();
                }
                if last == Some(start) {
                    lanes.extend(state.live.map(|live| (service, target, live)));
                }
            }
        }
        lanes
    }

    /// Returns the last deploy up to a moment of a version of a service among the deploys that state an artifact.
    pub(super) fn last_stating_deploy(
        &self,
        service: &ServiceName,
        version: &ShortText,
        until: EventTime,
    ) -> Option<(EventTime, Id)> {
        let deploys = self.stating_deploys(service, version);
        let count = deploys.partition_point(|(at, _)| *at <= until);
        deploys[..count].last().copied()
    }

    /// Returns the first deploy after a time of a version of a service among the deploys that state an artifact.
    pub(super) fn first_stating_deploy(
        &self,
        service: &ServiceName,
        version: &ShortText,
        after: DateTime<Utc>,
    ) -> Option<(EventTime, Id)> {
        let deploys = self.stating_deploys(service, version);
        let count = deploys.partition_point(|(at, _)| at.occurred_at <= after);
        deploys.get(count).copied()
    }

    fn stating_deploys(&self, service: &ServiceName, version: &ShortText) -> &[(EventTime, Id)] {
        let deploys = self.stating_deploys.get(service).and_then(|of| of.get(version));
        deploys.map_or(&[], Vec::as_slice)
    }
}
