//! The approvals rule: which votes count, what they cover and when a grant lapses.
//!
//! Only people approve, and each person's latest vote that covers the deploy counts. Requesters cannot approve their
//! own requests.

use std::collections::BTreeMap;

use super::finding::{Finding, Rule};
use super::input::GateInput;
use super::vote::{ApprovalVote, DeployVote};
use crate::event::Actor;
use crate::{PersonName, Position, Release};

/// The reason why a grant no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LapseReason {
    Expired,
    UsedUp,
}

/// A person's latest vote that covers the deploy.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatestVote<'a> {
    pub(super) vote: &'a ApprovalVote,
    pub(super) lapsed: Option<LapseReason>,
}

impl<'a> LatestVote<'a> {
    /// Returns the vote if it is a grant that has not lapsed.
    pub(super) fn valid_grant(&self) -> Option<&'a ApprovalVote> {
        (self.vote.granted && self.lapsed.is_none()).then_some(self.vote)
    }
}

/// Returns each person's latest vote that covers the deploy.
pub(super) fn latest_votes<'a>(input: &GateInput<'a>) -> Vec<LatestVote<'a>> {
    let covering = input.votes.iter().filter(|vote| vote.covers(input.lane, input.release));
    let by_position: BTreeMap<Position, &DeployVote> =
        covering.map(|vote| (vote.vote.position, vote)).collect();
    let latest = latest_by_person(by_position.values().map(|vote| &vote.vote));
    let votes = latest.into_iter().filter_map(|vote| {
        let given = by_position.get(&vote.position)?;
        let lapsed = if !vote.granted {
            None
        } else if given.expires_at.is_some_and(|end| end <= input.now) {
            Some(LapseReason::Expired)
        } else {
            is_used_up(given, input).then_some(LapseReason::UsedUp)
        };
        Some(LatestVote { vote, lapsed })
    });
    votes.collect()
}

/// Returns true if a release that the grant covers was deployed to the lane after the grant and has left the lane
/// since.
fn is_used_up(grant: &DeployVote, input: &GateInput<'_>) -> bool {
    // A part that a report leaves out does not indicate another release.
    let is_covered = |release: &Release| !grant.release.contradicts(release);
    let was_deployed = input.deploys.iter().any(|deploy| {
        let is_later = deploy.position > grant.vote.position && deploy.occurred_at > grant.occurred_at;
        is_later && is_covered(&deploy.release)
    });
    let mut present = input.present.into_iter().flat_map(|fold| fold.live().into_iter().chain(fold.idle()));
    was_deployed && !present.any(|held| is_covered(held.release))
}

/// Returns each person's latest vote, ordered by position.
fn latest_by_person<'a>(votes: impl Iterator<Item = &'a ApprovalVote>) -> Vec<&'a ApprovalVote> {
    let mut latest: BTreeMap<PersonName, &ApprovalVote> = BTreeMap::new();
    for vote in votes.filter(|vote| vote.actor.is_person()) {
        let kept = latest.entry(PersonName::of(&vote.actor.name)).or_insert(vote);
        if kept.position < vote.position {
            *kept = vote;
        }
    }
    let mut latest: Vec<_> = latest.into_values().collect();
    latest.sort_by_key(|vote| vote.position);
    latest
}

/// Returns the number of people other than the requester who approve, and the position of a rejection.
#[must_use]
pub fn approved_by_others(votes: &[ApprovalVote], requester: &Actor) -> (usize, Option<Position>) {
    let mut others = latest_by_person(votes.iter());
    others.retain(|vote| !vote.actor.is_same_person(requester));
    let granted = others.iter().filter(|vote| vote.granted).count();
    (granted, others.iter().find(|vote| !vote.granted).map(|vote| vote.position))
}

pub(super) fn finding(latest: &[LatestVote<'_>], required: u32, requester: Option<&Actor>) -> Finding {
    let required = required as usize;
    let is_own =
        |vote: &ApprovalVote| requester.is_some_and(|requester| vote.actor.is_same_person(requester));
    let others = || latest.iter().filter(|latest| !is_own(latest.vote));
    if let Some(rejection) = others().find(|latest| !latest.vote.granted) {
        let detail = format!("{} rejected the deploy", rejection.vote.actor.name);
        return Finding::new(Rule::Approvals, false, detail, Some(rejection.vote.position));
    }
    let grants: Vec<&ApprovalVote> = others().filter_map(LatestVote::valid_grant).collect();
    let mut detail = format!("{} of {required} approvals", grants.len());
    for (vote, separator) in grants.iter().zip(std::iter::once(": ").chain(std::iter::repeat(", "))) {
        detail.push_str(&format!("{separator}{} (position {})", vote.actor.name, vote.position));
    }
    for LatestVote { vote, lapsed } in others() {
        let reason = match lapsed {
            None => continue,
            Some(LapseReason::Expired) => "has expired",
            Some(LapseReason::UsedUp) => "is used up",
        };
        detail.push_str(&format!("; the approval of {} {reason}", vote.actor.name));
    }
    if latest.iter().any(|latest| is_own(latest.vote)) {
        detail.push_str("; the requester's own answer does not count");
    }
    if requester.is_none() {
        detail.push_str("; the requester is not named, so one of these approvals may be the requester's own");
    }
    let passes = grants.len() >= required && requester.is_some();
    let position = others().map(|latest| latest.vote.position).max();
    let grants: Vec<_> = grants.into_iter().map(|vote| vote.position).collect();
    // Without a requester it is unknown which approvals count.
    let unknown = !passes && grants.len() >= required;
    Finding { grants, unknown, ..Finding::new(Rule::Approvals, passes, detail, position) }
}
