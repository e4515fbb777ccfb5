//! What was really seen running in an environment.

use std::collections::BTreeSet;

use crate::{EnvironmentName, Release, ServiceName, SlotName, TargetName};

/// What a reporter saw in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The environment.
    pub environment: EnvironmentName,
    /// Whether `lanes` is all there is at the targets that it speaks of: then a lane there that is not listed
    /// runs nothing.
    pub complete: bool,
    /// The targets that `complete` speaks of; if none are named, those of `lanes`; if there are none either, all.
    pub targets: BTreeSet<TargetName>,
    /// What was seen.
    pub lanes: Vec<Observed>,
}

/// What was seen in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The lane's service.
    pub service: ServiceName,
    /// The lane's target.
    pub target: TargetName,
    /// The live slot, where the lane has slots.
    pub slot: Option<SlotName>,
    /// What runs there; `None`: nothing.
    pub release: Option<Release>,
}
