//! What changes a lane.

use crate::{LaneRef, Release, ShortText, SlotName};

/// A deploy of a release to a lane, or to one of its slots. Without a slot the lane itself runs the
/// release, live at once; with one it waits there until traffic is switched to that slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// Where.
    pub lane: LaneRef,
    /// Which slot, if the lane has slots.
    pub slot: Option<SlotName>,
    /// The emitter's name for the run that did it.
    pub deployment: Option<ShortText>,
    /// What.
    pub release: Release,
    /// False for a deploy that cannot be undone by deploying the former release, such as one with a
    /// one-way migration.
    pub reversible: bool,
    /// The rollback that this is a step of.
    pub rollback_id: Option<ShortText>,
    /// How it ended; one that only began tells nothing.
    pub ending: Ending,
}

/// How a deploy ended, as far as its emitter tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ending {
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The status that what deployed ended with: 0 where all was well.
    pub exit_code: Option<u32>,
}

/// Nothing stands in the lane, or in one of its slots, any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Where.
    pub lane: LaneRef,
    /// Which slot, if not the whole lane.
    pub slot: Option<SlotName>,
    /// The emitter's name for the run that did it.
    pub deployment: Option<ShortText>,
    /// The rollback that this is a step of.
    pub rollback_id: Option<ShortText>,
}

/// The blue-green cut-over: a slot of the lane is live from now on, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Where.
    pub lane: LaneRef,
    /// The slot that is live now.
    pub slot: SlotName,
    /// The emitter's name for the run that did it.
    pub deployment: Option<ShortText>,
    /// The rollback that this is a step of.
    pub rollback_id: Option<ShortText>,
}
