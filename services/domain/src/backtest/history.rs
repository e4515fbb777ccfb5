//! The history of a lane: its live release over time, from all effective changes that were applied.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::interned::{Id, Releases};
use crate::checks::LaneDeploy;
use crate::gate::SucceededDeploy;
use crate::retirement::{RetirementStatus, Retirements};
use crate::span::{Span, joined};
use crate::{Effect, EventTime, LaneFold, Position, Release, ShortText, Track, TrackEntry};

/// The span of all times.
pub(super) const ALWAYS: Span = Span { from: DateTime::<Utc>::MIN_UTC, until: DateTime::<Utc>::MAX_UTC };

/// A period during which an environment is not retired; the end is exclusive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Period {
    /// The period of an environment that was never retired.
    pub(super) const ALWAYS: Self = Self { from: None, until: None };

    /// Returns the periods between retirements, in order. `times` are the sorted times of all retirements and
    /// declarations.
    pub(super) fn between(retirements: &Retirements, times: &[DateTime<Utc>]) -> Vec<Self> {
        let mut periods = vec![Self::ALWAYS];
        for time in times {
            let from = match retirements.at(*time) {
                RetirementStatus::Active(from) if from != Some(*time) => continue,
                RetirementStatus::Active(from) => Some(from),
                RetirementStatus::Retired(_) => None,
            };
            if let Some(last) = periods.last_mut() {
                last.until.get_or_insert(*time);
            }
            periods.extend(from.map(|from| Self { from, until: None }));
        }
        periods
    }

    /// Returns the times at which the period starts and ends.
    pub(super) fn bounds(&self) -> impl Iterator<Item = DateTime<Utc>> {
        self.from.into_iter().chain(self.until)
    }

    fn contains(&self, time: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// The data of a change besides its effect on the lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ChangeDetails {
    /// The emitter's name for the deployment run.
    pub(super) deployment: Option<Id>,
    /// The rollback of which it is a step.
    pub(super) rollback_id: Option<ShortText>,
    /// True if the lane already had a change with a later time.
    pub(super) late: bool,
}

/// The state of a lane after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneState {
    /// The live release.
    pub(super) live: Option<Id>,
}

/// The history of a lane.
#[derive(Debug, Default)]
pub(super) struct LaneHistory {
    fold: LaneFold,
    /// The state after each change. A state depends only on its change and earlier ones, so appending a change adds
    /// one.
    states: Vec<LaneState>,
    /// The deploys of each release to any track, sorted.
    deploys: Vec<(Id, EventTime)>,
    /// The details of changes, without those that equal the default.
    details: HashMap<Position, ChangeDetails>,
    /// The live release as known at each position; has an entry for each position at which it changed.
    live_as_known: Vec<(Position, Option<Id>)>,
}

impl LaneHistory {
    /// Returns the fold over all effective changes.
    pub(super) const fn fold(&self) -> &LaneFold {
        &self.fold
    }

    /// Returns the state after each change, ordered by time.
    pub(super) fn states(&self) -> &[LaneState] {
        &self.states
    }

    /// Returns the time and the position of the change with an index.
    pub(super) fn change_time(&self, index: usize) -> EventTime {
        self.fold.changes()[index].1.since.event_time()
    }

    /// Returns the index of the first change at or after a time.
    fn index(&self, at: EventTime) -> usize {
        self.fold.changes().partition_point(|(_, entry)| entry.since.event_time() < at)
    }

    /// Returns the number of changes before a time.
    fn count_before(&self, time: DateTime<Utc>) -> usize {
        self.fold.changes().partition_point(|(_, entry)| entry.since.occurred_at < time)
    }

    /// Returns the number of changes at or before a time.
    fn count_until(&self, time: DateTime<Utc>) -> usize {
        self.fold.changes().partition_point(|(_, entry)| entry.since.occurred_at <= time)
    }

    /// Returns true if the lane has a change after a time.
    pub(super) fn has_change_after(&self, at: EventTime) -> bool {
        self.fold.changes().last().is_some_and(|(_, last)| last.since.event_time() > at)
    }

    pub(super) fn apply(
        &mut self,
        track: Track,
        entry: TrackEntry,
        details: ChangeDetails,
        periods: &[Period],
        releases: &mut Releases,
    ) {
        let at = entry.since.event_time();
        if let Effect::Deployed(release) = &entry.effect {
            let deploy = (releases.intern(release), at);
            let index = self.deploys.partition_point(|other| *other < deploy);
            self.deploys.insert(index, deploy);
        }
        if details != ChangeDetails::default() {
            self.details.insert(at.position, details);
        }
        self.fold.insert(track, entry);
        self.states.truncate(self.index(at));
        self.extend_states(periods, releases);
        self.record_live(at.position, periods);
    }

    /// Reverts the change of a corrected event; returns the time of the change, and its release if it was a deploy.
    pub(super) fn revert(
        &mut self,
        corrected: Position,
        known_from: Position,
        periods: &[Period],
        releases: &Releases,
    ) -> Option<(EventTime, Option<Release>)> {
        let mut changes = self.fold.changes().iter();
        let index = changes.position(|(_, entry)| entry.since.position == corrected)?;
        let at = self.change_time(index);
        let mut deployed = None;
        if let Effect::Deployed(release) = &self.fold.changes()[index].1.effect {
            deployed = Some(release.clone());
            self.deploys.retain(|(_, other)| *other != at);
        }
        self.details.remove(&corrected);
        self.fold.remove(corrected);
        self.states.truncate(index);
        self.extend_states(periods, releases);
        self.record_live(known_from, periods);
        Some((at, deployed))
    }

    /// Recomputes all states after the environment was retired or declared again.
    pub(super) fn recompute(&mut self, known_from: Position, periods: &[Period], releases: &Releases) {
        self.states.clear();
        self.extend_states(periods, releases);
        self.record_live(known_from, periods);
    }

    fn extend_states(&mut self, periods: &[Period], releases: &Releases) {
        for last in self.states.len()..self.fold.changes().len() {
            let time = self.change_time(last).occurred_at;
            let period = periods.iter().rev().find(|period| period.contains(time));
            let live = period.and_then(|period| {
                let first = period.from.map_or(0, |from| self.count_before(from));
                self.fold.live_after(first, last)
            });
            let live = live.and_then(|live| releases.id_of(live.release));
            self.states.push(LaneState { live });
        }
    }

    fn record_live(&mut self, position: Position, periods: &[Period]) {
        let live = self.live(periods);
        if self.live_as_known.last().and_then(|(_, live)| *live) != live {
            self.live_as_known.push((position, live));
        }
    }

    /// Returns the current live release by all events applied so far.
    pub(super) fn live(&self, periods: &[Period]) -> Option<Id> {
        self.live_at(DateTime::<Utc>::MAX_UTC, periods)
    }

    /// Returns the live release at a time by all events applied so far.
    pub(super) fn live_at(&self, time: DateTime<Utc>, periods: &[Period]) -> Option<Id> {
        let period = periods.iter().rev().find(|period| period.contains(time))?;
        let last = self.count_until(time).checked_sub(1)?;
        period.contains(self.change_time(last).occurred_at).then(|| self.states[last].live).flatten()
    }

    /// Returns the live release as it was known at a position.
    pub(super) fn live_known_at(&self, position: Position) -> Option<Id> {
        let count = self.live_as_known.partition_point(|(at, _)| *at <= position);
        self.live_as_known[..count].last().and_then(|(_, live)| *live)
    }

    /// Returns the times of changes after one time and up to another.
    pub(super) fn changes_between(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> {
        let (first, end) = (self.count_until(after), self.count_until(until));
        (first..end).map(|index| self.change_time(index).occurred_at)
    }

    /// Returns the state of the lane at a time, with the index of the change since which the live release is the same.
    pub(super) fn run_start(&self, time: DateTime<Utc>, releases: &Releases) -> Option<(usize, LaneState)> {
        let mut index = self.count_until(time).checked_sub(1)?;
        let state = self.states[index];
        while index > 0 && releases.is_same(self.states[index - 1].live, state.live) {
            index -= 1;
        }
        Some((index, state))
    }

    /// Returns the times of the deploys of one spelling of a release, in order.
    pub(super) fn deploy_times(&self, release: Id) -> impl Iterator<Item = EventTime> {
        let first = self.deploys.partition_point(|(id, _)| *id < release);
        let of_it = self.deploys[first..].iter().take_while(move |(id, _)| *id == release);
        of_it.map(|(_, at)| *at)
    }

    /// Returns the time of the last deploy of one spelling of a release.
    pub(super) fn last_deploy(&self, release: Id) -> Option<EventTime> {
        let end = self.deploys.partition_point(|(id, _)| *id <= release);
        self.deploys[..end].last().filter(|(id, _)| *id == release).map(|(_, at)| *at)
    }

    /// Returns the last deploy up to a time of a release that matches the stated one.
    pub(super) fn last_match(
        &self,
        stated: &Release,
        until: DateTime<Utc>,
        releases: &Releases,
    ) -> Option<(EventTime, Id)> {
        let last = |id: Id| {
            let until = (id, EventTime::end_of(until));
            let end = self.deploys.partition_point(|deploy| *deploy <= until);
            self.deploys[..end].last().filter(|(other, _)| *other == id).map(|(id, at)| (*at, *id))
        };
        matching(stated, releases).filter_map(last).max()
    }

    /// Returns the first deploy after a time of a release that matches the stated one.
    pub(super) fn first_match(
        &self,
        stated: &Release,
        after: DateTime<Utc>,
        releases: &Releases,
    ) -> Option<(EventTime, Id)> {
        let first = |id: Id| {
            let after = (id, EventTime::end_of(after));
            let begin = self.deploys.partition_point(|deploy| *deploy <= after);
            self.deploys[begin..].first().filter(|(other, _)| *other == id).map(|(id, at)| (*at, *id))
        };
        matching(stated, releases).filter_map(first).min()
    }

    /// Returns the deploys of a version.
    fn deploys_of_version(&self, version: &ShortText, releases: &Releases) -> Vec<LaneDeploy> {
        let deploys = releases.of_version(version).iter().flat_map(|id| {
            self.deploy_times(*id).map(|at| LaneDeploy {
                occurred_at: at.occurred_at,
                position: at.position,
                release: releases.get(*id).clone(),
            })
        });
        deploys.collect()
    }

    /// Returns the deploys of a version in the form that the gate uses.
    pub(super) fn succeeded_deploys_of_version(
        &self,
        version: &ShortText,
        releases: &Releases,
    ) -> Vec<SucceededDeploy> {
        self.deploys_of_version(version, releases)
            .into_iter()
            .map(|deploy| self.succeeded_deploy(deploy))
            .collect()
    }

    /// Returns all deploys after a position, ordered by position, in the form that the gate uses.
    pub(super) fn succeeded_deploys_after(&self, position: Position) -> Vec<SucceededDeploy> {
        let changes = self.fold.changes().iter().filter(|(_, entry)| entry.since.position > position);
        let deploys = changes.filter_map(|(_, TrackEntry { effect, since })| match effect {
            Effect::Deployed(release) => Some(self.succeeded_deploy(LaneDeploy {
                occurred_at: since.occurred_at,
                position: since.position,
                release: release.clone(),
            })),
            Effect::Removed | Effect::SwitchedTo(_) => None,
        });
        let mut deploys: Vec<_> = deploys.collect();
        deploys.sort_by_key(|deploy| deploy.position);
        deploys
    }

    fn succeeded_deploy(&self, deploy: LaneDeploy) -> SucceededDeploy {
        let LaneDeploy { occurred_at, position, release } = deploy;
        let ChangeDetails { rollback_id, late, .. } =
            self.details.get(&position).cloned().unwrap_or_default();
        SucceededDeploy { position, occurred_at, late, rollback_id, release }
    }

    /// Returns the times of the deploys of all spellings of a release.
    fn all_deploy_times(&self, spellings: &[Id]) -> impl Iterator<Item = EventTime> {
        spellings.iter().flat_map(move |spelling| self.deploy_times(*spelling))
    }

    /// Returns the names of the deployments that deployed a release to the lane.
    pub(super) fn deployments_of(&self, release: Id, releases: &Releases) -> Vec<Id> {
        let spellings = releases.spellings(release);
        let deploys = self.all_deploy_times(&spellings);
        let names = deploys.filter_map(|at| self.details.get(&at.position)?.deployment);
        let mut names: Vec<Id> = names.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the spans during which a release was live, joined.
    pub(super) fn live_spans(&self, release: Id, periods: &[Period], releases: &Releases) -> Vec<Span> {
        joined(self.spans_live(&releases.spellings(release), periods))
    }

    /// Returns the spans during which one of these spellings of a release was live.
    fn spans_live(&self, spellings: &[Id], periods: &[Period]) -> Vec<Span> {
        let Some(first) = self.all_deploy_times(spellings).min() else { return Vec::new() };
        let from = self.index(first);
        let is_live = |state: &LaneState| state.live.is_some_and(|live| spellings.contains(&live));
        let states = self.states[from..].iter().zip(from..).filter(|(state, _)| is_live(state));
        states.filter_map(|(_, index)| self.span(index, index + 1, periods)).collect()
    }

    /// Returns the span from one change to another, at most up to the end of the period.
    fn span(&self, first: usize, next: usize, periods: &[Period]) -> Option<Span> {
        let from = self.change_time(first).occurred_at;
        let period = periods.iter().rev().find(|period| period.contains(from))?;
        let until =
            if next < self.fold.changes().len() { self.change_time(next).occurred_at } else { ALWAYS.until };
        Span::new(from, period.until.map_or(until, |end| end.min(until)))
    }

    /// Returns the spans during which traffic reached a release, and those during which it was in each slot.
    pub(super) fn track_spans(&self, release: Id, periods: &[Period], releases: &Releases) -> Vec<Vec<Span>> {
        let spellings = releases.spellings(release);
        let mut tracks = vec![self.spans_live(&spellings, periods)];
        let mut of_slots: HashMap<&Track, Vec<Span>> = HashMap::new();
        for at in self.all_deploy_times(&spellings) {
            let index = self.index(at);
            if let Some(next) = self.slot_end(index) {
                let track = &self.fold.changes()[index].0;
                of_slots.entry(track).or_default().extend(self.span(index, next, periods));
            }
        }
        tracks.extend(of_slots.into_values());
        tracks
    }

    /// Returns the index of the change that replaces or empties the content that a change put into a slot, or the
    /// number of changes if there is none; `None` if the change is not one of a slot.
    pub(super) fn slot_end(&self, index: usize) -> Option<usize> {
        let changes = self.fold.changes();
        let track = &changes[index].0;
        if *track == Track::Traffic {
            return None;
        }
        let ends = |(other, later): &(Track, TrackEntry)| {
            other == track || *other == Track::Traffic && later.effect == Effect::Removed
        };
        let after = changes[index + 1..].iter().position(ends);
        Some(after.map_or(changes.len(), |offset| index + 1 + offset))
    }

    /// Returns the number of changes before the end of the period of a change, and that end; `None` if the environment
    /// was retired at the time of the change.
    pub(super) fn period_end(
        &self,
        index: usize,
        periods: &[Period],
    ) -> Option<(usize, Option<DateTime<Utc>>)> {
        let time = self.change_time(index).occurred_at;
        let period = periods.iter().rev().find(|period| period.contains(time))?;
        let changes = self.fold.changes();
        let count = period.until.map_or(changes.len(), |until| self.count_before(until));
        Some((count, period.until))
    }
}

/// Returns the releases that match the stated one.
fn matching<'r>(stated: &'r Release, releases: &'r Releases) -> impl Iterator<Item = Id> + 'r {
    let of_version = releases.of_version(&stated.version).iter().copied();
    of_version.filter(move |id| stated.matches(releases.get(*id)))
}
