//! Marks that people put on release points.

use super::ReleasePointId;
use crate::ShortText;

/// A person's mark on a point as known good or bad. It takes precedence over the status by the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The point.
    pub point: ReleasePointId,
    /// The marked status.
    pub status: MarkedStatus,
    /// A name by which `point:NAME` selects the point: `before-the-move`.
    pub name: Option<ShortText>,
}

/// The statuses that a person can give to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkedStatus {
    /// It may be rolled back to.
    KnownGood,
    /// It must not be rolled back to.
    Bad,
}
