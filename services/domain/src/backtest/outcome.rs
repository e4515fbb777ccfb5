//! The outcome of deploys: how long the release stayed in the lane, and its first failure in that time.

use std::collections::HashMap;

use super::environment::EnvironmentHistory;
use super::history::{ALWAYS, LaneHistory};
use super::interned::{Id, Releases};
use super::results::{Checks, LaneRelease, ReleaseCatalog};
use super::rules::ReleaseExit;
use crate::event::Policy;
use crate::span::Span;
use crate::{Effect, EnvironmentName, EventTime, Position, Release, ServiceName, ShortText, TargetName};

/// Evidence that a deploy failed after it had succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of evidence.
    pub cause: Cause,
    /// The position of the event.
    pub position: Position,
}

/// The way in which a deploy failed after it had succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The latest result of this check is a failure: for the release, or for the composition that the deploy started.
    Check(ShortText),
    /// This rollback was requested, and takes the release out of the lane.
    Rollback(ShortText),
}

/// A release in a lane: service, target and release.
type LaneReleaseKey<'a> = (&'a ServiceName, &'a TargetName, Id);

/// The data from which outcomes are computed.
pub(super) struct Context<'a> {
    pub(super) name: &'a EnvironmentName,
    pub(super) environment: &'a EnvironmentHistory,
    pub(super) checks: &'a Checks,
    pub(super) catalog: ReleaseCatalog<'a>,
    pub(super) candidate: &'a Policy,
    /// The failed compositions, by the lane and the release that started them: time and check.
    failed_compositions: HashMap<LaneReleaseKey<'a>, Vec<(EventTime, Id)>>,
}

/// A lane, and the rollbacks that took a release out of it.
pub(super) struct LaneWithExits<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) target: &'a TargetName,
    pub(super) lane: &'a LaneHistory,
    pub(super) exits: Vec<&'a ReleaseExit>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        name: &'a EnvironmentName,
        environment: &'a EnvironmentHistory,
        checks: &'a Checks,
        catalog: ReleaseCatalog<'a>,
        candidate: &'a Policy,
    ) -> Self {
        let mut failed_compositions: HashMap<LaneReleaseKey<'a>, Vec<(EventTime, Id)>> = HashMap::new();
        for (service, target, release, at, check) in
            environment.failed_compositions(name, checks, catalog.releases)
        {
            failed_compositions.entry((service, target, release)).or_default().push((at, check));
        }
        Self { name, environment, checks, catalog, candidate, failed_compositions }
    }

    /// Calls `visit` for each selected deploy to a lane, with its release and its first failure, if it failed.
    pub(super) fn for_each_outcome(
        &self,
        of: &LaneWithExits<'a>,
        is_selected: impl Fn(Position) -> bool,
        mut visit: impl FnMut(EventTime, Id, Option<Failure>),
    ) {
        let changes = of.lane.fold().changes();
        let next_changes = next_live_changes(of.lane, self.catalog.releases);
        for (index, (_, entry)) in changes.iter().enumerate() {
            let Effect::Deployed(release) = &entry.effect else { continue };
            let at = of.lane.change_time(index);
            let Some(id) = self.catalog.releases.id_of(release).filter(|_| is_selected(at.position)) else {
                continue;
            };
            let failure = self.exit_time(of.lane, index, id, &next_changes).and_then(|end| {
                let failures = self.failures(of, at, (id, release), end);
                failures.into_iter().min_by_key(|(at, _)| at.position)
            });
            let failure = failure.map(|(at, cause)| Failure { cause, position: at.position });
            visit(at, id, failure);
        }
    }

    /// Returns the time from which a release that a change deployed is neither live nor waiting in its slot for its
    /// first traffic; `None` if the environment was retired at the time of the deploy.
    fn exit_time(
        &self,
        lane: &LaneHistory,
        index: usize,
        release: Id,
        next_changes: &[usize],
    ) -> Option<EventTime> {
        let (count, until) = lane.period_end(index, self.environment.periods())?;
        let slot_end = lane.slot_end(index).unwrap_or(index);
        let waiting = index..slot_end.max(index + 1).min(count);
        let releases = self.catalog.releases;
        let live =
            waiting.into_iter().find(|next| releases.is_same(lane.states()[*next].live, Some(release)));
        let end = live.map_or(slot_end, |live| next_changes[live]);
        if end < count {
            return Some(lane.change_time(end));
        }
        Some(EventTime::end_of(until.unwrap_or(ALWAYS.until)))
    }

    /// Returns the failures of a release from its deploy up to an end.
    fn failures(
        &self,
        of: &LaneWithExits<'_>,
        at: EventTime,
        (id, release): (Id, &Release),
        end: EventTime,
    ) -> Vec<(EventTime, Cause)> {
        let LaneWithExits { service, target, lane, .. } = *of;
        let Some(during) = Span::new(at.occurred_at, end.occurred_at) else { return Vec::new() };
        let (environment, periods) = (self.name, self.environment.periods());
        let lane_release = LaneRelease { environment, service, target, lane, periods, release: id, during };
        let results = self.checks.results(&lane_release, self.catalog);
        let failed =
            results.into_iter().filter(|(_, (_, passed))| !passed).map(|(check, (at, _))| (at, check));
        let of_compositions = self
            .catalog
            .releases
            .spellings(id)
            .into_iter()
            .filter_map(|spelling| self.failed_compositions.get(&(service, target, spelling)))
            .flatten()
            .copied();
        let of_compositions = of_compositions.filter(|(at, _)| during.contains(at.occurred_at));
        let checks = failed.chain(of_compositions).filter_map(|(at, check)| {
            let check = self.checks.texts.get(check);
            is_relevant(self.candidate, check).then(|| (at, Cause::Check(check.clone())))
        });
        let exits = of.exits.iter().filter(|exit| at.occurred_at <= exit.at.occurred_at && exit.at <= end);
        let exits =
            exits.filter(|exit| exit.left.from.as_ref().is_some_and(|from| from.either_matches(release)));
        let rollbacks = exits.map(|exit| (exit.at, Cause::Rollback(exit.left.rollback_id.clone())));
        checks.chain(rollbacks).collect()
    }
}

/// Returns for each change the index of the next change of the live release, or the number of changes if there is none.
fn next_live_changes(lane: &LaneHistory, releases: &Releases) -> Vec<usize> {
    let states = lane.states();
    let mut next = vec![states.len(); states.len()];
    for index in (1..states.len()).rev() {
        let is_same = releases.is_same(states[index - 1].live, states[index].live);
        next[index - 1] = if is_same { next[index] } else { index };
    }
    next
}

/// Returns true if the failure of a check counts for the candidate policy: if it names the check, or names no check at
/// all.
fn is_relevant(candidate: &Policy, check: &ShortText) -> bool {
    let triggers = candidate.automatic_rollback.as_ref().map_or(&[][..], |rule| &rule.checks);
    let mut named = candidate.required_validations.iter().chain(triggers).peekable();
    named.peek().is_none() || named.any(|named| named == check)
}
