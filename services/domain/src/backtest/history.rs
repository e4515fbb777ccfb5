//! What a lane ran, by all of its changes that were fed and have effect.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::interned::{Id, Releases};
use crate::checks::LaneDeploy;
use crate::gate::SucceededDeploy;
use crate::retirement::{Retirements, Standing};
use crate::span::{Span, joined};
use crate::{Effect, LaneFold, Position, ShortText, Since, Track, TrackEntry};

/// When something occurred and where that is reported: the order in which reports count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EventTime {
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) position: Position,
}

impl EventTime {
    fn of(since: &Since) -> Self {
        Self { occurred_at: since.occurred_at, position: since.position }
    }
}

/// All time.
pub(super) const ALWAYS: Span = Span { from: DateTime::<Utc>::MIN_UTC, until: DateTime::<Utc>::MAX_UTC };

/// A time in which an environment was not retired; its end does not belong to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    after: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Period {
    /// The period of an environment that never was retired.
    pub(super) const ALWAYS: Self = Self { after: None, until: None };

    /// Returns the periods between retirements, in order; `times` are those of all retirements and declarations, sorted.
    pub(super) fn between(retirements: &Retirements, times: &[DateTime<Utc>]) -> Vec<Self> {
        let mut periods = vec![Self::ALWAYS];
        for time in times {
            let after = match retirements.at(*time) {
                Standing::Open(after) if after != Some(*time) => continue,
                Standing::Open(after) => Some(after),
                Standing::Retired(_) => None,
            };
            if let Some(last) = periods.last_mut() {
                last.until.get_or_insert(*time);
            }
            periods.extend(after.map(|after| Self { after, until: None }));
        }
        periods
    }

    /// Returns the times at which it begins and ends.
    pub(super) fn ends(&self) -> impl Iterator<Item = DateTime<Utc>> {
        self.after.into_iter().chain(self.until)
    }

    fn contains(&self, time: DateTime<Utc>) -> bool {
        self.after.is_none_or(|after| after <= time) && self.until.is_none_or(|until| time < until)
    }
}

/// What a report says besides what it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Details {
    /// The emitter's name for the run that did it.
    pub(super) deployment: Option<Id>,
    /// The rollback of which it is a step.
    pub(super) rollback_id: Option<ShortText>,
    /// The lane already had a change with a later moment.
    pub(super) late: bool,
}

/// What a lane runs after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) live: Option<Id>,
    in_slot: bool,
}

/// The history of a lane.
#[derive(Debug, Default)]
pub(super) struct LaneHistory {
    fold: LaneFold,
    /// What the lane ran after each change. It depends on that change and on those before, so that a change at the end adds one.
    steps: Vec<Step>,
    /// When each release was deployed, on any track; sorted.
    deploys: Vec<(Id, EventTime)>,
    /// Of changes that have any.
    details: HashMap<Position, Details>,
    /// What the lane ran, as far as was known at each position since which that was something else.
    recorded: Vec<(Position, Option<Id>)>,
}

impl LaneHistory {
    /// All changes that have effect.
    pub(super) const fn fold(&self) -> &LaneFold {
        &self.fold
    }

    /// What the lane ran after each change, by moment.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The moments of its changes.
    pub(super) fn moment(&self, index: usize) -> EventTime {
        EventTime::of(&self.fold.changes()[index].1.since)
    }

    fn index(&self, at: EventTime) -> usize {
        self.fold.changes().partition_point(|(_, written)| EventTime::of(&written.since) < at)
    }

    /// The number of changes that occurred at or before a time.
    fn count_until(&self, time: DateTime<Utc>) -> usize {
        self.fold.changes().partition_point(|(_, written)| written.since.occurred_at <= time)
    }

    /// Returns true if it has a change with a later moment.
    pub(super) fn is_behind(&self, at: EventTime) -> bool {
        self.fold.changes().last().is_some_and(|(_, last)| EventTime::of(&last.since) > at)
    }

    pub(super) fn apply(
        &mut self,
        track: Track,
        written: TrackEntry,
        details: Details,
        periods: &[Period],
        releases: &mut Releases,
    ) {
        let at = EventTime::of(&written.since);
        if let Effect::Deployed(release) = &written.effect {
            let deploy = (releases.id(release), at);
            let index = self.deploys.partition_point(|other| *other < deploy);
            self.deploys.insert(index, deploy);
        }
        if details != Details::default() {
            self.details.insert(at.position, details);
        }
        self.fold.insert(track, written);
        self.steps.truncate(self.index(at));
        self.extend_steps(periods, releases);
        self.record(at.position, periods);
    }

    /// Takes back the change of a corrected event; returns its time, and whether it was a deploy.
    pub(super) fn take_back(
        &mut self,
        corrected: Position,
        known_from: Position,
        periods: &[Period],
        releases: &Releases,
    ) -> Option<DateTime<Utc>> {
        let mut changes = self.fold.changes().iter();
        let index = changes.position(|(_, written)| written.since.position == corrected)?;
        let at = self.moment(index);
        if let Effect::Deployed(_) = &self.fold.changes()[index].1.effect {
            self.deploys.retain(|(_, moment)| *moment != at);
        }
        self.details.remove(&corrected);
        self.fold.take_back(corrected);
        self.steps.truncate(index);
        self.extend_steps(periods, releases);
        self.record(known_from, periods);
        Some(at.occurred_at)
    }

    /// Works out all steps again: the environment was retired, or declared again.
    pub(super) fn retire(&mut self, known_from: Position, periods: &[Period], releases: &Releases) {
        self.steps.clear();
        self.extend_steps(periods, releases);
        self.record(known_from, periods);
    }

    fn extend_steps(&mut self, periods: &[Period], releases: &Releases) {
        for last in self.steps.len()..self.fold.changes().len() {
            let time = self.moment(last).occurred_at;
            let period = periods.iter().rev().find(|period| period.contains(time));
            let live = period.and_then(|period| {
                let first = period.after.map_or(0, |after| self.count_until(after));
                self.fold.live_after(first, last)
            });
            let in_slot = live.is_some_and(|live| live.slot.is_some());
            let live = live.and_then(|live| releases.find(live.release));
            self.steps.push(Step { live, in_slot });
        }
    }

    fn record(&mut self, position: Position, periods: &[Period]) {
        let live = self.live(periods);
        if self.recorded.last().and_then(|(_, live)| *live) != live {
            self.recorded.push((position, live));
        }
    }

    /// Returns what the lane runs by all that is known.
    pub(super) fn live(&self, periods: &[Period]) -> Option<Id> {
        self.live_at(DateTime::<Utc>::MAX_UTC, periods)
    }

    /// Returns what the lane ran at a time by all that is known.
    pub(super) fn live_at(&self, time: DateTime<Utc>, periods: &[Period]) -> Option<Id> {
        let period = periods.iter().rev().find(|period| period.contains(time))?;
        let last = self.count_until(time).checked_sub(1)?;
        period.contains(self.moment(last).occurred_at).then(|| self.steps[last].live).flatten()
    }

    /// Returns what the lane ran at a position, as far as was known there.
    pub(super) fn live_as_recorded(&self, position: Position) -> Option<Id> {
        let count = self.recorded.partition_point(|(at, _)| *at <= position);
        self.recorded[..count].last().and_then(|(_, live)| *live)
    }

    /// Returns the times of changes after a time, up to another.
    pub(super) fn changes_between(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> {
        let (first, end) = (self.count_until(after), self.count_until(until));
        (first..end).map(|index| self.moment(index).occurred_at)
    }

    /// Returns the index of the change with which a lane began to run what it did at a time, and what that was.
    pub(super) fn began(&self, time: DateTime<Utc>) -> Option<(usize, Step)> {
        let mut index = self.count_until(time).checked_sub(1)?;
        let step = self.steps[index];
        while index > 0 && self.steps[index - 1].live == step.live {
            index -= 1;
        }
        Some((index, step))
    }

    /// Returns when a release was deployed, by moment.
    pub(super) fn deploys_of(&self, release: Id) -> impl Iterator<Item = EventTime> {
        let first = self.deploys.partition_point(|(id, _)| *id < release);
        let of_it = self.deploys[first..].iter().take_while(move |(id, _)| *id == release);
        of_it.map(|(_, at)| *at)
    }

    /// Returns the deploys of a version.
    pub(super) fn deploys_of_version(&self, version: &ShortText, releases: &Releases) -> Vec<LaneDeploy> {
        let deploys = releases.of_version(version).iter().flat_map(|id| {
            self.deploys_of(*id).map(|at| LaneDeploy {
                occurred_at: at.occurred_at,
                position: at.position,
                release: releases.get(*id).clone(),
            })
        });
        deploys.collect()
    }

    /// Returns the deploys of a version, as the gate has them.
    pub(super) fn succeeded(&self, version: &ShortText, releases: &Releases) -> Vec<SucceededDeploy> {
        self.deploys_of_version(version, releases)
            .into_iter()
            .map(|deploy| self.succeeded_deploy(deploy))
            .collect()
    }

    /// Returns all deploys after a position, in the order of positions.
    pub(super) fn succeeded_after(&self, position: Position) -> Vec<SucceededDeploy> {
        let changes = self.fold.changes().iter().filter(|(_, written)| written.since.position > position);
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
        let Details { rollback_id, late, .. } = self.details.get(&position).cloned().unwrap_or_default();
        SucceededDeploy { position, occurred_at, late, rollback_id, release }
    }

    /// Returns the names of the deployments that put a release into the lane.
    pub(super) fn deployments_of(&self, release: Id) -> Vec<Id> {
        let deploys = self.deploys_of(release);
        let names = deploys.filter_map(|at| self.details.get(&at.position)?.deployment);
        let mut names: Vec<Id> = names.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the spans in which traffic reached a release, joined.
    pub(super) fn live_spans(&self, release: Id, periods: &[Period]) -> Vec<Span> {
        joined(self.spans_where(release, periods, |step| step.live == Some(release)))
    }

    fn spans_where(&self, release: Id, periods: &[Period], runs: impl Fn(&Step) -> bool) -> Vec<Span> {
        let Some(first) = self.deploys_of(release).next() else { return Vec::new() };
        let from = self.index(first);
        let steps = self.steps[from..].iter().zip(from..).filter(|(step, _)| runs(step));
        steps.filter_map(|(_, index)| self.span(index, index + 1, periods)).collect()
    }

    /// The span from a change up to another, or up to the end of the period.
    fn span(&self, first: usize, next: usize, periods: &[Period]) -> Option<Span> {
        let from = self.moment(first).occurred_at;
        let period = periods.iter().rev().find(|period| period.contains(from))?;
        let until =
            if next < self.fold.changes().len() { self.moment(next).occurred_at } else { ALWAYS.until };
        Span::new(from, period.until.map_or(until, |end| end.min(until)))
    }

    /// Returns the spans in which a release stood on each track.
    pub(super) fn track_spans(&self, release: Id, periods: &[Period]) -> Vec<Vec<Span>> {
        let is_it = |step: &Step| step.live == Some(release) && !step.in_slot;
        let mut tracks = vec![self.spans_where(release, periods, is_it)];
        let mut of_slots: HashMap<&Track, Vec<Span>> = HashMap::new();
        for at in self.deploys_of(release) {
            let index = self.index(at);
            if let Some(next) = self.slot_ends(index) {
                let track = &self.fold.changes()[index].0;
                of_slots.entry(track).or_default().extend(self.span(index, next, periods));
            }
        }
        tracks.extend(of_slots.into_values());
        tracks
    }

    /// Returns the index of the change that ends what a change put into a slot, or the number of changes; `None` if it is not one of a
    /// slot.
    pub(super) fn slot_ends(&self, index: usize) -> Option<usize> {
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

    /// Returns the number of changes up to the end of the period of a change; `None` if the environment was retired then.
    pub(super) fn period_ends(
        &self,
        index: usize,
        periods: &[Period],
    ) -> Option<(usize, Option<DateTime<Utc>>)> {
        let time = self.moment(index).occurred_at;
        let period = periods.iter().rev().find(|period| period.contains(time))?;
        let changes = self.fold.changes();
        let count = period.until.map_or(changes.len(), |until| {
            changes.partition_point(|(_, written)| written.since.occurred_at < until)
        });
        Some((count, period.until))
    }
}
