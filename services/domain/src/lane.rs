//! The unit that runs one release at a time.

use std::fmt;

use crate::{EnvironmentName, ServiceName, TargetName};

/// A service at a target of an environment: it runs one release at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The place inside the environment.
    pub target: TargetName,
}

impl fmt::Display for Lane {
    /// `production/eu-west-1/search-api`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.environment, self.target, self.service)
    }
}

/// A lane as a report names it: the target may be left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneRef {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The place inside the environment, if the report names one.
    pub target: Option<TargetName>,
}

impl LaneRef {
    /// Returns the lane of the same service at a target.
    #[must_use]
    pub fn at(&self, target: TargetName) -> Lane {
        Lane { environment: self.environment.clone(), service: self.service.clone(), target }
    }

    /// Returns true if the lane is meant: the same service in the same environment, at the target that is named,
    /// or at any where none is.
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
    /// `production/eu-west-1/search-api`; without a target `production/default/search-api`, as it always was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = TargetName::default();
        let target = self.target.as_ref().unwrap_or(&default);
        write!(f, "{}/{}/{}", self.environment, target, self.service)
    }
}
