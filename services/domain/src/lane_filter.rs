//! Filters for the lanes of an environment.

use std::collections::BTreeSet;

use crate::{ServiceName, TargetName};

/// A filter for the lanes of an environment, by service and target. An empty set matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneFilter {
    /// The services.
    pub services: BTreeSet<ServiceName>,
    /// The targets.
    pub targets: BTreeSet<TargetName>,
}

impl LaneFilter {
    /// Returns true if the filter includes a lane.
    #[must_use]
    pub fn includes(&self, service: &ServiceName, target: &TargetName) -> bool {
        (self.services.is_empty() || self.services.contains(service))
            && (self.targets.is_empty() || self.targets.contains(target))
    }
}
