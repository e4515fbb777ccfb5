//! The rollback horizon: the artifacts to retain so that an environment can be rolled back.
//!
//! Artifacts are counted by identity. All spellings of an artifact are kept, since each registry has its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::version_meaning::PossibleArtifacts;
use crate::{Artifact, Composition, Lanes, Release, ServiceName, ShortText};

/// The artifacts to retain, by identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetainedArtifacts {
    artifacts: BTreeMap<String, Need>,
    /// Cache of identities by spelling: parsing each artifact again for every lane of every point takes seconds.
    identities: BTreeMap<Artifact, String>,
    /// Artifacts that releases of versions may have.
    possible: BTreeMap<(ServiceName, ShortText), Arc<PossibleArtifacts>>,
    without_artifact: BTreeSet<(ServiceName, ShortText)>,
}

/// An artifact to retain, with the services and the number of points that need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The artifact, in the spelling that was added first.
    pub artifact: Artifact,
    /// All spellings of the artifact.
    pub names: BTreeSet<Artifact>,
    /// The services that run it.
    pub services: BTreeSet<ServiceName>,
    /// The number of points that need it.
    pub points: u64,
}

impl RetainedArtifacts {
    /// Returns the versions of the releases that state no artifact, sorted, without those whose
    /// [possible artifacts](Self::set_possible_artifacts) are set.
    #[must_use]
    pub fn versions_to_look_up<'r>(
        &self,
        releases: impl IntoIterator<Item = (&'r ServiceName, &'r Release)>,
    ) -> Vec<(ServiceName, ShortText)> {
        let versions: BTreeSet<_> = releases
            .into_iter()
            .filter(|(_, release)| release.artifact.is_none())
            .map(|(service, release)| (service.clone(), release.version.clone()))
            .filter(|version| !self.possible.contains_key(version))
            .collect();
        versions.into_iter().collect()
    }

    /// Sets the artifacts that releases of a version of a service may have. Releases that are added later and state
    /// none retain all of them: a lane may run a build from before the version was built again, and a plan or a deploy
    /// under way may use any of them.
    pub fn set_possible_artifacts(&mut self, version: (ServiceName, ShortText), possible: PossibleArtifacts) {
        self.possible.insert(version, Arc::new(possible));
    }

    /// Adds a point that can still be rolled back to.
    pub fn add(&mut self, composition: &Composition) {
        // Count the point once, even if several lanes run the artifact.
        let mut distinct: BTreeSet<String> = BTreeSet::new();
        for (service, _, live) in composition.lanes() {
            distinct.extend(self.keep_release(service, &live.release));
        }
        for identity in distinct {
            if let Some(need) = self.artifacts.get_mut(&identity) {
                need.points += 1;
            }
        }
    }

    /// Adds the live releases of lanes, and the releases in their idle slots.
    pub fn keep_lanes(&mut self, lanes: &Lanes) {
        for (service, release) in held_releases(lanes) {
            self.keep_release(service, release);
        }
    }

    /// Adds a release, such as that of a deploy under way. Returns the identities of its artifacts: of the one that it
    /// states, else of all that a release of its version may have.
    pub fn keep_release(&mut self, service: &ServiceName, release: &Release) -> Vec<String> {
        if let Some(artifact) = &release.artifact {
            return vec![self.keep(service, artifact)];
        }
        let version = (service.clone(), release.version.clone());
        let possible = self.possible.get(&version).cloned().unwrap_or_default();
        if !possible.is_complete {
            self.without_artifact.insert(version);
        }
        possible.artifacts.iter().map(|artifact| self.keep(service, artifact)).collect()
    }

    /// Adds an artifact of a service. Returns its identity.
    fn keep(&mut self, service: &ServiceName, artifact: &Artifact) -> String {
        let identity = match self.identities.get(artifact) {
            Some(identity) => identity.clone(),
            None => {
                let identity = artifact.identity();
                self.identities.insert(artifact.clone(), identity.clone());
                identity
            }
        };
        let need = self.artifacts.entry(identity.clone()).or_insert_with(|| Need {
            artifact: artifact.clone(),
            names: BTreeSet::new(),
            services: BTreeSet::new(),
            points: 0,
        });
        if !need.names.contains(artifact) {
            need.names.insert(artifact.clone());
        }
        if !need.services.contains(service) {
            need.services.insert(service.clone());
        }
        identity
    }

    /// Returns the artifacts, sorted by identity.
    pub fn artifacts(&self) -> impl Iterator<Item = &Need> {
        self.artifacts.values()
    }

    /// Returns the needed versions of which a lane may run an unknown artifact, sorted by service and version.
    pub fn without_artifact(&self) -> impl Iterator<Item = (&ServiceName, &ShortText)> {
        self.without_artifact.iter().map(|(service, version)| (service, version))
    }
}

/// Returns the live releases of lanes, and the releases in their idle slots, each with its service.
pub fn held_releases(lanes: &Lanes) -> impl Iterator<Item = (&ServiceName, &Release)> {
    lanes.iter().flat_map(|((service, _), fold)| {
        fold.live().into_iter().chain(fold.idle()).map(move |held| (service, held.release))
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{
        Effect, EventId, EventRef, LaneFold, LiveRelease, Position, SlotName, TargetName, Track, TrackEntry,
    };

    fn composition(lanes: &[(&str, &str, &str, Option<&str>)]) -> Composition {
        let live = |version: &str, artifact: Option<&str>| LiveRelease {
            slot: None,
            release: Release {
                artifact: artifact.map(|artifact| Artifact::parse(artifact).expect("an artifact")),
                ..Release::of_version(ShortText::parse(version).expect("a version"))
            },
            since: EventRef {
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
    fn an_artifact_is_counted_once_per_point_with_all_services_that_run_it() {
        let (one, two) = ("pkg:cargo/one@1.0.0", "pkg:cargo/two@1.0.0");
        let mut retained = RetainedArtifacts::default();
        retained.add(&composition(&[
            ("web", "eu", "v1", Some(two)),
            ("web", "us", "v1", Some(two)),
            ("worker", "eu", "v1", Some(two)),
            ("job", "eu", "v7", None),
        ]));
        retained.add(&composition(&[("web", "eu", "v1", Some(two)), ("web", "us", "v0", Some(one))]));
        let counted: Vec<_> = retained
            .artifacts()
            .map(|need| {
                let services: Vec<_> = need.services.iter().map(ServiceName::as_str).collect();
                (need.artifact.as_str(), services.join(" "), need.points)
            })
            .collect();
        assert_eq!(counted, [(one, "web".to_owned(), 1), (two, "web worker".to_owned(), 2)]);
        let without: Vec<_> = retained.without_artifact().map(|(s, v)| format!("{s} {v}")).collect();
        assert_eq!(without, ["job v7"]);
    }

    const H: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn rule_11_an_artifact_is_listed_once_with_all_its_spellings() {
        let (reference, package_url) = (format!("prod.example/web@{H}"), format!("pkg:oci/web@{H}"));
        let mut retained = RetainedArtifacts::default();
        retained.add(&composition(&[
            ("web", "eu", "v1", Some(&reference)),
            ("web", "us", "v1", Some(&package_url)),
        ]));
        retained.add(&composition(&[("web", "eu", "v1", Some(&package_url))]));
        let needs: Vec<_> = retained.artifacts().collect();
        assert_eq!(needs.len(), 1);
        assert_eq!((needs[0].points, needs[0].artifact.as_str()), (2, reference.as_str()));
        let names: Vec<_> = needs[0].names.iter().map(Artifact::as_str).collect();
        assert_eq!(names, [package_url.as_str(), reference.as_str()]);
    }

    #[test]
    fn rule_25_a_release_without_an_artifact_needs_all_possible_artifacts_of_its_version() {
        let (one, rebuilt) = ("pkg:cargo/web@1.0.0", "pkg:cargo/web@1.0.0-2");
        let composition = composition(&[
            ("web", "eu", "v1", None),
            ("web", "us", "v1", Some(one)),
            ("api", "eu", "v1", None),
            ("job", "eu", "v7", None),
        ]);
        let mut retained = RetainedArtifacts::default();
        let releases = || composition.lanes().map(|(service, _, live)| (service, &live.release));
        let versions = retained.versions_to_look_up(releases());
        let names: Vec<_> =
            versions.iter().map(|(service, version)| format!("{service} {version}")).collect();
        assert_eq!(names, ["api v1", "job v7", "web v1"]);
        for version in versions {
            let artifacts = match version.0.as_str() {
                "web" => vec![one, rebuilt],
                "api" => vec![one],
                _ => Vec::new(),
            };
            let is_complete = version.0.as_str() == "web";
            let artifacts =
                artifacts.into_iter().map(|it| Artifact::parse(it).expect("an artifact")).collect();
            retained.set_possible_artifacts(version, PossibleArtifacts { artifacts, is_complete });
        }
        assert!(retained.versions_to_look_up(releases()).is_empty());

        retained.add(&composition);

        let counted: Vec<_> =
            retained.artifacts().map(|need| (need.artifact.as_str(), need.points)).collect();
        assert_eq!(counted, [(one, 1), (rebuilt, 1)], "the lane may run the build from before");
        let without: Vec<_> = retained.without_artifact().map(|(s, v)| format!("{s} {v}")).collect();
        assert_eq!(without, ["api v1", "job v7"]);
    }

    #[test]
    fn rule_25_releases_in_idle_slots_and_of_deploys_under_way_are_retained() {
        let release = |version: &str| Release {
            artifact: Some(Artifact::parse(&format!("pkg:generic/web@{version}")).expect("an artifact")),
            ..Release::of_version(ShortText::parse(version).expect("a version"))
        };
        let web = ServiceName::parse("web").expect("a service");
        let slot = |name: &str| SlotName::parse(name).expect("a slot");
        let changes = [
            (Track::Slot(slot("blue")), Effect::Deployed(release("v1"))),
            (Track::Slot(slot("green")), Effect::Deployed(release("v2"))),
            (Track::Slot(slot("red")), Effect::Deployed(release("v3"))),
            (Track::Traffic, Effect::SwitchedTo(slot("green"))),
            (Track::Slot(slot("red")), Effect::Removed),
        ];
        let mut fold = LaneFold::default();
        for ((track, effect), at) in changes.into_iter().zip(1..) {
            let since = EventRef {
                occurred_at: DateTime::from_timestamp(at, 0).expect("a time"),
                position: Position::new(at.cast_unsigned()),
                event_id: EventId::parse("e").expect("an id"),
            };
            fold.apply(&track, TrackEntry { effect, since });
        }
        let mut retained = RetainedArtifacts::default();
        retained.keep_lanes(&Lanes::from([((web.clone(), TargetName::default()), fold)]));
        assert_eq!(retained.keep_release(&web, &release("v4")), ["pkg:generic/web@v4"]);
        let kept: Vec<_> = retained.artifacts().map(|need| (need.artifact.as_str(), need.points)).collect();
        assert_eq!(kept, [("pkg:generic/web@v1", 0), ("pkg:generic/web@v2", 0), ("pkg:generic/web@v4", 0)]);
    }
}
