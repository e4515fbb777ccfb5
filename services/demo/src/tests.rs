//! The demo is always the same, is valid, and contains every kind of event.

mod checker;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ledger_domain::event::Payload;
use ledger_domain::{Applied, EventRef, Kind, LaneFold, LaneRef, TrackEntry};
use sha2::{Digest as _, Sha256};

use super::calendar::{begin, end};
use super::*;
use checker::HistoryChecker;

fn digest(events: impl Iterator<Item = Envelope>) -> String {
    let mut hash = Sha256::new();
    for envelope in events {
        hash.update(envelope.bytes());
        hash.update(b"\n");
    }
    hex::encode(hash.finalize())
}

#[test]
fn the_first_thousand_events_never_change() {
    assert_eq!(
        digest(history(None).take(1_000)),
        "f8e9f76e500c516e01794ed748cd129f875c9470c6c2ba7adcf21cf51739d41b"
    );
    assert_eq!(digest(history(Some(1_000))), digest(history(None).take(1_000)));
}

#[test]
fn every_event_is_valid_and_keeps_its_bytes() {
    for envelope in history(None) {
        let parsed = Envelope::parse(envelope.bytes()).expect("a valid event");
        assert_eq!(parsed, envelope);
    }
}

#[test]
fn it_has_the_requested_length() {
    assert!((10_000..20_000).contains(&history(None).count()), "{}", history(None).count());
    for events in [0, 1, 999, 40_000] {
        assert_eq!(history(Some(events)).count(), events);
    }
}

#[test]
fn ids_are_unique_and_a_compressed_history_has_another_source() {
    let ids: HashSet<_> = history(None).map(|envelope| envelope.identity().clone()).collect();
    assert_eq!(ids.len(), history(None).count());
    let source = |events| history(events).next().map(|envelope| envelope.identity().source.clone());
    assert_eq!(source(None), source(Some(1_000)));
    assert_ne!(source(None), source(Some(1_000_000)));
}

#[test]
fn a_history_of_any_length_ends_shortly_before_november() {
    for events in [15_000, 19_000, 19_900, 25_000, 100_000, 300_000] {
        let times: Vec<_> = history(Some(events)).map(|envelope| envelope.occurred_at()).collect();
        let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
        assert_eq!(first, Some(begin()), "{events}");
        assert!(last < Some(end()), "{events}: {last:?} is cut off");
        let early = end() - chrono::TimeDelta::days(if events < 19_000 { 300 } else { 60 });
        assert!(last > Some(early), "{events}: {last:?} is early");
    }
}

#[test]
fn it_contains_every_kind_of_event() {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let (mut environments, mut services) = (BTreeSet::new(), BTreeSet::new());
    let (mut targets, mut slots) = (BTreeSet::new(), BTreeSet::new());
    let mut by_rollback: BTreeSet<(Kind, bool)> = BTreeSet::new();
    for envelope in history(None) {
        let payload = &envelope.event().payload;
        *kinds.entry(payload.kind()).or_default() += 1;
        environments.extend(payload.environment().cloned());
        services.extend(payload.service().cloned());
        targets.extend(payload.lane().map(|lane| lane.target.clone()));
        match payload {
            Payload::DeploySucceeded(deploy) => {
                slots.extend(deploy.slot.clone());
                by_rollback.insert((payload.kind(), deploy.rollback_id.is_some()));
            }
            Payload::TrafficSwitched(switch) => {
                by_rollback.insert((payload.kind(), switch.rollback_id.is_some()));
            }
            _ => {}
        }
    }
    assert_eq!((environments.len(), services.len(), targets.len(), slots.len()), (3, 12, 3, 2));
    assert_eq!(
        by_rollback.len(),
        4,
        "deploys and switches, both also as steps of rollbacks: {by_rollback:?}"
    );
    for kind in [
        Kind::ArtifactBuilt,
        Kind::DeployStarted,
        Kind::DeploySucceeded,
        Kind::DeployFailed,
        Kind::DeployRemoved,
        Kind::TrafficSwitched,
        Kind::ValidationStarted,
        Kind::ValidationPassed,
        Kind::ValidationFailed,
        Kind::RollbackRequested,
        Kind::RollbackStarted,
        Kind::RollbackSucceeded,
        Kind::ReleasePointMarked,
        Kind::EnvironmentDeclared,
        Kind::ApprovalGranted,
        Kind::ApprovalRejected,
        Kind::FreezeStarted,
        Kind::FreezeLifted,
    ] {
        assert!(kinds.contains_key(&kind), "{kind} is missing in {kinds:?}");
    }
}

#[test]
fn some_reports_are_late_and_change_nothing() {
    let mut lanes = Lanes::default();
    let mut late = 0;
    for (position, envelope) in (1..).zip(history(None)) {
        late += usize::from(lanes.apply(position, &envelope).is_some_and(|applied| applied.late));
    }
    assert!((5..100).contains(&late), "{late}");
}

#[test]
fn every_event_may_follow_the_events_before_it() {
    for events in [None, Some(40_000)] {
        let mut checker = HistoryChecker::default();
        history(events).for_each(|envelope| checker.apply(&envelope));
        assert!(checker.rolled_back > 10, "{} rollbacks", checker.rolled_back);
        assert!(checker.rollbacks_approved > 0, "people approve some rollbacks");
    }
}

/// The state of all lanes, as a reader of the ledger computes it.
#[derive(Default)]
struct Lanes(BTreeMap<LaneRef, LaneFold>);

impl Lanes {
    fn apply(&mut self, position: u64, envelope: &Envelope) -> Option<Applied> {
        let (lane, track, effect) = envelope.event().payload.change()?;
        let since = EventRef {
            occurred_at: envelope.occurred_at(),
            position: Position::new(position),
            event_id: envelope.identity().id.clone(),
        };
        let state = self.0.entry(lane.clone()).or_default();
        let applied = state.apply(&track, TrackEntry { effect, since });
        assert_eq!(applied.anomaly, None, "at {position}");
        Some(applied)
    }
}
