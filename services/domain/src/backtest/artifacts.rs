//! What was built as which version, and which artifacts must not be used, as far as it was fed.

use std::collections::{BTreeMap, HashMap};

use super::history::EventTime;
use crate::plan_issue::RevokedArtifact;
use crate::{Artifact, ServiceName, ShortText};

use chrono::{DateTime, Utc};

/// Artifacts that were built as versions.
#[derive(Debug, Default)]
pub(super) struct Builds(HashMap<ShortText, Vec<(EventTime, Artifact)>>);

impl Builds {
    pub(super) fn add(&mut self, version: &ShortText, artifact: &Artifact, at: EventTime) {
        let builds = self.0.entry(version.clone()).or_default();
        let index = builds.partition_point(|(other, _)| *other < at);
        builds.insert(index, (at, artifact.clone()));
    }

    /// Returns the artifact that a version of a service means by what was built up to a time: the latest, if all have one name; else
    /// the latest of those that are named as the service is.
    pub(super) fn meant(
        &self,
        service: &ServiceName,
        version: &ShortText,
        at: DateTime<Utc>,
    ) -> Option<&Artifact> {
        let builds = self.0.get(version)?;
        let until = builds.partition_point(|(built, _)| built.occurred_at <= at);
        let builds = &builds[..until];
        let name = |(_, artifact): &(EventTime, Artifact)| artifact.name();
        let of_service = |build: &&(EventTime, Artifact)| name(build).as_deref() == Some(service.as_str());
        let last = builds.last()?;
        let named = builds.iter().rev().find(of_service);
        let build = named.or_else(|| builds.iter().all(|build| name(build) == name(last)).then_some(last));
        build.map(|(_, artifact)| artifact)
    }
}

/// A revocation of an artifact, or the withdrawal of one.
#[derive(Debug, Clone)]
struct Revocation {
    artifact: Artifact,
    deleted: bool,
    reinstates: bool,
}

/// Revocations and their withdrawals, by the keys of the artifacts.
#[derive(Debug, Default)]
pub(super) struct RevocationLog(HashMap<String, Vec<(EventTime, Revocation)>>);

impl RevocationLog {
    pub(super) fn revoke(&mut self, artifact: &Artifact, deleted: bool, at: EventTime) {
        self.add(artifact, at, Revocation { artifact: artifact.clone(), deleted, reinstates: false });
    }

    pub(super) fn reinstate(&mut self, artifact: &Artifact, at: EventTime) {
        self.add(artifact, at, Revocation { artifact: artifact.clone(), deleted: false, reinstates: true });
    }

    fn add(&mut self, artifact: &Artifact, at: EventTime, revocation: Revocation) {
        for key in artifact.keys() {
            self.0.entry(key).or_default().push((at, revocation.clone()));
        }
    }

    /// Returns the revocations that hold of artifacts that are named as a service is.
    pub(super) fn named(&self, service: &ServiceName) -> Vec<RevokedArtifact> {
        let mut found: Vec<RevokedArtifact> = Vec::new();
        for (_, revocation) in self.0.values().flatten() {
            let is_named = revocation.artifact.name().as_deref() == Some(service.as_str());
            let holds = if is_named { self.of(&revocation.artifact) } else { None };
            found.extend(holds.filter(|holds| !found.contains(holds)));
        }
        found
    }

    /// Returns the revocation of an artifact that holds: the first since it was last reinstated.
    pub(super) fn of(&self, artifact: &Artifact) -> Option<RevokedArtifact> {
        if self.0.is_empty() {
            return None;
        }
        let keys = artifact.keys();
        let all = keys.iter().filter_map(|key| self.0.get(key)).flatten();
        let by_time: BTreeMap<EventTime, &Revocation> = all.map(|(at, it)| (*at, it)).collect();
        let of_it = by_time.into_iter().filter(|(_, it)| it.artifact.is_same(artifact));
        of_it.fold(None, |holds: Option<RevokedArtifact>, (at, it)| match holds {
            _ if it.reinstates => None,
            Some(first) => Some(RevokedArtifact { deleted: first.deleted || it.deleted, ..first }),
            None => Some(RevokedArtifact {
                artifact: it.artifact.clone(),
                deleted: it.deleted,
                position: at.position,
            }),
        })
    }
}
