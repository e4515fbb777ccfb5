//! Lanes: the units that run one release at a time.

use std::fmt;

use crate::{EnvironmentName, ServiceName, TargetName};

/// A service at a target of an environment. A lane runs one release at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The part of the environment.
    pub target: TargetName,
}

impl fmt::Display for Lane {
    /// Writes `production/eu-west-1/search-api`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.environment, self.target, self.service)
    }
}

/// A lane as a report names it: with or without a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneRef {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The part of the environment, if the report names one.
    pub target: Option<TargetName>,
}

impl LaneRef {
    /// Returns the lane of the same service at a target.
    #[must_use]
    pub fn at(&self, target: TargetName) -> Lane {
        Lane { environment: self.environment.clone(), service: self.service.clone(), target }
    }

    /// Returns true if the reference covers a lane: the same service in the same environment, at the named target, or
    /// at any target if none is named.
    #[must_use]
    pub fn covers(&self, lane: &Lane) -> bool {
        self.environment == lane.environment
            && self.service == lane.service
            && self.target.as_ref().is_none_or(|target| *target == lane.target)
    }
}

impl From<Lane> for LaneRef {
    fn from(lane: Lane) -> Self {
        Self { environment: lane.environment, service: lane.service, target: Some(lane.target) }
    }
}

impl fmt::Display for LaneRef {
    /// Writes `production/eu-west-1/search-api`; without a target, `production/default/search-api`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = TargetName::default();
        let target = self.target.as_ref().unwrap_or(&default);
        write!(f, "{}/{}/{}", self.environment, target, self.service)
    }
}
