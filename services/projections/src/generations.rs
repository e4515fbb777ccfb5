//! Generations of the projections: how they are filled, compared, activated and dropped, and which process applies entries to which.

pub(crate) mod build;
pub(crate) mod copy;
pub(crate) mod digest;
pub(crate) mod indexes;
pub(crate) mod keeper;
pub(crate) mod rebuild;
pub(crate) mod recogniser;
pub(crate) mod registry;
pub(crate) mod verify;
pub(crate) mod watcher;
