//! Keys of the subjects of checks.

use ledger_domain::{EnvironmentName, LaneRef, ServiceName, TargetName};
use uuid::Uuid;

use crate::key::key;

/// Lane as the subject of a check; without a target, it is the service at all its targets.
#[derive(Clone, Copy)]
pub(super) struct LaneSubject<'a> {
    environment: &'a EnvironmentName,
    service: &'a ServiceName,
    target: Option<&'a TargetName>,
}

impl<'a> LaneSubject<'a> {
    pub(super) fn of(lane: &'a LaneRef) -> Self {
        Self { environment: &lane.environment, service: &lane.service, target: lane.target.as_ref() }
    }

    /// Returns both ways in which a check can name a lane: with its target, and without one.
    pub(super) fn with_and_without_target(
        environment: &'a EnvironmentName,
        service: &'a ServiceName,
        target: &'a TargetName,
    ) -> [Self; 2] {
        [Some(target), None].map(|target| Self { environment, service, target })
    }

    fn key(&self, word: &str, rest: &str) -> Uuid {
        let (environment, service) = (self.environment.as_str(), self.service.as_str());
        match self.target {
            Some(target) => key(word, &[environment, service, target.as_str(), rest]),
            None => key(word, &[environment, service, rest]),
        }
    }

    pub(super) fn release_key(&self, version: &str) -> Uuid {
        self.key("release", version)
    }

    pub(super) fn deployment_key(&self, deployment: &str) -> Uuid {
        self.key("deployment", deployment)
    }

    pub(super) fn lane_key(&self) -> Uuid {
        self.key("lane", "")
    }
}

pub(super) fn artifact_subject(artifact_key: &str) -> Uuid {
    key("artifact", &[artifact_key])
}

pub(super) fn environment_subject(environment: &EnvironmentName) -> Uuid {
    key("environment", &[environment.as_str()])
}
