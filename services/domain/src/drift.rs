//! Drift between the ledger and observations of lanes, and skew between the targets of an environment.
//!
//! A part that only one side states is unknown, not different.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Observation;
use crate::{
    Composition, EventRef, LaneFold, Lanes, LiveRelease, Release, ServiceName, SlotName, TargetName,
};

/// The last observed state of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedState {
    /// The live slot, if the observation states it.
    pub slot: Option<SlotName>,
    /// The release that ran in the lane; `None`: nothing.
    pub release: Option<Release>,
    /// The first observation of the unbroken series that agrees with the last one.
    pub since: EventRef,
    /// The last observation.
    pub last: EventRef,
}

impl ObservedState {
    /// Adds an observation. Ignores one that occurred before the last. Observations that state different parts of one
    /// release agree.
    #[must_use]
    pub fn and(self, slot: Option<SlotName>, release: Option<Release>, at: EventRef) -> Self {
        if at.order(&self.last).is_lt() {
            return self;
        }
        let other_slot = matches!((&self.slot, &slot), (Some(one), Some(other)) if one != other);
        let same = !other_slot && !differs(self.release.as_ref(), release.as_ref());
        Self { slot, release, since: if same { self.since } else { at.clone() }, last: at }
    }
}

/// Returns true if only one side runs a release, or if the two releases contradict each other.
fn differs(one: Option<&Release>, other: Option<&Release>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.contradicts(other),
        (one, other) => one.is_some() != other.is_some(),
    }
}

impl Observation {
    /// Returns true if a complete observation covers a target: one of the targets that it names; if it names none, one
    /// of the targets of its lanes; if it has no lanes either, any target.
    #[must_use]
    pub fn speaks_of(&self, target: &TargetName) -> bool {
        if !self.targets.is_empty() {
            return self.targets.contains(target);
        }
        self.lanes.is_empty() || self.lanes.iter().any(|lane| lane.target == *target)
    }
}

/// A lane with drift: its observed state differs from the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The target.
    pub target: &'a TargetName,
    /// The release according to the ledger.
    pub ledger: Option<&'a Release>,
    /// The observed state.
    pub seen: &'a ObservedState,
    /// The start of the drift: the later of the ledger's change and the first observation.
    pub since: &'a EventRef,
}

/// Returns the lanes whose observed state differs from the ledger, sorted by service and target. Compares only parts
/// that both sides state. Ignores observations from before the ledger's last change of the lane.
#[must_use]
pub fn drift<'a>(
    ledger: &'a Lanes,
    seen: &'a BTreeMap<(ServiceName, TargetName), ObservedState>,
) -> Vec<Drift<'a>> {
    seen.iter()
        .filter_map(|((service, target), seen)| {
            let fold = ledger.get(&(service.clone(), target.clone()));
            let live = fold.and_then(LaneFold::live);
            let changed = fold.and_then(LaneFold::since);
            let is_outdated = changed.is_some_and(|changed| seen.last.order(changed).is_lt());
            let slots = (live.as_ref().and_then(|live| live.slot), &seen.slot);
            let other_slot = live.is_some()
                && seen.release.is_some()
                && matches!(slots, (Some(live), Some(seen)) if live != seen);
            let differs =
                other_slot || differs(live.as_ref().map(|live| live.release), seen.release.as_ref());
            if is_outdated || !differs {
                return None;
            }
            let since = changed.filter(|changed| seen.since.order(changed).is_lt()).unwrap_or(&seen.since);
            Some(Drift { service, target, ledger: live.map(|live| live.release), seen, since })
        })
        .collect()
}

/// A service that does not run the same release at every target of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSkew<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The live release at each target; `None`: nothing.
    pub targets: Vec<(&'a TargetName, Option<&'a LiveRelease>)>,
}

/// Returns the services that do not run the same release at every target of the environment that runs anything. Compares
/// artifacts by identity, and only parts that both targets state.
#[must_use]
pub fn uneven(composition: &Composition) -> Vec<TargetSkew<'_>> {
    let targets: BTreeSet<&TargetName> = composition.lanes().map(|(_, target, _)| target).collect();
    let services: BTreeSet<&ServiceName> = composition.lanes().map(|(service, _, _)| service).collect();
    services
        .into_iter()
        .filter_map(|service| {
            let runs: Vec<_> =
                targets.iter().map(|target| (*target, composition.lane(service, target))).collect();
            let mut spellings: Vec<Option<&Release>> = Vec::new();
            for release in runs.iter().map(|(_, live)| live.map(|live| &live.release)) {
                if !spellings.contains(&release) {
                    spellings.push(release);
                }
            }
            // Not only with the first one: a release that leaves out a part agrees with two that differ in it.
            let mut pairs = spellings
                .iter()
                .enumerate()
                .flat_map(|(index, one)| spellings[index + 1..].iter().map(move |other| (*one, *other)));
            pairs.any(|(one, other)| differs(one, other)).then_some(TargetSkew { service, targets: runs })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::event::Observed;
    use crate::{Artifact, Effect, EnvironmentName, EventId, Position, ShortText, Track, TrackEntry};

    fn since(at: i64) -> EventRef {
        EventRef {
            occurred_at: DateTime::from_timestamp(at, 0).expect("a time"),
            position: Position::new(at.unsigned_abs()),
            event_id: EventId::parse("e").expect("an id"),
        }
    }

    fn release(version: &str) -> Release {
        Release::of_version(ShortText::parse(version).expect("a version"))
    }

    fn key(service: &str, target: &str) -> (ServiceName, TargetName) {
        (ServiceName::parse(service).expect("a name"), TargetName::parse(target).expect("a name"))
    }

    fn composition(lanes: &[(&str, &str, &str, i64)]) -> Composition {
        let live =
            |version: &str, at| LiveRelease { slot: None, release: release(version), since: since(at) };
        lanes
            .iter()
            .map(|(service, target, version, at)| (key(service, target), live(version, *at)))
            .collect()
    }

    /// Creates lanes that run these versions since these seconds.
    fn lanes(lanes: &[(&str, &str, &str, i64)]) -> Lanes {
        let fold = |version: &str, at| {
            let mut fold = LaneFold::default();
            fold.apply(
                &Track::Traffic,
                TrackEntry { effect: Effect::Deployed(release(version)), since: since(at) },
            );
            fold
        };
        lanes
            .iter()
            .map(|(service, target, version, at)| (key(service, target), fold(version, *at)))
            .collect()
    }

    fn seen(version: Option<&str>, at: i64) -> ObservedState {
        ObservedState { slot: None, release: version.map(release), since: since(at), last: since(at) }
    }

    #[test]
    fn drift_starts_with_the_later_of_the_change_and_the_observation() {
        let ledger = lanes(&[("api", "eu", "v2", 50), ("web", "eu", "v1", 10)]);
        let observed = [
            (key("api", "eu"), seen(Some("v1"), 20).and(None, Some(release("v1")), since(60))),
            (key("web", "eu"), seen(Some("v1"), 20)),
            (key("ghost", "eu"), seen(Some("v1"), 30)),
        ];
        let observed: BTreeMap<_, _> = observed.into_iter().collect();
        let drifting: Vec<_> = drift(&ledger, &observed)
            .into_iter()
            .map(|lane| (lane.service.as_str().to_owned(), lane.since.position.get()))
            .collect();
        assert_eq!(drifting, [("api".to_owned(), 50), ("ghost".to_owned(), 30)]);
    }

    #[test]
    fn an_observation_from_before_the_last_change_is_ignored() {
        let mut ledger = lanes(&[("api", "eu", "v2", 50), ("removed", "eu", "v1", 10)]);
        let removed = TrackEntry { effect: Effect::Removed, since: since(60) };
        ledger.get_mut(&key("removed", "eu")).expect("a lane").apply(&Track::Traffic, removed);
        let observed =
            [("api", 20), ("removed", 55)].map(|(name, at)| (key(name, "eu"), seen(Some("v1"), at)));
        assert_eq!(drift(&ledger, &BTreeMap::from(observed)), []);
    }

    #[test]
    fn parts_that_an_observation_does_not_state_are_not_compared() {
        let mut full = release("v1");
        full.commit = Some(ShortText::parse("c0ffee").expect("a valid text"));
        let mut fold = LaneFold::default();
        fold.apply(&Track::Traffic, TrackEntry { effect: Effect::Deployed(full), since: since(1) });
        let ledger = Lanes::from([(key("api", "eu"), fold)]);
        let observed = BTreeMap::from([(key("api", "eu"), seen(Some("v1"), 20))]);
        assert_eq!(drift(&ledger, &observed), []);
    }

    #[test]
    fn rule_26_an_observation_with_the_same_digest_is_not_drift() {
        const H: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let by = |text: &str| Release {
            artifact: Some(Artifact::parse(text).expect("an artifact")),
            ..release("v1")
        };
        let ledger = lanes(&[("api", "eu", "v1", 1)]);
        let observed = |release: Release| {
            let seen =
                ObservedState { slot: None, release: Some(release), since: since(20), last: since(20) };
            BTreeMap::from([(key("api", "eu"), seen)])
        };
        assert_eq!(drift(&ledger, &observed(by(H))), []);
        let mut fold = LaneFold::default();
        let deployed = Effect::Deployed(by(&format!("pkg:oci/api@{H}")));
        fold.apply(&Track::Traffic, TrackEntry { effect: deployed, since: since(1) });
        let ledger = Lanes::from([(key("api", "eu"), fold)]);
        assert_eq!(drift(&ledger, &observed(by(&format!("registry.example/api@{H}")))), []);
        let other = format!("sha256:{}", "1".repeat(64));
        assert_eq!(drift(&ledger, &observed(by(&other))).len(), 1);
    }

    #[test]
    fn observations_that_state_different_parts_agree() {
        let full =
            Release { commit: Some(ShortText::parse("c0ffee").expect("a valid text")), ..release("v1") };
        let seen =
            seen(Some("v1"), 20).and(None, Some(full), since(30)).and(None, Some(release("v1")), since(40));
        assert_eq!((seen.since, seen.last), (since(20), since(40)));
    }

    #[test]
    fn rule_26_a_complete_observation_covers_its_targets_or_those_of_its_lanes_or_all() {
        let target = |name: &str| TargetName::parse(name).expect("a name");
        let observation = |targets: &[&str], lanes: &[&str]| Observation {
            environment: EnvironmentName::parse("production").expect("a name"),
            complete: true,
            targets: targets.iter().map(|name| target(name)).collect(),
            lanes: lanes
                .iter()
                .map(|name| Observed {
                    service: ServiceName::parse("api").expect("a name"),
                    target: target(name),
                    slot: None,
                    release: None,
                })
                .collect(),
        };
        let covers =
            |observation: &Observation| ["eu", "us", "asia"].map(|name| observation.speaks_of(&target(name)));
        assert_eq!(covers(&observation(&["eu"], &["us"])), [true, false, false]);
        assert_eq!(covers(&observation(&[], &["us"])), [false, true, false]);
        assert_eq!(covers(&observation(&[], &[])), [true, true, true]);
    }

    #[test]
    fn an_older_observation_that_arrives_late_is_ignored() {
        let last = seen(Some("v2"), 20);
        assert_eq!(last.clone().and(None, Some(release("v1")), since(10)), last);
    }

    #[test]
    fn targets_are_skewed_if_a_service_runs_another_release_or_nothing_at_one() {
        let composition = composition(&[
            ("api", "cloud", "v2", 1),
            ("api", "on-premise", "v1", 1),
            ("web", "cloud", "v1", 1),
            ("web", "on-premise", "v1", 1),
            ("cron", "cloud", "v1", 1),
        ]);
        let services: Vec<_> = uneven(&composition).iter().map(|it| it.service.as_str().to_owned()).collect();
        assert_eq!(services, ["api", "cron"]);
    }

    #[test]
    fn rule_11_targets_with_other_spellings_of_an_artifact_or_fewer_parts_are_not_skewed() {
        const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
        const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
        let is_skewed = |artifacts: &[Option<&str>]| {
            let lanes = artifacts.iter().zip(["ap", "eu", "us"]).map(|(artifact, target)| {
                let artifact = artifact.map(|text| Artifact::parse(text).expect("an artifact"));
                let release = Release { artifact, ..release("v1") };
                (key("web", target), LiveRelease { slot: None, release, since: since(1) })
            });
            !uneven(&lanes.collect()).is_empty()
        };
        let (eu, us) = (format!("eu.example/web@{D1}"), format!("us.example/web@{D1}"));

        assert!(!is_skewed(&[Some(&eu), Some(&us)]));
        assert!(!is_skewed(&[Some(&eu), None]));
        assert!(is_skewed(&[Some(&eu), Some(D2)]));
        // The one without an artifact agrees with both others, which differ.
        assert!(is_skewed(&[None, Some(&eu), Some(D2)]));
    }
}
