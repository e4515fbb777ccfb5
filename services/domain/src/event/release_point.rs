//! A person's word on a release point.

use super::ReleasePointId;
use crate::ShortText;

/// A person calls a point known good, or bad. It outranks the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The point.
    pub point: ReleasePointId,
    /// What it is called.
    pub status: MarkedStatus,
    /// A name to find it by: `before-the-move`.
    pub name: Option<ShortText>,
}

/// What a person may call a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkedStatus {
    /// It may be rolled back to.
    KnownGood,
    /// It must not be rolled back to.
    Bad,
}
