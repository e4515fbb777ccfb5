//! What a lane runs, as a function of its changes.
//!
//! The changes of a lane are deploys, removals and traffic switches, each on a track: the traffic track (the lane
//! itself), or one of its slots. What the lane runs depends on the set of changes that are known and on nothing
//! else: a report that comes late, or before another that it presupposes, leads to the same answer.
//!
//! Decision 0015, section 1, is the specification.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use crate::composition::{LiveRelease, Since};
use crate::{Position, Release, SlotName};

/// What runs in a lane, or stands in a slot of it, as its history has it.
pub type LiveReleaseRef<'c> = LiveRelease<&'c SlotName, &'c Release, &'c Since>;

/// What a change is written to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// What traffic reaches: the lane itself (a deploy without a slot is live at once) or a slot.
    Traffic,
    /// What stands in a slot, live or not.
    Slot(SlotName),
}

/// What a change does to its track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The release stands there.
    Deployed(Release),
    /// Nothing stands there. On the traffic track: nor in any slot that had a change before.
    Removed,
    /// Traffic reaches this slot. Only the traffic track has this effect.
    SwitchedTo(SlotName),
}

/// A change of a track: what it did, and the event that did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackEntry {
    /// What it did.
    pub effect: Effect,
    /// The event that did it.
    pub since: Since,
}

/// The result of applying a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The track already had a change with a later moment.
    pub late: bool,
    /// The lane already had a change with a later moment.
    pub behind: bool,
    /// The lane's live release is another one now.
    pub altered: bool,
    /// What contradicts what the lane had at the moment of the change.
    pub anomaly: Option<Anomaly>,
}

macro_rules! anomalies {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal;)+) => {
        /// A contradiction between a report and what the ledger knew as it was recorded. The report is marked,
        /// never dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Anomaly {
            $($(#[$doc])+ $variant,)+
        }

        impl Anomaly {
            /// Every anomaly.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the anomaly as one word.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

anomalies! {
    /// The lane already had a change with a later moment.
    Late = "late";
    /// Something was removed where nothing stood.
    RemovedNothing = "removed_nothing";
    /// Traffic was switched to a slot that was known to be empty. The lane stays as it was.
    SwitchedToEmptySlot = "switched_to_empty_slot";
    /// Traffic was switched to a slot of which nothing was known yet. The lane stays as it was until the slot's
    /// deploy is known.
    SwitchPending = "switch_pending";
    /// The environment was frozen, and the report is no step of a rollback.
    DuringFreeze = "during_freeze";
    /// The report names no target, and the service has several. No lane changes.
    AmbiguousTarget = "ambiguous_target";
    /// What was checked changed between the check's start and its end. The check does not count.
    StraddlesChange = "straddles_change";
    /// The counts of a check that passed contain failures, or nothing that was run. The check does not count.
    CountsContradict = "counts_contradict";
    /// The environment was retired. No lane changes.
    EnvironmentRetired = "environment_retired";
    /// The event that the report corrects is not in the ledger, or is of a kind that cannot be corrected.
    CorrectsNothing = "corrects_nothing";
}

/// The content of a slot at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content<'c> {
    /// No change of the slot is known up to then.
    Unknown,
    /// It was emptied, by this change.
    Empty(&'c Since),
    /// It holds what this change deployed.
    Filled(&'c Release, &'c Since),
}

/// What traffic reaches, and since when.
struct Reached<'c> {
    live: Option<LiveReleaseRef<'c>>,
    since: Option<&'c Since>,
}

/// One lane: the changes that matter for what it runs, by moment.
///
/// Given all changes it answers for any of them; given the last change of each track only, it answers for the end as long as
/// the lane is [regular](Self::is_regular).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneFold {
    changes: Vec<(Track, TrackEntry)>,
}

impl LaneFold {
    /// Applies one change.
    pub fn apply(&mut self, track: &Track, written: TrackEntry) -> Applied {
        let before = self.live().map(|live| live.release.clone());
        let anomaly = self.contradiction(track, &written);
        let behind = self.changes.last().is_some_and(|(_, last)| is_before(&written.since, &last.since));
        let late = behind && self.kept(track).is_some_and(|kept| is_before(&written.since, &kept.since));
        self.insert(track.clone(), written);
        let altered = before.as_ref() != self.live().map(|live| live.release);
        Applied { late, behind, altered, anomaly }
    }

    /// Adds one change, without looking at what it means.
    pub fn insert(&mut self, track: Track, written: TrackEntry) {
        let index = self.changes.partition_point(|(_, other)| is_before(&other.since, &written.since));
        self.changes.insert(index, (track, written));
    }

    /// Takes back the change that an event made; returns its track.
    pub fn take_back(&mut self, position: Position) -> Option<Track> {
        let index = self.changes.iter().position(|(_, written)| written.since.position == position)?;
        Some(self.changes.remove(index).0)
    }

    /// Forgets what can no longer matter for what the lane runs, whatever is reported later: in a lane without slots, every deploy
    /// but the last change. A removal is kept, since it empties each slot whose deploy turns out to be older.
    pub fn compact(&mut self) {
        let has_slots = |(track, written): &(Track, TrackEntry)| {
            *track != Track::Traffic || matches!(written.effect, Effect::SwitchedTo(_))
        };
        if self.changes.len() > 1 && !self.changes.iter().any(has_slots) {
            let last = self.changes.len() - 1;
            let mut index = 0..;
            self.changes
                .retain(|(_, written)| index.next() == Some(last) || written.effect == Effect::Removed);
        }
    }

    /// Returns the lane without the changes that occurred before a time: an environment that was retired and declared again
    /// begins with nothing.
    #[must_use]
    pub fn after(&self, time: DateTime<Utc>) -> Self {
        let index = self.changes.partition_point(|(_, written)| written.since.occurred_at < time);
        Self { changes: self.changes[index..].to_vec() }
    }

    /// Returns the last change of a track.
    #[must_use]
    pub fn kept(&self, track: &Track) -> Option<&TrackEntry> {
        self.changes.iter().rev().find(|(of, _)| of == track).map(|(_, written)| written)
    }

    /// Returns true if the last change of each track is enough to tell what the lane runs: every switch is effective from its
    /// own moment, and no removal of the lane empties slots.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        let has_slots = self.changes.iter().any(|(track, _)| *track != Track::Traffic);
        self.changes.iter().enumerate().all(|(index, (track, written))| match (track, &written.effect) {
            (Track::Traffic, Effect::SwitchedTo(slot)) => {
                matches!(content(&self.changes[..index], slot), Content::Filled(..))
            }
            (Track::Traffic, Effect::Removed) => !has_slots,
            _ => true,
        })
    }

    fn contradiction(&self, track: &Track, written: &TrackEntry) -> Option<Anomaly> {
        let until = self.changes.partition_point(|(_, other)| is_before(&other.since, &written.since));
        let (before, after) = self.changes.split_at(until);
        match (&written.effect, track) {
            // What stood before a late removal may be forgotten.
            (Effect::Removed, _) if !after.is_empty() => None,
            (Effect::Removed, Track::Slot(slot)) => {
                (!matches!(content(before, slot), Content::Filled(..))).then_some(Anomaly::RemovedNothing)
            }
            (Effect::Removed, Track::Traffic) => {
                let is_empty = reached(before).live.is_none() && filled(before).next().is_none();
                is_empty.then_some(Anomaly::RemovedNothing)
            }
            (Effect::SwitchedTo(slot), _) => match content(before, slot) {
                Content::Filled(..) => None,
                Content::Empty(_) => Some(Anomaly::SwitchedToEmptySlot),
                Content::Unknown => first_deploy(after, slot).is_none().then_some(Anomaly::SwitchPending),
            },
            (Effect::Deployed(_), _) => None,
        }
    }

    /// Returns what the lane runs: the release that traffic reaches.
    #[must_use]
    pub fn live(&self) -> Option<LiveReleaseRef<'_>> {
        reached(&self.changes).live
    }

    /// Returns the event since which traffic reaches what it does, or nothing.
    #[must_use]
    pub fn since(&self) -> Option<&Since> {
        reached(&self.changes).since
    }

    /// Returns the change that traffic follows next, if the last switches are without effect: those that wait for their slot's
    /// deploy, and those to slots that were empty.
    #[must_use]
    pub fn passed_over(&self) -> Vec<(&SlotName, &Since)> {
        let traffic =
            self.changes.iter().enumerate().rev().filter(|(_, (track, _))| *track == Track::Traffic);
        traffic
            .map_while(|(index, (_, written))| match &written.effect {
                Effect::SwitchedTo(slot) if effective_from(&self.changes, index, slot).is_none() => {
                    Some((slot, &written.since))
                }
                _ => None,
            })
            .collect()
    }

    /// Returns the greatest position of its changes.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.changes.iter().map(|(_, written)| written.since.position).max()
    }

    /// Returns when the last of its changes occurred: a change that occurs later than this is not late.
    #[must_use]
    pub fn last_occurred_at(&self) -> Option<DateTime<Utc>> {
        self.changes.last().map(|(_, written)| written.since.occurred_at)
    }

    /// Returns the slots that have a change, sorted.
    #[must_use]
    pub fn slots(&self) -> Vec<&SlotName> {
        slots(&self.changes)
    }

    /// Returns what stands in slots that traffic does not reach, by slot.
    #[must_use]
    pub fn idle(&self) -> Vec<LiveReleaseRef<'_>> {
        let live = self.live().and_then(|live| live.slot);
        filled(&self.changes).filter(|idle| idle.slot != live).collect()
    }

    /// Returns true if something stands in the slot.
    #[must_use]
    pub fn is_filled(&self, slot: &SlotName) -> bool {
        matches!(content(&self.changes, slot), Content::Filled(..))
    }

    /// Returns true if the lane runs something, or holds something in a slot.
    #[must_use]
    pub fn holds_anything(&self) -> bool {
        self.live().is_some() || filled(&self.changes).next().is_some()
    }

    /// Returns the changes, by moment.
    #[must_use]
    pub fn changes(&self) -> &[(Track, TrackEntry)] {
        &self.changes
    }

    /// Returns what the lane ran after each of its changes, by moment: when that began, and what it was. Adjacent
    /// steps may be equal.
    #[must_use]
    pub fn steps(&self) -> Vec<(&Since, Option<LiveReleaseRef<'_>>)> {
        (0..self.changes.len())
            .map(|index| (&self.changes[index].1.since, self.live_after(0, index)))
            .collect()
    }

    /// Returns what the lane runs by the changes from one index up to another, this included.
    pub(crate) fn live_after(&self, first: usize, last: usize) -> Option<LiveReleaseRef<'_>> {
        reached(self.changes.get(first..=last)?).live
    }
}

fn is_before(one: &Since, other: &Since) -> bool {
    one.order(other) == Ordering::Less
}

/// The content of a slot after these changes.
fn content<'c>(changes: &'c [(Track, TrackEntry)], slot: &SlotName) -> Content<'c> {
    let of_slot = |track: &Track| matches!(track, Track::Slot(of) if of == slot);
    let mut removed = None;
    for (track, written) in changes.iter().rev() {
        match (&written.effect, track) {
            (Effect::Removed, Track::Traffic) if removed.is_none() => removed = Some(&written.since),
            (effect, track) if of_slot(track) => {
                return match (removed, effect) {
                    (Some(since), _) => Content::Empty(since),
                    (None, Effect::Deployed(release)) => Content::Filled(release, &written.since),
                    (None, Effect::Removed | Effect::SwitchedTo(_)) => Content::Empty(&written.since),
                };
            }
            _ => {}
        }
    }
    Content::Unknown
}

fn first_deploy<'c>(changes: &'c [(Track, TrackEntry)], slot: &SlotName) -> Option<&'c Since> {
    let mut deploys = changes.iter().filter(|(track, written)| {
        matches!(track, Track::Slot(of) if of == slot) && matches!(written.effect, Effect::Deployed(_))
    });
    deploys.next().map(|(_, written)| &written.since)
}

/// The event from which the switch with an index has its effect; `None` if it has none: it waits, or is void.
fn effective_from<'c>(
    changes: &'c [(Track, TrackEntry)],
    index: usize,
    slot: &SlotName,
) -> Option<&'c Since> {
    match content(&changes[..index], slot) {
        Content::Filled(..) => Some(&changes[index].1.since),
        Content::Empty(_) => None,
        Content::Unknown => first_deploy(&changes[index..], slot),
    }
}

/// What traffic reaches after these changes.
fn reached(changes: &[(Track, TrackEntry)]) -> Reached<'_> {
    let traffic = changes.iter().enumerate().rev().filter(|(_, (track, _))| *track == Track::Traffic);
    for (index, (_, written)) in traffic {
        match &written.effect {
            Effect::Deployed(release) => {
                let live = LiveRelease { slot: None, release, since: &written.since };
                return Reached { live: Some(live), since: Some(&written.since) };
            }
            Effect::Removed => return Reached { live: None, since: Some(&written.since) },
            Effect::SwitchedTo(slot) => {
                let Some(from) = effective_from(changes, index, slot) else { continue };
                let later = |since| if is_before(from, since) { since } else { from };
                return match content(changes, slot) {
                    Content::Filled(release, since) => {
                        let since = later(since);
                        Reached {
                            live: Some(LiveRelease { slot: Some(slot), release, since }),
                            since: Some(since),
                        }
                    }
                    Content::Empty(since) => Reached { live: None, since: Some(later(since)) },
                    Content::Unknown => Reached { live: None, since: Some(from) },
                };
            }
        }
    }
    Reached { live: None, since: None }
}

fn slots(changes: &[(Track, TrackEntry)]) -> Vec<&SlotName> {
    let mut slots: Vec<_> = changes
        .iter()
        .filter_map(|(track, _)| match track {
            Track::Traffic => None,
            Track::Slot(slot) => Some(slot),
        })
        .collect();
    slots.sort();
    slots.dedup();
    slots
}

/// What stands in slots after these changes, by slot.
fn filled(changes: &[(Track, TrackEntry)]) -> impl Iterator<Item = LiveReleaseRef<'_>> {
    slots(changes).into_iter().filter_map(|slot| match content(changes, slot) {
        Content::Filled(release, since) => Some(LiveRelease { slot: Some(slot), release, since }),
        Content::Empty(_) | Content::Unknown => None,
    })
}

#[cfg(test)]
mod tests;
