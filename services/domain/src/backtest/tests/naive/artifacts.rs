//! The artifacts that versions mean.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Model;
use crate::event::Payload;
use crate::{Artifact, Effect, EventTime, Lane, LaneRef, Release, ServiceName, ShortText};

impl Model {
    /// Returns the builds of a version, in the order of recording.
    fn builds(&self, version: &ShortText) -> Vec<(EventTime, Artifact)> {
        let mut builds = Vec::new();
        for (moment, event) in &self.entries {
            match &event.payload {
                Payload::ArtifactBuilt(built) if built.version.as_ref() == Some(version) => {
                    builds.push((*moment, built.artifact.clone()));
                }
                _ => {}
            }
        }
        builds
    }

    /// Returns the deploys of a version of a service that state an artifact, with true for those to the environment.
    fn stating_deploys(&self, lane: &LaneRef, version: &ShortText) -> Vec<(EventTime, bool, Artifact)> {
        let mut deploys = Vec::new();
        for change in self.changes.iter().filter(|change| change.lane.service == lane.service) {
            if let Effect::Deployed(release) = &change.entry.effect
                && release.version == *version
                && let Some(artifact) = &release.artifact
            {
                deploys.push((
                    change.entry.since.event_time(),
                    change.lane.environment == lane.environment,
                    artifact.clone(),
                ));
            }
        }
        deploys
    }

    /// Returns the artifact of the build that a version of a service means at a time, by builds alone.
    pub(super) fn built_artifact(
        &self,
        service: &ServiceName,
        version: &ShortText,
        until: EventTime,
    ) -> Option<Artifact> {
        let mut builds = self.builds(version);
        builds.retain(|(moment, _)| *moment <= until);
        let is_named = |artifact: &Artifact| artifact.name().as_deref() == Some(service.as_str());
        let names: BTreeSet<_> = builds.iter().map(|(_, artifact)| artifact.name()).collect();
        if builds.iter().any(|(_, artifact)| is_named(artifact)) {
            builds.retain(|(_, artifact)| is_named(artifact));
        } else if names.len() != 1 {
            return None;
        }
        builds.into_iter().max_by_key(|(moment, _)| *moment).map(|(_, artifact)| artifact)
    }

    /// Returns the artifact that a version means at a moment.
    fn artifact_of_version(&self, lane: &LaneRef, version: &ShortText, until: EventTime) -> Option<Artifact> {
        let mut deploys = self.stating_deploys(lane, version);
        deploys.retain(|(moment, ..)| *moment <= until);
        if deploys.iter().any(|(_, is_here, _)| *is_here) {
            deploys.retain(|(_, is_here, _)| *is_here);
        }
        match deploys.into_iter().max_by_key(|(moment, ..)| *moment) {
            Some((.., artifact)) => Some(artifact),
            None => self.built_artifact(&lane.service, version, until),
        }
    }

    /// Returns the artifact of a deploy: stated, or meant at its time, or the first meant after it.
    pub(super) fn artifact_deployed(
        &self,
        lane: &Lane,
        release: &Release,
        at: DateTime<Utc>,
    ) -> Option<Artifact> {
        if release.artifact.is_some() {
            return release.artifact.clone();
        }
        let (named, version) = (LaneRef::from(lane.clone()), &release.version);
        let at_deploy = self.artifact_of_version(&named, version, EventTime::end_of(at));
        if at_deploy.is_some() {
            return at_deploy;
        }
        let mut builds = self.builds(version);
        builds.retain(|(moment, _)| moment.occurred_at > at);
        let is_named = |artifact: &Artifact| artifact.name().as_deref() == Some(lane.service.as_str());
        if builds.iter().any(|(_, artifact)| is_named(artifact)) {
            builds.retain(|(_, artifact)| is_named(artifact));
        }
        // A build counts only if it gave the version a meaning.
        builds.retain(|(moment, _)| self.built_artifact(&lane.service, version, *moment).is_some());
        for (moment, _, artifact) in self.stating_deploys(&named, version) {
            if moment.occurred_at > at {
                builds.push((moment, artifact));
            }
        }
        builds.into_iter().min_by_key(|(moment, _)| *moment).map(|(_, artifact)| artifact)
    }

    /// Returns the artifact of a release in a lane: that of its last deploy.
    pub(super) fn artifact_in(&self, lane: &Lane, release: &Release) -> Option<Artifact> {
        let same = self.deploys(lane).into_iter().filter(|(_, deployed)| deployed.is_same(release));
        let last = same.map(|(change, _)| change.entry.since.occurred_at).max();
        self.artifact_deployed(lane, release, last.unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    pub(super) fn completed(&self, lane: &LaneRef, release: &Release, until: EventTime) -> Release {
        release.completed(self.artifact_of_version(lane, &release.version, until))
    }
}
