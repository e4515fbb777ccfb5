//! How changes fold into what a lane runs.
//!
//! A lane has tracks: the traffic track, and one track for each slot. A track keeps the change with
//! the greatest `(occurred_at, position)` that was written to it, and a lane's live release is read
//! off its tracks. So a late report of an older deploy never undoes a newer one, and the fold gives
//! the same answer in whatever order the reports came.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::composition::{Live, Since};
use crate::{Lane, Position, Release, SlotName};

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
    /// Nothing stands there.
    Removed,
    /// Traffic reaches this slot. Only the traffic track has this effect.
    SwitchedTo(SlotName),
}

/// What one event changes in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// The lane.
    pub lane: &'a Lane,
    /// The track of the lane.
    pub track: Track,
    /// What happens to the track.
    pub effect: Effect,
}

/// The change that a track keeps, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it did.
    pub effect: Effect,
    /// The event that did it.
    pub since: Since,
}

/// What came of applying a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The track already had a change that occurred later.
    pub late: bool,
    /// The lane's live release is another one now.
    pub altered: bool,
    /// What is odd about it.
    pub anomaly: Option<Anomaly>,
}

/// What is odd about a report, judged when it was recorded. It is marked, never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anomaly {
    /// Something was removed where nothing stood.
    RemovedNothing,
    /// Traffic was switched to a slot in which nothing stood.
    SwitchedToEmptySlot,
    /// The environment was frozen, and it was no step of a rollback.
    DuringFreeze,
}

impl Anomaly {
    /// The anomaly as one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RemovedNothing => "removed_nothing",
            Self::SwitchedToEmptySlot => "switched_to_empty_slot",
            Self::DuringFreeze => "during_freeze",
        }
    }
}

/// One lane, folded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneFold {
    traffic: Option<Written>,
    slots: BTreeMap<SlotName, Written>,
}

impl LaneFold {
    /// Applies one change.
    pub fn apply(&mut self, track: &Track, written: Written) -> Applied {
        let stood = self.standing(track).is_some();
        let before = self.live().map(|live| live.release.clone());
        let removes = written.effect == Effect::Removed;
        let switches = matches!(written.effect, Effect::SwitchedTo(_));
        let late = !self.write(track, written);
        let after = self.live();
        Applied {
            late,
            altered: before.as_ref() != after.map(|live| live.release),
            anomaly: if removes && !stood {
                Some(Anomaly::RemovedNothing)
            } else if switches && !late && after.is_none() {
                Some(Anomaly::SwitchedToEmptySlot)
            } else {
                None
            },
        }
    }

    /// Keeps the change if it is the track's latest; says whether it is.
    pub fn write(&mut self, track: &Track, written: Written) -> bool {
        let kept = match track {
            Track::Traffic => &mut self.traffic,
            Track::Slot(slot) => match self.slots.get_mut(slot) {
                Some(kept) => {
                    let newest = kept.since.order(&written.since) == Ordering::Less;
                    if newest {
                        *kept = written;
                    }
                    return newest;
                }
                None => {
                    self.slots.insert(slot.clone(), written);
                    return true;
                }
            },
        };
        let newest = kept.as_ref().is_none_or(|kept| kept.since.order(&written.since) == Ordering::Less);
        if newest {
            *kept = Some(written);
        }
        newest
    }

    /// The change that a track keeps.
    #[must_use]
    pub fn kept(&self, track: &Track) -> Option<&Written> {
        match track {
            Track::Traffic => self.traffic.as_ref(),
            Track::Slot(slot) => self.slots.get(slot),
        }
    }

    fn standing(&self, track: &Track) -> Option<&Release> {
        match track {
            Track::Traffic => self.live().map(|live| live.release),
            Track::Slot(slot) => match &self.slots.get(slot)?.effect {
                Effect::Deployed(release) => Some(release),
                Effect::Removed | Effect::SwitchedTo(_) => None,
            },
        }
    }

    /// What the lane runs: the release that traffic reaches.
    #[must_use]
    pub fn live(&self) -> Option<Live<&SlotName, &Release, &Since>> {
        let traffic = self.traffic.as_ref()?;
        match &traffic.effect {
            Effect::Deployed(release) => Some(Live { slot: None, release, since: &traffic.since }),
            Effect::Removed => None,
            Effect::SwitchedTo(slot) => {
                let standing = self.slots.get(slot)?;
                let Effect::Deployed(release) = &standing.effect else { return None };
                let since = match traffic.since.order(&standing.since) {
                    Ordering::Less => &standing.since,
                    Ordering::Equal | Ordering::Greater => &traffic.since,
                };
                Some(Live { slot: Some(slot), release, since })
            }
        }
    }

    /// Since when traffic reaches what it does, or nothing.
    #[must_use]
    pub fn since(&self) -> Option<&Since> {
        let live = self.live().map(|live| live.since);
        live.or_else(|| self.traffic.as_ref().map(|written| &written.since))
    }

    /// The position of the last change that any of its tracks keeps.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.traffic.iter().chain(self.slots.values()).map(|written| written.since.position).max()
    }

    /// When the last of the changes that its tracks keep occurred: what occurs later is kept.
    #[must_use]
    pub fn last_occurred_at(&self) -> Option<DateTime<Utc>> {
        self.traffic.iter().chain(self.slots.values()).map(|written| written.since.occurred_at).max()
    }

    /// The slots that the lane ever had.
    pub fn slots(&self) -> impl Iterator<Item = &SlotName> {
        self.slots.keys()
    }

    /// What stands in slots that traffic does not reach, by slot. Once the whole lane was removed, what was put
    /// into a slot before that stands no more.
    pub fn idle(&self) -> impl Iterator<Item = Live<&SlotName, &Release, &Since>> {
        let live = self.live().and_then(|live| live.slot);
        let removed = self.traffic.as_ref().filter(|traffic| traffic.effect == Effect::Removed);
        let is_gone = move |written: &Written| {
            removed.is_some_and(|removed| written.since.order(&removed.since) == Ordering::Less)
        };
        self.slots.iter().filter_map(move |(slot, written)| match &written.effect {
            Effect::Deployed(release) if Some(slot) != live && !is_gone(written) => {
                Some(Live { slot: Some(slot), release, since: &written.since })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::{EventId, Line};

    fn since(occurred_at: i64, position: u64) -> Since {
        Since {
            occurred_at: DateTime::from_timestamp(occurred_at, 0).expect("a time"),
            position: Position::new(position),
            event_id: EventId::parse(&format!("event-{position}")).expect("an id"),
        }
    }

    fn release(version: &str) -> Release {
        Release::of_version(Line::parse(version).expect("a version"))
    }

    fn deployed(version: &str) -> Effect {
        Effect::Deployed(release(version))
    }

    fn slot(name: &str) -> SlotName {
        SlotName::parse(name).expect("a slot")
    }

    fn in_slot(name: &str) -> Track {
        Track::Slot(slot(name))
    }

    /// Applies `(track, effect, occurred_at)` at positions 1, 2, 3 …
    fn given(changes: &[(Track, Effect, i64)]) -> (LaneFold, Vec<Applied>) {
        let mut lane = LaneFold::default();
        let mut position = 0;
        let applied = changes
            .iter()
            .map(|(track, effect, occurred_at)| {
                position += 1;
                lane.apply(track, Written { effect: effect.clone(), since: since(*occurred_at, position) })
            })
            .collect();
        (lane, applied)
    }

    fn live_version(lane: &LaneFold) -> Option<&str> {
        lane.live().map(|live| live.release.version.as_str())
    }

    #[test]
    fn the_latest_deploy_is_live() {
        let (lane, applied) =
            given(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v2"), 20)]);
        assert_eq!(live_version(&lane), Some("v2"));
        assert!(applied.iter().all(|a| a.altered && !a.late));
    }

    #[test]
    fn a_late_report_of_an_older_deploy_does_not_undo_a_newer_one() {
        let (lane, applied) =
            given(&[(Track::Traffic, deployed("v2"), 20), (Track::Traffic, deployed("v1"), 10)]);
        assert_eq!(live_version(&lane), Some("v2"));
        assert_eq!(applied[1], Applied { late: true, altered: false, anomaly: None });
    }

    #[test]
    fn of_two_that_occurred_at_once_the_later_recorded_is_live() {
        let (lane, _) = given(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v2"), 10)]);
        assert_eq!(live_version(&lane), Some("v2"));
    }

    #[test]
    fn deploying_what_is_live_alters_nothing_but_since() {
        let (lane, applied) =
            given(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v1"), 20)]);
        assert!(!applied[1].altered);
        assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(2)));
    }

    #[test]
    fn a_slot_is_idle_until_traffic_is_switched_to_it() {
        let (mut lane, applied) =
            given(&[(Track::Traffic, deployed("v1"), 10), (in_slot("green"), deployed("v2"), 20)]);
        assert_eq!(live_version(&lane), Some("v1"));
        assert!(!applied[1].altered);
        let switch = Written { effect: Effect::SwitchedTo(slot("green")), since: since(30, 3) };
        let applied = lane.apply(&Track::Traffic, switch);
        assert!(applied.altered);
        assert_eq!(live_version(&lane), Some("v2"));
        assert_eq!(lane.live().and_then(|live| live.slot.cloned()), Some(slot("green")));
    }

    #[test]
    fn switching_back_needs_no_deploy() {
        let (lane, _) = given(&[
            (in_slot("blue"), deployed("v1"), 10),
            (Track::Traffic, Effect::SwitchedTo(slot("blue")), 11),
            (in_slot("green"), deployed("v2"), 20),
            (Track::Traffic, Effect::SwitchedTo(slot("green")), 21),
            (Track::Traffic, Effect::SwitchedTo(slot("blue")), 30),
        ]);
        assert_eq!(live_version(&lane), Some("v1"));
        assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(5)));
        let idle: Vec<_> = lane.idle().map(|idle| idle.release.version.as_str().to_owned()).collect();
        assert_eq!(idle, ["v2"]);
    }

    #[test]
    fn odd_reports_are_marked() {
        let (_, applied) = given(&[
            (Track::Traffic, Effect::Removed, 10),
            (Track::Traffic, Effect::SwitchedTo(slot("green")), 20),
        ]);
        assert_eq!(applied[0].anomaly, Some(Anomaly::RemovedNothing));
        assert_eq!(applied[1].anomaly, Some(Anomaly::SwitchedToEmptySlot));
    }

    fn any_change() -> impl Strategy<Value = (Track, Effect)> {
        let slots = prop_oneof![Just("blue"), Just("green")];
        let effect = prop_oneof!["v[1-5]".prop_map(|v| deployed(&v)), Just(Effect::Removed)];
        let track = prop_oneof![Just(Track::Traffic), slots.clone().prop_map(in_slot)];
        prop_oneof![(track, effect), slots.prop_map(|s| (Track::Traffic, Effect::SwitchedTo(slot(s)))),]
    }

    proptest! {
        #[test]
        fn the_live_release_does_not_depend_on_the_order_of_reports(
            changes in prop::collection::vec(any_change(), 1..12),
            order in any::<prop::sample::Index>(),
        ) {
            let occurred: Vec<_> =
                changes.into_iter().zip(1..).map(|((track, effect), at)| (track, effect, at)).collect();
            let mut shuffled = occurred.clone();
            shuffled.rotate_left(order.index(occurred.len()));
            let middle = shuffled.len() / 2;
            shuffled[..middle].reverse();
            let (in_order, _) = given(&occurred);
            let (out_of_order, _) = given(&shuffled);
            prop_assert_eq!(
                in_order.live().map(|live| (live.slot, live.release)),
                out_of_order.live().map(|live| (live.slot, live.release))
            );
        }
    }
}
