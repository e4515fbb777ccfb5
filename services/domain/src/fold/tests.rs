//! What a lane runs, whatever the order of its reports.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::{EventId, ShortText};

fn since(occurred_at: i64, position: u64) -> Since {
    Since {
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

/// Applies `(track, effect, occurred_at)` at positions 1, 2, 3 …
fn given(changes: &[(Track, Effect, i64)]) -> (LaneFold, Vec<Applied>) {
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
    assert_eq!(applied[1], Applied { late: true, behind: true, altered: false, anomaly: None });
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
    let switch = TrackEntry { effect: Effect::SwitchedTo(slot("green")), since: since(30, 3) };
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
    let idle: Vec<_> = lane.idle().into_iter().map(|idle| idle.release.version.as_str().to_owned()).collect();
    assert_eq!(idle, ["v2"]);
}

#[test]
fn what_contradicts_the_lane_is_marked() {
    let (_, applied) = given(&[
        (Track::Traffic, Effect::Removed, 10),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 20),
        (in_slot("blue"), Effect::Removed, 30),
    ]);
    assert_eq!(applied[0].anomaly, Some(Anomaly::RemovedNothing));
    assert_eq!(applied[1].anomaly, Some(Anomaly::SwitchPending));
    assert_eq!(applied[2].anomaly, Some(Anomaly::RemovedNothing));
}

#[test]
fn rule_2_a_switch_to_a_slot_of_which_nothing_is_known_waits_for_its_deploy() {
    let (mut lane, applied) = given(&[
        (Track::Traffic, deployed("v1"), 10),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 61),
    ]);
    assert_eq!(applied[1].anomaly, Some(Anomaly::SwitchPending));
    assert!(!applied[1].altered);
    assert_eq!(live_version(&lane), Some("v1"), "the lane keeps its release");
    assert!(!lane.is_regular());

    let crossed = lane.apply(&in_slot("green"), TrackEntry { effect: deployed("v2"), since: since(60, 3) });
    assert!(crossed.altered && crossed.behind && !crossed.late);
    assert_eq!(live_version(&lane), Some("v2"));
    assert_eq!(lane.live().map(|live| live.since.position), Some(Position::new(2)), "since the switch");
}

#[test]
fn rule_2_a_pending_switch_takes_effect_with_a_deploy_that_occurs_after_it() {
    let (lane, _) = given(&[
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
fn rule_2_a_switch_to_a_slot_that_is_known_to_be_empty_leaves_the_lane_as_it_was() {
    let (lane, applied) = given(&[
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
fn rule_3_a_removal_of_the_lane_empties_every_slot_that_was_filled_before() {
    let (lane, applied) = given(&[
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
fn rule_3_a_slot_that_is_filled_after_the_removal_is_idle_until_a_switch() {
    let (mut lane, _) = given(&[
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
    let (lane, applied) = given(&[
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
    let (_, applied) = given(&[(Track::Traffic, deployed("v1"), 20), (in_slot("green"), deployed("v2"), 10)]);
    assert!(applied[1].behind);
    assert!(!applied[1].late, "the slot has no later change");
}

#[test]
fn a_correction_takes_a_change_back() {
    let (mut lane, _) = given(&[(in_slot("blue"), deployed("v1"), 10), (Track::Traffic, deployed("v2"), 20)]);
    assert_eq!(lane.take_back(Position::new(2)), Some(Track::Traffic));
    assert_eq!(live_version(&lane), None);
}

#[test]
fn a_lane_without_slots_needs_its_last_change_and_its_removals_only() {
    let (mut lane, _) = given(&[
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
fn a_removal_empties_a_slot_whose_deploy_is_reported_after_the_next_deploy() {
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

/// The last change of each track: what the tables keep of a lane at hand.
fn last_of_each_track(lane: &LaneFold) -> LaneFold {
    let mut last = LaneFold::default();
    for (track, written) in lane.changes() {
        if lane.kept(track) == Some(written) {
            last.insert(track.clone(), written.clone());
        }
    }
    last
}

/// A change, when it occurred, and its position.
type Reported = (((Track, Effect), i64), u64);

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
        let fold = |changes: &[Reported]| {
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
        let (lane, _) = given(&changes);
        if lane.is_regular() {
            let last = last_of_each_track(&lane);
            prop_assert_eq!(last.live(), lane.live());
            prop_assert_eq!(last.idle(), lane.idle());
        }
    }

    #[test]
    fn what_is_forgotten_matters_for_nothing_that_is_reported_later(
        changes in prop::collection::vec((any_change(), 1_i64..9), 1..12),
        unslotted in 0_usize..8,
    ) {
        let (mut whole, mut kept) = (LaneFold::default(), LaneFold::default());
        for (number, ((track, effect), at)) in changes.into_iter().enumerate() {
            let is_switch = matches!(effect, Effect::SwitchedTo(_));
            // A lane that only later turns out to have slots.
            let (track, effect) = match number < unslotted {
                true if is_switch => (Track::Traffic, Effect::Removed),
                true => (Track::Traffic, effect),
                false => (track, effect),
            };
            let written = TrackEntry { effect, since: since(at, number as u64 + 1) };
            prop_assert_eq!(whole.apply(&track, written.clone()), kept.apply(&track, written));
            kept.compact();
            prop_assert_eq!(whole.live(), kept.live());
            prop_assert_eq!(whole.idle(), kept.idle());
            prop_assert_eq!(whole.is_regular(), kept.is_regular());
        }
    }

    #[test]
    fn what_ran_at_a_time_is_what_the_changes_up_to_it_give(
        changes in prop::collection::vec((any_change(), 1_i64..9), 1..12),
    ) {
        let changes: Vec<_> = changes.into_iter().map(|((track, effect), at)| (track, effect, at)).collect();
        let (lane, _) = given(&changes);
        for (end, (_, live)) in (1..).zip(lane.steps()) {
            let mut part = LaneFold::default();
            for (track, written) in &lane.changes()[..end] {
                part.insert(track.clone(), written.clone());
            }
            prop_assert_eq!(part.live(), live);
        }
    }
}
