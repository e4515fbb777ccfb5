//! Tests of the state of a lane, for any order of its reports.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::{EventId, ShortText};

fn since(occurred_at: i64, position: u64) -> EventRef {
    EventRef {
        occurred_at: DateTime::from_timestamp(occurred_at, 0).expect("a time"),
        position: Position::new(position),
        event_id: EventId::parse(&format!("event-{position}")).expect("an id"),
    }
}

fn release(version: &str) -> Release {
    Release::of_version(ShortText::parse(version).expect("a version"))
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

/// Applies changes of `(track, effect, occurred_at)` at positions 1, 2, 3 …
fn lane_after(changes: &[(Track, Effect, i64)]) -> (LaneFold, Vec<Applied>) {
    let mut lane = LaneFold::default();
    let mut position = 0;
    let applied = changes
        .iter()
        .map(|(track, effect, occurred_at)| {
            position += 1;
            lane.apply(track, TrackEntry { effect: effect.clone(), since: since(*occurred_at, position) })
        })
        .collect();
    (lane, applied)
}

fn live_version(lane: &LaneFold) -> Option<&str> {
    lane.live().map(|live| live.release.version.as_str())
}

#[test]
fn the_deploy_that_occurred_last_is_live() {
    let (lane, applied) =
        lane_after(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v2"), 20)]);
    assert_eq!(live_version(&lane), Some("v2"));
    assert!(applied.iter().all(|a| a.altered && !a.late));
}

#[test]
fn a_late_report_of_an_older_deploy_does_not_undo_a_newer_one() {
    let (lane, applied) =
        lane_after(&[(Track::Traffic, deployed("v2"), 20), (Track::Traffic, deployed("v1"), 10)]);
    assert_eq!(live_version(&lane), Some("v2"));
    assert_eq!(applied[1], Applied { late: true, behind: true, altered: false, anomaly: None });
}

#[test]
fn of_two_deploys_at_the_same_time_the_one_recorded_later_is_live() {
    let (lane, _) = lane_after(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v2"), 10)]);
    assert_eq!(live_version(&lane), Some("v2"));
}

#[test]
fn a_repeated_deploy_alters_only_since() {
    let (lane, applied) =
        lane_after(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v1"), 20)]);
    assert!(!applied[1].altered);
    assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(2)));
}

#[test]
fn a_slot_is_idle_until_traffic_is_switched_to_it() {
    let (mut lane, applied) =
        lane_after(&[(Track::Traffic, deployed("v1"), 10), (in_slot("green"), deployed("v2"), 20)]);
    assert_eq!(live_version(&lane), Some("v1"));
    assert!(!applied[1].altered);
    let switch = TrackEntry { effect: Effect::SwitchedTo(slot("green")), since: since(30, 3) };
    let applied = lane.apply(&Track::Traffic, switch);
    assert!(applied.altered);
    assert_eq!(live_version(&lane), Some("v2"));
    assert_eq!(lane.live().and_then(|live| live.slot.cloned()), Some(slot("green")));
}

#[test]
fn switching_back_needs_no_deploy() {
    let (lane, _) = lane_after(&[
        (in_slot("blue"), deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 11),
        (in_slot("green"), deployed("v2"), 20),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 21),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 30),
    ]);
    assert_eq!(live_version(&lane), Some("v1"));
    assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(5)));
    let idle: Vec<_> = lane.idle().into_iter().map(|idle| idle.release.version.as_str().to_owned()).collect();
    assert_eq!(idle, ["v2"]);
}

#[test]
fn a_change_that_contradicts_the_lane_has_an_anomaly() {
    let (_, applied) = lane_after(&[
        (Track::Traffic, Effect::Removed, 10),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 20),
        (in_slot("blue"), Effect::Removed, 30),
    ]);
    assert_eq!(applied[0].anomaly, Some(Anomaly::RemovedNothing));
    assert_eq!(applied[1].anomaly, Some(Anomaly::SwitchPending));
    assert_eq!(applied[2].anomaly, Some(Anomaly::RemovedNothing));
}

#[test]
fn rule_2_a_switch_to_a_slot_without_known_changes_is_pending_until_its_deploy() {
    let (mut lane, applied) = lane_after(&[
        (Track::Traffic, deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 61),
    ]);
    assert_eq!(applied[1].anomaly, Some(Anomaly::SwitchPending));
    assert!(!applied[1].altered);
    assert_eq!(live_version(&lane), Some("v1"), "the lane keeps its release");
    assert!(!lane.is_regular());

    let reordered = lane.apply(&in_slot("green"), TrackEntry { effect: deployed("v2"), since: since(60, 3) });
    assert!(reordered.altered && reordered.behind && !reordered.late);
    assert_eq!(live_version(&lane), Some("v2"));
    assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(2)), "since the switch");
}

#[test]
fn rule_2_a_pending_switch_takes_effect_with_a_deploy_that_occurs_after_it() {
    let (lane, _) = lane_after(&[
        (Track::Traffic, deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 20),
        (in_slot("green"), deployed("v2"), 30),
    ]);
    assert_eq!(live_version(&lane), Some("v2"));
    assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(3)));
    let versions: Vec<_> =
        lane.steps().into_iter().map(|(_, live)| live.map(|live| live.release.version.to_string())).collect();
    assert_eq!(versions, [Some("v1".into()), Some("v1".into()), Some("v2".to_owned())]);
}

#[test]
fn rule_2_a_switch_to_a_slot_that_is_known_to_be_empty_has_no_effect() {
    let (lane, applied) = lane_after(&[
        (Track::Traffic, deployed("v1"), 10),
        (in_slot("green"), deployed("v2"), 20),
        (in_slot("green"), Effect::Removed, 30),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 40),
        (in_slot("green"), deployed("v3"), 50),
    ]);
    assert_eq!(applied[3].anomaly, Some(Anomaly::SwitchedToEmptySlot));
    assert_eq!(live_version(&lane), Some("v1"));
}

#[test]
fn rule_3_a_removal_of_the_lane_empties_every_slot_filled_before() {
    let (lane, applied) = lane_after(&[
        (in_slot("blue"), deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 20),
        (Track::Traffic, Effect::Removed, 30),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 40),
    ]);
    assert_eq!(live_version(&lane), None);
    assert_eq!(lane.idle(), []);
    assert_eq!(applied[3].anomaly, Some(Anomaly::SwitchedToEmptySlot));
    assert!(!lane.is_regular());
}

#[test]
fn rule_3_a_slot_filled_after_the_removal_is_idle_until_a_switch() {
    let (mut lane, _) = lane_after(&[
        (in_slot("blue"), deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 20),
        (Track::Traffic, Effect::Removed, 30),
        (in_slot("blue"), deployed("v2"), 40),
    ]);
    assert_eq!(live_version(&lane), None);
    assert_eq!(lane.idle().len(), 1);
    lane.apply(&Track::Traffic, TrackEntry { effect: Effect::SwitchedTo(slot("blue")), since: since(50, 5) });
    assert_eq!(live_version(&lane), Some("v2"));
}

#[test]
fn rule_3_a_late_removal_of_the_lane_makes_an_earlier_switch_void() {
    let (lane, applied) = lane_after(&[
        (Track::Traffic, deployed("v0"), 5),
        (in_slot("blue"), deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 40),
        (Track::Traffic, Effect::Removed, 20),
    ]);
    assert!(applied[3].behind && applied[3].altered);
    assert_eq!(live_version(&lane), None);
}

#[test]
fn rule_17_a_report_is_behind_when_its_lane_has_a_later_change_on_any_track() {
    let (_, applied) =
        lane_after(&[(Track::Traffic, deployed("v1"), 20), (in_slot("green"), deployed("v2"), 10)]);
    assert!(applied[1].behind);
    assert!(!applied[1].late, "the slot has no later change");
}

#[test]
fn a_change_can_be_removed() {
    let (mut lane, _) =
        lane_after(&[(in_slot("blue"), deployed("v1"), 10), (Track::Traffic, deployed("v2"), 20)]);
    assert_eq!(lane.remove(Position::new(2)), Some(Track::Traffic));
    assert_eq!(live_version(&lane), None);
}

#[test]
fn a_lane_is_occupied_while_it_runs_a_release_or_holds_one_in_a_slot() {
    let never_retired = RetirementStatus::Active(None);
    let occupancy = |changes: &[(Track, Effect, i64)]| lane_after(changes).0.occupancy(never_retired);
    assert_eq!(occupancy(&[]), Occupancy::Unused);
    assert_eq!(occupancy(&[(Track::Traffic, deployed("v1"), 10)]), Occupancy::Occupied);
    assert_eq!(occupancy(&[(in_slot("blue"), deployed("v1"), 10)]), Occupancy::Occupied);
    let removed = [(Track::Traffic, deployed("v1"), 10), (Track::Traffic, Effect::Removed, 20)];
    assert_eq!(occupancy(&removed), Occupancy::Vacant);
}

#[test]
fn a_retirement_discards_the_changes_before_the_next_declaration() {
    let (lane, _) = lane_after(&[(Track::Traffic, deployed("v1"), 10), (Track::Traffic, deployed("v2"), 20)]);
    let live = |status| lane.live_under(status).map(|live| live.release.version.to_string());
    let declared_at = |seconds| RetirementStatus::Active(DateTime::from_timestamp(seconds, 0));
    assert_eq!(live(RetirementStatus::Active(None)).as_deref(), Some("v2"));
    assert_eq!(
        live(declared_at(20)).as_deref(),
        Some("v2"),
        "a change at the time of the declaration counts"
    );
    assert_eq!(live(declared_at(21)), None);
    assert_eq!(live(RetirementStatus::Retired(Position::new(3))), None);
    assert_eq!(lane.occupancy(declared_at(21)), Occupancy::Unused);
    assert_eq!(lane.without_discarded_changes(declared_at(15)).changes().len(), 1);
    assert_eq!(*lane.without_discarded_changes(RetirementStatus::Active(None)), lane);
}

#[test]
fn compaction_of_a_lane_without_slots_keeps_the_last_change_and_removals() {
    let (mut lane, _) = lane_after(&[
        (Track::Traffic, deployed("v1"), 10),
        (Track::Traffic, Effect::Removed, 20),
        (Track::Traffic, deployed("v2"), 30),
        (Track::Traffic, deployed("v3"), 40),
    ]);
    lane.compact();
    assert_eq!(lane.changes().len(), 2);
    assert_eq!(live_version(&lane), Some("v3"));
}

#[test]
fn compaction_keeps_a_removal_that_empties_a_slot_reported_later() {
    let mut lane = LaneFold::default();
    let changes = [
        (Track::Traffic, Effect::Removed, 20),
        (Track::Traffic, deployed("v2"), 30),
        (in_slot("blue"), deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("blue")), 40),
    ];
    for ((track, effect, at), position) in changes.into_iter().zip(1..) {
        lane.apply(&track, TrackEntry { effect, since: since(at, position) });
        lane.compact();
    }
    assert_eq!(live_version(&lane), Some("v2"));
    assert!(lane.idle().is_empty());
}

/// Returns the lane with only the last change of each track, as the tables store it.
fn last_of_each_track(lane: &LaneFold) -> LaneFold {
    let mut last = LaneFold::default();
    for (track, entry) in lane.changes() {
        if lane.last_change(track) == Some(entry) {
            last.insert(track.clone(), entry.clone());
        }
    }
    last
}

/// A change, the second at which it occurred, and its position.
type Change = (((Track, Effect), i64), u64);

fn any_change() -> impl Strategy<Value = (Track, Effect)> {
    let slots = prop_oneof![Just("blue"), Just("green")];
    let effect = prop_oneof!["v[1-5]".prop_map(|v| deployed(&v)), Just(Effect::Removed)];
    let track = prop_oneof![Just(Track::Traffic), slots.clone().prop_map(in_slot)];
    prop_oneof![(track, effect), slots.prop_map(|s| (Track::Traffic, Effect::SwitchedTo(slot(s)))),]
}

proptest! {
    #[test]
    fn the_live_release_does_not_depend_on_the_order_of_reports(
        (changes, shuffled) in prop::collection::vec((any_change(), 1_i64..9), 1..12)
            .prop_map(|changes| changes.into_iter().zip(1_u64..).collect::<Vec<_>>())
            .prop_flat_map(|changes| (Just(changes.clone()), Just(changes).prop_shuffle())),
    ) {
        let fold = |changes: &[Change]| {
            let mut lane = LaneFold::default();
            for (((track, effect), at), position) in changes {
                lane.apply(track, TrackEntry { effect: effect.clone(), since: since(*at, *position) });
            }
            lane
        };
        let (one, other) = (fold(&changes), fold(&shuffled));
        prop_assert_eq!(one.live(), other.live());
        prop_assert_eq!(one.idle(), other.idle());
    }

    #[test]
    fn the_last_change_of_each_track_is_enough_for_a_regular_lane(
        changes in prop::collection::vec((any_change(), 1_i64..9), 1..12),
    ) {
        let changes: Vec<_> = changes.into_iter().map(|((track, effect), at)| (track, effect, at)).collect();
        let (lane, _) = lane_after(&changes);
        if lane.is_regular() {
            let last = last_of_each_track(&lane);
            prop_assert_eq!(last.live(), lane.live());
            prop_assert_eq!(last.idle(), lane.idle());
        }
    }

    #[test]
    fn compaction_does_not_affect_any_later_report(
        changes in prop::collection::vec((any_change(), 1_i64..9), 1..12),
        changes_without_slot in 0_usize..8,
    ) {
        let (mut full, mut compacted) = (LaneFold::default(), LaneFold::default());
        for (number, ((track, effect), at)) in changes.into_iter().enumerate() {
            let is_switch = matches!(effect, Effect::SwitchedTo(_));
            // The first changes have no slot: the lane gets its slots only later.
            let (track, effect) = match number < changes_without_slot {
                true if is_switch => (Track::Traffic, Effect::Removed),
                true => (Track::Traffic, effect),
                false => (track, effect),
            };
            let entry = TrackEntry { effect, since: since(at, number as u64 + 1) };
            prop_assert_eq!(full.apply(&track, entry.clone()), compacted.apply(&track, entry));
            compacted.compact();
            prop_assert_eq!(full.live(), compacted.live());
            prop_assert_eq!(full.idle(), compacted.idle());
            prop_assert_eq!(full.is_regular(), compacted.is_regular());
        }
    }

    #[test]
    fn each_step_is_the_state_after_the_changes_up_to_it(
        changes in prop::collection::vec((any_change(), 1_i64..9), 1..12),
    ) {
        let changes: Vec<_> = changes.into_iter().map(|((track, effect), at)| (track, effect, at)).collect();
        let (lane, _) = lane_after(&changes);
        for (end, (_, live)) in (1..).zip(lane.steps()) {
            let mut part = LaneFold::default();
            for (track, entry) in &lane.changes()[..end] {
                part.insert(track.clone(), entry.clone());
            }
            prop_assert_eq!(part.live(), live);
        }
    }
}

#[test]
fn a_step_under_retirements_counts_only_the_changes_since_the_declaration() {
    let (lane, _) = lane_after(&[
        (Track::Traffic, deployed("v1"), 10),
        (Track::Traffic, deployed("v2"), 25),
        (in_slot("green"), deployed("v3"), 40),
    ]);
    let mut retirements = Retirements::default();
    retirements.add(since(20, 8).occurred_at, Position::new(8), true);
    retirements.add(since(30, 9).occurred_at, Position::new(9), false);
    let steps = lane.steps_under(&retirements).into_iter();
    let versions: Vec<_> = steps.map(|(_, live)| live.map(|live| live.release.version.to_string())).collect();
    assert_eq!(versions, [Some("v1".to_owned()), None, None]);
}
