//! The builds and the revocations of artifacts, from the events applied so far.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::plan_issue::RevokedArtifact;
use crate::revocation::{RevocationEvent, in_force, in_force_for_service};
use crate::version_meaning::{ArtifactStatement, first_build_after, latest_build};
use crate::{Artifact, EventTime, ServiceName, ShortText};

/// The builds of each version, ordered by time.
#[derive(Debug, Default)]
pub(super) struct Builds(HashMap<ShortText, Vec<ArtifactStatement>>);

impl Builds {
    pub(super) fn add(&mut self, version: &ShortText, artifact: &Artifact, at: EventTime) {
        let builds = self.0.entry(version.clone()).or_default();
        let index = builds.partition_point(|other| other.at < at);
        builds.insert(index, ArtifactStatement { at, artifact: artifact.clone() });
    }

    fn all(&self, version: &ShortText) -> &[ArtifactStatement] {
        self.0.get(version).map_or(&[], Vec::as_slice)
    }

    /// Returns the artifacts that were built for a version.
    pub(super) fn of_version(&self, version: &ShortText) -> impl Iterator<Item = &Artifact> {
        self.all(version).iter().map(|build| &build.artifact)
    }

    /// Returns the artifact of the build that a version of a service means at a time, by builds alone.
    pub(super) fn built_artifact(
        &self,
        service: &ServiceName,
        version: &ShortText,
        at: EventTime,
    ) -> Option<&Artifact> {
        let builds = self.all(version);
        let until = builds.partition_point(|build| build.at <= at);
        latest_build(service, builds[..until].iter()).map(|build| &build.artifact)
    }

    /// Returns the first build after a time that gives a service's version a meaning.
    pub(super) fn first_after(
        &self,
        service: &ServiceName,
        version: &ShortText,
        after: DateTime<Utc>,
    ) -> Option<(EventTime, &Artifact)> {
        first_build_after(service, self.all(version).iter(), after).map(ArtifactStatement::stated)
    }
}

/// The revocations and reinstatements by the keys of their artifacts.
#[derive(Debug, Default)]
pub(super) struct RevocationLog(HashMap<String, Vec<(EventTime, RevocationEvent)>>);

impl RevocationLog {
    pub(super) fn add(&mut self, event: &RevocationEvent, at: EventTime) {
        for key in event.artifact().keys() {
            self.0.entry(key).or_default().push((at, event.clone()));
        }
    }

    /// Returns the revocations in force for artifacts that are named like a service.
    pub(super) fn of_service(&self, service: &ServiceName) -> Vec<RevokedArtifact> {
        let artifacts = self.0.values().flatten().map(|(_, event)| event.artifact());
        let named = artifacts.filter(|artifact| artifact.name().as_deref() == Some(service.as_str()));
        let events: Vec<RevocationEvent> = self.events_of(named).cloned().collect();
        in_force_for_service(service, &events)
    }

    /// Returns the revocation in force for an artifact.
    pub(super) fn of(&self, artifact: &Artifact) -> Option<RevokedArtifact> {
        if self.0.is_empty() {
            return None;
        }
        in_force(artifact, self.events_of([artifact]))
    }

    /// Returns the events with a key of one of the artifacts, ordered by time.
    fn events_of<'a>(
        &self,
        artifacts: impl IntoIterator<Item = &'a Artifact>,
    ) -> impl Iterator<Item = &RevocationEvent> {
        let keys: BTreeSet<String> = artifacts.into_iter().flat_map(Artifact::keys).collect();
        let events = keys.iter().filter_map(|key| self.0.get(key)).flatten();
        let by_time: BTreeMap<EventTime, &RevocationEvent> = events.map(|(at, event)| (*at, event)).collect();
        by_time.into_values()
    }
}
