//! Questions that need more than one table.

pub(crate) mod evidence;
pub(crate) mod marks;
pub(crate) mod point_at_time;
pub(crate) mod points;
pub(crate) mod snapshot;
