//! What became of deploys: for how long their release stood in the lane, and whether it failed meanwhile.

use std::collections::HashMap;

use super::environment::Environment;
use super::history::{ALWAYS, EventTime, LaneHistory};
use super::interned::Id;
use super::results::{Checks, Examined, Known};
use super::rules::ReleaseExit;
use crate::event::Policy;
use crate::span::Span;
use crate::{Effect, EnvironmentName, Position, Release, ServiceName, ShortText, TargetName};

/// What shows that a deploy failed after it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// The position of the report.
    pub position: Position,
}

/// How a deploy failed after it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The last result of a check for the release, or for the composition that began with the deploy, is a failure.
    Check(ShortText),
    /// A rollback was asked for that takes the lane away from the release.
    Rollback(ShortText),
}

/// A release that a lane ran.
type RanIn<'a> = (&'a ServiceName, &'a TargetName, Id);

/// What outcomes are judged by.
pub(super) struct Context<'a> {
    pub(super) name: &'a EnvironmentName,
    pub(super) environment: &'a Environment,
    pub(super) checks: &'a Checks,
    pub(super) known: Known<'a>,
    pub(super) candidate: &'a Policy,
    /// Results of compositions that are failures, by the lane and the release with which each began.
    failed: HashMap<RanIn<'a>, Vec<(EventTime, Id)>>,
}

/// A lane, and the rollbacks that took it away from what it ran.
pub(super) struct OfLane<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) target: &'a TargetName,
    pub(super) lane: &'a LaneHistory,
    pub(super) exits: Vec<&'a ReleaseExit>,
}

impl<'a> Context<'a> {
    pub(super) fn of(
        name: &'a EnvironmentName,
        environment: &'a Environment,
        checks: &'a Checks,
        known: Known<'a>,
        candidate: &'a Policy,
    ) -> Self {
        let mut failed: HashMap<RanIn<'a>, Vec<(EventTime, Id)>> = HashMap::new();
        for (service, target, release, at, check) in
            environment.failed_compositions(name, checks, known.releases)
        {
            failed.entry((service, target, release)).or_default().push((at, check));
        }
        Self { name, environment, checks, known, candidate, failed }
    }

    /// Passes each deploy to a lane that is asked for to `each`, with its release, and with the failure that came first.
    pub(super) fn outcomes(
        &self,
        of: &OfLane<'a>,
        is_asked: impl Fn(Position) -> bool,
        mut each: impl FnMut(EventTime, Id, Option<Failure>),
    ) {
        let changes = of.lane.fold().changes();
        let others = next_others(of.lane);
        for (index, (_, written)) in changes.iter().enumerate() {
            let Effect::Deployed(release) = &written.effect else { continue };
            let at = of.lane.moment(index);
            let Some(id) = self.known.releases.find(release).filter(|_| is_asked(at.position)) else {
                continue;
            };
            let failure = self.stands_until(of.lane, index, id, &others).and_then(|end| {
                let failures = self.failures(of, at, (id, release), end);
                failures.into_iter().min_by_key(|(at, _)| at.position)
            });
            let failure = failure.map(|(at, cause)| Failure { cause, position: at.position });
            each(at, id, failure);
        }
    }

    /// When a release that was deployed by a change stands in the lane no more: it is not live, and does not wait in its slot for
    /// traffic to reach it first. `None` if it never stood there.
    fn stands_until(
        &self,
        lane: &LaneHistory,
        index: usize,
        release: Id,
        others: &[usize],
    ) -> Option<EventTime> {
        let (count, until) = lane.period_ends(index, self.environment.periods())?;
        let slot_ends = lane.slot_ends(index).unwrap_or(index);
        let waits = index..slot_ends.max(index + 1).min(count);
        let live = waits.into_iter().find(|next| lane.steps()[*next].live == Some(release));
        let end = live.map_or(slot_ends, |live| others[live]);
        if end < count {
            return Some(lane.moment(end));
        }
        let occurred_at = until.unwrap_or(ALWAYS.until);
        Some(EventTime { occurred_at, position: Position::new(u64::MAX) })
    }

    /// What failed from a deploy up to an end.
    fn failures(
        &self,
        of: &OfLane<'_>,
        at: EventTime,
        (id, release): (Id, &Release),
        end: EventTime,
    ) -> Vec<(EventTime, Cause)> {
        let OfLane { service, target, lane, .. } = *of;
        let Some(during) = Span::new(at.occurred_at, end.occurred_at) else { return Vec::new() };
        let (environment, periods) = (self.name, self.environment.periods());
        let examined = Examined { environment, service, target, lane, periods, release: id, during };
        let results = self.checks.results(&examined, self.known);
        let failed =
            results.into_iter().filter(|(_, (_, passed))| !passed).map(|(check, (at, _))| (at, check));
        let of_compositions = self.failed.get(&(service, target, id)).into_iter().flatten().copied();
        let of_compositions = of_compositions.filter(|(at, _)| during.contains(at.occurred_at));
        let checks = failed.chain(of_compositions).filter_map(|(at, check)| {
            let check = self.checks.lines.get(check);
            counts(self.candidate, check).then(|| (at, Cause::Check(check.clone())))
        });
        let left = of.exits.iter().filter(|exit| at.occurred_at <= exit.at.occurred_at && exit.at <= end);
        let left = left.filter(|exit| {
            let from = exit.left.from.as_ref();
            from.is_some_and(|from| from.matches(release) || release.matches(from))
        });
        let left = left.map(|exit| (exit.at, Cause::Rollback(exit.left.rollback_id.clone())));
        checks.chain(left).collect()
    }
}

/// For each change, the index of the next one after which the lane runs something else, or the number of changes.
fn next_others(lane: &LaneHistory) -> Vec<usize> {
    let steps = lane.steps();
    let mut others = vec![steps.len(); steps.len()];
    for index in (1..steps.len()).rev() {
        others[index - 1] = if steps[index - 1].live == steps[index].live { others[index] } else { index };
    }
    others
}

/// Returns true if a check's failure is one by the candidate: of a check that it names, or of any where it names none.
fn counts(candidate: &Policy, check: &ShortText) -> bool {
    let triggers = candidate.automatic_rollback.as_ref().map_or(&[][..], |rule| &rule.checks);
    let mut named = candidate.required_validations.iter().chain(triggers).peekable();
    named.peek().is_none() || named.any(|named| named == check)
}
