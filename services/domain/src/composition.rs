//! All lanes of an environment with their releases at one point.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::digest;
use crate::{EventId, Position, Release, ServiceName, SlotName, TargetName};

/// The event that something stands since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// When it happened, by the emitter's clock, in whole microseconds.
    pub occurred_at: DateTime<Utc>,
    /// Where it is in the ledger.
    pub position: Position,
    /// Its CloudEvents id.
    pub event_id: EventId,
}

impl Since {
    /// Which of two is later: the order of `(occurred_at, position)`.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        (self.occurred_at, self.position).cmp(&(other.occurred_at, other.position))
    }
}

/// What runs in a lane, or stands in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRelease<Slot = SlotName, Running = Release, By = Since> {
    /// The slot, where the lane has slots.
    pub slot: Option<Slot>,
    /// The release.
    pub release: Running,
    /// The event that made it so.
    pub since: By,
}

impl LiveRelease<&SlotName, &Release, &Since> {
    /// The same, owned.
    #[must_use]
    pub fn to_owned(self) -> LiveRelease {
        LiveRelease { slot: self.slot.cloned(), release: self.release.clone(), since: self.since.clone() }
    }
}

/// What runs in an environment at one point, sorted by service and target. Lanes that run nothing
/// are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Composition {
    lanes: BTreeMap<(ServiceName, TargetName), LiveRelease>,
}

impl FromIterator<((ServiceName, TargetName), LiveRelease)> for Composition {
    fn from_iter<I: IntoIterator<Item = ((ServiceName, TargetName), LiveRelease)>>(lanes: I) -> Self {
        Self { lanes: lanes.into_iter().collect() }
    }
}

/// How one lane differs between two compositions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDifference<'a> {
    /// The lane's service.
    pub service: &'a ServiceName,
    /// The lane's target.
    pub target: &'a TargetName,
    /// What differs.
    pub difference: Difference<'a>,
}

/// What differs in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference<'a> {
    /// The lane runs something only in the second composition.
    Added(&'a LiveRelease),
    /// The lane runs something only in the first composition.
    Removed(&'a LiveRelease),
    /// The lane runs another release.
    Changed {
        /// In the first composition.
        from: &'a LiveRelease,
        /// In the second composition.
        to: &'a LiveRelease,
    },
}

impl Composition {
    /// The lanes, sorted by service and target.
    pub fn lanes(&self) -> impl Iterator<Item = (&ServiceName, &TargetName, &LiveRelease)> {
        self.lanes.iter().map(|((service, target), live)| (service, target, live))
    }

    /// What a lane runs.
    #[must_use]
    pub fn lane(&self, service: &ServiceName, target: &TargetName) -> Option<&LiveRelease> {
        self.lanes.get(&(service.clone(), target.clone()))
    }

    /// Has a lane run something else, or nothing.
    pub fn set(&mut self, service: ServiceName, target: TargetName, live: Option<LiveRelease>) {
        match live {
            Some(live) => self.lanes.insert((service, target), live),
            None => self.lanes.remove(&(service, target)),
        };
    }

    /// SHA-256 of the composition's text: one line a lane, sorted by service and target, of the
    /// seven fields service, target, version, artifact, config, infrastructure and commit, joined by
    /// tabs and ended by a line feed; what is not known is empty. Slots and times are not part of
    /// it: two environments that run the same have the same digest. Written as `sha256:` and 64
    /// hexadecimal digits.
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

    /// Returns what makes it the same composition as another, by which evidence is found again when it returns.
    #[must_use]
    pub fn id(&self) -> CompositionId {
        let mut index = CompositionIndex::default();
        for (service, target, live) in self.lanes() {
            index.set(service, target, Some(&live.release));
        }
        index.id()
    }

    /// Returns true if nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Returns true if the same lanes run the same releases, wherever they stand and since when.
    #[must_use]
    pub fn runs_the_same(&self, other: &Self) -> bool {
        self.diff(other).is_empty()
    }

    /// How `to` differs from this composition, lane by lane, sorted by service and target.
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

/// The identity of a composition: equal for compositions with the same lanes and the same releases, with artifacts
/// compared by identity and not by spelling. Not published: the digest for people is [`Composition::digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompositionId([u8; 32]);

impl CompositionId {
    /// Returns the identity with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Lanes are spread over this many buckets, so that a change costs the hashing of one bucket and of their list.
const BUCKETS: usize = 64;

/// A composition's identity, kept up to date lane by lane: SHA-256 over the digests of 64 buckets; a bucket's digest is
/// SHA-256 over the digests of its lanes, sorted by service and target, and zeros where it is empty.
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
    /// Sets what a lane runs.
    pub fn set(&mut self, service: &ServiceName, target: &TargetName, release: Option<&Release>) {
        let number = bucket(service, target);
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

    /// Returns the identity of what is set.
    #[must_use]
    pub fn id(&self) -> CompositionId {
        let mut hash = Sha256::new();
        for number in 0..BUCKETS {
            hash.update(self.buckets.get(&number).map_or([0; 32], |bucket| bucket.digest));
        }
        CompositionId(hash.finalize().into())
    }
}

fn bucket(service: &ServiceName, target: &TargetName) -> usize {
    let bytes = service.as_str().bytes().chain([b'\t']).chain(target.as_str().bytes());
    // FNV-1a, 32 bits: spreads names evenly; nothing depends on it being hard to invert.
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % BUCKETS
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
                    since: Since {
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
    fn the_digest_is_of_lines_that_a_shell_can_make() {
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
    fn a_diff_tells_added_removed_and_changed_lanes_in_order() {
        let from = composition(&[("api", "v1"), ("old", "v1"), ("web", "v1")]);
        let to = composition(&[("api", "v2"), ("new", "v1"), ("web", "v1")]);
        let told: Vec<_> = from
            .diff(&to)
            .into_iter()
            .map(|lane| {
                let what = match lane.difference {
                    Difference::Added(_) => "added",
                    Difference::Removed(_) => "removed",
                    Difference::Changed { .. } => "changed",
                };
                (lane.service.as_str().to_owned(), what)
            })
            .collect();
        assert_eq!(told, [("api".into(), "changed"), ("new".into(), "added"), ("old".into(), "removed")]);
    }
}
