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
