//! Generations of the projections: how they are filled, compared, activated and dropped, and which process applies entries to which.

pub(crate) mod continuity;
pub(crate) mod copy;
pub(crate) mod digest;
pub(crate) mod indexes;
pub(crate) mod rebuild;
pub(crate) mod rebuilder;
pub(crate) mod registry;
pub(crate) mod supervisor;
pub(crate) mod verify;
pub(crate) mod watcher;
