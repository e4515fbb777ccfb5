//! Approvals: whose answers count, for what, and until when.
//!
//! Only people approve, each by the latest answer that covers the question. A request is not approved by its requester.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Finding, GateInput, Rule};
use crate::event::Actor;
use crate::{Lane, LaneRef, PersonName, Position, Release};

/// An answer to a question of the gate, or to a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who gave it.
    pub actor: Actor,
    /// Whether it is a grant, and not a rejection.
    pub granted: bool,
    /// Its position.
    pub position: Position,
}

/// An answer to a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployAnswer {
    /// The answer.
    pub answer: Answer,
    /// When it occurred.
    pub occurred_at: DateTime<Utc>,
    /// The lane that it names; without a target, every lane of the service.
    pub lane: LaneRef,
    /// The release that it names, [completed](Release::completed) with the artifact that the version meant when it was given.
    pub release: Release,
    /// When a grant ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

impl DeployAnswer {
    /// Returns true if it is about a deploy of this release to this lane.
    #[must_use]
    pub fn covers(&self, lane: &Lane, release: &Release) -> bool {
        self.lane.covers(lane) && self.release.matches(release)
    }

    /// Returns true if a release that it covers was deployed to the lane after it, and has left the lane since.
    fn is_used_up(&self, input: &GateInput<'_>) -> bool {
        // What a report left out is no sign of another release.
        let is_covered = |release: &Release| !self.release.contradicts(release);
        let was_deployed = input.deploys.iter().any(|deploy| {
            let is_later = deploy.position > self.answer.position && deploy.occurred_at > self.occurred_at;
            is_later && is_covered(&deploy.release)
        });
        let mut stands =
            input.present.into_iter().flat_map(|fold| fold.live().into_iter().chain(fold.idle()));
        was_deployed && !stands.any(|held| is_covered(held.release))
    }
}

/// Why a grant no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Expired,
    UsedUp,
}

/// The latest answer of a person that covers the question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted<'a> {
    pub(super) answer: &'a Answer,
    pub(super) ended: Option<Ended>,
}

impl<'a> Counted<'a> {
    /// The answer, if it is a grant that has not ended.
    pub(super) fn in_force(&self) -> Option<&'a Answer> {
        (self.answer.granted && self.ended.is_none()).then_some(self.answer)
    }
}

/// The latest answer of each person that covers a question.
pub(super) fn counted<'a>(input: &GateInput<'a>) -> Vec<Counted<'a>> {
    let covering = input.answers.iter().filter(|answer| answer.covers(input.lane, input.release));
    let by_position: BTreeMap<Position, &DeployAnswer> =
        covering.map(|answer| (answer.answer.position, answer)).collect();
    let latest = latest(by_position.values().map(|answer| &answer.answer));
    let counted = latest.into_iter().filter_map(|answer| {
        let given = by_position.get(&answer.position)?;
        let ended = if !answer.granted {
            None
        } else if given.expires_at.is_some_and(|end| end <= input.now) {
            Some(Ended::Expired)
        } else {
            given.is_used_up(input).then_some(Ended::UsedUp)
        };
        Some(Counted { answer, ended })
    });
    counted.collect()
}

/// The latest answer of each person, by position.
pub(super) fn latest<'a>(answers: impl Iterator<Item = &'a Answer>) -> Vec<&'a Answer> {
    let mut latest: BTreeMap<PersonName, &Answer> = BTreeMap::new();
    for answer in answers.filter(|answer| answer.actor.is_person()) {
        let kept = latest.entry(PersonName::of(&answer.actor.name)).or_insert(answer);
        if kept.position < answer.position {
            *kept = answer;
        }
    }
    let mut latest: Vec<_> = latest.into_values().collect();
    latest.sort_by_key(|answer| answer.position);
    latest
}

/// Returns how many people other than the requester have approved, and the position of a rejection.
#[must_use]
pub fn approved_by_others(answers: &[Answer], requester: &Actor) -> (usize, Option<Position>) {
    let mut others = latest(answers.iter());
    others.retain(|answer| !answer.actor.is_same_person(requester));
    let granted = others.iter().filter(|answer| answer.granted).count();
    (granted, others.iter().find(|answer| !answer.granted).map(|answer| answer.position))
}

pub(super) fn finding(counted: &[Counted<'_>], wanted: u32, requester: Option<&Actor>) -> Finding {
    let wanted = wanted as usize;
    let is_own = |answer: &Answer| requester.is_some_and(|requester| answer.actor.is_same_person(requester));
    let others = || counted.iter().filter(|counted| !is_own(counted.answer));
    if let Some(rejected) = others().find(|counted| !counted.answer.granted) {
        let detail = format!("{} rejected it", rejected.answer.actor.name);
        return Finding::new(Rule::Approvals, false, detail, Some(rejected.answer.position));
    }
    let grants: Vec<&Answer> = others().filter_map(Counted::in_force).collect();
    let mut detail = format!("{} of {wanted} approvals", grants.len());
    for (answer, separator) in grants.iter().zip(std::iter::once(": ").chain(std::iter::repeat(", "))) {
        detail.push_str(&format!("{separator}{} (position {})", answer.actor.name, answer.position));
    }
    for Counted { answer, ended } in others() {
        let ended = match ended {
            None => continue,
            Some(Ended::Expired) => "has expired",
            Some(Ended::UsedUp) => "is used up",
        };
        detail.push_str(&format!("; that of {} {ended}", answer.actor.name));
    }
    if counted.iter().any(|counted| is_own(counted.answer)) {
        detail.push_str("; the requester's own does not count");
    }
    if requester.is_none() {
        detail.push_str("; the requester is not named, so that one of them may be the requester's own");
    }
    let passes = grants.len() >= wanted && requester.is_some();
    let position = others().map(|counted| counted.answer.position).max();
    let grants: Vec<_> = grants.into_iter().map(|answer| answer.position).collect();
    // Whose approvals count depends on who asks.
    let unknown = !passes && grants.len() >= wanted;
    Finding { grants, unknown, ..Finding::new(Rule::Approvals, passes, detail, position) }
}
