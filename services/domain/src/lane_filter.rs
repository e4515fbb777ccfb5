//! Which lanes of an environment something is about.

use std::collections::BTreeSet;

use crate::{ServiceName, TargetName};

/// Some lanes of an environment: those of these services at these targets. None named means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneFilter {
    /// The services.
    pub services: BTreeSet<ServiceName>,
    /// The targets.
    pub targets: BTreeSet<TargetName>,
}

impl LaneFilter {
    /// Whether a lane is in it.
    #[must_use]
    pub fn has(&self, service: &ServiceName, target: &TargetName) -> bool {
        (self.services.is_empty() || self.services.contains(service))
            && (self.targets.is_empty() || self.targets.contains(target))
    }
}
