//! A plan from one composition to another, as a rollback request contains it.

use crate::{Position, Release, ServiceName, SlotName, TargetName};

/// Steps in waves. The steps of a wave may run in parallel; a wave starts when the one before has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The position of the state that the plan was made against.
    pub from: Position,
    /// The steps, ordered by wave.
    pub steps: Vec<Step>,
}

/// The change of one lane in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The wave, counted from 1.
    pub wave: u32,
    /// The lane's service.
    pub service: ServiceName,
    /// The lane's target.
    pub target: TargetName,
    /// The action on the lane.
    pub action: Action,
    /// The slot that the action applies to, if the lane has slots.
    pub slot: Option<SlotName>,
    /// The release that the lane runs before the step.
    pub from: Option<Release>,
    /// The release that the lane runs after the step.
    pub to: Option<Release>,
}

/// The action of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Deploy a release in place of another.
    Redeploy,
    /// Deploy a release to a lane that runs nothing.
    Add,
    /// Remove the release that runs.
    Remove,
    /// Switch traffic to a slot that still holds the release.
    Switch,
}
