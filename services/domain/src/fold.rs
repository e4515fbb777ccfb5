//! The state of a lane as a pure function of its changes.
//!
//! The changes of a lane are deploys, removals and traffic switches. Each belongs to a track: the traffic track (the
//! lane itself) or one of its slots. Changes are ordered by moment: `(occurred_at, position)`. The state depends only
//! on the set of known changes: reports that arrive late or out of order lead to the same state.
//!
//! Decision 0015, section 1, is the specification.

use std::borrow::Cow;
use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use crate::composition::{EventRef, LiveRelease};
use crate::retirement::{RetirementStatus, Retirements};
use crate::{Position, Release, SlotName};

/// A [`LiveRelease`] that borrows from the history of its lane.
pub type LiveReleaseRef<'c> = LiveRelease<&'c SlotName, &'c Release, &'c EventRef>;

/// The part of a lane that a change applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The lane itself: deploys without a slot, which are live at once, removals of the lane, and traffic switches.
    Traffic,
    /// One slot of the lane, live or not.
    Slot(SlotName),
}

/// The effect of a change on its track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The track holds this release.
    Deployed(Release),
    /// The track is emptied. A removal on the traffic track also empties every slot that had a change before.
    Removed,
    /// Traffic is switched to this slot. Occurs only on the traffic track.
    SwitchedTo(SlotName),
}

/// A change of a track: its effect, and the event that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackEntry {
    /// The effect.
    pub effect: Effect,
    /// The event that made the change.
    pub since: EventRef,
}

/// The result of applying a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// True if the track already had a change with a later moment.
    pub late: bool,
    /// True if the lane already had a change with a later moment, on any track.
    pub behind: bool,
    /// True if the change altered the live release of the lane.
    pub altered: bool,
    /// The contradiction between the change and the state of the lane at the moment of the change.
    pub anomaly: Option<Anomaly>,
}

macro_rules! anomalies {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal;)+) => {
        /// A contradiction between a report and the state of the ledger when the report was recorded. The report is
        /// marked, never dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Anomaly {
            $($(#[$doc])+ $variant,)+
        }

        impl Anomaly {
            /// All anomalies.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the name of the anomaly in the API and in the database.
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
    /// A removal applied to a lane or a slot that held nothing.
    RemovedNothing = "removed_nothing";
    /// Traffic was switched to a slot that was known to be empty. The switch has no effect.
    SwitchedToEmptySlot = "switched_to_empty_slot";
    /// Traffic was switched to a slot without any known change. The switch has no effect until a deploy to the slot is
    /// known.
    SwitchPending = "switch_pending";
    /// The environment was frozen, and the report was not a step of a rollback.
    DuringFreeze = "during_freeze";
    /// The report names no target, and the service has several targets. The report changes no lane.
    AmbiguousTarget = "ambiguous_target";
    /// The subject of a check changed between the check's start and its end. The check does not count.
    StraddlesChange = "straddles_change";
    /// The counts of a passed check contain failed cases, or no passed case. The check does not count.
    CountsContradict = "counts_contradict";
    /// The environment was retired. The report changes no lane.
    EnvironmentRetired = "environment_retired";
    /// The event to correct is not in the ledger, or is of a kind that cannot be corrected.
    CorrectsNothing = "corrects_nothing";
}

/// The content of a slot at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotContent<'c> {
    /// No change of the slot is known up to that moment.
    Unknown,
    /// The slot was emptied by this change.
    Empty(&'c EventRef),
    /// The slot holds the release that this change deployed.
    Filled(&'c Release, &'c EventRef),
}

/// The use of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupancy {
    /// The lane has no change that counts.
    Unused,
    /// The lane has changed, and neither runs a release nor holds one in a slot.
    Vacant,
    /// The lane runs a release, or holds one in a slot.
    Occupied,
}

/// The release that traffic reaches, and the event since which it does.
struct TrafficState<'c> {
    live: Option<LiveReleaseRef<'c>>,
    since: Option<&'c EventRef>,
}

/// The fold over the changes of one lane, ordered by moment.
///
/// With all changes, it gives the state after any of them. With only the last change of each track, it gives the latest
/// state, provided that the lane is [regular](Self::is_regular).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneFold {
    changes: Vec<(Track, TrackEntry)>,
}

impl LaneFold {
    /// Applies a change.
    pub fn apply(&mut self, track: &Track, entry: TrackEntry) -> Applied {
        let before = self.live().map(|live| live.release.clone());
        let anomaly = self.detect_anomaly(track, &entry);
        let behind = self.changes.last().is_some_and(|(_, last)| is_before(&entry.since, &last.since));
        let late = behind && self.last_change(track).is_some_and(|last| is_before(&entry.since, &last.since));
        self.insert(track.clone(), entry);
        let altered = before.as_ref() != self.live().map(|live| live.release);
        Applied { late, behind, altered, anomaly }
    }

    /// Adds a change without computing its effects.
    pub fn insert(&mut self, track: Track, entry: TrackEntry) {
        let index = self.changes.partition_point(|(_, other)| is_before(&other.since, &entry.since));
        self.changes.insert(index, (track, entry));
    }

    /// Removes the change that an event made, because a correction replaces it. Returns its track.
    pub fn remove(&mut self, position: Position) -> Option<Track> {
        let index = self.changes.iter().position(|(_, entry)| entry.since.position == position)?;
        Some(self.changes.remove(index).0)
    }

    /// Discards the changes that no later report can make relevant: in a lane without slots, all deploys except the
    /// last change. Keeps removals: a removal empties each slot whose earlier deploy is reported later.
    pub fn compact(&mut self) {
        let has_slots = |(track, entry): &(Track, TrackEntry)| {
            *track != Track::Traffic || matches!(entry.effect, Effect::SwitchedTo(_))
        };
        if self.changes.len() > 1 && !self.changes.iter().any(has_slots) {
            let last = self.changes.len() - 1;
            let mut index = 0..;
            self.changes.retain(|(_, entry)| index.next() == Some(last) || entry.effect == Effect::Removed);
        }
    }

    /// Returns the lane without the changes that retirements of its environment discard: an environment that was retired
    /// and declared again starts empty.
    #[must_use]
    pub fn without_discarded_changes(&self, status: RetirementStatus) -> Cow<'_, Self> {
        let changes = self.counting_changes(status);
        if changes.len() == self.changes.len() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { changes: changes.to_vec() })
    }

    /// Returns the changes that retirements of the environment do not discard.
    fn counting_changes(&self, status: RetirementStatus) -> &[(Track, TrackEntry)] {
        &self.changes[self.changes.partition_point(|(_, entry)| !status.includes(entry.since.occurred_at))..]
    }

    /// Returns the last change of a track.
    #[must_use]
    pub fn last_change(&self, track: &Track) -> Option<&TrackEntry> {
        self.changes.iter().rev().find(|(of, _)| of == track).map(|(_, entry)| entry)
    }

    /// Returns true if the last change of each track determines the state of the lane: every switch is effective from
    /// its own moment, and no removal of the lane empties slots.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        let has_slots = self.changes.iter().any(|(track, _)| *track != Track::Traffic);
        self.changes.iter().enumerate().all(|(index, (track, entry))| match (track, &entry.effect) {
            (Track::Traffic, Effect::SwitchedTo(slot)) => {
                matches!(slot_content(&self.changes[..index], slot), SlotContent::Filled(..))
            }
            (Track::Traffic, Effect::Removed) => !has_slots,
            _ => true,
        })
    }

    fn detect_anomaly(&self, track: &Track, entry: &TrackEntry) -> Option<Anomaly> {
        let until = self.changes.partition_point(|(_, other)| is_before(&other.since, &entry.since));
        let (before, after) = self.changes.split_at(until);
        match (&entry.effect, track) {
            // `compact` may have discarded the changes before a late removal.
            (Effect::Removed, _) if !after.is_empty() => None,
            (Effect::Removed, Track::Slot(slot)) => {
                (!matches!(slot_content(before, slot), SlotContent::Filled(..)))
                    .then_some(Anomaly::RemovedNothing)
            }
            (Effect::Removed, Track::Traffic) => {
                let is_empty = traffic_state(before).live.is_none() && filled_slots(before).next().is_none();
                is_empty.then_some(Anomaly::RemovedNothing)
            }
            (Effect::SwitchedTo(slot), _) => match slot_content(before, slot) {
                SlotContent::Filled(..) => None,
                SlotContent::Empty(_) => Some(Anomaly::SwitchedToEmptySlot),
                SlotContent::Unknown => first_deploy(after, slot).is_none().then_some(Anomaly::SwitchPending),
            },
            (Effect::Deployed(_), _) => None,
        }
    }

    /// Returns the live release: the one that traffic reaches.
    #[must_use]
    pub fn live(&self) -> Option<LiveReleaseRef<'_>> {
        traffic_state(&self.changes).live
    }

    /// Returns the live release by the changes that retirements of the environment do not discard.
    #[must_use]
    pub fn live_under(&self, status: RetirementStatus) -> Option<LiveReleaseRef<'_>> {
        traffic_state(self.counting_changes(status)).live
    }

    /// Returns the event since which traffic reaches the live release, or nothing. `None` if no change affects traffic.
    #[must_use]
    pub fn since(&self) -> Option<&EventRef> {
        traffic_state(&self.changes).since
    }

    /// Returns the latest switches without effect, newest first, up to the change that determines the live release:
    /// switches that wait for a deploy to their slot, and switches to slots that were empty.
    #[must_use]
    pub fn ineffective_switches(&self) -> Vec<(&SlotName, &EventRef)> {
        let traffic =
            self.changes.iter().enumerate().rev().filter(|(_, (track, _))| *track == Track::Traffic);
        traffic
            .map_while(|(index, (_, entry))| match &entry.effect {
                Effect::SwitchedTo(slot) if effective_from(&self.changes, index, slot).is_none() => {
                    Some((slot, &entry.since))
                }
                _ => None,
            })
            .collect()
    }

    /// Returns the highest position among the changes.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.changes.iter().map(|(_, entry)| entry.since.position).max()
    }

    /// Returns the time of the last change by moment. A change that occurs later than this is not late.
    #[must_use]
    pub fn last_occurred_at(&self) -> Option<DateTime<Utc>> {
        self.changes.last().map(|(_, entry)| entry.since.occurred_at)
    }

    /// Returns the slots that have a change, sorted.
    #[must_use]
    pub fn slots(&self) -> Vec<&SlotName> {
        slots(&self.changes)
    }

    /// Returns the releases in slots that traffic does not reach, sorted by slot.
    #[must_use]
    pub fn idle(&self) -> Vec<LiveReleaseRef<'_>> {
        let live = self.live().and_then(|live| live.slot);
        filled_slots(&self.changes).filter(|idle| idle.slot != live).collect()
    }

    /// Returns true if the slot holds a release.
    #[must_use]
    pub fn is_filled(&self, slot: &SlotName) -> bool {
        matches!(slot_content(&self.changes, slot), SlotContent::Filled(..))
    }

    /// Returns the use of the lane by the changes that retirements of its environment do not discard.
    #[must_use]
    pub fn occupancy(&self, status: RetirementStatus) -> Occupancy {
        let changes = self.counting_changes(status);
        if changes.is_empty() {
            Occupancy::Unused
        } else if traffic_state(changes).live.is_some() || filled_slots(changes).next().is_some() {
            Occupancy::Occupied
        } else {
            Occupancy::Vacant
        }
    }

    /// Returns the changes, ordered by moment.
    #[must_use]
    pub fn changes(&self) -> &[(Track, TrackEntry)] {
        &self.changes
    }

    /// Returns, for each change in the order of moments, its event and the live release after it. Consecutive steps may
    /// have the same release.
    #[must_use]
    pub fn steps(&self) -> Vec<(&EventRef, Option<LiveReleaseRef<'_>>)> {
        (0..self.changes.len())
            .map(|index| (&self.changes[index].1.since, self.live_after(0, index)))
            .collect()
    }

    /// Returns the steps, as [`steps`](Self::steps) does, each by the changes that retirements of the environment do not
    /// discard at its time.
    #[must_use]
    pub fn steps_under(&self, retirements: &Retirements) -> Vec<(&EventRef, Option<LiveReleaseRef<'_>>)> {
        let step = |index: usize| {
            let since = &self.changes[index].1.since;
            let counting = self.counting_changes(retirements.at(since.occurred_at));
            (since, self.live_after(self.changes.len() - counting.len(), index))
        };
        (0..self.changes.len()).map(step).collect()
    }

    /// Returns the live release according to the changes from one index to another, both included.
    pub(crate) fn live_after(&self, first: usize, last: usize) -> Option<LiveReleaseRef<'_>> {
        traffic_state(self.changes.get(first..=last)?).live
    }
}

fn is_before(one: &EventRef, other: &EventRef) -> bool {
    one.order(other) == Ordering::Less
}

/// Returns the content of a slot after these changes.
fn slot_content<'c>(changes: &'c [(Track, TrackEntry)], slot: &SlotName) -> SlotContent<'c> {
    let of_slot = |track: &Track| matches!(track, Track::Slot(of) if of == slot);
    let mut removed = None;
    for (track, entry) in changes.iter().rev() {
        match (&entry.effect, track) {
            (Effect::Removed, Track::Traffic) if removed.is_none() => removed = Some(&entry.since),
            (effect, track) if of_slot(track) => {
                return match (removed, effect) {
                    (Some(since), _) => SlotContent::Empty(since),
                    (None, Effect::Deployed(release)) => SlotContent::Filled(release, &entry.since),
                    (None, Effect::Removed | Effect::SwitchedTo(_)) => SlotContent::Empty(&entry.since),
                };
            }
            _ => {}
        }
    }
    SlotContent::Unknown
}

fn first_deploy<'c>(changes: &'c [(Track, TrackEntry)], slot: &SlotName) -> Option<&'c EventRef> {
    let mut deploys = changes.iter().filter(|(track, entry)| {
        matches!(track, Track::Slot(of) if of == slot) && matches!(entry.effect, Effect::Deployed(_))
    });
    deploys.next().map(|(_, entry)| &entry.since)
}

/// Returns the event from which the switch at an index is effective; `None` if it has no effect: it is pending or void.
fn effective_from<'c>(
    changes: &'c [(Track, TrackEntry)],
    index: usize,
    slot: &SlotName,
) -> Option<&'c EventRef> {
    match slot_content(&changes[..index], slot) {
        SlotContent::Filled(..) => Some(&changes[index].1.since),
        SlotContent::Empty(_) => None,
        SlotContent::Unknown => first_deploy(&changes[index..], slot),
    }
}

/// Returns the state of traffic after these changes.
fn traffic_state(changes: &[(Track, TrackEntry)]) -> TrafficState<'_> {
    let traffic = changes.iter().enumerate().rev().filter(|(_, (track, _))| *track == Track::Traffic);
    for (index, (_, entry)) in traffic {
        match &entry.effect {
            Effect::Deployed(release) => {
                let live = LiveRelease { slot: None, release, since: &entry.since };
                return TrafficState { live: Some(live), since: Some(&entry.since) };
            }
            Effect::Removed => return TrafficState { live: None, since: Some(&entry.since) },
            Effect::SwitchedTo(slot) => {
                let Some(from) = effective_from(changes, index, slot) else { continue };
                let later = |since| if is_before(from, since) { since } else { from };
                return match slot_content(changes, slot) {
                    SlotContent::Filled(release, since) => {
                        let since = later(since);
                        TrafficState {
                            live: Some(LiveRelease { slot: Some(slot), release, since }),
                            since: Some(since),
                        }
                    }
                    SlotContent::Empty(since) => TrafficState { live: None, since: Some(later(since)) },
                    SlotContent::Unknown => TrafficState { live: None, since: Some(from) },
                };
            }
        }
    }
    TrafficState { live: None, since: None }
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

/// Returns the releases in slots after these changes, sorted by slot.
fn filled_slots(changes: &[(Track, TrackEntry)]) -> impl Iterator<Item = LiveReleaseRef<'_>> {
    slots(changes).into_iter().filter_map(|slot| match slot_content(changes, slot) {
        SlotContent::Filled(release, since) => Some(LiveRelease { slot: Some(slot), release, since }),
        SlotContent::Empty(_) | SlotContent::Unknown => None,
    })
}

#[cfg(test)]
mod tests;
