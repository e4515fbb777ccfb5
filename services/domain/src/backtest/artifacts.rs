//! The builds and the revocations of artifacts, from the events applied so far.

use std::collections::{BTreeMap, HashMap};

use super::history::EventTime;
use crate::plan_issue::RevokedArtifact;
use crate::{Artifact, ServiceName, ShortText};

use chrono::{DateTime, Utc};

/// The builds of each version, ordered by time.
#[derive(Debug, Default)]
pub(super) struct Builds(HashMap<ShortText, Vec<(EventTime, Artifact)>>);

impl Builds {
    pub(super) fn add(&mut self, version: &ShortText, artifact: &Artifact, at: EventTime) {
        let builds = self.0.entry(version.clone()).or_default();
        let index = builds.partition_point(|(other, _)| *other < at);
        builds.insert(index, (at, artifact.clone()));
    }

    /// Returns the artifact of a service's version by the builds up to a time: the latest artifact that is named like
    /// the service or, if there is none, the latest of all, provided that all have the same name.
    pub(super) fn artifact_of_version(
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

/// A revocation or a reinstatement of an artifact.
#[derive(Debug, Clone)]
struct Revocation {
    artifact: Artifact,
    deleted: bool,
    reinstates: bool,
}

/// The revocations and reinstatements by the keys of their artifacts.
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

    /// Returns the active revocations of artifacts that are named like a service, each with the spelling that has the
    /// name: another spelling of the same artifact may have been revoked first.
    pub(super) fn named(&self, service: &ServiceName) -> Vec<RevokedArtifact> {
        let mut found: Vec<RevokedArtifact> = Vec::new();
        for (_, revocation) in self.0.values().flatten() {
            let is_named = revocation.artifact.name().as_deref() == Some(service.as_str());
            let active = if is_named { self.of(&revocation.artifact) } else { None };
            let active =
                active.map(|active| RevokedArtifact { artifact: revocation.artifact.clone(), ..active });
            let is_new =
                |active: &RevokedArtifact| !found.iter().any(|it| it.artifact.is_same(&active.artifact));
            found.extend(active.filter(is_new));
        }
        found
    }

    /// Returns the active revocation of an artifact: the first since its last reinstatement. It counts as deleted if
    /// any revocation since then does.
    pub(super) fn of(&self, artifact: &Artifact) -> Option<RevokedArtifact> {
        if self.0.is_empty() {
            return None;
        }
        let keys = artifact.keys();
        let all = keys.iter().filter_map(|key| self.0.get(key)).flatten();
        let by_time: BTreeMap<EventTime, &Revocation> = all.map(|(at, it)| (*at, it)).collect();
        let of_it = by_time.into_iter().filter(|(_, it)| it.artifact.is_same(artifact));
        of_it.fold(None, |active: Option<RevokedArtifact>, (at, it)| match active {
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
