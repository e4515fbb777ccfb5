//! The way from one composition to another, as it stands in a request.

use crate::{Position, Release, ServiceName, SlotName, TargetName};

/// Steps in waves: those of one wave may run side by side, a wave begins when the one before is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The position whose state the plan was made against.
    pub from: Position,
    /// The steps, ordered by wave.
    pub steps: Vec<Step>,
}

/// One lane's part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The wave, counted from 1.
    pub wave: u32,
    /// The lane's service.
    pub service: ServiceName,
    /// The lane's target.
    pub target: TargetName,
    /// What is to be done.
    pub action: Action,
    /// The slot that it is done to, where the lane has slots.
    pub slot: Option<SlotName>,
    /// What the lane runs before.
    pub from: Option<Release>,
    /// What the lane runs after.
    pub to: Option<Release>,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Deploy a release in place of another.
    Redeploy,
    /// Deploy a release where nothing runs.
    Add,
    /// Remove what runs.
    Remove,
    /// Switch traffic to a slot in which the release still stands.
    Switch,
}
