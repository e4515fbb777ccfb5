//! What a lane runs, whatever the order of its reports.

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
    let idle: Vec<_> = lane.idle().into_iter().map(|idle| idle.release.version.as_str().to_owned()).collect();
    assert_eq!(idle, ["v2"]);
}

#[test]
fn odd_reports_are_marked() {
    let (_, applied) = given(&[
        (Track::Traffic, Effect::Removed, 10),
        (Track::Traffic, Effect::SwitchedTo(slot("green")), 20),
    ]);
    assert_eq!(applied[0].anomaly, Some(Anomaly::RemovedNothing));
    assert_eq!(applied[1].anomaly, Some(Anomaly::SwitchPending));
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
