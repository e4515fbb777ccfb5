//! Spans in which a release was in its lane, by the whole history of the lane.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ledger_domain::retirement::{RetirementStatus, Retirements};
use ledger_domain::span::Span;
use ledger_domain::{Effect, LaneFold, Release, Track, TrackEntry};

/// Returns the spans in which traffic reached a release, and those in which it was in each slot, by the whole history of
/// its lane.
pub(super) fn spans_from_history(
    fold: &LaneFold,
    release: &Release,
    retirements: &Retirements,
) -> (Vec<Span>, Vec<Vec<Span>>) {
    let retired = retirements.spans();
    let begins = std::iter::once(DateTime::<Utc>::MIN_UTC).chain(retired.iter().map(|span| span.until));
    let ends = retired.iter().map(|span| span.from).chain([DateTime::<Utc>::MAX_UTC]);
    let mut live = Vec::new();
    let mut slots: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for (begin, end) in begins.zip(ends) {
        let part = fold.without_discarded_changes(RetirementStatus::Active(Some(begin)));
        let changes = part.changes();
        let ends_at = |index: usize| {
            let next = changes.get(index + 1).map(|(_, written)| written.since.occurred_at);
            next.unwrap_or(end).min(end)
        };
        for (index, (since, runs)) in part.steps().into_iter().enumerate() {
            let Some(span) = Span::new(since.occurred_at, ends_at(index)) else { continue };
            if runs.as_ref().is_some_and(|runs| runs.release.is_same(release)) {
                live.push(span);
            }
        }
        for (index, (track, written)) in changes.iter().enumerate() {
            let Track::Slot(slot) = track else { continue };
            if !matches!(&written.effect, Effect::Deployed(deployed) if deployed.is_same(release)) {
                continue;
            }
            let empties = |(other, later): &&(Track, TrackEntry)| {
                other == track || *other == Track::Traffic && later.effect == Effect::Removed
            };
            let next = changes[index + 1..].iter().find(empties);
            let until = next.map_or(end, |(_, later)| later.since.occurred_at.min(end));
            let span = Span::new(written.since.occurred_at, until);
            slots.entry(slot.to_string()).or_default().extend(span);
        }
    }
    (live, slots.into_values().collect())
}
