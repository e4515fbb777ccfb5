//! What became of deploys: for how long their release stood in the lane, and whether it failed meanwhile.

use std::collections::BTreeMap;

use super::history::{ALWAYS, Environment, LaneHistory, Moment, Shared, Written, Wrote};
use super::interned::Id;
use super::rules::Leaving;
use crate::event::Policy;
use crate::{Line, Position, SlotName};

/// What shows that a deploy failed after it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// Where that is told.
    pub position: Position,
}

/// How a deploy failed after it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A check's last word on the release was that it failed.
    Check(Line),
    /// A rollback was asked for that takes the lane away from the release.
    Rollback(Line),
}

/// Deploys of one release to one track, of which nothing else came between: the release stands in the lane
/// from the first on.
struct Standing {
    release: Id,
    slot: Option<SlotName>,
    /// Traffic has reached it.
    was_live: bool,
    deploys: Vec<Moment>,
}

/// What stands on the tracks of a lane.
#[derive(Default)]
struct Tracks<'h> {
    traffic: Option<&'h Wrote>,
    slots: BTreeMap<&'h SlotName, Option<Id>>,
}

impl<'h> Tracks<'h> {
    fn write(&mut self, change: &'h Written) {
        let Some(slot) = &change.slot else {
            self.traffic = Some(&change.wrote);
            return;
        };
        let stands = match change.wrote {
            Wrote::Deployed(release) => Some(release),
            Wrote::Removed | Wrote::SwitchedTo(_) => None,
        };
        self.slots.insert(slot, stands);
    }

    fn live(&self) -> Option<Id> {
        match self.traffic? {
            Wrote::Deployed(release) => Some(*release),
            Wrote::Removed => None,
            Wrote::SwitchedTo(slot) => self.slots.get(slot).copied().flatten(),
        }
    }

    /// Whether the release is still to come, or is there: it has not been live, and stands in its slot.
    fn waits(&self, standing: &Standing) -> bool {
        let slot = standing.slot.as_ref().filter(|_| !standing.was_live);
        slot.is_some_and(|slot| self.slots.get(slot).copied().flatten() == Some(standing.release))
    }
}

/// What outcomes are told by.
pub(super) struct Told<'a> {
    pub(super) environment: &'a Environment,
    pub(super) shared: &'a Shared,
    pub(super) candidate: &'a Policy,
}

/// Tells of each deploy to a lane whether and by what it failed, in no order.
pub(super) fn outcomes(
    lane: &LaneHistory,
    leaving: &[&Leaving],
    told: &Told<'_>,
    mut tell: impl FnMut(Moment, Id, Option<Failure>),
) {
    let mut end = |standing: &Standing, end: Option<Moment>| {
        let failures = told.failures(lane, leaving, standing, end);
        for deploy in &standing.deploys {
            let later = failures.iter().filter(|(at, _)| at.occurred_at >= deploy.occurred_at);
            let first = later.min_by_key(|(at, _)| at.position);
            let failure = first.map(|(at, cause)| Failure { cause: cause.clone(), position: at.position });
            tell(*deploy, standing.release, failure);
        }
    };
    let mut tracks = Tracks::default();
    let mut all: Vec<Standing> = Vec::new();
    for change in lane.changes() {
        tracks.write(change);
        let live = tracks.live();
        all.iter_mut().for_each(|standing| standing.was_live |= live == Some(standing.release));
        for gone in all.extract_if(.., |it| live != Some(it.release) && !tracks.waits(it)) {
            end(&gone, Some(change.at));
        }
        if let Wrote::Deployed(release) = change.wrote {
            match all.iter_mut().find(|it| it.release == release && it.slot == change.slot) {
                Some(standing) => standing.deploys.push(change.at),
                None => all.push(Standing {
                    release,
                    slot: change.slot.clone(),
                    was_live: live == Some(release),
                    deploys: vec![change.at],
                }),
            }
        }
    }
    all.iter().for_each(|standing| end(standing, None));
}

impl Told<'_> {
    /// What failed while a release stood in the lane, from its first deploy up to an end.
    fn failures(
        &self,
        lane: &LaneHistory,
        leaving: &[&Leaving],
        standing: &Standing,
        end: Option<Moment>,
    ) -> Vec<(Moment, Cause)> {
        let time = (
            standing.deploys.first().map_or(ALWAYS.0, |first| first.occurred_at),
            end.map_or(ALWAYS.1, |end| end.occurred_at),
        );
        let verdicts = lane.verdicts(standing.release, self.environment, self.shared, time);
        let failed = verdicts.iter().filter(|(check, said)| !said.passed && counts(self.candidate, check));
        let checks = failed.map(|(check, said)| {
            let at = Moment { occurred_at: said.occurred_at, position: said.position };
            (at, Cause::Check(check.clone()))
        });
        let release = self.shared.releases.get(standing.release);
        let left = leaving.iter().filter(|leaving| leaving.release == *release);
        let left = left.filter(|leaving| end.is_none_or(|end| leaving.at <= end));
        let left = left.map(|leaving| (leaving.at, Cause::Rollback(leaving.hold.rollback_id.clone())));
        checks.chain(left).collect()
    }
}

/// Whether a check's failure is one by the candidate: a check that it names, or any where it names none.
fn counts(candidate: &Policy, check: &Line) -> bool {
    let triggers = candidate.automatic_rollback.as_ref().map_or(&[][..], |rule| &rule.checks);
    let mut named = candidate.required_validations.iter().chain(triggers).peekable();
    named.peek().is_none() || named.any(|named| named == check)
}
