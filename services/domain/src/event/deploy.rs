//! Events that change a lane: deploys, removals and traffic switches.

use crate::{LaneRef, Release, ShortText, SlotName};

/// A deploy of a release to a lane, or to one of its slots. Without a slot, the release is live in the lane at once;
/// with one, it is idle until traffic is switched to that slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// The lane.
    pub lane: LaneRef,
    /// The slot, if the lane has slots.
    pub slot: Option<SlotName>,
    /// The emitter's name for the run that made the change.
    pub deployment: Option<ShortText>,
    /// The release.
    pub release: Release,
    /// False for a deploy that deploying the former release does not undo, such as one with a one-way migration.
    pub reversible: bool,
    /// The rollback that this change is a step of.
    pub rollback_id: Option<ShortText>,
    /// Details of the deploy's end; empty for a deploy that started.
    pub ending: Ending,
}

/// Details of a deploy's end, as far as its emitter reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ending {
    /// Duration in milliseconds.
    pub duration_ms: Option<u64>,
    /// Exit status of the deploying process; 0 means success.
    pub exit_code: Option<u32>,
}

/// A removal: the lane, or one of its slots, is emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The lane.
    pub lane: LaneRef,
    /// The slot; `None`: the whole lane.
    pub slot: Option<SlotName>,
    /// The emitter's name for the run that made the change.
    pub deployment: Option<ShortText>,
    /// The rollback that this change is a step of.
    pub rollback_id: Option<ShortText>,
}

/// A blue-green cut-over: one slot of the lane becomes live, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The lane.
    pub lane: LaneRef,
    /// The slot that becomes live.
    pub slot: SlotName,
    /// The emitter's name for the run that made the change.
    pub deployment: Option<ShortText>,
    /// The rollback that this change is a step of.
    pub rollback_id: Option<ShortText>,
}
