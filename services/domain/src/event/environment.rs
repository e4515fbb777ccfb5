//! Observations: reports of what an environment really runs.

use std::collections::BTreeSet;

use crate::{EnvironmentName, Release, ServiceName, SlotName, TargetName};

/// An observer's report of what an environment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The environment.
    pub environment: EnvironmentName,
    /// True if `lanes` is complete for the targets that the observation covers: a lane there that is not listed runs
    /// nothing.
    pub complete: bool,
    /// The targets that `complete` covers. If empty, the targets of `lanes`; if `lanes` is empty too, all targets.
    pub targets: BTreeSet<TargetName>,
    /// The observed lanes.
    pub lanes: Vec<Observed>,
}

/// The observed state of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The lane's service.
    pub service: ServiceName,
    /// The lane's target.
    pub target: TargetName,
    /// The live slot, if the lane has slots.
    pub slot: Option<SlotName>,
    /// The release that runs in the lane; `None`: nothing.
    pub release: Option<Release>,
}
