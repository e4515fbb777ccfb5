//! The approvals rule: which answers count, what they cover and when a grant lapses.
//!
//! Only people approve, and each person's latest answer that covers the deploy counts. Requesters cannot approve their
//! own requests.

use std::collections::BTreeMap;

use super::answer::{Answer, DeployAnswer};
use super::finding::{Finding, Rule};
use super::input::GateInput;
use crate::event::Actor;
use crate::{PersonName, Position, Release};

/// The reason why a grant no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LapseReason {
    Expired,
    UsedUp,
}

/// A person's latest answer that covers the deploy.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatestAnswer<'a> {
    pub(super) answer: &'a Answer,
    pub(super) lapsed: Option<LapseReason>,
}

impl<'a> LatestAnswer<'a> {
    /// Returns the answer if it is a grant that has not lapsed.
    pub(super) fn valid_grant(&self) -> Option<&'a Answer> {
        (self.answer.granted && self.lapsed.is_none()).then_some(self.answer)
    }
}

/// Returns each person's latest answer that covers the deploy.
pub(super) fn latest_answers<'a>(input: &GateInput<'a>) -> Vec<LatestAnswer<'a>> {
    let covering = input.answers.iter().filter(|answer| answer.covers(input.lane, input.release));
    let by_position: BTreeMap<Position, &DeployAnswer> =
        covering.map(|answer| (answer.answer.position, answer)).collect();
    let latest = latest_by_person(by_position.values().map(|answer| &answer.answer));
    let answers = latest.into_iter().filter_map(|answer| {
        let given = by_position.get(&answer.position)?;
        let lapsed = if !answer.granted {
            None
        } else if given.expires_at.is_some_and(|end| end <= input.now) {
            Some(LapseReason::Expired)
        } else {
            is_used_up(given, input).then_some(LapseReason::UsedUp)
        };
        Some(LatestAnswer { answer, lapsed })
    });
    answers.collect()
}

/// Returns true if a release that the grant covers was deployed to the lane after the grant and has left the lane
/// since.
fn is_used_up(grant: &DeployAnswer, input: &GateInput<'_>) -> bool {
    // A part that a report leaves out does not indicate another release.
    let is_covered = |release: &Release| !grant.release.contradicts(release);
    let was_deployed = input.deploys.iter().any(|deploy| {
        let is_later = deploy.position > grant.answer.position && deploy.occurred_at > grant.occurred_at;
        is_later && is_covered(&deploy.release)
    });
    let mut present = input.present.into_iter().flat_map(|fold| fold.live().into_iter().chain(fold.idle()));
    was_deployed && !present.any(|held| is_covered(held.release))
}

/// Returns each person's latest answer, ordered by position.
fn latest_by_person<'a>(answers: impl Iterator<Item = &'a Answer>) -> Vec<&'a Answer> {
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

/// Returns the number of people other than the requester who approve, and the position of a rejection.
#[must_use]
pub fn approved_by_others(answers: &[Answer], requester: &Actor) -> (usize, Option<Position>) {
    let mut others = latest_by_person(answers.iter());
    others.retain(|answer| !answer.actor.is_same_person(requester));
    let granted = others.iter().filter(|answer| answer.granted).count();
    (granted, others.iter().find(|answer| !answer.granted).map(|answer| answer.position))
}

pub(super) fn finding(latest: &[LatestAnswer<'_>], required: u32, requester: Option<&Actor>) -> Finding {
    let required = required as usize;
    let is_own = |answer: &Answer| requester.is_some_and(|requester| answer.actor.is_same_person(requester));
    let others = || latest.iter().filter(|latest| !is_own(latest.answer));
    if let Some(rejection) = others().find(|latest| !latest.answer.granted) {
        let detail = format!("{} rejected the deploy", rejection.answer.actor.name);
        return Finding::new(Rule::Approvals, false, detail, Some(rejection.answer.position));
    }
    let grants: Vec<&Answer> = others().filter_map(LatestAnswer::valid_grant).collect();
    let mut detail = format!("{} of {required} approvals", grants.len());
    for (answer, separator) in grants.iter().zip(std::iter::once(": ").chain(std::iter::repeat(", "))) {
        detail.push_str(&format!("{separator}{} (position {})", answer.actor.name, answer.position));
    }
    for LatestAnswer { answer, lapsed } in others() {
        let reason = match lapsed {
            None => continue,
            Some(LapseReason::Expired) => "has expired",
            Some(LapseReason::UsedUp) => "is used up",
        };
        detail.push_str(&format!("; the approval of {} {reason}", answer.actor.name));
    }
    if latest.iter().any(|latest| is_own(latest.answer)) {
        detail.push_str("; the requester's own answer does not count");
    }
    if requester.is_none() {
        detail.push_str("; the requester is not named, so one of these approvals may be the requester's own");
    }
    let passes = grants.len() >= required && requester.is_some();
    let position = others().map(|latest| latest.answer.position).max();
    let grants: Vec<_> = grants.into_iter().map(|answer| answer.position).collect();
    // Without a requester it is unknown which approvals count.
    let unknown = !passes && grants.len() >= required;
    Finding { grants, unknown, ..Finding::new(Rule::Approvals, passes, detail, position) }
}
