//! Compositions: the lanes of an environment with their releases at one point.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::digest;
use crate::{EventId, EventTime, Position, Release, ServiceName, SlotName, TargetName};

/// The event that established a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRef {
    /// Time of the event, by the emitter's clock, in whole microseconds.
    pub occurred_at: DateTime<Utc>,
    /// Position of the event in the ledger.
    pub position: Position,
    /// CloudEvents id of the event.
    pub event_id: EventId,
}

impl EventRef {
    /// Returns the moment of the event.
    #[must_use]
    pub const fn event_time(&self) -> EventTime {
        EventTime::new(self.occurred_at, self.position)
    }

    /// Compares the moments of two events.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        self.event_time().cmp(&other.event_time())
    }
}

/// The release that is live in a lane, or idle in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRelease<Slot = SlotName, Running = Release, By = EventRef> {
    /// The slot, if the lane has slots.
    pub slot: Option<Slot>,
    /// The release.
    pub release: Running,
    /// The event since which the release is there.
    pub since: By,
}

impl LiveRelease<&SlotName, &Release, &EventRef> {
    /// Returns an owned copy.
    #[must_use]
    pub fn to_owned(self) -> LiveRelease {
        LiveRelease { slot: self.slot.cloned(), release: self.release.clone(), since: self.since.clone() }
    }
}

/// The live releases of an environment at one point, sorted by service and target. Lanes that run nothing are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Composition {
    lanes: BTreeMap<(ServiceName, TargetName), LiveRelease>,
}

impl FromIterator<((ServiceName, TargetName), LiveRelease)> for Composition {
    fn from_iter<I: IntoIterator<Item = ((ServiceName, TargetName), LiveRelease)>>(lanes: I) -> Self {
        Self { lanes: lanes.into_iter().collect() }
    }
}

/// A lane that differs between two compositions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDifference<'a> {
    /// The lane's service.
    pub service: &'a ServiceName,
    /// The lane's target.
    pub target: &'a TargetName,
    /// The difference.
    pub difference: Difference<'a>,
}

/// The difference of a lane between two compositions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'a> {
    /// The lane runs something only in the second composition.
    Added(&'a LiveRelease),
    /// The lane runs something only in the first composition.
    Removed(&'a LiveRelease),
    /// The lane runs another release.
    Changed {
        /// The release in the first composition.
        from: &'a LiveRelease,
        /// The release in the second composition.
        to: &'a LiveRelease,
    },
}

impl Composition {
    /// Returns the lanes, sorted by service and target.
    pub fn lanes(&self) -> impl Iterator<Item = (&ServiceName, &TargetName, &LiveRelease)> {
        self.lanes.iter().map(|((service, target), live)| (service, target, live))
    }

    /// Returns the live release of a lane.
    #[must_use]
    pub fn lane(&self, service: &ServiceName, target: &TargetName) -> Option<&LiveRelease> {
        self.lanes.get(&(service.clone(), target.clone()))
    }

    /// Sets the live release of a lane; `None` removes the lane.
    pub fn set(&mut self, service: ServiceName, target: TargetName, live: Option<LiveRelease>) {
        match live {
            Some(live) => self.lanes.insert((service, target), live),
            None => self.lanes.remove(&(service, target)),
        };
    }

    /// Returns the SHA-256 of the composition's text form, as `sha256:` and 64 hexadecimal digits. The text has one
    /// line per lane, sorted by service and target, ended by a line feed. A line has seven fields joined by tabs:
    /// service, target, version, artifact, config, infrastructure and commit; an unknown field is empty. Slots and
    /// times are not included: two environments that run the same releases have the same digest.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (service, target, live) in self.lanes() {
            hash.update(service.as_str());
            hash.update(b"\t");
            hash.update(target.as_str());
            for part in live.release.parts() {
                hash.update(b"\t");
                hash.update(part);
            }
            hash.update(b"\n");
        }
        digest::text(hash)
    }

    /// Returns the identity, by which evidence applies again when the same composition returns.
    #[must_use]
    pub fn id(&self) -> CompositionId {
        let mut index = CompositionIndex::default();
        for (service, target, live) in self.lanes() {
            index.set(service, target, Some(&live.release));
        }
        index.id()
    }

    /// Returns the number of lanes that run something.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Returns true if no lane runs anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Returns true if the same lanes run the same releases. Slots and times are ignored.
    #[must_use]
    pub fn runs_the_same(&self, other: &Self) -> bool {
        self.diff(other).is_empty()
    }

    /// Returns the lanes of `to` that differ from this composition, sorted by service and target.
    #[must_use]
    pub fn diff<'a>(&'a self, to: &'a Self) -> Vec<LaneDifference<'a>> {
        let mut differences = Vec::new();
        for ((service, target), live) in &self.lanes {
            match to.lanes.get(&(service.clone(), target.clone())) {
                None => differences.push(LaneDifference {
                    service,
                    target,
                    difference: Difference::Removed(live),
                }),
                Some(other) if other.release != live.release => differences.push(LaneDifference {
                    service,
                    target,
                    difference: Difference::Changed { from: live, to: other },
                }),
                Some(_) => {}
            }
        }
        for ((service, target), live) in &to.lanes {
            if !self.lanes.contains_key(&(service.clone(), target.clone())) {
                differences.push(LaneDifference { service, target, difference: Difference::Added(live) });
            }
        }
        differences.sort_by_key(|lane| (lane.service, lane.target));
        differences
    }
}

/// The identity of a composition: equal for compositions with the same lanes and the same releases, where artifacts are
/// compared by identity, not by spelling. Internal: the published digest is [`Composition::digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompositionId([u8; 32]);

impl CompositionId {
    /// Creates the identity from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Number of buckets that lanes are distributed over. A change rehashes one bucket and the list of bucket digests.
const BUCKET_COUNT: usize = 64;

/// Incremental computation of a [`CompositionId`]: SHA-256 over the digests of 64 buckets. The digest of a bucket is
/// SHA-256 over the digests of its lanes, sorted by service and target; an empty bucket has 32 zero bytes.
#[derive(Debug, Clone, Default)]
pub struct CompositionIndex {
    buckets: BTreeMap<usize, Bucket>,
}

#[derive(Debug, Clone, Default)]
struct Bucket {
    lanes: BTreeMap<(ServiceName, TargetName), [u8; 32]>,
    digest: [u8; 32],
}

impl CompositionIndex {
    /// Sets the release that a lane runs; `None` removes the lane.
    pub fn set(&mut self, service: &ServiceName, target: &TargetName, release: Option<&Release>) {
        let number = bucket_number(service, target);
        let bucket = self.buckets.entry(number).or_default();
        let lane = (service.clone(), target.clone());
        match release {
            Some(release) => bucket.lanes.insert(lane, lane_digest(service, target, release)),
            None => bucket.lanes.remove(&lane),
        };
        if bucket.lanes.is_empty() {
            self.buckets.remove(&number);
            return;
        }
        let mut hash = Sha256::new();
        for digest in bucket.lanes.values() {
            hash.update(digest);
        }
        bucket.digest = hash.finalize().into();
    }

    /// Returns the identity of the current lanes.
    #[must_use]
    pub fn id(&self) -> CompositionId {
        let mut hash = Sha256::new();
        for number in 0..BUCKET_COUNT {
            hash.update(self.buckets.get(&number).map_or([0; 32], |bucket| bucket.digest));
        }
        CompositionId(hash.finalize().into())
    }
}

fn bucket_number(service: &ServiceName, target: &TargetName) -> usize {
    let bytes = service.as_str().bytes().chain([b'\t']).chain(target.as_str().bytes());
    // FNV-1a, 32 bits: it distributes names evenly. It need not be hard to invert.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % BUCKET_COUNT
}

fn lane_digest(service: &ServiceName, target: &TargetName, release: &Release) -> [u8; 32] {
    let mut hash = Sha256::new();
    let [version, _, config, infrastructure, commit] = release.parts();
    let artifact = release.artifact.as_ref().map(crate::Artifact::identity);
    let artifact = artifact.as_deref().unwrap_or("");
    for part in [service.as_str(), target.as_str(), version, artifact, config, infrastructure, commit] {
        hash.update(part);
        hash.update(b"\t");
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShortText;

    fn composition(lanes: &[(&str, &str)]) -> Composition {
        lanes
            .iter()
            .map(|(service, version)| {
                let live = LiveRelease {
                    slot: None,
                    release: Release::of_version(ShortText::parse(version).expect("a version")),
                    since: EventRef {
                        occurred_at: DateTime::UNIX_EPOCH,
                        position: Position::new(1),
                        event_id: EventId::parse("e").expect("an id"),
                    },
                };
                ((ServiceName::parse(service).expect("a service"), TargetName::default()), live)
            })
            .collect()
    }

    #[test]
    fn the_digest_can_be_computed_in_a_shell() {
        assert_eq!(
            Composition::default().digest(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        // printf 'api\tdefault\tv1\t\t\t\t\nweb\tdefault\tv2\t\t\t\t\n' | sha256sum
        assert_eq!(
            composition(&[("web", "v2"), ("api", "v1")]).digest(),
            "sha256:c4c0a8226fb78208e8419d79f3606cdc6303717b9cb83b35cfe816ca390ae560"
        );
    }

    #[test]
    fn a_composition_does_not_differ_from_itself() {
        let one = composition(&[("api", "v1"), ("web", "v2")]);
        assert_eq!(one.diff(&one), []);
    }

    #[test]
    fn a_diff_lists_added_removed_and_changed_lanes_in_order() {
        let from = composition(&[("api", "v1"), ("old", "v1"), ("web", "v1")]);
        let to = composition(&[("api", "v2"), ("new", "v1"), ("web", "v1")]);
        let differences: Vec<_> = from
            .diff(&to)
            .into_iter()
            .map(|lane| {
                let kind = match lane.difference {
                    Difference::Added(_) => "added",
                    Difference::Removed(_) => "removed",
                    Difference::Changed { .. } => "changed",
                };
                (lane.service.as_str().to_owned(), kind)
            })
            .collect();
        let expected = [("api", "changed"), ("new", "added"), ("old", "removed")];
        assert_eq!(differences, expected.map(|(service, kind)| (service.to_owned(), kind)));
    }
}
