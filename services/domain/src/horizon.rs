//! What must be kept so that an environment can be brought back.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Artifact, Composition, Line, ServiceName};

/// What some points need, artifact by artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needed {
    artifacts: BTreeMap<String, Need>,
    without_artifact: BTreeSet<(ServiceName, Line)>,
}

/// What an artifact is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The artifact.
    pub artifact: Artifact,
    /// The services that run it.
    pub services: BTreeSet<ServiceName>,
    /// How many points need it.
    pub points: u64,
}

impl Needed {
    /// Takes a point into account.
    pub fn add(&mut self, composition: &Composition) {
        self.keep(composition);
        let artifacts = composition.lanes().filter_map(|(_, _, live)| live.release.artifact.as_ref());
        // Two targets that run the same are one point.
        let distinct: BTreeSet<&str> = artifacts.map(Artifact::as_str).collect();
        for artifact in distinct {
            if let Some(need) = self.artifacts.get_mut(artifact) {
                need.points += 1;
            }
        }
    }

    /// Takes what runs into account, which is no point.
    pub fn keep(&mut self, composition: &Composition) {
        for (service, _, live) in composition.lanes() {
            let Some(artifact) = &live.release.artifact else {
                self.without_artifact.insert((service.clone(), live.release.version.clone()));
                continue;
            };
            if !self.artifacts.contains_key(artifact.as_str()) {
                let need = Need { artifact: artifact.clone(), services: BTreeSet::new(), points: 0 };
                self.artifacts.insert(artifact.as_str().to_owned(), need);
            }
            if let Some(need) = self.artifacts.get_mut(artifact.as_str())
                && !need.services.contains(service)
            {
                need.services.insert(service.clone());
            }
        }
    }

    /// The artifacts, sorted.
    pub fn artifacts(&self) -> impl Iterator<Item = &Need> {
        self.artifacts.values()
    }

    /// What is needed and cannot be named: versions without an artifact, sorted.
    pub fn without_artifact(&self) -> impl Iterator<Item = (&ServiceName, &Line)> {
        self.without_artifact.iter().map(|(service, version)| (service, version))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{EventId, Live, Position, Release, Since, TargetName};

    fn composition(lanes: &[(&str, &str, &str, Option<&str>)]) -> Composition {
        let live = |version: &str, artifact: Option<&str>| Live {
            slot: None,
            release: Release {
                artifact: artifact.map(|artifact| Artifact::parse(artifact).expect("an artifact")),
                ..Release::of_version(Line::parse(version).expect("a version"))
            },
            since: Since {
                occurred_at: DateTime::UNIX_EPOCH,
                position: Position::new(1),
                event_id: EventId::parse("e").expect("an id"),
            },
        };
        let lane = |(service, target, version, artifact): &(&str, &str, &str, Option<&str>)| {
            let service = ServiceName::parse(service).expect("a service");
            ((service, TargetName::parse(target).expect("a target")), live(version, *artifact))
        };
        lanes.iter().map(lane).collect()
    }

    #[test]
    fn an_artifact_is_counted_once_a_point_with_all_services_that_run_it() {
        let (one, two) = ("pkg:cargo/one@1.0.0", "pkg:cargo/two@1.0.0");
        let mut needed = Needed::default();
        needed.add(&composition(&[
            ("web", "eu", "v1", Some(two)),
            ("web", "us", "v1", Some(two)),
            ("worker", "eu", "v1", Some(two)),
            ("job", "eu", "v7", None),
        ]));
        needed.add(&composition(&[("web", "eu", "v1", Some(two)), ("web", "us", "v0", Some(one))]));
        let told: Vec<_> = needed
            .artifacts()
            .map(|need| {
                let services: Vec<_> = need.services.iter().map(ServiceName::as_str).collect();
                (need.artifact.as_str(), services.join(" "), need.points)
            })
            .collect();
        assert_eq!(told, [(one, "web".to_owned(), 1), (two, "web worker".to_owned(), 2)]);
        let without: Vec<_> = needed.without_artifact().map(|(s, v)| format!("{s} {v}")).collect();
        assert_eq!(without, ["job v7"]);
    }
}
