//! An environment: its lanes, its policy, the results and marks of its compositions.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::history::{ALWAYS, Details, EventTime, LaneHistory, Period};
use super::interned::{Id, Releases};
use super::results::{CheckEvent, Checks, Examined, Known, Latest};
use crate::event::Policy;
use crate::gate::{CompositionEvidence, ReleaseJudgement, TargetEvidence, judge_release};
use crate::known_good::{Marked, Status};
use crate::retirement::{Retirements, Standing};
use crate::span::Span;
use crate::{
    CompositionId, CompositionIndex, EnvironmentName, LaneFold, LaneRef, Position, ServiceName, ShortText,
    TargetName, Track, TrackEntry,
};

/// The lanes of an environment.
pub(super) type Lanes = BTreeMap<ServiceName, BTreeMap<TargetName, LaneHistory>>;

/// An environment, as far as it is known.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) policy: Policy,
    retirements: Retirements,
    /// The times of retirements and declarations, sorted.
    retirement_times: Vec<DateTime<Utc>>,
    /// Between the retirements.
    periods: Vec<Period>,
    lanes: Lanes,
    compositions: Compositions,
    /// The marks of each composition that are not revoked, each with the position that it was made on.
    marks: BTreeMap<CompositionId, Vec<(Position, Marked)>>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            retirements: Retirements::default(),
            retirement_times: Vec::new(),
            periods: vec![Period::ALWAYS],
            lanes: Lanes::new(),
            compositions: Compositions::default(),
            marks: BTreeMap::new(),
        }
    }
}

/// The results of checks of the environment as a whole, by the composition that each speaks of.
#[derive(Debug, Default)]
pub(super) struct Compositions {
    /// By moment.
    results: HashMap<CompositionId, Vec<(EventTime, Id, bool)>>,
    /// The composition of each end that counts, by moment.
    ends: Vec<(EventTime, CompositionId)>,
    /// Ends from this time on may speak of another composition.
    outdated_from: Option<DateTime<Utc>>,
    cursor: Cursor,
}

/// The composition at some time, kept so that the one at another time costs only what differs.
#[derive(Debug, Default)]
struct Cursor {
    index: CompositionIndex,
    live: Vec<Option<Id>>,
}

impl Cursor {
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
        for ((service, target, lane), kept) in lanes.zip(&mut self.live) {
            let live = lane.live_at(time, periods);
            if live != *kept {
                self.index.set(service, target, live.map(|id| releases.get(id)));
                *kept = live;
            }
        }
        self.index.id()
    }
}

impl Compositions {
    /// Ends that occurred at this time or later have to be looked at again.
    pub(super) fn outdate(&mut self, from: DateTime<Utc>) {
        self.outdated_from = Some(self.outdated_from.map_or(from, |other| other.min(from)));
    }

    fn update(
        &mut self,
        checks: &Checks,
        events: &[CheckEvent],
        lanes: &Lanes,
        periods: &[Period],
        releases: &Releases,
    ) {
        let Some(from) = self.outdated_from.take() else { return };
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
            let Some(passed) = kind.result() else { continue };
            let start = checks.start_of(events, index);
            let changes = start.map(|start| changes_between(start, at.occurred_at, lanes, periods));
            let composition = self.cursor.id_at(at.occurred_at, lanes, periods, releases);
            let mut times = start.into_iter().chain(changes.into_iter().flatten());
            if times.all(|time| self.cursor.id_at(time, lanes, periods, releases) == composition) {
                self.ends.push((at, composition));
                push_exactly(self.results.entry(composition).or_default(), (at, check, passed));
            }
        }
    }

    fn latest(&self, composition: CompositionId) -> Latest {
        let mut latest = Latest::new();
        for (at, check, passed) in self.results.get(&composition).into_iter().flatten() {
            latest.insert(*check, (*at, *passed));
        }
        latest
    }

    /// The compositions of ends within a span.
    fn within(&self, span: &Span) -> impl Iterator<Item = CompositionId> {
        let first = self.ends.partition_point(|(at, _)| at.occurred_at < span.from);
        let ends = self.ends[first..].iter().take_while(|(at, _)| at.occurred_at < span.until);
        ends.map(|(_, composition)| *composition)
    }
}

/// Adds to a list of which most stay short: they take no more memory than they need.
pub(super) fn push_exactly<T>(list: &mut Vec<T>, item: T) {
    if list.len() < 4 {
        list.reserve_exact(1);
    }
    list.push(item);
}

/// The times at which anything changed in lanes after a time, up to another.
fn changes_between(
    after: DateTime<Utc>,
    until: DateTime<Utc>,
    lanes: &Lanes,
    periods: &[Period],
) -> BTreeSet<DateTime<Utc>> {
    let lanes = lanes.values().flat_map(BTreeMap::values);
    let changes = lanes.flat_map(|lane| lane.changes_between(after, until));
    let retirements = periods.iter().flat_map(Period::ends).filter(|time| after < *time && *time <= until);
    changes.chain(retirements).collect()
}

impl Environment {
    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub(super) fn periods(&self) -> &[Period] {
        &self.periods
    }

    pub(super) fn lane(&self, service: &ServiceName, target: &TargetName) -> Option<&LaneHistory> {
        self.lanes.get(service)?.get(target)
    }

    pub(super) const fn compositions(&mut self) -> &mut Compositions {
        &mut self.compositions
    }

    /// Returns the target that a report means which changes a lane: the one that it names; else the only one that the service has; `None`
    /// if it has several.
    pub(super) fn target_of(&self, lane: &LaneRef) -> Option<TargetName> {
        if let Some(target) = &lane.target {
            return Some(target.clone());
        }
        let all = self.lanes.get(&lane.service).into_iter().flatten();
        let all: Vec<_> = all.filter(|(_, history)| !history.fold().changes().is_empty()).collect();
        let targets = match all[..] {
            [] => return Some(TargetName::default()),
            [(only, _)] => vec![only],
            _ => {
                let holding = all.iter().filter(|(_, history)| self.holds_anything(history));
                let holding: Vec<_> = holding.map(|(target, _)| *target).collect();
                if holding.is_empty() { all.iter().map(|(target, _)| *target).collect() } else { holding }
            }
        };
        match targets[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn holds_anything(&self, history: &LaneHistory) -> bool {
        history.live(&self.periods).is_some()
            || match self.retirements.last() {
                Standing::Retired(_) => false,
                Standing::Open(None) => history.fold().holds_anything(),
                Standing::Open(Some(until)) => history.fold().after(until).holds_anything(),
            }
    }

    /// Applies a change of a lane.
    pub(super) fn apply(
        &mut self,
        (service, target): (&ServiceName, &TargetName),
        track: Track,
        written: TrackEntry,
        details: Details,
        releases: &mut Releases,
    ) {
        self.compositions.outdate(written.since.occurred_at);
        let lanes = self.lanes.entry(service.clone()).or_default();
        let lane = lanes.entry(target.clone()).or_default();
        lane.apply(track, written, details, &self.periods, releases);
    }

    /// Takes back the change of a lane that a corrected event made.
    pub(super) fn take_back(
        &mut self,
        (service, target): (&ServiceName, &TargetName),
        corrected: Position,
        known_from: Position,
        releases: &Releases,
    ) {
        let lane = self.lanes.get_mut(service).and_then(|lanes| lanes.get_mut(target));
        let time = lane.and_then(|lane| lane.take_back(corrected, known_from, &self.periods, releases));
        if let Some(time) = time {
            self.compositions.outdate(time);
        }
    }

    /// Adds a retirement, or a declaration.
    pub(super) fn add_retirement(&mut self, at: EventTime, retires: bool, releases: &Releases) {
        self.retirements.add(at.occurred_at, at.position, retires);
        let index = self.retirement_times.partition_point(|time| *time <= at.occurred_at);
        self.retirement_times.insert(index, at.occurred_at);
        if self.retirements.is_empty() {
            return;
        }
        self.periods = Period::between(&self.retirements, &self.retirement_times);
        for lane in self.lanes.values_mut().flat_map(BTreeMap::values_mut) {
            lane.retire(at.position, &self.periods, releases);
        }
        self.compositions.outdate(ALWAYS.from);
    }

    /// Returns what retirements mean for a time.
    pub(super) fn standing(&self, time: DateTime<Utc>) -> Standing {
        self.retirements.at(time)
    }

    /// Returns the part of a lane's history that matters for what it runs now; `None` if the environment is retired.
    pub(super) fn present<'e>(
        &'e self,
        service: &ServiceName,
        target: &TargetName,
        standing: Standing,
    ) -> Option<std::borrow::Cow<'e, LaneFold>> {
        let fold = self.lane(service, target)?.fold();
        match standing {
            Standing::Retired(_) => None,
            Standing::Open(None) => Some(std::borrow::Cow::Borrowed(fold)),
            Standing::Open(Some(until)) => Some(std::borrow::Cow::Owned(fold.after(until))),
        }
    }

    /// Marks the composition that ran at a position.
    pub(super) fn mark(&mut self, point: Position, marked: Marked, releases: &Releases) {
        let composition = self.recorded_at(point, releases);
        self.marks.entry(composition).or_default().push((point, marked));
    }

    /// Takes back the marks of the composition that ran at a position.
    pub(super) fn unmark(&mut self, point: Position, releases: &Releases) {
        let composition = self.recorded_at(point, releases);
        self.marks.remove(&composition);
    }

    fn recorded_at(&self, point: Position, releases: &Releases) -> CompositionId {
        let mut index = CompositionIndex::default();
        for (service, lanes) in &self.lanes {
            for (target, lane) in lanes {
                let live = lane.live_as_recorded(point);
                index.set(service, target, live.map(|id| releases.get(id)));
            }
        }
        index.id()
    }

    /// Finds the compositions again of which checks speak, where that may have changed.
    pub(super) fn update_compositions(
        &mut self,
        name: &EnvironmentName,
        checks: &Checks,
        releases: &Releases,
    ) {
        let events = checks.of_environment(name);
        self.compositions.update(checks, events, &self.lanes, &self.periods, releases);
    }

    /// Returns the evidence for releases in the lanes of a service, target by target: those at which traffic reached one of them.
    /// Where several did at a target, the one that is judged best counts.
    pub(super) fn evidence(
        &self,
        (name, service): (&EnvironmentName, &ServiceName),
        asked: &[Id],
        (checks, known): (&Checks, Known<'_>),
        now: DateTime<Utc>,
    ) -> Vec<TargetEvidence> {
        let mut all = Vec::new();
        for (target, lane) in self.lanes.get(service).into_iter().flatten() {
            let mut best: Option<(ReleaseJudgement, TargetEvidence)> = None;
            for release in asked {
                let during = ALWAYS;
                let periods = &self.periods;
                let of =
                    Examined { environment: name, service, target, lane, periods, release: *release, during };
                let Some(evidence) = self.evidence_of(&of, checks, known, now) else { continue };
                let judgement = judge_release(&self.policy, &evidence);
                let rank = |(judgement, evidence): &(ReleaseJudgement, TargetEvidence)| {
                    (judgement.status == Status::KnownGood, evidence.deployed)
                };
                let this = (judgement, evidence);
                if best.as_ref().is_none_or(|best| rank(best) < rank(&this)) {
                    best = Some(this);
                }
            }
            all.extend(best.map(|(_, evidence)| evidence));
        }
        all
    }

    fn evidence_of(
        &self,
        of: &Examined<'_>,
        checks: &Checks,
        known: Known<'_>,
        now: DateTime<Utc>,
    ) -> Option<TargetEvidence> {
        let deployed = of.lane.deploys_of(of.release).map(|at| at.position).max()?;
        let live = of.lane.live_spans(of.release, of.periods);
        // What only stood in a slot was not tried.
        let longest_run = live.iter().map(|span| span.until.min(now) - span.from).max()?;
        let mut ids: BTreeSet<CompositionId> = BTreeSet::new();
        for span in &live {
            ids.extend(self.compositions.within(span));
        }
        for (id, marks) in &self.marks {
            let point = marks.last().map(|(point, _)| *point);
            let live = point.and_then(|point| of.lane.live_as_recorded(point));
            if live == Some(of.release) {
                ids.insert(*id);
            }
        }
        let compositions = ids.into_iter().map(|id| CompositionEvidence {
            results: checks.verdicts(&self.compositions.latest(id)),
            marked: self.marks.get(&id).and_then(|marks| marks.last()).map(|(_, marked)| marked.clone()),
        });
        Some(TargetEvidence {
            target: of.target.clone(),
            deployed,
            results: checks.verdicts(&checks.results(of, known)),
            compositions: compositions.collect(),
            longest_run,
        })
    }

    /// Returns the latest results of compositions that are failures, each for the lanes with which its composition began: service, target,
    /// the release that the lane runs in it, the check and when.
    pub(super) fn failed_compositions(
        &self,
        name: &EnvironmentName,
        checks: &Checks,
        releases: &Releases,
    ) -> Vec<(&ServiceName, &TargetName, Id, EventTime, Id)> {
        let mut compositions = Compositions::default();
        compositions.outdate(ALWAYS.from);
        compositions.update(checks, checks.of_environment(name), &self.lanes, &self.periods, releases);
        let mut failed = Vec::new();
        for composition in compositions.results.keys() {
            for (check, (at, passed)) in compositions.latest(*composition) {
                if !passed {
                    let began = self.began_with(at.occurred_at);
                    failed.extend(
                        began.into_iter().map(|(service, target, id)| (service, target, id, at, check)),
                    );
                }
            }
        }
        failed
    }

    /// The lanes with which the composition at a time began, and what they run.
    fn began_with(&self, time: DateTime<Utc>) -> Vec<(&ServiceName, &TargetName, Id)> {
        let mut last = None;
        let mut lanes = Vec::new();
        for (service, of) in &self.lanes {
            for (target, lane) in of {
                let Some((index, step)) = lane.began(time) else { continue };
                let began = lane.moment(index).occurred_at;
                if last < Some(began) {
                    last = Some(began);
                    lanes.clear();
                }
                if last == Some(began) {
                    lanes.extend(step.live.map(|live| (service, target, live)));
                }
            }
        }
        lanes
    }

    /// Returns the last deploy up to a time of a version in lanes of a service that states an artifact.
    pub(super) fn stated(
        &self,
        service: &ServiceName,
        version: &ShortText,
        until: DateTime<Utc>,
        releases: &Releases,
    ) -> Option<(EventTime, Id)> {
        let stating = || {
            let ids = releases.of_version(version).iter().copied();
            ids.filter(|id| releases.get(*id).artifact.is_some())
        };
        let lanes = self.lanes.get(service).into_iter().flat_map(BTreeMap::values);
        let deploys =
            lanes.flat_map(|lane| stating().flat_map(|id| lane.deploys_of(id).map(move |at| (at, id))));
        deploys.filter(|(at, _)| at.occurred_at <= until).max()
    }
}
