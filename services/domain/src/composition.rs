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
pub struct Live<Slot = SlotName, Running = Release, By = Since> {
    /// The slot, where the lane has slots.
    pub slot: Option<Slot>,
    /// The release.
    pub release: Running,
    /// The event that made it so.
    pub since: By,
}

impl Live<&SlotName, &Release, &Since> {
    /// The same, owned.
    #[must_use]
    pub fn to_owned(self) -> Live {
        Live { slot: self.slot.cloned(), release: self.release.clone(), since: self.since.clone() }
    }
}

/// What runs in an environment at one point, sorted by service and target. Lanes that run nothing
/// are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Composition {
    lanes: BTreeMap<(ServiceName, TargetName), Live>,
}

impl FromIterator<((ServiceName, TargetName), Live)> for Composition {
    fn from_iter<I: IntoIterator<Item = ((ServiceName, TargetName), Live)>>(lanes: I) -> Self {
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
    Added(&'a Live),
    /// The lane runs something only in the first composition.
    Removed(&'a Live),
    /// The lane runs another release.
    Changed {
        /// In the first composition.
        from: &'a Live,
        /// In the second composition.
        to: &'a Live,
    },
}

impl Composition {
    /// The lanes, sorted by service and target.
    pub fn lanes(&self) -> impl Iterator<Item = (&ServiceName, &TargetName, &Live)> {
        self.lanes.iter().map(|((service, target), live)| (service, target, live))
    }

    /// What a lane runs.
    #[must_use]
    pub fn lane(&self, service: &ServiceName, target: &TargetName) -> Option<&Live> {
        self.lanes.get(&(service.clone(), target.clone()))
    }

    /// Has a lane run something else, or nothing.
    pub fn set(&mut self, service: ServiceName, target: TargetName, live: Option<Live>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;

    fn composition(lanes: &[(&str, &str)]) -> Composition {
        lanes
            .iter()
            .map(|(service, version)| {
                let live = Live {
                    slot: None,
                    release: Release::of_version(Line::parse(version).expect("a version")),
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
